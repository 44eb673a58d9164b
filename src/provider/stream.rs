//! An answer that comes as it is made: a source of bytes read as server-sent events, with the words that OpenAI and those like it have added to
//! them. It can be handed on byte by byte, read event by event, or put together into the message that it is; what it used is counted all the same.
//!
//! Dropping it closes the connection, and so ends the work behind it. Once ended or failed it stays so.

use std::pin::Pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{Stream, StreamExt as _};
use serde_json::Value;

use super::merge::Message;
use super::sse::{Event, Malformed, Parser};
use crate::clock;

/// A stream that sends no byte for so long has hung; models think for half of that, and those that think longer send comments meanwhile.
pub(super) const IDLE: Duration = Duration::from_secs(60);
/// What OpenAI ends its streams with.
const DONE: &str = "[DONE]";

/// The bytes, piece by piece; an error is a sentence for people.
pub(super) type Source = Pin<Box<dyn Stream<Item = Result<Bytes, String>>>>;

/// Why a stream broke off.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(super) enum Broken {
    /// No byte came for a minute.
    #[error("its stream sent nothing for 60 s")]
    Idle,
    /// It goes on for longer than the call may take.
    #[error("its stream took longer than the call may")]
    TooSlow,
    #[error("its stream has more than {0} bytes")]
    TooLarge(u64),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The connection.
    #[error("its stream broke off: {0}")]
    Lost(String),
    /// It says so itself, in the middle.
    #[error("it reports an error in its stream")]
    Told(Value),
}

/// What bounds a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// When it has to be through; `None`: it may go on as long as it sends.
    pub(super) ends: Option<Instant>,
    /// Bytes in all, where they are put together or read by a script.
    pub(super) bytes_max: u64,
    /// Between two pieces, `IDLE`.
    pub(super) idle: Duration,
}

/// Follows the events of a stream, whoever reads it, and finds out what it used and where it ends.
#[derive(Debug, Default)]
pub(super) struct Tap {
    parser: Parser,
    usage: Option<Value>,
    model: Option<Box<str>>,
    /// Chunks that had something in them.
    chunks: u64,
    finish_reason: Option<Value>,
    ended: bool,
}

/// What an event is to whoever reads the stream.
#[derive(Debug, PartialEq)]
enum Seen {
    Chunk(Value),
    /// Nothing that a script would want.
    Swallowed,
    End,
    Error(Value),
}

impl Tap {
    /// What the answer used, where the stream has said so.
    pub(super) fn usage(&self) -> Option<&Value> {
        self.usage.as_ref()
    }

    /// Looks at bytes that go on unchanged, whatever they are.
    pub(super) fn look(&mut self, bytes: &[u8]) {
        // What cannot be read is passed on all the same; there is only nothing to count in it.
        _ = self.parser.feed(bytes);
        while let Some(event) = self.parser.next() {
            _ = self.see(event);
        }
    }

    fn see(&mut self, event: Event) -> Seen {
        if self.ended {
            return Seen::Swallowed;
        }
        if event.data.trim() == DONE {
            self.ended = true;
            return Seen::End;
        }
        let Ok(chunk) = serde_json::from_str::<Value>(&event.data) else {
            return Seen::Chunk(Value::String(event.data));
        };
        if let Some(usage) = usage_in(&chunk) {
            self.usage = Some(usage.clone());
        }
        if self.model.is_none() {
            self.model = model_in(&chunk).map(Into::into);
        }
        let reason = chunk.pointer("/choices/0/finish_reason");
        if let Some(reason) = reason.filter(|reason| !reason.is_null()) {
            self.finish_reason = Some(reason.clone());
        }
        if let Some(error) = error_in(&event.kind, &chunk) {
            self.ended = true;
            return Seen::Error(error.clone());
        }
        let has_no_choice =
            chunk.get("choices").and_then(Value::as_array).is_some_and(Vec::is_empty);
        if has_no_choice {
            return Seen::Swallowed;
        }
        self.chunks = self.chunks.saturating_add(1);
        Seen::Chunk(chunk)
    }
}

/// Of a chunk itself, or of the response that it ends.
fn usage_in(chunk: &Value) -> Option<&Value> {
    let of = |value: &'_ Value| value.get("usage").is_some_and(Value::is_object);
    let holder = if of(chunk) { chunk } else { chunk.get("response").filter(|it| of(it))? };
    holder.get("usage")
}

/// Of a chunk itself, or of the response that it begins.
fn model_in(chunk: &Value) -> Option<&str> {
    let model = chunk.get("model").or_else(|| chunk.get("response")?.get("model"));
    model.and_then(Value::as_str)
}

fn error_in<'v>(kind: &str, chunk: &'v Value) -> Option<&'v Value> {
    if let Some(error) = chunk.get("error").filter(|error| !error.is_null()) {
        return Some(error);
    }
    let word = chunk.get("type").and_then(Value::as_str);
    match word {
        Some("error") => Some(chunk),
        Some("response.failed") => chunk.pointer("/response/error").or(Some(chunk)),
        _ if kind == "error" => Some(chunk),
        _ => None,
    }
}

/// A stream that is read.
pub(super) struct Reading {
    source: Source,
    tap: Tap,
    bounds: Bounds,
    bytes: u64,
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Open,
    /// The source has come to its end.
    Ended,
    Failed(Broken),
}

impl Reading {
    pub(super) fn new(source: Source, bounds: Bounds) -> Self {
        Self { source, tap: Tap::default(), bounds, bytes: 0, state: State::Open }
    }

    /// What it used, where it has said so.
    pub(super) fn usage(&self) -> Option<&Value> {
        self.tap.usage()
    }

    /// The model that answers, where it has said so.
    pub(super) fn model(&self) -> Option<&str> {
        self.tap.model.as_deref()
    }

    /// Chunks so far, whoever reads them.
    pub(super) fn chunks(&self) -> u64 {
        self.tap.chunks
    }

    /// Whether it has come to its own end.
    pub(super) fn has_ended(&self) -> bool {
        match &self.state {
            State::Open => self.tap.ended,
            State::Ended => true,
            State::Failed(_) => false,
        }
    }

    /// Why the model stopped, where it has said so.
    pub(super) fn finish_reason(&self) -> Option<&Value> {
        self.tap.finish_reason.as_ref()
    }

    /// The next bytes as they came, for a client; what they used is counted on the way.
    pub(super) async fn bytes(&mut self) -> Result<Option<Bytes>, Broken> {
        let piece = self.piece().await?;
        if let Some(bytes) = &piece {
            self.tap.look(bytes);
        }
        Ok(piece)
    }

    /// The next chunk, for a script; `None` at its end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Value>, Broken> {
        loop {
            while let Some(event) = self.tap.parser.next() {
                match self.tap.see(event) {
                    Seen::Chunk(chunk) => return Ok(Some(chunk)),
                    Seen::Swallowed => {}
                    Seen::End => return Ok(None),
                    Seen::Error(error) => return Err(self.fail(Broken::Told(error))),
                }
            }
            if self.tap.ended {
                return Ok(None);
            }
            let Some(bytes) = self.piece().await? else {
                let whole = self.tap.parser.end();
                return whole.map(|()| None).map_err(|error| self.fail(error.into()));
            };
            self.bytes += bytes.len() as u64;
            if self.bytes > self.bounds.bytes_max {
                return Err(self.fail(Broken::TooLarge(self.bounds.bytes_max)));
            }
            if let Err(error) = self.tap.parser.feed(&bytes) {
                return Err(self.fail(error.into()));
            }
        }
    }

    /// All that is left, put together.
    pub(super) async fn message(&mut self) -> Result<Message, Broken> {
        let mut message = Message::default();
        while let Some(chunk) = self.chunk().await? {
            message.add(&chunk);
        }
        Ok(message)
    }

    /// The next piece of the source, within what it may take. Comments that keep the connection alive count as a sign of life, and leave the
    /// end of its time where it is.
    async fn piece(&mut self) -> Result<Option<Bytes>, Broken> {
        match &self.state {
            State::Open => {}
            State::Ended => return Ok(None),
            State::Failed(broken) => return Err(broken.clone()),
        }
        let idle = clock::instant() + self.bounds.idle;
        let (ends, broken) = match self.bounds.ends {
            Some(ends) if ends < idle => (ends, Broken::TooSlow),
            _ => (idle, Broken::Idle),
        };
        match tokio::time::timeout_at(ends.into(), self.source.next()).await {
            Err(_elapsed) => Err(self.fail(broken)),
            Ok(Some(Err(reason))) => Err(self.fail(Broken::Lost(reason))),
            Ok(Some(Ok(bytes))) => Ok(Some(bytes)),
            Ok(None) => {
                self.state = State::Ended;
                Ok(None)
            }
        }
    }

    fn fail(&mut self, broken: Broken) -> Broken {
        // Nothing more is wanted of it, so the connection is closed now.
        self.source = Box::pin(futures_util::stream::empty());
        self.state = State::Failed(broken.clone());
        broken
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use futures_util::stream;
    use serde_json::json;

    use super::*;

    const BOUNDS: Bounds = Bounds { ends: None, bytes_max: 1 << 20, idle: IDLE };

    fn of(pieces: &[&str]) -> Reading {
        let pieces: Vec<_> =
            pieces.iter().map(|piece| Ok(Bytes::copy_from_slice(piece.as_bytes()))).collect();
        Reading::new(Box::pin(stream::iter(pieces)), BOUNDS)
    }

    async fn read(reading: &mut Reading) -> Result<Vec<Value>, Broken> {
        let mut chunks = Vec::new();
        while let Some(chunk) = reading.chunk().await? {
            chunks.push(chunk);
        }
        Ok(chunks)
    }

    async fn chunks(pieces: &[&str]) -> Result<Vec<Value>, Broken> {
        read(&mut of(pieces)).await
    }

    #[tokio::test]
    async fn v26_the_end_is_done_or_the_end_and_nothing_behind_it_counts() {
        let one = Ok(vec![json!(1)]);
        assert_eq!(chunks(&["data: 1\n\n"]).await, one);
        assert_eq!(chunks(&["data: 1\n\ndata: [DONE]\n\n"]).await, one);
        assert_eq!(chunks(&["data: 1\n\ndata: [DONE]\n\ndata: [DONE]\n\n"]).await, one);
        assert_eq!(chunks(&["data: 1\n\ndata: [DONE]\n\ndata: 2\n\ndata: {\"err"]).await, one);
        assert_eq!(chunks(&["data: 1\n\ndata: [DO", "NE]\n\n"]).await, one);
        assert_eq!(chunks(&["data: no json\n\n"]).await, Ok(vec![json!("no json")]));
        assert_eq!(chunks(&[]).await, Ok(vec![]));
    }

    #[tokio::test]
    async fn v26_an_error_inside_is_thrown_and_a_chunk_without_choices_is_not_seen() {
        let told = |error: Value| Err(Broken::Told(error));
        let openai = "data: 1\n\ndata: {\"error\":{\"message\":\"overloaded\"}}\n\ndata: 2\n\n";
        assert_eq!(chunks(&[openai]).await, told(json!({ "message": "overloaded" })));
        let named = "event: error\ndata: {\"message\":\"no\"}\n\n";
        assert_eq!(chunks(&[named]).await, told(json!({ "message": "no" })));
        let failed =
            "data: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"x\"}}}\n\n";
        assert_eq!(chunks(&[failed]).await, told(json!({ "code": "x" })));

        let mut reading = of(&[
            "data: {\"choices\":[{}],\"usage\":null}\n\ndata: {\"choices\":[],\"usage\":{\"total_tokens\":7}}\n\ndata: [DONE]\n\n",
        ]);
        assert_eq!(read(&mut reading).await.unwrap().len(), 1);
        assert_eq!(reading.usage(), Some(&json!({ "total_tokens": 7 })));
    }

    #[tokio::test]
    async fn v25_an_end_in_the_middle_is_an_error_and_stays_one() {
        let mut reading = of(&["data: 1\n\ndata: 2"]);
        assert_eq!(reading.chunk().await, Ok(Some(json!(1))));
        for _time in 0..2 {
            assert_eq!(reading.chunk().await, Err(Broken::Malformed(Malformed::Cut)));
        }
    }

    #[tokio::test]
    async fn what_it_used_is_counted_while_its_bytes_go_on_unchanged() {
        let pieces = [
            "data: {\"type\":\"response.comp",
            "leted\",\"response\":{\"usage\":{\"total_tokens\":3}}}\n",
            "\n\u{1f600} no event",
        ];
        let mut reading = of(&pieces);
        let mut seen = Vec::new();
        while let Some(bytes) = reading.bytes().await.unwrap() {
            seen.extend_from_slice(&bytes);
        }
        assert_eq!(seen, pieces.concat().as_bytes());
        assert_eq!(reading.usage(), Some(&json!({ "total_tokens": 3 })));
    }

    /// A piece a time apart from the one before it, without an end.
    fn slow(piece: &'static str, apart: Duration) -> Source {
        Box::pin(stream::unfold((), move |()| async move {
            tokio::time::sleep(apart).await;
            Some((Ok(Bytes::from_static(piece.as_bytes())), ()))
        }))
    }

    #[tokio::test]
    async fn v26_comments_keep_a_stream_alive_and_do_not_give_it_more_time() {
        let ends = Some(clock::instant() + Duration::from_millis(100));
        let bounds = Bounds { ends, ..BOUNDS };
        let mut reading = Reading::new(slow(": still\n\n", Duration::from_millis(10)), bounds);
        assert_eq!(reading.chunk().await, Err(Broken::TooSlow));
        assert!(reading.bytes > 0);
    }

    #[tokio::test]
    async fn v26_a_stream_that_sends_nothing_for_so_long_has_hung() {
        let bounds = Bounds { idle: Duration::from_millis(50), ..BOUNDS };
        let mut reading = Reading::new(Box::pin(stream::pending()), bounds);
        assert_eq!(reading.chunk().await, Err(Broken::Idle));
    }

    #[tokio::test]
    async fn more_bytes_than_the_call_may_have_are_refused() {
        let bounds = Bounds { bytes_max: 1000, ..BOUNDS };
        let mut reading = Reading::new(slow("data: 1\n\n", Duration::ZERO), bounds);
        assert_eq!(read(&mut reading).await, Err(Broken::TooLarge(1000)));
    }

    #[tokio::test]
    async fn what_failed_or_is_dropped_lets_go_of_its_source_at_once() {
        struct Noted(Rc<Cell<u32>>);
        impl Drop for Noted {
            fn drop(&mut self) {
                self.0.set(self.0.get() + 1);
            }
        }
        let closed = Rc::new(Cell::new(0));
        let source = |piece: &'static str| -> Source {
            let noted = Noted(Rc::clone(&closed));
            Box::pin(
                stream::iter([Ok(Bytes::from_static(piece.as_bytes()))])
                    .chain(stream::pending())
                    .map(move |piece| {
                        let _held = &noted;
                        piece
                    }),
            )
        };
        let mut failed = Reading::new(source("data: {\"error\":1}\n\n"), BOUNDS);
        assert!(failed.chunk().await.is_err());
        assert_eq!(closed.get(), 1);
        drop(Reading::new(source(""), BOUNDS));
        assert_eq!(closed.get(), 2);
    }

    #[tokio::test]
    async fn a_message_is_put_together_from_its_pieces() {
        let text = "data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"lo\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
        let mut reading = of(&[text]);
        let message = reading.message().await.unwrap();
        assert_eq!(reading.finish_reason(), Some(&json!("stop")));
        assert_eq!(message.whole(), json!({ "role": "assistant", "content": "Hello" }));
    }
}
