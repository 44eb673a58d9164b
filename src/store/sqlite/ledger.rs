//! What the writer knows without asking the database: the last seq, how many events are pending, which have jobs, the next version.
//! Changes within a batch count at once for the commands after them; when the batch fails, all is read again.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::indexes::Indexes;
use super::window::Window;
use crate::clock;
use crate::store::{JobState, Opened, Seq};

/// The mark in the database follows the one in memory when it is this far behind: what recovery may have to look at again.
const MARK_EVERY: i64 = 1024;

/// When a claimed job is due: it waits for its end, not for a time. The next opening finds it by its state.
pub(super) const NEVER: i64 = i64::MAX;

/// No wait is so exact that less would matter.
const SET_BACK_MIN_MS: i64 = 1_000;

/// The writer's memory. Everything in it can be read again from the database (`load`).
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) last: i64,
    pub(super) pending: u64,
    /// Emitted for later.
    pub(super) scheduled: u64,
    /// New deliveries are refused while so many events are pending.
    pub(super) max_pending: u64,
    pub(super) indexes: Indexes,
    window: Window,
    /// `low_water` as stored.
    marked: i64,
    /// The last version given: the epoch in the upper half, a counter in the lower. Not read again: none is given twice.
    version: u64,
    /// `epoch` as stored.
    epoch: i64,
}

impl Ledger {
    /// Begins an opening: a new epoch, the mark "unclean", and claims of a process that is gone are due. One transaction.
    pub(super) fn open(
        connection: &Connection,
        max_pending: u64,
    ) -> rusqlite::Result<(Self, Opened)> {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        let unclean = meta(connection, "unclean")? != 0;
        let epoch = meta(connection, "epoch")? + 1;
        set_meta(connection, "epoch", epoch)?;
        set_meta(connection, "unclean", 1)?;
        connection.execute(
            "UPDATE jobs INDEXED BY jobs_by_state SET due_at = ?1 WHERE state <> 5 AND state = 3",
            [clock::steady().0],
        )?;
        follow_the_clock(connection)?;
        connection.execute_batch("COMMIT")?;
        let mut ledger = Self {
            last: 0,
            pending: 0,
            scheduled: 0,
            max_pending,
            indexes: Indexes::default(),
            window: Window::new(0),
            marked: 0,
            version: u64::try_from(epoch).unwrap_or_default() << 32,
            epoch,
        };
        ledger.load(connection)?;
        let opened =
            Opened { unclean, low_water: Seq(ledger.window.low()), last: Seq(ledger.last) };
        Ok((ledger, opened))
    }

    /// Reads everything again. The work is in the events after the stored mark and in the waiting jobs; no payload is read.
    pub(super) fn load(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let (marked, last) = (meta(connection, "low_water")?, meta(connection, "last_seq")?);
        let newest: Option<i64> =
            connection.query_row("SELECT max(seq) FROM events", [], |row| row.get(0))?;
        self.last = last.max(newest.unwrap_or(0));
        self.marked = marked;
        self.epoch = meta(connection, "epoch")?;
        self.window = Window::new(marked);
        self.pending = unfinished(connection)?;
        self.scheduled = u64::try_from(count_scheduled(connection)?).unwrap_or(0);
        self.indexes = Indexes::load(connection)?;
        let mut next = marked + 1;
        let mut statement = connection.prepare(
            "SELECT seq FROM events WHERE seq > ?1 AND NOT EXISTS (SELECT 1 FROM jobs WHERE event = seq) ORDER BY seq",
        )?;
        let mut rows = statement.query([marked])?;
        while let Some(row) = rows.next()? {
            let undispatched: i64 = row.get(0)?;
            // What lies between has jobs, or is deleted, which it can only be with jobs.
            (next..undispatched).for_each(|seq| self.window.set(seq));
            next = undispatched + 1;
            self.pending += 1;
        }
        (next..=self.last).for_each(|seq| self.window.set(seq));
        self.window.advance();
        Ok(())
    }

    pub(super) fn is_full(&self) -> bool {
        self.pending >= self.max_pending
    }

    /// The batch is committed.
    pub(super) fn settle(&mut self) {
        self.window.advance();
    }

    /// Every event up to here has jobs, as committed.
    pub(super) fn low_water(&self) -> i64 {
        self.window.low()
    }

    /// Accepted, and without jobs. Retention leaves such events alone, so it is there.
    pub(super) fn is_undispatched(&self, seq: i64) -> bool {
        (1..=self.last).contains(&seq) && !self.window.has_jobs(seq)
    }

    pub(super) fn dispatched(&mut self, seq: i64) {
        self.window.set(seq);
    }

    /// A version that no document ever had.
    pub(super) fn next_version(&mut self) -> i64 {
        self.version += 1;
        i64::try_from(self.version).unwrap_or(i64::MAX)
    }

    /// The next version is the last of its epoch.
    #[cfg(test)]
    pub(super) fn run_over_soon(&mut self) {
        self.version |= 0xffff_fffe;
    }

    /// Writes down what an opening after a crash must know. The last part of a batch.
    pub(super) fn mark(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if self.window.low() - self.marked >= MARK_EVERY {
            self.marked = self.window.low();
            set_meta(connection, "low_water", self.marked)?;
        }
        // A counter that ran over took the next epoch, which then must not be given out again.
        let epoch = i64::try_from(self.version >> 32).unwrap_or(i64::MAX);
        if epoch != self.epoch {
            self.epoch = epoch;
            set_meta(connection, "epoch", epoch)?;
        }
        Ok(())
    }

    /// Writes down that the stop is clean, and gives back the attempts of claims that have not ended, in one transaction.
    pub(super) fn close(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        connection.execute(
            "UPDATE jobs INDEXED BY jobs_by_state
             SET due_at = ?1, attempt = max(attempt - 1, 0), state = CASE WHEN attempt > 1 THEN ?2 ELSE ?3 END
             WHERE state <> 5 AND state = 3 AND due_at = ?4",
            params![clock::steady().0, JobState::Retrying, JobState::Pending, NEVER],
        )?;
        set_meta(connection, "low_water", self.window.low())?;
        set_meta(connection, "last_seq", self.last)?;
        set_meta(connection, "unclean", 0)?;
        connection.execute_batch("COMMIT")
    }
}

/// Where the clock was set back since the last event, waits are as much shorter: they would begin again otherwise.
fn follow_the_clock(connection: &Connection) -> rusqlite::Result<()> {
    let newest: Option<i64> = connection
        .query_row("SELECT received_at FROM events ORDER BY seq DESC LIMIT 1", [], |row| row.get(0))
        .optional()?;
    let now = clock::steady().0;
    let set_back = newest.unwrap_or(now).saturating_sub(now);
    if set_back > SET_BACK_MIN_MS {
        connection.execute(
            "UPDATE jobs INDEXED BY jobs_due SET due_at = max(due_at - ?1, ?2) WHERE due_at > ?2 AND due_at < ?3",
            params![set_back, now, NEVER],
        )?;
    }
    Ok(())
}

/// Events with a job that waits or runs. Each is counted at the worst state of these (1 to 4), so no set of seqs is held.
pub(super) fn unfinished(connection: &Connection) -> rusqlite::Result<u64> {
    let mut statement = connection.prepare_cached(
        "SELECT count(DISTINCT j.event) FROM jobs j INDEXED BY jobs_by_state WHERE j.state <> 5 AND j.state = ?1
         AND NOT EXISTS (SELECT 1 FROM jobs worse WHERE worse.event = j.event AND worse.state BETWEEN 1 AND ?1 - 1)",
    )?;
    let mut events = 0;
    for state in 1..=4 {
        let count: i64 = statement.query_row([state], |row| row.get(0))?;
        events += u64::try_from(count).unwrap_or(0);
    }
    Ok(events)
}

fn count_scheduled(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT count(*) FROM scheduled", [], |row| row.get(0))
}

pub(super) fn meta(connection: &Connection, key: &str) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
        .query_row([key], |row| row.get(0))
}

pub(super) fn set_meta(connection: &Connection, key: &str, value: i64) -> rusqlite::Result<()> {
    let set = connection
        .prepare_cached("UPDATE meta SET value = ?2 WHERE key = ?1")?
        .execute(rusqlite::params![key, value])?;
    // A row that is missing is a file that somebody changed: an error, not a value lost.
    if set == 1 { Ok(()) } else { Err(rusqlite::Error::QueryReturnedNoRows) }
}
