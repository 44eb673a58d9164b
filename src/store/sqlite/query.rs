//! The reads of inbox and admin, each over one connection and one snapshot. `low_water`: every event up to it has jobs, so that those
//! without are looked for only after it.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use uuid::Uuid;

use super::{attempts, calls, inbox};
use crate::clock::Millis;
use crate::id::EventId;
use crate::store::{
    DueJob, EventDetail, EventSummary, Job, JobKey, JobState, PlannedJob, Seq, StoredEvent,
    Undispatched,
};

/// Events in `after` < seq <= `up_to` that have no jobs and whose turn has come. What has no jobs stands at the place of its seq.
pub(super) fn undispatched(
    connection: &Connection,
    after: i64,
    up_to: i64,
    limit: usize,
) -> rusqlite::Result<Vec<Undispatched>> {
    let mut statement = connection.prepare_cached(
        "SELECT seq, webhook,
                order_key IS NOT NULL AND EXISTS (SELECT 1 FROM lanes l WHERE l.webhook = e.webhook AND l.order_key = e.order_key AND (l.place, l.event) < (seq, seq))
         FROM events e WHERE seq > ?1 AND seq <= ?2 AND NOT EXISTS (SELECT 1 FROM jobs WHERE event = seq)
         AND (order_key IS NULL
              OR (SELECT released FROM lanes l WHERE l.webhook = e.webhook AND l.order_key = e.order_key AND l.place = seq AND l.event = seq))
         ORDER BY seq LIMIT ?3",
    )?;
    let rows = statement.query_map(params![after, up_to, rows(limit)], |row| {
        Ok(Undispatched { event: Seq(row.get(0)?), webhook: row.get(1)?, plan: row.get(2)? })
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
        .prepare_cached(&format!("{} WHERE e.seq = ?1", inbox::SELECT_EVENT))?
        .query_row([seq.0], inbox::event_of)
        .optional()?;
    let Some(event) = event else { return Ok(None) };
    Ok(Some(StoredEvent { seq, event, jobs: jobs(&snapshot, seq.0)? }))
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
    let replay_of: Option<[u8; 16]> = snapshot
        .prepare_cached("SELECT replay_of FROM events WHERE seq = ?1")?
        .query_row([seq], |row| row.get(0))?;
    let replay_of = replay_of.map(|bytes| EventId(Uuid::from_bytes(bytes)));
    let (calls, more_calls) = calls::of_event(&snapshot, seq)?;
    let dropped: u64 = jobs.iter().map(|job| u64::from(job.calls_dropped)).sum();
    Ok(Some(EventDetail {
        summary,
        replay_of,
        payload,
        jobs,
        attempts: attempts::of(&snapshot, seq)?,
        calls,
        calls_left_out: more_calls + dropped,
    }))
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

/// What a list shows of an event, with its jobs.
pub(super) fn summary(
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
                calls: jobs.iter().map(|job| job.calls).fold(0, u32::saturating_add),
                error: jobs.iter().find(|job| job.state == state).and_then(|job| job.error.clone()),
            })
        })
        .optional()?;
    Ok(summary.map(|summary| (summary, jobs)))
}

fn jobs(connection: &Connection, seq: i64) -> rusqlite::Result<Vec<Job>> {
    let mut statement = connection.prepare_cached(
        "SELECT n, script, pattern, state, attempt, due_at, error, dead_job, put_off_since, parked_since, calls, calls_dropped FROM jobs WHERE event = ?1 ORDER BY n",
    )?;
    let rows = statement.query_map([seq], |row| {
        let due_at: Option<i64> = row.get(5)?;
        Ok(Job {
            n: row.get(0)?,
            planned: PlannedJob {
                script: row.get(1)?,
                pattern: row.get(2)?,
                dead_job: row.get(7)?,
            },
            state: row.get(3)?,
            attempt: row.get(4)?,
            // A claimed job, and one that waits for another, wait for no time.
            due_at: due_at.filter(|due_at| *due_at < i64::MAX).map(Millis),
            error: row.get(6)?,
            put_off_since: row.get::<_, Option<i64>>(8)?.map(Millis),
            parked_since: row.get::<_, Option<i64>>(9)?.map(Millis),
            calls: row.get(10)?,
            calls_dropped: row.get(11)?,
        })
    })?;
    rows.collect()
}

pub(super) fn event_id(row: &Row<'_>, column: usize) -> rusqlite::Result<EventId> {
    row.get::<_, [u8; 16]>(column).map(|bytes| EventId(Uuid::from_bytes(bytes)))
}

pub(super) fn rows(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
