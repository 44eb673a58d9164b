//! The same random operations on SQLite and on the model, kills and clean stops among them: what is answered and all that is visible
//! must be the same.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;

use super::super::sqlite::SqliteStore;
use super::answers::{answer_key, recorded};
use super::calls::made;
use super::filter::{Condition, Filter, Test};
use super::order::Order;
use super::*;

/// What a kill leaves: the files as they are now, under a path of their own. Nothing else of the process survives one.
pub(in crate::store) fn as_after_a_kill(path: &Path) -> PathBuf {
    let copy = path.parent().unwrap().join(format!("{}", clock::uuid())).join("rhaiway.db");
    fs::create_dir(copy.parent().unwrap()).unwrap();
    for suffix in ["", "-wal"] {
        let name = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
        fs::copy(name(path), name(&copy)).unwrap();
    }
    copy
}

#[derive(Clone, Debug)]
enum Step {
    Accept { webhook: bool, delivery: Option<u8>, key: Option<u8>, body: u8 },
    Finish { event: Index, n: u32, planned: Option<u8>, attempt: u32, outcome: End, calls: u8 },
    Note { event: Index, n: u32, planned: Option<u8>, attempt: u32, number: u8 },
    Use { unit: u8, amount: u8 },
    Claim { event: Index, n: u32, planned: Option<u8>, attempt: u32 },
    Commit(Wish),
    Answer { delivery: Option<u8>, body: u8, is_event: bool, is_kept: bool, wish: Wish },
    Retain { payloads: u8, events: u8 },
    Wake { script: u8, failed_too: bool, now: u8 },
    Plan { event: Index, planned: u8 },
    Promote { limit: usize },
    Fire { timer: u8, occurrence: Option<u8>, counts_from: u8 },
    Forget { timer: u8 },
    Replay { event: Index },
    Declare(bool),
    Index,
    Kill,
    Stop,
}

#[derive(Clone, Debug)]
enum End {
    Done(Wish),
    Ignored,
    Retry(u8),
    Returned(u8),
    PutOff(u8),
    Parked(u8),
    Resolved { jobs: u8, due_at: u8 },
    Dead { mourners: u8 },
}

/// Effects, before they are told in the versions of one store.
#[derive(Clone, Debug)]
struct Wish {
    /// A document, and whether its newest version is relied on or one from before.
    reads: Vec<(u8, bool)>,
    writes: Vec<(u8, Change)>,
    emits: Vec<Emitted>,
}

#[derive(Clone, Debug)]
enum Emitted {
    Event { key: Option<u8>, delivery: Option<u8>, due_at: Option<u8>, pending: Pending },
    Cancel { key: u8, told: bool },
}

fn emitted() -> impl Strategy<Value = Emitted> {
    let pending = prop_oneof![Just(Pending::Add), Just(Pending::Keep), Just(Pending::Replace)];
    let key = prop::option::weighted(0.7, 0..2_u8);
    let delivery = prop::option::weighted(0.3, 0..3_u8);
    prop_oneof![
        3 => (key, delivery, prop::option::of(0..60_u8), pending)
            .prop_map(|(key, delivery, due_at, pending)| Emitted::Event { key, delivery, due_at, pending }),
        1 => (0..2_u8, any::<bool>()).prop_map(|(key, told)| Emitted::Cancel { key, told }),
    ]
}

#[derive(Clone, Debug)]
enum Change {
    Put(u8),
    PutIfNewer { at: u8, told: bool },
    Delete,
    Bury,
    BuryShortly,
    PutForAnHour(u8),
    PutShortly(u8),
    Increment(i8),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (0..9_u8).prop_map(Change::Put),
        (0..9_u8, prop::bool::weighted(0.7)).prop_map(|(at, told)| Change::PutIfNewer { at, told }),
        Just(Change::Delete),
        Just(Change::Bury),
        Just(Change::BuryShortly),
        (0..9_u8).prop_map(Change::PutForAnHour),
        (0..9_u8).prop_map(Change::PutShortly),
        any::<i8>().prop_map(Change::Increment),
    ]
}

fn wish() -> impl Strategy<Value = Wish> {
    let reads = prop::collection::vec((0..4_u8, prop::bool::weighted(0.9)), 0..2);
    let writes = prop::collection::vec((0..4_u8, change()), 0..4);
    let emits = prop::collection::vec(emitted(), 0..3);
    (reads, writes, emits).prop_map(|(reads, writes, emits)| Wish { reads, writes, emits })
}

fn outcome() -> impl Strategy<Value = End> {
    prop_oneof![
        4 => wish().prop_map(End::Done),
        1 => Just(End::Ignored),
        2 => any::<u8>().prop_map(End::Retry),
        1 => any::<u8>().prop_map(End::Returned),
        1 => (0..4_u8, any::<u8>()).prop_map(|(jobs, due_at)| End::Resolved { jobs, due_at }),
        1 => any::<u8>().prop_map(End::PutOff),
        1 => any::<u8>().prop_map(End::Parked),
        2 => (0..3_u8).prop_map(|mourners| End::Dead { mourners }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let job = || (any::<Index>(), 0..3_u32, prop::option::weighted(0.9, 0..3_u8), 0..4_u32);
    prop_oneof![
        6 => (any::<bool>(), prop::option::weighted(0.8, 0..12_u8), prop::option::of(0..2_u8), 0..3_u8)
            .prop_map(|(webhook, delivery, key, body)| Step::Accept { webhook, delivery, key, body }),
        8 => (job(), outcome(), 0..3_u8).prop_map(|((event, n, planned, attempt), outcome, calls)| {
            Step::Finish { event, n, planned, attempt, outcome, calls }
        }),
        2 => (job(), 0..3_u8).prop_map(|((event, n, planned, attempt), number)| {
            Step::Note { event, n, planned, attempt, number }
        }),
        1 => (0..2_u8, any::<u8>()).prop_map(|(unit, amount)| Step::Use { unit, amount }),
        2 => job().prop_map(|(event, n, planned, attempt)| {
            Step::Claim { event, n, planned, attempt }
        }),
        4 => wish().prop_map(Step::Commit),
        6 => (prop::option::weighted(0.8, 0..12_u8), any::<[bool; 2]>(), 0..3_u8, wish())
            .prop_map(|(delivery, [is_event, is_kept], body, wish)| {
                Step::Answer { delivery, body, is_event, is_kept, wish }
            }),
        1 => any::<(u8, u8)>().prop_map(|(payloads, events)| Step::Retain { payloads, events }),
        2 => (0..3_u8, any::<bool>(), any::<u8>())
            .prop_map(|(script, failed_too, now)| Step::Wake { script, failed_too, now }),
        3 => (any::<Index>(), 0..3_u8).prop_map(|(event, planned)| Step::Plan { event, planned }),
        2 => (1..4_usize).prop_map(|limit| Step::Promote { limit }),
        2 => (0..2_u8, prop::option::weighted(0.8, 0..4_u8), any::<u8>())
            .prop_map(|(timer, occurrence, counts_from)| Step::Fire { timer, occurrence, counts_from }),
        1 => (0..2_u8).prop_map(|timer| Step::Forget { timer }),
        2 => any::<Index>().prop_map(|event| Step::Replay { event }),
        1 => any::<bool>().prop_map(Step::Declare),
        2 => Just(Step::Index),
        1 => Just(Step::Kill),
        1 => Just(Step::Stop),
    ]
}

/// Both stores, and what is needed to ask both the same.
struct Pair {
    _folder: tempfile::TempDir,
    options: OpenOptions,
    sqlite: SqliteStore,
    model: MemoryStore,
    accepted: i64,
    /// What earlier reads of each document gave, in each store.
    seen: [(Version, Version); 4],
}

const MAX_PENDING: u64 = 12;
const SCRIPTS: [&str; 3] = ["a", "b", "c"];

impl Pair {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rhaiway.db");
        let options = OpenOptions { path, max_pending: MAX_PENDING };
        let sqlite = sqlite::open(&options).unwrap();
        let model = MemoryStore::new(MAX_PENDING);
        Self { _folder: folder, options, sqlite, model, accepted: 0, seen: Default::default() }
    }

    async fn run(&mut self, step: Step) {
        match step {
            Step::Accept { webhook, delivery, key, body } => {
                self.accepted += 1;
                let event = NewEvent {
                    id: EventId(clock::uuid()),
                    webhook: if webhook { "clerk".into() } else { "stripe".into() },
                    delivery_id: delivery.map(|id| id.to_string().into()),
                    order_key: key.map(|key| key.to_string().into()),
                    replay_of: None,
                    kind: "t".into(),
                    received_at: Millis(self.accepted),
                    request: "{}".into(),
                    body: vec![body].into(),
                };
                let sqlite = self.sqlite.accept(event.clone()).await;
                let model = self.model.accept(event).await;
                assert_eq!(text(&sqlite), text(&model));
            }
            Step::Finish { event, n, planned, attempt, outcome, calls } => {
                let (job, plan) = (job(self.event(event), n), scripts(planned));
                let finish = |outcome| Finish {
                    job,
                    plan: plan.clone(),
                    attempt,
                    started_at: Millis(100),
                    ended_at: Millis(101),
                    generation: 1,
                    version: None,
                    log: AttemptLog::default(),
                    calls: (calls > 0)
                        .then(|| made((0..calls.into()).map(|number| call(n, number))))
                        .flatten(),
                    ordered: true,
                    outcome,
                };
                let (sqlite, model) = self.outcomes(outcome).await;
                let sqlite = self.sqlite.finish(finish(sqlite)).await;
                let model = self.model.finish(finish(model)).await;
                assert_eq!(text(&sqlite), text(&model));
            }
            Step::Claim { event, n, planned, attempt } => {
                let (job, plan) = (job(self.event(event), n), scripts(planned));
                let sqlite = self.sqlite.claim(job, plan.clone(), attempt).await;
                let model = self.model.claim(job, plan, attempt).await;
                assert_eq!(text(&sqlite), text(&model));
            }
            Step::Note { event, n, planned, attempt, number } => {
                let (job, plan) = (job(self.event(event), n), scripts(planned));
                let noted = Noted { job, plan, attempt, call: call(n, number.into()) };
                let sqlite = self.sqlite.note_call(noted.clone()).await;
                let model = self.model.note_call(noted).await;
                assert_eq!(text(&sqlite), text(&model));
            }
            Step::Use { unit, amount } => {
                let used = vec![Usage {
                    provider: "openai".into(),
                    unit: unit.to_string().into(),
                    began_at: clock::now(),
                    amount: amount.into(),
                }];
                let sqlite = self.sqlite.add_usage(used.clone()).await;
                let model = self.model.add_usage(used).await;
                assert_eq!(text(&sqlite), text(&model));
            }
            Step::Commit(wish) => {
                let (sqlite, model) = self.effects(&wish).await;
                let sqlite = self.sqlite.commit(sqlite).await;
                let model = self.model.commit(model).await;
                assert_eq!(text(&sqlite), text(&model));
            }
            Step::Answer { delivery, body, is_event, is_kept, wish } => {
                let (sqlite, model) = self.effects(&wish).await;
                let event = is_event.then(|| self.answered(delivery, body));
                let answer = is_kept.then(|| recorded(&body.to_string(), self.accepted));
                let answering = |effects| Answering {
                    key: delivery.map(|id| answer_key(&id.to_string())),
                    event: event.clone(),
                    effects,
                    answer: answer.clone(),
                };
                let sqlite = self.sqlite.answer(answering(sqlite)).await;
                let model = self.model.answer(answering(model)).await;
                assert_eq!(text(&sqlite), text(&model));
            }
            Step::Retain { payloads, events } => {
                let before = |share: u8| Millis(self.accepted * i64::from(share) / 255);
                let (payloads, events) = (before(payloads.max(events)), before(events));
                let sqlite = self.sqlite.retain(payloads, events, 1000, LONG).await;
                let model = self.model.retain(payloads, events, 1000, LONG).await;
                assert_eq!(text(&sqlite), text(&model));
            }
            Step::Wake { script, failed_too, now } => {
                let (script, now) = (SCRIPTS[usize::from(script)], Millis(now.into()));
                let sqlite = self.sqlite.wake(script, failed_too, now, 1000).await;
                let model = self.model.wake(script, failed_too, now, 1000).await;
                assert_eq!(text(&sqlite), text(&model));
            }
            Step::Plan { event, planned } => {
                let (event, plan) = (self.event(event), scripts(Some(planned)).unwrap());
                let sqlite = self.sqlite.plan(event, Arc::clone(&plan)).await;
                let model = self.model.plan(event, plan).await;
                assert_eq!(text(&sqlite), text(&model));
            }
            Step::Promote { limit } => {
                let now = Millis(self.accepted);
                let sqlite = self.sqlite.promote(now, limit).await;
                let model = self.model.promote(now, limit).await;
                assert_eq!(text(&sqlite), text(&model));
            }
            Step::Fire { timer, occurrence, counts_from } => {
                let mut firing = firing(timer, occurrence, counts_from);
                if let Some(event) = &mut firing.event {
                    event.received_at = Millis(self.accepted);
                }
                let sqlite = self.sqlite.fire(firing.clone()).await;
                let model = self.model.fire(firing).await;
                assert_eq!(text(&sqlite), text(&model));
            }
            Step::Forget { timer } => {
                let timer = format!("every:{timer}");
                let sqlite = self.sqlite.forget_timer(&timer).await;
                let model = self.model.forget_timer(&timer).await;
                assert_eq!(text(&sqlite), text(&model));
            }
            Step::Replay { event } => {
                let all = EventQuery { limit: 1000, ..EventQuery::default() };
                let listed = self.model.events(all).await.unwrap().events;
                let id = match listed.is_empty() {
                    true => EventId(clock::uuid()),
                    false => event.get(&listed).id,
                };
                let copy = EventId(clock::uuid());
                let sqlite = self.sqlite.replay(id, copy, Millis(self.accepted)).await;
                let model = self.model.replay(id, copy, Millis(self.accepted)).await;
                assert_eq!(text(&sqlite), text(&model));
            }
            Step::Declare(is_indexed) => {
                let field = IndexedField { collection: "users".into(), field: "at".into() };
                self.sqlite
                    .set_indexes(is_indexed.then_some(field).into_iter().collect())
                    .await
                    .unwrap();
            }
            Step::Index => {
                self.sqlite.index_step(std::time::Duration::ZERO).await.unwrap();
            }
            Step::Kill => {
                self.options.path = as_after_a_kill(&self.options.path);
                self.reopen(true).await;
            }
            Step::Stop => {
                self.sqlite.close().await.unwrap();
                self.model.stop();
                self.reopen(false).await;
            }
        }
    }

    fn answered(&mut self, delivery: Option<u8>, body: u8) -> AnsweredEvent {
        self.accepted += 1;
        let event = NewEvent {
            delivery_id: delivery.map(|id| id.to_string().into()),
            received_at: Millis(self.accepted),
            body: vec![body].into(),
            ..super::delivery("")
        };
        let job = PlannedJob { script: SCRIPTS[0].into(), pattern: None, dead_job: None };
        AnsweredEvent { event, job, attempt: None }
    }

    async fn reopen(&mut self, unclean: bool) {
        self.sqlite = sqlite::open(&self.options).unwrap();
        self.model.crash();
        let opened = self.sqlite.opened();
        assert_eq!(opened.unclean, unclean);
        let expected = self.model.first_without_jobs().map_or(opened.last, |seq| Seq(seq.0 - 1));
        assert_eq!(opened.low_water, expected);
    }

    fn event(&self, index: Index) -> Seq {
        // One past the last, too: it is not there.
        Seq(i64::try_from(index.index(usize::try_from(self.accepted).unwrap() + 1)).unwrap() + 1)
    }

    async fn outcomes(&mut self, end: End) -> (Outcome, Outcome) {
        let outcome = match end {
            End::Done(wish) => {
                let (sqlite, model) = self.effects(&wish).await;
                return (Outcome::Done(sqlite), Outcome::Done(model));
            }
            End::Ignored => Outcome::Ignored("nobody".into()),
            End::Retry(at) => retry(at.into()),
            End::Returned(at) => {
                Outcome::Returned { due_at: Millis(at.into()), reason: "stop".into() }
            }
            End::Resolved { jobs, due_at } => {
                let patterns = ["x", "y", "z"].into_iter().take(jobs.into());
                let job = |pattern: &str| PlannedJob {
                    script: SCRIPTS[0].into(),
                    pattern: Some(pattern.into()),
                    dead_job: None,
                };
                Outcome::Resolved {
                    jobs: patterns.map(job).collect(),
                    due_at: Millis(due_at.into()),
                }
            }
            End::Parked(at) => Outcome::Parked { due_at: Millis(at.into()), reason: "gate".into() },
            End::PutOff(at) => Outcome::PutOff { due_at: Millis(at.into()), reason: "wait".into() },
            End::Dead { mourners } => {
                let mourner = |script: &&str| PlannedJob {
                    script: (*script).into(),
                    pattern: Some("clerk".into()),
                    dead_job: Some(0),
                };
                let then = SCRIPTS[..usize::from(mourners)].iter().map(mourner).collect();
                Outcome::Dead { error: "it broke".into(), then }
            }
        };
        (outcome.clone(), outcome)
    }

    async fn effects(&mut self, wish: &Wish) -> (Effects, Effects) {
        let (mut sqlite, mut model) = (Effects::default(), Effects::default());
        for (id, newest) in &wish.reads {
            let now = self.read(*id).await;
            let seen = std::mem::replace(&mut self.seen[usize::from(*id)], now);
            let relied_on = if *newest { now } else { seen };
            sqlite.reads.push((document(*id), relied_on.0));
            model.reads.push((document(*id), relied_on.1));
        }
        let later = clock::now().plus(std::time::Duration::from_secs(3600));
        for (id, change) in &wish.writes {
            let put_until = |at: u8, if_newer, expires_at| Write::Put {
                body: json(&format!(r#"{{"at":{at}}}"#)),
                if_newer,
                expires_at,
            };
            let put = |at, if_newer| put_until(at, if_newer, None);
            let write = match change {
                Change::Put(at) => put(*at, None),
                Change::PutIfNewer { at, told } => {
                    put(*at, Some(IfNewer { field: "at".into(), told: *told }))
                }
                Change::Delete => Write::Delete { tombstone_until: None },
                Change::Bury => Write::Delete { tombstone_until: Some(later) },
                Change::BuryShortly => Write::Delete { tombstone_until: Some(Millis(1)) },
                Change::PutForAnHour(at) => put_until(*at, None, Some(later)),
                Change::PutShortly(at) => put_until(*at, None, Some(Millis(1))),
                Change::Increment(by) => {
                    Write::Increment { field: "at".into(), by: Number::Integer((*by).into()) }
                }
            };
            sqlite.writes.push((document(*id), write));
        }
        sqlite.emits = wish.emits.iter().map(|wish| emit(wish, Millis(self.accepted))).collect();
        (model.writes, model.emits) = (sqlite.writes.clone(), sqlite.emits.clone());
        (sqlite, model)
    }

    /// The versions of one document in both; the rest must be equal.
    async fn read(&self, id: u8) -> (Version, Version) {
        let read =
            async |store: &dyn Store| store.reader().unwrap().get(&document(id)).await.unwrap();
        let (sqlite, model) = (read(&self.sqlite).await, read(&self.model).await);
        let versions = (sqlite.version(), model.version());
        assert_eq!(without_version(sqlite), without_version(model));
        versions
    }

    async fn compare(&self) {
        for id in 0..4 {
            self.read(id).await;
        }
        let (sqlite, model) = (visible(&self.sqlite).await, visible(&self.model).await);
        assert_eq!(sqlite, model);
    }
}

fn emit(emitted: &Emitted, received_at: Millis) -> Emit {
    let text = |number: u8| Box::from(number.to_string());
    match emitted {
        Emitted::Cancel { key, told } => {
            Emit::Cancel { webhook: "on:t".into(), key: text(*key), told: *told }
        }
        Emitted::Event { key, delivery, due_at, pending } => Emit::Event {
            event: NewEvent {
                id: EventId(clock::uuid()),
                webhook: "on:t".into(),
                delivery_id: delivery.map(text),
                order_key: key.map(text),
                received_at,
                ..super::delivery("")
            },
            due_at: due_at.map(|at| Millis(at.into())),
            pending: *pending,
        },
    }
}

fn firing(timer: u8, occurrence: Option<u8>, counts_from: u8) -> Firing {
    let timer = format!("every:{timer}");
    let event = |occurrence: u8| NewEvent {
        id: EventId(clock::uuid()),
        webhook: timer.as_str().into(),
        delivery_id: Some(occurrence.to_string().into()),
        order_key: Some("".into()),
        ..super::delivery("")
    };
    let event = occurrence.map(event);
    Firing { timer: timer.into(), counts_from: Millis(counts_from.into()), event }
}

fn call(job: u32, number: u32) -> Call {
    Call { job, ..super::calls::call(number) }
}

fn scripts(others: Option<u8>) -> Option<Arc<[PlannedJob]>> {
    others.and_then(|others| plan(&SCRIPTS[..=usize::from(others)]))
}

fn document(id: u8) -> DocumentKey {
    key(&id.to_string())
}

fn without_version(read: Read) -> Read {
    match read {
        Read::Absent => Read::Absent,
        Read::Tombstone(_) => Read::Tombstone(Version(0)),
        Read::Found { body, expires_at, .. } => {
            Read::Found { body, version: Version(0), expires_at }
        }
    }
}

fn text(answer: &impl std::fmt::Debug) -> String {
    format!("{answer:?}")
}

/// Everything that a store shows. Times that it took from the clock become one time.
async fn visible(store: &dyn Store) -> String {
    let taken = |at: Millis| if at.0 > 1_000_000 { Millis(1_000_000) } else { at };
    let mut shown = Vec::new();
    let all = EventQuery { limit: 1000, ..EventQuery::default() };
    let listed = store.events(all.clone()).await.unwrap().events;
    for summary in &listed {
        let mut detail = store.event(summary.id).await.unwrap().unwrap();
        detail.summary.received_at = taken(detail.summary.received_at);
        for job in &mut detail.jobs {
            job.due_at = job.due_at.map(taken);
        }
        shown.push(text(&detail));
        let loaded = store.load(summary.seq).await.unwrap().map(|loaded| loaded.event);
        let received_at = loaded.as_ref().map(|event| taken(event.received_at));
        shown.push(text(
            &loaded.map(|event| NewEvent { received_at: received_at.unwrap_or_default(), ..event }),
        ));
    }
    let mut listed = listed;
    listed.iter_mut().for_each(|summary| summary.received_at = taken(summary.received_at));
    shown.push(text(&listed));
    let middle = listed.get(listed.len() / 2).map(|summary| summary.id);
    for state in JobState::ALL {
        for (webhook, limit) in [(None, 1000), (Some("clerk".into()), 1000), (None, 2)] {
            let state = Some(state);
            let query =
                EventQuery { webhook, state, before: middle, limit, ..EventQuery::default() };
            let listed = store.events(query).await.unwrap().events;
            shown.push(text(&listed.iter().map(|summary| summary.seq).collect::<Vec<_>>()));
        }
    }
    let oldest = EventQuery {
        order: EventOrder::OldestFirst,
        after: middle,
        kind: Some("*".into()),
        since: Some(Millis(3)),
        text: Some("a".into()),
        limit: 3,
        ..EventQuery::default()
    };
    shown.push(text(&store.events(oldest).await.unwrap().events.len()));
    let mut due = store.due(Millis(i64::MAX), 1000).await.unwrap();
    due.iter_mut().for_each(|job| job.due_at = taken(job.due_at));
    due.sort_by_key(|job| (job.due_at, job.key));
    shown.push(text(&due));
    shown.push(text(&store.next_due(Millis(50)).await.unwrap().map(taken)));
    shown.push(text(&store.undispatched(Seq(0), Seq(i64::MAX), 1000).await.unwrap()));
    shown.push(text(&store.counts().await.unwrap()));
    shown.push(text(&store.next_scheduled().await.unwrap()));
    let mut timers = store.timers().await.unwrap();
    timers.sort();
    shown.push(text(&timers));
    let reader = store.reader().unwrap();
    for key in ["0", "1"] {
        shown.push(text(&reader.waits("on:t", key).await.unwrap()));
    }
    for id in 0..12_u8 {
        shown.push(text(&reader.known(&answer_key(&id.to_string())).await.unwrap()));
    }
    for summary in &listed {
        for n in 0..3 {
            shown.push(text(&reader.calls(job(summary.seq, n)).await.unwrap()));
        }
    }
    shown.push(text(&store.usage(Millis(0)).await.unwrap()));
    let find = Find { limit: 100, ..Find::default() };
    shown.push(text(&reader.find("users", find).await.unwrap()));
    shown.push(text(&reader.count("users", Filter::default()).await.unwrap()));
    let low =
        Condition { path: vec!["at".into()], test: Test::Less { than: 5.into(), or_equal: false } };
    let order = Order::parse("-at");
    let find = Find { filter: Filter(vec![low]), order, limit: 3, ..Find::default() };
    shown.push(text(&reader.find("users", find.clone()).await.unwrap()));
    shown.push(text(&reader.count("users", find.filter).await.unwrap()));
    shown.join("\n")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn w13_sqlite_does_what_the_model_does_kills_included(steps in prop::collection::vec(step(), 1..60)) {
        block_on(async {
            let mut pair = Pair::new();
            for step in steps {
                pair.run(step).await;
                pair.compare().await;
            }
        });
    }
}
