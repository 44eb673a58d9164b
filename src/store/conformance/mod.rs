//! One suite for every store: what `store/mod.rs` promises, as tests over `&dyn Store`. A store that passes here may stand behind
//! the runtime.

use std::sync::Arc;
use std::time::Duration;

use super::memory::MemoryStore;
use super::sqlite::{self, OpenOptions};
use super::*;
use crate::clock;
use crate::id::EventId;

mod answers;
mod calls;
mod documents;
mod found;
mod inbox;
mod lanes;
mod emits;
mod lists;
pub(super) mod random;

/// It is committed, and nothing follows.
pub(super) const YES: Committed =
    Committed::Yes(After { emitted: Vec::new(), turns: Vec::new(), unblocked: false });

/// More than any step here takes.
pub(super) const LONG: Duration = Duration::from_secs(600);

/// More than any test here accepts.
const ROOM: u64 = 1_000;

/// Runs a promise against each store; the captured output names the one that broke it.
fn every_store(max_pending: u64, promise: impl AsyncFn(&dyn Store) + Copy) {
    let folder = tempfile::tempdir().unwrap();
    let options = OpenOptions { path: folder.path().join("rhaiway.db"), max_pending };
    let stores: [(&str, Box<dyn Store>); 2] = [
        ("memory", Box::new(MemoryStore::new(max_pending))),
        ("sqlite", Box::new(sqlite::open(&options).unwrap())),
    ];
    for (name, store) in stores {
        println!("store: {name}");
        block_on(promise(&*store));
    }
}

pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

/// A delivery of webhook `clerk` with this id, received at 1000.
pub(super) fn delivery(delivery_id: &str) -> NewEvent {
    NewEvent {
        id: EventId(clock::uuid()),
        webhook: "clerk".into(),
        delivery_id: Some(delivery_id.into()),
        order_key: None,
        replay_of: None,
        kind: "user.created".into(),
        received_at: Millis(1000),
        request: r#"{"headers":{}}"#.into(),
        body: r#"{"data":{"id":"user_1"}}"#.into(),
    }
}

pub(super) async fn accept(store: &dyn Store, delivery_id: &str) -> Seq {
    match store.accept(delivery(delivery_id)).await.unwrap() {
        Accepted::New(seq) => seq,
        other => panic!("{delivery_id} is not new: {other:?}"),
    }
}

pub(super) fn plan(scripts: &[&str]) -> Option<Arc<[PlannedJob]>> {
    let planned = |script: &&str| PlannedJob {
        script: (*script).into(),
        pattern: Some("*".into()),
        dead_job: None,
    };
    Some(scripts.iter().map(planned).collect())
}

pub(super) fn job(event: Seq, n: u32) -> JobKey {
    JobKey { event, n }
}

/// The end of the first attempt of an event's one job.
pub(super) fn end(event: Seq, outcome: Outcome) -> Finish {
    Finish {
        job: job(event, 0),
        plan: plan(&["clerk"]),
        attempt: 1,
        started_at: Millis(2000),
        ended_at: Millis(2001),
        generation: 7,
        version: Some("v1".into()),
        log: AttemptLog::default(),
        calls: None,
        ordered: false,
        outcome,
    }
}

pub(super) fn done() -> Outcome {
    Outcome::Done(Effects::default())
}

fn dead() -> Outcome {
    Outcome::Dead { error: "it broke".into(), then: Arc::default() }
}

fn retry(due_at: i64) -> Outcome {
    Outcome::Retry { due_at: Millis(due_at), error: "not yet".into() }
}

fn key(id: &str) -> DocumentKey {
    DocumentKey { collection: "users".into(), id: id.into() }
}

fn json(text: &str) -> Json {
    Json(text.into())
}

fn put(id: &str, body: &str) -> (DocumentKey, Write) {
    (key(id), Write::Put { body: json(body), if_newer: None, expires_at: None })
}

pub(super) fn writes(writes: impl IntoIterator<Item = (DocumentKey, Write)>) -> Effects {
    Effects { writes: writes.into_iter().collect(), ..Effects::default() }
}

async fn commit(store: &dyn Store, effects: Effects) -> Committed {
    store.commit(effects).await.unwrap()
}

async fn get(store: &dyn Store, id: &str) -> Read {
    store.reader().unwrap().get(&key(id)).await.unwrap()
}

/// The body of a document that must be there.
async fn body(store: &dyn Store, id: &str) -> String {
    match get(store, id).await {
        Read::Found { body, .. } => body.0.into(),
        other => panic!("{id} is not there: {other:?}"),
    }
}

async fn detail(store: &dyn Store, event: Seq) -> EventDetail {
    let all = EventQuery { limit: usize::MAX, ..EventQuery::default() };
    let events = store.events(all).await.unwrap().events;
    let summary = events.into_iter().find(|summary| summary.seq == event).expect("it is listed");
    store.event(summary.id).await.unwrap().expect("what is listed is there")
}
