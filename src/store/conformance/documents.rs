//! Documents: conflicts, gives-way, tombstones, increments, and reading them. Promise 4.

use super::filter::{Condition, Filter, Test};
use super::*;

fn increment(id: &str, by: i64) -> (DocumentKey, Write) {
    (key(id), Write::Increment { field: "n".into(), by: Number::Integer(by) })
}

fn delete(id: &str, tombstone_until: Option<Millis>) -> (DocumentKey, Write) {
    (key(id), Write::Delete { tombstone_until })
}

fn put_if_newer(id: &str, body: &str, told: bool) -> (DocumentKey, Write) {
    let if_newer = Some(IfNewer { field: "at".into(), told });
    (key(id), Write::Put { body: json(body), if_newer, expires_at: None })
}

/// A time that does not come while a test runs.
fn later() -> Option<Millis> {
    Some(clock::now().plus(std::time::Duration::from_secs(3600)))
}

#[test]
fn a_run_whose_reads_have_changed_commits_nothing() {
    every_store(ROOM, async |store| {
        let absent = (key("a"), Version(0));
        let created =
            Effects { reads: vec![absent.clone()], ..writes([put("a", r#"{"by":"first"}"#)]) };
        assert_eq!(commit(store, created.clone()).await, YES);
        assert_eq!(commit(store, created).await, Committed::Conflict, "absence is read too");

        let seen = get(store, "a").await.version();
        let second =
            Effects { reads: vec![(key("a"), seen)], ..writes([put("a", r#"{"by":"second"}"#)]) };
        assert_eq!(commit(store, second.clone()).await, YES);
        let changed = commit(store, Effects { writes: vec![put("b", "{}")], ..second }).await;
        assert_eq!(changed, Committed::Conflict, "a conflict takes the other writes with it");
        assert_eq!(get(store, "b").await, Read::Absent);
        assert_eq!(body(store, "a").await, r#"{"by":"second"}"#);

        let blind = writes([put("a", r#"{"by":"third"}"#)]);
        assert_eq!(commit(store, blind).await, YES, "a blind put wins");
        assert_eq!(body(store, "a").await, r#"{"by":"third"}"#);
    });
}

#[test]
fn a_version_never_comes_back() {
    every_store(ROOM, async |store| {
        let mut seen = std::collections::HashSet::new();
        for _ in 0..3 {
            commit(store, writes([put("a", "{}")])).await;
            assert!(seen.insert(get(store, "a").await.version().0));
            commit(store, writes([increment("a", 1)])).await;
            assert!(seen.insert(get(store, "a").await.version().0));
            commit(store, writes([delete("a", later())])).await;
            assert!(seen.insert(get(store, "a").await.version().0));
            commit(store, writes([delete("a", None)])).await;
            assert_eq!(get(store, "a").await, Read::Absent);
        }
    });
}

#[test]
fn what_only_reads_still_conflicts() {
    every_store(ROOM, async |store| {
        let reads = vec![(key("a"), Version(77))];
        assert_eq!(
            commit(store, Effects { reads, ..Effects::default() }).await,
            Committed::Conflict
        );
        let reads = vec![(key("a"), Version(0))];
        assert_eq!(commit(store, Effects { reads, ..Effects::default() }).await, YES);
    });
}

#[test]
fn w29_fifty_increments_at_once_are_all_there() {
    every_store(ROOM, async |store| {
        let answers: Vec<_> = (0..50).map(|_| store.commit(writes([increment("a", 2)]))).collect();
        for answer in answers {
            assert_eq!(answer.await.unwrap(), YES);
        }
        assert_eq!(body(store, "a").await, r#"{"n":100}"#);
    });
}

#[test]
fn fifty_patches_at_once_are_all_there_after_their_conflicts() {
    every_store(ROOM, async |store| {
        commit(store, writes([put("a", r#"{"n":0}"#)])).await;
        let mut left = 50;
        while left > 0 {
            let Read::Found { body, version, .. } = get(store, "a").await else {
                panic!("it is there")
            };
            let patched = super::document::increment(Some(&body), "n", Number::Integer(1));
            let patch = Effects {
                reads: vec![(key("a"), version)],
                writes: vec![(
                    key("a"),
                    Write::Put { body: patched, if_newer: None, expires_at: None },
                )],
                emits: Vec::new(),
            };
            let answers: Vec<_> = (0..left).map(|_| store.commit(patch.clone())).collect();
            let mut committed = 0;
            for answer in answers {
                committed += i32::from(answer.await.unwrap() == YES);
            }
            assert_eq!(committed, 1, "of those that read one version exactly one commits");
            left -= 1;
        }
        assert_eq!(body(store, "a").await, r#"{"n":50}"#);
    });
}

#[test]
fn a_put_that_gives_way_is_compared_inside_the_commit() {
    every_store(ROOM, async |store| {
        assert_eq!(commit(store, writes([put_if_newer("a", r#"{"at":5}"#, true)])).await, YES);
        let late = |told| writes([put_if_newer("a", r#"{"at":4}"#, told), put("b", "{}")]);
        assert_eq!(commit(store, late(true)).await, Committed::Conflict);
        assert_eq!(get(store, "b").await, Read::Absent);
        assert_eq!(commit(store, late(false)).await, YES);
        assert_eq!(body(store, "a").await, r#"{"at":5}"#);
        assert_eq!(body(store, "b").await, "{}");
        let told_no = writes([put_if_newer("a", r#"{"at":6}"#, false)]);
        assert_eq!(commit(store, told_no).await, Committed::Conflict, "it would write now");
        assert_eq!(
            commit(store, writes([put_if_newer("a", r#"{"at":5,"x":1}"#, true)])).await,
            YES
        );
        assert_eq!(body(store, "a").await, r#"{"at":5,"x":1}"#);
    });
}

#[test]
fn a_tombstone_refuses_what_gives_way_and_a_plain_put_ends_it() {
    every_store(ROOM, async |store| {
        commit(store, writes([put("a", r#"{"at":1}"#)])).await;
        commit(store, writes([delete("a", later())])).await;
        let tombstone = get(store, "a").await;
        assert!(matches!(tombstone, Read::Tombstone(version) if version.0 > 0), "{tombstone:?}");
        let newer = |told| writes([put_if_newer("a", r#"{"at":9}"#, told)]);
        assert_eq!(commit(store, newer(true)).await, Committed::Conflict);
        assert_eq!(commit(store, newer(false)).await, YES);
        assert_eq!(get(store, "a").await, tombstone);
        let relied = Effects { reads: vec![(key("a"), Version(0))], ..Effects::default() };
        assert_eq!(commit(store, relied).await, Committed::Conflict, "a tombstone is no absence");
        commit(store, writes([put("a", r#"{"at":0}"#)])).await;
        assert_eq!(body(store, "a").await, r#"{"at":0}"#);
    });
}

#[test]
fn a_tombstone_that_has_run_out_is_absence() {
    every_store(ROOM, async |store| {
        commit(store, writes([put("a", r#"{"at":5}"#)])).await;
        commit(store, writes([delete("a", Some(Millis(1)))])).await;
        assert_eq!(get(store, "a").await, Read::Absent);
        let relied = Effects {
            reads: vec![(key("a"), Version(0))],
            ..writes([put_if_newer("a", r#"{"at":1}"#, true)])
        };
        assert_eq!(commit(store, relied).await, YES);
        assert_eq!(body(store, "a").await, r#"{"at":1}"#);
    });
}

#[test]
fn the_writes_of_a_run_see_each_other_in_order() {
    every_store(ROOM, async |store| {
        let effects = writes([
            put("a", r#"{"at":3}"#),
            put_if_newer("a", r#"{"at":2}"#, false),
            increment("a", 1),
            delete("b", later()),
            put_if_newer("b", r#"{"at":1}"#, false),
            increment("c", 1),
            delete("c", None),
            increment("c", 5),
            put("d", "{}"),
            delete("d", None),
        ]);
        assert_eq!(commit(store, effects).await, YES);
        assert_eq!(body(store, "a").await, r#"{"at":3,"n":1}"#);
        assert!(matches!(get(store, "b").await, Read::Tombstone(_)));
        assert_eq!(body(store, "c").await, r#"{"n":5}"#);
        assert_eq!(get(store, "d").await, Read::Absent);
        let late = writes([delete("a", later()), put_if_newer("a", "{}", true)]);
        assert_eq!(commit(store, late).await, Committed::Conflict);
        assert_eq!(body(store, "a").await, r#"{"at":3,"n":1}"#);
    });
}

#[test]
fn find_gives_a_collection_in_the_order_of_ids_page_by_page() {
    every_store(ROOM, async |store| {
        let other = DocumentKey { collection: "users2".into(), id: "m".into() };
        let mut puts: Vec<_> = ["b", "é", "a", "B", "c"].map(|id| put(id, "{}")).into();
        puts.push((other, Write::Put { body: json("{}"), if_newer: None, expires_at: None }));
        puts.extend([put("gone", "{}"), delete("gone", later())]);
        commit(store, writes(puts)).await;
        let reader = store.reader().unwrap();
        let page = async |after: Option<&str>, limit| -> Vec<String> {
            let find = Find { after: after.map(order::Rank::of_id), limit, ..Find::default() };
            let found = reader.find("users", find).await.unwrap();
            found.into_iter().map(|document| document.id.into()).collect()
        };
        assert_eq!(page(None, 99).await, ["B", "a", "b", "c", "é"]);
        assert_eq!(page(None, 2).await, ["B", "a"]);
        assert_eq!(page(Some("a"), 2).await, ["b", "c"]);
        assert_eq!(page(Some("é"), 2).await, [""; 0]);
        assert_eq!(page(None, 0).await, [""; 0]);
        assert_eq!(reader.count("users", Filter::default()).await.unwrap(), 5);
        assert_eq!(reader.count("nothing", Filter::default()).await.unwrap(), 0);
    });
}

#[test]
fn find_and_count_give_what_the_filter_matches() {
    every_store(ROOM, async |store| {
        let documents =
            (0..20).map(|n| put(&format!("{n:02}"), &format!(r#"{{"at":{{"n":{n}}}}}"#)));
        commit(store, writes(documents)).await;
        let above = |than: i64| {
            let test = Test::Greater { than: than.into(), or_equal: false };
            Filter(vec![Condition { path: vec!["at".into(), "n".into()], test }])
        };
        let reader = store.reader().unwrap();
        assert_eq!(reader.count("users", above(14)).await.unwrap(), 5);
        let after = Some(order::Rank::of_id("15"));
        let find = Find { filter: above(14), after, limit: 2, ..Find::default() };
        let found = reader.find("users", find).await.unwrap();
        let expected = ["16", "17"]
            .map(|id| Document { id: id.into(), body: json(&format!(r#"{{"at":{{"n":{id}}}}}"#)) });
        assert_eq!(found, expected);
    });
}
