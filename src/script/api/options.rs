//! The options map of a registration: the same words everywhere they make sense, an unknown one is an error that names those that exist.

use std::sync::Arc;

use rhai::{Dynamic, Map};

use crate::backoff::{Backoff, RETRY};
use crate::header;
use crate::rate::RATES_MAX;
use crate::script::current::{Throw, fail};
use crate::script::handler::Options;
use crate::units::{self, Rate};

/// Of `webhook`.
pub(crate) fn of_webhook(map: &Map) -> Result<Options, Throw> {
    read(map, &["timeout", "retry", "concurrency"])
}

/// Of `on` and `on_dead`.
pub(crate) fn of_event(map: &Map) -> Result<Options, Throw> {
    of_webhook(map)
}

/// Of `every`; its time zone is not among what bounds a run.
pub(crate) fn of_timer(map: &Map) -> Result<(Options, Option<String>), Throw> {
    let mut rest = map.clone();
    let zone = rest.remove("tz").map(|zone| {
        text(&zone)
            .ok_or_else(|| fail("option `tz`: the name of a time zone such as \"Europe/Berlin\""))
    });
    Ok((read(&rest, &["tz", "timeout", "retry"])?, zone.transpose()?))
}

/// Of `get`, `post` and the others.
pub(crate) fn of_route(map: &Map) -> Result<Options, Throw> {
    read(map, &["auth", "rate_limit", "timeout", "max_body", "concurrency", "cors", "idempotency"])
}

fn read(map: &Map, known: &[&str]) -> Result<Options, Throw> {
    let mut options = Options::default();
    for (name, value) in map {
        if !known.contains(&name.as_str()) {
            return Err(unknown(name, known));
        }
        let wrong = |wanted: &str| fail(&format!("option `{name}`: {wanted}, not {}", kind(value)));
        match name.as_str() {
            "auth" => {
                options.auth = Some(
                    text(value)
                        .ok_or_else(|| wrong("the name of an [auth] table, or \"none\""))?
                        .into(),
                )
            }
            "rate_limit" => options.rate_limit = Some(rates(value)?),
            "timeout" => options.timeout = Some(duration(name, value)?),
            "max_body" => {
                let size = text(value).ok_or_else(|| wrong("a size such as \"1MiB\""))?;
                options.max_body = Some(
                    units::parse_size(&size)
                        .map_err(|error| fail(&format!("option `{name}`: {error}")))?,
                );
            }
            "concurrency" => {
                let number = value
                    .as_int()
                    .ok()
                    .and_then(|number| usize::try_from(number).ok())
                    .filter(|number| *number > 0);
                options.concurrency = Some(number.ok_or_else(|| wrong("a number from 1 on"))?);
            }
            "cors" => options.cors = Some(value.as_bool().map_err(|_| wrong("true or false"))?),
            "idempotency" => {
                let header = text(value).map(|header| header.to_ascii_lowercase());
                let header = header.filter(|header| header::is_name(header));
                let wanted = "the name of a header such as \"idempotency-key\"";
                options.idempotency = Some(header.ok_or_else(|| wrong(wanted))?.into());
            }
            _ => options.retry = Some(retry(value)?),
        }
    }
    Ok(options)
}

/// An option that nobody knows, with those that there are.
pub(super) fn unknown(name: &str, known: &[&str]) -> Throw {
    fail(&format!("unknown option `{name}`; here may stand {}", known.join(", ")))
}

fn retry(value: &Dynamic) -> Result<Backoff, Throw> {
    let wrong = || fail("option `retry`: a map such as #{ max: 20, base: \"5s\", cap: \"1h\" }");
    let map = value.as_map_ref().map_err(|_| wrong())?;
    let mut retry = RETRY;
    for (name, value) in map.iter() {
        match name.as_str() {
            "max" => {
                retry.max =
                    value.as_int().ok().and_then(|max| u32::try_from(max).ok()).ok_or_else(wrong)?
            }
            "base" => retry.base = duration("retry.base", value)?,
            "cap" => retry.cap = duration("retry.cap", value)?,
            _ => {
                return Err(fail(&format!(
                    "unknown option `retry.{name}`; here may stand max, base, cap"
                )));
            }
        }
    }
    Ok(retry)
}

/// One rate, or a list of rates that all hold.
fn rates(value: &Dynamic) -> Result<Arc<[Rate]>, Throw> {
    let list = match value.as_array_ref() {
        Ok(list) => list.to_vec(),
        Err(_) => vec![value.clone()],
    };
    if list.is_empty() || list.len() > RATES_MAX {
        return Err(fail(&format!(
            "option `rate_limit`: 1 to {RATES_MAX} rates, not {}",
            list.len()
        )));
    }
    list.iter().map(rate).collect()
}

fn rate(value: &Dynamic) -> Result<Rate, Throw> {
    let wrong =
        || fail(&format!("option `rate_limit`: a rate such as \"20/min\", not {}", kind(value)));
    // A bare number gets the answer that one in quotes gets: in which time?
    let text = match value.as_int() {
        Ok(number) => number.to_string(),
        Err(_) => text(value).ok_or_else(wrong)?,
    };
    units::parse_rate(&text).map_err(|error| fail(&format!("option `rate_limit`: {error}")))
}

fn duration(name: &str, value: &Dynamic) -> Result<std::time::Duration, Throw> {
    let wrong =
        || fail(&format!("option `{name}`: a duration such as \"30s\", not {}", kind(value)));
    units::parse_duration(&text(value).ok_or_else(wrong)?)
        .map_err(|error| fail(&format!("option `{name}`: {error}")))
}

fn text(value: &Dynamic) -> Option<String> {
    value.clone().into_string().ok()
}

fn kind(value: &Dynamic) -> String {
    match value.as_int() {
        Ok(number) => format!("the number {number}"),
        Err(kind) => format!("a value of type {kind}"),
    }
}
