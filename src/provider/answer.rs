//! What an answer comes to: a body by its content type, or an error in the words of the one who made it. What says that it is JSON has to be, and what an
//! operation answers has to be JSON whatever it says.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use super::descriptor::Descriptor;
use super::descriptor::error::Judged;
use super::error::{Trouble, What, of_status};
use super::exchange::Incoming;
use super::retry_after::retry_after;
use crate::clock;
use crate::config::ErrorWhen;
use crate::script::call::{Called, CalledBody};
use crate::store::Json;

/// Bytes of an answer that an error repeats.
const SHOWN_BYTES: usize = 200;
/// Bytes of an error's answer that a script gets.
const ERROR_BODY_BYTES: usize = 64 << 10;
/// Bytes of a provider's own sentence that an error repeats.
const SAID_BYTES: usize = 1 << 10;

/// What an answer has to be.
#[derive(Clone, Debug)]
pub(super) struct Expects {
    /// No status is an error, and status and headers are wanted.
    pub(super) whole: bool,
    /// How its body is read.
    pub(super) body: Form,
    /// Whose errors it may be.
    pub(super) descriptor: Arc<Descriptor>,
    /// Config's own word for errors that come with a good status.
    pub(super) error_when: Option<ErrorWhen>,
}

/// How a body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// By its content type.
    Any,
    /// It is JSON, or plain text where it says so.
    Json,
    /// As it is.
    Bytes,
}

/// Judges one.
pub(super) fn judge(incoming: &Incoming, expects: &Expects) -> Result<Called, Trouble> {
    if incoming.status >= 400 && !expects.whole {
        return Err(refused(incoming, expects));
    }
    let body = decoded(incoming, expects.body)?;
    let errors = &expects.descriptor.errors;
    if let CalledBody::Json(json) = &body
        && !expects.whole
        && errors.looks_into_success(expects.error_when.as_ref())
        && let Some(trouble) = told_otherwise(incoming, json, expects)
    {
        return Err(trouble);
    }
    let headers = incoming.headers.iter().map(|(name, value)| {
        (name.as_str().into(), String::from_utf8_lossy(value.as_bytes()).into())
    });
    Ok(Called { status: incoming.status, headers: headers.collect(), body, page: None })
}

/// An error by its status.
fn refused(incoming: &Incoming, expects: &Expects) -> Trouble {
    let status = incoming.status;
    let body = error_body(incoming);
    let value = body.as_ref().and_then(value_of);
    let judged = expects.descriptor.errors.judge(status, value.as_ref(), None);
    let what = judged.as_ref().map_or_else(|| of_status(status), |judged| judged.what);
    Trouble {
        detail: judged.and_then(said).or_else(|| shown(&incoming.body)),
        body,
        retry_after: wait_of(incoming),
        ..Trouble::new(what, format!("it answered {status}")).with_status(status)
    }
}

/// An error that comes with a good status.
fn told_otherwise(incoming: &Incoming, json: &Json, expects: &Expects) -> Option<Trouble> {
    let value: Value = serde_json::from_str(&json.0).ok()?;
    let errors = &expects.descriptor.errors;
    let judged = errors.judge(incoming.status, Some(&value), expects.error_when.as_ref())?;
    let message = format!("it answered {} and an error", incoming.status);
    let what = judged.what;
    Some(Trouble {
        detail: said(judged),
        body: Some(CalledBody::Json(json.clone())),
        retry_after: wait_of(incoming),
        ..Trouble::new(what, message).with_status(incoming.status)
    })
}

fn value_of(body: &CalledBody) -> Option<Value> {
    let CalledBody::Json(json) = body else { return None };
    serde_json::from_str(&json.0).ok()
}

fn wait_of(incoming: &Incoming) -> Option<Duration> {
    let header = incoming.headers.get("retry-after").and_then(|value| value.to_str().ok());
    header.and_then(|text| retry_after(text, clock::now()))
}

/// The provider's own sentence, else its code.
fn said(judged: Judged) -> Option<String> {
    let text = judged.message.or(judged.theirs)?;
    Some(cut(&text, SAID_BYTES))
}

/// The body by its content type.
fn decoded(incoming: &Incoming, form: Form) -> Result<CalledBody, Trouble> {
    if form == Form::Bytes {
        return Ok(CalledBody::Bytes(incoming.body.clone()));
    }
    let body = without_mark(&incoming.body);
    if body.is_empty() {
        return Ok(CalledBody::Nothing);
    }
    let kind = incoming.content_type();
    let says_json = kind == "application/json" || kind.ends_with("+json");
    if says_json || form == Form::Json {
        let is_text = kind.starts_with("text/") && kind != "text/html";
        let read = json(&body).or_else(|| if is_text { text(&body) } else { None });
        return read.ok_or_else(|| {
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
    use crate::config::ProviderKind;
    use crate::json::Pointer;

    fn expects(body: Form) -> Expects {
        let descriptor = Descriptor::built_in(ProviderKind::Http);
        Expects { whole: false, body, descriptor, error_when: None }
    }

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
        let plain = expects(Form::Any);
        let operation = expects(Form::Json);
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
        assert_eq!(told(200, "text/plain", b"Hello", &operation), "Text(\"Hello\")");
        let bytes = expects(Form::Bytes);
        assert_eq!(told(200, "application/json", b"{}", &bytes), "Bytes(b\"{}\")");
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
        let expects = Expects { error_when: Some(when), ..expects(Form::Any) };
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
