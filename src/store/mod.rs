//! What the runtime asks of a database, and what it may rely on. Three keep these promises: SQLite, the in-memory model,
//! and later PostgreSQL; `conformance.rs` holds all of them to the same words.
//!
//! The promises:
//! 1. An answer `Ok` to a write means that it is on disk (`synchronous=FULL`); `Err` means that nothing of it is visible.
//! 2. Two deliveries of one (webhook, delivery id) make one event, however they race; the second is answered after the first is on disk.
//! 3. The effects of an attempt and its end are one transaction. A job that has ended never ends again (`Stale`).
//! 4. A run whose reads have changed commits nothing (`Conflict`).
//! 5. After a crash at any instant, everything answered `Ok` is there and nothing else is half there.
//! 6. Of the events of one webhook and order key, a script has one in work at a time, in the order of acceptance. What waits for its next attempt
//!    keeps the others waiting; what is dead, done or ignored does not. A dead letter that comes back takes its place at the end.
//! 7. What was answered under a key is committed once: whoever comes with that key again, however they race, gets the answer that is recorded.
//! 8. A call that was noted is on disk before it is sent, and its answer before the script hears it; both outlive the run that made it.
//!
//! It never runs code and never looks into a payload.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::clock::Millis;
use crate::id::EventId;

pub(crate) mod document;
pub(crate) mod filter;
mod call;
pub(crate) mod log;
pub(crate) mod model;
mod page;
mod recorded;
pub(crate) mod order;
pub(crate) mod sqlite;
#[cfg(test)]
pub(crate) mod memory;
#[cfg(test)]
mod conformance;

pub(crate) use self::call::*;
pub(crate) use self::log::AttemptLog;
pub(crate) use self::model::*;
pub(crate) use self::page::*;
pub(crate) use self::recorded::*;

/// An answer that may take a commit to come. The question is asked when the function is called, not when this is polled.
pub(crate) type Answer<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;
/// The same for reads that stay on the worker that asked.
pub(crate) type LocalAnswer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + 'a>>;

/// Why the store could not do what it was asked. None of them says that anything was written.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// `max_pending` events wait already.
    #[error("the inbox is full: {max_pending} events are pending (`storage.max_pending`)")]
    Full {
        /// The bound that is reached.
        max_pending: u64,
    },
    /// Disk full, file locked by another process, I/O error, file gone: it may pass. The text is the database's own.
    #[error("the database cannot write: {0}")]
    Unavailable(std::sync::Arc<str>),
    /// The store is stopping.
    #[error("the database is closed")]
    Closed,
}

/// The writes, and the reads of inbox and admin. Shared by all workers.
pub(crate) trait Store: Send + Sync {
    /// Promise 2. `Full` at `max_pending`, for new events only.
    fn accept(&self, event: NewEvent) -> Answer<Accepted>;

    /// How many events may be pending, for everything that is asked from now on. Fewer than are pending drops none of them.
    fn set_max_pending(&self, max_pending: u64);

    /// Ends an attempt: promise 3.
    fn finish(&self, finish: Finish) -> Answer<Committed>;

    /// Commits what a route's run wants.
    fn commit(&self, effects: Effects) -> Answer<Committed>;

    /// Commits a run with the delivery or request that it answers and with its answer: promise 6. `max_pending` does not count.
    fn answer(&self, answering: Answering) -> Answer<Answered>;

    /// Writes down, after an unclean stop and before the attempt starts, that it uses one: state running, `attempt` used.
    /// So an event that kills the process ends as a dead letter. `plan` as in `Finish`.
    fn claim(
        &self,
        job: JobKey,
        plan: Option<std::sync::Arc<[PlannedJob]>>,
        attempt: u32,
    ) -> Answer<Committed>;

    /// Writes down a call that is about to be sent, or what it came to: promise 8. It uses an attempt as `claim` does; `Stale` where the job has ended.
    fn note_call(&self, noted: Noted) -> Answer<Committed>;

    /// Adds to what was used of providers.
    fn add_usage(&self, used: Vec<Usage>) -> Answer<()>;

    /// What was used of providers in every time that began from `since` on, in the order of provider, unit and time.
    fn usage(&self, since: Millis) -> Answer<Vec<Usage>>;

    /// Makes the jobs of an event whose turn came for some of its scripts only (`Turn::plan`): those of the others wait.
    fn plan(&self, event: Seq, plan: std::sync::Arc<[PlannedJob]>) -> Answer<Committed>;

    /// Makes events of what was emitted for a time up to `now`, at most `limit`, the earliest first; those that may begin.
    fn promote(&self, now: Millis, limit: usize) -> Answer<Vec<Turn>>;

    /// When the next emitted event is due.
    fn next_scheduled(&self) -> Answer<Option<Millis>>;

    /// An occurrence of a timer and its event, in one transaction.
    fn fire(&self, firing: Firing) -> Answer<Fired>;

    /// Every timer that was seen, and from when on its next occurrence counts.
    fn timers(&self) -> Answer<Vec<(Box<str>, Millis)>>;

    /// Forgets a timer that no script has any more.
    fn forget_timer(&self, timer: &str) -> Answer<()>;

    /// Repeats an event on somebody's request; `copy` is the id of the new one where it takes one. `Full` as in `accept`.
    fn replay(&self, event: EventId, copy: EventId, now: Millis) -> Answer<Replayed>;

    /// Events without jobs with `after` < seq <= `up_to` that may begin, in the order of acceptance.
    fn undispatched(&self, after: Seq, up_to: Seq, limit: usize) -> Answer<Vec<Undispatched>>;

    /// Jobs that wait (pending, retrying, parked, or running since before an unclean stop) and are due at `now`, the longest due first.
    fn due(&self, now: Millis, limit: usize) -> Answer<Vec<DueJob>>;

    /// Makes the jobs of a script due that came back without an attempt, such as those that waited for it to load; with `failed_too` also those that
    /// wait for their next attempt. At most `limit`; how many it was.
    fn wake(&self, script: &str, failed_too: bool, now: Millis, limit: usize) -> Answer<u64>;

    /// When the next waiting job is due after `now`.
    fn next_due(&self, now: Millis) -> Answer<Option<Millis>>;

    /// An event with what running it needs; `None` when it or its payload is gone.
    fn load(&self, event: Seq) -> Answer<Option<StoredEvent>>;

    /// A page of events. It looks at a bounded number of them and says where it stopped, so that no question holds up the others.
    fn events(&self, query: EventQuery) -> Answer<EventPage>;

    /// One, with its jobs and attempts; `None` when nobody knows it.
    fn event(&self, id: EventId) -> Answer<Option<EventDetail>>;

    /// How much waits, how much is dead.
    fn counts(&self) -> Answer<Counts>;

    /// One small write and its commit: whether accepting would work now. Answers within a second, and notices that the file is gone.
    fn ping(&self) -> Answer<()>;

    /// Declares which fields of documents have an index, in place of what was declared before. It is known at once; building and dropping is what
    /// `index_step` does. Reads give the same with an index, without one, and while it is being built.
    fn set_indexes(&self, declared: Vec<IndexedField>) -> Answer<()>;

    /// Goes on with building and dropping indexes for about so long, one document at least.
    fn index_step(&self, budget: Duration) -> Answer<IndexStep>;

    /// Deletes payloads, events and ended jobs older than the times given, answers, tombstones, documents and usage that have run out, at most `limit` rows; how
    /// many it was. `payloads_before` first; the event itself, and with it its delivery id and its calls, goes at `events_before`, as answers do. What is not
    /// at its end stays.
    /// About so long as `budget` it holds up other writes; what is left is for the next call.
    fn retain(
        &self,
        payloads_before: Millis,
        events_before: Millis,
        limit: usize,
        budget: Duration,
    ) -> Answer<u64>;

    /// A handle for document reads; each worker has its own.
    fn reader(&self) -> Result<Box<dyn Reader>, StoreError>;

    /// Commits what waits, writes down that the stop was clean, and closes. Claims whose attempts have not ended are given back: a clean stop uses
    /// none. Later calls answer `Closed`.
    fn close(&self) -> Answer<()>;

    /// What opening found.
    fn opened(&self) -> Opened;
}

/// What opening found: where recovery begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    /// The process before this one did not close the store.
    pub(crate) unclean: bool,
    /// Every event up to here has its jobs.
    pub(crate) low_water: Seq,
    /// The last event that was there.
    pub(crate) last: Seq,
}

/// Document reads. Each read sees everything that was committed before it was asked.
pub(crate) trait Reader {
    /// One document.
    fn get(&self, key: &DocumentKey) -> LocalAnswer<'_, Read>;

    /// What is known of a delivery or request that may have come before.
    fn known(&self, key: &AnswerKey) -> LocalAnswer<'_, Option<Known>>;

    /// What a job's earlier runs have asked of providers.
    fn calls(&self, job: JobKey) -> LocalAnswer<'_, Recalled>;

    /// Documents of a collection, in the order of `find`; with an index or without, the same ones.
    fn find(&self, collection: &str, find: Find) -> LocalAnswer<'_, Vec<Document>>;

    /// Whether an internal event of this key waits and has not started.
    fn waits(&self, webhook: &str, key: &str) -> LocalAnswer<'_, bool>;

    /// How many documents of a collection match.
    fn count(&self, collection: &str, filter: filter::Filter) -> LocalAnswer<'_, u64>;
}
