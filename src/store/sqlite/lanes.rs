//! Order within a key, in the writer's transaction. The open events of a key stand in one lane, in the order in which they have their turn; an
//! event leaves it when its last job ends. A script has one event of a lane in work at a time: its jobs further back wait, and whoever ends
//! one looks for the next. Only open events are here, so what an end costs does not grow with what has been or with what waits.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::ledger::{Ledger, NEVER};
use crate::clock::{self, Millis};
use crate::store::{After, JobState, Seq, Turn};

/// The line of one key.
#[derive(Clone, Copy)]
pub(super) struct Lane<'a> {
    pub(super) webhook: &'a str,
    pub(super) key: &'a str,
}

/// Whether an event that has come into its lane may begin.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    Now,
    Behind { plan: bool },
}

/// An event in its lane. Its place is its seq, but for a dead letter that has come back.
#[derive(Clone, Copy)]
struct Standing {
    place: i64,
    event: i64,
    released: bool,
}

/// An event's lane, and its place in it.
struct InLane {
    webhook: Arc<str>,
    key: Box<str>,
    place: i64,
}

impl InLane {
    fn lane(&self) -> Lane<'_> {
        Lane { webhook: &self.webhook, key: &self.key }
    }
}

/// The jobs of one script in one event.
struct Work {
    unfinished: bool,
    /// They wait for an earlier event.
    waits: bool,
}

/// Puts an event at the end of its lane.
pub(super) fn enter(
    connection: &Connection,
    lane: Lane<'_>,
    place: i64,
    event: i64,
) -> rusqlite::Result<Entry> {
    let last: Option<i64> = connection
        .prepare_cached(
            "SELECT event FROM lanes WHERE webhook = ?1 AND order_key = ?2 ORDER BY place DESC, event DESC LIMIT 1",
        )?
        .query_row([lane.webhook, lane.key], |row| row.get(0))
        .optional()?;
    let entry = match last {
        None => Entry::Now,
        Some(last) => Entry::Behind { plan: lets_pass(connection, last)? },
    };
    let released = entry != Entry::Behind { plan: false };
    connection
        .prepare_cached(
            "INSERT INTO lanes (webhook, order_key, place, event, released) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![lane.webhook, lane.key, place, event, released])?;
    Ok(entry)
}

/// A dead letter has come back. One that had left its lane takes its place at the end; where it is not alone there, or was overtaken while another
/// of its jobs kept it in line, what came back waits.
pub(super) fn come_back(connection: &Connection, place: i64, event: i64) -> rusqlite::Result<()> {
    let Some(in_lane) = found(connection, event)? else { return Ok(()) };
    let (lane, stands) = (in_lane.lane(), in_lane.place);
    let is_in_line: bool = connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM lanes WHERE webhook = ?1 AND order_key = ?2 AND place = ?3 AND event = ?4)",
        )?
        .query_row(params![lane.webhook, lane.key, stands, event], |row| row.get(0))?;
    if !is_in_line {
        connection
            .prepare_cached("UPDATE events SET place = ?2 WHERE seq = ?1")?
            .execute([event, place])?;
        if enter(connection, lane, place, event)? == Entry::Now {
            return Ok(());
        }
    }
    connection
        .prepare_cached(
            "UPDATE jobs SET due_at = ?2 WHERE event = ?1 AND state = ?3 AND attempt = 0 AND dead_job IS NULL
             AND EXISTS (SELECT 1 FROM lanes l WHERE l.webhook = ?4 AND l.order_key = ?5 AND l.event <> ?1
                         AND NOT EXISTS (SELECT 1 FROM jobs WHERE event = l.event)
                         UNION ALL
                         SELECT 1 FROM lanes l JOIN jobs other ON other.event = l.event
                         WHERE l.webhook = ?4 AND l.order_key = ?5 AND l.event <> ?1 AND other.script = jobs.script
                         AND other.dead_job IS NULL AND other.state BETWEEN 1 AND 4 AND NOT (other.state = 4 AND other.due_at = ?2))",
        )?
        .execute(params![event, NEVER, JobState::Pending, lane.webhook, lane.key])?;
    Ok(())
}

/// Whether the lane has nobody else.
pub(super) fn is_empty(connection: &Connection, lane: Lane<'_>) -> rusqlite::Result<bool> {
    let any: bool = connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM lanes WHERE webhook = ?1 AND order_key = ?2)",
        )?
        .query_row([lane.webhook, lane.key], |row| row.get(0))?;
    Ok(!any)
}

/// Whether a script may be through with everything up to this event: it is through with this one, or this one only waits itself.
fn lets_pass(connection: &Connection, event: i64) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM jobs WHERE event = ?1)
             AND (EXISTS (SELECT 1 FROM jobs WHERE event = ?1 AND dead_job IS NULL GROUP BY script HAVING max(state BETWEEN 1 AND 4) = 0)
                  OR NOT EXISTS (SELECT 1 FROM jobs WHERE event = ?1 AND dead_job IS NULL AND state BETWEEN 1 AND 4 AND NOT (state = 4 AND due_at = ?2)))",
        )?
        .query_row(params![event, NEVER], |row| row.get(0))
}

/// Where an event stands, if it has an order.
fn found(connection: &Connection, event: i64) -> rusqlite::Result<Option<InLane>> {
    connection
        .prepare_cached(
            "SELECT webhook, order_key, coalesce(place, seq) FROM events WHERE seq = ?1 AND order_key IS NOT NULL",
        )?
        .query_row([event], |row| {
            Ok(InLane { webhook: row.get(0)?, key: row.get(1)?, place: row.get(2)? })
        })
        .optional()
}

/// A job of the event has come to its end: who has its turn now.
pub(super) fn ended(
    connection: &Connection,
    ledger: &Ledger,
    event: i64,
    n: u32,
    after: &mut After,
) -> rusqlite::Result<()> {
    let Some(in_lane) = found(connection, event)? else { return Ok(()) };
    let (lane, place) = (in_lane.lane(), in_lane.place);
    let (script, answers_death): (Box<str>, bool) = connection
        .prepare_cached(
            "SELECT script, dead_job IS NOT NULL FROM jobs WHERE event = ?1 AND n = ?2",
        )?
        .query_row(params![event, n], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if answers_death || work(connection, event, &script)?.unfinished {
        return Ok(());
    }
    let is_over: bool = connection
        .prepare_cached(
            "SELECT NOT EXISTS (SELECT 1 FROM jobs WHERE event = ?1 AND dead_job IS NULL AND state BETWEEN 1 AND 4)",
        )?
        .query_row([event], |row| row.get(0))?;
    if is_over {
        connection
            .prepare_cached(
                "DELETE FROM lanes WHERE webhook = ?1 AND order_key = ?2 AND place = ?3 AND event = ?4",
            )?
            .execute(params![lane.webhook, lane.key, place, event])?;
    }
    let Some(first) = next(connection, lane, (i64::MIN, 0))? else { return Ok(()) };
    if is_over && (place, event) < (first.place, first.event) {
        // Nobody stands before it any more, so nothing keeps any of it waiting.
        begin(connection, ledger, lane, first, true, after)?;
        unblock(connection, first.event, None, after)?;
    } else if first.event != event && work(connection, first.event, &script)?.waits {
        // A dead letter that came back while this script was further along.
        unblock(connection, first.event, Some(&script), after)?;
        return Ok(());
    }
    advance(connection, ledger, lane, (place, event), &script, after)?;
    Ok(())
}

/// Gives the script its next event after this place.
fn advance(
    connection: &Connection,
    ledger: &Ledger,
    lane: Lane<'_>,
    mut place: (i64, i64),
    script: &str,
    after: &mut After,
) -> rusqlite::Result<()> {
    while let Some(standing) = next(connection, lane, place)? {
        if ledger.is_undispatched(standing.event) {
            return begin(connection, ledger, lane, standing, false, after);
        }
        let Work { unfinished, waits } = work(connection, standing.event, script)?;
        if waits {
            unblock(connection, standing.event, Some(script), after)?;
        }
        if unfinished {
            return Ok(());
        }
        place = (standing.place, standing.event);
    }
    Ok(())
}

/// Its turn has come, if it has not begun already.
fn begin(
    connection: &Connection,
    ledger: &Ledger,
    lane: Lane<'_>,
    standing: Standing,
    is_first: bool,
    after: &mut After,
) -> rusqlite::Result<()> {
    if standing.released || !ledger.is_undispatched(standing.event) {
        return Ok(());
    }
    connection
        .prepare_cached(
            "UPDATE lanes SET released = 1 WHERE webhook = ?1 AND order_key = ?2 AND place = ?3 AND event = ?4",
        )?
        .execute(params![lane.webhook, lane.key, standing.place, standing.event])?;
    let (event, webhook) = (Seq(standing.event), lane.webhook.into());
    after.turns.push(Turn { event, webhook, plan: !is_first });
    Ok(())
}

/// For each script of an event's plan, whether its jobs must wait: the nearest earlier event that it has in this lane is not over.
pub(super) fn waits(connection: &Connection, event: i64, script: &str) -> rusqlite::Result<bool> {
    let Some(InLane { webhook, key, place }) = found(connection, event)? else { return Ok(false) };
    let mut statement = connection.prepare_cached(
        "SELECT j.state BETWEEN 1 AND 4 FROM lanes l JOIN jobs j ON j.event = l.event
         WHERE l.webhook = ?1 AND l.order_key = ?2 AND (l.place, l.event) < (?3, ?4) AND j.script = ?5 AND j.dead_job IS NULL
         ORDER BY l.place DESC, l.event DESC, j.state LIMIT 1",
    )?;
    let unfinished: Option<bool> = statement
        .query_row(params![&*webhook, &*key, place, event, script], |row| row.get(0))
        .optional()?;
    Ok(unfinished.unwrap_or(false))
}

/// The event has its jobs now, and all of them wait: a script that it has no job for may go on behind it.
pub(super) fn pass(
    connection: &Connection,
    ledger: &Ledger,
    event: i64,
    after: &mut After,
) -> rusqlite::Result<()> {
    let Some(in_lane) = found(connection, event)? else { return Ok(()) };
    let (lane, place) = (in_lane.lane(), in_lane.place);
    if lets_pass(connection, event)?
        && let Some(standing) = next(connection, lane, (place, event))?
    {
        begin(connection, ledger, lane, standing, false, after)?;
    }
    Ok(())
}

/// What of a lane has no jobs or none that has begun, the first in line first.
pub(super) fn not_started(
    connection: &Connection,
    ledger: &Ledger,
    lane: Lane<'_>,
) -> rusqlite::Result<Vec<i64>> {
    let mut statement = connection.prepare_cached(
        "SELECT event FROM lanes WHERE webhook = ?1 AND order_key = ?2 ORDER BY place, event",
    )?;
    let events: Vec<i64> = statement
        .query_map([lane.webhook, lane.key], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut found = Vec::new();
    for event in events {
        if ledger.is_undispatched(event) || none_begun(connection, event)? {
            found.push(event);
        }
    }
    Ok(found)
}

/// Whether each job of the event is as it was made. The same is asked by `read::waits`.
fn none_begun(connection: &Connection, event: i64) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT NOT EXISTS (SELECT 1 FROM jobs WHERE event = ?1 AND (state <> ?2 OR attempt > 0))",
        )?
        .query_row(params![event, JobState::Pending], |row| row.get(0))
}

fn next(
    connection: &Connection,
    lane: Lane<'_>,
    after: (i64, i64),
) -> rusqlite::Result<Option<Standing>> {
    connection
        .prepare_cached(
            "SELECT place, event, released FROM lanes WHERE webhook = ?1 AND order_key = ?2 AND (place, event) > (?3, ?4)
             ORDER BY place, event LIMIT 1",
        )?
        .query_row(params![lane.webhook, lane.key, after.0, after.1], |row| {
            Ok(Standing { place: row.get(0)?, event: row.get(1)?, released: row.get(2)? })
        })
        .optional()
}

fn work(connection: &Connection, event: i64, script: &str) -> rusqlite::Result<Work> {
    connection
        .prepare_cached(
            "SELECT count(*) > 0, coalesce(max(state = 4 AND due_at = ?3), 0) FROM jobs
             WHERE event = ?1 AND script = ?2 AND dead_job IS NULL AND state BETWEEN 1 AND 4",
        )?
        .query_row(params![event, script, NEVER], |row| {
            Ok(Work { unfinished: row.get(0)?, waits: row.get(1)? })
        })
}

/// Makes due what waits for an earlier event: of one script, or all of it.
fn unblock(
    connection: &Connection,
    event: i64,
    script: Option<&str>,
    after: &mut After,
) -> rusqlite::Result<()> {
    let Millis(now) = clock::steady();
    let unblocked = connection
        .prepare_cached(
            "UPDATE jobs SET due_at = ?2 WHERE event = ?1 AND state = ?3 AND due_at = ?4 AND (?5 IS NULL OR script = ?5)",
        )?
        .execute(params![event, now, JobState::Pending, NEVER, script])?;
    after.unblocked |= unblocked > 0;
    Ok(())
}
