//! The effects of a run, in the writer's transaction: first everything is compared, then the changed documents are written. So a conflict
//! leaves nothing to take back.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::ledger::Ledger;
use crate::clock::Millis;
use crate::store::document::Content;
use crate::store::{DocumentKey, Effects, Json, Write};

/// The documents that a command changes, as they are after it.
pub(super) type Changes<'a> = Vec<(&'a DocumentKey, Content)>;

/// What the effects come to now; `None`: a conflict.
pub(super) fn evaluate<'a>(
    connection: &Connection,
    effects: &'a Effects,
    now: Millis,
) -> rusqlite::Result<Option<Changes<'a>>> {
    for (key, relied_on) in &effects.reads {
        if version(connection, key, now)? != i64::try_from(relied_on.0).unwrap_or(i64::MAX) {
            return Ok(None);
        }
    }
    if let [(key, write)] = effects.writes.as_slice() {
        let before = before(connection, key, write, now)?;
        return Ok(before
            .after(write, now)
            .ok()
            .map(|after| after.map(|content| vec![(key, content)]).unwrap_or_default()));
    }
    // Several writes see each other in order; each document is written once, as the last left it.
    let mut changes: Changes<'a> = Vec::new();
    let mut places: HashMap<&DocumentKey, usize> = HashMap::new();
    for (key, write) in &effects.writes {
        let place = places.get(key).copied();
        let after = match place {
            Some(place) => changes[place].1.after(write, now),
            None => before(connection, key, write, now)?.after(write, now),
        };
        match (after, place) {
            (Err(_), _) => return Ok(None),
            (Ok(None), _) => {}
            (Ok(Some(content)), Some(place)) => changes[place].1 = content,
            (Ok(Some(content)), None) => {
                places.insert(key, changes.len());
                changes.push((key, content));
            }
        }
    }
    Ok(Some(changes))
}

/// Writes what `evaluate` found.
pub(super) fn write(
    connection: &Connection,
    ledger: &mut Ledger,
    changes: &Changes<'_>,
) -> rusqlite::Result<()> {
    for (key, content) in changes {
        let (expires_at, body) = match content {
            Content::Absent => {
                ledger.indexes.update(connection, &key.collection, &key.id, None)?;
                connection
                    .prepare_cached("DELETE FROM documents WHERE collection = ?1 AND id = ?2")?
                    .execute([&*key.collection, &*key.id])?;
                continue;
            }
            Content::Tombstone { until } => (Some(until.0), None),
            Content::Found { body, expires_at } => (expires_at.map(|at| at.0), Some(body)),
        };
        ledger.indexes.update(connection, &key.collection, &key.id, body)?;
        let version = ledger.next_version();
        connection
            .prepare_cached(
                "INSERT INTO documents (collection, id, version, expires_at, body) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (collection, id) DO UPDATE SET version = excluded.version, expires_at = excluded.expires_at, body = excluded.body",
            )?
            .execute(params![&*key.collection, &*key.id, version, expires_at, body.map(|body| &*body.0)])?;
    }
    Ok(())
}

fn version(connection: &Connection, key: &DocumentKey, now: Millis) -> rusqlite::Result<i64> {
    let version = connection
        .prepare_cached(
            "SELECT version FROM documents WHERE collection = ?1 AND id = ?2 AND (expires_at IS NULL OR expires_at > ?3)",
        )?
        .query_row(params![&*key.collection, &*key.id, now.0], |row| row.get(0))
        .optional()?;
    Ok(version.unwrap_or(0))
}

/// The document before the write; not read where the write does not depend on it.
fn before(
    connection: &Connection,
    key: &DocumentKey,
    write: &Write,
    now: Millis,
) -> rusqlite::Result<Content> {
    match write {
        Write::Put { if_newer: None, .. } | Write::Delete { .. } => Ok(Content::Absent),
        Write::Put { if_newer: Some(_), .. } | Write::Increment { .. } => {
            content(connection, key, now)
        }
    }
}

fn content(connection: &Connection, key: &DocumentKey, now: Millis) -> rusqlite::Result<Content> {
    let found = connection
        .prepare_cached("SELECT expires_at, body FROM documents WHERE collection = ?1 AND id = ?2")?
        .query_row([&*key.collection, &*key.id], |row| {
            let body: Option<Box<str>> = row.get(1)?;
            Ok(match body {
                Some(body) => {
                    let expires_at = row.get::<_, Option<i64>>(0)?.map(Millis);
                    Content::Found { body: Json(body), expires_at }
                }
                None => Content::Tombstone { until: Millis(row.get(0)?) },
            })
        })
        .optional()?;
    Ok(found.unwrap_or(Content::Absent).at(now))
}
