//! What scripts see by name: one file a name. What does I/O or belongs to a run stands behind a dot or is a plain function; the pure modules
//! are named with `::`, each with the rows that describe it, from which `docs` and `check` print.

mod attempt;
pub(crate) mod db;
mod emit;
pub(crate) mod event;
pub(crate) mod file;
pub(crate) mod form;
pub(crate) mod log;
mod moment;
mod multipart;
mod named;
mod options;
mod parallel;
pub(crate) mod provider;
pub(crate) mod register;
pub(crate) mod request;
pub(crate) mod respond;
mod upload;
pub(crate) mod vars;

mod base64;
mod csv;
mod hash;
mod hex;
mod hmac;
mod html;
pub(crate) mod json;
mod jwt;
mod time;
mod url;
mod xml;

use std::fmt;

use rhai::{Blob, Dynamic, ImmutableString, Module, Shared};

use super::builtins::ending::{Fallible, refused};
use super::value::{Kind, kind};

/// Names that stand for values with functions behind a dot; `Engine::on_var` answers them.
pub(crate) const OBJECTS: [&str; 3] = ["db", "log", "vars"];

/// Everything that does I/O or belongs to a run, for the one module that all scripts of a worker share.
pub(super) fn register(module: &mut Module) {
    register::register(module);
    request::register(module);
    file::register(module);
    respond::register(module);
    db::register(module);
    emit::register(module);
    attempt::register(module);
    log::register(module);
    moment::register(module);
    parallel::register(module);
    provider::register(module);
    vars::register(module);
}

/// One function as its documentation shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signature {
    /// `module::function`.
    pub(crate) name: &'static str,
    /// The parameters' names, those in brackets may be left out.
    pub(crate) parameters: &'static str,
    /// The type of the result, in a word or two.
    pub(crate) returns: &'static str,
    /// One sentence, without a full stop.
    pub(crate) does: &'static str,
}

impl fmt::Display for Signature {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}({}) -> {}", self.name, self.parameters, self.returns)
    }
}

/// The row of `module::function`, if it is one of the pure functions.
pub(crate) fn signature(path: &str) -> Option<&'static Signature> {
    signatures().find(|signature| signature.name == path)
}

/// Every function of the pure modules, in the order in which a reader looks for them.
pub(crate) fn signatures() -> impl Iterator<Item = &'static Signature> {
    let tables: [&'static [Signature]; 11] = [
        &json::SIGNATURES,
        &base64::SIGNATURES,
        &hex::SIGNATURES,
        &url::SIGNATURES,
        &hash::SIGNATURES,
        &hmac::SIGNATURES,
        &jwt::SIGNATURES,
        &html::SIGNATURES,
        &xml::SIGNATURES,
        &csv::SIGNATURES,
        &time::SIGNATURES,
    ];
    tables.into_iter().flatten()
}

/// The pure modules by name.
pub(super) fn modules() -> Vec<(&'static str, Shared<Module>)> {
    let modules = [
        ("json", json::module()),
        ("base64", base64::module()),
        ("hex", hex::module()),
        ("url", url::module()),
        ("hash", hash::module()),
        ("hmac", hmac::module()),
        ("jwt", jwt::module()),
        ("html", html::module()),
        ("xml", xml::module()),
        ("csv", csv::module()),
        ("time", time::module()),
    ];
    let indexed = |(name, mut module): (_, Module)| {
        module.build_index();
        (name, Shared::new(module))
    };
    modules.into_iter().map(indexed).collect()
}

/// Hands over the bytes of a string or a blob, which most of these functions take alike.
fn with_bytes<R>(value: &Dynamic, work: impl FnOnce(&[u8]) -> R) -> Fallible<R> {
    if let Some(text) = value.read_lock::<ImmutableString>() {
        return Ok(work(text.as_bytes()));
    }
    if let Some(blob) = value.read_lock::<Blob>() {
        return Ok(work(&blob));
    }
    match kind(value) {
        Kind::Unit => Err(refused("a string or a blob is needed, not (); is the field missing?")),
        Kind::Other if value.is::<file::File>() => Err(refused(
            "a string or a blob is needed, not a file; `text()` and `bytes()` of a file give them",
        )),
        other => Err(refused(&format!("a string or a blob is needed, not {}", other.words()))),
    }
}

/// Bytes that must be text.
fn text_of(bytes: Vec<u8>) -> Fallible<ImmutableString> {
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.into()),
        Err(_) => Err(refused("what was decoded is not UTF-8 text; `decode_blob` gives the bytes")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use rhai::{FnPtr, Map};

    use super::*;
    use crate::script::builtins::testing::engine;

    /// `name(parameters)` for each number of parameters that a row allows.
    fn written(signature: &Signature) -> Vec<(String, usize)> {
        let parameters: Vec<_> = signature.parameters.split(", ").collect();
        let needed = parameters.iter().filter(|name| !name.starts_with('[')).count();
        (needed..=parameters.len()).map(|count| (signature.name.to_owned(), count)).collect()
    }

    #[test]
    fn every_function_has_a_row_and_every_row_its_functions() {
        let rows: BTreeSet<_> = signatures().flat_map(written).collect();
        let mut registered = BTreeSet::new();
        for (module_name, module) in modules() {
            for signature in module.gen_fn_signatures_with_mapper(Into::into) {
                let (name, rest) = signature.split_once('(').unwrap();
                let parameters = rest.split(')').next().unwrap();
                let count = parameters.split(',').filter(|part| !part.is_empty()).count();
                registered.insert((format!("{module_name}::{name}"), count));
            }
        }
        assert_eq!(rows, registered);
        assert!(signatures().all(|row| !row.does.ends_with('.')));
    }

    #[test]
    fn the_authors_guide_has_the_table_of_these_rows() {
        let rows: String = signatures()
            .map(|row| {
                format!("| `{}({})` | {} | {} |\n", row.name, row.parameters, row.returns, row.does)
            })
            .collect();
        let guide = include_str!("../../../docs/scripts.md");
        assert!(guide.contains(&rows), "docs/scripts.md lacks this table:\n{rows}");
    }

    #[test]
    fn every_function_can_be_written_in_a_script() {
        let engine = engine();
        for (name, count) in signatures().flat_map(written) {
            let script = format!("{name}({})", vec!["1"; count].join(", "));
            assert!(engine.compile(&script).is_ok(), "{script}");
        }
    }

    fn value() -> impl Strategy<Value = Dynamic> {
        let leaf = prop_oneof![
            Just(Dynamic::UNIT),
            any::<bool>().prop_map(Dynamic::from),
            any::<i64>().prop_map(Dynamic::from),
            (-3_i64..4).prop_map(Dynamic::from),
            any::<f64>().prop_map(Dynamic::from),
            any::<char>().prop_map(Dynamic::from),
            ".{0,12}".prop_map(Dynamic::from),
            "[a-z0-9:/?&=#%+.@ \\[\\]-]{0,24}".prop_map(Dynamic::from),
            prop::collection::vec(any::<u8>(), 0..12).prop_map(Dynamic::from_blob),
            Just(Dynamic::from(FnPtr::new("len").unwrap())),
            (any::<i64>(), any::<i64>()).prop_map(|(start, end)| Dynamic::from(start..end)),
            (-3_i64..9, -3_i64..9).prop_map(|(start, end)| Dynamic::from(start..=end)),
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Dynamic::from_array),
                prop::collection::btree_map(".{0,4}", inner, 0..4).prop_map(|map| {
                    let entries = map.into_iter().map(|(key, value)| (key.into(), value));
                    Dynamic::from_map(entries.collect::<Map>())
                }),
            ]
        })
    }

    /// Names of the built-ins that are ours.
    const BUILT_INS: &str = "get join pad contains index_of find find_map some all for_each map filter zip reduce reduce_rev \
        sort sort_by sort_desc order order_by order_desc dedup drain retain replace split split_rev to_chars as_string append \
        to_upper to_lower make_upper make_lower parse_int parse_float chars sub_string crop pop blob to_array to_string to_debug \
        take abs sign is_zero is_odd max min exit sleep timestamp rand random to_json parse_json";

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_function_of_ours_panics_whatever_it_is_given(
            values in prop::collection::vec(value(), 4),
        ) {
            let engine = engine();
            // A generous bound, so that `blob(huge)` is refused.
            crate::script::builtins::ending::with_room(1 << 20, || {
                let own = BUILT_INS.split_whitespace().map(|name| (name.to_owned(), 3));
                for (name, most) in own.chain(signatures().flat_map(written)) {
                    for count in 1..=most {
                        let names = ["a", "b", "c", "d"][..count].join(", ");
                        let mut scope = rhai::Scope::new();
                        for (name, value) in ["a", "b", "c", "d"].iter().zip(&values) {
                            scope.push_dynamic(*name, value.clone());
                        }
                        let script = format!("{name}({names})");
                        let _ = engine.eval_with_scope::<Dynamic>(&mut scope, &script);
                    }
                }
            });
        }
    }
}
