//! What an answer comes to: a body by its content type, or an error in the words of the one who made it. What says that it is JSON has to be, and what an
//! operation answers has to be JSON whatever it says.

use bytes::Bytes;
use serde_json::Value;

use super::error::{Trouble, What, of_status};
use super::exchange::Incoming;
use super::retry_after::retry_after;
use crate::clock;
use crate::config::ErrorWhen;
use crate::json::Pointer;
use crate::script::call::{Called, CalledBody};
use crate::store::Json;

/// Bytes of an answer that an error repeats.
const SHOWN_BYTES: usize = 200;
/// Bytes of an error's answer that a script gets.
const ERROR_BODY_BYTES: usize = 64 << 10;
/// Bytes of a provider's own sentence that an error repeats.
const SAID_BYTES: usize = 1 << 10;

/// What an answer has to be.
#[derive(Clone, Debug, Default)]
pub(super) struct Expects {
    /// No status is an error, and status and headers are wanted.
    pub(super) whole: bool,
    /// JSON, whatever it says of itself.
    pub(super) json: bool,
    /// Where an error's sentence for people stands; the first that is there.
    pub(super) messages: Vec<Pointer>,
    /// What tells an error that comes with status 200.
    pub(super) error_when: Option<ErrorWhen>,
}

/// Judges one.
pub(super) fn judge(incoming: &Incoming, expects: &Expects) -> Result<Called, Trouble> {
    if incoming.status >= 400 && !expects.whole {
        return Err(refused(incoming, expects));
    }
    let body = decoded(incoming, expects)?;
    if let (CalledBody::Json(json), Some(error_when)) = (&body, &expects.error_when)
        && !expects.whole
        && let Some(trouble) = told_otherwise(incoming, json, error_when)
    {
        return Err(trouble);
    }
    let headers = incoming.headers.iter().map(|(name, value)| {
        (name.as_str().into(), String::from_utf8_lossy(value.as_bytes()).into())
    });
    Ok(Called { status: incoming.status, headers: headers.collect(), body })
}

/// An error by its status.
fn refused(incoming: &Incoming, expects: &Expects) -> Trouble {
    let status = incoming.status;
    let body = error_body(incoming);
    let said = body.as_ref().and_then(|body| said(body, &expects.messages));
    let header = incoming.headers.get("retry-after").and_then(|value| value.to_str().ok());
    Trouble {
        detail: said.or_else(|| shown(&incoming.body)),
        body,
        retry_after: header.and_then(|text| retry_after(text, clock::now())),
        ..Trouble::new(of_status(status), format!("it answered {status}")).with_status(status)
    }
}

/// An error that comes with a good status.
fn told_otherwise(incoming: &Incoming, json: &Json, when: &ErrorWhen) -> Option<Trouble> {
    let value: Value = serde_json::from_str(&json.0).ok()?;
    if at(&value, &when.pointer) != Some(&when.equals) {
        return None;
    }
    let text = |pointer: &Option<Pointer>| {
        at(&value, pointer.as_ref()?).and_then(Value::as_str).map(|text| cut(text, SAID_BYTES))
    };
    let code = text(&when.code);
    let what = match code.as_deref() {
        Some("ratelimited" | "rate_limited" | "rate_limit_exceeded") => What::RateLimited,
        _ => What::Refused,
    };
    let header = incoming.headers.get("retry-after").and_then(|value| value.to_str().ok());
    Some(Trouble {
        detail: text(&when.message).or(code),
        body: Some(CalledBody::Json(json.clone())),
        retry_after: header.and_then(|text| retry_after(text, clock::now())),
        ..Trouble::new(what, format!("it answered {} and an error", incoming.status))
            .with_status(incoming.status)
    })
}

/// The provider's own sentence.
fn said(body: &CalledBody, messages: &[Pointer]) -> Option<String> {
    let CalledBody::Json(json) = body else { return None };
    let value: Value = serde_json::from_str(&json.0).ok()?;
    let text = messages.iter().find_map(|pointer| at(&value, pointer)?.as_str())?;
    Some(cut(text, SAID_BYTES))
}

fn at<'v>(value: &'v Value, pointer: &Pointer) -> Option<&'v Value> {
    pointer.names().iter().try_fold(value, |value, name| match value {
        Value::Object(fields) => fields.get(&**name),
        Value::Array(items) => items.get(name.parse::<usize>().ok()?),
        _ => None,
    })
}

/// The body by its content type.
fn decoded(incoming: &Incoming, expects: &Expects) -> Result<CalledBody, Trouble> {
    let body = without_mark(&incoming.body);
    if body.is_empty() {
        return Ok(CalledBody::Nothing);
    }
    let kind = incoming.content_type();
    let says_json = kind == "application/json" || kind.ends_with("+json");
    if says_json || expects.json {
        return json(&body).ok_or_else(|| {
            let status = incoming.status;
            let why =
                if says_json { "though it says so" } else { "as this operation's answers are" };
            let message = format!("its answer ({status}) is not JSON, {why}");
            Trouble {
                detail: shown(&body),
                ..Trouble::new(What::Garbled, message).with_status(status)
            }
        });
    }
    if kind.is_empty()
        && let Some(json) = json(&body)
    {
        return Ok(json);
    }
    Ok(text(&body).unwrap_or(CalledBody::Bytes(body)))
}

fn error_body(incoming: &Incoming) -> Option<CalledBody> {
    let body = without_mark(&incoming.body);
    let body = body.slice(..body.len().min(ERROR_BODY_BYTES));
    if body.is_empty() {
        return None;
    }
    json(&body).or_else(|| text(&body)).or(Some(CalledBody::Bytes(body)))
}

fn json(body: &Bytes) -> Option<CalledBody> {
    let text = str::from_utf8(body).ok()?;
    serde_json::from_str::<serde::de::IgnoredAny>(text).ok()?;
    Some(CalledBody::Json(Json(text.into())))
}

fn text(body: &Bytes) -> Option<CalledBody> {
    str::from_utf8(body).ok().map(|text| CalledBody::Text(text.into()))
}

/// Without a byte order mark (RFC 8259, section 8.1, allows to ignore it).
fn without_mark(body: &Bytes) -> Bytes {
    if body.starts_with(b"\xef\xbb\xbf") { body.slice(3..) } else { body.clone() }
}

/// The beginning of a body, for an error.
fn shown(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(&body[..body.len().min(SHOWN_BYTES)]);
    (!body.is_empty()).then(|| text.escape_debug().to_string())
}

fn cut(text: &str, bytes: usize) -> String {
    text[..text.floor_char_boundary(bytes)].to_owned()
}

#[cfg(test)]
mod tests {
    use reqwest::header::{CONTENT_TYPE, HeaderMap};

    use super::*;

    fn incoming(status: u16, kind: &str, body: &[u8]) -> Incoming {
        let mut headers = HeaderMap::new();
        if !kind.is_empty() {
            headers.insert(CONTENT_TYPE, kind.parse().unwrap());
        }
        Incoming { status, headers, body: Bytes::copy_from_slice(body) }
    }

    fn told(status: u16, kind: &str, body: &[u8], expects: &Expects) -> String {
        match judge(&incoming(status, kind, body), expects) {
            Ok(called) => format!("{:?}", called.body),
            Err(trouble) => format!("{} {}", trouble.what.code(), trouble.whole_message()),
        }
    }

    #[test]
    fn v8_v9_a_body_is_what_it_says_or_an_error_that_shows_its_beginning() {
        let plain = Expects::default();
        let operation = Expects { json: true, ..Expects::default() };
        for (kind, body, expected) in [
            ("application/json", &b"{\"a\":1}"[..], "Json(Json(\"{\\\"a\\\":1}\"))"),
            ("application/problem+json; charset=utf-8", b"[]", "Json(Json(\"[]\"))"),
            ("application/json", b"\xef\xbb\xbf{}", "Json(Json(\"{}\"))"),
            ("", b"{}", "Json(Json(\"{}\"))"),
            ("application/json", b"", "Nothing"),
            ("text/html", b"<p>", "Text(\"<p>\")"),
            ("image/png", b"\xff\x00", "Bytes(b\"\\xff\\0\")"),
            (
                "application/json",
                b"{\"a\":",
                "SERVICE_UNAVAILABLE its answer (200) is not JSON, though it says so: {\\\"a\\\":",
            ),
            (
                "application/json",
                b"<html>",
                "SERVICE_UNAVAILABLE its answer (200) is not JSON, though it says so: <html>",
            ),
        ] {
            assert_eq!(told(200, kind, body, &plain), expected, "{kind}");
        }
        assert_eq!(told(200, "text/plain", b"{}", &operation), "Json(Json(\"{}\"))");
        let html = told(200, "text/html", b"<html>", &operation);
        assert!(html.starts_with("SERVICE_UNAVAILABLE"), "{html}");
    }

    #[test]
    fn v11_an_error_with_status_200_is_told_by_config() {
        let pointer = |text: &str| text.parse::<Pointer>().unwrap();
        let when = ErrorWhen {
            pointer: pointer("/ok"),
            equals: false.into(),
            code: Some(pointer("/error")),
            message: None,
        };
        let expects = Expects { error_when: Some(when), ..Expects::default() };
        let check = |body: &str, expected: &str| {
            assert_eq!(told(200, "application/json", body.as_bytes(), &expects), expected);
        };
        check("{\"ok\":true}", "Json(Json(\"{\\\"ok\\\":true}\"))");
        check(
            "{\"ok\":false,\"error\":\"no_channel\"}",
            "INVALID_REQUEST it answered 200 and an error: no_channel",
        );
        check(
            "{\"ok\":false,\"error\":\"ratelimited\"}",
            "RATE_LIMIT_EXCEEDED it answered 200 and an error: ratelimited",
        );
        check("{\"ok\":false}", "INVALID_REQUEST it answered 200 and an error");
    }
}
