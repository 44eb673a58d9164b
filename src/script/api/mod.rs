//! What scripts see by name. Here are the pure modules, named with `::`; each is a file of functions with the rows that describe
//! them, from which `docs` and `check` print.

mod base64;
mod hash;
mod hex;
mod hmac;
mod html;
pub(crate) mod json;
mod time;
mod url;

use rhai::{Blob, Dynamic, ImmutableString, Module, Shared};

use super::builtins::ending::{Fallible, refused};
use super::value::{Kind, kind};

/// One function as its documentation shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signature {
    /// `module::function`.
    pub(crate) name: &'static str,
    /// The parameters' names, those in brackets may be left out.
    pub(crate) parameters: &'static str,
    pub(crate) returns: &'static str,
    /// One sentence, without a full stop.
    pub(crate) does: &'static str,
}

/// Every function of the pure modules, in the order in which a reader looks for them.
pub(crate) fn signatures() -> impl Iterator<Item = &'static Signature> {
    let tables: [&'static [Signature]; 8] = [
        &json::SIGNATURES,
        &base64::SIGNATURES,
        &hex::SIGNATURES,
        &url::SIGNATURES,
        &hash::SIGNATURES,
        &hmac::SIGNATURES,
        &html::SIGNATURES,
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
        ("html", html::module()),
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
