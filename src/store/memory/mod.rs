//! The in-memory model: the promises of `store/mod.rs` in the plainest code, without a disk, a thread or an index. What it does is
//! what the others must do; tests compare them with it.

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::document::Content;
use super::filter::Filter;
use super::*;
use crate::clock;

mod inbox;
mod lanes;
mod emits;
mod documents;

/// A store that forgets everything when it is dropped.
pub(crate) struct MemoryStore {
    state: Arc<Mutex<State>>,
    max_pending: AtomicU64,
}

#[derive(Default)]
struct State {
    closed: bool,
    last: i64,
    last_version: u64,
    events: BTreeMap<i64, Kept>,
    /// By webhook and key: the open events, in line.
    lanes: BTreeMap<Lane, BTreeSet<Place>>,
    /// Events without jobs whose turn was told.
    released: BTreeSet<i64>,
    scheduled: Vec<(Millis, NewEvent)>,
    timers: BTreeMap<Box<str>, Millis>,
    documents: BTreeMap<DocumentKey, (Content, Version)>,
    answers: BTreeMap<AnswerKey, Recorded>,
    usage: BTreeMap<(Arc<str>, Box<str>, Millis), u64>,
}

/// Webhook and key.
type Lane = (Arc<str>, Box<str>);
/// A place in line, and the event there.
type Place = (i64, i64);

struct Kept {
    event: NewEvent,
    has_payload: bool,
    jobs: Vec<Job>,
    attempts: Vec<Attempt>,
    /// By job and number.
    calls: BTreeMap<(u32, u32), Call>,
    /// Jobs that wait for their end and for no time.
    claimed: Vec<u32>,
    /// Jobs that wait for an earlier event of their key.
    behind: Vec<u32>,
    /// Its place in line, where that is not its seq.
    place: Option<i64>,
}

impl MemoryStore {
    pub(crate) fn new(max_pending: u64) -> Self {
        Self { state: Arc::default(), max_pending: max_pending.into() }
    }

    /// What a process that is killed and started again leaves: everything but its claims.
    pub(crate) fn crash(&self) {
        let mut state = self.state.lock().unwrap();
        for kept in state.events.values_mut() {
            for n in kept.claimed.drain(..) {
                kept.jobs[n as usize].due_at = Some(clock::steady());
            }
        }
    }

    /// What one that stops in good order leaves: its claims are given back.
    pub(crate) fn stop(&self) {
        let mut state = self.state.lock().unwrap();
        for kept in state.events.values_mut() {
            for n in kept.claimed.drain(..) {
                let job = &mut kept.jobs[n as usize];
                job.attempt = job.attempt.saturating_sub(1);
                job.state = if job.attempt == 0 { JobState::Pending } else { JobState::Retrying };
                job.due_at = Some(clock::steady());
            }
        }
    }

    fn max_pending(&self) -> u64 {
        self.max_pending.load(Ordering::Relaxed)
    }

    /// The first event that has none.
    pub(super) fn first_without_jobs(&self) -> Option<Seq> {
        let state = self.state.lock().unwrap();
        state.events.iter().find(|(_, kept)| kept.jobs.is_empty()).map(|(seq, _)| Seq(*seq))
    }

    fn with<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut State) -> Result<T, StoreError>,
    ) -> Answer<T> {
        Box::pin(ready(open(&self.state).and_then(|mut state| act(&mut state))))
    }
}

fn open(state: &Mutex<State>) -> Result<MutexGuard<'_, State>, StoreError> {
    let state = state.lock().unwrap();
    if state.closed { Err(StoreError::Closed) } else { Ok(state) }
}

/// Where events of its key stand in line.
fn lane_of(event: &NewEvent) -> Option<Lane> {
    Some((Arc::clone(&event.webhook), event.order_key.clone()?))
}

fn is_of(event: &NewEvent, webhook: &str, key: &str) -> bool {
    *event.webhook == *webhook && event.order_key.as_deref() == Some(key)
}

impl Kept {
    /// The jobs of a script that are in order.
    fn of<'a>(&'a self, script: &'a str) -> impl Iterator<Item = &'a Job> {
        let is_one =
            move |job: &&Job| job.planned.dead_job.is_none() && *job.planned.script == *script;
        self.jobs.iter().filter(is_one)
    }

    fn waits(&self, script: &str) -> bool {
        self.of(script).any(|job| self.behind.contains(&job.n))
    }

    /// The worst state of its jobs that are not at their end.
    fn unfinished(&self) -> Option<JobState> {
        let open = self.jobs.iter().map(|job| job.state).filter(|state| !state.is_final());
        self.is_pending().then(|| JobState::worst(open))
    }

    fn state(&self) -> JobState {
        JobState::worst(self.jobs.iter().map(|job| job.state))
    }

    fn contains(&self, text: &str) -> bool {
        let body = &self.event.body;
        self.has_payload && body.windows(text.len()).any(|part| part == text.as_bytes())
    }

    fn shown_calls(&self) -> impl Iterator<Item = Call> {
        self.calls.values().map(Call::unanswered)
    }

    fn calls_left_out(&self) -> u64 {
        let dropped: u64 = self.jobs.iter().map(|job| u64::from(job.calls_dropped)).sum();
        dropped + self.calls.len().saturating_sub(SHOWN_MAX) as u64
    }

    fn is_pending(&self) -> bool {
        self.jobs.is_empty() || self.jobs.iter().any(|job| !job.state.is_final())
    }

    fn summary(&self, seq: i64) -> EventSummary {
        let worst = self.jobs.iter().find(|job| job.state == self.state());
        EventSummary {
            seq: Seq(seq),
            id: self.event.id,
            webhook: Arc::clone(&self.event.webhook),
            delivery_id: self.event.delivery_id.clone(),
            kind: self.event.kind.clone(),
            state: self.state(),
            received_at: self.event.received_at,
            attempts: self.jobs.iter().map(|job| job.attempt).sum(),
            calls: self.jobs.iter().map(|job| job.calls).sum(),
            error: worst.and_then(|job| job.error.clone()),
        }
    }
}

impl Store for MemoryStore {
    fn accept(&self, event: NewEvent) -> Answer<Accepted> {
        self.with(|state| state.accept(event, self.max_pending.load(Ordering::Relaxed)))
    }

    fn set_max_pending(&self, max_pending: u64) {
        self.max_pending.store(max_pending, Ordering::Relaxed);
    }

    fn finish(&self, finish: Finish) -> Answer<Committed> {
        let max_pending = self.max_pending();
        self.with(|state| state.finish(finish, max_pending))
    }

    fn commit(&self, effects: Effects) -> Answer<Committed> {
        let max_pending = self.max_pending();
        self.with(|state| {
            let after = state.apply(&effects, None, max_pending)?;
            Ok(after.map_or(Committed::Conflict, Committed::Yes))
        })
    }

    fn note_call(&self, noted: Noted) -> Answer<Committed> {
        self.with(|state| Ok(state.note_call(noted)))
    }

    fn add_usage(&self, used: Vec<Usage>) -> Answer<()> {
        self.with(|state| {
            for Usage { provider, unit, began_at, amount } in used {
                let sum = state.usage.entry((provider, unit, began_at)).or_default();
                *sum = sum.saturating_add(amount).min(i64::MAX as u64);
            }
            Ok(())
        })
    }

    fn usage(&self, since: Millis) -> Answer<Vec<Usage>> {
        self.with(|state| {
            let used = state.usage.iter().filter(|((_, _, began_at), _)| *began_at >= since);
            let used = used.map(|((provider, unit, began_at), amount)| Usage {
                provider: Arc::clone(provider),
                unit: unit.clone(),
                began_at: *began_at,
                amount: *amount,
            });
            Ok(used.collect())
        })
    }

    fn plan(&self, event: Seq, plan: Arc<[PlannedJob]>) -> Answer<Committed> {
        self.with(|state| Ok(state.plan(event, &plan)))
    }

    fn promote(&self, now: Millis, limit: usize) -> Answer<Vec<Turn>> {
        self.with(|state| Ok(state.promote(now, limit)))
    }

    fn next_scheduled(&self) -> Answer<Option<Millis>> {
        self.with(|state| Ok(state.scheduled.iter().map(|(due_at, _)| *due_at).min()))
    }

    fn fire(&self, firing: Firing) -> Answer<Fired> {
        self.with(|state| Ok(state.fire(firing)))
    }

    fn timers(&self) -> Answer<Vec<(Box<str>, Millis)>> {
        self.with(|state| Ok(state.timers.iter().map(|(timer, at)| (timer.clone(), *at)).collect()))
    }

    fn forget_timer(&self, timer: &str) -> Answer<()> {
        self.with(|state| {
            state.timers.remove(timer);
            Ok(())
        })
    }

    fn replay(&self, event: EventId, copy: EventId, now: Millis) -> Answer<Replayed> {
        let max_pending = self.max_pending();
        self.with(|state| state.replay(event, copy, now, max_pending))
    }

    fn answer(&self, answering: Answering) -> Answer<Answered> {
        let max_pending = self.max_pending();
        self.with(|state| state.answer(answering, max_pending))
    }

    fn claim(
        &self,
        job: JobKey,
        plan: Option<Arc<[PlannedJob]>>,
        attempt: u32,
    ) -> Answer<Committed> {
        self.with(|state| Ok(state.claim(job, plan.as_deref(), attempt)))
    }

    fn undispatched(&self, after: Seq, up_to: Seq, limit: usize) -> Answer<Vec<Undispatched>> {
        self.with(|state| {
            let turn = |seq: i64, kept: &Kept| match lane_of(&kept.event) {
                None => Some(false),
                Some(lane) => {
                    let is_first = state.lanes[&lane].first() == Some(&(seq, seq));
                    state.released.contains(&seq).then_some(!is_first)
                }
            };
            let bare = state.events.iter().filter(|(_, kept)| kept.jobs.is_empty());
            let found = bare.filter(|(seq, _)| after.0 < **seq && **seq <= up_to.0).filter_map(
                |(seq, kept)| {
                    let plan = turn(*seq, kept)?;
                    let webhook = Arc::clone(&kept.event.webhook);
                    Some(Undispatched { event: Seq(*seq), webhook, plan })
                },
            );
            Ok(found.take(limit).collect())
        })
    }

    fn due(&self, now: Millis, limit: usize) -> Answer<Vec<DueJob>> {
        self.with(|state| {
            Ok(state.due().into_iter().filter(|job| job.due_at <= now).take(limit).collect())
        })
    }

    fn wake(&self, script: &str, failed_too: bool, now: Millis, limit: usize) -> Answer<u64> {
        self.with(|state| {
            let mut woken = 0;
            for job in state.events.values_mut().flat_map(|kept| &mut kept.jobs) {
                if woken == limit as u64 {
                    break;
                }
                let waits = job.state == JobState::Pending
                    || (failed_too && job.state == JobState::Retrying);
                if waits
                    && *job.planned.script == *script
                    && job.due_at.is_some_and(|due_at| due_at > now)
                {
                    job.due_at = Some(now);
                    woken += 1;
                }
            }
            Ok(woken)
        })
    }

    fn next_due(&self, now: Millis) -> Answer<Option<Millis>> {
        self.with(|state| Ok(state.due().into_iter().map(|job| job.due_at).find(|at| *at > now)))
    }

    fn load(&self, event: Seq) -> Answer<Option<StoredEvent>> {
        self.with(|state| {
            let kept = state.events.get(&event.0).filter(|kept| kept.has_payload);
            Ok(kept.map(|kept| StoredEvent {
                seq: event,
                event: kept.event.clone(),
                jobs: kept.jobs.clone(),
            }))
        })
    }

    fn events(&self, query: EventQuery) -> Answer<EventPage> {
        self.with(|state| Ok(state.events(&query)))
    }

    fn event(&self, id: EventId) -> Answer<Option<EventDetail>> {
        self.with(|state| {
            let found = state.events.iter().find(|(_, kept)| kept.event.id == id);
            Ok(found.map(|(seq, kept)| EventDetail {
                summary: kept.summary(*seq),
                replay_of: kept.event.replay_of,
                payload: kept
                    .has_payload
                    .then(|| (kept.event.request.clone(), kept.event.body.clone())),
                jobs: kept.jobs.clone(),
                attempts: kept.attempts.clone(),
                calls: kept.shown_calls().take(SHOWN_MAX).collect(),
                calls_left_out: kept.calls_left_out(),
            }))
        })
    }

    fn counts(&self) -> Answer<Counts> {
        self.with(|state| {
            let dead = state.events.values().filter(|kept| kept.state() == JobState::Dead);
            Ok(Counts {
                dead: dead.count() as u64,
                pending: state.pending(),
                scheduled: state.scheduled.len() as u64,
            })
        })
    }

    fn ping(&self) -> Answer<()> {
        self.with(|_| Ok(()))
    }

    fn retain(
        &self,
        payloads_before: Millis,
        events_before: Millis,
        limit: usize,
        _budget: Duration,
    ) -> Answer<u64> {
        self.with(|state| Ok(state.retain(payloads_before, events_before, limit)))
    }

    /// It has none, and finds the same.
    fn set_indexes(&self, _declared: Vec<IndexedField>) -> Answer<()> {
        self.with(|_| Ok(()))
    }

    fn index_step(&self, _budget: Duration) -> Answer<IndexStep> {
        self.with(|_| Ok(IndexStep::Idle))
    }

    fn reader(&self) -> Result<Box<dyn Reader>, StoreError> {
        drop(open(&self.state)?);
        Ok(Box::new(MemoryReader { state: Arc::clone(&self.state) }))
    }

    fn close(&self) -> Answer<()> {
        self.with(|state| {
            state.closed = true;
            Ok(())
        })
    }

    /// It begins empty.
    fn opened(&self) -> Opened {
        Opened { unclean: false, low_water: Seq(0), last: Seq(0) }
    }
}

struct MemoryReader {
    state: Arc<Mutex<State>>,
}

impl MemoryReader {
    fn found(&self, collection: &str, filter: &Filter) -> Result<Vec<Document>, StoreError> {
        let state = open(&self.state)?;
        let of_collection =
            state.documents.iter().filter(|(key, _)| &*key.collection == collection);
        let found = of_collection.filter_map(|(key, (content, _))| {
            match content.clone().at(clock::now()) {
                Content::Found { body, .. } if filter.matches(&body) => {
                    Some(Document { id: (&*key.id).into(), body })
                }
                Content::Found { .. } | Content::Tombstone { .. } | Content::Absent => None,
            }
        });
        Ok(found.collect())
    }
}

impl Reader for MemoryReader {
    fn get(&self, key: &DocumentKey) -> LocalAnswer<'_, Read> {
        let read = open(&self.state).map(|state| match state.document(key) {
            (Content::Absent, _) => Read::Absent,
            (Content::Tombstone { .. }, version) => Read::Tombstone(version),
            (Content::Found { body, expires_at }, version) => {
                Read::Found { body, version, expires_at }
            }
        });
        Box::pin(ready(read))
    }

    fn known(&self, key: &AnswerKey) -> LocalAnswer<'_, Option<Known>> {
        Box::pin(ready(open(&self.state).map(|state| state.known(key))))
    }

    fn calls(&self, job: JobKey) -> LocalAnswer<'_, Recalled> {
        Box::pin(ready(open(&self.state).map(|state| state.recalled(job))))
    }

    fn find(&self, collection: &str, find: Find) -> LocalAnswer<'_, Vec<Document>> {
        let order = find.order.as_ref();
        let rank = |document: &Document| order::Rank::of(order, &document.id, &document.body);
        let found = self.found(collection, &find.filter).map(|mut documents| {
            documents.sort_by(|left, right| rank(left).compare(&rank(right), order));
            documents.retain(|document| {
                let is_after = |after| rank(document).compare(after, order).is_gt();
                find.after.as_ref().is_none_or(is_after)
            });
            documents.truncate(find.limit);
            documents
        });
        Box::pin(ready(found))
    }

    fn waits(&self, webhook: &str, key: &str) -> LocalAnswer<'_, bool> {
        Box::pin(ready(open(&self.state).map(|state| state.any_waits(webhook, key, None))))
    }

    fn count(&self, collection: &str, filter: Filter) -> LocalAnswer<'_, u64> {
        let count = self.found(collection, &filter).map(|documents| documents.len() as u64);
        Box::pin(ready(count))
    }
}
