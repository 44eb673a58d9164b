//! Events and jobs in the writer's transaction. The common path is short: accepting is two inserts, the first end of an attempt is the
//! insert of its job in its last state; whether an event has jobs is known from memory.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use uuid::Uuid;

use super::lanes::{self, Entry, Lane};
use super::ledger::{self, Ledger};
use super::writer::Wake;
use super::{attempts, calls, documents, emits};
use crate::clock::{self, Millis};
use crate::id::EventId;
use crate::store::{
    Accepted, After, Calls, Committed, Effects, Finish, JobKey, JobState, NewEvent, Outcome,
    PlannedJob, Seq, StoreError,
};

/// An event with its payload, for `event_of`.
pub(super) const SELECT_EVENT: &str = "SELECT e.id, e.webhook, e.delivery_id, e.kind, e.received_at, e.order_key, e.replay_of, p.request, p.body
     FROM events e JOIN payloads p USING (seq)";

/// A row of `SELECT_EVENT`.
pub(super) fn event_of(row: &Row<'_>) -> rusqlite::Result<NewEvent> {
    let id = |bytes: [u8; 16]| EventId(Uuid::from_bytes(bytes));
    Ok(NewEvent {
        id: id(row.get(0)?),
        webhook: row.get(1)?,
        delivery_id: row.get(2)?,
        kind: row.get(3)?,
        received_at: Millis(row.get(4)?),
        order_key: row.get(5)?,
        replay_of: row.get::<_, Option<[u8; 16]>>(6)?.map(id),
        request: row.get(7)?,
        body: row.get::<_, Vec<u8>>(8)?.into(),
    })
}

/// Takes an event, or says that it is known. Only what is new needs a place.
pub(super) fn accept(
    connection: &Connection,
    ledger: &mut Ledger,
    event: &NewEvent,
) -> rusqlite::Result<Result<Accepted, StoreError>> {
    if ledger.is_full() {
        let known = accept_again(connection, ledger, event)?;
        return Ok(known.ok_or(StoreError::Full { max_pending: ledger.max_pending }));
    }
    take(connection, ledger, event).map(Ok)
}

/// The same, however many wait.
pub(super) fn take(
    connection: &Connection,
    ledger: &mut Ledger,
    event: &NewEvent,
) -> rusqlite::Result<Accepted> {
    let seq = ledger.last + 1;
    if !insert(connection, seq, event)? {
        let known = accept_again(connection, ledger, event)?;
        return known.ok_or(rusqlite::Error::QueryReturnedNoRows);
    }
    ledger.last = seq;
    ledger.pending += 1;
    let Some(key) = &event.order_key else { return Ok(Accepted::New(Seq(seq))) };
    let entry = lanes::enter(connection, Lane { webhook: &event.webhook, key }, seq, seq)?;
    Ok(match entry {
        Entry::Now => Accepted::New(Seq(seq)),
        Entry::Behind { plan } => Accepted::Behind { event: Seq(seq), plan },
    })
}

/// Stores an event with its payload. False: its id or its delivery id is there.
pub(super) fn insert(
    connection: &Connection,
    seq: i64,
    event: &NewEvent,
) -> rusqlite::Result<bool> {
    let inserted = connection
        .prepare_cached(
            "INSERT INTO events (seq, id, webhook, delivery_id, kind, received_at, order_key, replay_of) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            seq,
            event.id.0.as_bytes(),
            &*event.webhook,
            event.delivery_id.as_deref(),
            &*event.kind,
            event.received_at.0,
            event.order_key.as_deref(),
            event.replay_of.as_ref().map(|id| id.0.as_bytes()),
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
    if !revive(connection, ledger, seq)? {
        return Ok(Some(Accepted::Duplicate { event: Seq(seq), same_body }));
    }
    if payload_gone {
        // Retention took it; without one the fresh attempts would have nothing to run on.
        store_payload(connection, seq, event)?;
    }
    Ok(Some(Accepted::Revived(Seq(seq))))
}

/// Gives the dead jobs of an event fresh attempts, due now; those of an event that is in order, once those before it in line have ended. False where none is dead.
pub(super) fn revive(
    connection: &Connection,
    ledger: &mut Ledger,
    seq: i64,
) -> rusqlite::Result<bool> {
    let waited = waits(connection, seq)?;
    let due_at = clock::steady().0;
    let revived = connection
        .prepare_cached(
            "UPDATE jobs SET state = ?2, attempt = 0, due_at = ?3, error = NULL, put_off_since = NULL, parked_since = NULL
             WHERE event = ?1 AND state = ?4",
        )?
        .execute(params![seq, JobState::Pending, due_at, JobState::Dead])?;
    if revived == 0 {
        return Ok(false);
    }
    ledger.pending += u64::from(!waited);
    lanes::come_back(connection, ledger.last + 1, seq)?;
    Ok(true)
}

/// Ends an event of which nothing has begun: there is nothing to do for it.
pub(super) fn ignore(
    connection: &Connection,
    ledger: &mut Ledger,
    event: i64,
    reason: &str,
    after: &mut After,
) -> rusqlite::Result<()> {
    if ledger.is_undispatched(event) {
        connection
            .prepare_cached(
                "INSERT INTO jobs (event, n, state, attempt, script, error) VALUES (?1, 0, ?2, 0, '', ?3)",
            )?
            .execute(params![event, JobState::Ignored, reason])?;
        ledger.dispatched(event);
    } else {
        connection
            .prepare_cached(
                "UPDATE jobs SET state = ?2, due_at = NULL, error = ?3 WHERE event = ?1 AND state = ?4",
            )?
            .execute(params![event, JobState::Ignored, reason, JobState::Pending])?;
    }
    ledger.pending = ledger.pending.saturating_sub(1);
    let mut scripts = connection.prepare_cached("SELECT n FROM jobs WHERE event = ?1")?;
    let numbers: Vec<u32> =
        scripts.query_map([event], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for n in numbers {
        lanes::ended(connection, ledger, event, n, after)?;
    }
    Ok(())
}

/// Ends an attempt, and commits its effects with that.
pub(super) fn finish(
    connection: &Connection,
    ledger: &mut Ledger,
    finish: &Finish,
) -> rusqlite::Result<Result<Committed, StoreError>> {
    let Some(place) = place(connection, ledger, finish.job, finish.plan.as_deref())? else {
        return Ok(Ok(Committed::Stale));
    };
    let mut after = After::default();
    if let Outcome::Done(effects) = &finish.outcome {
        match apply(connection, ledger, effects, Some(finish.job.event.0), &mut after)? {
            Ok(true) => {}
            Ok(false) => return Ok(Ok(Committed::Conflict)),
            Err(full) => return Ok(Err(full)),
        }
    }
    let end = End::of(finish);
    put_job(connection, ledger, finish.job, place, &end)?;
    match &finish.outcome {
        Outcome::Resolved { jobs, due_at } => resolve(connection, finish.job, jobs, due_at.0)?,
        Outcome::Dead { then, .. } if !then.is_empty() => {
            answer_death(connection, ledger, finish.job.event.0, then)?;
        }
        Outcome::Done(_)
        | Outcome::Ignored(_)
        | Outcome::Retry { .. }
        | Outcome::Returned { .. }
        | Outcome::PutOff { .. }
        | Outcome::Parked { .. }
        | Outcome::Dead { .. } => {}
    }
    for call in finish.calls.iter().flat_map(|calls| &calls.made) {
        calls::store(connection, finish.job.event.0, call, end.state != JobState::Done)?;
    }
    if finish.ordered && end.state.is_final() {
        let (event, n) = (finish.job.event.0, finish.job.n);
        lanes::ended(connection, ledger, event, n, &mut after)?;
    }
    if end.is_kept {
        attempts::insert_end(connection, finish, end.error)?;
    }
    Ok(Ok(Committed::Yes(after)))
}

/// Compares and does what a run wants: false where it conflicts. Nothing is written but where it is true.
fn apply(
    connection: &Connection,
    ledger: &mut Ledger,
    effects: &Effects,
    own: emits::Own,
    after: &mut After,
) -> rusqlite::Result<Result<bool, StoreError>> {
    let Some(changes) = documents::evaluate(connection, effects, clock::now())? else {
        return Ok(Ok(false));
    };
    if !effects.emits.is_empty() {
        if !emits::hold(connection, ledger, effects, own)? {
            return Ok(Ok(false));
        }
        if let Err(full) = emits::room(ledger, effects, u64::from(own.is_some())) {
            return Ok(Err(full));
        }
        emits::write(connection, ledger, effects, own, after)?;
    }
    documents::write(connection, ledger, &changes)?;
    Ok(Ok(true))
}

/// Adds the jobs that answer a death.
fn answer_death(
    connection: &Connection,
    ledger: &mut Ledger,
    event: i64,
    then: &[PlannedJob],
) -> rusqlite::Result<()> {
    let was_over = !waits(connection, event)?;
    add_jobs(connection, event, then, clock::steady().0)?;
    ledger.pending += u64::from(was_over);
    Ok(())
}

/// Makes the jobs of an event whose turn came for some of its scripts only.
pub(super) fn plan(
    connection: &Connection,
    ledger: &mut Ledger,
    event: Seq,
    plan: &[PlannedJob],
) -> rusqlite::Result<Committed> {
    if !ledger.is_undispatched(event.0) || plan.is_empty() {
        return Ok(Committed::Stale);
    }
    let now = clock::steady().0;
    let mut insert = connection.prepare_cached(
        "INSERT INTO jobs (event, n, state, attempt, due_at, script, pattern) VALUES (?1, ?2, ?3, 0, ?4, ?5, ?6)",
    )?;
    for (n, planned) in (0_u32..).zip(plan) {
        let waits = lanes::waits(connection, event.0, &planned.script)?;
        insert.execute(params![
            event.0,
            n,
            JobState::Pending,
            if waits { ledger::NEVER } else { now },
            &*planned.script,
            planned.pattern.as_deref(),
        ])?;
    }
    ledger.dispatched(event.0);
    let mut after = After::default();
    lanes::pass(connection, ledger, event.0, &mut after)?;
    Ok(Committed::Yes(after))
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
    add_jobs(connection, job.event.0, others, due_at)
}

/// Adds jobs to those that the event has.
fn add_jobs(
    connection: &Connection,
    event: i64,
    jobs: &[PlannedJob],
    due_at: i64,
) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO jobs (event, n, state, attempt, due_at, script, pattern, dead_job)
         SELECT ?1, 1 + max(n), ?2, 0, ?3, ?4, ?5, ?6 FROM jobs WHERE event = ?1",
    )?;
    for job in jobs {
        let pattern = job.pattern.as_deref();
        insert.execute(params![
            event,
            JobState::Pending,
            due_at,
            &*job.script,
            pattern,
            job.dead_job
        ])?;
    }
    Ok(())
}

/// Makes the jobs of a script due that came back without an attempt, and with `failed_too` those that wait for their next one. A claimed
/// job runs, and one that waits for another goes on with that one's end; neither is touched.
pub(super) fn wake(connection: &Connection, wake: &Wake) -> rusqlite::Result<u64> {
    let Wake { script, failed_too, now, limit } = wake;
    let woken = connection
        .prepare_cached(
            "UPDATE jobs SET due_at = ?2 WHERE (event, n) IN (
               SELECT event, n FROM jobs INDEXED BY jobs_due WHERE script = ?1 AND due_at > ?2 AND due_at < ?7 AND (state = ?3 OR (?5 AND state = ?4)) LIMIT ?6)",
        )?
        .execute(params![
            script,
            now.0,
            JobState::Pending,
            JobState::Retrying,
            failed_too,
            limit,
            ledger::NEVER,
        ])?;
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
    let end = End {
        state,
        attempt,
        due_at: Some(ledger::NEVER),
        error: None,
        is_kept: false,
        put_off: Since::AsBefore,
        parked: Since::AsBefore,
        calls: None,
    };
    put_job(connection, ledger, job, place, &end)?;
    Ok(Committed::Yes(After::default()))
}

/// Commits what a run wants that is no job.
pub(super) fn commit(
    connection: &Connection,
    ledger: &mut Ledger,
    effects: &Effects,
) -> rusqlite::Result<Result<Committed, StoreError>> {
    let mut after = After::default();
    Ok(apply(connection, ledger, effects, None, &mut after)?
        .map(|applied| if applied { Committed::Yes(after) } else { Committed::Conflict }))
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

/// What becomes of the time since when a job is put off, or waits at a gate.
#[derive(Clone, Copy)]
enum Since {
    /// Since then, where it was not before.
    At(i64),
    /// It is as it was.
    AsBefore,
    /// It does so no more.
    Over,
}

impl Since {
    /// For `CASE WHEN kept THEN coalesce(column, since) END`.
    fn parameters(self) -> (bool, Option<i64>) {
        match self {
            Self::At(at) => (true, Some(at)),
            Self::AsBefore => (true, None),
            Self::Over => (false, None),
        }
    }
}

/// What the end of an attempt makes of its job.
struct End<'a> {
    state: JobState,
    attempt: u32,
    due_at: Option<i64>,
    error: Option<&'a str>,
    /// The attempt has its own row.
    is_kept: bool,
    /// Since when its handler puts it off.
    put_off: Since,
    /// Since when it waits at gates.
    parked: Since,
    /// Outbound calls of its run; `None`: none ran.
    calls: Option<&'a Calls>,
}

impl<'a> End<'a> {
    fn of(finish: &'a Finish) -> Self {
        let (state, due_at, error, is_kept) = match &finish.outcome {
            Outcome::Done(_) => {
                (JobState::Done, None, None, finish.attempt > 1 || !finish.log.is_empty())
            }
            Outcome::Ignored(reason) => (JobState::Ignored, None, Some(&**reason), false),
            Outcome::Retry { due_at, error } => {
                (JobState::Retrying, Some(due_at.0), Some(&**error), true)
            }
            Outcome::Returned { due_at, reason } => {
                let state = returned_state(finish.attempt);
                (state, Some(due_at.0), Some(&**reason), false)
            }
            Outcome::PutOff { due_at, reason } => {
                (JobState::Retrying, Some(due_at.0), Some(&**reason), false)
            }
            Outcome::Parked { due_at, reason } => {
                (JobState::Parked, Some(due_at.0), Some(&**reason), false)
            }
            Outcome::Dead { error, .. } => (JobState::Dead, None, Some(&**error), true),
            Outcome::Resolved { due_at, .. } => (JobState::Pending, Some(due_at.0), None, false),
        };
        let since = Since::At(finish.ended_at.0);
        let (put_off, parked) = match finish.outcome {
            Outcome::PutOff { .. } => (since, Since::AsBefore),
            Outcome::Parked { .. } => (Since::AsBefore, since),
            Outcome::Returned { .. } => (Since::AsBefore, Since::AsBefore),
            Outcome::Done(_)
            | Outcome::Ignored(_)
            | Outcome::Retry { .. }
            | Outcome::Dead { .. }
            | Outcome::Resolved { .. } => (Since::Over, Since::Over),
        };
        let calls = finish.calls.as_deref();
        Self { state, attempt: finish.attempt, due_at, error, is_kept, put_off, parked, calls }
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
) -> rusqlite::Result<()> {
    let event = job.event.0;
    let others_wait = match place {
        Place::Planned(plan) => {
            let mut insert = connection.prepare_cached(
                "INSERT INTO jobs (event, n, state, attempt, due_at, script, pattern, error, put_off_since, parked_since, calls, calls_dropped)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            )?;
            let other = End {
                state: JobState::Pending,
                attempt: 0,
                due_at: Some(clock::steady().0),
                error: None,
                is_kept: false,
                put_off: Since::Over,
                parked: Since::Over,
                calls: None,
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
                    end.error,
                    end.put_off.parameters().1,
                    end.parked.parameters().1,
                    end.calls.map_or(0, |calls| calls.asked),
                    end.calls.map_or(0, |calls| calls.dropped),
                ])?;
            }
            ledger.dispatched(event);
            plan.len() > 1
        }
        Place::Stored => {
            let (is_put_off, put_off_since) = end.put_off.parameters();
            let (is_parked, parked_since) = end.parked.parameters();
            connection
                .prepare_cached(
                    "UPDATE jobs SET state = ?3, attempt = ?4, due_at = ?5, error = ?6,
                            put_off_since = CASE WHEN ?7 THEN coalesce(put_off_since, ?8) END,
                            parked_since = CASE WHEN ?9 THEN coalesce(parked_since, ?10) END,
                            calls = coalesce(?11, calls), calls_dropped = calls_dropped + ?12 WHERE event = ?1 AND n = ?2",
                )?
                .execute(params![
                    event,
                    job.n,
                    end.state,
                    end.attempt,
                    end.due_at,
                    end.error,
                    is_put_off,
                    put_off_since,
                    is_parked,
                    parked_since,
                    end.calls.map(|calls| calls.asked),
                    end.calls.map_or(0, |calls| calls.dropped),
                ])?;
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
