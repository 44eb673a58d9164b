//! The reads of inbox and admin, each over one connection and one snapshot. `low_water`: every event up to it has jobs, so that those
//! without are looked for only after it.

use rusqlite::{CachedStatement, Connection, OptionalExtension as _, Row, params};
use uuid::Uuid;

use crate::clock::Millis;
use crate::id::EventId;
use crate::store::{
    Attempt, DueJob, EventDetail, EventQuery, EventSummary, Job, JobKey, JobState, NewEvent,
    PlannedJob, Seq, StoredEvent, Undispatched,
};

/// Events in `after` < seq <= `up_to` that have no jobs.
pub(super) fn undispatched(
    connection: &Connection,
    after: i64,
    up_to: i64,
    limit: usize,
) -> rusqlite::Result<Vec<Undispatched>> {
    let mut statement = connection.prepare_cached(
        "SELECT seq, webhook FROM events WHERE seq > ?1 AND seq <= ?2 AND NOT EXISTS (SELECT 1 FROM jobs WHERE event = seq)
         ORDER BY seq LIMIT ?3",
    )?;
    let rows = statement.query_map(params![after, up_to, rows(limit)], |row| {
        Ok(Undispatched { event: Seq(row.get(0)?), webhook: row.get(1)? })
    })?;
    rows.collect()
}

/// Waiting jobs that are due; claimed ones are due at the end of time, which is never.
pub(super) fn due(
    connection: &Connection,
    now: Millis,
    limit: usize,
) -> rusqlite::Result<Vec<DueJob>> {
    let mut statement = connection.prepare_cached(
        "SELECT j.event, j.n, e.webhook, j.due_at FROM jobs j INDEXED BY jobs_due CROSS JOIN events e ON e.seq = j.event
         WHERE j.due_at <= ?1 AND j.due_at < ?2 ORDER BY j.due_at, j.event, j.n LIMIT ?3",
    )?;
    let rows = statement.query_map(params![now.0, super::ledger::NEVER, rows(limit)], |row| {
        let key = JobKey { event: Seq(row.get(0)?), n: row.get(1)? };
        Ok(DueJob { key, webhook: row.get(2)?, due_at: Millis(row.get(3)?) })
    })?;
    rows.collect()
}

pub(super) fn next_due(connection: &Connection, now: Millis) -> rusqlite::Result<Option<Millis>> {
    let due_at: Option<i64> = connection
        .prepare_cached(
            "SELECT min(due_at) FROM jobs INDEXED BY jobs_due WHERE due_at > ?1 AND due_at < ?2",
        )?
        .query_row([now.0, super::ledger::NEVER], |row| row.get(0))?;
    Ok(due_at.map(Millis))
}

pub(super) fn load(connection: &Connection, seq: Seq) -> rusqlite::Result<Option<StoredEvent>> {
    let snapshot = connection.unchecked_transaction()?;
    let event = snapshot
        .prepare_cached(
            "SELECT e.id, e.webhook, e.delivery_id, e.kind, e.received_at, p.request, p.body
             FROM events e JOIN payloads p USING (seq) WHERE e.seq = ?1",
        )?
        .query_row([seq.0], |row| {
            Ok(NewEvent {
                id: event_id(row, 0)?,
                webhook: row.get(1)?,
                delivery_id: row.get(2)?,
                order_key: None,
                kind: row.get(3)?,
                received_at: Millis(row.get(4)?),
                request: row.get(5)?,
                body: row.get::<_, Vec<u8>>(6)?.into(),
            })
        })
        .optional()?;
    let Some(event) = event else { return Ok(None) };
    Ok(Some(StoredEvent { seq, event, jobs: jobs(&snapshot, seq.0)? }))
}

pub(super) fn events(
    connection: &Connection,
    query: &EventQuery,
    low_water: i64,
) -> rusqlite::Result<Vec<EventSummary>> {
    let snapshot = connection.unchecked_transaction()?;
    let before = match query.before {
        Some(id) => first_from(&snapshot, id)?,
        None => i64::MAX,
    };
    let page = Page { before, webhook: query.webhook.as_deref(), limit: rows(query.limit) };
    let mut seqs = match query.state {
        None => page.all(&snapshot)?,
        Some(JobState::Done) => page.done(&snapshot)?,
        Some(JobState::Pending) => {
            let mut seqs = page.at(&snapshot, JobState::Pending)?;
            seqs.extend(page.undispatched(&snapshot, low_water)?);
            seqs
        }
        Some(state) => page.at(&snapshot, state)?,
    };
    seqs.sort_unstable_by(|left, right| right.cmp(left));
    seqs.truncate(query.limit);
    seqs.into_iter()
        .filter_map(|seq| summary(&snapshot, seq).transpose())
        .map(|found| found.map(|(summary, _)| summary))
        .collect()
}

pub(super) fn event(connection: &Connection, id: EventId) -> rusqlite::Result<Option<EventDetail>> {
    let snapshot = connection.unchecked_transaction()?;
    let seq: Option<i64> = snapshot
        .prepare_cached("SELECT seq FROM events WHERE id = ?1")?
        .query_row([id.0.as_bytes()], |row| row.get(0))
        .optional()?;
    let Some((summary, jobs)) = seq.map(|seq| summary(&snapshot, seq)).transpose()?.flatten()
    else {
        return Ok(None);
    };
    let seq = summary.seq.0;
    let payload = snapshot
        .prepare_cached("SELECT request, body FROM payloads WHERE seq = ?1")?
        .query_row([seq], |row| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?.into())))
        .optional()?;
    Ok(Some(EventDetail { summary, payload, jobs, attempts: attempts(&snapshot, seq)? }))
}

/// Events with a dead job, by the index alone.
pub(super) fn dead(connection: &Connection) -> rusqlite::Result<u64> {
    let count: i64 = connection
        .prepare_cached(
            "SELECT count(DISTINCT event) FROM jobs INDEXED BY jobs_by_state WHERE state <> 5 AND state = 0",
        )?
        .query_row([], |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// What every list has: a place to begin, perhaps a webhook, an end.
struct Page<'a> {
    before: i64,
    webhook: Option<&'a str>,
    limit: i64,
}

impl Page<'_> {
    fn all(&self, connection: &Connection) -> rusqlite::Result<Vec<i64>> {
        let statement = connection.prepare_cached(
            "SELECT seq FROM events WHERE seq < ?1 AND (?2 IS NULL OR webhook = ?2) ORDER BY seq DESC LIMIT ?3",
        )?;
        seqs(statement, params![self.before, self.webhook, self.limit])
    }

    /// Done is what most events are: the newest are found soon.
    fn done(&self, connection: &Connection) -> rusqlite::Result<Vec<i64>> {
        let statement = connection.prepare_cached(
            "SELECT seq FROM events WHERE seq < ?1 AND (?2 IS NULL OR webhook = ?2)
             AND (SELECT min(state) FROM jobs WHERE event = seq) = 5 ORDER BY seq DESC LIMIT ?3",
        )?;
        seqs(statement, params![self.before, self.webhook, self.limit])
    }

    /// The other states are in an index.
    fn at(&self, connection: &Connection, state: JobState) -> rusqlite::Result<Vec<i64>> {
        let statement = connection.prepare_cached(
            "SELECT j.event FROM jobs j INDEXED BY jobs_by_state CROSS JOIN events e ON e.seq = j.event
             WHERE j.state <> 5 AND j.state = ?4 AND j.event < ?1 AND (?2 IS NULL OR e.webhook = ?2)
             AND NOT EXISTS (SELECT 1 FROM jobs worse WHERE worse.event = j.event AND worse.state < ?4)
             GROUP BY j.event ORDER BY j.event DESC LIMIT ?3",
        )?;
        seqs(statement, params![self.before, self.webhook, self.limit, state])
    }

    fn undispatched(&self, connection: &Connection, low_water: i64) -> rusqlite::Result<Vec<i64>> {
        let statement = connection.prepare_cached(
            "SELECT seq FROM events WHERE seq > ?4 AND seq < ?1 AND (?2 IS NULL OR webhook = ?2)
             AND NOT EXISTS (SELECT 1 FROM jobs WHERE event = seq) ORDER BY seq DESC LIMIT ?3",
        )?;
        seqs(statement, params![self.before, self.webhook, self.limit, low_water])
    }
}

fn seqs(
    mut statement: CachedStatement<'_>,
    values: impl rusqlite::Params,
) -> rusqlite::Result<Vec<i64>> {
    statement.query_map(values, |row| row.get(0))?.collect()
}

/// The first event from this id on. Retention may have taken the event itself; ids are made in the order of acceptance, nearly.
fn first_from(connection: &Connection, id: EventId) -> rusqlite::Result<i64> {
    let seq = connection
        .prepare_cached("SELECT seq FROM events WHERE id >= ?1 ORDER BY id LIMIT 1")?
        .query_row([id.0.as_bytes()], |row| row.get(0))
        .optional()?;
    Ok(seq.unwrap_or(i64::MAX))
}

fn summary(
    connection: &Connection,
    seq: i64,
) -> rusqlite::Result<Option<(EventSummary, Vec<Job>)>> {
    let jobs = jobs(connection, seq)?;
    let state = JobState::worst(jobs.iter().map(|job| job.state));
    let summary = connection
        .prepare_cached(
            "SELECT id, webhook, delivery_id, kind, received_at FROM events WHERE seq = ?1",
        )?
        .query_row([seq], |row| {
            Ok(EventSummary {
                seq: Seq(seq),
                id: event_id(row, 0)?,
                webhook: row.get(1)?,
                delivery_id: row.get(2)?,
                kind: row.get(3)?,
                state,
                received_at: Millis(row.get(4)?),
                attempts: jobs.iter().map(|job| job.attempt).sum(),
                error: jobs.iter().find(|job| job.state == state).and_then(|job| job.error.clone()),
            })
        })
        .optional()?;
    Ok(summary.map(|summary| (summary, jobs)))
}

fn jobs(connection: &Connection, seq: i64) -> rusqlite::Result<Vec<Job>> {
    let mut statement = connection.prepare_cached(
        "SELECT n, script, pattern, state, attempt, due_at, error FROM jobs WHERE event = ?1 ORDER BY n",
    )?;
    let rows = statement.query_map([seq], |row| {
        let due_at: Option<i64> = row.get(5)?;
        Ok(Job {
            n: row.get(0)?,
            planned: PlannedJob { script: row.get(1)?, pattern: row.get(2)? },
            state: row.get(3)?,
            attempt: row.get(4)?,
            // A claimed job waits for no time.
            due_at: due_at.filter(|due_at| *due_at < i64::MAX).map(Millis),
            error: row.get(6)?,
        })
    })?;
    rows.collect()
}

fn attempts(connection: &Connection, seq: i64) -> rusqlite::Result<Vec<Attempt>> {
    let mut statement = connection.prepare_cached(
        "SELECT n, attempt, started_at, ended_at, generation, error FROM attempts WHERE event = ?1 ORDER BY row",
    )?;
    let rows = statement.query_map([seq], |row| {
        Ok(Attempt {
            job: row.get(0)?,
            attempt: row.get(1)?,
            started_at: Millis(row.get(2)?),
            ended_at: Millis(row.get(3)?),
            generation: u64::try_from(row.get::<_, i64>(4)?).unwrap_or(0),
            error: row.get(5)?,
        })
    })?;
    rows.collect()
}

fn event_id(row: &Row<'_>, column: usize) -> rusqlite::Result<EventId> {
    row.get::<_, [u8; 16]>(column).map(|bytes| EventId(Uuid::from_bytes(bytes)))
}

fn rows(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
