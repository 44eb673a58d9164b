//! Which call is which in another run, which key it carries, what is reused and what stops.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::config::{self, How, Variables};
use crate::id::EventId;
use crate::store::memory::MemoryStore;
use crate::store::{AnswerKind, Store};

const DAY: Duration = Duration::from_secs(86_400);

/// A provider that knows keys and is not to do anything twice.
fn charge(digest: u8) -> Asked<'static> {
    Asked {
        provider: "stripe",
        operation: "charges.create",
        digest: [digest; 32],
        is_unsafe: true,
        key_ttl: Some(DAY),
        own_key: None,
        repeat: Repeat::Stop,
    }
}

fn content(asked: &Asked<'_>) -> [u8; 32] {
    Origin::Request("req_1".into()).content(asked)
}

/// A run that begins with these records of earlier ones.
fn run(records: &[Call]) -> Memory {
    let mut memory = Memory::default();
    records.iter().for_each(|call| memory.learn(call));
    memory.next = u32::try_from(records.len()).unwrap();
    memory
}

fn begin(memory: &mut Memory, asked: Asked<'_>, at: i64) -> Begun {
    memory.begin(content(&asked), asked, Some((0, 1)), Millis(at))
}

fn sent(memory: &mut Memory, asked: Asked<'_>, at: i64) -> Ticket {
    match begin(memory, asked, at) {
        Begun::Send(ticket) => *ticket,
        other => panic!("it is to be sent: {other:?}"),
    }
}

fn key(ticket: &Ticket) -> String {
    ticket.key().unwrap().to_owned()
}

fn answer(body: &[u8]) -> CallAnswer {
    CallAnswer { status: 200, headers: vec![], kind: AnswerKind::Text, body: body.to_vec().into() }
}

fn ended(outcome: CallOutcome, status: Option<u16>) -> Ended {
    let answer = (outcome == CallOutcome::Succeeded).then(|| answer(b"ok"));
    Ended { outcome, tries: 1, status, error: None, answer }
}

fn records(memory: &Memory) -> Vec<Call> {
    memory.made.iter().map(|made| made.call.clone()).collect()
}

/// What one attempt that ended like this leaves, and the key that it carried.
fn attempt(earlier: &[Call], outcome: CallOutcome, status: Option<u16>) -> (Vec<Call>, String) {
    let mut memory = run(earlier);
    let ticket = sent(&mut memory, charge(1), 1_000);
    let carried = key(&ticket);
    memory.end(ticket, ended(outcome, status));
    (earlier.iter().cloned().chain(records(&memory)).collect(), carried)
}

#[test]
fn rule_13_a_rerun_is_given_what_succeeded_and_reads_are_made_again() {
    let mut first = run(&[]);
    let read = || Asked { is_unsafe: false, ..charge(7) };
    for asked in [charge(1), read()] {
        let ticket = sent(&mut first, asked, 1);
        first.end(ticket, ended(CallOutcome::Succeeded, Some(200)));
    }
    let mut again = run(&records(&first));
    assert!(
        matches!(begin(&mut again, charge(1), 2), Begun::Reuse(given) if given == answer(b"ok"))
    );
    let ticket = sent(&mut again, read(), 2);
    assert_eq!(ticket.key(), None);
    // The same in a rerun after a conflict, which nothing was stored for.
    first.begin_run();
    assert!(matches!(begin(&mut first, charge(1), 3), Begun::Reuse(_)));
    sent(&mut first, read(), 3);
    assert_eq!((first.asked, first.made.len()), (2, 3));
}

#[test]
fn rule_13_a_call_is_known_by_what_it_says_and_not_by_when_it_is_made() {
    let keys = |order: &[u8]| {
        let mut memory = run(&[]);
        let keys = order.iter().map(|digest| key(&sent(&mut memory, charge(*digest), 1)));
        keys.collect::<Vec<_>>()
    };
    let (one, other) = (keys(&[1, 2, 1]), keys(&[2, 1, 1]));
    assert_eq!([&one[0], &one[1], &one[2]], [&other[1], &other[0], &other[2]]);
    assert_ne!(one[0], one[2], "two equal calls are two");
    let is_key = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    assert!(one.iter().all(|key| key.len() <= 64 && key.bytes().all(is_key)), "{one:?}");
    let other = Asked { operation: "refunds.create", ..charge(1) };
    assert_ne!(key(&sent(&mut run(&[]), other, 1)), one[0]);
}

#[test]
fn rule_13_the_script_s_own_key_replaces_ours() {
    let own = || Asked { own_key: Some("order_7".into()), ..charge(1) };
    assert_eq!(key(&sent(&mut run(&[]), own(), 1)), "order_7");
    let unknown = sent(&mut run(&[]), Asked { key_ttl: None, ..own() }, 1);
    assert!(unknown.key().is_none() && unknown.is_noted, "a key that nobody reads is none");
}

#[test]
fn rule_14_a_refusal_takes_a_fresh_key_and_a_lost_answer_the_same() {
    let (lost, first) = attempt(&[], CallOutcome::Failed, None);
    let (lost, second) = attempt(&lost, CallOutcome::Failed, Some(503));
    assert_eq!(first, second);
    for status in [429, 409, 401] {
        let (settled_nothing, third) = attempt(&lost, CallOutcome::Refused, Some(status));
        let (_, fourth) = attempt(&settled_nothing, CallOutcome::Failed, None);
        assert_eq!((&third, &fourth), (&first, &first), "{status}");
    }
    let (refused, third) = attempt(&lost, CallOutcome::Refused, Some(402));
    assert_eq!(third, first);
    let (unsent, fourth) = attempt(&refused, CallOutcome::Unsent, None);
    let (_, fifth) = attempt(&unsent, CallOutcome::Failed, None);
    assert!(fourth != first && fifth == fourth);
}

#[test]
fn rule_14_a_key_that_is_forgotten_protects_no_more() {
    let (lost, first) = attempt(&[], CallOutcome::Failed, None);
    let day = i64::try_from(DAY.as_millis()).unwrap();
    let in_time = sent(&mut run(&lost), charge(1), 1_000 + day - 1);
    assert_eq!(key(&in_time), first);
    let Begun::Stop(reason) = begin(&mut run(&lost), charge(1), 1_000 + day) else {
        panic!("it may have been done")
    };
    insta::assert_snapshot!(reason, @r#"whether `stripe` did `charges.create` at 1970-01-01T00:00:01.000Z is not known, and no key protects it from being done twice (`repeat = "stop"`); look there, and settle it by hand"#);
    let safe = Asked { repeat: Repeat::Safe, ..charge(1) };
    assert_ne!(key(&sent(&mut run(&lost), safe, 1_000 + day)), first);
}

#[test]
fn rule_14_without_a_key_what_may_have_been_done_stops_or_is_made_again() {
    let bare = |repeat| Asked { key_ttl: None, repeat, ..charge(1) };
    for outcome in [CallOutcome::Intent, CallOutcome::Failed] {
        let mut first = run(&[]);
        let ticket = sent(&mut first, bare(Repeat::Stop), 1);
        assert!(ticket.is_noted && ticket.key().is_none());
        let noted = first.end(ticket, ended(outcome, None)).unwrap();
        let again = begin(&mut run(std::slice::from_ref(&noted)), bare(Repeat::Stop), 2);
        assert!(matches!(again, Begun::Stop(_)), "{outcome:?}");
        sent(&mut run(&[noted]), bare(Repeat::Safe), 2);
    }
    let (refused, _) = attempt(&[], CallOutcome::Refused, Some(400));
    sent(&mut run(&refused), bare(Repeat::Stop), 2);
}

#[test]
fn rule_13_an_answer_without_room_is_asked_for_again_with_its_key() {
    let mut first = run(&[]);
    let ticket = sent(&mut first, charge(1), 1);
    let carried = key(&ticket);
    let body = vec![b'x'; ANSWER_BYTES_MAX + 1];
    let large = Ended { answer: Some(answer(&body)), ..ended(CallOutcome::Succeeded, Some(200)) };
    first.end(ticket, large);
    assert_eq!(first.made[0].call.answer, KeptAnswer::TooLarge);
    let again = sent(&mut run(&records(&first)), charge(1), 2);
    assert_eq!(key(&again), carried);
    let bare = Asked { key_ttl: None, ..charge(1) };
    assert!(matches!(begin(&mut run(&records(&first)), bare, 2), Begun::Stop(_)));
}

#[test]
fn a_run_keeps_a_thousand_calls_and_4_mib_of_answers_and_counts_the_others() {
    let mut memory = run(&[]);
    for n in 0..1_010_u32 {
        let mut digest = [0; 32];
        digest[..4].copy_from_slice(&n.to_be_bytes());
        let ticket = sent(&mut memory, Asked { digest, ..charge(0) }, 1);
        let body = vec![b'x'; ANSWER_BYTES_MAX];
        let whole =
            Ended { answer: Some(answer(&body)), ..ended(CallOutcome::Succeeded, Some(200)) };
        memory.end(ticket, whole);
    }
    let calls = memory.calls(false).unwrap();
    assert_eq!((calls.made.len(), calls.asked, calls.dropped), (CALLS_MAX, 1_010, 10));
    let whole = calls.made.iter().filter(|call| matches!(call.answer, KeptAnswer::Whole(_)));
    assert_eq!(whole.count(), ANSWERS_BYTES_MAX / ANSWER_BYTES_MAX);
    assert!(Memory::default().calls(false).is_none(), "a run without calls writes nothing");
}

#[test]
fn a_call_that_was_cut_short_may_have_been_done() {
    let mut memory = run(&[]);
    let carried = key(&sent(&mut memory, charge(1), 1));
    assert_eq!(memory.calls(false).unwrap().made[0].outcome, CallOutcome::Intent);
    memory.begin_run();
    assert_eq!(key(&sent(&mut memory, charge(1), 2)), carried);
}

/// What becomes of one attempt.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Answered,
    Refused,
    /// Turned away before the call itself is looked at.
    TurnedAway(u16),
    Lost,
    /// Killed after it was done; what is not noted leaves no trace.
    Killed,
    Unsent,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        Just(Fate::Answered),
        Just(Fate::Refused),
        prop::sample::select(vec![401, 403, 408, 409, 425, 429]).prop_map(Fate::TurnedAway),
        Just(Fate::Lost),
        Just(Fate::Killed),
        Just(Fate::Unsent),
    ]
}

proptest! {
    /// A provider that does a call once for each key (each time, where it knows none) does it once, whatever goes wrong.
    #[test]
    fn rule_14_nothing_is_done_twice(knows_keys: bool, fates in prop::collection::vec(fate(), 1..12)) {
        let mut stored: Vec<Call> = Vec::new();
        let mut done = 0;
        // By key: whether it was done, or refused.
        let mut remembered: HashMap<String, bool> = HashMap::new();
        for (at, fate) in (0..).zip(fates) {
            let mut memory = run(&stored);
            let asked = Asked { key_ttl: knows_keys.then_some(DAY), ..charge(1) };
            let ticket = match begin(&mut memory, asked, at) {
                Begun::Send(ticket) => *ticket,
                Begun::Reuse(_) | Begun::Stop(_) => break,
            };
            let intent = ticket.is_noted.then(|| ticket.call.clone());
            let reaches = !matches!(fate, Fate::TurnedAway(_) | Fate::Unsent);
            let known = ticket.key().and_then(|key| remembered.get(key).copied());
            let is_done = known.unwrap_or(reaches && !matches!(fate, Fate::Refused));
            if reaches && known.is_none() {
                done += i32::from(is_done);
                remembered.extend(ticket.key().map(|key| (key.to_owned(), is_done)));
            }
            let end = match fate {
                Fate::Killed => {
                    stored.extend(intent);
                    continue;
                }
                Fate::Answered | Fate::Refused if is_done => ended(CallOutcome::Succeeded, Some(200)),
                Fate::Answered | Fate::Refused => ended(CallOutcome::Refused, Some(402)),
                Fate::TurnedAway(status) => ended(CallOutcome::Refused, Some(status)),
                Fate::Lost => ended(CallOutcome::Failed, None),
                Fate::Unsent => ended(CallOutcome::Unsent, None),
            };
            memory.end(ticket, end);
            stored.extend(records(&memory));
        }
        prop_assert!(done <= 1, "{done} times");
    }
}

/// Two attempts of one job over a store, as the inbox makes them.
struct Bench {
    store: Arc<dyn Store>,
    executor: Rc<Executor>,
}

impl Bench {
    fn new() -> Self {
        let how = How { development: true, known_schemes: &[] };
        let config =
            config::load_text(Path::new("config.toml"), "", &Variables::of(&[]), how).unwrap();
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(10));
        let executor = Executor::new(&store, &config.scripts).unwrap();
        Self { store, executor }
    }

    async fn accept(&self) -> (JobKey, Rc<NewEvent>) {
        let event = NewEvent {
            id: EventId(clock::uuid()),
            webhook: "clerk".into(),
            delivery_id: None,
            order_key: None,
            kind: "t".into(),
            received_at: Millis(1),
            request: "{}".into(),
            body: "{}".into(),
            replay_of: None,
        };
        let accepted = self.store.accept(event.clone()).await.unwrap();
        let crate::store::Accepted::New(seq) = accepted else { panic!("it is new") };
        (JobKey { event: seq, n: 0 }, Rc::new(event))
    }

    fn journal(
        &self,
        (job, event): &(JobKey, Rc<NewEvent>),
        script: &str,
        is_stored: bool,
    ) -> Rc<Journal> {
        let planned =
            PlannedJob { script: script.into(), pattern: Some("*".into()), dead_job: None };
        Journal::of_job(OfJob {
            executor: Rc::clone(&self.executor),
            job: *job,
            event: Rc::clone(event),
            plan: (!is_stored).then(|| [planned.clone()].into()),
            planned,
            attempt: if is_stored { 2 } else { 1 },
            is_stored,
        })
    }
}

async fn carried(journal: &Journal) -> Option<String> {
    match journal.begin(charge(1)).await.unwrap() {
        Begun::Send(ticket) => ticket.key().map(str::to_owned),
        other => panic!("it is to be sent: {other:?}"),
    }
}

#[tokio::test(flavor = "current_thread")]
async fn rule_14_a_call_without_a_key_is_on_disk_before_it_is_sent_and_its_answer_before_the_script_goes_on()
 {
    let bench = Bench::new();
    let job = bench.accept().await;
    let bare = || Asked { key_ttl: None, ..charge(1) };
    let stored = async || bench.executor.reader.calls(job.0).await.unwrap().calls;
    let journal = bench.journal(&job, "a", false);
    let Begun::Send(ticket) = journal.begin(bare()).await.unwrap() else { panic!("it is new") };
    assert_eq!(stored().await[0].outcome, CallOutcome::Intent);
    // Killed here, its next run finds that it may have been done.
    let next = bench.journal(&job, "a", true);
    assert!(matches!(next.begin(bare()).await.unwrap(), Begun::Stop(_)));

    journal.end(*ticket, ended(CallOutcome::Succeeded, Some(200))).await;
    assert_eq!(stored().await[0].answer, KeptAnswer::Whole(answer(b"ok")));
    assert!(journal.calls().unwrap().made.is_empty(), "it has its row");
    let next = bench.journal(&job, "a", true);
    assert!(matches!(next.begin(bare()).await.unwrap(), Begun::Reuse(_)));
}

#[tokio::test(flavor = "current_thread")]
async fn rule_13_every_attempt_of_a_job_carries_the_same_key_and_another_job_another() {
    let bench = Bench::new();
    let (one, other) = (bench.accept().await, bench.accept().await);
    let first = carried(&bench.journal(&one, "a", false)).await;
    assert_eq!(carried(&bench.journal(&one, "a", false)).await, first, "nothing was stored");
    assert_ne!(carried(&bench.journal(&one, "b", false)).await, first, "another handler");
    assert_ne!(carried(&bench.journal(&other, "a", false)).await, first, "another event");
    let request = |name| async move { carried(&Journal::of_request(name)).await };
    assert_eq!(request("req_1").await, request("req_1").await);
    assert_ne!(request("req_1").await, request("req_2").await);
}
