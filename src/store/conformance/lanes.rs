//! Order within a key: promise 6.

use super::*;

fn keyed(id: &str, key: &str) -> NewEvent {
    NewEvent { order_key: Some(key.into()), ..delivery(id) }
}

/// Accepts it, and it may begin.
async fn first(store: &dyn Store, id: &str, key: &str) -> Seq {
    match store.accept(keyed(id, key)).await.unwrap() {
        Accepted::New(seq) => seq,
        other => panic!("{id} may not begin: {other:?}"),
    }
}

/// Accepts it, and it stands behind another; whether it may begin in part.
async fn behind(store: &dyn Store, id: &str, key: &str) -> (Seq, bool) {
    match store.accept(keyed(id, key)).await.unwrap() {
        Accepted::Behind { event, plan } => (event, plan),
        other => panic!("{id} stands behind nobody: {other:?}"),
    }
}

/// Ends job `n` of an event that has these scripts; what follows.
async fn ended(store: &dyn Store, event: Seq, n: u32, scripts: &[&str], outcome: Outcome) -> After {
    let finish =
        Finish { job: job(event, n), plan: plan(scripts), ordered: true, ..end(event, outcome) };
    match store.finish(finish).await.unwrap() {
        Committed::Yes(after) => after,
        other => panic!("{other:?}"),
    }
}

fn turn(event: Seq, plan: bool) -> Vec<Turn> {
    vec![Turn { event, webhook: "clerk".into(), plan }]
}

async fn may_begin(store: &dyn Store) -> Vec<(Seq, bool)> {
    let found = store.undispatched(Seq(0), Seq(i64::MAX), 99).await.unwrap();
    found.into_iter().map(|found| (found.event, found.plan)).collect()
}

async fn due(store: &dyn Store) -> Vec<JobKey> {
    let due = store.due(Millis(i64::MAX), 99).await.unwrap();
    due.into_iter().map(|due| due.key).collect()
}

#[test]
fn rule_6_the_next_of_a_key_has_its_turn_when_the_one_before_has_ended() {
    every_store(ROOM, async |store| {
        let a = first(store, "1", "a").await;
        let (next, plan) = behind(store, "2", "a").await;
        let (last, _) = behind(store, "3", "a").await;
        let other = first(store, "4", "b").await;
        assert!(!plan);
        assert_eq!(may_begin(store).await, [(a, false), (other, false)]);
        assert_eq!(ended(store, a, 0, &["clerk"], done()).await.turns, turn(next, false));
        assert_eq!(may_begin(store).await, [(next, false), (other, false)]);
        assert!(ended(store, other, 0, &["clerk"], done()).await.turns.is_empty());
        assert_eq!(ended(store, next, 0, &["clerk"], dead()).await.turns, turn(last, false));
        assert!(ended(store, last, 0, &["clerk"], done()).await.turns.is_empty());
        assert_eq!(first(store, "5", "a").await, Seq(5), "nobody stands there any more");
    });
}

#[test]
fn rule_6_what_waits_for_its_next_attempt_keeps_the_others_waiting() {
    every_store(ROOM, async |store| {
        let a = first(store, "1", "a").await;
        let (next, _) = behind(store, "2", "a").await;
        let returned = Outcome::Returned { due_at: Millis(5), reason: "stop".into() };
        let put_off = Outcome::PutOff { due_at: Millis(5), reason: "not yet".into() };
        for outcome in [retry(5), returned, put_off] {
            assert!(ended(store, a, 0, &["clerk"], outcome).await.turns.is_empty());
        }
        assert!(!behind(store, "3", "a").await.1);
        let ignored = Outcome::Ignored("gone".into());
        assert_eq!(ended(store, a, 0, &["clerk"], ignored).await.turns, turn(next, false));
    });
}

#[test]
fn rule_1_a_script_that_is_through_goes_on_past_one_that_is_not() {
    every_store(ROOM, async |store| {
        let both = ["slow", "quick"];
        let a = first(store, "1", "a").await;
        let (next, _) = behind(store, "2", "a").await;
        assert!(ended(store, a, 0, &both, retry(5)).await.turns.is_empty());
        let after = ended(store, a, 1, &both, done()).await;
        assert_eq!(after.turns, turn(next, true), "for `quick` only");
        let planned = store.plan(next, plan(&both).unwrap()).await.unwrap();
        assert_eq!(planned, YES);
        assert_eq!(due(store).await, [job(a, 0), job(next, 1)], "`slow` waits without a time");
        // What comes now may begin in part as soon as `quick` is through.
        let (last, in_part) = behind(store, "3", "a").await;
        assert!(!in_part);
        assert_eq!(ended(store, next, 1, &both, done()).await.turns, turn(last, true));
        assert!(!behind(store, "4", "a").await.1);
        // Now `slow` ends, and has its next job.
        let after = ended(store, a, 0, &both, done()).await;
        assert!(after.unblocked && after.turns.is_empty(), "{after:?}");
        assert_eq!(due(store).await, [job(next, 0)]);
    });
}

#[test]
fn rule_4_a_dead_letter_that_comes_back_stands_at_the_end() {
    every_store(ROOM, async |store| {
        let a = first(store, "1", "a").await;
        let (next, _) = behind(store, "2", "a").await;
        let (last, _) = behind(store, "3", "a").await;
        ended(store, a, 0, &["clerk"], dead()).await;
        assert_eq!(store.accept(keyed("1", "a")).await.unwrap(), Accepted::Revived(a));
        assert!(due(store).await.is_empty(), "it waits for those before it");
        assert_eq!(ended(store, next, 0, &["clerk"], done()).await.turns, turn(last, false));
        assert!(due(store).await.is_empty());
        assert!(ended(store, last, 0, &["clerk"], done()).await.unblocked);
        assert_eq!(due(store).await, [job(a, 0)]);
        let (after_it, _) = behind(store, "4", "a").await;
        assert_eq!(ended(store, a, 0, &["clerk"], done()).await.turns, turn(after_it, false));
    });
}

#[test]
fn what_answers_a_death_neither_waits_nor_keeps_others_waiting() {
    every_store(ROOM, async |store| {
        let a = first(store, "1", "a").await;
        let (next, _) = behind(store, "2", "a").await;
        let mourner =
            PlannedJob { script: "clerk".into(), pattern: Some("clerk".into()), dead_job: Some(0) };
        let outcome = Outcome::Dead { error: "it broke".into(), then: Arc::from([mourner]) };
        assert_eq!(ended(store, a, 0, &["clerk"], outcome).await.turns, turn(next, false));
        assert_eq!(due(store).await, [job(a, 1)]);
        assert_eq!(store.counts().await.unwrap().pending, 2);
        assert!(ended(store, a, 1, &[], done()).await.turns.is_empty());
        assert_eq!(store.counts().await.unwrap(), Counts { pending: 1, dead: 1, scheduled: 0 });
    });
}
