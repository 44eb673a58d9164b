//! How a delivery came, beside its body, as one JSON object that is stored with it: headers, query, path parameters, how the body is to be read,
//! which secret matched. Headers that carry a secret are masked before they are stored; signatures are kept, so that they can be checked again.

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

use crate::multipart;

/// What stands for a header's value that is a secret.
const MASKED: &str = "[masked]";
/// No form of a person or a provider has as many fields.
const FIELDS_MAX: usize = 10_000;

/// How the body is to be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Content {
    /// JSON text.
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
    /// Text of any kind.
    Text,
    /// `multipart/form-data`, with its boundary; without one where the label names none.
    Multipart(Box<str>),
}

impl Content {
    /// By a content type: a form, with files or without, or a text says so, everything else is taken for JSON.
    pub(crate) fn of(content_type: &str) -> Self {
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        if kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            Self::Form
        } else if kind.len() >= 5 && kind.as_bytes()[..5].eq_ignore_ascii_case(b"text/") {
            Self::Text
        } else if multipart::is_form_data(content_type) {
            Self::Multipart(multipart::boundary(content_type).unwrap_or_default().into())
        } else {
            Self::Json
        }
    }
}

#[derive(Serialize)]
struct Request<'a> {
    headers: Headers<'a>,
    #[serde(serialize_with = "fields")]
    query: &'a str,
    #[serde(serialize_with = "pairs")]
    params: &'a [(Box<str>, Box<str>)],
    content: &'a Content,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
}

/// The object; without headers where they are not given. `secret` is the name of the variable whose value matched.
pub(super) fn describe(
    headers: Option<&HeaderMap>,
    query: &str,
    params: &[(Box<str>, Box<str>)],
    content: &Content,
    secret: Option<&str>,
) -> Box<str> {
    let request = Request { headers: Headers(headers), query, params, content, secret };
    serde_json::to_string(&request).expect("every part is text").into()
}

/// Whether every escape of a form is one, and there are not too many fields.
pub(crate) fn is_form(body: &[u8]) -> bool {
    let whole = |index: usize| {
        body.get(index + 1..index + 3)
            .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    body.iter().filter(|byte| **byte == b'&').count() < FIELDS_MAX
        && body.iter().enumerate().filter(|(_, byte)| **byte == b'%').all(|(index, _)| whole(index))
}

/// Lower-case names; repeats joined by `, ` (RFC 9110, section 5.3).
struct Headers<'a>(Option<&'a HeaderMap>);

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let Some(headers) = self.0 else { return map.end() };
        for name in headers.keys() {
            if [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE].contains(name) {
                map.serialize_entry(name.as_str(), MASKED)?;
                continue;
            }
            let mut values =
                headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
            let first = values.next().unwrap_or_default();
            let joined = values.fold(first, |joined, value| format!("{joined}, {value}").into());
            map.serialize_entry(name.as_str(), &joined)?;
        }
        map.end()
    }
}

fn fields<S: Serializer>(query: &str, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    for (name, value) in form_urlencoded::parse(query.as_bytes()).take(FIELDS_MAX) {
        map.serialize_entry(&name, &value)?;
    }
    map.end()
}

fn pairs<S: Serializer>(pairs: &[(Box<str>, Box<str>)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(name, value)| (name, value)))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn headers_that_carry_a_secret_are_masked_and_signatures_are_kept() {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static("Bearer canary"));
        headers.insert("cookie", HeaderValue::from_static("session=canary"));
        headers.insert("svix-signature", HeaderValue::from_static("v1,abc"));
        headers.append("x-two", HeaderValue::from_static("a"));
        headers.append("x-two", HeaderValue::from_static("b"));
        let params = [("id".into(), "a/b".into())];
        let text = describe(
            Some(&headers),
            "x=1&y=%20",
            &params,
            &Content::Json,
            Some("CLERK_WEBHOOK_SECRET"),
        );
        assert!(!text.contains("canary"), "{text}");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["headers"]["svix-signature"], "v1,abc");
        assert_eq!(value["headers"]["x-two"], "a, b");
        assert_eq!(value["query"], serde_json::json!({ "x": "1", "y": " " }));
        assert_eq!(value["params"]["id"], "a/b");
        assert_eq!(value["content"], "json");
        assert_eq!(value["secret"], "CLERK_WEBHOOK_SECRET");
    }

    #[test]
    fn p19_a_label_decides_only_between_form_text_and_json() {
        let check = |label, expected| assert_eq!(Content::of(label), expected, "{label}");
        check("", Content::Json);
        check("application/json; charset=utf-16", Content::Json);
        check("Application/X-WWW-Form-Urlencoded; charset=utf-8", Content::Form);
        check("text/plain", Content::Text);
        check("text", Content::Json);
        check("multipart/form-data; boundary=b", Content::Multipart("b".into()));
        check("multipart/form-data", Content::Multipart("".into()));
        check("multipart/mixed; boundary=b", Content::Json);
    }
}
