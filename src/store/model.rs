//! What is kept, as types: events, their jobs and attempts, documents, and the effects that a run wants committed.
//! Bodies and documents are JSON text here; nobody below parses them without need.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::call::{Call, Calls};
use super::log::AttemptLog;
use super::order::{Order, Rank};
use crate::clock::Millis;
use crate::id::EventId;

/// An event's place in the order of acceptance. Given by the store, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Seq(pub(crate) i64);

/// One job: the event and the job's number in it, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct JobKey {
    /// Whose job it is.
    pub(crate) event: Seq,
    /// From 0, in the order of the plan.
    pub(crate) n: u32,
}

/// A verified delivery that is to become an event.
#[derive(Clone, Debug)]
pub(crate) struct NewEvent {
    /// Ours, made when it was verified.
    pub(crate) id: EventId,
    /// Where it comes from: a webhook's name in config, `on:TOPIC` for what a script emitted, `every:…` for a timer.
    pub(crate) webhook: Arc<str>,
    /// The provider's own id, or what stands for it; `None`: never a duplicate.
    pub(crate) delivery_id: Option<Box<str>>,
    /// Events of one webhook with the same one are handled one at a time; `None`: it has no order.
    pub(crate) order_key: Option<Box<str>>,
    /// Its type, `""` for schemes without types.
    pub(crate) kind: Box<str>,
    /// When it was verified.
    pub(crate) received_at: Millis,
    /// One JSON object: how it came (`headers` with what is masked already masked, `query`, `params`, `secret`: which matched).
    /// Opaque to the store.
    pub(crate) request: Box<str>,
    /// The body as it was received and verified.
    pub(crate) body: Bytes,
    /// The event that it repeats on somebody's request.
    pub(crate) replay_of: Option<EventId>,
}

/// How the store took a delivery. Each of them is committed, and is answered 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accepted {
    /// It was not known, and its jobs may begin; this is its place.
    New(Seq),
    /// It was not known, and an earlier event of its key has not ended: its turn comes with a later commit (`After::turns`).
    Behind {
        /// Its place.
        event: Seq,
        /// Some of its scripts need not wait: `Store::plan` makes its jobs and says which.
        plan: bool,
    },
    /// Known already, and pending or done. `same_body` is true too where the first body is no longer kept.
    Duplicate {
        /// The event that it repeats.
        event: Seq,
        /// Whether it repeats that one's body too.
        same_body: bool,
    },
    /// Known, and dead until now: its dead jobs are pending again with fresh attempts, due now.
    Revived(Seq),
}

/// Where a job stands. An event shows the worst of its jobs, in the order of `EventState::worst`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum JobState {
    /// Waits for its first attempt.
    Pending,
    /// Never stored by SQLite, but after an unclean stop (`claim`).
    Running,
    /// Waits for its next attempt.
    Retrying,
    /// Waits at a gate.
    Parked,
    /// Handled; its effects are committed.
    Done,
    /// There was nothing to do for it.
    Ignored,
    /// No attempt is left.
    Dead,
}

impl JobState {
    /// The worst first.
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

    /// The state that a word names.
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
    /// The job of the same event whose death this one answers (`on_dead`). Such jobs neither wait for their key nor block it.
    pub(crate) dead_job: Option<u32>,
}

/// How an attempt, and with it perhaps the job, ended.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// Its effects commit with this.
    Done(Effects),
    /// There is nothing to do for it, and this is why.
    Ignored(Box<str>),
    /// Failed; the next attempt is due then.
    Retry {
        /// When.
        due_at: Millis,
        /// Why it failed.
        error: Box<str>,
    },
    /// Ended before it could end by itself (a stop, a conflict that went on): no attempt is used, due again then.
    Returned {
        /// When.
        due_at: Millis,
        /// Why it did not end.
        reason: Box<str>,
    },
    /// The handler asked for another time: no attempt is used, and the job remembers since when it is put off.
    PutOff {
        /// When.
        due_at: Millis,
        /// What it waits for.
        reason: Box<str>,
    },
    /// It waits at a gate that opens then: no attempt is used, and the job remembers since when it waits there.
    Parked {
        /// When.
        due_at: Millis,
        /// Which gate.
        reason: Box<str>,
    },
    /// No attempt is left.
    Dead {
        /// Why.
        error: Box<str>,
        /// Jobs that answer this death, made in the same transaction and due at once.
        then: Arc<[PlannedJob]>,
    },
    /// A placeholder whose script has loaded: it becomes the first of these jobs, the others are added; all are pending, due then.
    Resolved {
        /// At least one.
        jobs: Vec<PlannedJob>,
        /// When.
        due_at: Millis,
    },
}

/// The end of one attempt, committed in one transaction.
#[derive(Clone, Debug)]
pub(crate) struct Finish {
    /// Whose attempt it was.
    pub(crate) job: JobKey,
    /// Every job of the event, in order, to be written first if the event has none yet. Its first attempts bring it, later ones need not.
    pub(crate) plan: Option<Arc<[PlannedJob]>>,
    /// Attempts used, this one included (not for `Returned`, `PutOff`, `Parked` and `Ignored`).
    pub(crate) attempt: u32,
    /// When the handler was called.
    pub(crate) started_at: Millis,
    /// When it had ended.
    pub(crate) ended_at: Millis,
    /// The generation of scripts that ran.
    pub(crate) generation: u64,
    /// Which version of its script ran; `None`: none did.
    pub(crate) version: Option<Arc<str>>,
    /// What it logged. Kept with an attempt that is used; a success at the first try that logged nothing keeps no row.
    pub(crate) log: AttemptLog,
    /// What it asked of providers, kept whatever it came to, the answers where it is not done; `None`: nothing, or it did not run.
    pub(crate) calls: Option<Arc<Calls>>,
    /// Its event has an order key.
    pub(crate) ordered: bool,
    /// What it came to.
    pub(crate) outcome: Outcome,
}

/// What a commit of effects came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Committed {
    /// All of it is on disk, and this follows from it.
    Yes(After),
    /// Something that the run read has changed since, or `if_newer` would now come out otherwise. Nothing was written: run it again.
    Conflict,
    /// The job is already at its end, or gone; nothing was written.
    Stale,
}

/// What a commit leaves to be done by whoever asked for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct After {
    /// For each `Emit::Event` of the effects, in order, how it was taken; `None`: it is not due yet, or gave way to one that waits.
    pub(crate) emitted: Vec<Option<Accepted>>,
    /// Events whose turn has come. Each is told once; after a crash the dispatcher finds it.
    pub(crate) turns: Vec<Turn>,
    /// Jobs that waited for an earlier event are due.
    pub(crate) unblocked: bool,
}

/// An event without jobs that may begin now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    /// Which.
    pub(crate) event: Seq,
    /// Where it comes from.
    pub(crate) webhook: Arc<str>,
    /// Only some of its scripts may: `Store::plan` says which.
    pub(crate) plan: bool,
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
    /// No such document, nor a tombstone that holds.
    Absent,
    /// Deleted with a tombstone that still holds.
    Tombstone(Version),
    /// It is there.
    Found {
        /// An object, without its id.
        body: Json,
        /// For the commit to compare.
        version: Version,
        /// From then on it is absent.
        expires_at: Option<Millis>,
    },
}

impl Read {
    /// The version that a commit which relies on this read expects.
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
    /// `orders` for `db.orders`.
    pub(crate) collection: Arc<str>,
    /// The document's own, unique within its collection.
    pub(crate) id: Arc<str>,
}

/// What a run wants committed: all of it or nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Effects {
    /// The versions that the run relied on; any other version now is a conflict. A tombstone or a document that has run out counts as absent.
    pub(crate) reads: Vec<(DocumentKey, Version)>,
    /// In the order of the run.
    pub(crate) writes: Vec<(DocumentKey, Write)>,
    /// Internal events that begin, and those that are taken back, in the order of the run.
    pub(crate) emits: Vec<Emit>,
}

impl Effects {
    /// Whether a commit of it could be left out; reads alone change nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.emits.is_empty()
    }
}

/// One `emit` or `cancel` of a run.
#[derive(Clone, Debug)]
pub(crate) enum Emit {
    /// An internal event. One whose delivery id is known makes no second event.
    Event {
        /// As a delivery would be accepted; its `webhook` is `on:TOPIC`.
        event: NewEvent,
        /// When it becomes an event; `None`: with the commit. Its place within its key is that of the time when it becomes one.
        due_at: Option<Millis>,
        /// What becomes of those of the same key that have not started.
        pending: Pending,
    },
    /// Takes back what waits of a key and has not started.
    Cancel {
        /// `on:TOPIC`.
        webhook: Arc<str>,
        /// Its key.
        key: Box<str>,
        /// What the script was told: whether something waits. Where the commit finds otherwise it is a conflict.
        told: bool,
    },
}

/// What an `emit` does with events of the same topic and key that have not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pending {
    /// Comes beside them.
    Add,
    /// Gives way to them.
    Keep,
    /// Takes their place.
    Replace,
}

/// An occurrence of a timer.
#[derive(Clone, Debug)]
pub(crate) struct Firing {
    /// `every:SCRIPT/EXPRESSION/POSITION`.
    pub(crate) timer: Box<str>,
    /// From when on its next occurrence counts.
    pub(crate) counts_from: Millis,
    /// Its event; its delivery id names the occurrence, so that none comes twice. `None`: the timer is only seen for the first time.
    pub(crate) event: Option<NewEvent>,
}

/// How the store took an occurrence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fired {
    /// It is an event, and its turn.
    New(Seq),
    /// The timer now counts from there; the occurrence had its event before, or has none.
    Noted,
    /// An earlier event of the timer has not ended; nothing was changed.
    Busy,
}

/// What somebody's wish to repeat an event came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replayed {
    /// A dead letter: its dead jobs are pending again with fresh attempts.
    Resumed(Seq),
    /// A new event with the same payload, and how it was taken.
    Anew(Accepted),
    /// It waits or runs, or an earlier repetition of it does: in this state.
    NotEnded(JobState),
    /// Its payload is no longer kept.
    NoPayload,
    /// Nobody knows it.
    Unknown,
}

/// One change of one document.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Write {
    /// The whole document, an object. Ends a tombstone when `if_newer` is `None`.
    Put {
        /// The document.
        body: Json,
        /// Under which condition.
        if_newer: Option<IfNewer>,
        /// From then on it is absent, as if it had been deleted. `None`: never, whatever was said before.
        expires_at: Option<Millis>,
    },
    /// Takes it away; with `tombstone_until` its absence refuses `if_newer` puts and patches up to that time.
    Delete {
        /// `None`: nothing remembers it.
        tombstone_until: Option<Millis>,
    },
    /// Adds to a number at the top level; an absent document or field counts as 0. Never conflicts. When the document expires stays as it was.
    /// Integers that would leave i64 become floats. A field that is no number is replaced by `by`.
    Increment {
        /// The number's name.
        field: Box<str>,
        /// May be negative.
        by: Number,
    },
}

/// A number of a script.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    /// Exact.
    Integer(i64),
    /// Finite.
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
    /// Unique within its collection.
    pub(crate) id: Box<str>,
    /// An object, without its id.
    pub(crate) body: Json,
}

/// Which documents of a collection, and in which order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Find {
    /// What must hold of them.
    pub(crate) filter: super::filter::Filter,
    /// `None`: by their ids (by bytes).
    pub(crate) order: Option<Order>,
    /// Only what stands after this in that order, whether or not a document stands there.
    pub(crate) after: Option<Rank>,
    /// So many at most.
    pub(crate) limit: usize,
}

/// A field of a collection that has an index: `status`, `customer.id`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct IndexedField {
    /// `orders` for `db.orders`.
    pub(crate) collection: Box<str>,
    /// With dots between the names.
    pub(crate) field: Box<str>,
}

/// What a step of building and dropping indexes came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IndexStep {
    /// Nothing is left to do.
    Idle,
    /// More is left.
    Working,
    /// Reads use this one from now on.
    Ready(IndexedField),
    /// Nothing of this one is left.
    Dropped(IndexedField),
}

/// A job that waits, as the dispatcher sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DueJob {
    /// Which.
    pub(crate) key: JobKey,
    /// Its event's webhook.
    pub(crate) webhook: Arc<str>,
    /// Since when it may run.
    pub(crate) due_at: Millis,
}

/// An event that has no jobs yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Undispatched {
    /// Which.
    pub(crate) event: Seq,
    /// Its webhook.
    pub(crate) webhook: Arc<str>,
    /// As in `Turn`.
    pub(crate) plan: bool,
}

/// An event as it was accepted, with the jobs that it has so far; what running them needs.
#[derive(Clone, Debug)]
pub(crate) struct StoredEvent {
    /// Its place.
    pub(crate) seq: Seq,
    /// As it was accepted.
    pub(crate) event: NewEvent,
    /// In order; none before its first dispatch.
    pub(crate) jobs: Vec<Job>,
}

/// A job as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    /// Its number in the event, from 0.
    pub(crate) n: u32,
    /// What it is to run.
    pub(crate) planned: PlannedJob,
    /// Where it stands.
    pub(crate) state: JobState,
    /// Attempts used.
    pub(crate) attempt: u32,
    /// When it may run next; `None` at its end, and while it waits for another to end.
    pub(crate) due_at: Option<Millis>,
    /// Since when its handler puts off its next attempt.
    pub(crate) put_off_since: Option<Millis>,
    /// Since when it waits at gates.
    pub(crate) parked_since: Option<Millis>,
    /// Outbound calls that its last run asked for.
    pub(crate) calls: u32,
    /// Outbound calls of all its runs that are not kept.
    pub(crate) calls_dropped: u32,
    /// Why the last attempt failed, why it is dead or ignored.
    pub(crate) error: Option<Box<str>>,
}

/// An attempt as it is stored: every one but a success at the first try that logged nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    /// Its job's number in the event.
    pub(crate) job: u32,
    /// Its own number, from 1.
    pub(crate) attempt: u32,
    /// When the handler was called.
    pub(crate) started_at: Millis,
    /// When it had ended.
    pub(crate) ended_at: Millis,
    /// Of scripts.
    pub(crate) generation: u64,
    /// A short digest of the script that ran, as it was then.
    pub(crate) version: Option<Arc<str>>,
    /// Why it failed; `None`: it did not.
    pub(crate) error: Option<Box<str>>,
    /// What its handler logged.
    pub(crate) log: AttemptLog,
}

/// An event in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EventSummary {
    /// Its place.
    pub(crate) seq: Seq,
    /// Ours.
    pub(crate) id: EventId,
    /// Its webhook's name.
    pub(crate) webhook: Arc<str>,
    /// The provider's own id.
    pub(crate) delivery_id: Option<Box<str>>,
    /// Its type.
    pub(crate) kind: Box<str>,
    /// Of the job that stands worst.
    pub(crate) state: JobState,
    /// When it was verified.
    pub(crate) received_at: Millis,
    /// Attempts used, over all jobs.
    pub(crate) attempts: u32,
    /// Outbound calls that the last runs of its jobs asked for.
    pub(crate) calls: u32,
    /// Of the job that stands worst.
    pub(crate) error: Option<Box<str>>,
}

/// An event with everything about it.
#[derive(Clone, Debug)]
pub(crate) struct EventDetail {
    /// What a list says of it.
    pub(crate) summary: EventSummary,
    /// The event that it repeats on somebody's request.
    pub(crate) replay_of: Option<EventId>,
    /// As in `NewEvent`; absent once retention took the payload.
    pub(crate) payload: Option<(Box<str>, Bytes)>,
    /// In order.
    pub(crate) jobs: Vec<Job>,
    /// The oldest first.
    pub(crate) attempts: Vec<Attempt>,
    /// Outbound calls, without their answers, by job and number; `SHOWN_MAX` at most.
    pub(crate) calls: Vec<Call>,
    /// Those that are not among them.
    pub(crate) calls_left_out: u64,
}

/// How much is in the inbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Events that are not at their end: with no jobs yet, or with one that is pending, running, retrying or parked.
    pub(crate) pending: u64,
    /// Events with a dead job.
    pub(crate) dead: u64,
    /// Internal events that are not due yet.
    pub(crate) scheduled: u64,
}
