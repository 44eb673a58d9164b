//! What a call of a provider gives to its script: the decoded body, the whole answer, or a map that is thrown.

use rhai::{Array, Dynamic, ImmutableString, Map};

use super::thrown_map;
use crate::script::call::{CallError, Called, CalledBody, Health};
use crate::script::current::Throw;
use crate::script::host_call::HostReply;
use crate::script::value::{self, Limits};

/// The value of a reply to that operation; `whole` for status and headers too.
pub(super) fn of(reply: &HostReply, operation: &str, whole: bool) -> Result<Dynamic, Throw> {
    if let HostReply::Streaming(number) = reply {
        return Ok(super::stream::new(*number, operation));
    }
    let HostReply::Called(called) = reply else { return Ok(Dynamic::UNIT) };
    let Called { status, headers, body, .. } = &**called;
    if !whole {
        return decoded(body);
    }
    let mut map = Map::new();
    map.insert("status".into(), i64::from(*status).into());
    map.insert("headers".into(), joined(headers).into());
    map.insert("body".into(), decoded(body)?);
    Ok(map.into())
}

/// Header lines of one name become one value (RFC 9110, section 5.3).
fn joined(headers: &[(Box<str>, Box<str>)]) -> Map {
    let mut map = Map::new();
    let mut lines: Vec<(&str, String)> = Vec::new();
    for (name, value) in headers {
        match lines.iter_mut().find(|(known, _)| *known == &**name) {
            Some((_, line)) => {
                line.push_str(", ");
                line.push_str(value);
            }
            None => lines.push((name, value.to_string())),
        }
    }
    for (name, line) in lines {
        map.insert(name.into(), line.into());
    }
    map
}

pub(super) fn decoded(body: &CalledBody) -> Result<Dynamic, Throw> {
    Ok(match body {
        CalledBody::Nothing => Dynamic::UNIT,
        CalledBody::Json(json) => value::from_json(&json.0, Limits::NONE)?,
        CalledBody::Text(text) => ImmutableString::from(&**text).into(),
        CalledBody::Bytes(bytes) => {
            crate::script::builtins::ending::reserve(bytes.len())?;
            Dynamic::from_blob(bytes.to_vec())
        }
    })
}

/// A failed call, as a script may catch it.
pub(in crate::script) fn thrown(error: &CallError) -> Throw {
    let mut map = Map::new();
    map.insert("code".into(), error.code.into());
    map.insert("provider".into(), ImmutableString::from(&*error.provider).into());
    map.insert("operation".into(), ImmutableString::from(&*error.operation).into());
    map.insert("status".into(), error.status.map_or(Dynamic::UNIT, |code| i64::from(code).into()));
    map.insert("message".into(), ImmutableString::from(&*error.message).into());
    let seconds = |after: u64| i64::try_from(after).unwrap_or(i64::MAX).into();
    map.insert("retry_after".into(), error.retry_after.map_or(Dynamic::UNIT, seconds));
    let body = error.body.as_ref().map_or(Ok(Dynamic::UNIT), decoded);
    match body {
        Ok(body) => map.insert("body".into(), body),
        Err(error) => return error,
    };
    thrown_map(map)
}

/// Of `is_healthy()`.
pub(super) fn is_healthy(reply: &HostReply) -> Result<bool, Throw> {
    Ok(matches!(reply, HostReply::Health(health) if health.is_healthy))
}

/// Of `health()`.
pub(super) fn health(reply: &HostReply) -> Result<Dynamic, Throw> {
    let HostReply::Health(health) = reply else { return Ok(Dynamic::UNIT) };
    let Health { is_healthy, calls, success_rate, latency_ms, p95_ms, breaker, closed_ms, .. } =
        &**health;
    let number = |number: u64| Dynamic::from(i64::try_from(number).unwrap_or(i64::MAX));
    let mut map = Map::new();
    map.insert("healthy".into(), (*is_healthy).into());
    map.insert("calls".into(), number(*calls));
    map.insert("success_rate".into(), success_rate.map_or(Dynamic::UNIT, Into::into));
    map.insert("latency_ms".into(), latency_ms.map_or(Dynamic::UNIT, number));
    map.insert("p95_ms".into(), p95_ms.map_or(Dynamic::UNIT, number));
    map.insert("breaker".into(), (*breaker).into());
    map.insert("closed_for_ms".into(), number(*closed_ms));
    if let Some((code, at)) = health.last_error {
        map.insert("last_error".into(), code.into());
        map.insert("last_error_at".into(), at.0.into());
    }
    let headroom = health.headroom.iter().map(|left| {
        let mut map = Map::new();
        map.insert("of".into(), ImmutableString::from(&*left.of).into());
        map.insert("remaining".into(), number(left.remaining));
        map.insert("limit".into(), left.limit.map_or(Dynamic::UNIT, number));
        map.insert("resets_in_ms".into(), left.resets_in_ms.map_or(Dynamic::UNIT, number));
        map.insert("exhausted_in_ms".into(), left.exhausted_in_ms.map_or(Dynamic::UNIT, number));
        Dynamic::from(map)
    });
    map.insert("headroom".into(), headroom.collect::<Array>().into());
    Ok(map.into())
}
