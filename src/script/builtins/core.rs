//! The parts of Rhai's own packages that the rest of them cannot be had with: numbers, `!`, `take`. Their packages are left out for
//! what else is in them: `exit`, `sleep` on the thread, `timestamp`, and hundreds of functions for number types that no script has.

use rhai::{Dynamic, EvalAltResult, Module, Position};

use super::ending::Fallible;
use super::{set, set_getter, set_mutating};

pub(super) fn register(module: &mut Module) {
    set_mutating(module, "take", |value: &mut Dynamic| std::mem::take(value));
    set(module, "!", |value: bool| !value);
    integers(module);
    floats(module);
    larger_and_smaller(module);
}

fn integers(module: &mut Module) {
    set(module, "-", negate);
    set(module, "+", |int: i64| int);
    set(module, "abs", |int: i64| if int < 0 { negate(int) } else { Ok(int) });
    set(module, "sign", i64::signum);
    both(module, "is_zero", |int: i64| int == 0);
    both(module, "is_odd", |int: i64| int % 2 != 0);
    both(module, "is_even", |int: i64| int % 2 == 0);
}

fn floats(module: &mut Module) {
    set(module, "-", |float: f64| -float);
    set(module, "+", |float: f64| float);
    set(module, "abs", f64::abs);
    set(module, "sign", sign);
    set(module, "is_zero", |float: f64| float == 0.0);
    set_getter(module, "is_zero", |float: f64| float == 0.0);
}

fn both(module: &mut Module, name: &'static str, test: fn(i64) -> bool) {
    set(module, name, test);
    set_getter(module, name, test);
}

fn larger_and_smaller(module: &mut Module) {
    set(module, "max", i64::max);
    set(module, "min", i64::min);
    set(module, "max", f64::max);
    set(module, "min", f64::min);
    set(module, "max", |left: i64, right: f64| as_float(left).max(right));
    set(module, "min", |left: i64, right: f64| as_float(left).min(right));
    set(module, "max", |left: f64, right: i64| left.max(as_float(right)));
    set(module, "min", |left: f64, right: i64| left.min(as_float(right)));
}

#[expect(clippy::cast_precision_loss, reason = "what mixing them means in Rhai")]
fn as_float(int: i64) -> f64 {
    int as f64
}

fn negate(int: i64) -> Fallible<i64> {
    int.checked_neg().ok_or_else(|| arithmetic(format!("Negation overflow: -{int}")))
}

fn sign(float: f64) -> Fallible<i64> {
    if float.is_nan() {
        Err(arithmetic("Sign of NaN is undefined".to_owned()))
    } else if float == 0.0 {
        Ok(0)
    } else {
        Ok(if float > 0.0 { 1 } else { -1 })
    }
}

fn arithmetic(message: String) -> Box<EvalAltResult> {
    EvalAltResult::ErrorArithmetic(message, Position::NONE).into()
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;

    #[test]
    fn numbers_are_as_in_rhai() {
        check(
            "let x = 5; let y = -2.5; [-x, +x, abs(-x), y.abs(), (-x).sign(), y.sign(), x.is_odd, x.is_even(), 0.is_zero]",
            "[-5, 5, 5, 2.5, -1, -1, true, false, true]",
        );
        check(
            "[max(1, 2), min(1, 2), max(1.5, 1), min(2, 1.5), max(\"a\", \"b\")]",
            "[2, 1, 1.5, 1.5, \"b\"]",
        );
        check("let x = true; !x", "false");
        check("let x = [1]; [take(x), x]", "[[1], ()]");
        check("const X = [1]; X.take()", "Non-pure method 'take' cannot be called on constant");
        check("let s = 0; for i in 0..4 { s += i; } for i in range(10, 0, -5) { s += i; } s", "21");
        check("3 in 1..5 && (1..=5).contains(5)", "true");
    }

    #[test]
    fn s32_arithmetic_that_leaves_its_range_is_an_error() {
        let min = "let min = -9223372036854775807 - 1; ";
        check("9223372036854775807 + 1", "Addition overflow: 9223372036854775807 + 1");
        check(&format!("{min} min / -1"), "Division overflow: -9223372036854775808 / -1");
        check(
            &format!("{min} min % -1"),
            "Modulo division by zero or overflow: -9223372036854775808 % -1",
        );
        check(&format!("{min} -min"), "integer overflow");
        check(&format!("{min} abs(min)"), "Negation overflow: --9223372036854775808");
        check("2 ** 100000", "Exponential overflow: 2 ** 100000");
        check("1 % 0", "Modulo division by zero or overflow: 1 % 0");
        check("1 / 0", "Division by zero: 1 / 0");
        check("for i in range(0, 5, 0) {}", "step value cannot be zero");
        check("[1 << 70, 1 >> -70, 1 << -1]", "[0, 0, 0]");
        check("sign(0.0 / 0.0)", "Sign of NaN is undefined");
    }
}
