//! `emit` and `cancel`: internal events. They begin with the run's commit and with nothing else, so a run that fails has emitted nothing.

use std::sync::Arc;
use std::time::Duration;

use rhai::{Dynamic, ImmutableString, Map, Module};

use super::options::unknown;
use crate::clock::Millis;
use crate::script::current::{Throw, ask, fail};
use crate::script::host_call::{Emission, HostCall, HostReply, When};
use crate::script::value::{self, Limits};
use crate::store::{Json, Pending};
use crate::units;

/// Bytes of a topic, a key, an id: those of a delivery's id.
const NAME_BYTES_MAX: usize = 256;
/// A payload's JSON, at most: what a webhook takes by default.
const PAYLOAD: Limits = Limits { bytes: 1 << 20 };
/// Nobody means to wait longer.
const DELAY_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

const OPTIONS: [&str; 5] = ["delay", "at", "id", "key", "pending"];

/// The functions.
pub(crate) fn register(module: &mut Module) {
    module.set_native_fn("emit", |topic: ImmutableString, payload: Dynamic| {
        emit(&topic, &payload, &Map::new())
    });
    module.set_native_fn("emit", |topic: ImmutableString, payload: Dynamic, options: Map| {
        emit(&topic, &payload, &options)
    });
    module.set_native_fn("cancel", |topic: ImmutableString, key: Dynamic| cancel(&topic, &key));
}

fn emit(topic: &str, payload: &Dynamic, options: &Map) -> Result<(), Throw> {
    let call = || {
        let payload = Json(value::to_json(payload, PAYLOAD)?.into());
        Ok(HostCall::Emit(emission(self::topic(topic)?, payload, options)?))
    };
    ask("emit", call, |_unit| Ok(()))
}

fn cancel(topic: &str, key: &Dynamic) -> Result<bool, Throw> {
    let call = || Ok(HostCall::Cancel { topic: self::topic(topic)?, key: name("key", key)? });
    ask("cancel", call, |reply| Ok(*reply == HostReply::Bool(true)))
}

/// What is emitted is emitted under one topic, so `*` is none.
fn topic(topic: &str) -> Result<Arc<str>, Throw> {
    let is_one = !topic.is_empty()
        && topic.len() <= NAME_BYTES_MAX
        && !topic.contains(|c: char| c.is_control() || c == '*');
    if is_one {
        Ok(topic.into())
    } else {
        Err(fail("a topic has 1 to 256 bytes, none of them `*` or a control character"))
    }
}

fn emission(topic: Arc<str>, payload: Json, options: &Map) -> Result<Emission, Throw> {
    let (when, id, key, pending) = (When::Now, None, None, Pending::Add);
    let mut emission = Emission { topic, payload, when, id, key, pending };
    for (option, value) in options {
        match option.as_str() {
            "delay" => emission.when = When::After(delay(value)?),
            "at" => emission.when = When::At(at(value)?),
            "id" => emission.id = Some(name("id", value)?),
            "key" => emission.key = Some(name("key", value)?),
            "pending" => emission.pending = pending_of(value)?,
            other => return Err(unknown(other, &OPTIONS)),
        }
    }
    if options.contains_key("delay") && options.contains_key("at") {
        return Err(fail("emit: `delay` and `at` both say when; leave one out"));
    }
    if emission.pending != Pending::Add && emission.key.is_none() {
        return Err(fail("emit: `pending` is about events of the same `key`; name one"));
    }
    Ok(emission)
}

fn delay(value: &Dynamic) -> Result<Duration, Throw> {
    let wanted = "emit: `delay` is a duration such as \"10m\"";
    let text = value.read_lock::<ImmutableString>().ok_or_else(|| fail(wanted))?;
    let delay =
        units::parse_duration(&text).map_err(|error| fail(&format!("emit: `delay`: {error}")))?;
    if delay > DELAY_MAX { Err(fail("emit: `delay` is ten years at most")) } else { Ok(delay) }
}

fn at(value: &Dynamic) -> Result<Millis, Throw> {
    let milliseconds = value.as_int().map_err(|_| {
        fail("emit: `at` is a time in milliseconds, such as `now() + 60_000` or what `time::parse` gives")
    })?;
    Ok(Millis(milliseconds))
}

/// Text, or a number for its digits.
fn name(option: &str, value: &Dynamic) -> Result<Box<str>, Throw> {
    let text = match value.as_int() {
        Ok(number) => number.to_string(),
        Err(_) => value.clone().into_string().unwrap_or_default(),
    };
    if (1..=NAME_BYTES_MAX).contains(&text.len()) {
        Ok(text.into())
    } else {
        Err(fail(&format!("`{option}` is a string of 1 to {NAME_BYTES_MAX} bytes or an integer")))
    }
}

fn pending_of(value: &Dynamic) -> Result<Pending, Throw> {
    match value.read_lock::<ImmutableString>().as_ref().map(|word| word.as_str()) {
        Some("add") => Ok(Pending::Add),
        Some("keep") => Ok(Pending::Keep),
        Some("replace") => Ok(Pending::Replace),
        _ => Err(fail("emit: `pending` is \"add\", \"keep\" or \"replace\"")),
    }
}
