//! The embedded store: one SQLite file in WAL mode, one thread that writes (`writer`), readers beside it (`read`). Keeps the promises of
//! `store/mod.rs` on one machine and in one process, which a lock file makes sure of. rusqlite is named only in this folder.

use std::future::ready;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::oneshot;

use self::connect::Paths;
use self::ledger::Ledger;
use self::probe::Probe;
use self::read::{Pool, SqliteReader};
use self::scans::Scans;
use self::writer::{Claim, Command, Promote, Replay, Retain, Slot, Wake, Writer};
use super::{
    Accepted, Answer, Answered, Answering, Committed, Counts, DueJob, Effects, EventDetail,
    EventPage, EventQuery, Finish, Fired, Firing, IndexStep, IndexedField, JobKey, NewEvent, Noted,
    Opened, PlannedJob, Reader, Replayed, Seq, Store, StoreError, StoredEvent, Turn, Undispatched,
    Usage,
};
use crate::clock::Millis;
use crate::id::EventId;

mod open;
mod migrate;
mod connect;
mod writer;
mod ledger;
mod window;
mod inbox;
mod attempts;
mod calls;
mod usage;
mod answers;
mod documents;
mod lanes;
mod emits;
mod timers;
mod replay;
mod indexes;
mod retention;
mod codes;
mod read;
mod search;
mod access;
mod scans;
mod query;
mod list;
mod probe;
#[cfg(test)]
mod tests;

pub(crate) use self::open::OpenError;

/// A ping that takes longer is a no.
const PING: Duration = Duration::from_millis(900);

/// Where the store is and how much it takes.
#[derive(Clone, Debug)]
pub(crate) struct OpenOptions {
    /// The database file; made with its folder where there is none. `-wal`, `-shm` and `.lock` are beside it.
    pub(crate) path: PathBuf,
    /// New events are refused while so many are pending.
    pub(crate) max_pending: u64,
}

/// Opens for writing. Only one process can.
pub(crate) fn open(options: &OpenOptions) -> Result<SqliteStore, OpenError> {
    let path = options.path.as_path();
    let sqlite = |error| OpenError::from_sqlite(path, error);
    let open::Opened { lock, connection } = open::open(path)?;
    let (ledger, opened) = Ledger::open(&connection, options.max_pending).map_err(sqlite)?;
    let anchor = connect::reader(path).map_err(sqlite)?;
    ledger::meta(&anchor, "epoch").map_err(sqlite)?;
    let shared = Arc::new(Shared::new(path, options.max_pending));
    let pool = Pool::start(&shared)?;
    let writer = Writer::new(Arc::clone(&shared), connection, anchor, ledger, lock);
    let (queue, commands) = mpsc::channel(writer::QUEUE);
    thread::Builder::new()
        .name("store-write".into())
        .spawn(move || writer.run(commands))
        .map_err(OpenError::Thread)?;
    Ok(SqliteStore { queue, pool, shared, opened })
}

/// Opens for looking, beside a running process or without one.
pub(crate) fn open_read_only(path: &Path) -> Result<ReadOnly, OpenError> {
    open::open_read_only(path).map(|connection| ReadOnly { connection })
}

/// What a store looks like from outside a process that serves.
pub(crate) struct ReadOnly {
    connection: rusqlite::Connection,
}

impl ReadOnly {
    /// As `Store::events`.
    pub(crate) fn events(&self, query: &EventQuery) -> Result<EventPage, StoreError> {
        self.read(|connection| {
            list::events(connection, query, ledger::meta(connection, "low_water")?)
        })
    }

    /// As `Store::event`.
    pub(crate) fn event(&self, id: EventId) -> Result<Option<EventDetail>, StoreError> {
        self.read(|connection| query::event(connection, id))
    }

    /// How many documents a collection has, counted up to `most`.
    pub(crate) fn documents(&self, collection: &str, most: u64) -> Result<u64, StoreError> {
        self.read(|connection| search::documents(connection, collection, most))
    }

    fn read<T>(
        &self,
        question: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        question(&self.connection)
            .map_err(|error| StoreError::Unavailable(error.to_string().into()))
    }
}

/// The handle that all workers share.
pub(crate) struct SqliteStore {
    queue: mpsc::Sender<Command>,
    pool: Pool,
    shared: Arc<Shared>,
    opened: Opened,
}

/// What the writer tells the others, and they it.
struct Shared {
    paths: Paths,
    low_water: AtomicI64,
    pending: AtomicU64,
    scheduled: AtomicU64,
    /// As it was last set; the writer looks at each batch.
    max_pending: AtomicU64,
    closed: AtomicBool,
    probe: Probe,
    scans: Scans,
}

impl Shared {
    fn new(path: &Path, max_pending: u64) -> Self {
        Self {
            paths: Paths::of(path),
            low_water: AtomicI64::new(0),
            pending: AtomicU64::new(0),
            scheduled: AtomicU64::new(0),
            max_pending: AtomicU64::new(max_pending),
            closed: AtomicBool::new(false),
            probe: Probe::default(),
            scans: Scans::default(),
        }
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

impl SqliteStore {
    fn ask<T: Send + 'static>(&self, command: impl FnOnce(Slot<T>) -> Command) -> Answer<T> {
        if self.shared.is_closed() {
            return Box::pin(ready(Err(StoreError::Closed)));
        }
        let (slot, answer) = Slot::new();
        send(&self.queue, command(slot), answer)
    }

    fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Answer<T> {
        self.pool.ask(question)
    }
}

impl SqliteStore {
    /// Waits until nothing can be written any more: it was closed, or its writing thread has ended by a fault.
    pub(crate) async fn ended(&self) {
        self.queue.closed().await;
    }
}

impl Store for SqliteStore {
    fn accept(&self, event: NewEvent) -> Answer<Accepted> {
        self.ask(|slot| Command::Accept(event, slot))
    }

    fn set_max_pending(&self, max_pending: u64) {
        self.shared.max_pending.store(max_pending, Ordering::Relaxed);
    }

    fn finish(&self, finish: Finish) -> Answer<Committed> {
        self.ask(|slot| Command::Finish(finish, slot))
    }

    fn commit(&self, effects: Effects) -> Answer<Committed> {
        self.ask(|slot| Command::Commit(effects, slot))
    }

    fn answer(&self, answering: Answering) -> Answer<Answered> {
        self.ask(|slot| Command::Answer(Box::new(answering), slot))
    }

    fn claim(
        &self,
        job: JobKey,
        plan: Option<Arc<[PlannedJob]>>,
        attempt: u32,
    ) -> Answer<Committed> {
        self.ask(|slot| Command::Claim(Claim { job, plan, attempt }, slot))
    }

    fn note_call(&self, noted: Noted) -> Answer<Committed> {
        self.ask(|slot| Command::Note(Box::new(noted), slot))
    }

    fn add_usage(&self, used: Vec<Usage>) -> Answer<()> {
        self.ask(|slot| Command::Use(used, slot))
    }

    fn usage(&self, since: Millis) -> Answer<Vec<Usage>> {
        self.read(move |connection| usage::since(connection, since))
    }

    fn plan(&self, event: Seq, plan: Arc<[PlannedJob]>) -> Answer<Committed> {
        self.ask(|slot| Command::Plan(event, plan, slot))
    }

    fn promote(&self, now: Millis, limit: usize) -> Answer<Vec<Turn>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.ask(|slot| Command::Promote(Promote { now, limit }, slot))
    }

    fn next_scheduled(&self) -> Answer<Option<Millis>> {
        self.read(emits::next)
    }

    fn fire(&self, firing: Firing) -> Answer<Fired> {
        self.ask(|slot| Command::Fire(firing, slot))
    }

    fn timers(&self) -> Answer<Vec<(Box<str>, Millis)>> {
        self.read(timers::all)
    }

    fn forget_timer(&self, timer: &str) -> Answer<()> {
        let timer = timer.into();
        self.ask(|slot| Command::ForgetTimer(timer, slot))
    }

    fn replay(&self, event: EventId, copy: EventId, now: Millis) -> Answer<Replayed> {
        self.ask(|slot| Command::Replay(Replay { event, copy, now }, slot))
    }

    fn undispatched(&self, after: Seq, up_to: Seq, limit: usize) -> Answer<Vec<Undispatched>> {
        let after = after.0.max(self.shared.low_water.load(Ordering::Relaxed));
        self.read(move |connection| query::undispatched(connection, after, up_to.0, limit))
    }

    fn due(&self, now: Millis, limit: usize) -> Answer<Vec<DueJob>> {
        self.read(move |connection| query::due(connection, now, limit))
    }

    fn wake(&self, script: &str, failed_too: bool, now: Millis, limit: usize) -> Answer<u64> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let wake = Wake { script: script.into(), failed_too, now, limit };
        self.ask(|slot| Command::Wake(wake, slot))
    }

    fn next_due(&self, now: Millis) -> Answer<Option<Millis>> {
        self.read(move |connection| query::next_due(connection, now))
    }

    fn load(&self, event: Seq) -> Answer<Option<StoredEvent>> {
        self.read(move |connection| query::load(connection, event))
    }

    fn events(&self, query: EventQuery) -> Answer<EventPage> {
        let low_water = self.shared.low_water.load(Ordering::Relaxed);
        self.read(move |connection| list::events(connection, &query, low_water))
    }

    fn event(&self, id: EventId) -> Answer<Option<EventDetail>> {
        self.read(move |connection| query::event(connection, id))
    }

    fn counts(&self) -> Answer<Counts> {
        let shared = Arc::clone(&self.shared);
        self.read(move |connection| {
            let dead = query::dead(connection)?;
            Ok(Counts {
                pending: shared.pending.load(Ordering::Relaxed),
                scheduled: shared.scheduled.load(Ordering::Relaxed),
                dead,
            })
        })
    }

    fn ping(&self) -> Answer<()> {
        let pong = self.ask(Command::Ping);
        Box::pin(async move {
            tokio::time::timeout(PING, pong).await.unwrap_or_else(|_| {
                Err(StoreError::Unavailable("no commit within a second".into()))
            })
        })
    }

    fn retain(
        &self,
        payloads_before: Millis,
        events_before: Millis,
        limit: usize,
        budget: Duration,
    ) -> Answer<u64> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let retain = Retain { payloads_before, events_before, limit, budget };
        self.ask(|slot| Command::Retain(retain, slot))
    }

    fn set_indexes(&self, declared: Vec<IndexedField>) -> Answer<()> {
        self.ask(|slot| Command::SetIndexes(declared, slot))
    }

    fn index_step(&self, budget: Duration) -> Answer<IndexStep> {
        self.ask(|slot| Command::IndexStep(budget, slot))
    }

    fn reader(&self) -> Result<Box<dyn Reader>, StoreError> {
        if self.shared.is_closed() {
            return Err(StoreError::Closed);
        }
        let reader = SqliteReader::open(Arc::clone(&self.shared), self.pool.clone())
            .map_err(|error| StoreError::Unavailable(error.to_string().into()))?;
        Ok(Box::new(reader))
    }

    fn close(&self) -> Answer<()> {
        let answer = self.ask(Command::Close);
        self.shared.closed.store(true, Ordering::Release);
        answer
    }

    fn opened(&self) -> Opened {
        self.opened
    }
}

/// Puts it into the queue at once where there is a place, else as soon as there is one while the answer is awaited. A queue whose
/// reader is gone answers `Closed`.
fn send<C: Send + 'static, T: Send + 'static>(
    queue: &mpsc::Sender<C>,
    command: C,
    answer: oneshot::Receiver<Result<T, StoreError>>,
) -> Answer<T> {
    match queue.try_send(command) {
        Ok(()) => Box::pin(async { answer.await.unwrap_or(Err(StoreError::Closed)) }),
        Err(TrySendError::Closed(_)) => Box::pin(ready(Err(StoreError::Closed))),
        Err(TrySendError::Full(command)) => {
            let queue = queue.clone();
            Box::pin(async move {
                if queue.send(command).await.is_err() {
                    return Err(StoreError::Closed);
                }
                answer.await.unwrap_or(Err(StoreError::Closed))
            })
        }
    }
}
