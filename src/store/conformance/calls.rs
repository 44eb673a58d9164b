//! Outbound calls, jobs that wait at a gate, and what was used of providers: promise 8, rules 12 to 14.

use super::*;

/// An unsafe call that succeeded.
pub(super) fn call(number: u32) -> Call {
    Call {
        job: 0,
        number,
        attempt: 1,
        provider: "stripe".into(),
        operation: "customers.create".into(),
        is_unsafe: true,
        identity: [u8::try_from(number % 7).unwrap(); 32],
        digest: [9; 32],
        key: Some(format!("key_{number}").into()),
        epoch: 3,
        started_at: Millis(1_000 + i64::from(number)),
        latency_ms: 340,
        tries: 2,
        outcome: CallOutcome::Succeeded,
        status: Some(201),
        error: None,
        answer: KeptAnswer::Whole(CallAnswer {
            status: 201,
            headers: vec![("x-a".into(), "1".into()), ("x-a".into(), "é\"".into())],
            kind: AnswerKind::Bytes,
            body: vec![0, 255, 10].into(),
        }),
    }
}

fn intent(number: u32) -> Call {
    Call {
        outcome: CallOutcome::Intent,
        key: None,
        latency_ms: 0,
        status: None,
        answer: KeptAnswer::Nothing,
        ..call(number)
    }
}

pub(super) fn made(calls: impl IntoIterator<Item = Call>) -> Option<Arc<Calls>> {
    let made: Vec<Call> = calls.into_iter().collect();
    let asked = u32::try_from(made.len()).unwrap();
    Some(Arc::new(Calls { made, asked, dropped: 0 }))
}

fn noted(event: Seq, call: Call) -> Noted {
    Noted { job: job(event, 0), plan: plan(&["clerk", "other"]), attempt: 1, call }
}

async fn recalled(store: &dyn Store, event: Seq) -> Recalled {
    store.reader().unwrap().calls(job(event, 0)).await.unwrap()
}

#[test]
fn rule_13_calls_are_committed_with_the_end_of_their_attempt_and_recalled_with_their_answers() {
    every_store(ROOM, async |store| {
        let seq = accept(store, "msg_1").await;
        assert_eq!(recalled(store, seq).await, Recalled::default());
        let read = Call { is_unsafe: false, answer: KeptAnswer::Nothing, ..call(1) };
        let failed = Call {
            outcome: CallOutcome::Failed,
            error: Some("TIMEOUT".into()),
            answer: KeptAnswer::Nothing,
            ..call(2)
        };
        let large = Call { answer: KeptAnswer::TooLarge, ..call(3) };
        let all = [call(0), read, failed.clone(), large.clone()];
        let first = Finish { calls: made(all.clone()), ..end(seq, retry(5)) };
        assert_eq!(store.finish(first).await.unwrap(), YES);
        let expected = Recalled { calls: vec![call(0), failed, large], next: 4 };
        assert_eq!(recalled(store, seq).await, expected);
        let detail = detail(store, seq).await;
        assert_eq!(detail.calls, all.map(|call| call.unanswered()));
        assert_eq!((detail.calls_left_out, detail.summary.calls), (0, 4));
        assert_eq!(store.reader().unwrap().calls(job(seq, 1)).await.unwrap(), Recalled::default());
    });
}

#[test]
fn rule_13_a_run_that_conflicts_records_nothing() {
    every_store(ROOM, async |store| {
        let seq = accept(store, "msg_1").await;
        let stale = Effects { reads: vec![(key("a"), Version(7))], ..Effects::default() };
        let conflict = Finish { calls: made([call(0)]), ..end(seq, Outcome::Done(stale)) };
        assert_eq!(store.finish(conflict).await.unwrap(), Committed::Conflict);
        assert_eq!(recalled(store, seq).await, Recalled::default());
    });
}

#[test]
fn rule_14_a_noted_call_is_there_at_once_and_its_answer_takes_its_place() {
    every_store(ROOM, async |store| {
        let seq = accept(store, "msg_1").await;
        assert_eq!(store.note_call(noted(seq, intent(0))).await.unwrap(), YES);
        assert_eq!(recalled(store, seq).await, Recalled { calls: vec![intent(0)], next: 1 });
        let jobs = detail(store, seq).await.jobs;
        let states: Vec<_> = jobs.iter().map(|job| (job.state, job.attempt, job.due_at)).collect();
        assert_eq!(states[0], (JobState::Running, 1, None), "it uses an attempt until it ends");
        assert_eq!((states[1].0, states[1].1), (JobState::Pending, 0));
        assert_eq!(store.undispatched(Seq(0), Seq(99), 9).await.unwrap(), []);

        let answered = Call { key: None, ..call(0) };
        assert_eq!(store.note_call(noted(seq, answered.clone())).await.unwrap(), YES);
        assert_eq!(recalled(store, seq).await.calls, [answered]);
        store.finish(end(seq, done())).await.unwrap();
        let late = store.note_call(noted(seq, intent(1))).await.unwrap();
        assert_eq!(late, Committed::Stale, "the job has ended");
        assert_eq!(recalled(store, seq).await.next, 1);
    });
}

#[test]
fn a_call_of_an_event_that_nobody_knows_is_not_noted() {
    every_store(ROOM, async |store| {
        assert_eq!(store.note_call(noted(Seq(7), intent(0))).await.unwrap(), Committed::Stale);
    });
}

#[test]
fn rule_19_a_resumed_dead_letter_keeps_its_calls_and_a_copy_of_a_done_event_has_none() {
    every_store(ROOM, async |store| {
        let seq = accept(store, "msg_1").await;
        let died = Finish { calls: made([call(0)]), ..end(seq, dead()) };
        store.finish(died).await.unwrap();
        let id = detail(store, seq).await.summary.id;
        let copy = EventId(clock::uuid());
        assert_eq!(store.replay(id, copy, Millis(1)).await.unwrap(), Replayed::Resumed(seq));
        assert_eq!(recalled(store, seq).await, Recalled { calls: vec![call(0)], next: 1 });
        // It reuses the one, and asks for no other.
        let calls = Some(Arc::new(Calls { asked: 1, ..Calls::default() }));
        store.finish(Finish { calls, attempt: 2, ..end(seq, done()) }).await.unwrap();
        assert_eq!(detail(store, seq).await.summary.calls, 1);
        let calls = made([Call { number: 1, ..call(0) }]);
        let other = accept(store, "msg_2").await;
        store.finish(Finish { calls, ..end(other, done()) }).await.unwrap();
        let kept = &recalled(store, other).await.calls[0];
        assert_eq!(kept.answer, KeptAnswer::Nothing, "what is done needs no answers any more");
        let anew = store.replay(id, copy, Millis(1)).await.unwrap();
        let Replayed::Anew(Accepted::New(anew)) = anew else { panic!("{anew:?}") };
        assert_eq!(recalled(store, anew).await, Recalled::default());
    });
}

#[test]
fn an_event_shows_a_thousand_calls_and_counts_the_others() {
    every_store(ROOM, async |store| {
        let seq = accept(store, "msg_1").await;
        let made: Vec<Call> = (0..1_003).map(call).collect();
        let calls = Some(Arc::new(Calls { made, asked: 1_010, dropped: 7 }));
        store.finish(Finish { calls: calls.clone(), ..end(seq, retry(5)) }).await.unwrap();
        let shown = detail(store, seq).await;
        assert_eq!((shown.calls.len(), shown.calls_left_out), (1_000, 10));
        assert_eq!(shown.summary.calls, 1_010);
        store.finish(Finish { calls, attempt: 2, ..end(seq, retry(6)) }).await.unwrap();
        let shown = detail(store, seq).await;
        assert_eq!((shown.calls_left_out, shown.summary.calls), (17, 1_010));
    });
}

#[test]
fn w31_calls_go_with_their_event() {
    every_store(ROOM, async |store| {
        let seq = accept(store, "msg_1").await;
        store.finish(Finish { calls: made([call(0)]), ..end(seq, done()) }).await.unwrap();
        assert_eq!(store.retain(Millis(9999), Millis(1), 9, LONG).await.unwrap(), 1);
        assert_eq!(recalled(store, seq).await.next, 1, "only the payload went");
        assert_eq!(store.retain(Millis(9999), Millis(9999), 9, LONG).await.unwrap(), 1);
        assert_eq!(recalled(store, seq).await, Recalled::default());
    });
}

#[test]
fn rule_12_a_parked_job_uses_no_attempt_and_remembers_since_when_it_waits() {
    every_store(ROOM, async |store| {
        let seq = accept(store, "msg_1").await;
        let end = |ended_at, outcome| Finish {
            attempt: 0,
            ended_at: Millis(ended_at),
            calls: made([call(0)]),
            ..end(seq, outcome)
        };
        let parked = |due_at| Outcome::Parked { due_at: Millis(due_at), reason: "closed".into() };
        let put_off = Outcome::PutOff { due_at: Millis(5), reason: "not yet".into() };
        let returned = Outcome::Returned { due_at: Millis(5), reason: "stop".into() };
        let since = async || {
            let job = detail(store, seq).await.jobs.swap_remove(0);
            (job.parked_since.map(|at| at.0), job.put_off_since.map(|at| at.0))
        };
        store.finish(end(100, parked(50))).await.unwrap();
        let shown = detail(store, seq).await;
        let job = &shown.jobs[0];
        let state = (job.state, job.attempt, job.due_at, job.error.as_deref());
        assert_eq!(state, (JobState::Parked, 0, Some(Millis(50)), Some("closed")));
        assert!(shown.attempts.is_empty() && shown.calls.len() == 1);
        assert_eq!(shown.summary.state, JobState::Parked);
        assert_eq!(store.counts().await.unwrap().pending, 1);
        assert_eq!(store.due(Millis(49), 9).await.unwrap(), []);
        assert_eq!(store.due(Millis(50), 9).await.unwrap().len(), 1);
        assert_eq!(since().await, (Some(100), None));
        for (outcome, expected) in [
            (parked(60), (Some(100), None)),
            (returned, (Some(100), None)),
            (put_off, (Some(100), Some(200))),
            (parked(60), (Some(100), Some(200))),
            (retry(60), (None, None)),
            (parked(60), (Some(200), None)),
        ] {
            store.finish(end(200, outcome)).await.unwrap();
            assert_eq!(since().await, expected);
        }
        let again = Finish { attempt: 1, ..end(300, dead()) };
        store.finish(again).await.unwrap();
        store.accept(delivery("msg_1")).await.unwrap();
        assert_eq!(since().await, (None, None), "fresh attempts wait afresh");
    });
}

#[test]
fn what_was_used_adds_up_by_provider_unit_and_time() {
    every_store(ROOM, async |store| {
        let now = clock::now();
        let used = |unit: &str, began_at, amount| Usage {
            provider: "openai".into(),
            unit: unit.into(),
            began_at,
            amount,
        };
        let (early, most) = (Millis(7), i64::MAX as u64);
        let all = vec![used("tokens", now, 5), used("tokens", early, 1), used("usd", now, most)];
        store.add_usage(all).await.unwrap();
        store.add_usage(vec![used("tokens", now, 2), used("usd", now, 1)]).await.unwrap();
        let expected = [used("tokens", early, 1), used("tokens", now, 7), used("usd", now, most)];
        assert_eq!(store.usage(Millis(0)).await.unwrap(), expected);
        assert_eq!(store.usage(Millis(8)).await.unwrap(), expected[1..]);
        assert_eq!(store.retain(Millis(0), Millis(0), 9, LONG).await.unwrap(), 1, "a year ago");
        assert_eq!(store.usage(Millis(0)).await.unwrap(), expected[1..]);
    });
}
