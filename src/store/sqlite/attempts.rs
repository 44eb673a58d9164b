//! Attempts as rows. What a handler logged stands in the row as JSON, and most rows have none.

use rusqlite::{Connection, params};

use crate::clock::Millis;
use crate::store::{Attempt, AttemptLog, Finish};

/// The attempt that a `Finish` ends; `error` is why it failed.
pub(super) fn insert_end(
    connection: &Connection,
    finish: &Finish,
    error: Option<&str>,
) -> rusqlite::Result<()> {
    let attempt = Attempt {
        job: finish.job.n,
        attempt: finish.attempt,
        started_at: finish.started_at,
        ended_at: finish.ended_at,
        generation: finish.generation,
        version: finish.version.clone(),
        error: error.map(Into::into),
        log: finish.log.clone(),
    };
    insert(connection, finish.job.event.0, &attempt)
}

/// Writes one down.
pub(super) fn insert(
    connection: &Connection,
    event: i64,
    attempt: &Attempt,
) -> rusqlite::Result<()> {
    let log = (!attempt.log.is_empty())
        .then(|| serde_json::to_string(&attempt.log).expect("texts and numbers are JSON"));
    connection
        .prepare_cached(
            "INSERT INTO attempts (event, n, attempt, started_at, ended_at, generation, version, error, log)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            event,
            attempt.job,
            attempt.attempt,
            attempt.started_at.0,
            attempt.ended_at.0,
            i64::try_from(attempt.generation).unwrap_or(i64::MAX),
            attempt.version.as_deref(),
            attempt.error.as_deref(),
            log,
        ])?;
    Ok(())
}

/// Those of an event, the oldest first.
pub(super) fn of(connection: &Connection, event: i64) -> rusqlite::Result<Vec<Attempt>> {
    let mut statement = connection.prepare_cached(
        "SELECT n, attempt, started_at, ended_at, generation, version, error, log FROM attempts WHERE event = ?1 ORDER BY row",
    )?;
    let rows = statement.query_map([event], |row| {
        let log: Option<Box<str>> = row.get(7)?;
        // A log that somebody else has written is no reason to hide the attempt.
        let log = log.and_then(|log| serde_json::from_str::<AttemptLog>(&log).ok());
        Ok(Attempt {
            job: row.get(0)?,
            attempt: row.get(1)?,
            started_at: Millis(row.get(2)?),
            ended_at: Millis(row.get(3)?),
            generation: u64::try_from(row.get::<_, i64>(4)?).unwrap_or(0),
            version: row.get(5)?,
            error: row.get(6)?,
            log: log.unwrap_or_default(),
        })
    })?;
    rows.collect()
}
