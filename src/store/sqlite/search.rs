//! `find` and `count`, each over one snapshot: the documents that are come to by the way that `access` chose are judged by the filter, and the
//! first of them in the order asked for are kept. A document that has run out is passed over.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::ControlFlow;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::access::{self, FEW, Index, Part, Way};
use crate::clock::Millis;
use crate::store::filter::Filter;
use crate::store::order::{Order, Rank, is_cut};
use crate::store::{Document, Find, Json};

/// What a read gave, and how many documents it went past without the help of an index.
pub(super) struct Found<T> {
    pub(super) result: T,
    pub(super) scanned: usize,
}

/// Documents in the order asked for.
pub(super) fn find(
    connection: &Connection,
    collection: &str,
    find: &Find,
    now: Millis,
) -> rusqlite::Result<Found<Vec<Document>>> {
    let snapshot = connection.unchecked_transaction()?;
    let search = Search { connection: &snapshot, collection, filter: &find.filter, now };
    let mut top = Top::new(find);
    let scanned = match access::of_find(&snapshot, collection, find)? {
        Way::Scan => search.scan(&mut top, usize::MAX)?.0,
        Way::Index(index) => {
            search.through(&index, &mut top)?;
            0
        }
        Way::ScanFirst(index) => {
            let (scanned, finished) = search.scan(&mut top, FEW)?;
            if !finished {
                top = Top::new(find);
                search.through(&index, &mut top)?;
            }
            scanned
        }
    };
    Ok(Found { result: top.into_documents(), scanned })
}

/// How many match.
pub(super) fn count(
    connection: &Connection,
    collection: &str,
    filter: &Filter,
    now: Millis,
) -> rusqlite::Result<Found<u64>> {
    let snapshot = connection.unchecked_transaction()?;
    let search = Search { connection: &snapshot, collection, filter, now };
    let mut count = 0;
    let scanned = match access::of_count(&snapshot, collection, filter)? {
        Way::Scan => search.each("", |_, body| {
            count += u64::from(filter.matches(&body));
            ControlFlow::Continue(())
        })?,
        Way::Index(index) | Way::ScanFirst(index) => {
            for span in index.part.spans() {
                _ = search.walk(&index.field, span, &Edge::from(span.0), false, |_, id| {
                    count += u64::from(search.matching(id)?.is_some());
                    Ok(ControlFlow::Continue(()))
                })?;
            }
            0
        }
    };
    Ok(Found { result: count, scanned })
}

/// How many documents there are, run out or not, counted up to `most`.
pub(super) fn documents(
    connection: &Connection,
    collection: &str,
    most: u64,
) -> rusqlite::Result<u64> {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let documents: i64 = connection
        .prepare_cached(
            "SELECT count(*) FROM (SELECT 1 FROM documents WHERE collection = ?1 AND body IS NOT NULL LIMIT ?2)",
        )?
        .query_row(params![collection, most], |row| row.get(0))?;
    Ok(u64::try_from(documents).unwrap_or(0))
}

/// One read of one collection.
struct Search<'a> {
    connection: &'a Connection,
    collection: &'a str,
    filter: &'a Filter,
    now: Millis,
}

/// Where a walk begins: after this value and id.
struct Edge<'a> {
    value: &'a [u8],
    id: Value,
}

impl<'a> Edge<'a> {
    /// Before the first id of a value.
    fn from(value: &'a [u8]) -> Self {
        Self { value, id: Value::Text(String::new()) }
    }

    /// Behind the last id of a value: SQLite has every BLOB stand after every text.
    fn up_to(value: &'a [u8]) -> Self {
        Self { value, id: Value::Blob(Vec::new()) }
    }
}

impl Search<'_> {
    /// Past documents in the order of their ids, until there are enough or `most` were read; how many these were, and whether it came to its end.
    fn scan(&self, top: &mut Top<'_>, most: usize) -> rusqlite::Result<(usize, bool)> {
        let by_id = top.order.is_none();
        let from = top.after.filter(|_| by_id).map_or("", |after| &after.id);
        let (mut left, mut finished) = (most, true);
        let scanned = self.each(from, |id, body| {
            if by_id && top.is_full() {
                return ControlFlow::Break(());
            }
            if left == 0 {
                finished = false;
                return ControlFlow::Break(());
            }
            left -= 1;
            if self.filter.matches(&body) {
                top.offer(Rank::of(top.order, id, &body), body);
            }
            ControlFlow::Continue(())
        })?;
        Ok((scanned, finished))
    }

    /// What is in a part of an index.
    fn through(&self, index: &Index, top: &mut Top<'_>) -> rusqlite::Result<()> {
        let order = top.order;
        let by_value = order.is_some_and(|order| order.path.join(".") == *index.field);
        let backwards = by_value && order.is_some_and(|order| order.descending);
        let by_id = order.is_none() && matches!(index.part, Part::Values(_));
        let mut spans = index.part.spans();
        if backwards {
            spans.reverse();
        }
        for span in spans {
            let Some(edge) = edge(span, top, by_value, by_id, backwards) else { continue };
            let ended = self.walk(&index.field, span, &edge, backwards, |value, id| {
                if let Some(worst) = top.worst() {
                    let is_behind = if by_value {
                        worst.key.indexed() != value || !is_cut(value)
                    } else {
                        by_id && *worst.id < *id
                    };
                    if is_behind {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                if (order.is_some() || top.wants(&Rank::of_id(id)))
                    && let Some(body) = self.matching(id)?
                {
                    top.offer(Rank::of(order, id, &body), body);
                }
                Ok(ControlFlow::Continue(()))
            })?;
            if by_value && ended.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Every document that is there, with an id after this one; how many these were.
    fn each(
        &self,
        from: &str,
        mut see: impl FnMut(&str, Json) -> ControlFlow<()>,
    ) -> rusqlite::Result<usize> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, body FROM documents WHERE collection = ?1 AND id > ?2 AND body IS NOT NULL
             AND (expires_at IS NULL OR expires_at > ?3) ORDER BY id",
        )?;
        let mut rows = statement.query(params![self.collection, from, self.now.0])?;
        let mut seen = 0;
        while let Some(row) = rows.next()? {
            if see(row.get_ref(0)?.as_str()?, Json(row.get(1)?)).is_break() {
                break;
            }
            seen += 1;
        }
        Ok(seen)
    }

    /// Entries of an index between `edge` and the other end of the span, in the order of value and id, or against it.
    fn walk(
        &self,
        field: &str,
        (first, last): (&[u8], &[u8]),
        edge: &Edge<'_>,
        backwards: bool,
        mut see: impl FnMut(&[u8], &str) -> rusqlite::Result<ControlFlow<()>>,
    ) -> rusqlite::Result<ControlFlow<()>> {
        let (sql, end) = if backwards {
            (
                "SELECT value, id FROM document_index WHERE collection = ?1 AND field = ?2
                 AND (value, id) < (?3, ?4) AND value >= ?5 ORDER BY value DESC, id DESC",
                first,
            )
        } else {
            (
                "SELECT value, id FROM document_index WHERE collection = ?1 AND field = ?2
                 AND (value, id) > (?3, ?4) AND value <= ?5 ORDER BY value, id",
                last,
            )
        };
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows =
            statement.query(params![self.collection, field, edge.value, edge.id, end])?;
        while let Some(row) = rows.next()? {
            let (value, id) = (row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_str()?);
            if see(value, id)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The document, where it is there and matches.
    fn matching(&self, id: &str) -> rusqlite::Result<Option<Json>> {
        let body = self
            .connection
            .prepare_cached(
                "SELECT body FROM documents WHERE collection = ?1 AND id = ?2 AND body IS NOT NULL
                 AND (expires_at IS NULL OR expires_at > ?3)",
            )?
            .query_row(params![self.collection, id, self.now.0], |row| row.get(0).map(Json))
            .optional()?;
        Ok(body.filter(|body| self.filter.matches(body)))
    }
}

/// Where the walk through a span begins; `None`: all of it stands before `after`.
fn edge<'a>(
    span: (&'a [u8], &'a [u8]),
    top: &Top<'a>,
    by_value: bool,
    by_id: bool,
    backwards: bool,
) -> Option<Edge<'a>> {
    let begin = if backwards { Edge::up_to(span.1) } else { Edge::from(span.0) };
    let Some(after) = top.after else { return Some(begin) };
    let id = || Value::Text(after.id.to_string());
    if by_id {
        return Some(Edge { value: span.0, id: id() });
    }
    if !by_value {
        return Some(begin);
    }
    let value = after.key.indexed();
    let place = if backwards { span.1.cmp(value).reverse() } else { span.0.cmp(value) };
    let is_behind = if backwards { value < span.0 } else { value > span.1 };
    if is_behind {
        return None;
    }
    Some(match place {
        Ordering::Greater => begin,
        // Documents that share a cut value stand in no order of their own.
        Ordering::Less | Ordering::Equal if is_cut(value) && backwards => Edge::up_to(value),
        Ordering::Less | Ordering::Equal if is_cut(value) => Edge::from(value),
        Ordering::Less | Ordering::Equal => Edge { value, id: id() },
    })
}

/// The first documents in an order, so many at most.
struct Top<'a> {
    order: Option<&'a Order>,
    after: Option<&'a Rank>,
    limit: usize,
    kept: BinaryHeap<Kept>,
}

struct Kept {
    rank: Rank,
    descending: bool,
    body: Json,
}

impl<'a> Top<'a> {
    fn new(find: &'a Find) -> Self {
        let (order, after) = (find.order.as_ref(), find.after.as_ref());
        Self { order, after, limit: find.limit, kept: BinaryHeap::new() }
    }

    fn is_full(&self) -> bool {
        self.kept.len() >= self.limit
    }

    /// The last of those kept, once there are enough.
    fn worst(&self) -> Option<&Rank> {
        self.kept.peek().filter(|_| self.is_full()).map(|kept| &kept.rank)
    }

    fn wants(&self, rank: &Rank) -> bool {
        let stands = |other, place| rank.compare(other, self.order) == place;
        self.limit > 0
            && self.after.is_none_or(|after| stands(after, Ordering::Greater))
            && self.worst().is_none_or(|worst| stands(worst, Ordering::Less))
    }

    fn offer(&mut self, rank: Rank, body: Json) {
        if !self.wants(&rank) {
            return;
        }
        let descending = self.order.is_some_and(|order| order.descending);
        self.kept.push(Kept { rank, descending, body });
        if self.kept.len() > self.limit {
            self.kept.pop();
        }
    }

    fn into_documents(self) -> Vec<Document> {
        let document = |kept: Kept| Document { id: kept.rank.id, body: kept.body };
        self.kept.into_sorted_vec().into_iter().map(document).collect()
    }
}

impl Ord for Kept {
    fn cmp(&self, other: &Self) -> Ordering {
        let ordering = self.rank.cmp(&other.rank);
        if self.descending { ordering.reverse() } else { ordering }
    }
}

impl PartialOrd for Kept {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Kept {}
