//! Internal events, in the writer's transaction: those of now become events with the commit that emits them, those of later wait in a table of
//! their own until they are due. So a delay of days holds nothing up that looks at events in their order.

use rusqlite::{Connection, OptionalExtension as _, params};
use uuid::Uuid;

use super::inbox;
use super::lanes::{self, Lane};
use super::ledger::Ledger;
use crate::clock::Millis;
use crate::id::EventId;
use crate::store::{Accepted, After, Effects, Emit, NewEvent, Pending, StoreError, Turn};

/// Emitted events may fill the inbox to this many times `max_pending`: an event that ends and emits another must never wait for a place.
const OVERFILL: u64 = 2;

/// The event whose run it is, which has started whatever the tables say.
pub(super) type Own = Option<i64>;

/// Whether what the script was told of its `cancel`s still holds.
pub(super) fn hold(
    connection: &Connection,
    ledger: &Ledger,
    effects: &Effects,
    own: Own,
) -> rusqlite::Result<bool> {
    for (at, emit) in effects.emits.iter().enumerate() {
        let Emit::Cancel { webhook, key, told } = emit else { continue };
        let by_itself = effects.emits[..at].iter().fold(None, |waits, earlier| match earlier {
            Emit::Event { event, .. }
                if event.webhook == *webhook && event.order_key.as_deref() == Some(&**key) =>
            {
                Some(true)
            }
            Emit::Cancel { webhook: other, key: other_key, .. }
                if other == webhook && other_key == key =>
            {
                Some(false)
            }
            Emit::Event { .. } | Emit::Cancel { .. } => waits,
        });
        let lane = Lane { webhook, key };
        let waits = match by_itself {
            Some(waits) => waits,
            None => any(connection, ledger, lane, own)?,
        };
        if waits != *told {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether there is room for them: `ending` events end with the same commit.
pub(super) fn room(ledger: &Ledger, effects: &Effects, ending: u64) -> Result<(), StoreError> {
    let emitted =
        effects.emits.iter().filter(|emit| matches!(emit, Emit::Event { .. })).count() as u64;
    let most = ledger.max_pending.saturating_mul(OVERFILL);
    if emitted > ending && ledger.pending + ledger.scheduled + emitted > most + ending {
        return Err(StoreError::Full { max_pending: ledger.max_pending });
    }
    Ok(())
}

/// Does them in order.
pub(super) fn write(
    connection: &Connection,
    ledger: &mut Ledger,
    effects: &Effects,
    own: Own,
    after: &mut After,
) -> rusqlite::Result<()> {
    for emit in &effects.emits {
        match emit {
            Emit::Event { event, due_at, pending } => {
                let taken = emit_one(connection, ledger, event, (*due_at, *pending), own, after)?;
                after.emitted.push(taken);
            }
            Emit::Cancel { webhook, key, .. } => {
                take_back(connection, ledger, Lane { webhook, key }, "cancelled", own, after)?;
            }
        }
    }
    Ok(())
}

fn emit_one(
    connection: &Connection,
    ledger: &mut Ledger,
    event: &NewEvent,
    (due_at, pending): (Option<Millis>, Pending),
    own: Own,
    after: &mut After,
) -> rusqlite::Result<Option<Accepted>> {
    if let Some(key) = &event.order_key {
        let lane = Lane { webhook: &event.webhook, key };
        match pending {
            Pending::Add => {}
            Pending::Keep if any(connection, ledger, lane, own)? => return Ok(None),
            Pending::Keep => {}
            Pending::Replace => {
                take_back(connection, ledger, lane, "replaced by a later `emit`", own, after)?;
            }
        }
    }
    if is_scheduled(connection, event)? {
        return Ok(None);
    }
    match due_at {
        None => inbox::take(connection, ledger, event).map(Some),
        Some(due_at) => schedule(connection, ledger, event, due_at).map(|()| None),
    }
}

/// Whether one with the same delivery id is to come.
fn is_scheduled(connection: &Connection, event: &NewEvent) -> rusqlite::Result<bool> {
    let Some(delivery_id) = &event.delivery_id else { return Ok(false) };
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM scheduled WHERE webhook = ?1 AND delivery_id = ?2)",
        )?
        .query_row([&*event.webhook, &**delivery_id], |row| row.get(0))
}

/// One whose delivery id was an event before is no second one.
fn schedule(
    connection: &Connection,
    ledger: &mut Ledger,
    event: &NewEvent,
    due_at: Millis,
) -> rusqlite::Result<()> {
    if let Some(delivery_id) = &event.delivery_id {
        let known: bool = connection
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM events WHERE webhook = ?1 AND delivery_id = ?2)",
            )?
            .query_row([&*event.webhook, &**delivery_id], |row| row.get(0))?;
        if known {
            return Ok(());
        }
    }
    connection
        .prepare_cached(
            "INSERT INTO scheduled (due_at, id, webhook, delivery_id, order_key, kind, request, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            due_at.0,
            event.id.0.as_bytes(),
            &*event.webhook,
            event.delivery_id.as_deref(),
            event.order_key.as_deref(),
            &*event.kind,
            &*event.request,
            &*event.body,
        ])?;
    ledger.scheduled += 1;
    Ok(())
}

/// Whether something of the key waits and has not started.
fn any(
    connection: &Connection,
    ledger: &Ledger,
    lane: Lane<'_>,
    own: Own,
) -> rusqlite::Result<bool> {
    let scheduled: bool = connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM scheduled WHERE webhook = ?1 AND order_key = ?2)",
        )?
        .query_row([lane.webhook, lane.key], |row| row.get(0))?;
    let mut waiting = lanes::not_started(connection, ledger, lane)?.into_iter();
    Ok(scheduled || waiting.any(|event| Some(event) != own))
}

fn take_back(
    connection: &Connection,
    ledger: &mut Ledger,
    lane: Lane<'_>,
    reason: &str,
    own: Own,
    after: &mut After,
) -> rusqlite::Result<()> {
    let unscheduled = connection
        .prepare_cached("DELETE FROM scheduled WHERE webhook = ?1 AND order_key = ?2")?
        .execute([lane.webhook, lane.key])?;
    ledger.scheduled = ledger.scheduled.saturating_sub(unscheduled as u64);
    let waiting = lanes::not_started(connection, ledger, lane)?;
    for event in waiting.into_iter().filter(|event| Some(*event) != own) {
        inbox::ignore(connection, ledger, event, reason, after)?;
    }
    // A turn that came only because the one before was taken back, and is taken back itself.
    after.turns.retain(|turn| ledger.is_undispatched(turn.event.0));
    Ok(())
}

/// Makes events of what is due; those that may begin.
pub(super) fn promote(
    connection: &Connection,
    ledger: &mut Ledger,
    now: Millis,
    limit: i64,
) -> rusqlite::Result<Vec<Turn>> {
    let mut turns = Vec::new();
    for (row, event) in due(connection, now, limit)? {
        connection.prepare_cached("DELETE FROM scheduled WHERE row = ?1")?.execute([row])?;
        ledger.scheduled = ledger.scheduled.saturating_sub(1);
        let (seq, plan) = match inbox::take(connection, ledger, &event)? {
            Accepted::New(seq) => (seq, false),
            Accepted::Behind { event, plan: true } => (event, true),
            Accepted::Behind { .. } | Accepted::Duplicate { .. } | Accepted::Revived(_) => continue,
        };
        turns.push(Turn { event: seq, webhook: event.webhook, plan });
    }
    Ok(turns)
}

fn due(connection: &Connection, now: Millis, limit: i64) -> rusqlite::Result<Vec<(i64, NewEvent)>> {
    let mut statement = connection.prepare_cached(
        "SELECT row, id, webhook, delivery_id, order_key, kind, request, body FROM scheduled
         WHERE due_at <= ?1 ORDER BY due_at, row LIMIT ?2",
    )?;
    let rows = statement.query_map(params![now.0, limit], |row| {
        let id: [u8; 16] = row.get(1)?;
        let event = NewEvent {
            id: EventId(Uuid::from_bytes(id)),
            webhook: row.get(2)?,
            delivery_id: row.get(3)?,
            order_key: row.get(4)?,
            kind: row.get(5)?,
            received_at: now,
            request: row.get(6)?,
            body: row.get::<_, Vec<u8>>(7)?.into(),
            replay_of: None,
        };
        Ok((row.get(0)?, event))
    })?;
    rows.collect()
}

/// When the next is due.
pub(super) fn next(connection: &Connection) -> rusqlite::Result<Option<Millis>> {
    let due_at: Option<i64> = connection
        .prepare_cached("SELECT min(due_at) FROM scheduled")?
        .query_row([], |row| row.get(0))?;
    Ok(due_at.map(Millis))
}

/// For readers: whether something of the key waits and has not started.
pub(super) fn waits(connection: &Connection, webhook: &str, key: &str) -> rusqlite::Result<bool> {
    let found: Option<i64> = connection
        .prepare_cached(
            "SELECT 1 WHERE EXISTS (SELECT 1 FROM scheduled WHERE webhook = ?1 AND order_key = ?2)
             OR EXISTS (SELECT 1 FROM lanes l WHERE l.webhook = ?1 AND l.order_key = ?2
                        AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.event = l.event AND (j.state <> 4 OR j.attempt > 0)))",
        )?
        .query_row([webhook, key], |row| row.get(0))
        .optional()?;
    Ok(found.is_some())
}
