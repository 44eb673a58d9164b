//! What a run wants committed, while it runs: its writes, the versions that it read, and what it sees of both. All reads of a run see its
//! own writes; nothing here touches a database.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::host_call::HostError;
use crate::clock::{self, Millis};
use crate::store::document::increment;
use crate::store::filter::{Filter, is_newer};
use crate::store::order::{Order, Rank};
use crate::store::{
    Document, DocumentKey, Effects, Emit, Find, IfNewer, Json, NewEvent, Number, Pending, Read,
    Version, Write,
};

/// The transaction of one run.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    reads: BTreeMap<DocumentKey, Version>,
    writes: Vec<(DocumentKey, Write)>,
    seen: BTreeMap<DocumentKey, Seen>,
    /// Increments of documents that the run has not seen.
    blind: BTreeMap<DocumentKey, Vec<(Box<str>, Number)>>,
    emits: Vec<Emit>,
    bytes: usize,
}

/// Internal events of one run; who needs more emits one that emits more.
const EMITS_MAX: usize = 1_000;

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
    Present { body: Json, expires_at: Option<Millis> },
}

impl State {
    /// A document that has run out since it was read or written is absent.
    fn now(self) -> Self {
        match self {
            Self::Present { expires_at: Some(until), .. } if until <= clock::now() => Self::Absent,
            other => other,
        }
    }
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
            Read::Found { body, expires_at, .. } => State::Present { body, expires_at },
        };
        for (field, by) in self.blind.remove(key).unwrap_or_default() {
            state = incremented(state.now(), &field, by);
        }
        self.bytes += bytes_of(key, &state);
        self.seen.insert(key.clone(), Seen { state, base });
    }

    /// The document, with its id inside; the run now relies on its version.
    pub(crate) fn get(&mut self, key: &DocumentKey) -> Option<Json> {
        self.rely(key);
        match self.state(key) {
            State::Present { body, .. } => Some(with_id(&key.id, &body)),
            State::Absent | State::Tombstone => None,
        }
    }

    /// Where the document stands in an order, without relying on it; `None` where it is not there.
    pub(crate) fn rank(&self, key: &DocumentKey, order: Option<&Order>) -> Option<Rank> {
        match self.state(key) {
            State::Present { body, .. } => Some(Rank::of(order, &key.id, &body)),
            State::Absent | State::Tombstone => None,
        }
    }

    /// Fails with CONFLICT where the document exists.
    pub(crate) fn insert(
        &mut self,
        key: &DocumentKey,
        body: Json,
        expires_at: Option<Millis>,
    ) -> Result<(), HostError> {
        self.rely(key);
        if matches!(self.state(key), State::Present { .. }) {
            let message = format!("{}/{} exists already", key.collection, key.id).into();
            return Err(HostError { code: "CONFLICT", message });
        }
        self.put(key, body, expires_at);
        Ok(())
    }

    /// Writes without looking; the last one wins.
    pub(crate) fn put(&mut self, key: &DocumentKey, body: Json, expires_at: Option<Millis>) {
        self.see(key, State::Present { body: body.clone(), expires_at });
        self.write(key, Write::Put { body, if_newer: None, expires_at });
    }

    /// Writes unless what is there is newer; says whether it wrote. The commit compares again.
    pub(crate) fn put_if_newer(
        &mut self,
        key: &DocumentKey,
        body: Json,
        field: Box<str>,
        expires_at: Option<Millis>,
    ) -> bool {
        let told = match self.state(key) {
            State::Absent => true,
            State::Tombstone => false,
            State::Present { body: old, .. } => {
                is_newer(field_of(&old, &field).as_ref(), field_of(&body, &field).as_ref())
            }
        };
        if told {
            self.see(key, State::Present { body: body.clone(), expires_at });
        }
        self.write(key, Write::Put { body, if_newer: Some(IfNewer { field, told }), expires_at });
        told
    }

    /// Merges at the top level, and keeps when the document expires; says whether it wrote, which a tombstone prevents.
    pub(crate) fn patch(&mut self, key: &DocumentKey, changes: &Json) -> bool {
        self.rely(key);
        let (old, expires_at) = match self.state(key) {
            State::Tombstone => return false,
            State::Absent => (Map::new(), None),
            State::Present { body, expires_at } => (object(&body), expires_at),
        };
        let mut merged = old;
        for (name, value) in object(changes) {
            match value {
                Value::Null => _ = merged.remove(&name),
                value => _ = merged.insert(name, value),
            }
        }
        self.put(key, Json(Value::Object(merged).to_string().into()), expires_at);
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
            seen.state = incremented(seen.state.clone().now(), &field, by);
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
        find: &Find,
        found: Vec<Document>,
    ) -> Vec<Json> {
        let order = find.order.as_ref();
        let mut documents: Vec<(Rank, Json)> = found
            .into_iter()
            .filter(|document| written.binary_search_by(|key| (*key.id).cmp(&document.id)).is_err())
            .map(|document| (Rank::of(order, &document.id, &document.body), document.body))
            .collect();
        for key in written {
            if let State::Present { body, .. } = self.state(key)
                && find.filter.matches(&body)
            {
                let rank = Rank::of(order, &key.id, &body);
                if find.after.as_ref().is_none_or(|after| rank.compare(after, order).is_gt()) {
                    documents.push((rank, body));
                }
            }
        }
        documents.sort_by(|(left, _), (right, _)| left.compare(right, order));
        documents.iter().take(find.limit).map(|(rank, body)| with_id(&rank.id, body)).collect()
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
            let is =
                matches!(self.state(key), State::Present { body, .. } if filter.matches(&body));
            match (was, is) {
                (true, false) => count = count.saturating_sub(1),
                (false, true) => count += 1,
                _ => {}
            }
        }
        count
    }

    /// An internal event, with the commit.
    pub(crate) fn emit(
        &mut self,
        event: NewEvent,
        due_at: Option<Millis>,
        pending: Pending,
    ) -> Result<(), HostError> {
        if self.emits.len() >= EMITS_MAX {
            let message = format!("a run emits at most {EMITS_MAX} events").into();
            return Err(HostError { code: "INVALID_ARGUMENT", message });
        }
        self.bytes += ENTRY_BYTES + event.body.len() + event.request.len();
        self.emits.push(Emit::Event { event, due_at, pending });
        Ok(())
    }

    /// Whether the run itself has left something of the key waiting; `None`: it has not touched it.
    pub(crate) fn waits(&self, webhook: &str, key: &str) -> Option<bool> {
        self.emits.iter().rev().find_map(|emit| match emit {
            Emit::Event { event, .. } => {
                let is_of = *event.webhook == *webhook && event.order_key.as_deref() == Some(key);
                is_of.then_some(true)
            }
            Emit::Cancel { webhook: other, key: other_key, .. } => {
                (**other == *webhook && **other_key == *key).then_some(false)
            }
        })
    }

    /// Takes back what waits of a key; `told` is what the script hears, and the commit compares again.
    pub(crate) fn cancel(
        &mut self,
        webhook: Arc<str>,
        key: Box<str>,
        told: bool,
    ) -> Result<(), HostError> {
        if self.emits.len() >= EMITS_MAX {
            let message = format!("a run emits and cancels at most {EMITS_MAX} times").into();
            return Err(HostError { code: "INVALID_ARGUMENT", message });
        }
        self.bytes += ENTRY_BYTES + key.len();
        self.emits.push(Emit::Cancel { webhook, key, told });
        Ok(())
    }

    /// Bytes that it holds, nearly: what waits for the commit, and what the run has seen.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What is to be committed.
    pub(crate) fn into_effects(self) -> Effects {
        let reads = self.reads.into_iter().collect();
        Effects { reads, writes: self.writes, emits: self.emits }
    }

    fn state(&self, key: &DocumentKey) -> State {
        self.seen.get(key).map_or(State::Absent, |seen| seen.state.clone().now())
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
    let body = if let State::Present { body, .. } = state { body.0.len() } else { 0 };
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

fn incremented(state: State, field: &str, by: Number) -> State {
    match state {
        State::Present { body, expires_at } => {
            State::Present { body: increment(Some(&body), field, by), expires_at }
        }
        State::Absent | State::Tombstone => {
            State::Present { body: increment(None, field, by), expires_at: None }
        }
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
        Read::Found { body: json(text), version: Version(7), expires_at: None }
    }

    #[test]
    fn rule_8_a_run_sees_its_own_writes() {
        let mut draft = Draft::default();
        draft.put(&key("a"), json("{\"x\":1}"), None);
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
        draft.put(&key("a"), json("{}"), None);
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
            draft.put_if_newer(&key("a"), json(body), "at".into(), None)
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
        draft.put(&key("b"), json("{\"s\":1}"), None);
        draft.delete(&key("c"), None);
        let stored = |id: &str| Document { id: id.into(), body: json("{\"s\":1}") };
        let all = Filter::default();
        let find = Find { limit: 2, ..Find::default() };
        let written = draft.written("users");
        let found = draft.overlay(&written, &find, vec![stored("a"), stored("c"), stored("d")]);
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

    #[test]
    fn an_order_holds_over_the_run_s_own_writes_too() {
        let mut draft = Draft::default();
        draft.put(&key("b"), json("{\"at\":5}"), None);
        draft.put(&key("e"), json("{\"at\":0}"), None);
        draft.put(&key("f"), json("{\"at\":9}"), Some(Millis(1)));
        let stored =
            |id: &str, at: i64| Document { id: id.into(), body: json(&format!("{{\"at\":{at}}}")) };
        let found = vec![stored("d", 7), stored("c", 5), stored("a", 5), stored("b", 4)];
        let ids = |after: Option<(&str, i64)>, limit| {
            let order = Order::parse("-at");
            let after = after.map(|(id, at)| Rank::of(order.as_ref(), id, &stored(id, at).body));
            let find = Find { order, after, limit, ..Find::default() };
            let found = draft.overlay(&draft.written("users"), &find, found.clone());
            let id =
                |Json(body): &Json| object(&Json(body.clone()))["id"].as_str().unwrap().to_owned();
            found.iter().map(id).collect::<Vec<_>>()
        };
        assert_eq!(ids(None, 9), ["d", "c", "b", "a", "e"]);
        assert_eq!(ids(None, 2), ["d", "c"]);
    }

    #[test]
    fn a_document_that_runs_out_while_the_run_goes_on_is_absent_from_then_on() {
        let mut draft = Draft::default();
        let past = Some(Millis(1));
        draft.put(&key("a"), json("{}"), past);
        assert_eq!(draft.get(&key("a")), None);
        assert_eq!(draft.insert(&key("a"), json("{\"n\":1}"), None), Ok(()));
        assert!(draft.get(&key("a")).is_some());
        let later = Some(Millis(i64::MAX));
        draft.learn(
            &key("b"),
            Read::Found { body: json("{}"), version: Version(7), expires_at: later },
        );
        draft.patch(&key("b"), &json("{\"x\":1}"));
        draft.learn(
            &key("c"),
            Read::Found { body: json("{\"at\":9}"), version: Version(8), expires_at: past },
        );
        assert!(draft.put_if_newer(&key("c"), json("{\"at\":1}"), "at".into(), None));
        let effects = draft.into_effects();
        let patched = Write::Put { body: json("{\"x\":1}"), if_newer: None, expires_at: later };
        assert!(effects.writes.contains(&(key("b"), patched)), "a patch keeps when it expires");
    }
}
