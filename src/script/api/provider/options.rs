//! The options map of a call. An unknown option is an error that names those that exist.

use std::time::Duration;

use rhai::{Dynamic, ImmutableString, Map};

use super::json;
use crate::header;
use crate::script::api::multipart;
use crate::script::api::options::unknown;
use crate::script::call::{CallBody, CallOptions};
use crate::script::current::{Throw, fail};
use crate::script::value;
use crate::units;

/// What a header's value has at most: what servers commonly take.
const HEADER_BYTES_MAX: usize = 8 << 10;
/// Headers of one call.
const HEADERS_MAX: usize = 100;
/// What Stripe takes, and more than any other is known to.
const KEY_BYTES_MAX: usize = 255;
/// No single try of a call is longer than a run may be.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);

/// Name and value.
type Header = (Box<str>, Box<str>);

/// Which options there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taking {
    /// Of a verb: the body stands among them.
    Body,
    /// Of an operation: it has parameters instead.
    NoBody,
}

const COMMON: [&str; 6] = ["query", "headers", "timeout", "idempotency_key", "wait", "stream"];
const BODIES: [&str; 4] = ["json", "form", "multipart", "body"];

/// Reads them.
pub(super) fn read(map: &Map, taking: Taking) -> Result<CallOptions, Throw> {
    let mut options = CallOptions::default();
    let mut body: Option<&str> = None;
    for (name, value) in map {
        let known: Vec<&str> = match taking {
            Taking::Body => BODIES.into_iter().chain(COMMON).collect(),
            Taking::NoBody => COMMON.to_vec(),
        };
        if !known.contains(&name.as_str()) {
            return Err(unknown(name, &known));
        }
        if BODIES.contains(&name.as_str())
            && let Some(other) = body.replace(name)
        {
            return Err(fail(&format!(
                "`{other}` and `{name}` do not go together: a call has one body"
            )));
        }
        match name.as_str() {
            "json" => options.body = Some(CallBody::Json(json(value)?)),
            "form" => options.body = Some(CallBody::Form(object(name, value)?)),
            "body" => options.body = Some(plain_body(value)?),
            "multipart" => options.body = Some(CallBody::Multipart(multipart::parts(value)?)),
            "query" => options.query = Some(object(name, value)?),
            "headers" => options.headers = headers(value)?,
            "timeout" => options.timeout = Some(timeout(value)?),
            "idempotency_key" => options.idempotency_key = Some(key(value)?),
            "wait" => options.wait = flag(name, value)?,
            _ => options.stream = flag(name, value)?,
        }
    }
    Ok(options)
}

fn object(name: &str, value: &Dynamic) -> Result<crate::store::Json, Throw> {
    if value.is_map() {
        return json(value);
    }
    Err(fail(&format!("option `{name}`: a map, not {}", value::to_text(value))))
}

fn flag(name: &str, value: &Dynamic) -> Result<bool, Throw> {
    value.as_bool().map_err(|_| fail(&format!("option `{name}`: true or false")))
}

fn plain_body(value: &Dynamic) -> Result<CallBody, Throw> {
    if let Some(text) = value.read_lock::<ImmutableString>() {
        return Ok(CallBody::Text(text.as_str().into()));
    }
    let (payload, content_type) = multipart::body(value)?;
    Ok(CallBody::File(payload, content_type))
}

fn timeout(value: &Dynamic) -> Result<Duration, Throw> {
    let wrong = || fail("option `timeout`: a duration such as \"30s\"");
    let text = value.read_lock::<ImmutableString>().ok_or_else(wrong)?;
    let duration = units::parse_duration(&text)
        .map_err(|error| fail(&format!("option `timeout`: {error}")))?;
    if duration.is_zero() || duration > TIMEOUT_MAX {
        return Err(fail("option `timeout`: a duration from 1ms to 24h"));
    }
    Ok(duration)
}

fn key(value: &Dynamic) -> Result<Box<str>, Throw> {
    let wrong =
        || fail("option `idempotency_key`: a string of 1 to 255 printable ASCII characters");
    let text = value.read_lock::<ImmutableString>().ok_or_else(wrong)?;
    let fits = (1..=KEY_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(text.as_str().into()) } else { Err(wrong()) }
}

fn headers(value: &Dynamic) -> Result<Vec<Header>, Throw> {
    let map = value
        .as_map_ref()
        .map_err(|_| fail("option `headers`: a map such as #{ \"x-trace\": \"1\" }"))?;
    if map.len() > HEADERS_MAX {
        return Err(fail(&format!("option `headers`: {HEADERS_MAX} at most")));
    }
    map.iter().map(|(name, value)| header(name, value)).collect()
}

fn header(name: &str, value: &Dynamic) -> Result<Header, Throw> {
    let name = name.to_ascii_lowercase();
    if !header::is_name(&name) {
        return Err(fail(&format!(
            "option `headers`: `{}` is no header name",
            name.escape_debug()
        )));
    }
    let text = match value.read_lock::<ImmutableString>() {
        Some(text) => text.to_string(),
        None if value.is_int() || value.is_bool() => value.to_string(),
        None => return Err(fail(&format!("option `headers`: `{name}` is a string"))),
    };
    let is_plain = |byte: u8| byte == b'\t' || (0x20..0x7f).contains(&byte);
    if text.len() > HEADER_BYTES_MAX || !text.bytes().all(is_plain) {
        return Err(fail(&format!(
            "option `headers`: the value of `{name}` cannot stand in a header"
        )));
    }
    Ok((name.into(), text.into()))
}
