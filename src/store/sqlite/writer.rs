//! The one thread that writes. It takes everything that waits, up to a bound, runs it in one transaction, commits, and only then answers each.
//! When a statement or the commit fails, all of the batch are refused and the connection is opened anew; nothing is tried twice as if the
//! first time had not been.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, ffi};
use tokio::sync::{mpsc, oneshot};

use super::Shared;
use super::connect::{self, Identity};
use super::ledger::{self, Ledger};
use super::retention::{self, Cursors};
use super::{answers, calls, emits, inbox, indexes, replay, timers, usage};
use crate::clock::{self, Millis};
use crate::failpoint::{self, Phase, Point, Step};
use crate::id::EventId;
use crate::store::{
    Accepted, Answered, Answering, Committed, Effects, Finish, Fired, Firing, IndexStep,
    IndexedField, JobKey, NewEvent, Noted, PlannedJob, Replayed, Seq, StoreError, Turn, Usage,
};

/// Commands in one transaction. More would gain little and make the first wait for the last.
const BATCH: usize = 256;
/// Commands that wait, at most; above it those who ask wait for a place.
pub(super) const QUEUE: usize = 4096;
/// How long a batch waits for a lock of another process.
const PATIENCE: Duration = Duration::from_secs(2);
/// After a failure others waited already, and the database is asked no more often than this.
const REST: Duration = Duration::from_millis(100);

/// One thing to write, with the place of its answer.
pub(super) enum Command {
    Accept(NewEvent, Slot<Accepted>),
    Finish(Finish, Slot<Committed>),
    Commit(Effects, Slot<Committed>),
    Answer(Box<Answering>, Slot<Answered>),
    Claim(Claim, Slot<Committed>),
    Note(Box<Noted>, Slot<Committed>),
    Use(Vec<Usage>, Slot<()>),
    Plan(Seq, Arc<[PlannedJob]>, Slot<Committed>),
    Promote(Promote, Slot<Vec<Turn>>),
    Fire(Firing, Slot<Fired>),
    ForgetTimer(Box<str>, Slot<()>),
    Replay(Replay, Slot<Replayed>),
    Retain(Retain, Slot<u64>),
    Wake(Wake, Slot<u64>),
    SetIndexes(Vec<IndexedField>, Slot<()>),
    IndexStep(Duration, Slot<IndexStep>),
    Ping(Slot<()>),
    Close(Slot<()>),
}

pub(super) struct Claim {
    pub(super) job: JobKey,
    pub(super) plan: Option<Arc<[PlannedJob]>>,
    pub(super) attempt: u32,
}

pub(super) struct Wake {
    pub(super) script: Box<str>,
    pub(super) failed_too: bool,
    pub(super) now: Millis,
    pub(super) limit: i64,
}

#[derive(Clone, Copy)]
pub(super) struct Promote {
    pub(super) now: Millis,
    pub(super) limit: i64,
}

#[derive(Clone, Copy)]
pub(super) struct Replay {
    pub(super) event: EventId,
    pub(super) copy: EventId,
    pub(super) now: Millis,
}

#[derive(Clone, Copy)]
pub(super) struct Retain {
    pub(super) payloads_before: Millis,
    pub(super) events_before: Millis,
    pub(super) limit: i64,
    pub(super) budget: Duration,
}

/// An answer that waits for the commit.
pub(super) struct Slot<T> {
    reply: oneshot::Sender<Result<T, StoreError>>,
    outcome: Option<Result<T, StoreError>>,
}

impl<T> Slot<T> {
    pub(super) fn new() -> (Self, oneshot::Receiver<Result<T, StoreError>>) {
        let (reply, answer) = oneshot::channel();
        (Self { reply, outcome: None }, answer)
    }

    fn set(&mut self, outcome: Result<T, StoreError>) {
        self.outcome = Some(outcome);
    }

    /// Says how it came out, or that the whole batch failed.
    fn answer(self, failed: Option<&StoreError>) {
        let outcome = match failed {
            Some(error) => Err(error.clone()),
            None => self.outcome.unwrap_or(Err(StoreError::Closed)),
        };
        // Whoever asked may be gone; what is committed stays.
        let _: Result<(), _> = self.reply.send(outcome);
    }
}

impl Command {
    fn answer(self, failed: Option<&StoreError>) {
        match self {
            Self::Accept(_, slot) => slot.answer(failed),
            Self::Finish(_, slot)
            | Self::Commit(_, slot)
            | Self::Claim(_, slot)
            | Self::Note(_, slot)
            | Self::Plan(_, _, slot) => slot.answer(failed),
            Self::Promote(_, slot) => slot.answer(failed),
            Self::Fire(_, slot) => slot.answer(failed),
            Self::Replay(_, slot) => slot.answer(failed),
            Self::ForgetTimer(_, slot) => slot.answer(failed),
            Self::Answer(_, slot) => slot.answer(failed),
            Self::Retain(_, slot) | Self::Wake(_, slot) => slot.answer(failed),
            Self::IndexStep(_, slot) => slot.answer(failed),
            Self::SetIndexes(_, slot)
            | Self::Use(_, slot)
            | Self::Ping(slot)
            | Self::Close(slot) => {
                slot.answer(failed);
            }
        }
    }
}

impl Command {
    /// What it is to tests that end the process or fail the batch at it.
    fn step(&self) -> Option<Step> {
        Some(match self {
            Self::Accept(..) => Step::Accept,
            Self::Claim(..) => Step::Claim,
            Self::Note(..) => Step::Note,
            Self::Use(..) => Step::Use,
            Self::Finish(..) => Step::Finish,
            Self::Commit(..) => Step::Route,
            Self::Answer(..) => Step::Answer,
            Self::Plan(..) => Step::Plan,
            Self::Promote(..) => Step::Promote,
            Self::Fire(..) => Step::Fire,
            Self::ForgetTimer(..) => Step::Forget,
            Self::Replay(..) => Step::Replay,
            Self::Wake(..) => Step::Wake,
            Self::Retain(..) => Step::Retain,
            Self::SetIndexes(..) => Step::Declare,
            Self::IndexStep(..) => Step::Index,
            Self::Ping(_) | Self::Close(_) => return None,
        })
    }
}

/// The failpoint of each command at this phase; an error of one is as good as one of the disk.
fn pass(batch: &[Command], phase: Phase) -> rusqlite::Result<()> {
    let mut steps = batch.iter().filter_map(Command::step);
    if steps.any(|step| failpoint::fails(Point::Writer(step, phase))) {
        let error = ffi::Error::new(ffi::SQLITE_IOERR);
        return Err(rusqlite::Error::SqliteFailure(error, Some("a failpoint".to_owned())));
    }
    Ok(())
}

/// Why a batch is not committed; the text goes to log and monitor.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("`{0}` was deleted or replaced while the database was open; put it back or restart")]
    Gone(Box<str>),
    #[error("another process keeps it locked")]
    Busy,
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

/// The writer's state.
pub(super) struct Writer {
    shared: Arc<Shared>,
    /// `None` after a failure, until the next batch.
    connection: Option<Connection>,
    /// Never used: while it is open, WAL and index keep their files however often the other is opened anew.
    _anchor: Connection,
    /// What the paths led to at opening.
    identity: Identity,
    ledger: Ledger,
    cursors: Cursors,
    trouble: Option<Trouble>,
    /// Given back after the connections: fields are dropped in their order.
    _lock: File,
}

/// The failures since the last commit.
struct Trouble {
    error: StoreError,
    since: Instant,
    repeated: bool,
    rescued: bool,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        connection: Connection,
        anchor: Connection,
        ledger: Ledger,
        lock: File,
    ) -> Self {
        let identity = Identity::of(&shared.paths);
        let writer = Self {
            shared,
            connection: Some(connection),
            _anchor: anchor,
            identity,
            ledger,
            cursors: Cursors::default(),
            trouble: None,
            _lock: lock,
        };
        writer.publish();
        writer
    }

    /// Until it is closed, or nobody can ask any more.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        let mut batch = Vec::with_capacity(BATCH);
        while queue.blocking_recv_many(&mut batch, BATCH) > 0 {
            let close = batch.iter().position(|command| matches!(command, Command::Close(_)));
            let mut after = close.map(|at| batch.split_off(at)).unwrap_or_default();
            if !batch.is_empty() {
                let failed = self.write(&mut batch).err();
                batch.drain(..).for_each(|command| command.answer(failed.as_ref()));
            }
            if let Some(Command::Close(mut slot)) = after.drain(..).next() {
                // What came after it is dropped with the queue, and so answered `Closed`.
                drop(queue);
                slot.set(self.close());
                return slot.answer(None);
            }
        }
    }

    /// One transaction for all of them; an error means that none of it is there.
    fn write(&mut self, batch: &mut [Command]) -> Result<(), StoreError> {
        if let Some(trouble) = &self.trouble
            && trouble.repeated
            && clock::instant() - trouble.since < REST
        {
            return Err(trouble.error.clone());
        }
        let Err(failure) = self.try_write(batch) else {
            self.trouble = None;
            return Ok(());
        };
        let error = StoreError::Unavailable(failure.to_string().into());
        let mut rescued = self.trouble.as_ref().is_some_and(|trouble| trouble.rescued);
        match failure {
            Failure::Busy => {}
            Failure::Gone(_) if rescued => {}
            Failure::Gone(_) => {
                self.rescue();
                rescued = true;
            }
            // It rolls back what is open, and forgets what it believed of the file.
            Failure::Sqlite(_) => self.connection = None,
        }
        self.trouble = Some(Trouble {
            error: error.clone(),
            since: clock::instant(),
            repeated: self.trouble.is_some(),
            rescued,
        });
        Err(error)
    }

    fn try_write(&mut self, batch: &mut [Command]) -> Result<(), Failure> {
        self.check_identity()?;
        self.ledger.max_pending = self.shared.max_pending.load(Ordering::Relaxed);
        let connection = connected(&mut self.connection, &mut self.ledger, &self.shared)?;
        let patience = if self.trouble.is_some() { REST } else { PATIENCE };
        pass(batch, Phase::Begun)?;
        begin(connection, self.shared.probe.patience(patience))?;
        run_all(connection, &mut self.ledger, &mut self.cursors, batch)?;
        pass(batch, Phase::Written)?;
        self.shared.probe.before_commit(connection)?;
        connection.prepare_cached("COMMIT")?.execute([])?;
        self.ledger.settle();
        self.publish();
        pass(batch, Phase::Committed)?;
        // The commit went to the files that are open; it counts only if these are still the ones that the next start will find.
        self.check_identity()
    }

    fn check_identity(&self) -> Result<(), Failure> {
        let now = Identity::of(&self.shared.paths);
        if now == self.identity {
            return Ok(());
        }
        let path = self.shared.paths.first_difference(&self.identity, &now);
        Err(Failure::Gone(path.display().to_string().into()))
    }

    /// The WAL's name is gone and its file is still open: what was answered before is written back into the database, so that the next
    /// start finds it.
    fn rescue(&self) {
        if let Some(connection) = &self.connection
            && Identity::of(&self.shared.paths).same_database(&self.identity)
        {
            // Nothing better can be done where this fails, and the batch is refused in any case.
            let _: rusqlite::Result<()> = connection.execute_batch("PRAGMA wal_checkpoint(FULL)");
        }
    }

    /// What other threads may know.
    fn publish(&self) {
        self.shared.low_water.store(self.ledger.low_water(), Ordering::Relaxed);
        self.shared.pending.store(self.ledger.pending, Ordering::Relaxed);
        self.shared.scheduled.store(self.ledger.scheduled, Ordering::Relaxed);
    }

    /// The last thing that it does; connection and lock are given back with it, in this order.
    fn close(mut self) -> Result<(), StoreError> {
        self.try_close().map_err(|failure| StoreError::Unavailable(failure.to_string().into()))
    }

    fn try_close(&mut self) -> Result<(), Failure> {
        self.check_identity()?;
        let connection = connected(&mut self.connection, &mut self.ledger, &self.shared)?;
        self.ledger.close(connection)?;
        // It moves what it can; a reader at work keeps the rest in the WAL, which the next opening reads.
        Ok(connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?)
    }
}

/// The connection; after a failure a new one, and what is known is read again from it.
fn connected<'a>(
    kept: &'a mut Option<Connection>,
    ledger: &mut Ledger,
    shared: &Shared,
) -> rusqlite::Result<&'a Connection> {
    let connection = match kept.take() {
        Some(connection) => connection,
        None => {
            let connection = connect::writer(shared.paths.database())?;
            ledger.load(&connection)?;
            connection
        }
    };
    Ok(kept.insert(connection))
}

/// Asks for the write lock until patience ends.
fn begin(connection: &Connection, patience: Duration) -> Result<(), Failure> {
    let since = clock::instant();
    loop {
        match connection.prepare_cached("BEGIN IMMEDIATE")?.execute([]) {
            Ok(_) => return Ok(()),
            Err(error) if is_busy(&error) => {
                if clock::instant() - since >= patience {
                    return Err(Failure::Busy);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

fn run_all(
    connection: &Connection,
    ledger: &mut Ledger,
    cursors: &mut Cursors,
    batch: &mut [Command],
) -> rusqlite::Result<()> {
    for command in batch {
        match command {
            Command::Accept(event, slot) => slot.set(inbox::accept(connection, ledger, event)?),
            Command::Finish(finish, slot) => {
                slot.set(inbox::finish(connection, ledger, finish)?);
            }
            Command::Commit(effects, slot) => {
                slot.set(inbox::commit(connection, ledger, effects)?);
            }
            Command::Answer(answering, slot) => {
                slot.set(answers::answer(connection, ledger, answering)?);
            }
            Command::Claim(claim, slot) => {
                let plan = claim.plan.as_deref();
                slot.set(Ok(inbox::claim(connection, ledger, claim.job, plan, claim.attempt)?));
            }
            Command::Note(noted, slot) => slot.set(Ok(calls::note(connection, ledger, noted)?)),
            Command::Use(used, slot) => slot.set(Ok(usage::add(connection, used)?)),
            Command::Plan(event, plan, slot) => {
                slot.set(Ok(inbox::plan(connection, ledger, *event, plan)?));
            }
            Command::Promote(Promote { now, limit }, slot) => {
                slot.set(Ok(emits::promote(connection, ledger, *now, *limit)?));
            }
            Command::Fire(firing, slot) => {
                slot.set(Ok(timers::fire(connection, ledger, firing)?));
            }
            Command::ForgetTimer(timer, slot) => slot.set(Ok(timers::forget(connection, timer)?)),
            Command::Replay(Replay { event, copy, now }, slot) => {
                slot.set(replay::replay(connection, ledger, *event, *copy, *now)?);
            }
            Command::Retain(retain, slot) => {
                let Retain { payloads_before, events_before, limit, budget } = *retain;
                let ends = clock::instant() + budget;
                let step = retention::Step { payloads_before, events_before, limit, ends };
                let rows = retention::retain(connection, ledger, cursors, step)?;
                slot.set(Ok(u64::try_from(rows).unwrap_or(0)));
            }
            Command::Wake(wake, slot) => {
                slot.set(Ok(inbox::wake(connection, wake)?));
            }
            Command::SetIndexes(declared, slot) => {
                ledger.indexes = indexes::set(connection, declared)?;
                slot.set(Ok(()));
            }
            Command::IndexStep(budget, slot) => {
                slot.set(Ok(indexes::step(connection, &mut ledger.indexes, *budget)?));
            }
            Command::Ping(slot) => {
                ledger::set_meta(connection, "ping", clock::now().0)?;
                slot.set(Ok(()));
            }
            // `run` takes it out before.
            Command::Close(slot) => slot.set(Err(StoreError::Closed)),
        }
    }
    ledger.mark(connection)
}
