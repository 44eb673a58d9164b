//! A call whose answer is wanted as it comes: an answer that is an error is read whole and judged like any other, every other one is handed on. From then
//! on the call is over and its stream is read piece by piece, by a script or by a client.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt as _};
use reqwest::Client;
use serde_json::Value;

use super::error::{Trouble, What};
use super::exchange::{self, Bounds, Incoming};
use super::places::Place;
use super::prepared::Prepared;
use super::request::Outgoing;
use super::spending::{Meter, Seen};
use super::stream::{self as reading, Broken, Reading};
use crate::script::call::{CallError, CalledBody, StreamPart};
use crate::store::Json;
use crate::{outbound, redact};

/// What a call for a stream came to.
pub(super) enum Answered {
    /// It comes.
    Streaming(Box<Opened>),
    /// It is an error.
    Whole(Incoming),
}

/// An answer whose head has come.
pub(super) struct Opened {
    /// Its body is yet to come.
    pub(super) head: Incoming,
    content_type: Option<Box<str>>,
    reading: Reading,
}

/// Sends, and waits for the head. `ends_in_time`: the whole of the stream has to come within the bounds of the try; else it may go on as long as it
/// sends.
pub(super) async fn open(
    client: &Client,
    outgoing: &Outgoing,
    bounds: Bounds,
    ends_in_time: bool,
) -> Result<Answered, Trouble> {
    let response = exchange::head(client, outgoing, bounds).await?;
    if !response.status().is_success() {
        return exchange::rest(outgoing, response, bounds).await.map(Answered::Whole);
    }
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let content_type = headers.get(reqwest::header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok()).map(Into::into);
    let head = Incoming { status, headers, body: Bytes::new() };
    let pieces = response
        .bytes_stream()
        .map(|piece| piece.map_err(|error| outbound::innermost(&error).to_string()));
    let bounds = reading::Bounds {
        ends: ends_in_time.then_some(bounds.ends),
        bytes_max: bounds.bytes_max,
        idle: reading::IDLE,
    };
    let reading = Reading::new(Box::pin(pieces), bounds);
    Ok(Answered::Streaming(Box::new(Opened { head, content_type, reading })))
}

/// A stream that a call gave, with what errors say of it.
pub(crate) struct Streaming {
    opened: Opened,
    provider: Arc<str>,
    operation: Box<str>,
    meter: Meter,
    /// It counts as one of the provider's calls as long as it comes.
    _place: Place,
}

impl fmt::Debug for Streaming {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Streaming").field(&self.operation).finish()
    }
}

/// What is left of a stream, as it comes.
pub(crate) type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, CallError>>>>;

impl Streaming {
    pub(super) fn new(opened: Opened, place: Place, prepared: &Prepared) -> Self {
        let (provider, operation) = (prepared.provider(), prepared.operation.clone());
        let meter = Meter::new(prepared);
        Self { opened, provider: Arc::clone(provider), operation, meter, _place: place }
    }

    /// Of HTTP.
    pub(crate) fn status(&self) -> u16 {
        self.opened.head.status
    }

    /// As the provider names it.
    pub(crate) fn content_type(&self) -> Option<&str> {
        self.opened.content_type.as_deref()
    }

    /// The next of what a script asks for; `None`: there is none.
    pub(crate) async fn read(&mut self, part: StreamPart) -> Result<Option<Json>, CallError> {
        let reading = &mut self.opened.reading;
        let value = match part {
            StreamPart::Chunk => reading.chunk().await,
            StreamPart::Message => reading.message().await.map(|message| Some(message.whole())),
            StreamPart::Usage => Ok(reading.usage().cloned()),
            StreamPart::FinishReason => Ok(reading.finish_reason().cloned()),
        };
        if self.opened.reading.has_ended() {
            self.count();
        }
        match value {
            Ok(value) => Ok(value.map(|value| harmless(&value))),
            Err(broken) => Err(self.failed(&broken)),
        }
    }

    /// All that is left, unchanged but for our own secrets, as far as one stands in one piece.
    pub(crate) fn into_pieces(self) -> Pieces {
        Box::pin(stream::unfold(Some(self), |streaming| async {
            let mut streaming = streaming?;
            match streaming.opened.reading.bytes().await {
                Ok(Some(bytes)) => {
                    let bytes = redact::current().replaced(&bytes).map_or(bytes, Bytes::from);
                    Some((Ok(bytes), Some(streaming)))
                }
                Ok(None) => None,
                Err(broken) => {
                    let error = streaming.failed(&broken);
                    tracing::warn!(service = %error.provider, method = %error.operation, success = false, code = error.code, "{}", error.message);
                    Some((Err(error), None))
                }
            }
        }))
    }

    /// Counts what it used, and says so in the log; only the first time.
    fn count(&mut self) {
        let reading = &self.opened.reading;
        self.meter.read(&Seen {
            usage: reading.usage(),
            model: reading.model(),
            pieces: reading.chunks(),
            has_ended: reading.has_ended(),
        });
    }

    fn failed(&self, broken: &Broken) -> CallError {
        let (what, detail, body) = match broken {
            Broken::Idle | Broken::TooSlow => (What::TimedOut, None, None),
            Broken::TooLarge(_) => (What::TooLarge, None, None),
            Broken::Malformed(_) | Broken::Lost(_) => (What::Lost, None, None),
            Broken::Told(error) => {
                let said = error.get("message").and_then(Value::as_str);
                let said = said.map(|said| redact::current().text(said).into_owned());
                (told(error), said, Some(CalledBody::Json(harmless(error))))
            }
        };
        let (provider, operation) = (&self.provider, &self.operation);
        let message = match detail {
            Some(detail) => format!("{provider} {operation}: {broken}: {detail}"),
            None => format!("{provider} {operation}: {broken}"),
        };
        CallError {
            code: what.code(),
            provider: Arc::clone(provider),
            operation: operation.clone(),
            status: None,
            message: message.into(),
            retry_after: None,
            body,
        }
    }
}

/// Whoever lets go of it, and whenever: what came has been paid for.
impl Drop for Streaming {
    fn drop(&mut self) {
        self.count();
    }
}

/// Without our own secrets, which some echo.
fn harmless(value: &Value) -> Json {
    Json(redact::current().text(&value.to_string()).into_owned().into())
}

/// What an error is that comes in the middle of an answer which began well.
fn told(error: &Value) -> What {
    let is = |word: &str| {
        ["code", "type"].iter().any(|name| error.get(name).and_then(Value::as_str) == Some(word))
    };
    if is("rate_limit_exceeded") || is("insufficient_quota") || is("rate_limit_error") {
        What::RateLimited
    } else if is("invalid_request_error") {
        What::Refused
    } else {
        What::Failing
    }
}
