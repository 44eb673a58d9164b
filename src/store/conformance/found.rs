//! Finding documents: orders, places to go on from, what runs out, indexes. An index changes how long a read takes and nothing else, also while it
//! is being built or dropped; the model has none, so it is what all are compared with.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::filter::{Condition, Filter, Test};
use super::order::{Order, Rank, path};
use super::*;

fn put_until(id: &str, body: &str, expires_at: Option<Millis>) -> (DocumentKey, Write) {
    (key(id), Write::Put { body: json(body), if_newer: None, expires_at })
}

/// A time that does not come while a test runs.
fn later() -> Option<Millis> {
    Some(clock::now().plus(Duration::from_secs(3600)))
}

/// Waits for the first moment at which what expires then has run out.
async fn wait_until(time: Millis) {
    while clock::now() < time {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn indexed(fields: &[&str]) -> Vec<IndexedField> {
    let field = |field: &&str| IndexedField { collection: "users".into(), field: (*field).into() };
    fields.iter().map(field).collect()
}

/// Steps until nothing is left to do; what was ready and gone on the way.
async fn settle(store: &dyn Store) -> Vec<IndexStep> {
    let mut told = Vec::new();
    loop {
        match store.index_step(Duration::ZERO).await.unwrap() {
            IndexStep::Idle => return told,
            IndexStep::Working => {}
            step => told.push(step),
        }
    }
}

async fn ids(store: &dyn Store, find: &Find) -> Vec<String> {
    let found = store.reader().unwrap().find("users", find.clone()).await.unwrap();
    found.into_iter().map(|document| document.id.into()).collect()
}

#[test]
fn a_document_is_absent_in_every_read_from_the_time_that_its_ttl_names() {
    every_store(ROOM, async |store| {
        let soon = clock::now().plus(Duration::from_millis(150));
        commit(store, writes([put_until("a", r#"{"at":5}"#, Some(soon)), put("b", "{}")])).await;
        let Read::Found { version, expires_at, .. } = get(store, "a").await else {
            panic!("it is there until then")
        };
        assert_eq!(expires_at, Some(soon));
        wait_until(soon).await;
        assert_eq!(get(store, "a").await, Read::Absent);
        let all = Find { limit: 9, ..Find::default() };
        assert_eq!(ids(store, &all).await, ["b"]);
        let by_order = Find { order: Order::parse("at"), ..all };
        assert_eq!(ids(store, &by_order).await, ["b"]);
        let reader = store.reader().unwrap();
        assert_eq!(reader.count("users", Filter::default()).await.unwrap(), 1);
        let relied = |version| Effects { reads: vec![(key("a"), version)], ..Effects::default() };
        assert_eq!(commit(store, relied(version)).await, Committed::Conflict);
        assert_eq!(commit(store, relied(Version(0))).await, YES);
        let if_newer = Some(IfNewer { field: "at".into(), told: true });
        let older = Write::Put { body: json(r#"{"at":1}"#), if_newer, expires_at: None };
        assert_eq!(commit(store, writes([(key("a"), older)])).await, YES);
        assert_eq!(body(store, "a").await, r#"{"at":1}"#);
    });
}

#[test]
fn a_put_without_ttl_clears_it_an_increment_keeps_it_and_what_ran_out_counts_as_absent() {
    every_store(ROOM, async |store| {
        let until = async |id| match get(store, id).await {
            Read::Found { expires_at, .. } => expires_at,
            other => panic!("{other:?}"),
        };
        let later = later();
        let add = || Write::Increment { field: "n".into(), by: Number::Integer(1) };
        commit(store, writes([put_until("a", r#"{"n":1}"#, later)])).await;
        commit(store, writes([(key("a"), add())])).await;
        assert_eq!((until("a").await, &*body(store, "a").await), (later, r#"{"n":2}"#));
        commit(store, writes([put("a", "{}")])).await;
        assert_eq!(until("a").await, None);
        commit(store, writes([put_until("b", r#"{"n":5}"#, Some(Millis(1)))])).await;
        assert_eq!(get(store, "b").await, Read::Absent);
        commit(store, writes([(key("b"), add())])).await;
        assert_eq!((until("b").await, &*body(store, "b").await), (None, r#"{"n":1}"#));
    });
}

#[test]
fn w31_retention_deletes_what_has_run_out_and_nothing_else_with_what_indexes_hold_of_it() {
    every_store(ROOM, async |store| {
        store.set_indexes(indexed(&["n"])).await.unwrap();
        settle(store).await;
        let soon = clock::now().plus(Duration::from_millis(60));
        let bodies = (0..7).map(|n| (format!("{n}"), format!(r#"{{"n":{n}}}"#)));
        let short = bodies.map(|(id, body)| put_until(&id, &body, Some(soon)));
        commit(store, writes(short)).await;
        commit(store, writes([put_until("x", r#"{"n":3}"#, later()), put("y", r#"{"n":3}"#)]))
            .await;
        wait_until(soon).await;
        assert_eq!(store.retain(Millis(0), Millis(0), 4, LONG).await.unwrap(), 4);
        assert_eq!(store.retain(Millis(0), Millis(0), 4, LONG).await.unwrap(), 3);
        assert_eq!(store.retain(Millis(0), Millis(0), 4, LONG).await.unwrap(), 0);
        let filter =
            Filter(vec![Condition { path: vec!["n".into()], test: Test::In(vec![json!(3)]) }]);
        assert_eq!(ids(store, &Find { filter, limit: 9, ..Find::default() }).await, ["x", "y"]);
    });
}

#[test]
fn documents_come_in_the_order_of_a_field_both_ways_and_page_by_page() {
    every_store(ROOM, async |store| {
        let documents = [
            ("n2", r#"{"a":{"b":2}}"#),
            ("n1", r#"{"a":{"b":1.5}}"#),
            ("s", r#"{"a":{"b":"x"}}"#),
            ("null", r#"{"a":{"b":null}}"#),
            ("absent", r#"{"a":5}"#),
            ("yes", r#"{"a":{"b":true}}"#),
            ("no", r#"{"a":{"b":false}}"#),
            ("list", r#"{"a":{"b":[1]}}"#),
            ("map", r#"{"a":{"b":{}}}"#),
        ];
        commit(store, writes(documents.map(|(id, body)| put(id, body)))).await;
        let expected = ["absent", "null", "n1", "n2", "s", "no", "yes", "list", "map"];
        for indexes in [&[][..], &["a.b"]] {
            store.set_indexes(indexed(indexes)).await.unwrap();
            settle(store).await;
            for order in ["a.b", "-a.b"] {
                let mut expected = expected.map(str::to_owned);
                if order.starts_with('-') {
                    expected.reverse();
                }
                for limit in [1, 2, 100] {
                    assert_eq!(pages(store, Order::parse(order), limit).await, expected, "{order}");
                }
            }
        }
    });
}

/// Everything, a page at a time, each from where the last document stood.
async fn pages(store: &dyn Store, order: Option<Order>, limit: usize) -> Vec<String> {
    let reader = store.reader().unwrap();
    let mut find = Find { order, limit, ..Find::default() };
    let mut seen = Vec::new();
    loop {
        let found = reader.find("users", find.clone()).await.unwrap();
        let Some(last) = found.last() else { return seen };
        find.after = Some(Rank::of(find.order.as_ref(), &last.id, &last.body));
        seen.extend(found.into_iter().map(|document| String::from(document.id)));
    }
}

#[test]
fn an_index_is_told_of_when_it_is_ready_and_when_it_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let options = OpenOptions { path: folder.path().join("rhaiway.db"), max_pending: ROOM };
    let store = sqlite::open(&options).unwrap();
    block_on(async {
        commit(&store, writes((0..20).map(|n| put(&n.to_string(), r#"{"a":1}"#)))).await;
        let field = indexed(&["a"]);
        store.set_indexes(field.clone()).await.unwrap();
        assert_eq!(store.index_step(Duration::ZERO).await.unwrap(), IndexStep::Working);
        assert_eq!(settle(&store).await, [IndexStep::Ready(field[0].clone())]);
        store.set_indexes(field.clone()).await.unwrap();
        assert_eq!(settle(&store).await, [], "it is there already");
        store.set_indexes(vec![]).await.unwrap();
        assert_eq!(settle(&store).await, [IndexStep::Dropped(field[0].clone())]);
        store.set_indexes(field.clone()).await.unwrap();
        store.index_step(Duration::ZERO).await.unwrap();
        store.set_indexes(vec![]).await.unwrap();
        store.set_indexes(field.clone()).await.unwrap();
        assert_eq!(settle(&store).await, [IndexStep::Ready(field[0].clone())], "built anew");
    });
}

/// Values that stand at the edges of orders and of what an index holds.
fn value() -> impl Strategy<Value = Value> {
    let long = |end: &str| json!(format!("{}{end}", "x".repeat(520)));
    let texts = [json!(""), json!("a"), json!("b"), long("a"), long("b"), long("")];
    let numbers =
        [json!(-1.5), json!(-1), json!(0), json!(0.0), json!(1), json!(1.0), json!(1.5), json!(2)];
    let others = [json!(null), json!(false), json!(true), json!([]), json!([1]), json!({ "b": 1 })];
    let large = [json!(i64::MAX), json!(9_007_199_254_740_993_i64), json!(9_007_199_254_740_992.0)];
    let all = numbers.into_iter().chain(texts).chain(others).chain(large);
    prop::sample::select(all.collect::<Vec<_>>())
}

fn document_body() -> impl Strategy<Value = String> {
    (prop::option::of(value()), prop::option::of(value())).prop_map(|(a, b)| {
        let mut body = serde_json::Map::new();
        body.extend(a.map(|a| ("a".to_owned(), a)));
        body.extend(b.map(|b| ("b".to_owned(), json!({ "c": b }))));
        Value::Object(body).to_string()
    })
}

const FIELDS: [&str; 2] = ["a", "b.c"];

fn field() -> impl Strategy<Value = &'static str> {
    prop::sample::select(FIELDS.to_vec())
}

fn condition() -> impl Strategy<Value = Condition> {
    let bound =
        || value().prop_filter("has an order", |value| value.is_number() || value.is_string());
    let test = prop_oneof![
        3 => prop::collection::vec(value(), 0..4).prop_map(Test::In),
        1 => prop::collection::vec(value(), 0..3).prop_map(Test::Not),
        2 => (bound(), any::<bool>()).prop_map(|(than, or_equal)| Test::Greater { than, or_equal }),
        2 => (bound(), any::<bool>()).prop_map(|(than, or_equal)| Test::Less { than, or_equal }),
    ];
    (field(), test).prop_map(|(field, test)| Condition { path: path(field).unwrap(), test })
}

fn find() -> impl Strategy<Value = Find> {
    let order = prop::option::of(
        (field(), any::<bool>())
            .prop_map(|(field, descending)| Order { path: path(field).unwrap(), descending }),
    );
    let filter = prop::collection::vec(condition(), 0..3).prop_map(Filter);
    let after = prop::option::of((document_body(), "[a-f]"));
    (filter, order, after, 0..6_usize).prop_map(|(filter, order, after, limit)| {
        let after = after.map(|(body, id)| Rank::of(order.as_ref(), &id, &json(&body)));
        Find { filter, order, after, limit }
    })
}

#[derive(Clone, Debug)]
enum Step {
    Put { id: String, body: String, run_out: bool },
    Delete { id: String, tombstone: bool },
    Increment { id: String },
    Retain,
    Declare { a: bool, b: bool },
    Index(u8),
    Kill,
    Find(Find),
}

fn step() -> impl Strategy<Value = Step> {
    let id = || "[a-e]{1,2}";
    prop_oneof![
        8 => (id(), document_body(), prop::bool::weighted(0.1))
            .prop_map(|(id, body, run_out)| Step::Put { id, body, run_out }),
        2 => (id(), any::<bool>()).prop_map(|(id, tombstone)| Step::Delete { id, tombstone }),
        1 => id().prop_map(|id| Step::Increment { id }),
        1 => Just(Step::Retain),
        2 => any::<(bool, bool)>().prop_map(|(a, b)| Step::Declare { a, b }),
        4 => (0..8_u8).prop_map(Step::Index),
        1 => Just(Step::Kill),
        10 => find().prop_map(Step::Find),
    ]
}

async fn compare(sqlite: &dyn Store, model: &dyn Store, find: &Find) {
    let (left, right) = (sqlite.reader().unwrap(), model.reader().unwrap());
    let expected = right.find("users", find.clone()).await.unwrap();
    assert_eq!(left.find("users", find.clone()).await.unwrap(), expected, "{find:?}");
    let expected = right.count("users", find.filter.clone()).await.unwrap();
    assert_eq!(left.count("users", find.filter.clone()).await.unwrap(), expected, "{find:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn what_is_found_is_the_same_with_an_index_without_one_and_while_it_is_built_or_dropped(
        steps in prop::collection::vec(step(), 1..80),
        last in prop::collection::vec(find(), 4),
    ) {
        block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let mut path = folder.path().join("rhaiway.db");
            let open = |path: &std::path::Path| {
                sqlite::open(&OpenOptions { path: path.to_owned(), max_pending: ROOM }).unwrap()
            };
            let (mut store, model) = (open(&path), MemoryStore::new(ROOM));
            let mut steps = steps;
            // Each ends with both indexes ready.
            steps.extend([Step::Declare { a: true, b: true }, Step::Index(u8::MAX), Step::Index(u8::MAX)]);
            steps.extend(last.into_iter().map(Step::Find));
            for step in steps {
                let write = match step {
                    Step::Put { id, body, run_out: true } => {
                        // Stored, and over before anybody looks.
                        let soon = clock::now().plus(Duration::from_millis(3));
                        let effects = writes([put_until(&id, &body, Some(soon))]);
                        commit(&store, effects.clone()).await;
                        commit(&model, effects).await;
                        wait_until(soon).await;
                        continue;
                    }
                    Step::Put { id, body, run_out: false } => put_until(&id, &body, later()),
                    Step::Delete { id, tombstone } => {
                        let tombstone_until = tombstone.then(|| later().unwrap());
                        (key(&id), Write::Delete { tombstone_until })
                    }
                    Step::Increment { id } => {
                        (key(&id), Write::Increment { field: "a".into(), by: Number::Integer(1) })
                    }
                    Step::Retain => {
                        store.retain(Millis(0), Millis(0), 9, LONG).await.unwrap();
                        model.retain(Millis(0), Millis(0), 9, LONG).await.unwrap();
                        continue;
                    }
                    Step::Declare { a, b } => {
                        let wanted: Vec<&str> = [a.then_some("a"), b.then_some("b.c")].into_iter().flatten().collect();
                        store.set_indexes(indexed(&wanted)).await.unwrap();
                        continue;
                    }
                    Step::Index(times) => {
                        for _ in 0..times {
                            if store.index_step(Duration::ZERO).await.unwrap() == IndexStep::Idle {
                                break;
                            }
                        }
                        continue;
                    }
                    Step::Kill => {
                        path = super::random::as_after_a_kill(&path);
                        store = open(&path);
                        continue;
                    }
                    Step::Find(find) => {
                        compare(&store, &model, &find).await;
                        continue;
                    }
                };
                let effects = writes([write]);
                assert_eq!(commit(&store, effects.clone()).await, commit(&model, effects).await);
            }
        });
    }
}
