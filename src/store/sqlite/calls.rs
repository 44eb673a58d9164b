//! Outbound calls as rows. They come with the end of their attempt, or by themselves where one must be on disk before it is sent.

use rusqlite::types::Type;
use rusqlite::{Connection, Row, params};

use super::ledger::Ledger;
use super::{inbox, query};
use crate::clock::Millis;
use crate::store::{
    AnswerKind, Call, CallAnswer, CallOutcome, Committed, JobKey, KeptAnswer, Noted, RECALLED_MAX,
    Recalled, SHOWN_MAX,
};

/// A row without its answer, for `call_of`.
const COLUMNS: &str = "n, number, attempt, provider, operation, is_unsafe, identity, digest, key, epoch, started_at, latency_ms, tries, outcome, status, error, too_large";

/// Writes a call down, with its job if that is not there, whose attempt is used with it: so one that kills the process is found by what comes after.
pub(super) fn note(
    connection: &Connection,
    ledger: &mut Ledger,
    noted: &Noted,
) -> rusqlite::Result<Committed> {
    let Noted { job, plan, attempt, call } = noted;
    let claimed = inbox::claim(connection, ledger, *job, plan.as_deref(), *attempt)?;
    if matches!(claimed, Committed::Yes(_)) {
        store(connection, job.event.0, call, true)?;
    }
    Ok(claimed)
}

/// Stores a call of an event, in place of what stands under its number; with its answer where the job may run again.
pub(super) fn store(
    connection: &Connection,
    event: i64,
    call: &Call,
    may_run_again: bool,
) -> rusqlite::Result<()> {
    let answer = match &call.answer {
        KeptAnswer::Whole(answer) if may_run_again => Some(answer),
        KeptAnswer::Whole(_) | KeptAnswer::Nothing | KeptAnswer::TooLarge => None,
    };
    let headers = answer
        .map(|answer| serde_json::to_string(&answer.headers).expect("pairs of texts are JSON"));
    connection
        .prepare_cached(&format!(
            "INSERT OR REPLACE INTO calls (event, {COLUMNS}, headers, kind, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21)"
        ))?
        .execute(params![
            event,
            call.job,
            call.number,
            call.attempt,
            &*call.provider,
            &*call.operation,
            call.is_unsafe,
            call.identity,
            call.digest,
            call.key.as_deref(),
            call.epoch,
            call.started_at.0,
            i64::try_from(call.latency_ms).unwrap_or(i64::MAX),
            call.tries,
            code(call.outcome),
            call.status,
            call.error.as_deref(),
            call.answer == KeptAnswer::TooLarge,
            headers,
            answer.map(|answer| answer.kind.word()),
            answer.map(|answer| &*answer.body),
        ])?;
    Ok(())
}

/// What a later run of a job has to know: its unsafe calls with their answers, the oldest first.
pub(super) fn of_job(connection: &Connection, job: JobKey) -> rusqlite::Result<Recalled> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS}, headers, kind, body FROM calls WHERE event = ?1 AND n = ?2 AND is_unsafe ORDER BY number DESC LIMIT ?3"
    ))?;
    let rows =
        statement.query_map(params![job.event.0, job.n, query::rows(RECALLED_MAX)], |row| {
            let call = call_of(row)?;
            let Some(headers) = row.get::<_, Option<String>>(17)? else { return Ok(call) };
            let headers = serde_json::from_str(&headers).map_err(|error| {
                rusqlite::Error::FromSqlConversionFailure(17, Type::Text, Box::new(error))
            })?;
            let (kind, body) = (kind_of(&row.get::<_, String>(18)?)?, row.get::<_, Vec<u8>>(19)?);
            let status = call.status.unwrap_or_default();
            let answer = CallAnswer { status, headers, kind, body: body.into() };
            Ok(Call { answer: KeptAnswer::Whole(answer), ..call })
        })?;
    let mut calls = rows.collect::<rusqlite::Result<Vec<Call>>>()?;
    calls.reverse();
    Ok(Recalled { calls, next: next_number(connection, job)? })
}

/// The number that the next call of a job takes.
fn next_number(connection: &Connection, job: JobKey) -> rusqlite::Result<u32> {
    connection
        .prepare_cached(
            "SELECT coalesce(max(number) + 1, 0) FROM calls WHERE event = ?1 AND n = ?2",
        )?
        .query_row(params![job.event.0, job.n], |row| row.get(0))
}

/// What an event shows of its calls, without their answers, and how many more rows it has.
pub(super) fn of_event(connection: &Connection, event: i64) -> rusqlite::Result<(Vec<Call>, u64)> {
    let calls = connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM calls WHERE event = ?1 ORDER BY n, number LIMIT ?2"
        ))?
        .query_map(params![event, query::rows(SHOWN_MAX)], call_of)?
        .collect::<rusqlite::Result<Vec<Call>>>()?;
    if calls.len() < SHOWN_MAX {
        return Ok((calls, 0));
    }
    let all: i64 = connection
        .prepare_cached("SELECT count(*) FROM calls WHERE event = ?1")?
        .query_row([event], |row| row.get(0))?;
    let all = u64::try_from(all).unwrap_or(0);
    let more = all.saturating_sub(calls.len() as u64);
    Ok((calls, more))
}

fn call_of(row: &Row<'_>) -> rusqlite::Result<Call> {
    let outcome: i64 = row.get(13)?;
    let known = CallOutcome::ALL.into_iter().find(|known| code(*known) == outcome);
    let is_too_large: bool = row.get(16)?;
    Ok(Call {
        job: row.get(0)?,
        number: row.get(1)?,
        attempt: row.get(2)?,
        provider: row.get(3)?,
        operation: row.get(4)?,
        is_unsafe: row.get(5)?,
        identity: row.get(6)?,
        digest: row.get(7)?,
        key: row.get(8)?,
        epoch: row.get(9)?,
        started_at: Millis(row.get(10)?),
        latency_ms: u64::try_from(row.get::<_, i64>(11)?).unwrap_or(0),
        tries: row.get(12)?,
        outcome: known.ok_or(rusqlite::Error::IntegralValueOutOfRange(13, outcome))?,
        status: row.get(14)?,
        error: row.get(15)?,
        answer: if is_too_large { KeptAnswer::TooLarge } else { KeptAnswer::Nothing },
    })
}

fn kind_of(word: &str) -> rusqlite::Result<AnswerKind> {
    let known = AnswerKind::ALL.into_iter().find(|kind| kind.word() == word);
    known.ok_or_else(|| rusqlite::Error::InvalidColumnName(word.to_owned()))
}

/// 003.sql names the same numbers.
const fn code(outcome: CallOutcome) -> i64 {
    match outcome {
        CallOutcome::Intent => 0,
        CallOutcome::Succeeded => 1,
        CallOutcome::Refused => 2,
        CallOutcome::Failed => 3,
        CallOutcome::Unsent => 4,
    }
}
