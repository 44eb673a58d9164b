//! `base64::…` (RFC 4648, sections 4 and 5). Decoding takes text with or without `=` at its end.

use base64::Engine;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use rhai::{Dynamic, ImmutableString, Module};

use super::{Signature, text_of, with_bytes};
use crate::script::builtins::ending::{Fallible, refused, reserve};
use crate::script::builtins::set;

pub(super) const SIGNATURES: [Signature; 6] = [
    Signature {
        name: "base64::encode",
        parameters: "text or blob",
        returns: "string",
        does: "Encodes with `+`, `/` and `=`",
    },
    Signature {
        name: "base64::encode_url",
        parameters: "text or blob",
        returns: "string",
        does: "Encodes with `-` and `_`, without `=`",
    },
    Signature {
        name: "base64::decode",
        parameters: "text",
        returns: "string",
        does: "Decodes to text; throws where the bytes are not UTF-8",
    },
    Signature {
        name: "base64::decode_url",
        parameters: "text",
        returns: "string",
        does: "Decodes the form with `-` and `_` to text",
    },
    Signature {
        name: "base64::decode_blob",
        parameters: "text",
        returns: "blob",
        does: "Decodes to bytes",
    },
    Signature {
        name: "base64::decode_url_blob",
        parameters: "text",
        returns: "blob",
        does: "Decodes the form with `-` and `_` to bytes",
    },
];

pub(super) fn module() -> Module {
    let mut module = Module::new();
    set(&mut module, "encode", |value: Dynamic| encode(&value, &PADDED));
    set(&mut module, "encode_url", |value: Dynamic| encode(&value, &URL));
    set(&mut module, "decode", |text: Dynamic| text_of(decode(&text, &PADDED)?));
    set(&mut module, "decode_url", |text: Dynamic| text_of(decode(&text, &URL)?));
    set(&mut module, "decode_blob", |text: Dynamic| decode(&text, &PADDED));
    set(&mut module, "decode_url_blob", |text: Dynamic| decode(&text, &URL));
    module
}

const PADDED: GeneralPurpose = engine(&STANDARD, true);
const URL: GeneralPurpose = engine(&URL_SAFE, false);

const fn engine(alphabet: &Alphabet, padding: bool) -> GeneralPurpose {
    let config = GeneralPurposeConfig::new()
        .with_encode_padding(padding)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(alphabet, config)
}

fn encode(value: &Dynamic, engine: &GeneralPurpose) -> Fallible<ImmutableString> {
    with_bytes(value, |bytes| {
        reserve(bytes.len().div_ceil(3).saturating_mul(4))?;
        Ok(engine.encode(bytes).into())
    })?
}

fn decode(text: &Dynamic, engine: &GeneralPurpose) -> Fallible<Vec<u8>> {
    with_bytes(text, |bytes| {
        reserve(bytes.len())?;
        engine.decode(bytes).map_err(|error| refused(&format!("not base64: {error}")))
    })?
}

#[cfg(test)]
mod tests {
    use crate::script::builtins::testing::{check, run_with};

    #[test]
    fn both_alphabets_are_written_and_read() {
        check(
            "[base64::encode(\"\"), base64::encode(\"a\"), base64::encode(blob(3, 255)), base64::encode_url(blob(4, 255))]",
            r#"["", "YQ==", "////", "_____w"]"#,
        );
        check(
            "[base64::decode(\"YQ==\"), base64::decode(\"YQ\"), base64::decode_url(\"YT8-\")]",
            r#"["a", "a", "a?>"]"#,
        );
        check(
            "[base64::decode_blob(\"//8=\"), base64::decode_url_blob(\"__8\")]",
            "[[ffff], [ffff]]",
        );
    }

    #[test]
    fn what_cannot_be_decoded_says_why() {
        check(
            "base64::decode(\"a*b=\")",
            "INVALID_ARGUMENT: not base64: Invalid symbol 42, offset 1.",
        );
        check(
            "base64::decode(\"//8=\")",
            "INVALID_ARGUMENT: what was decoded is not UTF-8 text; `decode_blob` gives the bytes",
        );
        check(
            "base64::encode(5)",
            "INVALID_ARGUMENT: a string or a blob is needed, not an integer",
        );
        assert_eq!(run_with(1000, "base64::encode(blob(900))"), "ended: Memory");
    }
}
