//! Deletes what is old, in small steps: each call takes a bounded time and looks at a bounded number of events, and the next goes on where it
//! stopped, so that neither a long backlog nor a long history nor large bodies hold the writer up.

use std::time::Instant;

use rusqlite::Connection;

use super::ledger::{Ledger, set_meta};
use super::{answers, usage};
use crate::clock::{self, Millis};

/// Events looked at for each one that may be deleted: what is not at its end is passed over.
const LOOKED_AT: i64 = 4;

/// Where the next call goes on, over events in the order of acceptance.
#[derive(Debug, Default)]
pub(super) struct Cursors {
    payloads: i64,
    events: i64,
}

/// What one call may do.
#[derive(Clone, Copy)]
pub(super) struct Step {
    pub(super) payloads_before: Millis,
    pub(super) events_before: Millis,
    pub(super) limit: i64,
    /// What has begun by then is finished, and nothing else is begun. One row is deleted in any case, so that it comes to an end.
    pub(super) ends: Instant,
}

/// Payloads, then events, then answers, then what has run out of documents and of usage; how many it was, `limit` at most.
pub(super) fn retain(
    connection: &Connection,
    ledger: &Ledger,
    cursors: &mut Cursors,
    step: Step,
) -> rusqlite::Result<i64> {
    let mut left = step.limit;
    let is_over = |left: i64| left == 0 || (left < step.limit && clock::instant() >= step.ends);
    for seq in old(connection, "payloads", &mut cursors.payloads, step.payloads_before, left)? {
        if is_over(left) {
            cursors.payloads = seq - 1;
            return Ok(step.limit - left);
        }
        left -= delete(connection, "DELETE FROM payloads WHERE seq = ?1", seq)?;
    }
    let events = old(connection, "events", &mut cursors.events, step.events_before, left)?;
    if !events.is_empty() {
        // The last event may be among them, and its seq must not be given again.
        set_meta(connection, "last_seq", ledger.last)?;
    }
    for seq in events {
        if is_over(left) {
            cursors.events = seq - 1;
            return Ok(step.limit - left);
        }
        for rest in [
            "DELETE FROM payloads WHERE seq = ?1",
            "DELETE FROM attempts WHERE event = ?1",
            "DELETE FROM calls WHERE event = ?1",
            "DELETE FROM jobs WHERE event = ?1",
        ] {
            delete(connection, rest, seq)?;
        }
        left -= delete(connection, "DELETE FROM events WHERE seq = ?1", seq)?;
    }
    while !is_over(left) && answers::retain(connection, step.events_before, 1)? > 0 {
        left -= 1;
    }
    for (collection, id) in run_out(connection, left)? {
        if is_over(left) {
            break;
        }
        ledger.indexes.update(connection, &collection, &id, None)?;
        connection
            .prepare_cached("DELETE FROM documents WHERE collection = ?1 AND id = ?2")?
            .execute([&collection, &id])?;
        left -= 1;
    }
    if !is_over(left) {
        left -= usage::retain(connection, left)?;
    }
    Ok(step.limit - left)
}

/// Tombstones and documents whose time is over.
fn run_out(connection: &Connection, limit: i64) -> rusqlite::Result<Vec<(Box<str>, Box<str>)>> {
    connection
        .prepare_cached("SELECT collection, id FROM documents WHERE expires_at <= ?1 LIMIT ?2")?
        .query_map([clock::now().0, limit], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// Rows of `table` whose events were received before then and are at their end. The first younger one ends the search: the order of
/// acceptance is that of time, but for a clock that was set back, where it comes later.
fn old(
    connection: &Connection,
    table: &str,
    cursor: &mut i64,
    before: Millis,
    limit: i64,
) -> rusqlite::Result<Vec<i64>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT old.seq, e.received_at,
                EXISTS (SELECT 1 FROM jobs WHERE event = old.seq)
                AND NOT EXISTS (SELECT 1 FROM jobs WHERE event = old.seq AND state BETWEEN 1 AND 4)
         FROM {table} old JOIN events e ON e.seq = old.seq WHERE old.seq > ?1 ORDER BY old.seq LIMIT ?2"
    ))?;
    let most = limit.saturating_mul(LOOKED_AT);
    let mut rows = statement.query([*cursor, most])?;
    let mut found = Vec::new();
    let mut looked_at = 0;
    while let Some(row) = rows.next()? {
        let seq: i64 = row.get(0)?;
        if row.get::<_, i64>(1)? >= before.0 {
            *cursor = 0;
            return Ok(found);
        }
        if i64::try_from(found.len()).unwrap_or(i64::MAX) == limit {
            return Ok(found);
        }
        looked_at += 1;
        *cursor = seq;
        if row.get(2)? {
            found.push(seq);
        }
    }
    if looked_at < most {
        *cursor = 0;
    }
    Ok(found)
}

fn delete(connection: &Connection, sql: &str, key: i64) -> rusqlite::Result<i64> {
    let rows = connection.prepare_cached(sql)?.execute([key])?;
    Ok(i64::try_from(rows).unwrap_or(0))
}
