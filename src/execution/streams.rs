//! The streams of one run: answers of providers that it reads as they come. A script knows them by their number. Those that are left when the run ends
//! are cancelled with it.

use std::cell::RefCell;

use crate::provider::Streaming;
use crate::script::call::StreamPart;
use crate::script::host_call::{HostError, HostReply};

/// Streams of one run; each holds a connection.
const STREAMS_MAX: usize = 100;

/// By their numbers; one that is being read, or was given away, is not there.
#[derive(Default)]
pub(super) struct Streams(RefCell<Vec<Option<Box<Streaming>>>>);

impl Streams {
    /// One more.
    pub(super) fn add(&self, streaming: Box<Streaming>) -> HostReply {
        let mut streams = self.0.borrow_mut();
        let number = u32::try_from(streams.len()).unwrap_or(u32::MAX);
        if streams.len() >= STREAMS_MAX {
            return refused(&format!("a run has at most {STREAMS_MAX} streams"));
        }
        streams.push(Some(streaming));
        HostReply::Streaming(number)
    }

    /// Reads on in one of them.
    pub(super) async fn read(&self, number: u32, part: StreamPart) -> HostReply {
        let Some(mut streaming) = self.take(number) else {
            return refused("another closure of `parallel` reads this stream");
        };
        let read = streaming.read(part).await;
        if let Some(place) = self.0.borrow_mut().get_mut(number as usize) {
            *place = Some(streaming);
        }
        match read {
            Ok(chunk) => HostReply::Chunk(chunk),
            Err(error) => HostReply::CallFailed(Box::new(error)),
        }
    }

    /// Takes one out, to be given away.
    pub(super) fn take(&self, number: u32) -> Option<Box<Streaming>> {
        self.0.borrow_mut().get_mut(number as usize)?.take()
    }
}

fn refused(message: &str) -> HostReply {
    HostReply::Failed(HostError { code: "INVALID_ARGUMENT", message: message.into() })
}
