//! The forms in which a secret travels: as it is, escaped in JSON, in URLs and forms, in base64 with whatever stands around it, and each line of
//! a private key.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What is shorter is no secret but a word, and would be taken out of everything.
pub(super) const FORM_BYTES_MIN: usize = 6;
/// A line of a private key that is shorter is its end, a few characters of no use.
const LINE_BYTES_MIN: usize = 16;
/// What a URL keeps as it is (RFC 3986, section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// All forms of a value that are long enough, each once.
pub(super) fn forms(value: &str) -> BTreeSet<Vec<u8>> {
    let mut forms = BTreeSet::new();
    for piece in pieces(value) {
        let json = escaped(piece);
        for text in [
            escaped(&json),
            escaped(&json.replace('/', "\\/")),
            json.replace('/', "\\/"),
            json,
            format!("{piece:?}").trim_matches('"').to_owned(),
            utf8_percent_encode(piece, RESERVED).to_string(),
            lower_percent(utf8_percent_encode(piece, RESERVED).to_string()),
            utf8_percent_encode(piece, NON_ALPHANUMERIC).to_string(),
            lower_percent(utf8_percent_encode(piece, NON_ALPHANUMERIC).to_string()),
            form_urlencoded::byte_serialize(piece.as_bytes()).collect(),
            piece.to_owned(),
        ] {
            forms.insert(text.into_bytes());
        }
        forms.extend((0..3).flat_map(|offset| in_base64(piece, offset)));
    }
    forms.retain(|form| form.len() >= FORM_BYTES_MIN);
    forms
}

/// The value, and where it has several lines each that says something.
fn pieces(value: &str) -> Vec<&str> {
    let lines = value.split(['\n', '\r']).flat_map(|line| line.split("\\n"));
    let lines = lines.filter(|line| line.len() >= LINE_BYTES_MIN && !line.starts_with("-----"));
    let whole = (value.len() >= FORM_BYTES_MIN).then_some(value);
    whole.into_iter().chain(lines).collect()
}

/// As it stands in a text of JSON.
fn escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text).to_owned()
}

/// Some write `%2f` for `%2F`.
fn lower_percent(mut text: String) -> String {
    let escapes: Vec<usize> = text.match_indices('%').map(|(at, _)| at).collect();
    for at in escapes {
        if let Some(digits) = text.get_mut(at + 1..at + 3) {
            digits.make_ascii_lowercase();
        }
    }
    text
}

/// What base64 makes of it behind `offset` other bytes (modulo 3), as far as it does not depend on what stands around it: a password in
/// `user:password`, for one.
fn in_base64(text: &str, offset: usize) -> [Vec<u8>; 2] {
    let padded = [&[0; 3][..offset], text.as_bytes()].concat();
    // A character is six bits; those that touch the bytes before are not ours.
    let (first, end) = ((offset * 8).div_ceil(6), padded.len() * 8 / 6);
    [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)]
        .map(|encoded| encoded.get(first..end).unwrap_or_default().as_bytes().to_vec())
}
