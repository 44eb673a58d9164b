//! What a run wants committed, while it runs: its writes, the versions that it read, and what it sees of both. All reads of a run see its
//! own writes; nothing here touches a database.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::host_call::HostError;
use crate::clock::Millis;
use crate::store::document::increment;
use crate::store::filter::{Filter, is_newer};
use crate::store::{Document, DocumentKey, Effects, IfNewer, Json, Number, Read, Version, Write};

/// The transaction of one run.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    reads: BTreeMap<DocumentKey, Version>,
    writes: Vec<(DocumentKey, Write)>,
    seen: BTreeMap<DocumentKey, Seen>,
    /// Increments of documents that the run has not seen.
    blind: BTreeMap<DocumentKey, Vec<(Box<str>, Number)>>,
    bytes: usize,
}

/// What an entry takes beside its texts.
const ENTRY_BYTES: usize = 128;

/// A document as the run sees it.
#[derive(Clone, Debug)]
struct Seen {
    state: State,
    /// The version that it stands on; `None` where the run wrote it without looking.
    base: Option<Version>,
}

#[derive(Clone, Debug, PartialEq)]
enum State {
    Absent,
    Tombstone,
    Present(Json),
}

impl Draft {
    /// Whether the store must be asked for the document (`learn`) before it can be looked at.
    pub(crate) fn must_learn(&self, key: &DocumentKey) -> bool {
        !self.seen.contains_key(key)
    }

    /// What the store has, on which the run's earlier increments are laid.
    pub(crate) fn learn(&mut self, key: &DocumentKey, read: Read) {
        let base = Some(read.version());
        let mut state = match read {
            Read::Absent => State::Absent,
            Read::Tombstone(_) => State::Tombstone,
            Read::Found { body, .. } => State::Present(body),
        };
        for (field, by) in self.blind.remove(key).unwrap_or_default() {
            state = State::Present(incremented(&state, &field, by));
        }
        self.bytes += bytes_of(key, &state);
        self.seen.insert(key.clone(), Seen { state, base });
    }

    /// The document, with its id inside; the run now relies on its version.
    pub(crate) fn get(&mut self, key: &DocumentKey) -> Option<Json> {
        self.rely(key);
        match self.state(key) {
            State::Present(body) => Some(with_id(&key.id, &body)),
            State::Absent | State::Tombstone => None,
        }
    }

    /// Fails with CONFLICT where the document exists.
    pub(crate) fn insert(&mut self, key: &DocumentKey, body: Json) -> Result<(), HostError> {
        self.rely(key);
        if matches!(self.state(key), State::Present(_)) {
            let message = format!("{}/{} exists already", key.collection, key.id).into();
            return Err(HostError { code: "CONFLICT", message });
        }
        self.put(key, body);
        Ok(())
    }

    /// Writes without looking; the last one wins.
    pub(crate) fn put(&mut self, key: &DocumentKey, body: Json) {
        self.see(key, State::Present(body.clone()));
        self.write(key, Write::Put { body, if_newer: None });
    }

    /// Writes unless what is there is newer; says whether it wrote. The commit compares again.
    pub(crate) fn put_if_newer(&mut self, key: &DocumentKey, body: Json, field: Box<str>) -> bool {
        let told = match self.state(key) {
            State::Absent => true,
            State::Tombstone => false,
            State::Present(old) => {
                is_newer(field_of(&old, &field).as_ref(), field_of(&body, &field).as_ref())
            }
        };
        if told {
            self.see(key, State::Present(body.clone()));
        }
        self.write(key, Write::Put { body, if_newer: Some(IfNewer { field, told }) });
        told
    }

    /// Merges at the top level; says whether it wrote, which a tombstone prevents.
    pub(crate) fn patch(&mut self, key: &DocumentKey, changes: &Json) -> bool {
        self.rely(key);
        let old = match self.state(key) {
            State::Tombstone => return false,
            State::Absent => Map::new(),
            State::Present(body) => object(&body),
        };
        let mut merged = old;
        for (name, value) in object(changes) {
            match value {
                Value::Null => _ = merged.remove(&name),
                value => _ = merged.insert(name, value),
            }
        }
        self.put(key, Json(Value::Object(merged).to_string().into()));
        true
    }

    /// Takes it away, whatever it was.
    pub(crate) fn delete(&mut self, key: &DocumentKey, tombstone_until: Option<Millis>) {
        let state = if tombstone_until.is_some() { State::Tombstone } else { State::Absent };
        self.see(key, state);
        self.write(key, Write::Delete { tombstone_until });
    }

    /// Adds to a field, without relying on what is there.
    pub(crate) fn increment(&mut self, key: &DocumentKey, field: Box<str>, by: Number) {
        if let Some(seen) = self.seen.get_mut(key) {
            seen.state = State::Present(incremented(&seen.state, &field, by));
        } else {
            self.blind.entry(key.clone()).or_default().push((field.clone(), by));
        }
        self.write(key, Write::Increment { field, by });
    }

    /// Documents of a collection that the run has written; for those that `must_learn`, `find` and `count` need it first.
    pub(crate) fn written(&self, collection: &str) -> Vec<DocumentKey> {
        let mut keys: Vec<_> = self
            .writes
            .iter()
            .map(|(key, _)| key)
            .filter(|key| &*key.collection == collection)
            .cloned()
            .collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// The store's documents with the run's own laid over them. `written`: those of the collection that the run had written when the store was
    /// asked; what another branch has written since is as the store has it. `found` must hold `limit` documents beside them, where there are as
    /// many.
    pub(crate) fn overlay(
        &self,
        written: &[DocumentKey],
        filter: &Filter,
        after: Option<&str>,
        limit: usize,
        found: Vec<Document>,
    ) -> Vec<Json> {
        let mut documents: BTreeMap<Box<str>, Json> = found
            .into_iter()
            .filter(|document| written.binary_search_by(|key| (*key.id).cmp(&document.id)).is_err())
            .map(|document| (document.id, document.body))
            .collect();
        for key in written {
            if let State::Present(body) = self.state(key)
                && after.is_none_or(|after| &*key.id > after)
                && filter.matches(&body)
            {
                documents.insert(key.id.as_ref().into(), body);
            }
        }
        documents.iter().take(limit).map(|(id, body)| with_id(id, body)).collect()
    }

    /// How the run's own writes change a count: `stored` tells what the store has for each document written.
    pub(crate) fn recount(
        &self,
        filter: &Filter,
        count: u64,
        stored: &[(DocumentKey, Read)],
    ) -> u64 {
        let mut count = count;
        for (key, read) in stored {
            let was = matches!(read, Read::Found { body, .. } if filter.matches(body));
            let is = matches!(self.state(key), State::Present(body) if filter.matches(&body));
            match (was, is) {
                (true, false) => count = count.saturating_sub(1),
                (false, true) => count += 1,
                _ => {}
            }
        }
        count
    }

    /// Bytes that it holds, nearly: what waits for the commit, and what the run has seen.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What is to be committed.
    pub(crate) fn into_effects(self) -> Effects {
        Effects { reads: self.reads.into_iter().collect(), writes: self.writes }
    }

    fn state(&self, key: &DocumentKey) -> State {
        self.seen.get(key).map_or(State::Absent, |seen| seen.state.clone())
    }

    fn see(&mut self, key: &DocumentKey, state: State) {
        let base = self.seen.get(key).and_then(|seen| seen.base);
        self.bytes += bytes_of(key, &state);
        self.seen.insert(key.clone(), Seen { state, base });
    }

    /// From now on another version is a conflict.
    fn rely(&mut self, key: &DocumentKey) {
        if let Some(Seen { base: Some(version), .. }) = self.seen.get(key) {
            self.reads.entry(key.clone()).or_insert(*version);
        }
    }

    fn write(&mut self, key: &DocumentKey, write: Write) {
        let body = if let Write::Put { body, .. } = &write { body.0.len() } else { 0 };
        self.bytes += ENTRY_BYTES + key.id.len() + body;
        self.writes.push((key.clone(), write));
    }
}

fn bytes_of(key: &DocumentKey, state: &State) -> usize {
    let body = if let State::Present(body) = state { body.0.len() } else { 0 };
    ENTRY_BYTES + key.id.len() + body
}

fn object(body: &Json) -> Map<String, Value> {
    match serde_json::from_str(&body.0) {
        Ok(Value::Object(object)) => object,
        _ => Map::new(),
    }
}

fn field_of(body: &Json, field: &str) -> Option<Value> {
    object(body).remove(field)
}

fn incremented(state: &State, field: &str, by: Number) -> Json {
    match state {
        State::Present(body) => increment(Some(body), field, by),
        State::Absent | State::Tombstone => increment(None, field, by),
    }
}

/// The document's text with its id as the last field, so that it wins over one of that name inside.
fn with_id(id: &str, Json(body): &Json) -> Json {
    let open = body.trim_end().strip_suffix('}').unwrap_or("{").trim_end();
    let comma = if open.ends_with('{') { "" } else { "," };
    Json(format!("{open}{comma}\"id\":{}}}", Value::from(id)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str) -> DocumentKey {
        DocumentKey { collection: "users".into(), id: id.into() }
    }

    fn json(text: &str) -> Json {
        Json(text.into())
    }

    fn found(text: &str) -> Read {
        Read::Found { body: json(text), version: Version(7) }
    }

    #[test]
    fn rule_8_a_run_sees_its_own_writes() {
        let mut draft = Draft::default();
        draft.put(&key("a"), json("{\"x\":1}"));
        assert_eq!(draft.get(&key("a")), Some(json("{\"x\":1,\"id\":\"a\"}")));
        draft.increment(&key("a"), "x".into(), Number::Integer(2));
        assert_eq!(draft.get(&key("a")), Some(json("{\"x\":3,\"id\":\"a\"}")));
        draft.delete(&key("a"), None);
        assert_eq!(draft.get(&key("a")), None);
        assert!(draft.into_effects().reads.is_empty(), "it wrote without looking");
    }

    #[test]
    fn rule_9_get_relies_on_the_version_and_a_blind_put_does_not() {
        let mut draft = Draft::default();
        draft.learn(&key("a"), found("{}"));
        draft.put(&key("a"), json("{}"));
        assert!(draft.reads.is_empty());
        draft.get(&key("a"));
        draft.learn(&key("b"), Read::Absent);
        draft.get(&key("b"));
        let reads = draft.into_effects().reads;
        assert_eq!(reads, [(key("a"), Version(7)), (key("b"), Version(0))]);
    }

    #[test]
    fn increments_before_the_first_look_are_seen_by_it() {
        let mut draft = Draft::default();
        draft.increment(&key("a"), "n".into(), Number::Integer(2));
        assert!(draft.must_learn(&key("a")));
        draft.learn(&key("a"), found("{\"n\":40}"));
        assert_eq!(draft.get(&key("a")), Some(json("{\"n\":42,\"id\":\"a\"}")));
    }

    #[test]
    fn a_patch_merges_creates_and_removes_and_a_tombstone_refuses_it() {
        let mut draft = Draft::default();
        draft.learn(&key("a"), found("{\"x\":1,\"y\":{\"z\":1}}"));
        assert!(draft.patch(&key("a"), &json("{\"x\":null,\"y\":2,\"w\":3}")));
        assert_eq!(draft.get(&key("a")), Some(json("{\"w\":3,\"y\":2,\"id\":\"a\"}")));
        draft.learn(&key("b"), Read::Tombstone(Version(3)));
        assert!(!draft.patch(&key("b"), &json("{}")));
        draft.learn(&key("c"), Read::Absent);
        assert!(draft.patch(&key("c"), &json("{\"x\":1}")));
    }

    #[test]
    fn if_newer_writes_what_is_newer_equal_or_absent_and_never_over_a_tombstone() {
        let put = |read: Read, body: &str| {
            let mut draft = Draft::default();
            draft.learn(&key("a"), read);
            draft.put_if_newer(&key("a"), json(body), "at".into())
        };
        assert!(put(Read::Absent, "{\"at\":1}"));
        assert!(put(found("{\"at\":1}"), "{\"at\":1}"));
        assert!(put(found("{\"at\":1}"), "{}"));
        assert!(!put(found("{\"at\":2}"), "{\"at\":1}"));
        assert!(!put(Read::Tombstone(Version(1)), "{\"at\":9}"));
    }

    #[test]
    fn find_and_count_lay_the_run_s_own_writes_over_the_store_s() {
        let mut draft = Draft::default();
        draft.put(&key("b"), json("{\"s\":1}"));
        draft.delete(&key("c"), None);
        let stored = |id: &str| Document { id: id.into(), body: json("{\"s\":1}") };
        let all = Filter::default();
        let written = draft.written("users");
        let found =
            draft.overlay(&written, &all, None, 2, vec![stored("a"), stored("c"), stored("d")]);
        assert_eq!(found, [json("{\"s\":1,\"id\":\"a\"}"), json("{\"s\":1,\"id\":\"b\"}")]);
        let stored = [(key("b"), Read::Absent), (key("c"), found_one())];
        assert_eq!(draft.recount(&all, 3, &stored), 3);
    }

    fn found_one() -> Read {
        found("{\"s\":1}")
    }

    #[test]
    fn the_id_of_the_key_wins_over_one_inside() {
        assert_eq!(with_id("k", &json("{}")), json("{\"id\":\"k\"}"));
        assert_eq!(
            with_id("k\"", &json("{\"id\":\"other\"}")),
            json("{\"id\":\"other\",\"id\":\"k\\\"\"}")
        );
    }
}
