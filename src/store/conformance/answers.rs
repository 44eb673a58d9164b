//! Answers that are given again: promise 6.

use super::*;

pub(super) fn answer_key(key: &str) -> AnswerKey {
    AnswerKey { scope: "clerk".into(), key: key.into() }
}

pub(super) fn recorded(body: &str, answered_at: i64) -> Recorded {
    Recorded {
        digest: [7; 32],
        status: 202,
        headers: vec![("x-a".into(), "1".into()), ("x-a".into(), "é\"".into())],
        body: vec![0, 255].into_iter().chain(body.bytes()).collect::<Vec<_>>().into(),
        answered_at: Millis(answered_at),
    }
}

/// A delivery that a script has answered.
fn answered(delivery_id: &str, body: &str, effects: Effects) -> Answering {
    let job = PlannedJob { script: "clerk".into(), pattern: Some("*".into()), dead_job: None };
    Answering {
        key: Some(answer_key(delivery_id)),
        event: Some(AnsweredEvent { event: delivery(delivery_id), job, attempt: None }),
        effects,
        answer: Some(recorded(body, 1000)),
    }
}

async fn known(store: &dyn Store, key: &str) -> Option<Known> {
    store.reader().unwrap().known(&answer_key(key)).await.unwrap()
}

#[test]
fn rule_11_event_effects_and_answer_are_one_commit() {
    every_store(ROOM, async |store| {
        assert_eq!(known(store, "msg_1").await, None);
        let first = answered("msg_1", "first", writes([put("a", "{}")]));
        let id = first.event.as_ref().unwrap().event.id;
        assert_eq!(store.answer(first).await.unwrap(), Answered::Yes(After::default()));
        assert_eq!(body(store, "a").await, "{}");
        assert_eq!(known(store, "msg_1").await, Some(Known::Answer(recorded("first", 1000))));
        let event = store.event(id).await.unwrap().unwrap();
        assert_eq!((event.summary.state, event.summary.attempts), (JobState::Done, 1));
        assert_eq!(event.summary.delivery_id.as_deref(), Some("msg_1"));
        assert_eq!(event.payload.unwrap().1, delivery("").body);
        assert_eq!(&*event.jobs[0].planned.script, "clerk");
        assert!(event.jobs[0].due_at.is_none() && event.attempts.is_empty());
        assert_eq!(store.counts().await.unwrap(), Counts { pending: 0, dead: 0, scheduled: 0 });
        assert_eq!(store.undispatched(Seq(0), Seq(99), 9).await.unwrap(), []);
        assert_eq!(accept(store, "msg_2").await, Seq(event.summary.seq.0 + 1));
    });
}

#[test]
fn rule_11_who_comes_second_gets_the_first_answer_and_commits_nothing() {
    every_store(ROOM, async |store| {
        let racing: Vec<_> = ["first", "second", "third"]
            .map(|name| store.answer(answered("msg_1", name, writes([put(name, "{}")]))))
            .into();
        let mut said = Vec::new();
        for answer in racing {
            said.push(answer.await.unwrap());
        }
        let again = Answered::Known(Known::Answer(recorded("first", 1000)));
        assert_eq!(said, [Answered::Yes(After::default()), again.clone(), again]);
        assert_eq!(body(store, "first").await, "{}");
        for name in ["second", "third"] {
            assert_eq!(get(store, name).await, Read::Absent);
        }
        let elsewhere = AnswerKey { scope: "POST /clerk".into(), ..answer_key("msg_1") };
        let other = Answering {
            key: Some(elsewhere),
            event: None,
            ..answered("msg_1", "of a route", Effects::default())
        };
        assert_eq!(store.answer(other).await.unwrap(), Answered::Yes(After::default()));
        let all = EventQuery { limit: 9, ..EventQuery::default() };
        assert_eq!(store.events(all).await.unwrap().events.len(), 1);
    });
}

#[test]
fn a_conflict_commits_neither_event_nor_answer() {
    every_store(ROOM, async |store| {
        let stale = Effects { reads: vec![(key("a"), Version(7))], ..writes([put("a", "{}")]) };
        let answering = answered("msg_1", "first", stale);
        assert_eq!(store.answer(answering).await.unwrap(), Answered::Conflict);
        assert_eq!(known(store, "msg_1").await, None);
        assert_eq!(get(store, "a").await, Read::Absent);
        assert_eq!(accept(store, "msg_1").await, Seq(1));
    });
}

#[test]
fn an_event_that_no_script_answered_is_known_without_an_answer() {
    every_store(ROOM, async |store| {
        accept(store, "msg_1").await;
        assert_eq!(known(store, "msg_1").await, Some(Known::Event));
        let answering = answered("msg_1", "late", writes([put("a", "{}")]));
        assert_eq!(store.answer(answering).await.unwrap(), Answered::Known(Known::Event));
        assert_eq!(get(store, "a").await, Read::Absent);
    });
}

#[test]
fn what_a_script_logged_that_answered_is_kept_with_its_event() {
    every_store(ROOM, async |store| {
        let mut log = AttemptLog::default();
        log.push(Millis(1), "warn", "hello", "");
        let attempt = Attempt {
            job: 0,
            attempt: 1,
            started_at: Millis(1),
            ended_at: Millis(2),
            generation: 3,
            version: None,
            error: None,
            log,
        };
        let mut answering = answered("msg_1", "", Effects::default());
        answering.event.as_mut().unwrap().attempt = Some(attempt.clone());
        assert_eq!(store.answer(answering).await.unwrap(), Answered::Yes(After::default()));
        assert_eq!(detail(store, Seq(1)).await.attempts, [attempt]);
    });
}

#[test]
fn without_a_key_every_delivery_is_another_and_a_full_inbox_takes_them() {
    every_store(1, async |store| {
        accept(store, "waits").await;
        let bare = || {
            let event = NewEvent { delivery_id: None, ..delivery("") };
            let answering = answered("", "", Effects::default());
            let event = AnsweredEvent { event, ..answering.event.unwrap() };
            Answering { key: None, event: Some(event), answer: None, ..answering }
        };
        for _ in 0..2 {
            assert_eq!(store.answer(bare()).await.unwrap(), Answered::Yes(After::default()));
        }
        let all = EventQuery { limit: 9, ..EventQuery::default() };
        assert_eq!(store.events(all).await.unwrap().events.len(), 3);
        assert!(matches!(store.accept(delivery("more")).await, Err(StoreError::Full { .. })));
    });
}

#[test]
fn rule_4_answers_go_when_ids_go_the_oldest_first_and_in_steps() {
    every_store(ROOM, async |store| {
        for n in 1..=5 {
            let answer = Some(recorded("", n * 1000));
            let answering = answered(&n.to_string(), "", Effects::default());
            store.answer(Answering { event: None, answer, ..answering }).await.unwrap();
        }
        assert_eq!(store.retain(Millis(9999), Millis(1000), 9, LONG).await.unwrap(), 0);
        assert_eq!(store.retain(Millis(9999), Millis(4000), 2, LONG).await.unwrap(), 2);
        assert_eq!(known(store, "2").await, None);
        assert!(known(store, "3").await.is_some());
        assert_eq!(store.retain(Millis(9999), Millis(4000), 9, LONG).await.unwrap(), 1);
        for (n, kept) in [("3", false), ("4", true), ("5", true)] {
            assert_eq!(known(store, n).await.is_some(), kept, "{n}");
        }
    });
}
