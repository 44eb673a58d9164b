//! What is kept, as types: events, their jobs and attempts, documents, and the effects that a run wants committed.
//! Bodies and documents are JSON text here; nobody below parses them without need.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Millis;
use crate::id::EventId;

/// An event's place in the order of acceptance. Given by the store, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Seq(pub(crate) i64);

/// One job: the event and the job's number in it, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct JobKey {
    pub(crate) event: Seq,
    pub(crate) n: u32,
}

/// A verified delivery that is to become an event.
#[derive(Clone, Debug)]
pub(crate) struct NewEvent {
    pub(crate) id: EventId,
    /// The webhook's name in config.
    pub(crate) webhook: Arc<str>,
    /// The provider's own id, or what stands for it; `None`: never a duplicate.
    pub(crate) delivery_id: Option<Box<str>>,
    /// Its type, `""` for schemes without types.
    pub(crate) kind: Box<str>,
    pub(crate) received_at: Millis,
    /// One JSON object: how it came (`headers` with what is masked already masked, `query`, `params`, `secret`: which matched).
    /// Opaque to the store.
    pub(crate) request: Box<str>,
    /// The body as it was received and verified.
    pub(crate) body: Bytes,
}

/// How the store took a delivery. Each of them is committed, and is answered 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accepted {
    New(Seq),
    /// Known already, and pending or done. `same_body` is true too where the first body is no longer kept.
    Duplicate {
        event: Seq,
        same_body: bool,
    },
    /// Known, and dead until now: its dead jobs are pending again with fresh attempts, due now.
    Revived(Seq),
}

/// Where a job stands. An event shows the worst of its jobs, in the order of `EventState::worst`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum JobState {
    Pending,
    /// Never stored by SQLite, but after an unclean stop (`claim`).
    Running,
    /// Waits for its next attempt.
    Retrying,
    /// Waits at a gate.
    Parked,
    Done,
    Ignored,
    Dead,
}

impl JobState {
    pub(crate) const ALL: [Self; 7] = [
        Self::Dead,
        Self::Parked,
        Self::Retrying,
        Self::Running,
        Self::Pending,
        Self::Done,
        Self::Ignored,
    ];

    /// The word that API, command line, metrics and screen use.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Parked => "parked",
            Self::Done => "done",
            Self::Ignored => "ignored",
            Self::Dead => "dead",
        }
    }

    pub(crate) fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }

    /// No attempt follows by itself.
    pub(crate) const fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Ignored | Self::Dead)
    }

    /// The state an event shows: the worst of its jobs; without jobs it is pending.
    pub(crate) fn worst(jobs: impl IntoIterator<Item = Self>) -> Self {
        let rank = |state: &Self| Self::ALL.iter().position(|known| known == state);
        jobs.into_iter().min_by_key(rank).unwrap_or(Self::Pending)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

/// A job as its event's first dispatch makes it. A handler is known by (script, webhook, pattern).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlannedJob {
    /// The script's name, as in `scripts/NAME.rhai`; empty in the one job of an event that nobody handles.
    pub(crate) script: Arc<str>,
    /// The pattern that matched first; `None` in a placeholder, for a script that is broken with no older version to run.
    pub(crate) pattern: Option<Arc<str>>,
}

/// How an attempt, and with it perhaps the job, ended.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// Its effects commit with this.
    Done(Effects),
    /// There is nothing to do for it, and this is why.
    Ignored(Box<str>),
    /// Failed; the next attempt is due then.
    Retry { due_at: Millis, error: Box<str> },
    /// Ended before it could end by itself (a stop, a conflict that went on): no attempt is used, due again then.
    Returned { due_at: Millis, reason: Box<str> },
    /// No attempt is left.
    Dead(Box<str>),
    /// A placeholder whose script has loaded: it becomes the first of these jobs, the others are added; all are pending, due then.
    Resolved { jobs: Vec<PlannedJob>, due_at: Millis },
}

/// The end of one attempt, committed in one transaction.
#[derive(Clone, Debug)]
pub(crate) struct Finish {
    pub(crate) job: JobKey,
    /// Every job of the event, in order, to be written first if the event has none yet. Its first attempts bring it, later ones need not.
    pub(crate) plan: Option<Arc<[PlannedJob]>>,
    /// Attempts used, this one included (not for `Returned` and `Ignored`).
    pub(crate) attempt: u32,
    pub(crate) started_at: Millis,
    pub(crate) ended_at: Millis,
    /// The generation of scripts that ran.
    pub(crate) generation: u64,
    pub(crate) outcome: Outcome,
}

/// What a commit of effects came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Committed {
    Yes,
    /// Something that the run read has changed since, or `if_newer` would now come out otherwise. Nothing was written: run it again.
    Conflict,
    /// The job is already at its end, or gone; nothing was written.
    Stale,
}

/// JSON text that is known to be valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Json(pub(crate) Box<str>);

/// The version of a document: changes with each write, never comes back. 0 stands for a document that is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Version(pub(crate) u64);

/// What reading one document gave.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Read {
    Absent,
    /// Deleted with a tombstone that still holds.
    Tombstone(Version),
    Found {
        body: Json,
        version: Version,
    },
}

impl Read {
    pub(crate) fn version(&self) -> Version {
        match self {
            Self::Absent => Version(0),
            Self::Tombstone(version) | Self::Found { version, .. } => *version,
        }
    }
}

/// Where a document lives.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct DocumentKey {
    pub(crate) collection: Arc<str>,
    pub(crate) id: Arc<str>,
}

/// What a run wants committed: all of it or nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Effects {
    /// The versions that the run relied on; any other version now is a conflict. A tombstone that has run out counts as absent.
    pub(crate) reads: Vec<(DocumentKey, Version)>,
    /// In the order of the run.
    pub(crate) writes: Vec<(DocumentKey, Write)>,
}

impl Effects {
    pub(crate) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}

/// One change of one document.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Write {
    /// The whole document, an object. Ends a tombstone when `if_newer` is `None`.
    Put { body: Json, if_newer: Option<IfNewer> },
    /// Takes it away; with `tombstone_until` its absence refuses `if_newer` puts and patches up to that time.
    Delete { tombstone_until: Option<Millis> },
    /// Adds to a number at the top level; an absent document or field counts as 0. Never conflicts.
    /// Integers that would leave i64 become floats. A field that is no number is replaced by `by`.
    Increment { field: Box<str>, by: Number },
}

/// A number of a script.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    Integer(i64),
    Float(f64),
}

/// A put that gives way to what is newer. Compared inside the commit by `is_newer`; where that disagrees with what the script was told, it is a conflict.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct IfNewer {
    /// A field at the top level of both documents.
    pub(crate) field: Box<str>,
    /// What the script was told: whether it will write.
    pub(crate) told: bool,
}

/// A document as `find` gives it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Document {
    pub(crate) id: Box<str>,
    pub(crate) body: Json,
}

/// Which documents of a collection, in the order of their ids (by bytes).
#[derive(Clone, Debug, Default)]
pub(crate) struct Find {
    pub(crate) filter: super::filter::Filter,
    /// Only ids after this one.
    pub(crate) after: Option<Box<str>>,
    pub(crate) limit: usize,
}

/// A job that waits, as the dispatcher sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DueJob {
    pub(crate) key: JobKey,
    pub(crate) webhook: Arc<str>,
    pub(crate) due_at: Millis,
}

/// An event that has no jobs yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Undispatched {
    pub(crate) event: Seq,
    pub(crate) webhook: Arc<str>,
}

/// An event as it was accepted, with the jobs that it has so far; what running them needs.
#[derive(Clone, Debug)]
pub(crate) struct StoredEvent {
    pub(crate) seq: Seq,
    pub(crate) event: NewEvent,
    pub(crate) jobs: Vec<Job>,
}

/// A job as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) n: u32,
    pub(crate) planned: PlannedJob,
    pub(crate) state: JobState,
    /// Attempts used.
    pub(crate) attempt: u32,
    pub(crate) due_at: Option<Millis>,
    /// Why the last attempt failed, why it is dead or ignored.
    pub(crate) error: Option<Box<str>>,
}

/// An attempt as it is stored: every one but a success at the first try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) job: u32,
    pub(crate) attempt: u32,
    pub(crate) started_at: Millis,
    pub(crate) ended_at: Millis,
    pub(crate) generation: u64,
    pub(crate) error: Option<Box<str>>,
}

/// An event in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EventSummary {
    pub(crate) seq: Seq,
    pub(crate) id: EventId,
    pub(crate) webhook: Arc<str>,
    pub(crate) delivery_id: Option<Box<str>>,
    pub(crate) kind: Box<str>,
    pub(crate) state: JobState,
    pub(crate) received_at: Millis,
    /// Attempts used, over all jobs.
    pub(crate) attempts: u32,
    /// Of the job that stands worst.
    pub(crate) error: Option<Box<str>>,
}

/// An event with everything about it.
#[derive(Clone, Debug)]
pub(crate) struct EventDetail {
    pub(crate) summary: EventSummary,
    /// As in `NewEvent`; absent once retention took the payload.
    pub(crate) payload: Option<(Box<str>, Bytes)>,
    pub(crate) jobs: Vec<Job>,
    pub(crate) attempts: Vec<Attempt>,
}

/// Which events to list, newest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct EventQuery {
    pub(crate) webhook: Option<Box<str>>,
    pub(crate) state: Option<JobState>,
    /// Only events accepted before this one.
    pub(crate) before: Option<EventId>,
    pub(crate) limit: usize,
}

/// How much is in the inbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Events that are not at their end: with no jobs yet, or with one that is pending, running, retrying or parked.
    pub(crate) pending: u64,
    /// Events with a dead job.
    pub(crate) dead: u64,
}
