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
