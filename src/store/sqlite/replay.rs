//! Repeating an event on somebody's request, in the writer's transaction. A dead letter is resumed: it stays the same event, with fresh attempts. Everything
//! else begins anew, as another event with the same payload, so that nothing of the first run is reused.

use rusqlite::{Connection, OptionalExtension as _};

use super::inbox;
use super::ledger::Ledger;
use crate::clock::Millis;
use crate::id::EventId;
use crate::store::{JobState, NewEvent, Replayed, StoreError};

/// Repeats it; `copy` is the id of the new event where it takes one.
pub(super) fn replay(
    connection: &Connection,
    ledger: &mut Ledger,
    id: EventId,
    copy: EventId,
    now: Millis,
) -> rusqlite::Result<Result<Replayed, StoreError>> {
    let seq: Option<i64> = connection
        .prepare_cached("SELECT seq FROM events WHERE id = ?1")?
        .query_row([id.0.as_bytes()], |row| row.get(0))
        .optional()?;
    let Some(seq) = seq else { return Ok(Ok(Replayed::Unknown)) };
    if let Some(state) = unfinished(connection, seq)? {
        return Ok(Ok(Replayed::NotEnded(state)));
    }
    let Some(payload) = payload(connection, seq)? else { return Ok(Ok(Replayed::NoPayload)) };
    if inbox::revive(connection, ledger, seq)? {
        return Ok(Ok(Replayed::Resumed(crate::store::Seq(seq))));
    }
    if let Some(state) = copy_at_work(connection, id)? {
        return Ok(Ok(Replayed::NotEnded(state)));
    }
    if ledger.is_full() {
        return Ok(Err(StoreError::Full { max_pending: ledger.max_pending }));
    }
    let event =
        NewEvent { id: copy, delivery_id: None, received_at: now, replay_of: Some(id), ..payload };
    Ok(Ok(Replayed::Anew(inbox::take(connection, ledger, &event)?)))
}

/// The worst state of its jobs that are not at their end; without jobs it is pending.
fn unfinished(connection: &Connection, seq: i64) -> rusqlite::Result<Option<JobState>> {
    let (jobs, worst): (i64, Option<JobState>) = connection
        .prepare_cached(
            "SELECT count(*), min(state) FILTER (WHERE state BETWEEN 1 AND 4) FROM jobs WHERE event = ?1",
        )?
        .query_row([seq], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(if jobs == 0 { Some(JobState::Pending) } else { worst })
}

/// The state of an earlier repetition that is not at its end.
fn copy_at_work(connection: &Connection, id: EventId) -> rusqlite::Result<Option<JobState>> {
    let mut statement = connection
        .prepare_cached("SELECT seq FROM events WHERE replay_of = ?1 ORDER BY seq DESC")?;
    let mut copies = statement.query([id.0.as_bytes()])?;
    while let Some(row) = copies.next()? {
        if let Some(state) = unfinished(connection, row.get(0)?)? {
            return Ok(Some(state));
        }
    }
    Ok(None)
}

fn payload(connection: &Connection, seq: i64) -> rusqlite::Result<Option<NewEvent>> {
    connection
        .prepare_cached(&format!("{} WHERE e.seq = ?1", inbox::SELECT_EVENT))?
        .query_row([seq], inbox::event_of)
        .optional()
}
