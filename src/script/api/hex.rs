//! `hex::…`: two digits a byte, lower case; decoding takes both cases.

use std::fmt::Write;

use rhai::{Dynamic, ImmutableString, Module};

use super::{Signature, text_of, with_bytes};
use crate::script::builtins::ending::{Fallible, refused, reserve};
use crate::script::builtins::set;

pub(super) const SIGNATURES: [Signature; 3] = [
    Signature {
        name: "hex::encode",
        parameters: "text or blob",
        returns: "string",
        does: "Encodes in lower case",
    },
    Signature {
        name: "hex::decode",
        parameters: "text",
        returns: "string",
        does: "Decodes to text; throws where the bytes are not UTF-8",
    },
    Signature {
        name: "hex::decode_blob",
        parameters: "text",
        returns: "blob",
        does: "Decodes to bytes",
    },
];

pub(super) fn module() -> Module {
    let mut module = Module::new();
    set(&mut module, "encode", |value: Dynamic| -> Fallible<ImmutableString> {
        with_bytes(&value, |bytes| {
            reserve(bytes.len().saturating_mul(2))?;
            Ok(encode(bytes).into())
        })?
    });
    set(&mut module, "decode", |text: Dynamic| text_of(decode(&text)?));
    set(&mut module, "decode_blob", |text: Dynamic| decode(&text));
    module
}

/// Digits of `bytes`.
pub(super) fn encode(bytes: &[u8]) -> String {
    let mut digits = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Cannot fail: a `String` takes everything.
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

fn decode(text: &Dynamic) -> Fallible<Vec<u8>> {
    with_bytes(text, |digits| {
        reserve(digits.len() / 2)?;
        if digits.len() % 2 == 1 {
            return Err(refused("not hex: an odd number of digits"));
        }
        let pairs = digits.chunks_exact(2).enumerate();
        pairs
            .map(|(index, pair)| match (digit(pair[0]), digit(pair[1])) {
                (Some(high), Some(low)) => Ok(high << 4 | low),
                _ => Err(refused(&format!("not hex: no digits at {}", index * 2))),
            })
            .collect()
    })?
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::script::builtins::testing::{check, run_with};

    #[test]
    fn bytes_become_digits_and_digits_bytes() {
        check(
            "[hex::encode(\"aé\"), hex::encode(blob(2, 255)), hex::decode(\"61C3a9\"), hex::decode_blob(\"00fF\")]",
            r#"["61c3a9", "ffff", "aé", [00ff]]"#,
        );
        check("hex::decode(\"abc\")", "INVALID_ARGUMENT: not hex: an odd number of digits");
        check("hex::decode(\"61é\")", "INVALID_ARGUMENT: not hex: no digits at 2");
        check(
            "hex::decode(\"ff\")",
            "INVALID_ARGUMENT: what was decoded is not UTF-8 text; `decode_blob` gives the bytes",
        );
        assert_eq!(run_with(1000, "hex::encode(blob(900))"), "ended: Memory");
    }
}
