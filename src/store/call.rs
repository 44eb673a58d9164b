//! The outbound calls of a job, as they are stored: so that a rerun asks for nothing twice that has succeeded, and so that a person sees what a handler did.
//! What a call said to its provider is not in here but for its digest; what the provider said is, where a rerun may need it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::model::{JobKey, PlannedJob};
use crate::clock::Millis;

/// Calls of one job that a run looks back on, the newest: ten attempts that each made as many as are kept.
pub(crate) const RECALLED_MAX: usize = 10_000;
/// How long usage is kept: a year, and a month in which somebody looks at it.
pub(crate) const USAGE_KEPT: Duration = Duration::from_secs(400 * 86_400);
/// Calls that one event shows: more than a person reads.
pub(crate) const SHOWN_MAX: usize = 1_000;

/// One outbound call of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// Its job's number in the event.
    pub(crate) job: u32,
    /// Its own number in the job, over all its runs, in the order in which calls began.
    pub(crate) number: u32,
    /// The attempt that made it.
    pub(crate) attempt: u32,
    /// As config names it.
    pub(crate) provider: Box<str>,
    /// `chat.completions.create`, `POST /v1/charges`.
    pub(crate) operation: Box<str>,
    /// Whether doing it twice may do harm.
    pub(crate) is_unsafe: bool,
    /// What makes it the same call in another run.
    pub(crate) identity: [u8; 32],
    /// Of its content.
    pub(crate) digest: [u8; 32],
    /// The idempotency key that it carried.
    pub(crate) key: Option<Box<str>>,
    /// How often calls of this identity took a fresh key before.
    pub(crate) epoch: u32,
    /// When it began.
    pub(crate) started_at: Millis,
    /// How long it took, retries and waits for them included; 0 while it has no end.
    pub(crate) latency_ms: u64,
    /// HTTP requests of it.
    pub(crate) tries: u32,
    /// What it came to.
    pub(crate) outcome: CallOutcome,
    /// Of the last answer.
    pub(crate) status: Option<u16>,
    /// The code of its error, such as `TIMEOUT`.
    pub(crate) error: Option<Box<str>>,
    /// What a rerun is given in its place.
    pub(crate) answer: KeptAnswer,
}

#[cfg(test)]
impl Call {
    /// Without what a rerun is given.
    pub(crate) fn unanswered(&self) -> Self {
        let answer = match self.answer {
            KeptAnswer::TooLarge => KeptAnswer::TooLarge,
            KeptAnswer::Whole(_) | KeptAnswer::Nothing => KeptAnswer::Nothing,
        };
        Self { answer, ..self.clone() }
    }
}

/// What a call came to, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallOutcome {
    /// It was about to be sent; whether it was, nobody knows.
    Intent,
    /// The provider did it.
    Succeeded,
    /// The provider did not want it: a 4xx.
    Refused,
    /// A 5xx, or the answer was lost: whether it was done, nobody knows.
    Failed,
    /// Nothing of it has left: the provider could not be reached, or was not asked.
    Unsent,
}

impl CallOutcome {
    /// All of them.
    pub(crate) const ALL: [Self; 5] =
        [Self::Intent, Self::Succeeded, Self::Refused, Self::Failed, Self::Unsent];

    /// The word that API and command line use.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Succeeded => "succeeded",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Unsent => "unsent",
        }
    }
}

/// What is kept of the answer to a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum KeptAnswer {
    /// No rerun needs it: it did not succeed, it was a read, or its job is done.
    #[default]
    Nothing,
    /// All of it.
    Whole(CallAnswer),
    /// It had no room, so a rerun cannot be given it.
    TooLarge,
}

/// What a provider answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallAnswer {
    /// Below 400.
    pub(crate) status: u16,
    /// In their order.
    pub(crate) headers: Vec<(Box<str>, Box<str>)>,
    /// What the body is.
    pub(crate) kind: AnswerKind,
    /// Decoded, secrets taken out.
    pub(crate) body: Bytes,
}

/// What the body of an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerKind {
    /// There is none.
    Nothing,
    /// JSON.
    Json,
    /// UTF-8.
    Text,
    /// Anything.
    Bytes,
}

impl AnswerKind {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Nothing, Self::Json, Self::Text, Self::Bytes];

    /// The word under which it is stored.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Json => "json",
            Self::Text => "text",
            Self::Bytes => "bytes",
        }
    }
}

impl CallAnswer {
    /// What it takes to keep it.
    pub(crate) fn bytes(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len());
        self.body.len() + headers.sum::<usize>()
    }
}

/// What a run has to know of the calls of its job's earlier runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recalled {
    /// The unsafe ones, the oldest first.
    pub(crate) calls: Vec<Call>,
    /// The number that the next call takes.
    pub(crate) next: u32,
}

/// The calls of one run, for the end of its attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Calls {
    /// Those to be stored; one that is stored under its number already is replaced.
    pub(crate) made: Vec<Call>,
    /// How often the run asked for a call, whether or not it was given a recorded answer: so many would a run make that reuses nothing.
    pub(crate) asked: u32,
    /// Calls that are not kept.
    pub(crate) dropped: u32,
}

/// A call that is written down before it is sent, or its answer before the script hears it.
#[derive(Clone, Debug)]
pub(crate) struct Noted {
    /// Whose call it is.
    pub(crate) job: JobKey,
    /// As in `Finish`.
    pub(crate) plan: Option<Arc<[PlannedJob]>>,
    /// The attempt that makes it.
    pub(crate) attempt: u32,
    /// The call, as far as it has come.
    pub(crate) call: Call,
}

/// How much of a provider was used in some time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Usage {
    /// As config names it.
    pub(crate) provider: Arc<str>,
    /// What is counted: `tokens`, `usd/1000000`.
    pub(crate) unit: Box<str>,
    /// When the time began that it is counted in: a day, a month.
    pub(crate) began_at: Millis,
    /// How much.
    pub(crate) amount: u64,
}
