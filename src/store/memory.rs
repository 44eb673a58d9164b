//! The in-memory model: the promises of `store/mod.rs` in the plainest code, without a disk, a thread or an index. What it does is
//! what the others must do; tests compare them with it.

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::document::Content;
use super::filter::Filter;
use super::*;
use crate::clock;

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
    documents: BTreeMap<DocumentKey, (Content, Version)>,
}

struct Kept {
    event: NewEvent,
    has_payload: bool,
    jobs: Vec<Job>,
    attempts: Vec<Attempt>,
    /// Jobs that wait for their end and for no time.
    claimed: Vec<u32>,
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
                kept.jobs[n as usize].due_at = Some(clock::now());
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
                job.due_at = Some(clock::now());
            }
        }
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

impl Kept {
    fn state(&self) -> JobState {
        JobState::worst(self.jobs.iter().map(|job| job.state))
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
            error: worst.and_then(|job| job.error.clone()),
        }
    }
}

impl State {
    fn pending(&self) -> u64 {
        self.events.values().filter(|kept| kept.is_pending()).count() as u64
    }

    fn accept(&mut self, event: NewEvent, max_pending: u64) -> Result<Accepted, StoreError> {
        let same = |kept: &Kept| {
            let by_delivery = event.delivery_id.is_some()
                && kept.event.delivery_id == event.delivery_id
                && kept.event.webhook == event.webhook;
            by_delivery || kept.event.id == event.id
        };
        if let Some((seq, kept)) = self.events.iter_mut().find(|(_, kept)| same(kept)) {
            if kept.state() != JobState::Dead {
                let same_body = !kept.has_payload || kept.event.body == event.body;
                return Ok(Accepted::Duplicate { event: Seq(*seq), same_body });
            }
            for job in kept.jobs.iter_mut().filter(|job| job.state == JobState::Dead) {
                job.state = JobState::Pending;
                job.attempt = 0;
                job.due_at = Some(clock::now());
                job.error = None;
            }
            if !kept.has_payload {
                kept.has_payload = true;
                kept.event.request = event.request;
                kept.event.body = event.body;
            }
            return Ok(Accepted::Revived(Seq(*seq)));
        }
        if self.pending() >= max_pending {
            return Err(StoreError::Full { max_pending });
        }
        self.last += 1;
        let kept =
            Kept { event, has_payload: true, jobs: vec![], attempts: vec![], claimed: vec![] };
        self.events.insert(self.last, kept);
        Ok(Accepted::New(Seq(self.last)))
    }

    /// The jobs of the event, planned ones included, if this one may still end.
    fn jobs(
        &self,
        key: JobKey,
        plan: Option<&[PlannedJob]>,
        others_due_at: Millis,
    ) -> Option<Vec<Job>> {
        let mut jobs = self.events.get(&key.event.0)?.jobs.clone();
        if jobs.is_empty() {
            let planned = (0..).zip(plan?).map(|(n, planned)| Job {
                n,
                planned: planned.clone(),
                state: JobState::Pending,
                attempt: 0,
                due_at: Some(others_due_at),
                error: None,
            });
            jobs.extend(planned);
        }
        let open = jobs.get(key.n as usize).is_some_and(|job| !job.state.is_final());
        open.then_some(jobs)
    }

    fn finish(&mut self, finish: Finish) -> Committed {
        let Some(mut jobs) = self.jobs(finish.job, finish.plan.as_deref(), finish.ended_at) else {
            return Committed::Stale;
        };
        if let Outcome::Done(effects) = &finish.outcome
            && !self.apply(effects)
        {
            return Committed::Conflict;
        }
        let job = &mut jobs[finish.job.n as usize];
        let first = finish.attempt <= 1;
        let used_none = finish.attempt == 0;
        let resolved = match &finish.outcome {
            Outcome::Resolved { jobs, .. } => jobs.clone(),
            _ => Vec::new(),
        };
        let (state, due_at, error, is_kept) = match finish.outcome {
            Outcome::Done(_) => (JobState::Done, None, None, !first),
            Outcome::Ignored(reason) => (JobState::Ignored, None, Some(reason), false),
            Outcome::Retry { due_at, error } => {
                (JobState::Retrying, Some(due_at), Some(error), true)
            }
            Outcome::Returned { due_at, reason } => {
                let state = if used_none { JobState::Pending } else { JobState::Retrying };
                (state, Some(due_at), Some(reason), false)
            }
            Outcome::Dead(error) => (JobState::Dead, None, Some(error), true),
            Outcome::Resolved { due_at, .. } => (JobState::Pending, Some(due_at), None, false),
        };
        let attempt = Attempt {
            job: finish.job.n,
            attempt: finish.attempt,
            started_at: finish.started_at,
            ended_at: finish.ended_at,
            generation: finish.generation,
            error: error.clone(),
        };
        *job = Job { state, attempt: finish.attempt, due_at, error, ..job.clone() };
        for (index, planned) in resolved.into_iter().enumerate() {
            if index == 0 {
                jobs[finish.job.n as usize].planned.pattern = planned.pattern;
            } else {
                let n = u32::try_from(jobs.len()).unwrap();
                jobs.push(Job {
                    n,
                    planned,
                    state: JobState::Pending,
                    attempt: 0,
                    due_at,
                    error: None,
                });
            }
        }
        let kept = self.events.get_mut(&finish.job.event.0).unwrap();
        kept.jobs = jobs;
        kept.claimed.retain(|n| *n != finish.job.n);
        kept.attempts.extend(is_kept.then_some(attempt));
        Committed::Yes
    }

    fn claim(&mut self, key: JobKey, plan: Option<&[PlannedJob]>, attempt: u32) -> Committed {
        let Some(mut jobs) = self.jobs(key, plan, clock::now()) else { return Committed::Stale };
        let job = &mut jobs[key.n as usize];
        *job = Job { state: JobState::Running, attempt, due_at: None, error: None, ..job.clone() };
        let kept = self.events.get_mut(&key.event.0).unwrap();
        kept.jobs = jobs;
        // Claimed twice it is given back once.
        if !kept.claimed.contains(&key.n) {
            kept.claimed.push(key.n);
        }
        Committed::Yes
    }

    fn document(&self, key: &DocumentKey) -> (Content, Version) {
        match self.documents.get(key) {
            Some((content, version)) => match content.clone().at(clock::now()) {
                Content::Absent => (Content::Absent, Version(0)),
                content => (content, *version),
            },
            None => (Content::Absent, Version(0)),
        }
    }

    /// All of it or nothing: false.
    fn apply(&mut self, effects: &Effects) -> bool {
        if effects.reads.iter().any(|(key, version)| self.document(key).1 != *version) {
            return false;
        }
        let before = self.documents.clone();
        for (key, write) in &effects.writes {
            match self.document(key).0.after(write, clock::now()) {
                Ok(None) => {}
                Ok(Some(Content::Absent)) => {
                    self.documents.remove(key);
                }
                Ok(Some(content)) => {
                    self.last_version += 1;
                    self.documents.insert(key.clone(), (content, Version(self.last_version)));
                }
                Err(document::Changed) => {
                    self.documents = before;
                    return false;
                }
            }
        }
        true
    }

    fn retain(&mut self, payloads_before: Millis, events_before: Millis, limit: usize) -> u64 {
        let mut left = limit;
        for kept in self.events.values_mut() {
            let old = kept.event.received_at < payloads_before && !kept.is_pending();
            if left > 0 && old && kept.has_payload {
                kept.has_payload = false;
                left -= 1;
            }
        }
        self.events.retain(|_, kept| {
            let old = kept.event.received_at < events_before && !kept.is_pending();
            let goes = left > 0 && old;
            left -= usize::from(goes);
            !goes
        });
        self.documents.retain(|_, (content, _)| {
            let run_out = content.clone().at(clock::now()) == Content::Absent;
            let goes = left > 0 && run_out;
            left -= usize::from(goes);
            !goes
        });
        (limit - left) as u64
    }

    fn due(&self) -> Vec<DueJob> {
        let mut due: Vec<DueJob> = Vec::new();
        for (seq, kept) in &self.events {
            due.extend(kept.jobs.iter().filter_map(|job| {
                let key = JobKey { event: Seq(*seq), n: job.n };
                Some(DueJob { key, webhook: Arc::clone(&kept.event.webhook), due_at: job.due_at? })
            }));
        }
        due.sort_by_key(|job| (job.due_at, job.key));
        due
    }

    fn events(&self, query: &EventQuery) -> Vec<EventSummary> {
        let first_from = |id| {
            let from = self.events.iter().filter(|(_, kept)| kept.event.id >= id);
            from.min_by_key(|(_, kept)| kept.event.id).map(|(seq, _)| *seq)
        };
        let before = query.before.and_then(first_from).unwrap_or(i64::MAX);
        self.events
            .range(..before)
            .rev()
            .filter(|(_, kept)| {
                query.webhook.as_ref().is_none_or(|name| **name == *kept.event.webhook)
            })
            .filter(|(_, kept)| query.state.is_none_or(|state| state == kept.state()))
            .map(|(seq, kept)| kept.summary(*seq))
            .take(query.limit)
            .collect()
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
        self.with(|state| Ok(state.finish(finish)))
    }

    fn commit(&self, effects: Effects) -> Answer<Committed> {
        self.with(|state| {
            Ok(if state.apply(&effects) { Committed::Yes } else { Committed::Conflict })
        })
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
            let bare = state.events.iter().filter(|(_, kept)| kept.jobs.is_empty());
            let found =
                bare.filter(|(seq, _)| after.0 < **seq && **seq <= up_to.0).map(|(seq, kept)| {
                    Undispatched { event: Seq(*seq), webhook: Arc::clone(&kept.event.webhook) }
                });
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

    fn events(&self, query: EventQuery) -> Answer<Vec<EventSummary>> {
        self.with(|state| Ok(state.events(&query)))
    }

    fn event(&self, id: EventId) -> Answer<Option<EventDetail>> {
        self.with(|state| {
            let found = state.events.iter().find(|(_, kept)| kept.event.id == id);
            Ok(found.map(|(seq, kept)| EventDetail {
                summary: kept.summary(*seq),
                payload: kept
                    .has_payload
                    .then(|| (kept.event.request.clone(), kept.event.body.clone())),
                jobs: kept.jobs.clone(),
                attempts: kept.attempts.clone(),
            }))
        })
    }

    fn counts(&self) -> Answer<Counts> {
        self.with(|state| {
            let dead = state.events.values().filter(|kept| kept.state() == JobState::Dead);
            Ok(Counts { dead: dead.count() as u64, pending: state.pending() })
        })
    }

    fn ping(&self) -> Answer<()> {
        self.with(|_| Ok(()))
    }

    fn retain(&self, payloads_before: Millis, events_before: Millis, limit: usize) -> Answer<u64> {
        self.with(|state| Ok(state.retain(payloads_before, events_before, limit)))
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
        let found = of_collection.filter_map(|(key, (content, _))| match content {
            Content::Found(body) if filter.matches(body) => {
                Some(Document { id: (&*key.id).into(), body: body.clone() })
            }
            Content::Found(_) | Content::Tombstone { .. } | Content::Absent => None,
        });
        Ok(found.collect())
    }
}

impl Reader for MemoryReader {
    fn get(&self, key: &DocumentKey) -> LocalAnswer<'_, Read> {
        let read = open(&self.state).map(|state| match state.document(key) {
            (Content::Absent, _) => Read::Absent,
            (Content::Tombstone { .. }, version) => Read::Tombstone(version),
            (Content::Found(body), version) => Read::Found { body, version },
        });
        Box::pin(ready(read))
    }

    fn find(&self, collection: &str, find: Find) -> LocalAnswer<'_, Vec<Document>> {
        let found = self.found(collection, &find.filter).map(|mut documents| {
            documents
                .retain(|document| find.after.as_ref().is_none_or(|after| document.id > *after));
            documents.truncate(find.limit);
            documents
        });
        Box::pin(ready(found))
    }

    fn count(&self, collection: &str, filter: Filter) -> LocalAnswer<'_, u64> {
        let count = self.found(collection, &filter).map(|documents| documents.len() as u64);
        Box::pin(ready(count))
    }
}
