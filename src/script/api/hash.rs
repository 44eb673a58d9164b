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

#[cfg(test)]
mod tests {
    use crate::script::builtins::testing::check;

    /// FIPS 180-2's own examples for `abc`.
    #[test]
    fn digests_are_those_of_the_standard() {
        check("hash::sha1(\"abc\")", "\"a9993e364706816aba3e25717850c26c9cd0d89d\"");
        check(
            "hash::sha256(\"abc\")",
            "\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"",
        );
        check(
            "hash::sha384(\"abc\")",
            "\"cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7\"",
        );
        check("hash::sha512(\"abc\").len()", "128");
        check("hash::sha256(\"abc\") == hash::sha256(\"abc\".to_blob())", "true");
    }
}
