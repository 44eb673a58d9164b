//! `json::parse`, `json::stringify`, `json::pretty`; and Rhai's own `to_json` and `parse_json`, which are the same functions.
//! JSON from a script is read by the same rules as JSON from outside.

use rhai::{Dynamic, ImmutableString, Map, Module};

use super::{Signature, with_bytes};
use crate::script::builtins::ending::{Fallible, thrown};
use crate::script::builtins::{lend, set};
use crate::script::value::{Limits, ValueError, from_json, to_json, to_json_pretty};

pub(super) const SIGNATURES: [Signature; 3] = [
    Signature {
        name: "json::parse",
        parameters: "text",
        returns: "value",
        does: "Reads JSON; integers past 64 bits become text, `null` becomes `()`",
    },
    Signature {
        name: "json::stringify",
        parameters: "value",
        returns: "string",
        does: "Writes JSON; throws where a value cannot be JSON (functions, NaN), blobs become base64",
    },
    Signature {
        name: "json::pretty",
        parameters: "value",
        returns: "string",
        does: "Writes JSON with line breaks",
    },
];

pub(super) fn module() -> Module {
    let mut module = Module::new();
    set(&mut module, "parse", |text: Dynamic| parse(&text));
    set(&mut module, "stringify", |value: Dynamic| text(to_json(&value, Limits::NONE)));
    set(&mut module, "pretty", |value: Dynamic| text(to_json_pretty(&value, Limits::NONE)));
    module
}

/// What is called without `json::`.
pub(crate) fn register(module: &mut Module) {
    set(module, "parse_json", |text: Dynamic| parse(&text));
    set(module, "to_json", |map: &mut Map| lend(map, |map| text(to_json(map, Limits::NONE))));
    set(module, "to_json", |value: &mut Dynamic| text(to_json(value, Limits::NONE)));
}

fn parse(text: &Dynamic) -> Fallible<Dynamic> {
    with_bytes(text, |bytes| {
        let text = crate::json::prepare(bytes)
            .map_err(|error| thrown("INVALID_JSON", &format!("not JSON: {error}")))?;
        Ok(from_json(&text, Limits::NONE)?)
    })?
}

fn text(json: Result<String, ValueError>) -> Fallible<ImmutableString> {
    Ok(json?.into())
}

#[cfg(test)]
mod tests {
    use crate::script::builtins::testing::{check, check_deep, run_with};

    #[test]
    fn json_is_read_and_written() {
        check("json::parse(`{\"a\": [1, 2.5, null, \"x\"]}`)", "#{\"a\": [1, 2.5, (), \"x\"]}");
        check(
            "json::stringify(#{ b: [1, 2.5, ()], a: \"x\" })",
            r#""{\"a\":\"x\",\"b\":[1,2.5,null]}""#,
        );
        check("json::pretty([1])", r#""[\n  1\n]""#);
        check(
            "[json::stringify(5), [1].to_json(), \"x\".to_json(), ().to_json(), #{ a: 1 }.to_json()]",
            r#"["5", "[1]", "\"x\"", "null", "{\"a\":1}"]"#,
        );
        check("parse_json(\"[1]\") == json::parse(\"[1]\")", "true");
        check("json::parse(\"[1]\".to_blob())", "[1]");
        check("let m = #{ a: 1 }; m.to_json(); m.to_json(); m", "#{\"a\": 1}");
    }

    #[test]
    fn what_is_no_json_can_be_caught() {
        check(
            "json::parse(\"[1,\")",
            "INVALID_JSON: not JSON: EOF while parsing a value at line 1 column 3",
        );
        check("try { json::parse(\"\") } catch (err) { return err.code; }", "\"INVALID_JSON\"");
        check(
            "json::parse(())",
            "INVALID_ARGUMENT: a string or a blob is needed, not (); is the field missing?",
        );
        check("json::stringify(#{ a: [0.0 / 0.0] })", "INVALID_VALUE: `a[0]`: NaN cannot be JSON");
        check("(1..2).to_json()", "INVALID_VALUE: a range cannot be JSON");
    }

    #[test]
    fn s12_a_map_that_holds_a_closure_over_itself_is_no_json() {
        let cycle = "let x = #{}; let f = || x; x.f = f; ";
        let error = "INVALID_VALUE: `f`: a function cannot be JSON";
        check(&format!("{cycle} x.to_json()"), error);
        check(&format!("{cycle} json::stringify(x)"), error);
    }

    #[test]
    fn s13_a_map_that_holds_a_closure_over_itself_ends_everywhere() {
        let cycle = "let x = #{}; let f = || x; x.f = f; ";
        let shown = "#{\"f\": Fn(closure)}";
        check(&format!("{cycle} x"), shown);
        check(&format!("{cycle} `${{x}}`"), &format!("{shown:?}"));
        check(&format!("{cycle} throw x.f"), "thrown: Fn(closure)");
        check(&format!("{cycle} x == x"), "INVALID_VALUE: `f`: a function cannot be compared");
        check(&format!("{cycle} switch x {{ #{{}} => 1, _ => 2 }}"), "2");
        check(&format!("{cycle} [x].contains(5)"), "false");
    }

    #[test]
    fn s20_json_ends_at_the_budget_and_at_its_depth() {
        let room = 32 << 20;
        let nul = "let s = \"\\x00\"; s.pad(8000000, '\\x00'); ";
        for write in ["#{ a: s }.to_json()", "json::stringify([s])", "json::pretty(s)"] {
            assert_eq!(run_with(room, &format!("{nul} {write}")), "ended: Memory");
        }
        let open = "let s = \"\"; s.pad(1000000, '['); parse_json(s)";
        assert_eq!(run_with(room, open), "INVALID_VALUE: nested deeper than 127");
        let ones = "let s = \"[\"; s.pad(4000000, \"1,\"); s += \"1]\"; ";
        assert_eq!(run_with(room, &format!("{ones} json::parse(s).len()")), "2000000");
        let place = format!("{}…", "[0]".repeat(40));
        let error = format!("INVALID_VALUE: `{place}`: nested deeper than 127");
        check_deep(100_000, false, "json::stringify(v)", &error);
    }
}
