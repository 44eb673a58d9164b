//! What admin sees, what retention takes, and the end.

use super::*;

/// Seven events: 1 done, 2 undispatched, 3 dead, 4 retrying, 5 ignored, 6 pending beside done, 7 dead beside retrying; 2 and 5 of another
/// webhook.
async fn populate(store: &dyn Store) {
    for n in 1..=7 {
        let mut event = NewEvent { received_at: Millis(1000 * n), ..delivery(&format!("msg_{n}")) };
        if n == 2 || n == 5 {
            event.webhook = "stripe".into();
        }
        store.accept(event).await.unwrap();
    }
    store.finish(end(Seq(1), done())).await.unwrap();
    store.finish(end(Seq(3), dead())).await.unwrap();
    store.finish(end(Seq(4), retry(50))).await.unwrap();
    store.finish(end(Seq(5), Outcome::Ignored("nobody".into()))).await.unwrap();
    let two = |n, outcome| Finish {
        job: job(Seq(n), 0),
        plan: plan(&["clerk", "mail"]),
        ..end(Seq(n), outcome)
    };
    store.finish(two(6, done())).await.unwrap();
    store.finish(two(7, retry(60))).await.unwrap();
    store.finish(Finish { job: job(Seq(7), 1), ..two(7, dead()) }).await.unwrap();
}

async fn listed(store: &dyn Store, query: EventQuery) -> Vec<i64> {
    let page = store.events(query).await.unwrap();
    page.events.iter().map(|event| event.seq.0).collect()
}

#[test]
fn events_are_listed_newest_first_by_state_webhook_and_page() {
    every_store(ROOM, async |store| {
        populate(store).await;
        let all = EventQuery { limit: 99, ..EventQuery::default() };
        assert_eq!(listed(store, all.clone()).await, [7, 6, 5, 4, 3, 2, 1]);
        for (state, expected) in [
            (JobState::Done, [1].as_slice()),
            (JobState::Pending, &[6, 2]),
            (JobState::Dead, &[7, 3]),
            (JobState::Retrying, &[4]),
            (JobState::Ignored, &[5]),
            (JobState::Running, &[]),
            (JobState::Parked, &[]),
        ] {
            let query = EventQuery { state: Some(state), ..all.clone() };
            assert_eq!(listed(store, query).await, expected, "{state}");
        }
        let stripe = EventQuery { webhook: Some("stripe".into()), ..all.clone() };
        assert_eq!(listed(store, stripe.clone()).await, [5, 2]);
        let pending = EventQuery { state: Some(JobState::Pending), ..stripe };
        assert_eq!(listed(store, pending).await, [2]);

        let third = detail(store, Seq(3)).await.summary;
        let page = EventQuery { before: Some(third.id), limit: 1, ..EventQuery::default() };
        assert_eq!(listed(store, page.clone()).await, [2]);
        let dead = EventQuery { state: Some(JobState::Dead), limit: 9, ..page };
        assert_eq!(listed(store, dead).await, [0_i64; 0]);
        assert_eq!(third.error.as_deref(), Some("it broke"));
        assert_eq!((third.attempts, third.received_at), (1, Millis(3000)));
        assert_eq!(store.counts().await.unwrap(), Counts { pending: 4, dead: 2, scheduled: 0 });
        assert!(store.event(EventId(clock::uuid())).await.unwrap().is_none());
    });
}

#[test]
fn x4_a_list_is_narrowed_by_type_time_and_text_and_read_from_both_ends() {
    every_store(ROOM, async |store| {
        populate(store).await;
        let mut other = NewEvent { kind: "order.paid".into(), ..delivery("msg_8") };
        (other.received_at, other.body) = (Millis(8000), vec![0xff, b'n', b'e', b'e', b'd'].into());
        store.accept(other).await.unwrap();
        let all = EventQuery { limit: 99, ..EventQuery::default() };
        let kind = |pattern: &str| EventQuery { kind: Some(pattern.into()), ..all.clone() };
        assert_eq!(listed(store, kind("order.*")).await, [8]);
        assert_eq!(listed(store, kind("order.?aid")).await, [0_i64; 0]);
        assert_eq!(listed(store, kind("*")).await, [8, 7, 6, 5, 4, 3, 2, 1]);
        let (since, until) = (Some(Millis(3000)), Some(Millis(6000)));
        let between = EventQuery { since, until, ..all.clone() };
        assert_eq!(listed(store, between.clone()).await, [5, 4, 3], "until is not within");
        let text = |text: &str| EventQuery { text: Some(text.into()), ..all.clone() };
        assert_eq!(listed(store, text("need")).await, [8]);
        assert_eq!(listed(store, text("user_1")).await.len(), 7);
        assert_eq!(listed(store, text("nowhere")).await, [0_i64; 0]);

        let order = EventOrder::OldestFirst;
        let oldest = EventQuery { order, ..between };
        assert_eq!(listed(store, oldest.clone()).await, [3, 4, 5]);
        let third = detail(store, Seq(3)).await.summary.id;
        assert_eq!(listed(store, EventQuery { after: Some(third), ..oldest }).await, [4, 5]);
        for state in JobState::ALL {
            let newest = EventQuery { state: Some(state), ..all.clone() };
            let mut turned = listed(store, EventQuery { order, ..newest.clone() }).await;
            turned.reverse();
            assert_eq!(turned, listed(store, newest).await, "{state}");
        }
    });
}

#[test]
fn x4_pages_of_one_event_give_every_event_once_from_both_ends() {
    every_store(ROOM, async |store| {
        populate(store).await;
        let states = JobState::ALL.map(Some).into_iter().chain([None]);
        for (state, order) in states
            .flat_map(|state| [(state, EventOrder::NewestFirst), (state, EventOrder::OldestFirst)])
        {
            let mut query = EventQuery { state, order, limit: 99, ..EventQuery::default() };
            let whole = listed(store, query.clone()).await;
            query.limit = 1;
            let mut pages = Vec::new();
            loop {
                let page = store.events(query.clone()).await.unwrap();
                pages.extend(page.events.iter().map(|event| event.seq.0));
                let Some(next) = page.next else { break };
                match order {
                    EventOrder::NewestFirst => query.before = Some(next),
                    EventOrder::OldestFirst => query.after = Some(next),
                }
            }
            assert_eq!(pages, whole, "{state:?} {order:?}");
        }
    });
}

#[test]
fn w31_a_page_goes_on_after_an_event_that_retention_took() {
    every_store(ROOM, async |store| {
        let id = |n: u128| EventId(uuid::Uuid::from_u128(n));
        for n in 1..=4 {
            let event = NewEvent { id: id(n), ..delivery(&format!("msg_{n}")) };
            store.accept(event).await.unwrap();
        }
        store.finish(end(Seq(2), done())).await.unwrap();
        let late = Millis(i64::MAX);
        store.retain(late, late, 99, LONG).await.unwrap();
        assert!(store.event(id(2)).await.unwrap().is_none());
        let replayed = store.replay(id(2), id(9), Millis(1)).await.unwrap();
        assert_eq!(replayed, Replayed::Unknown);
        let all = EventQuery { limit: 99, ..EventQuery::default() };
        let newest = EventQuery { before: Some(id(2)), ..all.clone() };
        assert_eq!(listed(store, newest).await, [1]);
        let oldest = EventQuery { after: Some(id(2)), order: EventOrder::OldestFirst, ..all };
        assert_eq!(listed(store, oldest).await, [3, 4]);
    });
}

#[test]
fn what_an_attempt_logged_is_kept_with_it_also_where_it_succeeds_at_once() {
    every_store(ROOM, async |store| {
        let mut log = AttemptLog::default();
        log.push(Millis(2000), "info", "hello \"é\"", "#{\"a\": 1}");
        let silent = accept(store, "msg_1").await;
        store.finish(end(silent, done())).await.unwrap();
        assert!(detail(store, silent).await.attempts.is_empty());

        let told = accept(store, "msg_2").await;
        store.finish(Finish { log: log.clone(), ..end(told, done()) }).await.unwrap();
        let attempts = detail(store, told).await.attempts;
        assert_eq!((attempts.len(), &attempts[0].log, attempts[0].attempt), (1, &log, 1));
        assert_eq!(attempts[0].version.as_deref(), Some("v1"));

        let fails = accept(store, "msg_3").await;
        store.finish(Finish { log: log.clone(), ..end(fails, retry(5)) }).await.unwrap();
        assert_eq!(detail(store, fails).await.attempts[0].log, log);
    });
}

#[test]
fn retention_takes_payloads_first_then_events_and_only_what_is_at_its_end() {
    every_store(ROOM, async |store| {
        populate(store).await;
        let old = Millis(6001);
        let none = Millis(0);
        assert_eq!(store.retain(none, none, 99, LONG).await.unwrap(), 0);
        assert_eq!(store.retain(old, none, 99, LONG).await.unwrap(), 3, "1, 3 and 5");
        let third = detail(store, Seq(3)).await;
        assert!(third.payload.is_none() && third.attempts.len() == 1);
        assert!(store.load(Seq(3)).await.unwrap().is_none());
        assert!(store.load(Seq(4)).await.unwrap().is_some(), "it is not at its end");
        let mut other = delivery("msg_1");
        other.body = "{}".into();
        let again = store.accept(other).await.unwrap();
        assert_eq!(again, Accepted::Duplicate { event: Seq(1), same_body: true });

        assert_eq!(store.retain(old, Millis(3001), 99, LONG).await.unwrap(), 2, "1 and 3");
        let all = EventQuery { limit: 99, ..EventQuery::default() };
        assert_eq!(listed(store, all.clone()).await, [7, 6, 5, 4, 2]);
        assert_eq!(store.counts().await.unwrap(), Counts { pending: 4, dead: 1, scheduled: 0 });
        assert_eq!(store.accept(delivery("msg_1")).await.unwrap(), Accepted::New(Seq(8)));
        let gone = store.finish(end(Seq(3), done())).await.unwrap();
        assert_eq!(gone, Committed::Stale);
    });
}

#[test]
fn retention_goes_in_small_steps_and_comes_to_an_end() {
    every_store(ROOM, async |store| {
        for n in 0..30 {
            let seq = accept(store, &format!("msg_{n}")).await;
            if n % 3 != 0 {
                store.finish(end(seq, done())).await.unwrap();
            }
            let tombstone = Write::Delete { tombstone_until: Some(Millis(1)) };
            commit(store, writes([(key(&format!("{n}")), tombstone)])).await;
        }
        let (old, mut taken) = (Millis(i64::MAX), 0);
        for _ in 0..30 {
            let step = store.retain(old, old, 3, LONG).await.unwrap();
            assert!(step <= 3);
            taken += step;
        }
        // A payload that goes with its event is not counted on its own.
        assert!(taken >= 20, "{taken}");
        let all = EventQuery { limit: 99, ..EventQuery::default() };
        assert_eq!(listed(store, all).await.len(), 10);
        assert_eq!(store.counts().await.unwrap(), Counts { pending: 10, dead: 0, scheduled: 0 });
    });
}

#[test]
fn a_dead_event_without_its_payload_is_revived_with_the_new_one() {
    every_store(ROOM, async |store| {
        let seq = accept(store, "msg_1").await;
        store.finish(end(seq, dead())).await.unwrap();
        assert_eq!(store.retain(Millis(i64::MAX), Millis(0), 9, LONG).await.unwrap(), 1);
        let again = NewEvent { body: "{}".into(), ..delivery("msg_1") };
        assert_eq!(store.accept(again).await.unwrap(), Accepted::Revived(seq));
        assert_eq!(&*store.load(seq).await.unwrap().unwrap().event.body, b"{}");
    });
}

#[test]
fn a_closed_store_answers_that_it_is() {
    every_store(ROOM, async |store| {
        let reader = store.reader().unwrap();
        let before = store.accept(delivery("msg_1"));
        let close = store.close();
        assert!(before.await.is_ok(), "what waits is committed");
        close.await.unwrap();
        let closed = |closed: bool| assert!(closed);
        closed(matches!(store.accept(delivery("msg_2")).await, Err(StoreError::Closed)));
        closed(matches!(store.ping().await, Err(StoreError::Closed)));
        closed(matches!(store.counts().await, Err(StoreError::Closed)));
        closed(matches!(store.close().await, Err(StoreError::Closed)));
        closed(matches!(store.reader(), Err(StoreError::Closed)));
        closed(matches!(reader.get(&key("a")).await, Err(StoreError::Closed)));
        closed(matches!(reader.find("users", Find::default()).await, Err(StoreError::Closed)));
    });
}

#[test]
fn a_ping_of_a_store_that_works_is_answered() {
    every_store(ROOM, async |store| store.ping().await.unwrap());
}
