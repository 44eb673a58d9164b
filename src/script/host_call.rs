//! Everything a script may ask of the outside, and everything it may hear back: two enums of plain data.
//! A script suspends with a `HostCall` and resumes with a `HostReply`; it holds nothing while it waits. Who performs the call
//! (the live runtime, a test, a replay) is the driver's choice.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Millis;
use crate::store::filter::Filter;
use crate::store::{DocumentKey, Json, Number};

/// What a script asks. Provider calls, `emit` and `parallel` will be further variants.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum HostCall {
    Sleep(Duration),
    Get(DocumentKey),
    /// Throws CONFLICT when the document exists.
    Insert {
        key: DocumentKey,
        body: Json,
    },
    Put {
        key: DocumentKey,
        body: Json,
        if_newer: Option<Box<str>>,
    },
    /// Merged at the top level; `null` takes a field away.
    Patch {
        key: DocumentKey,
        changes: Json,
    },
    Delete {
        key: DocumentKey,
        tombstone: bool,
    },
    Increment {
        key: DocumentKey,
        field: Box<str>,
        by: Number,
    },
    Find {
        collection: Arc<str>,
        filter: Filter,
        after: Option<Box<str>>,
        limit: usize,
    },
    Count {
        collection: Arc<str>,
        filter: Filter,
    },
}

/// What a script hears back.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum HostReply {
    Unit,
    Bool(bool),
    Count(u64),
    /// One document with its `id` inside, or none.
    Document(Option<Json>),
    /// Several, each with its `id` inside.
    Documents(Vec<Json>),
    /// Thrown into the script as a map with `code` and `message`; the script may catch it.
    Failed(HostError),
    /// The run is over: the client left, the runtime stops, time is up. Nothing in the script can catch this.
    Ended,
}

/// Why a call failed, in the words that scripts see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostError {
    pub(crate) code: &'static str,
    pub(crate) message: Box<str>,
}

/// What a run knows without asking: fixed at its start, the same in each rerun where the rules say so.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    /// The attempt's own time, from which `now()` counts on.
    pub(crate) started_at: Millis,
    /// `uuid()` and random numbers follow from it.
    pub(crate) seed: u64,
    /// For log lines: the event or request, and the script.
    pub(crate) subject: Arc<str>,
    pub(crate) script: Arc<str>,
}
