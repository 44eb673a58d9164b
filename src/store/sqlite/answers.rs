//! Answers that are kept: looking one up, and committing one with its event and its effects. Everything is looked at before anything is written, so
//! what is known or conflicts leaves nothing to take back.

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::ledger::Ledger;
use super::{attempts, inbox};
use crate::clock::Millis;
use crate::store::{
    AnswerKey, Answered, AnsweredEvent, Answering, Committed, JobState, Known, Recorded, StoreError,
};

/// The answer under a key, or that its event is there without one.
pub(super) fn known(connection: &Connection, key: &AnswerKey) -> rusqlite::Result<Option<Known>> {
    let key = [&*key.scope, &*key.key];
    let answer = connection
        .prepare_cached(
            "SELECT digest, status, headers, body, answered_at FROM answers WHERE scope = ?1 AND key = ?2",
        )?
        .query_row(key, recorded)
        .optional()?;
    if let Some(answer) = answer {
        return Ok(Some(Known::Answer(answer)));
    }
    // The scope of a route is no webhook's name.
    let event = connection
        .prepare_cached("SELECT 1 FROM events WHERE webhook = ?1 AND delivery_id = ?2")?
        .exists(key)?;
    Ok(event.then_some(Known::Event))
}

fn recorded(row: &Row<'_>) -> rusqlite::Result<Recorded> {
    let headers: String = row.get(2)?;
    let headers = serde_json::from_str(&headers).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(2, Type::Text, Box::new(error))
    })?;
    Ok(Recorded {
        digest: row.get(0)?,
        status: row.get(1)?,
        headers,
        body: row.get::<_, Vec<u8>>(3)?.into(),
        answered_at: Millis(row.get(4)?),
    })
}

/// Commits a run with what it answers and what it answered.
pub(super) fn answer(
    connection: &Connection,
    ledger: &mut Ledger,
    answering: &Answering,
) -> rusqlite::Result<Result<Answered, StoreError>> {
    let Answering { key, event, effects, answer } = answering;
    if let Some(key) = key
        && let Some(known) = known(connection, key)?
    {
        return Ok(Ok(Answered::Known(known)));
    }
    let after = match inbox::commit(connection, ledger, effects)? {
        Ok(Committed::Yes(after)) => after,
        Ok(Committed::Conflict | Committed::Stale) => return Ok(Ok(Answered::Conflict)),
        Err(full) => return Ok(Err(full)),
    };
    if let Some(event) = event {
        store_event(connection, ledger, event)?;
    }
    if let (Some(key), Some(answer)) = (key, answer) {
        store(connection, key, answer)?;
    }
    Ok(Ok(Answered::Yes(after)))
}

fn store_event(
    connection: &Connection,
    ledger: &mut Ledger,
    answered: &AnsweredEvent,
) -> rusqlite::Result<()> {
    let AnsweredEvent { event, job, attempt } = answered;
    let seq = ledger.last + 1;
    if !inbox::insert(connection, seq, event)? {
        // Its id is fresh and its delivery id was looked up: whoever hands it in twice must not hear that it is there anew.
        return Err(rusqlite::Error::StatementChangedRows(0));
    }
    connection
        .prepare_cached(
            "INSERT INTO jobs (event, n, state, attempt, script, pattern) VALUES (?1, 0, ?2, 1, ?3, ?4)",
        )?
        .execute(params![seq, JobState::Done, &*job.script, job.pattern.as_deref()])?;
    if let Some(attempt) = attempt {
        attempts::insert(connection, seq, attempt)?;
    }
    ledger.last = seq;
    ledger.dispatched(seq);
    Ok(())
}

fn store(connection: &Connection, key: &AnswerKey, answer: &Recorded) -> rusqlite::Result<()> {
    let headers = serde_json::to_string(&answer.headers).expect("pairs of texts are JSON");
    connection
        .prepare_cached(
            "INSERT INTO answers (scope, key, answered_at, digest, status, headers, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            &*key.scope,
            &*key.key,
            answer.answered_at.0,
            answer.digest,
            answer.status,
            headers,
            &*answer.body
        ])?;
    Ok(())
}

/// Deletes what was answered before then; how many it was. The oldest come first: rows are in the order of their commits, which is that of time but
/// for a clock that was set back.
pub(super) fn retain(connection: &Connection, before: Millis, limit: i64) -> rusqlite::Result<i64> {
    let deleted = connection
        .prepare_cached(
            "DELETE FROM answers WHERE row IN
             (SELECT row FROM (SELECT row, answered_at FROM answers ORDER BY row LIMIT ?2) WHERE answered_at < ?1)",
        )?
        .execute(params![before.0, limit])?;
    Ok(i64::try_from(deleted).unwrap_or(0))
}
