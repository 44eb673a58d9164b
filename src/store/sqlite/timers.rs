//! Timers, in the writer's transaction: from when on the next occurrence of each counts, kept together with the event of the last one. The delivery id of
//! that event names the occurrence, so none comes twice, whatever the clock does.

use rusqlite::{Connection, params};

use super::inbox;
use super::lanes::{self, Lane};
use super::ledger::Ledger;
use crate::clock::Millis;
use crate::store::{Accepted, Fired, Firing};

/// Takes an occurrence, unless an earlier one of the timer is still at work.
pub(super) fn fire(
    connection: &Connection,
    ledger: &mut Ledger,
    firing: &Firing,
) -> rusqlite::Result<Fired> {
    let mut fired = Fired::Noted;
    if let Some(event) = &firing.event {
        let key = event.order_key.as_deref().unwrap_or_default();
        if !lanes::is_empty(connection, Lane { webhook: &firing.timer, key })? {
            return Ok(Fired::Busy);
        }
        if let Accepted::New(seq) = inbox::take(connection, ledger, event)? {
            fired = Fired::New(seq);
        }
    }
    connection
        .prepare_cached(
            "INSERT INTO timers (timer, counts_from) VALUES (?1, ?2)
             ON CONFLICT (timer) DO UPDATE SET counts_from = excluded.counts_from",
        )?
        .execute(params![&*firing.timer, firing.counts_from.0])?;
    Ok(fired)
}

/// Every timer that was seen.
pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<(Box<str>, Millis)>> {
    let mut statement = connection.prepare_cached("SELECT timer, counts_from FROM timers")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, Millis(row.get(1)?))))?;
    rows.collect()
}

/// As if it had never been seen.
pub(super) fn forget(connection: &Connection, timer: &str) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM timers WHERE timer = ?1")?.execute([timer])?;
    Ok(())
}
