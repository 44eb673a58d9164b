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
