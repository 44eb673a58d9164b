//! Indexes of documents on the writer's side: which there are, their entries, and the steps in which they are built and dropped. An index has its
//! entries written from the moment it is declared, so that building only has to add those of documents that were there before.

use std::collections::HashMap;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::clock;
use crate::store::order::{Key, path};
use crate::store::{IndexStep, IndexedField, Json};

/// `state` of `document_indexes`.
pub(super) mod state {
    pub(in crate::store::sqlite) const BUILDING: i64 = 0;
    pub(in crate::store::sqlite) const READY: i64 = 1;
    pub(in crate::store::sqlite) const DROPPING: i64 = 2;
    /// Declared again before it was gone: its entries are out of date, so it is built anew once they are deleted.
    pub(in crate::store::sqlite) const RENEWING: i64 = 3;
}

/// Entries that are deleted between two looks at the clock.
const DROPPED_AT_ONCE: i64 = 32;

/// What the writer knows of `document_indexes`: the fields whose entries it has to write.
#[derive(Debug, Default)]
pub(super) struct Indexes(HashMap<Box<str>, Vec<Field>>);

#[derive(Debug)]
struct Field {
    name: Box<str>,
    path: Vec<Box<str>>,
}

impl Indexes {
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let mut indexes = Self::default();
        let mut statement = connection
            .prepare_cached("SELECT collection, field FROM document_indexes WHERE state <= ?1")?;
        let mut rows = statement.query([state::READY])?;
        while let Some(row) = rows.next()? {
            let name: Box<str> = row.get(1)?;
            // What is stored was declared, and so it has names.
            let path = path(&name).unwrap_or_default();
            indexes.0.entry(row.get(0)?).or_default().push(Field { name, path });
        }
        Ok(indexes)
    }

    /// Before a document is written or deleted: brings its entries to what they are for `body`, `None` where none is left.
    pub(super) fn update(
        &self,
        connection: &Connection,
        collection: &str,
        id: &str,
        body: Option<&Json>,
    ) -> rusqlite::Result<()> {
        let Some(fields) = self.0.get(collection) else { return Ok(()) };
        let before = stored(connection, collection, id)?;
        for Field { name, path } in fields {
            let key = |body: &Json| Key::in_document(body, path);
            let (old, new) = (before.as_ref().map(key), body.map(key));
            let (old, new) = (old.as_ref().map(Key::indexed), new.as_ref().map(Key::indexed));
            if old == new {
                // While it is being built the entry may be missing all the same; the builder comes to it.
                continue;
            }
            if let Some(old) = old {
                delete(connection, collection, name, old, id)?;
            }
            if let Some(new) = new {
                insert(connection, collection, name, new, id)?;
            }
        }
        Ok(())
    }
}

/// Makes what is declared what there is to be. What is declared again while it is being dropped is built anew after that.
pub(super) fn set(connection: &Connection, declared: &[IndexedField]) -> rusqlite::Result<Indexes> {
    for (known, state) in all(connection)? {
        let next = match (declared.contains(&known), state) {
            (true, state::DROPPING) => state::RENEWING,
            (false, state::BUILDING | state::READY | state::RENEWING) => state::DROPPING,
            (_, state) => state,
        };
        if next != state {
            set_state(connection, &known, next, "")?;
        }
    }
    for IndexedField { collection, field } in declared {
        connection
            .prepare_cached(
                "INSERT OR IGNORE INTO document_indexes (collection, field, state) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![collection, field, state::BUILDING])?;
    }
    Indexes::load(connection)
}

/// One step, until the budget is spent; deleting comes first, since it makes room.
pub(super) fn step(
    connection: &Connection,
    indexes: &mut Indexes,
    budget: Duration,
) -> rusqlite::Result<IndexStep> {
    let next = connection
        .prepare_cached(
            "SELECT collection, field, state, cursor FROM document_indexes WHERE state <> ?1
             ORDER BY state DESC, collection, field LIMIT 1",
        )?
        .query_row([state::READY], |row| {
            let index = IndexedField { collection: row.get(0)?, field: row.get(1)? };
            Ok((index, row.get::<_, i64>(2)?, row.get::<_, Box<str>>(3)?))
        })
        .optional()?;
    let Some((index, state, cursor)) = next else { return Ok(IndexStep::Idle) };
    let budget = Budget { since: clock::instant(), budget };
    if state == state::BUILDING {
        return build(connection, index, &cursor, budget);
    }
    if !empty(connection, &index, budget)? {
        return Ok(IndexStep::Working);
    }
    if state == state::RENEWING {
        set_state(connection, &index, state::BUILDING, "")?;
        *indexes = Indexes::load(connection)?;
        return Ok(IndexStep::Working);
    }
    connection
        .prepare_cached("DELETE FROM document_indexes WHERE collection = ?1 AND field = ?2")?
        .execute([&*index.collection, &*index.field])?;
    Ok(IndexStep::Dropped(index))
}

/// How long a step may take.
#[derive(Clone, Copy)]
struct Budget {
    since: std::time::Instant,
    budget: Duration,
}

impl Budget {
    fn is_spent(self) -> bool {
        clock::instant().saturating_duration_since(self.since) >= self.budget
    }
}

/// Adds the entries of documents from the cursor on. Those behind it are kept up by who writes them.
fn build(
    connection: &Connection,
    index: IndexedField,
    cursor: &str,
    budget: Budget,
) -> rusqlite::Result<IndexStep> {
    let IndexedField { collection, field } = &index;
    let path = path(field).unwrap_or_default();
    let mut statement = connection.prepare_cached(
        "SELECT id, body FROM documents WHERE collection = ?1 AND id > ?2 ORDER BY id",
    )?;
    let mut rows = statement.query([&**collection, cursor])?;
    while let Some(row) = rows.next()? {
        let id: Box<str> = row.get(0)?;
        if let Some(body) = row.get(1)? {
            let key = Key::in_document(&Json(body), &path);
            insert(connection, collection, field, key.indexed(), &id)?;
        }
        if budget.is_spent() {
            set_state(connection, &index, state::BUILDING, &id)?;
            return Ok(IndexStep::Working);
        }
    }
    set_state(connection, &index, state::READY, "")?;
    Ok(IndexStep::Ready(index))
}

/// Deletes entries; whether none is left.
fn empty(
    connection: &Connection,
    IndexedField { collection, field }: &IndexedField,
    budget: Budget,
) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached(
        "SELECT value, id FROM document_index WHERE collection = ?1 AND field = ?2 ORDER BY value, id LIMIT ?3",
    )?;
    loop {
        let entries = statement
            .query_map(params![collection, field, DROPPED_AT_ONCE], |row| {
                Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Box<str>>(1)?))
            })?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        if entries.is_empty() {
            return Ok(true);
        }
        for (value, id) in entries {
            delete(connection, collection, field, &value, &id)?;
        }
        if budget.is_spent() {
            return Ok(false);
        }
    }
}

fn all(connection: &Connection) -> rusqlite::Result<Vec<(IndexedField, i64)>> {
    connection
        .prepare_cached("SELECT collection, field, state FROM document_indexes")?
        .query_map([], |row| {
            Ok((IndexedField { collection: row.get(0)?, field: row.get(1)? }, row.get(2)?))
        })?
        .collect()
}

fn set_state(
    connection: &Connection,
    IndexedField { collection, field }: &IndexedField,
    state: i64,
    cursor: &str,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE document_indexes SET state = ?3, cursor = ?4 WHERE collection = ?1 AND field = ?2",
        )?
        .execute(params![collection, field, state, cursor])?;
    Ok(())
}

fn stored(connection: &Connection, collection: &str, id: &str) -> rusqlite::Result<Option<Json>> {
    let body: Option<Option<Box<str>>> = connection
        .prepare_cached("SELECT body FROM documents WHERE collection = ?1 AND id = ?2")?
        .query_row([collection, id], |row| row.get(0))
        .optional()?;
    Ok(body.flatten().map(Json))
}

fn insert(
    connection: &Connection,
    collection: &str,
    field: &str,
    value: &[u8],
    id: &str,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT OR IGNORE INTO document_index (collection, field, value, id) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![collection, field, value, id])?;
    Ok(())
}

fn delete(
    connection: &Connection,
    collection: &str,
    field: &str,
    value: &[u8],
    id: &str,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "DELETE FROM document_index WHERE collection = ?1 AND field = ?2 AND value = ?3 AND id = ?4",
        )?
        .execute(params![collection, field, value, id])?;
    Ok(())
}
