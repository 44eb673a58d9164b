//! Which way `find` and `count` take to their documents: through an index, and which part of it, or past every document of the collection. The way
//! decides how long a read takes and never what it gives: each document that is come to is judged by the whole filter.

use rusqlite::{Connection, params};

use crate::store::Find;
use crate::store::filter::{Filter, Test};
use crate::store::order::{Key, kind_of, path};

/// Entries of an index that may be read without a thought, some 10 ms. Where a range holds more, it may be most of the collection.
pub(super) const FEW: usize = 10_000;

/// The way of a `find`.
#[derive(Debug, PartialEq)]
pub(super) enum Way {
    /// Every document from an id on.
    Scan,
    /// What is in this part of an index.
    Index(Index),
    /// Past `FEW` documents, since most of them may match; then, if those were not enough, what is in this part of an index.
    ScanFirst(Index),
}

/// A part of an index.
#[derive(Debug, PartialEq)]
pub(super) struct Index {
    pub(super) field: Box<str>,
    pub(super) part: Part,
}

/// Values of an index, as it holds them.
#[derive(Debug, PartialEq)]
pub(super) enum Part {
    /// Each of these, in their order.
    Values(Vec<Vec<u8>>),
    /// From the first to the last, both included.
    Range(Vec<u8>, Vec<u8>),
}

impl Part {
    fn whole() -> Self {
        // Above every kind of value.
        Self::Range(Vec::new(), vec![u8::MAX])
    }

    /// What stands together in the index, first and last value.
    pub(super) fn spans(&self) -> Vec<(&[u8], &[u8])> {
        match self {
            Self::Values(values) => {
                values.iter().map(|value| (value.as_slice(), value.as_slice())).collect()
            }
            Self::Range(first, last) => vec![(first, last)],
        }
    }
}

/// For a `find`.
pub(super) fn of_find(
    connection: &Connection,
    collection: &str,
    find: &Find,
) -> rusqlite::Result<Way> {
    let ready = ready(connection, collection)?;
    let order = find.order.as_ref().map(|order| order.path.join("."));
    let ordering = order.filter(|field| ready.iter().any(|known| **known == **field));
    let mut parts = parts(&ready, &find.filter);
    if let ([only], None) = (parts.as_slice(), &find.order)
        && matches!(only.part, Part::Values(_))
    {
        return Ok(Way::Index(parts.remove(0)));
    }
    let best = smallest(connection, collection, parts)?;
    Ok(match (best, ordering) {
        (Some((index, entries)), _) if entries <= FEW => Way::Index(index),
        (Some((index, _)), Some(field)) if *index.field == *field => Way::Index(index),
        (_, Some(field)) => Way::Index(Index { field: field.into(), part: Part::whole() }),
        (Some((index, _)), None) => match index.part {
            Part::Range(..) if find.order.is_none() => Way::ScanFirst(index),
            Part::Range(..) | Part::Values(_) => Way::Index(index),
        },
        (None, None) => Way::Scan,
    })
}

/// For a `count`.
pub(super) fn of_count(
    connection: &Connection,
    collection: &str,
    filter: &Filter,
) -> rusqlite::Result<Way> {
    let mut parts = parts(&ready(connection, collection)?, filter);
    if parts.len() == 1 {
        return Ok(Way::Index(parts.remove(0)));
    }
    let best = smallest(connection, collection, parts)?;
    Ok(best.map_or(Way::Scan, |(index, _)| Way::Index(index)))
}

fn ready(connection: &Connection, collection: &str) -> rusqlite::Result<Vec<Box<str>>> {
    connection
        .prepare_cached("SELECT field FROM document_indexes WHERE collection = ?1 AND state = ?2")?
        .query_map(params![collection, super::indexes::state::READY], |row| row.get(0))?
        .collect()
}

/// The parts of ready indexes outside which nothing matches.
fn parts(ready: &[Box<str>], filter: &Filter) -> Vec<Index> {
    let part =
        |field: &str| Some(Index { field: field.into(), part: part_of(filter, &path(field)?)? });
    ready.iter().filter_map(|field| part(field)).collect()
}

fn part_of(filter: &Filter, path: &[Box<str>]) -> Option<Part> {
    let mut range: Option<(Vec<u8>, Vec<u8>)> = None;
    for condition in filter.0.iter().filter(|condition| condition.path == path) {
        let (first, last) = match &condition.test {
            Test::In(values) => {
                let mut values: Vec<Vec<u8>> =
                    values.iter().map(|value| Key::of(value).indexed().to_vec()).collect();
                values.sort_unstable();
                values.dedup();
                return Some(Part::Values(values));
            }
            Test::Not(_) => continue,
            Test::Greater { than, .. } => {
                let key = Key::of(than);
                (key.indexed().to_vec(), kind_of(&key)?.1)
            }
            Test::Less { than, .. } => {
                let key = Key::of(than);
                (kind_of(&key)?.0, key.indexed().to_vec())
            }
        };
        range = Some(match range {
            Some((lower, upper)) => (lower.max(first), upper.min(last)),
            None => (first, last),
        });
    }
    range.map(|(first, last)| Part::Range(first, last))
}

/// The part with the fewest entries, and how many these are; more than `FEW` of them are not counted.
fn smallest(
    connection: &Connection,
    collection: &str,
    parts: Vec<Index>,
) -> rusqlite::Result<Option<(Index, usize)>> {
    let mut best: Option<(Index, usize)> = None;
    for index in parts {
        let most = best.as_ref().map_or(FEW + 1, |(_, entries)| *entries);
        let mut entries = 0;
        for (first, last) in index.part.spans() {
            entries += count(connection, collection, &index.field, first, last, most - entries)?;
            if entries >= most {
                break;
            }
        }
        if best.is_none() || entries < most {
            best = Some((index, entries));
        }
    }
    Ok(best)
}

fn count(
    connection: &Connection,
    collection: &str,
    field: &str,
    first: &[u8],
    last: &[u8],
    most: usize,
) -> rusqlite::Result<usize> {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let entries: i64 = connection
        .prepare_cached(
            "SELECT count(*) FROM (SELECT 1 FROM document_index
             WHERE collection = ?1 AND field = ?2 AND value >= ?3 AND value <= ?4 LIMIT ?5)",
        )?
        .query_row(params![collection, field, first, last, most], |row| row.get(0))?;
    Ok(usize::try_from(entries).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::filter::Condition;

    fn key(value: &serde_json::Value) -> Vec<u8> {
        Key::of(value).indexed().to_vec()
    }

    fn check(tests: Vec<Test>, expected: Option<&Part>) {
        let condition = |test| Condition { path: vec!["a".into()], test };
        let filter = Filter(tests.into_iter().map(condition).collect());
        assert_eq!(part_of(&filter, &["a".into()]).as_ref(), expected, "{filter:?}");
        assert_eq!(part_of(&filter, &["b".into()]), None);
    }

    #[test]
    fn tests_of_a_field_become_the_values_outside_which_nothing_matches() {
        let above = |than| Test::Greater { than, or_equal: false };
        let below = |than| Test::Less { than, or_equal: true };
        let range = Part::Range;
        let values = |values: &[serde_json::Value]| Part::Values(values.iter().map(key).collect());
        check(vec![], None);
        check(vec![Test::Not(vec![json!(1)])], None);
        check(
            vec![Test::In(vec![json!("b"), json!(1), json!(1.0), json!(null)])],
            Some(&values(&[json!(null), json!(1), json!("b")])),
        );
        check(vec![Test::In(vec![])], Some(&values(&[])));
        check(vec![above(json!(5))], Some(&range(key(&json!(5)), vec![2])));
        check(vec![below(json!("m"))], Some(&range(vec![2], key(&json!("m")))));
        check(
            vec![above(json!(5)), below(json!(9)), above(json!(3))],
            Some(&range(key(&json!(5)), key(&json!(9)))),
        );
        check(vec![above(json!(5)), Test::In(vec![json!(7)])], Some(&values(&[json!(7)])));
    }
}
