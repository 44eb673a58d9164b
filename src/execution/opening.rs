//! Where the stream of a run begins: the run asks, whoever waits for its answer commits what it did so far, and then agrees. Until then nothing of the
//! stream is written; where nobody agrees, the run is dropped.

use std::cell::{Cell, OnceCell};
use std::future::poll_fn;
use std::task::Poll;

use super::pipe::{self, Inlet, Outlet};
use crate::provider::Pieces;
use crate::script::api::respond::Answer;
use crate::store::Effects;

/// Shared by a run and by whoever waits for its answer.
#[derive(Default)]
pub(crate) struct Opening {
    asked: Cell<Option<Begun>>,
    inlet: OnceCell<Inlet>,
}

/// What a run that wants to stream leaves before it does.
pub(crate) struct Begun {
    /// The answer but for its body.
    pub(crate) head: Answer,
    /// To be committed before a byte goes out.
    pub(crate) effects: Effects,
    /// What a provider streams is all of its body, and the run is over; `None`: the run writes it.
    pub(crate) pieces: Option<Pieces>,
}

impl Opening {
    /// The run's side: asks, and waits until it may write.
    pub(super) async fn begin(&self, begun: Begun) {
        self.asked.set(Some(begun));
        // Nobody is to be woken: who agrees drives the run, and polls it next.
        poll_fn(
            |_context| if self.inlet.get().is_some() { Poll::Ready(()) } else { Poll::Pending },
        )
        .await;
    }

    /// What the run has asked since it was looked at last.
    pub(crate) fn asked(&self) -> Option<Begun> {
        self.asked.take()
    }

    /// Agrees: from here the run writes, and this is where it comes out.
    pub(crate) fn agree(&self) -> Outlet {
        let (inlet, outlet) = pipe::new();
        // A second stream of one run has no inlet of its own, so it is cut; no run has one.
        _ = self.inlet.set(inlet);
        outlet
    }

    /// Where the run writes to; `None` before somebody agreed.
    pub(crate) fn inlet(&self) -> Option<&Inlet> {
        self.inlet.get()
    }
}
