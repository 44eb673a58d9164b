//! Accepting, ending attempts, recovery: promises 2 and 3.

use super::*;

#[test]
fn w2_a_delivery_that_comes_again_makes_no_second_event() {
    every_store(ROOM, async |store| {
        let first = accept(store, "msg_1").await;
        let again = store.accept(delivery("msg_1")).await.unwrap();
        assert_eq!(again, Accepted::Duplicate { event: first, same_body: true });
        let mut elsewhere = delivery("msg_1");
        elsewhere.webhook = "stripe".into();
        assert_eq!(store.accept(elsewhere).await.unwrap(), Accepted::New(Seq(first.0 + 1)));
        assert_eq!(store.counts().await.unwrap(), Counts { pending: 2, dead: 0, scheduled: 0 });
    });
}

#[test]
fn w3_the_same_id_with_another_body_is_a_duplicate_that_says_so() {
    every_store(ROOM, async |store| {
        let first = accept(store, "msg_1").await;
        let mut other = delivery("msg_1");
        other.body = r#"{"data":{"id":"user_2"}}"#.into();
        let again = store.accept(other).await.unwrap();
        assert_eq!(again, Accepted::Duplicate { event: first, same_body: false });
        let kept = store.load(first).await.unwrap().unwrap();
        assert_eq!(kept.event.body, delivery("").body, "the first body wins");
    });
}

#[test]
fn w3_a_dead_event_that_is_delivered_again_goes_back_to_pending_with_fresh_attempts() {
    every_store(ROOM, async |store| {
        let seq = accept(store, "msg_1").await;
        let plan = plan(&["clerk", "audit", "mail"]);
        let end = Finish { plan, attempt: 21, ..end(seq, dead()) };
        store.finish(end.clone()).await.unwrap();
        store.finish(Finish { job: job(seq, 1), outcome: done(), ..end.clone() }).await.unwrap();
        store.finish(Finish { job: job(seq, 2), ..end }).await.unwrap();
        assert_eq!(store.counts().await.unwrap(), Counts { pending: 0, dead: 1, scheduled: 0 });

        assert_eq!(store.accept(delivery("msg_1")).await.unwrap(), Accepted::Revived(seq));
        assert_eq!(store.counts().await.unwrap(), Counts { pending: 1, dead: 0, scheduled: 0 });
        let jobs = detail(store, seq).await.jobs;
        let states: Vec<_> = jobs.iter().map(|job| (job.state, job.attempt)).collect();
        let fresh = (JobState::Pending, 0);
        assert_eq!(states, [fresh, (JobState::Done, 21), fresh]);
        assert!(jobs[0].due_at.unwrap() <= clock::steady() && jobs[0].error.is_none());
        let again = store.accept(delivery("msg_1")).await.unwrap();
        assert_eq!(again, Accepted::Duplicate { event: seq, same_body: true });
    });
}

#[test]
fn w4_the_same_id_on_many_connections_at_once_makes_one_event() {
    every_store(ROOM, async |store| {
        let answers: Vec<_> = (0..50).map(|_| store.accept(delivery("msg_1"))).collect();
        let mut new = 0;
        for answer in answers {
            match answer.await.unwrap() {
                Accepted::New(_) => new += 1,
                other => assert_eq!(other, Accepted::Duplicate { event: Seq(1), same_body: true }),
            }
        }
        assert_eq!(new, 1);
        assert_eq!(store.counts().await.unwrap().pending, 1);
    });
}

#[test]
fn events_without_a_delivery_id_are_never_duplicates_but_the_same_event_is() {
    every_store(ROOM, async |store| {
        let bare = || NewEvent { delivery_id: None, ..delivery("") };
        let first = bare();
        assert_eq!(store.accept(first.clone()).await.unwrap(), Accepted::New(Seq(1)));
        assert_eq!(store.accept(bare()).await.unwrap(), Accepted::New(Seq(2)));
        let again = store.accept(first).await.unwrap();
        assert_eq!(again, Accepted::Duplicate { event: Seq(1), same_body: true });
    });
}

#[test]
fn what_was_accepted_is_given_back_byte_for_byte() {
    every_store(ROOM, async |store| {
        let event = NewEvent { body: vec![0, 255, 10, 0].into(), ..delivery("msg_1") };
        let Accepted::New(seq) = store.accept(event.clone()).await.unwrap() else {
            panic!("it is new")
        };
        let kept = store.load(seq).await.unwrap().unwrap();
        assert_eq!(format!("{:?}", kept.event), format!("{event:?}"));
        assert!(kept.jobs.is_empty());
        let detail = store.event(event.id).await.unwrap().unwrap();
        assert_eq!(detail.payload, Some((event.request, event.body)));
        assert_eq!(detail.summary.state, JobState::Pending);
        assert!(store.load(Seq(2)).await.unwrap().is_none());
    });
}

/// A job's state, attempt, due time and error, and how many attempts are kept, after an end.
async fn check_end(
    store: &dyn Store,
    end: Finish,
    expected: (JobState, u32, Option<i64>, Option<&str>, usize),
) {
    let seq = accept(store, &format!("{:?}", end.outcome)).await;
    let end = Finish { job: job(seq, 0), ..end };
    assert_eq!(store.finish(end).await.unwrap(), YES);
    let detail = detail(store, seq).await;
    let Job { state, attempt, due_at, error, .. } = detail.jobs[0].clone();
    let found = (state, attempt, due_at.map(|at| at.0), error.as_deref(), detail.attempts.len());
    assert_eq!(found, expected);
    assert_eq!((detail.summary.state, detail.summary.attempts), (state, attempt));
    assert_eq!(detail.summary.error, error);
}

#[test]
fn each_outcome_leaves_its_job_where_it_says() {
    every_store(ROOM, async |store| {
        let end = |attempt, outcome| Finish { attempt, ..end(Seq(0), outcome) };
        let returned =
            || Outcome::Returned { due_at: Millis(9), reason: "the runtime stops".into() };
        let ignored = Outcome::Ignored("nobody handles it".into());
        check_end(store, end(1, done()), (JobState::Done, 1, None, None, 0)).await;
        check_end(
            store,
            end(0, ignored),
            (JobState::Ignored, 0, None, Some("nobody handles it"), 0),
        )
        .await;
        check_end(store, end(1, retry(5)), (JobState::Retrying, 1, Some(5), Some("not yet"), 1))
            .await;
        check_end(
            store,
            end(0, returned()),
            (JobState::Pending, 0, Some(9), Some("the runtime stops"), 0),
        )
        .await;
        check_end(store, end(1, dead()), (JobState::Dead, 1, None, Some("it broke"), 1)).await;
        assert_eq!(store.counts().await.unwrap(), Counts { pending: 2, dead: 1, scheduled: 0 });
    });
}

#[test]
fn every_attempt_is_kept_but_a_success_at_the_first_try() {
    every_store(ROOM, async |store| {
        let seq = accept(store, "msg_1").await;
        store.finish(end(seq, retry(5))).await.unwrap();
        let returned = Outcome::Returned { due_at: Millis(6), reason: "stop".into() };
        store.finish(Finish { plan: None, ..end(seq, returned) }).await.unwrap();
        assert_eq!(detail(store, seq).await.summary.state, JobState::Retrying);
        store.finish(Finish { plan: None, attempt: 2, ..end(seq, done()) }).await.unwrap();
        let attempts = detail(store, seq).await.attempts;
        let first = Attempt {
            job: 0,
            attempt: 1,
            started_at: Millis(2000),
            ended_at: Millis(2001),
            generation: 7,
            version: Some("v1".into()),
            error: Some("not yet".into()),
            log: AttemptLog::default(),
        };
        assert_eq!(attempts, [first.clone(), Attempt { attempt: 2, error: None, ..first }]);
    });
}

#[test]
fn a_job_that_has_ended_never_ends_again_and_its_effects_stay_out() {
    every_store(ROOM, async |store| {
        for outcome in [done(), dead(), Outcome::Ignored("gone".into())] {
            let seq = accept(store, &format!("{outcome:?}")).await;
            store.finish(end(seq, outcome)).await.unwrap();
            let before = format!("{:?}", detail(store, seq).await);
            let late = Outcome::Done(writes([put("late", "{}")]));
            assert_eq!(store.finish(end(seq, late)).await.unwrap(), Committed::Stale);
            let claimed = store.claim(job(seq, 0), plan(&["clerk"]), 2).await.unwrap();
            assert_eq!(claimed, Committed::Stale);
            assert_eq!(format!("{:?}", detail(store, seq).await), before);
            assert_eq!(get(store, "late").await, Read::Absent);
        }
    });
}

#[test]
fn a_job_that_is_not_there_is_stale() {
    every_store(ROOM, async |store| {
        let seq = accept(store, "msg_1").await;
        for (event, n, plan) in [
            (Seq(99), 0, plan(&["clerk"])),
            (Seq(0), 0, plan(&["clerk"])),
            (Seq(-1), 0, plan(&["clerk"])),
            (seq, 1, plan(&["clerk"])),
            (seq, 0, None),
        ] {
            let end = Finish { job: job(event, n), plan: plan.clone(), ..end(event, done()) };
            assert_eq!(store.finish(end).await.unwrap(), Committed::Stale, "{event:?} {n}");
            assert_eq!(store.claim(job(event, n), plan, 1).await.unwrap(), Committed::Stale);
        }
        assert!(detail(store, seq).await.jobs.is_empty(), "nothing is planned by what is stale");
    });
}

#[test]
fn the_effects_of_an_attempt_and_its_end_are_one() {
    every_store(ROOM, async |store| {
        let seq = accept(store, "msg_1").await;
        let effects = writes([put("user_1", r#"{"a":1}"#)]);
        let mut conflicting = effects.clone();
        conflicting.reads.push((key("user_1"), Version(1)));
        let conflict = store.finish(end(seq, Outcome::Done(conflicting))).await.unwrap();
        assert_eq!(conflict, Committed::Conflict);
        assert_eq!(get(store, "user_1").await, Read::Absent);
        assert!(detail(store, seq).await.jobs.is_empty());
        assert_eq!(store.counts().await.unwrap().pending, 1);

        let committed = store.finish(end(seq, Outcome::Done(effects))).await.unwrap();
        assert_eq!(committed, YES);
        assert_eq!(body(store, "user_1").await, r#"{"a":1}"#);
        assert_eq!(detail(store, seq).await.summary.state, JobState::Done);
        assert_eq!(store.counts().await.unwrap(), Counts::default());
    });
}

#[test]
fn the_first_end_plans_every_job_and_the_event_is_done_when_all_are() {
    every_store(ROOM, async |store| {
        let seq = accept(store, "msg_1").await;
        let plan = plan(&["audit", "clerk", "mail"]);
        let second = Finish { job: job(seq, 1), plan: plan.clone(), ..end(seq, done()) };
        store.finish(second).await.unwrap();
        let states = async || -> Vec<JobState> {
            detail(store, seq).await.jobs.iter().map(|job| job.state).collect()
        };
        assert_eq!(states().await, [JobState::Pending, JobState::Done, JobState::Pending]);
        let scripts: Vec<_> = detail(store, seq).await.jobs;
        assert_eq!(&*scripts[2].planned.script, "mail");
        // A plan that comes again changes nothing.
        let first = Finish { plan, ..end(seq, retry(5000)) };
        store.finish(first).await.unwrap();
        assert_eq!(states().await, [JobState::Retrying, JobState::Done, JobState::Pending]);
        assert_eq!(detail(store, seq).await.summary.state, JobState::Retrying);
        store.finish(Finish { attempt: 2, plan: None, ..end(seq, done()) }).await.unwrap();
        assert_eq!(store.counts().await.unwrap().pending, 1);
        let last = Finish { job: job(seq, 2), plan: None, ..end(seq, dead()) };
        store.finish(last).await.unwrap();
        assert_eq!(store.counts().await.unwrap(), Counts { pending: 0, dead: 1, scheduled: 0 });
        assert_eq!(detail(store, seq).await.summary.state, JobState::Dead);
    });
}

#[test]
fn waiting_jobs_are_due_the_longest_due_first() {
    every_store(ROOM, async |store| {
        assert_eq!(store.next_due(Millis(0)).await.unwrap(), None);
        for (id, due_at) in [("a", 300), ("b", 100), ("c", 200), ("d", 100)] {
            let seq = accept(store, id).await;
            store.finish(end(seq, retry(due_at))).await.unwrap();
        }
        let due = async |now, limit| -> Vec<(i64, i64)> {
            let due = store.due(Millis(now), limit).await.unwrap();
            assert!(due.iter().all(|job| &*job.webhook == "clerk"));
            due.iter().map(|job| (job.key.event.0, job.due_at.0)).collect()
        };
        assert_eq!(due(99, 9).await, []);
        assert_eq!(due(200, 9).await, [(2, 100), (4, 100), (3, 200)]);
        assert_eq!(due(i64::MAX, 2).await, [(2, 100), (4, 100)]);
        assert_eq!(store.next_due(Millis(100)).await.unwrap(), Some(Millis(200)));
        assert_eq!(store.next_due(Millis(300)).await.unwrap(), None);
        store.finish(Finish { attempt: 2, ..end(Seq(2), done()) }).await.unwrap();
        assert_eq!(due(200, 9).await, [(4, 100), (3, 200)]);
    });
}

#[test]
fn a_claimed_job_uses_its_attempt_at_once_and_is_due_for_nobody() {
    every_store(ROOM, async |store| {
        let seq = accept(store, "msg_1").await;
        let claimed = store.claim(job(seq, 0), plan(&["clerk", "mail"]), 1).await.unwrap();
        assert_eq!(claimed, YES);
        let jobs = detail(store, seq).await.jobs;
        assert_eq!((jobs[0].state, jobs[0].attempt), (JobState::Running, 1));
        assert_eq!((jobs[1].state, jobs[1].attempt), (JobState::Pending, 0));
        let due = store.due(Millis(i64::MAX), 9).await.unwrap();
        assert_eq!(due.iter().map(|due| due.key.n).collect::<Vec<_>>(), [1]);
        assert_eq!(store.counts().await.unwrap().pending, 1);
        store.finish(end(seq, retry(5))).await.unwrap();
        store.claim(job(seq, 0), None, 2).await.unwrap();
        assert_eq!(detail(store, seq).await.jobs[0].attempt, 2);
        store.finish(Finish { attempt: 2, ..end(seq, done()) }).await.unwrap();
        assert_eq!(detail(store, seq).await.jobs[0].state, JobState::Done);
    });
}

#[test]
fn undispatched_are_the_events_without_jobs_in_the_order_of_acceptance() {
    every_store(ROOM, async |store| {
        for id in ["a", "b", "c", "d", "e"] {
            accept(store, id).await;
        }
        store.finish(end(Seq(2), done())).await.unwrap();
        store.claim(job(Seq(4), 0), plan(&["clerk"]), 1).await.unwrap();
        let seqs = async |after, up_to, limit| -> Vec<i64> {
            let found = store.undispatched(Seq(after), Seq(up_to), limit).await.unwrap();
            found.iter().map(|found| found.event.0).collect()
        };
        assert_eq!(seqs(0, 9, 9).await, [1, 3, 5]);
        assert_eq!(seqs(1, 5, 9).await, [3, 5]);
        assert_eq!(seqs(0, 4, 9).await, [1, 3]);
        assert_eq!(seqs(0, 9, 1).await, [1]);
    });
}

#[test]
fn w23_at_max_pending_new_events_are_refused_and_known_ones_are_not() {
    every_store(2, async |store| {
        let first = accept(store, "a").await;
        accept(store, "b").await;
        let full = store.accept(delivery("c")).await;
        assert!(matches!(full, Err(StoreError::Full { max_pending: 2 })), "{full:?}");
        let known = store.accept(delivery("a")).await.unwrap();
        assert_eq!(known, Accepted::Duplicate { event: first, same_body: true });
        store.finish(end(first, dead())).await.unwrap();
        assert_eq!(store.accept(delivery("c")).await.unwrap(), Accepted::New(Seq(3)));
        assert_eq!(store.accept(delivery("a")).await.unwrap(), Accepted::Revived(first));
        assert!(store.accept(delivery("d")).await.is_err());
        assert_eq!(store.counts().await.unwrap(), Counts { pending: 3, dead: 0, scheduled: 0 });
    });
}

#[test]
fn a_new_bound_of_pending_events_holds_for_what_comes_and_drops_nothing_that_waits() {
    every_store(2, async |store| {
        let first = accept(store, "a").await;
        accept(store, "b").await;
        assert!(store.accept(delivery("c")).await.is_err());
        store.set_max_pending(3);
        accept(store, "c").await;
        store.set_max_pending(1);
        let full = store.accept(delivery("d")).await;
        assert!(matches!(full, Err(StoreError::Full { max_pending: 1 })), "{full:?}");
        assert_eq!(store.counts().await.unwrap(), Counts { pending: 3, dead: 0, scheduled: 0 });
        let known = store.accept(delivery("a")).await.unwrap();
        assert_eq!(known, Accepted::Duplicate { event: first, same_body: true });
    });
}

/// The state, due time and script of each job of an event.
async fn jobs(store: &dyn Store, event: Seq) -> Vec<(JobState, Option<i64>, String)> {
    let jobs = detail(store, event).await.jobs;
    let shown = |job: &Job| {
        let pattern = job.planned.pattern.as_deref().unwrap_or("-");
        (job.state, job.due_at.map(|at| at.0), format!("{} {pattern}", job.planned.script))
    };
    jobs.iter().map(shown).collect()
}

fn planned(script: &str, pattern: Option<&str>) -> PlannedJob {
    PlannedJob { script: script.into(), pattern: pattern.map(Into::into), dead_job: None }
}

#[test]
fn a_placeholder_becomes_the_first_job_of_its_script_and_the_others_come_after_all_that_are_there()
{
    every_store(ROOM, async |store| {
        let seq = accept(store, "msg_1").await;
        let plan = Some(Arc::from([planned("audit", Some("*")), planned("clerk", None)]));
        store.finish(Finish { plan: plan.clone(), ..end(seq, done()) }).await.unwrap();
        let resolved = Outcome::Resolved {
            jobs: vec![planned("clerk", Some("user.*")), planned("clerk", Some("*"))],
            due_at: Millis(70),
        };
        let resolve = Finish { job: job(seq, 1), plan, attempt: 0, ..end(seq, resolved) };
        assert_eq!(store.finish(resolve).await.unwrap(), YES);
        let expected = [
            (JobState::Done, None, "audit *".to_owned()),
            (JobState::Pending, Some(70), "clerk user.*".to_owned()),
            (JobState::Pending, Some(70), "clerk *".to_owned()),
        ];
        assert_eq!(jobs(store, seq).await, expected);
        let due = store.due(Millis(70), 9).await.unwrap();
        assert_eq!(due.iter().map(|due| due.key.n).collect::<Vec<_>>(), [1, 2]);
        assert!(detail(store, seq).await.attempts.is_empty());
        for n in [1, 2] {
            assert_eq!(store.counts().await.unwrap().pending, 1);
            let end = Finish { job: job(seq, n), plan: None, ..end(seq, done()) };
            assert_eq!(store.finish(end).await.unwrap(), YES);
        }
        assert_eq!(store.counts().await.unwrap(), Counts::default());
    });
}

#[test]
fn a_placeholder_can_be_resolved_by_the_end_that_writes_it() {
    every_store(ROOM, async |store| {
        let seq = accept(store, "msg_1").await;
        let plan = Some(Arc::from([planned("clerk", None), planned("audit", Some("*"))]));
        let resolved = Outcome::Resolved {
            jobs: vec![planned("clerk", Some("a")), planned("clerk", Some("b"))],
            due_at: Millis(70),
        };
        store.finish(Finish { plan, attempt: 0, ..end(seq, resolved) }).await.unwrap();
        let names: Vec<String> = jobs(store, seq).await.into_iter().map(|job| job.2).collect();
        assert_eq!(names, ["clerk a", "audit *", "clerk b"]);
        assert_eq!(store.counts().await.unwrap().pending, 1);
    });
}

#[test]
fn waking_a_script_makes_its_returned_jobs_due_and_its_failed_ones_where_that_is_asked() {
    every_store(ROOM, async |store| {
        let waits = async |id: &str, script: &str, attempt, outcome| {
            let seq = accept(store, id).await;
            let end = Finish { plan: plan(&[script]), attempt, ..end(seq, outcome) };
            store.finish(end).await.unwrap();
            seq
        };
        let returned =
            || Outcome::Returned { due_at: Millis(900), reason: "its script is broken".into() };
        let back = waits("a", "clerk", 0, returned()).await;
        let failed = waits("b", "clerk", 1, retry(800)).await;
        let elsewhere = waits("c", "audit", 0, returned()).await;
        let ended = waits("d", "clerk", 1, dead()).await;
        let soon = waits("e", "clerk", 1, retry(100)).await;
        let claimed = accept(store, "f").await;
        store.claim(job(claimed, 0), plan(&["clerk"]), 1).await.unwrap();
        let due_at = async |seq| jobs(store, seq).await[0].1;
        let unclaimed_due = due_at(claimed).await;

        assert_eq!(store.wake("clerk", false, Millis(500), 9).await.unwrap(), 1);
        assert_eq!((due_at(back).await, due_at(failed).await), (Some(500), Some(800)));
        assert_eq!(store.wake("clerk", true, Millis(500), 9).await.unwrap(), 1);
        assert_eq!(due_at(failed).await, Some(500));
        assert_eq!((due_at(elsewhere).await, due_at(ended).await), (Some(900), None));
        assert_eq!(due_at(soon).await, Some(100), "what is due already keeps its place");
        assert_eq!(due_at(claimed).await, unclaimed_due, "what runs is left alone");
        assert_eq!(store.wake("clerk", true, Millis(500), 9).await.unwrap(), 0);
        assert_eq!(jobs(store, failed).await[0].0, JobState::Retrying);
    });
}

#[test]
fn waking_goes_no_further_than_its_limit() {
    every_store(ROOM, async |store| {
        for id in ["a", "b", "c", "d", "e"] {
            let seq = accept(store, id).await;
            store.finish(end(seq, retry(900))).await.unwrap();
        }
        let mut woken = Vec::new();
        for _ in 0..4 {
            woken.push(store.wake("clerk", true, Millis(500), 2).await.unwrap());
        }
        assert_eq!(woken, [2, 2, 1, 0]);
        assert_eq!(store.due(Millis(500), 9).await.unwrap().len(), 5);
    });
}
