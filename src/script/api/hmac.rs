//! `hmac::…` (RFC 2104): signatures as lower-case hex, and a comparison that takes the same time wherever two values differ.

use rhai::{Dynamic, ImmutableString, Module};
use ring::hmac::{
    Algorithm, HMAC_SHA1_FOR_LEGACY_USE_ONLY, HMAC_SHA256, HMAC_SHA384, HMAC_SHA512, Key, sign,
    verify,
};

use super::{Signature, hex, with_bytes};
use crate::script::builtins::ending::Fallible;
use crate::script::builtins::set;

pub(super) const SIGNATURES: [Signature; 5] = [
    row("hmac::sha256", "HMAC with SHA-256"),
    row("hmac::sha384", "HMAC with SHA-384"),
    row("hmac::sha512", "HMAC with SHA-512"),
    row("hmac::sha1", "HMAC with SHA-1, for providers that still ask for it"),
    Signature {
        name: "hmac::equal",
        parameters: "a, b",
        returns: "bool",
        does: "Compares two signatures in a time that tells nothing of where they differ",
    },
];

const fn row(name: &'static str, does: &'static str) -> Signature {
    Signature { name, parameters: "key, text or blob", returns: "string of hex digits", does }
}

pub(super) fn module() -> Module {
    let mut module = Module::new();
    set(&mut module, "sha256", |key: Dynamic, value: Dynamic| tag(HMAC_SHA256, &key, &value));
    set(&mut module, "sha384", |key: Dynamic, value: Dynamic| tag(HMAC_SHA384, &key, &value));
    set(&mut module, "sha512", |key: Dynamic, value: Dynamic| tag(HMAC_SHA512, &key, &value));
    set(&mut module, "sha1", |key: Dynamic, value: Dynamic| {
        tag(HMAC_SHA1_FOR_LEGACY_USE_ONLY, &key, &value)
    });
    set(&mut module, "equal", |left: Dynamic, right: Dynamic| equal(&left, &right));
    module
}

fn tag(algorithm: Algorithm, key: &Dynamic, value: &Dynamic) -> Fallible<ImmutableString> {
    let key = with_bytes(key, |key| Key::new(algorithm, key))?;
    with_bytes(value, |bytes| hex::encode(sign(&key, bytes).as_ref()).into())
}

/// Compares tags of both values: equal values have equal tags, and nobody can steer where unequal tags differ.
fn equal(left: &Dynamic, right: &Dynamic) -> Fallible<bool> {
    let key = Key::new(HMAC_SHA256, b"compare");
    let tag = with_bytes(right, |right| sign(&key, right))?;
    with_bytes(left, |left| verify(&key, left, tag.as_ref()).is_ok())
}

#[cfg(test)]
mod tests {
    use crate::script::builtins::testing::check;

    /// RFC 4231, test case 2, and RFC 2202, test case 2.
    #[test]
    fn tags_are_those_of_the_rfcs() {
        let call = |name: &str| format!("hmac::{name}(\"Jefe\", \"what do ya want for nothing?\")");
        check(
            &call("sha256"),
            "\"5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843\"",
        );
        check(&call("sha1"), "\"effcdf6ae5eb2fa2d27416d5f184df9c259a7c79\"");
        check(&format!("{}.sub_string(0, 16)", call("sha384")), "\"af45d2e376484031\"");
        check(&format!("{}.sub_string(0, 16)", call("sha512")), "\"164b7a7bfcf819e2\"");
    }

    #[test]
    fn signatures_are_equal_or_not() {
        check(
            "[hmac::equal(\"ab\", \"ab\"), hmac::equal(\"ab\", \"aB\"), hmac::equal(\"ab\", \"abc\"), hmac::equal(\"\", \"\"), hmac::equal(\"ab\", \"ab\".to_blob())]",
            "[true, false, false, true, true]",
        );
        check(
            "hmac::equal(\"ab\", ())",
            "INVALID_ARGUMENT: a string or a blob is needed, not (); is the field missing?",
        );
    }
}
