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
    set(&mut module, "parse", parse);
    set(&mut module, "stringify", |value: Dynamic| text(to_json(&value, Limits::NONE)));
    set(&mut module, "pretty", |value: Dynamic| text(to_json_pretty(&value, Limits::NONE)));
    module
}

/// What is called without `json::`.
pub(crate) fn register(module: &mut Module) {
    set(module, "parse_json", parse);
    set(module, "to_json", |map: &mut Map| lend(map, |map| text(to_json(map, Limits::NONE))));
    set(module, "to_json", |value: &mut Dynamic| text(to_json(value, Limits::NONE)));
}

fn parse(text: Dynamic) -> Fallible<Dynamic> {
    with_bytes(&text, |bytes| {
        let text = crate::json::prepare(bytes)
            .map_err(|error| thrown("INVALID_JSON", &format!("not JSON: {error}")))?;
        Ok(from_json(&text, Limits::NONE)?)
    })?
}

fn text(json: Result<String, ValueError>) -> Fallible<ImmutableString> {
    Ok(json?.into())
}
