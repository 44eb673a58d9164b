//! The value that a call with `stream: true` gives: a result of a route, or a `for chunk in …`, or `.message()`, once. The stream itself stays with
//! the driver, and is cancelled where the run ends without giving it away.

use std::any::TypeId;
use std::cell::Cell;
use std::rc::Rc;

use rhai::{Dynamic, ImmutableString, Module};

use crate::script::api::respond::Answer;
use crate::script::builtins::set;
use crate::script::call::StreamPart;
use crate::script::current::{Throw, ask, fail};
use crate::script::host_call::{HostCall, HostReply};
use crate::script::value::{self, Limits};

/// A stream by its number; copies of it are the same stream.
#[derive(Clone)]
pub(crate) struct Streaming(Rc<Stream>);

struct Stream {
    number: u32,
    /// `openai.chat.completions.create`.
    of: ImmutableString,
    /// What has read it.
    read_by: Cell<Option<&'static str>>,
}

/// The functions.
pub(super) fn register(module: &mut Module) {
    module.set_custom_type::<Streaming>("Stream");
    set(module, "message", |stream: Streaming| {
        stream.0.take("`.message()`")?;
        stream.0.read(StreamPart::Message).map(Option::unwrap_or_default)
    });
    module.set_getter_fn("usage", |stream: &mut Streaming| {
        stream.0.read(StreamPart::Usage).map(Option::unwrap_or_default)
    });
    module.set_getter_fn("finish_reason", |stream: &mut Streaming| {
        stream.0.read(StreamPart::FinishReason).map(Option::unwrap_or_default)
    });
    module.set_iter_result(TypeId::of::<Streaming>(), |stream| {
        let Streaming(stream) = stream.cast::<Streaming>();
        Box::new(Chunks { taken: Some(stream.take("a `for`")), stream, ended: false })
    });
}

/// The one that a call gave.
pub(super) fn new(number: u32, of: &str) -> Dynamic {
    let stream = Stream { number, of: of.into(), read_by: Cell::new(None) };
    Dynamic::from(Streaming(Rc::new(stream)))
}

/// The stream that a handler's result is, else the result as it was.
pub(in crate::script) fn of(result: Dynamic) -> Result<Streaming, Dynamic> {
    result.try_cast_result::<Streaming>()
}

impl Streaming {
    /// Gives it to the client of the run. The answer stands for one that has gone out already.
    pub(in crate::script) fn pass(&self) -> Result<Answer, Throw> {
        self.0.take("its result")?;
        ask("stream", || Ok(HostCall::PassStream(self.0.number)), |_agreed| Ok(()))?;
        Ok(Answer::empty(200))
    }
}

impl Stream {
    fn take(&self, by: &'static str) -> Result<(), Throw> {
        match self.read_by.replace(Some(by)) {
            None => Ok(()),
            Some(before) => Err(fail(&format!(
                "the stream of `{}` was read already, by {before}; a stream can be read once",
                self.of
            ))),
        }
    }

    fn read(&self, part: StreamPart) -> Result<Option<Dynamic>, Throw> {
        let call = || Ok(HostCall::ReadStream { stream: self.number, part });
        ask(&self.of, call, |reply| match reply {
            HostReply::Chunk(Some(json)) => Ok(Some(value::from_json(&json.0, Limits::NONE)?)),
            _ => Ok(None),
        })
    }
}

/// A `for` on its way through it.
struct Chunks {
    stream: Rc<Stream>,
    /// Whether it may be read at all, for the first round.
    taken: Option<Result<(), Throw>>,
    ended: bool,
}

impl Iterator for Chunks {
    type Item = Result<Dynamic, Throw>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let taken = self.taken.take().unwrap_or(Ok(()));
        let chunk = taken.and_then(|()| self.stream.read(StreamPart::Chunk));
        self.ended = !matches!(chunk, Ok(Some(_)));
        chunk.transpose()
    }
}
