//! Events and jobs in the writer's transaction. The common path is short: accepting is two inserts, the first end of an attempt is the
//! insert of its job in its last state; whether an event has jobs is known from memory.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::documents;
use super::ledger::{self, Ledger};
use super::writer::Wake;
use crate::clock;
use crate::store::{
    Accepted, Committed, Effects, Finish, JobKey, JobState, NewEvent, Outcome, PlannedJob, Seq,
    StoreError,
};

/// Takes an event, or says that it is known.
pub(super) fn accept(
    connection: &Connection,
    ledger: &mut Ledger,
    event: &NewEvent,
) -> rusqlite::Result<Result<Accepted, StoreError>> {
    if ledger.pending >= ledger.max_pending {
        let known = accept_again(connection, ledger, event)?;
        return Ok(known.ok_or(StoreError::Full { max_pending: ledger.max_pending }));
    }
    let seq = ledger.last + 1;
    if !insert(connection, seq, event)? {
        let known = accept_again(connection, ledger, event)?;
        return known.map(Ok).ok_or(rusqlite::Error::QueryReturnedNoRows);
    }
    ledger.last = seq;
    ledger.pending += 1;
    Ok(Ok(Accepted::New(Seq(seq))))
}

/// Stores an event with its payload. False: its id or its delivery id is there.
pub(super) fn insert(
    connection: &Connection,
    seq: i64,
    event: &NewEvent,
) -> rusqlite::Result<bool> {
    let inserted = connection
        .prepare_cached(
            "INSERT INTO events (seq, id, webhook, delivery_id, kind, received_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            seq,
            event.id.0.as_bytes(),
            &*event.webhook,
            event.delivery_id.as_deref(),
            &*event.kind,
            event.received_at.0,
        ])?;
    if inserted == 1 {
        store_payload(connection, seq, event)?;
    }
    Ok(inserted == 1)
}

fn store_payload(connection: &Connection, seq: i64, event: &NewEvent) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO payloads (seq, request, body) VALUES (?1, ?2, ?3)")?
        .execute(params![seq, &*event.request, &*event.body])?;
    Ok(())
}

/// The same delivery, or the same event handed in twice; `None`: it is new.
fn accept_again(
    connection: &Connection,
    ledger: &mut Ledger,
    event: &NewEvent,
) -> rusqlite::Result<Option<Accepted>> {
    let mut statement = connection.prepare_cached(
        "SELECT e.seq, p.body IS NULL OR p.body = ?4, p.body IS NULL FROM events e LEFT JOIN payloads p ON p.seq = e.seq
         WHERE e.seq = (SELECT seq FROM events WHERE webhook = ?1 AND delivery_id = ?2
                        UNION ALL SELECT seq FROM events WHERE id = ?3 LIMIT 1)",
    )?;
    let id = event.id.0.as_bytes();
    let key = params![&*event.webhook, event.delivery_id.as_deref(), id, &*event.body];
    let known = statement
        .query_row(key, |row| Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((seq, same_body, payload_gone)) = known else { return Ok(None) };
    let waited = waits(connection, seq)?;
    let revived = connection
        .prepare_cached(
            "UPDATE jobs SET state = ?2, attempt = 0, due_at = ?3, error = NULL WHERE event = ?1 AND state = ?4",
        )?
        .execute(params![seq, JobState::Pending, clock::now().0, JobState::Dead])?;
    if revived == 0 {
        return Ok(Some(Accepted::Duplicate { event: Seq(seq), same_body }));
    }
    if payload_gone {
        // Retention took it; without one the fresh attempts would have nothing to run on.
        store_payload(connection, seq, event)?;
    }
    ledger.pending += u64::from(!waited);
    Ok(Some(Accepted::Revived(Seq(seq))))
}

/// Ends an attempt, and commits its effects with that.
pub(super) fn finish(
    connection: &Connection,
    ledger: &mut Ledger,
    finish: &Finish,
) -> rusqlite::Result<Committed> {
    let Some(place) = place(connection, ledger, finish.job, finish.plan.as_deref())? else {
        return Ok(Committed::Stale);
    };
    if let Outcome::Done(effects) = &finish.outcome {
        let Some(changes) = documents::evaluate(connection, effects, clock::now())? else {
            return Ok(Committed::Conflict);
        };
        documents::write(connection, ledger, &changes)?;
    }
    let end = End::of(finish);
    put_job(connection, ledger, finish.job, place, &end, finish.ended_at.0)?;
    if let Outcome::Resolved { jobs, due_at } = &finish.outcome {
        resolve(connection, finish.job, jobs, due_at.0)?;
    }
    if end.is_kept {
        connection
            .prepare_cached(
                "INSERT INTO attempts (event, n, attempt, started_at, ended_at, generation, error) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                finish.job.event.0,
                finish.job.n,
                finish.attempt,
                finish.started_at.0,
                finish.ended_at.0,
                i64::try_from(finish.generation).unwrap_or(i64::MAX),
                end.error,
            ])?;
    }
    Ok(Committed::Yes)
}

/// Gives a placeholder its pattern, and adds the jobs beside it.
fn resolve(
    connection: &Connection,
    job: JobKey,
    jobs: &[PlannedJob],
    due_at: i64,
) -> rusqlite::Result<()> {
    let Some((first, others)) = jobs.split_first() else { return Ok(()) };
    connection
        .prepare_cached("UPDATE jobs SET pattern = ?3 WHERE event = ?1 AND n = ?2")?
        .execute(params![job.event.0, job.n, first.pattern.as_deref()])?;
    let mut insert = connection.prepare_cached(
        "INSERT INTO jobs (event, n, state, attempt, due_at, script, pattern)
         SELECT ?1, 1 + max(n), ?2, 0, ?3, ?4, ?5 FROM jobs WHERE event = ?1",
    )?;
    for other in others {
        insert.execute(params![
            job.event.0,
            JobState::Pending,
            due_at,
            &*other.script,
            other.pattern.as_deref()
        ])?;
    }
    Ok(())
}

/// Makes the jobs of a script due that came back without an attempt, and with `failed_too` those that wait for their next one. A claimed
/// job runs; it is not touched.
pub(super) fn wake(connection: &Connection, wake: &Wake) -> rusqlite::Result<u64> {
    let Wake { script, failed_too, now, limit } = wake;
    let woken = connection
        .prepare_cached(
            "UPDATE jobs SET due_at = ?2 WHERE (event, n) IN (
               SELECT event, n FROM jobs INDEXED BY jobs_due WHERE script = ?1 AND due_at > ?2 AND (state = ?3 OR (?5 AND state = ?4)) LIMIT ?6)",
        )?
        .execute(params![script, now.0, JobState::Pending, JobState::Retrying, failed_too, limit])?;
    Ok(woken as u64)
}

/// Uses an attempt before it runs. A claimed job is due at no time until the next opening.
pub(super) fn claim(
    connection: &Connection,
    ledger: &mut Ledger,
    job: JobKey,
    plan: Option<&[PlannedJob]>,
    attempt: u32,
) -> rusqlite::Result<Committed> {
    let Some(place) = place(connection, ledger, job, plan)? else {
        return Ok(Committed::Stale);
    };
    let state = JobState::Running;
    let end = End { state, attempt, due_at: Some(ledger::NEVER), error: None, is_kept: false };
    put_job(connection, ledger, job, place, &end, clock::now().0)?;
    Ok(Committed::Yes)
}

/// Commits what a run wants that is no job.
pub(super) fn commit(
    connection: &Connection,
    ledger: &mut Ledger,
    effects: &Effects,
) -> rusqlite::Result<Committed> {
    let Some(changes) = documents::evaluate(connection, effects, clock::now())? else {
        return Ok(Committed::Conflict);
    };
    documents::write(connection, ledger, &changes)?;
    Ok(Committed::Yes)
}

/// Where a job is, when it may still end.
#[derive(Clone, Copy)]
enum Place<'a> {
    /// Its event has no jobs: these are to be made.
    Planned(&'a [PlannedJob]),
    /// In the table, and not at its end.
    Stored,
}

fn place<'a>(
    connection: &Connection,
    ledger: &Ledger,
    job: JobKey,
    plan: Option<&'a [PlannedJob]>,
) -> rusqlite::Result<Option<Place<'a>>> {
    if ledger.is_undispatched(job.event.0) {
        let has_it = |plan: &&[PlannedJob]| (0..plan.len()).contains(&(job.n as usize));
        return Ok(plan.filter(has_it).map(Place::Planned));
    }
    let state: Option<JobState> = connection
        .prepare_cached("SELECT state FROM jobs WHERE event = ?1 AND n = ?2")?
        .query_row(params![job.event.0, job.n], |row| row.get(0))
        .optional()?;
    Ok(state.filter(|state| !state.is_final()).map(|_| Place::Stored))
}

/// What the end of an attempt makes of its job.
struct End<'a> {
    state: JobState,
    attempt: u32,
    due_at: Option<i64>,
    error: Option<&'a str>,
    /// The attempt has its own row.
    is_kept: bool,
}

impl<'a> End<'a> {
    fn of(finish: &'a Finish) -> Self {
        let (state, due_at, error, is_kept) = match &finish.outcome {
            Outcome::Done(_) => (JobState::Done, None, None, finish.attempt > 1),
            Outcome::Ignored(reason) => (JobState::Ignored, None, Some(&**reason), false),
            Outcome::Retry { due_at, error } => {
                (JobState::Retrying, Some(due_at.0), Some(&**error), true)
            }
            Outcome::Returned { due_at, reason } => {
                let state = returned_state(finish.attempt);
                (state, Some(due_at.0), Some(&**reason), false)
            }
            Outcome::Dead(error) => (JobState::Dead, None, Some(&**error), true),
            Outcome::Resolved { due_at, .. } => (JobState::Pending, Some(due_at.0), None, false),
        };
        Self { state, attempt: finish.attempt, due_at, error, is_kept }
    }
}

/// A job that came back without using an attempt is what it was before.
fn returned_state(attempts_used: u32) -> JobState {
    if attempts_used == 0 { JobState::Pending } else { JobState::Retrying }
}

fn put_job(
    connection: &Connection,
    ledger: &mut Ledger,
    job: JobKey,
    place: Place<'_>,
    end: &End<'_>,
    others_due_at: i64,
) -> rusqlite::Result<()> {
    let event = job.event.0;
    let others_wait = match place {
        Place::Planned(plan) => {
            let mut insert = connection.prepare_cached(
                "INSERT INTO jobs (event, n, state, attempt, due_at, script, pattern, error) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?;
            let other = End {
                state: JobState::Pending,
                attempt: 0,
                due_at: Some(others_due_at),
                error: None,
                is_kept: false,
            };
            for (n, planned) in (0_u32..).zip(plan) {
                let end = if n == job.n { end } else { &other };
                let pattern = planned.pattern.as_deref();
                insert.execute(params![
                    event,
                    n,
                    end.state,
                    end.attempt,
                    end.due_at,
                    &*planned.script,
                    pattern,
                    end.error
                ])?;
            }
            ledger.dispatched(event);
            plan.len() > 1
        }
        Place::Stored => {
            connection
                .prepare_cached(
                    "UPDATE jobs SET state = ?3, attempt = ?4, due_at = ?5, error = ?6 WHERE event = ?1 AND n = ?2",
                )?
                .execute(params![event, job.n, end.state, end.attempt, end.due_at, end.error])?;
            end.state.is_final() && waits(connection, event)?
        }
    };
    if end.state.is_final() && !others_wait {
        ledger.pending = ledger.pending.saturating_sub(1);
    }
    Ok(())
}

/// Whether a job of the event waits or runs.
fn waits(connection: &Connection, event: i64) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM jobs WHERE event = ?1 AND state BETWEEN 1 AND 4)",
        )?
        .query_row([event], |row| row.get(0))
}
