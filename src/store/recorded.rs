//! Answers that are kept, so that who asks again hears what the first heard: of webhooks that their script answers, and of routes with an
//! idempotency header. As types; the store never looks into an answer.

use std::sync::Arc;

use bytes::Bytes;

use super::{After, Attempt, Effects, NewEvent, PlannedJob};
use crate::clock::Millis;

/// By what a delivery or a request is known when it comes again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AnswerKey {
    /// A webhook's name, or `METHOD /path` of a route as registered.
    pub(crate) scope: Arc<str>,
    /// The delivery id, or the value of the idempotency header.
    pub(crate) key: Box<str>,
}

/// An answer, with what it was an answer to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recorded {
    /// SHA-256 of what was asked.
    pub(crate) digest: [u8; 32],
    /// Of the answer.
    pub(crate) status: u16,
    /// Those of the script and the content type, in their order.
    pub(crate) headers: Vec<(Box<str>, Box<str>)>,
    /// As it went out.
    pub(crate) body: Bytes,
    /// When that was, nearly.
    pub(crate) answered_at: Millis,
}

/// A run whose answer goes out once this is committed: all of it or nothing.
#[derive(Clone, Debug)]
pub(crate) struct Answering {
    /// Where this is known already, nothing is committed. `None`: it cannot be known.
    pub(crate) key: Option<AnswerKey>,
    /// The delivery, as the event that it becomes; `None`: it is a request. Where it has a delivery id, `key` names it.
    pub(crate) event: Option<AnsweredEvent>,
    /// What the run wants.
    pub(crate) effects: Effects,
    /// To be kept under `key`.
    pub(crate) answer: Option<Recorded>,
}

/// An event that is at its end as soon as it is stored. It never waits, so no bound of the inbox counts for it.
#[derive(Clone, Debug)]
pub(crate) struct AnsweredEvent {
    /// As it was verified.
    pub(crate) event: NewEvent,
    /// Its only job: done, at its first attempt.
    pub(crate) job: PlannedJob,
    /// That attempt, where it logged something.
    pub(crate) attempt: Option<Attempt>,
}

/// What a commit of an answer came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    /// All of it is on disk; the answer may go out, and this follows.
    Yes(After),
    /// As `Committed::Conflict`.
    Conflict,
    /// Somebody was first; nothing was written.
    Known(Known),
}

/// What is known under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// The answer that was given.
    Answer(Recorded),
    /// An event that no script has answered: nobody was there for it, or its webhook answered at once when it came.
    Event,
}
