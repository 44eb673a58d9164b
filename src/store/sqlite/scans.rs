//! Reads that go past many documents for want of an index: each kind of them is told once, with the line of config that helps.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use crate::store::Find;
use crate::store::filter::Filter;

/// Documents of one read; fewer take a few milliseconds, beside which nobody notices them.
const MANY: usize = 10_000;
/// Kinds that are remembered. Scripts that make up names of fields could go on for ever.
const KINDS_MAX: usize = 1_000;

/// What was told already.
#[derive(Default)]
pub(super) struct Scans(Mutex<HashSet<(Box<str>, Box<str>)>>);

impl Scans {
    /// Of a `find`.
    pub(super) fn note_find(&self, collection: &str, find: &Find, scanned: usize) {
        let order = find.order.as_ref().map(|order| order.path.join("."));
        self.note(collection, &find.filter, order, scanned);
    }

    /// Of a `count`.
    pub(super) fn note_count(&self, collection: &str, filter: &Filter, scanned: usize) {
        self.note(collection, filter, None, scanned);
    }

    fn note(&self, collection: &str, filter: &Filter, order: Option<String>, scanned: usize) {
        if scanned <= MANY {
            return;
        }
        let mut fields: Vec<String> =
            filter.0.iter().map(|condition| condition.path.join(".")).chain(order).collect();
        fields.dedup();
        // Who asks for everything gets everything.
        let Some(first) = fields.first() else { return };
        let shown = fields.join(", ");
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= KINDS_MAX || !told.insert((collection.into(), shown.as_str().into())) {
            return;
        }
        tracing::warn!(
            collection = %collection,
            fields = %shown,
            documents = scanned,
            "a read of `db.{collection}` by {shown} went past {scanned} documents; `[db.{collection}] index = [\"{first}\"]` in config.toml makes such reads quick"
        );
    }
}
