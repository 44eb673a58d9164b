//! Internal events, timers, replays: promise 3 for what a run emits.

use super::*;

fn event(id: Option<&str>, key: Option<&str>) -> NewEvent {
    NewEvent {
        webhook: "on:t".into(),
        delivery_id: id.map(Into::into),
        order_key: key.map(Into::into),
        ..delivery("")
    }
}

fn emit(event: NewEvent, due_at: Option<i64>, pending: Pending) -> Emit {
    Emit::Event { event, due_at: due_at.map(Millis), pending }
}

fn cancel(key: &str, told: bool) -> Emit {
    Emit::Cancel { webhook: "on:t".into(), key: key.into(), told }
}

fn emits(emits: impl IntoIterator<Item = Emit>) -> Effects {
    Effects { emits: emits.into_iter().collect(), ..Effects::default() }
}

async fn emitted(store: &dyn Store, emit: Emit) -> Option<Accepted> {
    match commit(store, emits([emit])).await {
        Committed::Yes(after) => after.emitted[0],
        other => panic!("{other:?}"),
    }
}

async fn waits(store: &dyn Store, key: &str) -> bool {
    store.reader().unwrap().waits("on:t", key).await.unwrap()
}

#[test]
fn rule_8_what_is_emitted_is_there_with_the_commit_and_only_then() {
    every_store(ROOM, async |store| {
        let seq = accept(store, "msg_1").await;
        let effects = emits([emit(event(None, None), None, Pending::Add)]);
        let conflict = Effects { reads: vec![(key("a"), Version(9))], ..effects.clone() };
        let refused = store.finish(end(seq, Outcome::Done(conflict))).await.unwrap();
        assert_eq!(refused, Committed::Conflict);
        assert_eq!(store.counts().await.unwrap().pending, 1);
        let Committed::Yes(after) = store.finish(end(seq, Outcome::Done(effects))).await.unwrap()
        else {
            panic!("it commits")
        };
        assert_eq!(after.emitted, [Some(Accepted::New(Seq(2)))]);
        assert_eq!(store.load(Seq(2)).await.unwrap().unwrap().event.webhook.as_ref(), "on:t");
    });
}

#[test]
fn an_id_that_is_known_or_to_come_makes_no_second_event() {
    every_store(ROOM, async |store| {
        let once = |due_at| emit(event(Some("order_1"), None), due_at, Pending::Add);
        assert_eq!(emitted(store, once(Some(50))).await, None);
        assert_eq!(emitted(store, once(None)).await, None, "it is to come");
        assert_eq!(store.promote(Millis(50), 9).await.unwrap().len(), 1);
        let again = emitted(store, once(None)).await;
        assert!(matches!(again, Some(Accepted::Duplicate { .. })), "{again:?}");
        assert_eq!(emitted(store, once(Some(99))).await, None);
        assert_eq!(store.counts().await.unwrap(), Counts { pending: 1, dead: 0, scheduled: 0 });
    });
}

#[test]
fn what_is_for_later_becomes_an_event_when_it_is_due_the_earliest_first() {
    every_store(ROOM, async |store| {
        for due_at in [30, 10, 20, 99] {
            emitted(store, emit(event(None, Some("k")), Some(due_at), Pending::Add)).await;
        }
        assert_eq!(store.next_scheduled().await.unwrap(), Some(Millis(10)));
        assert!(store.promote(Millis(9), 9).await.unwrap().is_empty());
        let turns = store.promote(Millis(30), 2).await.unwrap();
        assert_eq!(turns.len(), 1, "the second stands behind the first: {turns:?}");
        assert_eq!(store.counts().await.unwrap(), Counts { pending: 2, dead: 0, scheduled: 2 });
        store.promote(Millis(30), 9).await.unwrap();
        assert_eq!(store.next_scheduled().await.unwrap(), Some(Millis(99)));
    });
}

#[test]
fn keep_gives_way_to_what_waits_and_replace_takes_its_place() {
    every_store(ROOM, async |store| {
        let with = |due_at, pending| emit(event(None, Some("k")), due_at, pending);
        emitted(store, with(Some(10), Pending::Keep)).await;
        emitted(store, with(Some(20), Pending::Keep)).await;
        assert_eq!(store.next_scheduled().await.unwrap(), Some(Millis(10)));
        emitted(store, with(Some(30), Pending::Replace)).await;
        assert_eq!(store.next_scheduled().await.unwrap(), Some(Millis(30)));
        assert_eq!(store.counts().await.unwrap().scheduled, 1);
        // What has become an event and not begun gives way too; what has begun does not.
        let now = emitted(store, with(None, Pending::Replace)).await;
        assert_eq!(now, Some(Accepted::New(Seq(1))));
        let now = emitted(store, with(None, Pending::Replace)).await;
        assert_eq!(now, Some(Accepted::New(Seq(2))));
        assert_eq!(detail(store, Seq(1)).await.summary.state, JobState::Ignored);
        assert_eq!(store.claim(job(Seq(1), 0), plan(&["s"]), 1).await.unwrap(), Committed::Stale);
        assert_eq!(store.claim(job(Seq(2), 0), plan(&["s"]), 1).await.unwrap(), YES);
        let now = emitted(store, with(None, Pending::Replace)).await;
        assert_eq!(now, Some(Accepted::Behind { event: Seq(3), plan: false }));
    });
}

#[test]
fn cancel_takes_back_what_waits_and_conflicts_where_the_script_was_told_otherwise() {
    every_store(ROOM, async |store| {
        assert_eq!(commit(store, emits([cancel("k", true)])).await, Committed::Conflict);
        assert_eq!(commit(store, emits([cancel("k", false)])).await, YES);
        emitted(store, emit(event(None, Some("k")), Some(10), Pending::Add)).await;
        emitted(store, emit(event(None, Some("k")), None, Pending::Add)).await;
        assert!(waits(store, "k").await && !waits(store, "other").await);
        assert_eq!(commit(store, emits([cancel("k", false)])).await, Committed::Conflict);
        assert_eq!(commit(store, emits([cancel("k", true)])).await, YES);
        assert!(!waits(store, "k").await);
        assert_eq!(store.counts().await.unwrap(), Counts { pending: 0, dead: 0, scheduled: 0 });
    });
}

#[test]
fn emits_go_past_the_bound_for_deliveries_and_no_further_than_twice_it() {
    every_store(2, async |store| {
        accept(store, "msg_1").await;
        let seq = accept(store, "msg_2").await;
        assert!(matches!(store.accept(delivery("msg_3")).await, Err(StoreError::Full { .. })));
        let several =
            |count: usize| emits((0..count).map(|_| emit(event(None, None), None, Pending::Add)));
        // It ends and begins another: that needs no place.
        let one = end(seq, Outcome::Done(several(1)));
        assert!(matches!(store.finish(one).await.unwrap(), Committed::Yes(_)));
        assert!(matches!(store.commit(several(2)).await.unwrap(), Committed::Yes(_)));
        assert!(matches!(store.commit(several(1)).await, Err(StoreError::Full { .. })));
        let grows = end(Seq(1), Outcome::Done(several(2)));
        assert!(matches!(store.finish(grows).await, Err(StoreError::Full { .. })));
        let keeps = end(Seq(1), Outcome::Done(several(1)));
        assert!(matches!(store.finish(keeps).await.unwrap(), Committed::Yes(_)));
    });
}

#[test]
fn rule_18_an_occurrence_of_a_timer_is_an_event_once_and_one_at_a_time() {
    every_store(ROOM, async |store| {
        let firing = |occurrence: Option<&str>, counts_from: i64| Firing {
            timer: "every:s/5m".into(),
            counts_from: Millis(counts_from),
            event: occurrence.map(|id| NewEvent {
                webhook: "every:s/5m".into(),
                delivery_id: Some(id.into()),
                order_key: Some("".into()),
                ..delivery("")
            }),
        };
        let fire = async |occurrence, counts_from| {
            store.fire(firing(occurrence, counts_from)).await.unwrap()
        };
        let counts_from = async || store.timers().await.unwrap()[0].1.0;
        assert_eq!(fire(None, 100).await, Fired::Noted);
        assert_eq!(fire(Some("105"), 105).await, Fired::New(Seq(1)));
        assert_eq!(fire(Some("110"), 110).await, Fired::Busy);
        assert_eq!(counts_from().await, 105, "a busy timer counts as before");
        let over = Finish { ordered: true, ..end(Seq(1), done()) };
        store.finish(over).await.unwrap();
        assert_eq!(fire(Some("105"), 112).await, Fired::Noted, "it was an event before");
        assert_eq!(counts_from().await, 112);
        assert_eq!(fire(Some("110"), 115).await, Fired::New(Seq(2)));
        store.forget_timer("every:s/5m").await.unwrap();
        assert!(store.timers().await.unwrap().is_empty());
    });
}

#[test]
fn rule_19_a_dead_letter_is_resumed_and_what_is_done_begins_anew() {
    every_store(ROOM, async |store| {
        let replay = async |event: Seq| {
            let id = detail(store, event).await.summary.id;
            store.replay(id, EventId(clock::uuid()), Millis(7000)).await.unwrap()
        };
        let gone = store.replay(EventId(clock::uuid()), EventId(clock::uuid()), Millis(0)).await;
        assert_eq!(gone.unwrap(), Replayed::Unknown);
        let letter = accept(store, "msg_1").await;
        assert_eq!(replay(letter).await, Replayed::NotEnded(JobState::Pending));
        store.finish(end(letter, dead())).await.unwrap();
        assert_eq!(replay(letter).await, Replayed::Resumed(letter));
        assert_eq!(replay(letter).await, Replayed::NotEnded(JobState::Pending), "once");
        let fresh = detail(store, letter).await;
        assert_eq!((fresh.jobs[0].state, fresh.jobs[0].attempt), (JobState::Pending, 0));
        store.finish(end(letter, done())).await.unwrap();
        let copy = Seq(2);
        assert_eq!(replay(letter).await, Replayed::Anew(Accepted::New(copy)));
        assert_eq!(replay(letter).await, Replayed::NotEnded(JobState::Pending), "its copy waits");
        let copied = store.load(copy).await.unwrap().unwrap().event;
        assert_eq!(copied.replay_of, Some(fresh.summary.id));
        assert_eq!((copied.delivery_id, copied.received_at), (None, Millis(7000)));
        store.finish(end(copy, done())).await.unwrap();
        assert_eq!(replay(letter).await, Replayed::Anew(Accepted::New(Seq(3))));
        store.finish(end(Seq(3), done())).await.unwrap();
        store.retain(Millis(6000), Millis(0), 9, LONG).await.unwrap();
        assert_eq!(replay(letter).await, Replayed::NoPayload);
    });
}

#[test]
fn a_job_that_is_put_off_remembers_since_when_until_it_is_not() {
    every_store(ROOM, async |store| {
        let seq = accept(store, "msg_1").await;
        let put_off = |ended_at: i64| {
            let outcome = Outcome::PutOff { due_at: Millis(9), reason: "not yet".into() };
            Finish { attempt: 0, ended_at: Millis(ended_at), ..end(seq, outcome) }
        };
        let since = async || detail(store, seq).await.jobs[0].put_off_since.map(|at| at.0);
        store.finish(put_off(100)).await.unwrap();
        store.finish(put_off(200)).await.unwrap();
        assert_eq!(since().await, Some(100));
        store.claim(job(seq, 0), None, 1).await.unwrap();
        assert_eq!(since().await, Some(100));
        let stopped = Outcome::Returned { due_at: Millis(9), reason: "stop".into() };
        store.finish(Finish { attempt: 0, ..end(seq, stopped) }).await.unwrap();
        assert_eq!(since().await, Some(100));
        store.finish(end(seq, retry(9))).await.unwrap();
        assert_eq!(since().await, None);
    });
}
