//! `event`: what a webhook's handler gets. A plain map, read from the stored delivery inside the run, so that a huge payload costs
//! its own run only. `payload`, `headers` and `text` are filled in only where the script's source names them.

use std::sync::Arc;

use bytes::Bytes;
use rhai::{Dynamic, Map};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{form, upload};
use crate::clock::Millis;
use crate::id::EventId;
use crate::json::{self, Pointer};
use crate::memory;
use crate::multipart::Reader;
use crate::payload::Payload;
use crate::script::current::{Throw, fail};
use crate::script::handler::{Parts, Reads};
use crate::script::value::{self, Limits};
use crate::webhook::request::Content;

/// A delivery and its attempt, as plain data.
#[derive(Clone, Debug)]
pub(crate) struct EventInput {
    /// `event.id`.
    pub(crate) id: EventId,
    /// `event.webhook`: its name in config.
    pub(crate) webhook: Arc<str>,
    /// `event.type`; empty where the scheme has none.
    pub(crate) kind: Box<str>,
    /// `event.received_at`.
    pub(crate) received_at: Millis,
    /// JSON of a `Request`.
    pub(crate) request: Box<str>,
    /// As it was received and verified.
    pub(crate) body: Bytes,
    /// What the scheme names as the event's data; `None`: the whole payload.
    pub(crate) data: Option<&'static Pointer>,
    /// From 1.
    pub(crate) attempt: u32,
    /// Whether a failure now makes a dead letter.
    pub(crate) last_attempt: bool,
    /// Whether somebody asked for it again.
    pub(crate) replayed: bool,
    /// For `on_dead`: what happened to the event.
    pub(crate) death: Option<Death>,
}

/// The job that became a dead letter, as `on_dead` hears of it.
#[derive(Clone, Debug)]
pub(crate) struct Death {
    /// Whose handler it was.
    pub(crate) script: Arc<str>,
    /// Attempts used.
    pub(crate) attempts: u32,
    /// Why the last one failed.
    pub(crate) message: Box<str>,
}

impl Death {
    /// `error` of `|event, error|`.
    pub(crate) fn build(&self) -> Dynamic {
        let mut error = Map::new();
        error.insert("message".into(), self.message.as_ref().into());
        error.insert("script".into(), self.script.as_ref().into());
        error.insert("attempts".into(), i64::from(self.attempts).into());
        error.into()
    }
}

/// How an internal event came, in the place of a request: out of this run of this script.
pub(crate) fn origin(subject: &str, script: &str) -> Box<str> {
    #[derive(Serialize)]
    struct Origin<'a> {
        headers: Empty,
        query: Empty,
        params: Empty,
        content: Content,
        from: &'a str,
        script: &'a str,
    }
    #[derive(Serialize)]
    struct Empty {}
    let origin = Origin {
        headers: Empty {},
        query: Empty {},
        params: Empty {},
        content: Content::Json,
        from: subject,
        script,
    };
    serde_json::to_string(&origin).expect("every part is text").into()
}

/// How a delivery came, beside its body. Most scripts do not look at its headers, so they stay text.
#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    headers: &'a RawValue,
    #[serde(borrow)]
    query: &'a RawValue,
    #[serde(borrow)]
    params: &'a RawValue,
    content: Content,
}

/// The map.
pub(crate) fn build(
    input: &EventInput,
    reads: Reads,
    parts: Option<&Parts>,
) -> Result<Dynamic, Throw> {
    let request: Request<'_> = serde_json::from_str(&input.request)
        .map_err(|error| fail(&format!("the stored request cannot be read: {error}")))?;
    let mut event = Map::new();
    let payload = match &request.content {
        Content::Json => payload(&input.body, &wanted(input, reads, parts))?,
        Content::Form => Dynamic::from_map(form::parse(&input.body)?),
        Content::Text => text(&input.body),
        Content::Multipart(boundary) => Dynamic::from_map(uploaded(input, boundary, &mut event)?),
    };
    if matches!(request.content, Content::Form | Content::Multipart(_)) {
        event.insert("form".into(), payload.clone());
    }
    if reads.payload {
        event.insert("payload".into(), payload.clone());
    }
    let data = match input.data {
        Some(pointer) => part(payload, pointer),
        None => payload,
    };
    event.insert("data".into(), data);
    if reads.headers {
        event.insert("headers".into(), part_of_request(request.headers)?);
    }
    if reads.text {
        event.insert("text".into(), text(&input.body));
    }
    event.insert("id".into(), input.id.to_string().into());
    event.insert("type".into(), input.kind.as_ref().into());
    event.insert("params".into(), part_of_request(request.params)?);
    event.insert("query".into(), part_of_request(request.query)?);
    event.insert("webhook".into(), input.webhook.as_ref().into());
    event.insert("received_at".into(), input.received_at.0.into());
    event.insert("attempt".into(), i64::from(input.attempt).into());
    event.insert("last_attempt".into(), input.last_attempt.into());
    event.insert("replayed".into(), input.replayed.into());
    Ok(event.into())
}

/// The fields of a form with files, which become `event.files`: views of the event's own body.
fn uploaded(input: &EventInput, boundary: &str, event: &mut Map) -> Result<Map, Throw> {
    let parts = Reader::read(boundary, &input.body)
        .map_err(|broken| fail(&format!("the payload is not a form: {broken}")))?;
    let body = memory::uncharged(|| Payload::from(input.body.clone()));
    event.insert("files".into(), upload::files(&parts, &body).into());
    let fields = upload::fields(&parts, &body);
    memory::uncharged(|| drop(body));
    fields
}

fn part_of_request(part: &RawValue) -> Result<Dynamic, Throw> {
    if part.get() == "{}" {
        return Ok(Map::new().into());
    }
    Ok(value::from_json(part.get(), Limits::NONE)?)
}

/// What a pointer names; `()` where there is nothing.
fn part(value: Dynamic, pointer: &Pointer) -> Dynamic {
    pointer.names().iter().fold(value, |value, name| {
        value
            .try_cast::<Map>()
            .and_then(|mut map| map.remove(name.as_ref()))
            .unwrap_or(Dynamic::UNIT)
    })
}

/// What of the payload is to be built. A script that names `payload` gets all of it.
fn wanted(input: &EventInput, reads: Reads, parts: Option<&Parts>) -> Parts {
    let Some(parts) = parts.filter(|_| !reads.payload) else { return Parts::default() };
    let Some(data) = parts.get("data") else { return Parts::nothing() };
    Parts::below(input.data.map_or(&[], Pointer::names), data.clone())
}

fn payload(body: &[u8], parts: &Parts) -> Result<Dynamic, Throw> {
    let text =
        json::prepare(body).map_err(|error| fail(&format!("the payload is not JSON: {error}")))?;
    Ok(value::from_json_parts(&text, parts, Limits::NONE)?)
}

fn text(body: &[u8]) -> Dynamic {
    String::from_utf8_lossy(body).into_owned().into()
}
