//! A JSON Web Token taken apart (RFC 7515, section 7.1; RFC 7519): three parts of base64url, a header and claims that are each one JSON object in
//! which no name comes twice. What could be read in two ways is refused. Nothing here is believed yet.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Deserializer as _, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::Invalid;
use crate::json;

/// Bytes of a key's name; those of issuers have 20 to 64.
const KID_BYTES_MAX: usize = 256;

/// The parts of a token.
pub(super) struct Jwt<'a> {
    /// `alg`, as it says.
    pub(super) algorithm: Box<str>,
    /// `kid`, as it says.
    pub(super) kid: Option<Box<str>>,
    /// What was signed.
    pub(super) signed: &'a [u8],
    pub(super) signature: Vec<u8>,
    pub(super) claims: Map<String, Value>,
    /// The same as text, as `json::prepare` gives it.
    pub(super) claims_text: Box<str>,
}

impl<'a> Jwt<'a> {
    pub(super) fn take_apart(token: &'a str) -> Result<Self, Invalid> {
        let three = Invalid::Form("it has not three parts");
        let (signed, signature) = token.rsplit_once('.').ok_or_else(|| three.clone())?;
        let (header, claims) = signed.split_once('.').ok_or_else(|| three.clone())?;
        if claims.contains('.') || [header, claims, signature].contains(&"") {
            return Err(three);
        }
        let (header, _) = object(header)?;
        check_header(&header)?;
        let (claims, claims_text) = object(claims)?;
        let algorithm = header.get("alg").and_then(Value::as_str);
        Ok(Self {
            algorithm: algorithm.ok_or(Invalid::Algorithm)?.into(),
            kid: kid(&header)?,
            signed: signed.as_bytes(),
            signature: decode(signature)?,
            claims,
            claims_text,
        })
    }
}

/// Headers that would change how the token is to be read (RFC 7515, section 4.1.11; RFC 7797; RFC 7516). `jku`, `jwk`, `x5u` and `x5c` offer keys:
/// they are not looked at, like all else.
fn check_header(header: &Map<String, Value>) -> Result<(), Invalid> {
    for name in ["crit", "b64", "zip", "enc"] {
        if header.contains_key(name) {
            return Err(Invalid::Form("its header asks for an extension"));
        }
    }
    Ok(())
}

fn kid(header: &Map<String, Value>) -> Result<Option<Box<str>>, Invalid> {
    match header.get("kid") {
        None => Ok(None),
        Some(Value::String(kid)) if kid.len() <= KID_BYTES_MAX => Ok(Some(kid.as_str().into())),
        Some(_) => Err(Invalid::Form("its `kid` is no name of a key")),
    }
}

/// Without padding, in the alphabet for URLs, and with no bits left over: each value is written in one way only.
fn decode(part: &str) -> Result<Vec<u8>, Invalid> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Invalid::Form("a part of it is not base64url"))
}

fn object(part: &str) -> Result<(Map<String, Value>, Box<str>), Invalid> {
    let not_json = Invalid::Form("a part of it is not a JSON object whose names differ");
    let bytes = decode(part)?;
    if !bytes.starts_with(b"{") {
        return Err(not_json);
    }
    let text: Cow<'_, str> = json::prepare(&bytes).map_err(|_| not_json.clone())?;
    let mut deserializer = serde_json::Deserializer::from_str(&text);
    let object = deserializer
        .deserialize_map(Members)
        .and_then(|object| deserializer.end().map(|()| object))
        .map_err(|_| not_json)?;
    Ok((object, text.into()))
}

/// The members of an object, each name once (RFC 7519, section 4: duplicates are refused or the last counts; two readers may differ). Deep nesting
/// ends serde_json itself.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Map<String, Value>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, value)) = members.next_entry::<String, Value>()? {
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a name comes twice"));
            }
        }
        Ok(object)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(text: &str) -> String {
        URL_SAFE_NO_PAD.encode(text)
    }

    fn token(header: &str, claims: &str) -> String {
        format!("{}.{}.AAAA", encode(header), encode(claims))
    }

    fn is_read(token: &str) -> bool {
        Jwt::take_apart(token).is_ok()
    }

    const HEADER: &str = r#"{"alg":"RS256","kid":"k"}"#;

    #[test]
    fn a1_a_token_that_names_no_algorithm_is_none() {
        for header in [r#"{"kid":"k"}"#, r#"{"alg":null}"#, r#"{"alg":["RS256"]}"#, r#"{"alg":1}"#]
        {
            assert!(!is_read(&token(header, "{}")), "{header}");
        }
    }

    #[test]
    fn a4_a_kid_is_a_short_text_or_absent() {
        let kid = |kid: &str| token(&format!(r#"{{"alg":"RS256","kid":{kid}}}"#), "{}");
        assert!(is_read(&token(r#"{"alg":"RS256"}"#, "{}")));
        for kid in [r#""k""#, r#""../../dev/null""#, r#""' or 1=1 --""#] {
            assert!(is_read(&self::token(&format!(r#"{{"alg":"RS256","kid":{kid}}}"#), "{}")));
        }
        for wrong in ["1", "null", "[]", "{}", "true"] {
            assert!(!is_read(&kid(wrong)), "{wrong}");
        }
        assert!(is_read(&kid(&format!("{:?}", "k".repeat(256)))));
        assert!(!is_read(&kid(&format!("{:?}", "k".repeat(257)))));
    }

    #[test]
    fn a6_a_token_that_asks_for_an_extension_is_refused() {
        for extension in [
            r#""crit":["exp"]"#,
            r#""crit":[]"#,
            r#""b64":false"#,
            r#""zip":"DEF""#,
            r#""enc":"A""#,
        ] {
            let header = format!(r#"{{"alg":"RS256",{extension}}}"#);
            assert!(!is_read(&token(&header, "{}")), "{extension}");
        }
    }

    #[test]
    fn a11_only_three_parts_of_base64url_without_padding_are_a_token() {
        let good = token(HEADER, "{}");
        assert!(is_read(&good));
        let (header, claims) = (encode(HEADER), encode("{}"));
        for wrong in [
            String::new(),
            ".".to_owned(),
            "..".to_owned(),
            format!("{header}.{claims}"),
            format!("{header}.{claims}."),
            format!("{header}..AAAA"),
            format!(".{claims}.AAAA"),
            format!("{good}.AAAA"),
            format!("{good}.AAAA.AAAA"),
            format!("{good}=="),
            format!("{header}.{claims}.AA=="),
            format!("{header}.{claims}.+/+/"),
            format!("{header}.{claims}.AA\n"),
            format!("{header}.{claims}.AAé"),
            // The last bits of `AB` belong to no byte.
            format!("{header}.{claims}.AB"),
        ] {
            assert!(!is_read(&wrong), "{wrong:?}");
        }
        // `{}` is `e30`; the spare bits of `e31` make it another text for the same bytes.
        assert!(is_read(&format!("{header}.e30.AAAA")) && !is_read(&format!("{header}.e31.AAAA")));
    }

    #[test]
    fn a12_a_name_that_comes_twice_is_refused_however_it_is_written() {
        for claims in
            [r#"{"sub":"a","sub":"b"}"#, r#"{"exp":1,"exp":2}"#, r#"{"sub":"a","\u0073ub":"a"}"#]
        {
            assert!(!is_read(&token(HEADER, claims)), "{claims}");
        }
        assert!(!is_read(&token(r#"{"alg":"none","alg":"RS256"}"#, "{}")));
        assert!(is_read(&token(HEADER, r#"{"a":{"sub":1},"sub":"b"}"#)));
    }

    #[test]
    fn a13_claims_are_one_object_and_not_deep() {
        let deep = |levels| format!(r#"{{"a":{}1{}}}"#, "[".repeat(levels), "]".repeat(levels));
        assert!(is_read(&token(HEADER, &deep(100))));
        for wrong in
            ["[]", "1", "\"a\"", "null", "", " {}", "{} {}", "{\"a\":1", "\u{feff}{}", &deep(200)]
        {
            assert!(!is_read(&token(HEADER, wrong)), "{wrong}");
        }
        let not_text =
            format!("{}.{}.AAAA", encode(HEADER), URL_SAFE_NO_PAD.encode(b"{\"a\":\"\xff\"}"));
        assert!(!is_read(&not_text));
    }

    proptest! {
        #[test]
        fn no_text_brings_the_reader_down(text in "[A-Za-z0-9_.=+/{}\" -]{0,80}") {
            _ = Jwt::take_apart(&text);
            _ = Jwt::take_apart(&token(&text, &text));
        }
    }
}
