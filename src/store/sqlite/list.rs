//! Lists of events. One question looks at a bounded number of events, for a bounded time, and says where it stopped: a reader's thread is never held
//! for long, however many events there are and however few of them match. Whoever asks goes on from there.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Params, params};

use super::query::{event_id, rows, summary};
use crate::clock::{self, Millis};
use crate::id::EventId;
use crate::store::{EventOrder, EventPage, EventQuery, JobState};

/// Events that one question looks at: some 20 ms where each needs its jobs looked up.
const LOOKED_AT_MAX: usize = 5_000;
/// Bytes of payloads that one question searches for text.
const SEARCHED_BYTES_MAX: u64 = 16 << 20;
/// How long one question may take, on a machine or a disk that is slower than thought.
const TIME_MAX: Duration = Duration::from_millis(100);
/// Rows that are read at once. More than most pages, so that they need one read.
const CHUNK: usize = 256;

/// A page of events. `low_water`: every event up to it has jobs.
pub(super) fn events(
    connection: &Connection,
    query: &EventQuery,
    low_water: i64,
) -> rusqlite::Result<EventPage> {
    let snapshot = connection.unchecked_transaction()?;
    let started = clock::instant();
    let mut span = Span::of(&snapshot, query)?;
    let mut page = EventPage { events: Vec::new(), next: None };
    let (mut looked_at, mut searched) = (0, 0);
    loop {
        let candidates = span.candidates(&snapshot, query, low_water)?;
        let is_last = candidates.len() < CHUNK;
        for candidate in candidates {
            if page.events.len() >= query.limit {
                return Ok(page);
            }
            if let Some(found) = candidate.look(&snapshot, query, &mut searched)? {
                page.events.push(found);
            }
            page.next = Some(candidate.id);
            span.pass(candidate.seq);
            looked_at += 1;
            let is_enough = looked_at >= LOOKED_AT_MAX
                || searched >= SEARCHED_BYTES_MAX
                || clock::instant().saturating_duration_since(started) >= TIME_MAX;
            if is_enough {
                return Ok(page);
            }
        }
        if is_last {
            page.next = None;
            return Ok(page);
        }
    }
}

/// What is still to be looked at: `after` < seq < `before`, from one of its ends.
struct Span {
    after: i64,
    before: i64,
    order: EventOrder,
}

/// An event that may be asked for.
struct Candidate {
    seq: i64,
    id: EventId,
    webhook: Box<str>,
    kind: Box<str>,
    received_at: Millis,
}

impl Span {
    fn of(connection: &Connection, query: &EventQuery) -> rusqlite::Result<Self> {
        let before = query.before.map(|id| first_from(connection, id)).transpose()?;
        let after = query.after.map(|id| last_up_to(connection, id)).transpose()?;
        Ok(Self {
            after: after.unwrap_or(0),
            before: before.map_or(i64::MAX, |(seq, _)| seq),
            order: query.order,
        })
    }

    fn pass(&mut self, seq: i64) {
        match self.order {
            EventOrder::NewestFirst => self.before = seq,
            EventOrder::OldestFirst => self.after = seq,
        }
    }

    /// The next ones in order; fewer than a chunk: there are no more. States that few events are in are found by their index.
    fn candidates(
        &self,
        connection: &Connection,
        query: &EventQuery,
        low_water: i64,
    ) -> rusqlite::Result<Vec<Candidate>> {
        match query.state {
            // Done is what most events are.
            None | Some(JobState::Done) => self.all(connection, self.after),
            Some(JobState::Pending) => {
                let mut candidates = self.at(connection, JobState::Pending)?;
                candidates.extend(self.all(connection, self.after.max(low_water))?);
                candidates.sort_unstable_by_key(|candidate| candidate.seq);
                candidates.dedup_by_key(|candidate| candidate.seq);
                if self.order == EventOrder::NewestFirst {
                    candidates.reverse();
                }
                // Past a chunk one of the two may have gaps.
                candidates.truncate(CHUNK);
                Ok(candidates)
            }
            Some(state) => self.at(connection, state),
        }
    }

    fn all(&self, connection: &Connection, after: i64) -> rusqlite::Result<Vec<Candidate>> {
        let sql = format!(
            "SELECT seq, id, webhook, kind, received_at FROM events WHERE seq > ?1 AND seq < ?2 ORDER BY seq {} LIMIT ?3",
            self.direction()
        );
        candidates(connection, &sql, params![after, self.before, rows(CHUNK)])
    }

    fn at(&self, connection: &Connection, state: JobState) -> rusqlite::Result<Vec<Candidate>> {
        let direction = self.direction();
        let sql = format!(
            "SELECT e.seq, e.id, e.webhook, e.kind, e.received_at FROM
             (SELECT DISTINCT event FROM jobs INDEXED BY jobs_by_state
              WHERE state <> 5 AND state = ?4 AND event > ?1 AND event < ?2 ORDER BY event {direction} LIMIT ?3) j
             CROSS JOIN events e ON e.seq = j.event ORDER BY e.seq {direction}"
        );
        candidates(connection, &sql, params![self.after, self.before, rows(CHUNK), state])
    }

    fn direction(&self) -> &'static str {
        match self.order {
            EventOrder::NewestFirst => "DESC",
            EventOrder::OldestFirst => "ASC",
        }
    }
}

impl Candidate {
    /// What the list shows of it, if it is asked for. The cheap questions come first.
    fn look(
        &self,
        connection: &Connection,
        query: &EventQuery,
        searched: &mut u64,
    ) -> rusqlite::Result<Option<crate::store::EventSummary>> {
        if !query.matches_row(&self.webhook, &self.kind, self.received_at) {
            return Ok(None);
        }
        let Some((summary, _)) = summary(connection, self.seq)? else { return Ok(None) };
        if !query.matches(&summary) {
            return Ok(None);
        }
        let has_text = match &query.text {
            Some(text) => has_text(connection, self.seq, text, searched)?,
            None => true,
        };
        Ok(has_text.then_some(summary))
    }
}

/// Whether the payload, if it is still kept, has these bytes in it. `searched` grows by what was read for that.
fn has_text(
    connection: &Connection,
    seq: i64,
    text: &str,
    searched: &mut u64,
) -> rusqlite::Result<bool> {
    let found: Option<(i64, bool)> = connection
        .prepare_cached("SELECT length(body), instr(body, ?2) > 0 FROM payloads WHERE seq = ?1")?
        .query_row(params![seq, text.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((bytes, has_it)) = found else { return Ok(false) };
    *searched = searched.saturating_add(u64::try_from(bytes).unwrap_or(0));
    Ok(has_it)
}

fn candidates(
    connection: &Connection,
    sql: &str,
    values: impl Params,
) -> rusqlite::Result<Vec<Candidate>> {
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(values, |row| {
        Ok(Candidate {
            seq: row.get(0)?,
            id: event_id(row, 1)?,
            webhook: row.get(2)?,
            kind: row.get(3)?,
            received_at: Millis(row.get(4)?),
        })
    })?;
    rows.collect()
}

/// The first event from this id on, and whether it is the one. Retention may have taken the event itself; ids are made in the order of acceptance,
/// nearly.
fn first_from(connection: &Connection, id: EventId) -> rusqlite::Result<(i64, bool)> {
    let found = connection
        .prepare_cached("SELECT seq, id = ?1 FROM events WHERE id >= ?1 ORDER BY id LIMIT 1")?
        .query_row([id.0.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(found.unwrap_or((i64::MAX, true)))
}

/// The seq up to which a page has come that ended with this id.
fn last_up_to(connection: &Connection, id: EventId) -> rusqlite::Result<i64> {
    let (seq, is_it) = first_from(connection, id)?;
    Ok(if is_it { seq } else { seq - 1 })
}
