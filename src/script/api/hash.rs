//! `hash::…`: digests of text or bytes, as lower-case hex.

use rhai::{Dynamic, ImmutableString, Module};
use ring::digest::{
    Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512, digest as digest_of,
};

use super::{Signature, hex, with_bytes};
use crate::script::builtins::ending::Fallible;
use crate::script::builtins::set;

pub(super) const SIGNATURES: [Signature; 4] = [
    row("hash::sha256", "SHA-256"),
    row("hash::sha384", "SHA-384"),
    row("hash::sha512", "SHA-512"),
    row("hash::sha1", "SHA-1, for providers that still ask for it"),
];

const fn row(name: &'static str, does: &'static str) -> Signature {
    Signature { name, parameters: "text or blob", returns: "string of hex digits", does }
}

pub(super) fn module() -> Module {
    let mut module = Module::new();
    set(&mut module, "sha256", |value: Dynamic| digest(&SHA256, &value));
    set(&mut module, "sha384", |value: Dynamic| digest(&SHA384, &value));
    set(&mut module, "sha512", |value: Dynamic| digest(&SHA512, &value));
    set(&mut module, "sha1", |value: Dynamic| digest(&SHA1_FOR_LEGACY_USE_ONLY, &value));
    module
}

fn digest(algorithm: &'static Algorithm, value: &Dynamic) -> Fallible<ImmutableString> {
    with_bytes(value, |bytes| hex::encode(digest_of(algorithm, bytes).as_ref()).into())
}
