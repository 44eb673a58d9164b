//! `print`, `debug`, `to_string` and `to_debug` of all that has parts or may be long: bounded, and never an error, for an error in
//! these is swallowed by Rhai, which then prints without bounds.

use rhai::{Array, Blob, Dynamic, FnPtr, ImmutableString, Map, Module};

use super::{lend, set};
use crate::script::value::{to_debug_text, to_text};

pub(super) fn register(module: &mut Module) {
    for name in ["print", "to_string", "debug", "to_debug"] {
        set(module, name, |array: &mut Array| lend(array, text));
        set(module, name, |map: &mut Map| lend(map, text));
        set(module, name, |blob: &mut Blob| lend(blob, text));
        set(module, name, |function: FnPtr| text(&function.into()));
    }
    for name in ["debug", "to_debug"] {
        set(module, name, |string: ImmutableString| {
            ImmutableString::from(to_debug_text(&string.into()))
        });
    }
}

fn text(value: &Dynamic) -> ImmutableString {
    to_text(value).into()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, check_deep, run};

    #[test]
    fn s8_printing_a_deep_or_long_value_is_cut() {
        let expected = format!("{}[…]{}", "[".repeat(128), "]".repeat(128));
        for call in
            ["v.to_string()", "to_debug(v)", "`${v}`", "\"\" + v", "let s = \"\"; s += v; s"]
        {
            // Results are shown as they stand in an array: in quotes.
            check_deep(100_000, false, call, &format!("{expected:?}"));
        }
        check_deep(100_000, true, "print(v); debug(v); v.to_string().len()", "1028");
        let long = run(
            "let s = \"\\x01\"; s.pad(3000000, '\\x01'); [to_debug([s]).len(), to_debug(s).len(), `${[s]}`.len()]",
        );
        assert_eq!(long, "[1048577, 1048577, 1048577]");
        check("let b = blob(10000000, 255); to_string(b).len() < 1100000", "true");
    }

    #[test]
    fn values_print_as_rhai_prints_them() {
        check(
            "`${[1, \"a\", 'b', 2.0, (), #{ \"a b\": true }]}`",
            "\"[1, \\\"a\\\", 'b', 2.0, (), #{\\\"a b\\\": true}]\"",
        );
        check(
            "let f = |x| x; `${f} ${Fn(\"len\")} ${[f]}`",
            "\"Fn(closure) Fn(len) [Fn(closure)]\"",
        );
        check("to_debug(\"a\\n\")", "\"\\\"a\\\\n\\\"\"");
        check("`${blob(3, 1)}`", "\"[010101]\"");
        check("const A = [1]; `${A} ${A}`", "\"[1] [1]\"");
    }
}
