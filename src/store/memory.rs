//! The in-memory model: the promises of `store/mod.rs` in the plainest code, without a disk, a thread or an index. What it does is
//! what the others must do; tests compare them with it.

use std::collections::{BTreeMap, BTreeSet};
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
    /// By webhook and key: the open events, in line.
    lanes: BTreeMap<Lane, BTreeSet<Place>>,
    /// Events without jobs whose turn was told.
    released: BTreeSet<i64>,
    scheduled: Vec<(Millis, NewEvent)>,
    timers: BTreeMap<Box<str>, Millis>,
    documents: BTreeMap<DocumentKey, (Content, Version)>,
    answers: BTreeMap<AnswerKey, Recorded>,
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

    fn seq_of(&self, event: &NewEvent) -> Option<i64> {
        let same = |kept: &Kept| {
            let by_delivery = event.delivery_id.is_some()
                && kept.event.delivery_id == event.delivery_id
                && kept.event.webhook == event.webhook;
            by_delivery || kept.event.id == event.id
        };
        self.events.iter().find(|(_, kept)| same(kept)).map(|(seq, _)| *seq)
    }

    fn accept(&mut self, event: NewEvent, max_pending: u64) -> Result<Accepted, StoreError> {
        if self.seq_of(&event).is_none() && self.pending() >= max_pending {
            return Err(StoreError::Full { max_pending });
        }
        Ok(self.take(event))
    }

    fn take(&mut self, event: NewEvent) -> Accepted {
        if let Some(seq) = self.seq_of(&event) {
            if !self.revive(seq) {
                let kept = &self.events[&seq];
                let same_body = !kept.has_payload || kept.event.body == event.body;
                return Accepted::Duplicate { event: Seq(seq), same_body };
            }
            let kept = self.events.get_mut(&seq).unwrap();
            if !kept.has_payload {
                kept.has_payload = true;
                kept.event.request = event.request;
                kept.event.body = event.body;
            }
            return Accepted::Revived(Seq(seq));
        }
        self.last += 1;
        let seq = self.last;
        let lane = lane_of(&event);
        let kept = Kept {
            event,
            has_payload: true,
            jobs: vec![],
            attempts: vec![],
            claimed: vec![],
            behind: vec![],
            place: None,
        };
        self.events.insert(seq, kept);
        let Some(lane) = lane else { return Accepted::New(Seq(seq)) };
        let last = self.lanes.entry(lane.clone()).or_default().last().copied();
        self.lanes.get_mut(&lane).unwrap().insert((seq, seq));
        let Some((_, last)) = last else {
            self.released.insert(seq);
            return Accepted::New(Seq(seq));
        };
        let plan = self.lets_pass(last);
        if plan {
            self.released.insert(seq);
        }
        Accepted::Behind { event: Seq(seq), plan }
    }

    /// Gives dead jobs fresh attempts; false where none is dead.
    fn revive(&mut self, seq: i64) -> bool {
        let (lane, place) = (lane_of(&self.events[&seq].event), self.last + 1);
        let kept = self.events.get_mut(&seq).unwrap();
        let dead: Vec<u32> =
            kept.jobs.iter().filter(|job| job.state == JobState::Dead).map(|job| job.n).collect();
        if dead.is_empty() {
            return false;
        }
        for n in &dead {
            let job = &mut kept.jobs[*n as usize];
            job.state = JobState::Pending;
            job.attempt = 0;
            job.due_at = Some(clock::steady());
            job.error = None;
            job.put_off_since = None;
        }
        let Some(lane) = lane else { return true };
        let stands = (kept.place.unwrap_or(seq), seq);
        let line = self.lanes.entry(lane.clone()).or_default();
        if !line.contains(&stands) {
            kept.place = Some(place);
            line.insert((place, seq));
        }
        let others: Vec<i64> =
            line.iter().map(|(_, event)| *event).filter(|event| *event != seq).collect();
        let any_bare = others.iter().any(|event| self.events[event].jobs.is_empty());
        let at_work = |script: &str| {
            others.iter().any(|event| {
                let kept = &self.events[event];
                kept.of(script).any(|job| !job.state.is_final() && !kept.behind.contains(&job.n))
            })
        };
        let kept = &self.events[&seq];
        let fresh = kept.jobs.iter().filter(|job| {
            job.state == JobState::Pending && job.attempt == 0 && job.planned.dead_job.is_none()
        });
        let behind: Vec<u32> =
            fresh.filter(|job| any_bare || at_work(&job.planned.script)).map(|job| job.n).collect();
        let kept = self.events.get_mut(&seq).unwrap();
        for n in behind {
            kept.jobs[n as usize].due_at = None;
            if !kept.behind.contains(&n) {
                kept.behind.push(n);
            }
        }
        true
    }

    fn lets_pass(&self, event: i64) -> bool {
        let kept = &self.events[&event];
        let ordered = || kept.jobs.iter().filter(|job| job.planned.dead_job.is_none());
        let through =
            ordered().any(|job| kept.of(&job.planned.script).all(|job| job.state.is_final()));
        let none_at_work =
            ordered().all(|job| job.state.is_final() || kept.behind.contains(&job.n));
        !kept.jobs.is_empty() && (through || none_at_work)
    }

    /// Who has its turn now that this job has ended.
    fn ended(&mut self, event: i64, n: u32) -> Vec<Turn> {
        let mut turns = Vec::new();
        let kept = &self.events[&event];
        let Some(lane) = lane_of(&kept.event) else { return turns };
        let planned = kept.jobs[n as usize].planned.clone();
        let script = planned.script;
        if planned.dead_job.is_some() || kept.of(&script).any(|job| !job.state.is_final()) {
            return turns;
        }
        let place = (kept.place.unwrap_or(event), event);
        let is_over =
            kept.jobs.iter().all(|job| job.state.is_final() || job.planned.dead_job.is_some());
        let line = self.lanes.entry(lane.clone()).or_default();
        if is_over {
            line.remove(&place);
        }
        let Some(first) = line.first().copied() else {
            self.lanes.remove(&lane);
            return turns;
        };
        if is_over && place < first {
            self.begin(first.1, true, &mut turns);
            self.unblock(first.1, None);
        } else if first.1 != event && self.events[&first.1].waits(&script) {
            self.unblock(first.1, Some(&script));
            return turns;
        }
        let after: Vec<(i64, i64)> =
            self.lanes[&lane].iter().filter(|standing| **standing > place).copied().collect();
        for (_, next) in after {
            if self.events[&next].jobs.is_empty() {
                self.begin(next, false, &mut turns);
                break;
            }
            if self.events[&next].waits(&script) {
                self.unblock(next, Some(&script));
            }
            if self.events[&next].of(&script).any(|job| !job.state.is_final()) {
                break;
            }
        }
        turns
    }

    fn begin(&mut self, event: i64, is_first: bool, turns: &mut Vec<Turn>) {
        let kept = &self.events[&event];
        if kept.jobs.is_empty() && self.released.insert(event) {
            let webhook = Arc::clone(&kept.event.webhook);
            turns.push(Turn { event: Seq(event), webhook, plan: !is_first });
        }
    }

    fn unblock(&mut self, event: i64, script: Option<&str>) {
        let kept = self.events.get_mut(&event).unwrap();
        for n in std::mem::take(&mut kept.behind) {
            let job = &mut kept.jobs[n as usize];
            if script.is_none_or(|script| *job.planned.script == *script) {
                job.due_at = Some(clock::steady());
            } else {
                kept.behind.push(n);
            }
        }
    }

    fn plan(&mut self, event: Seq, plan: &[PlannedJob]) -> Committed {
        let bare = self.events.get(&event.0).is_some_and(|kept| kept.jobs.is_empty());
        if !bare || plan.is_empty() {
            return Committed::Stale;
        }
        let kept = &self.events[&event.0];
        let lane = lane_of(&kept.event);
        let place = (kept.place.unwrap_or(event.0), event.0);
        let line = lane.as_ref().and_then(|lane| self.lanes.get(lane));
        let earlier: Vec<i64> = line
            .map(|line| line.range(..place).rev().map(|(_, event)| *event).collect())
            .unwrap_or_default();
        let waits = |script: &str| {
            let nearest = earlier.iter().find(|event| self.events[event].of(script).count() > 0);
            nearest
                .is_some_and(|event| self.events[event].of(script).any(|job| !job.state.is_final()))
        };
        let mut behind = Vec::new();
        let mut jobs = Vec::new();
        for (n, planned) in (0..).zip(plan) {
            let waits = waits(&planned.script);
            jobs.push(Job {
                n,
                planned: PlannedJob { dead_job: None, ..planned.clone() },
                state: JobState::Pending,
                attempt: 0,
                due_at: (!waits).then(clock::steady),
                put_off_since: None,
                error: None,
            });
            behind.extend(waits.then_some(n));
        }
        let next = line.and_then(|line| line.iter().find(|standing| **standing > place).copied());
        let kept = self.events.get_mut(&event.0).unwrap();
        (kept.jobs, kept.behind) = (jobs, behind);
        let mut turns = Vec::new();
        if self.lets_pass(event.0)
            && let Some((_, next)) = next
        {
            self.begin(next, false, &mut turns);
        }
        Committed::Yes(After { turns, ..After::default() })
    }

    /// What of a key has not started.
    fn not_started(&self, webhook: &str, key: &str) -> Vec<i64> {
        let line = self.lanes.get(&(webhook.into(), key.into()));
        let events = line.into_iter().flatten().map(|(_, event)| *event);
        events
            .filter(|event| {
                let jobs = &self.events[event].jobs;
                jobs.iter().all(|job| job.state == JobState::Pending && job.attempt == 0)
            })
            .collect()
    }

    fn any_waits(&self, webhook: &str, key: &str) -> bool {
        let scheduled = self.scheduled.iter().any(|(_, event)| is_of(event, webhook, key));
        scheduled || !self.not_started(webhook, key).is_empty()
    }

    fn take_back(&mut self, webhook: &str, key: &str, reason: &str, after: &mut After) {
        self.scheduled.retain(|(_, event)| !is_of(event, webhook, key));
        for event in self.not_started(webhook, key) {
            let kept = self.events.get_mut(&event).unwrap();
            if kept.jobs.is_empty() {
                kept.jobs.push(Job {
                    n: 0,
                    planned: PlannedJob { script: "".into(), pattern: None, dead_job: None },
                    state: JobState::Pending,
                    attempt: 0,
                    due_at: None,
                    put_off_since: None,
                    error: None,
                });
            }
            for job in &mut kept.jobs {
                job.state = JobState::Ignored;
                job.due_at = None;
                job.error = Some(reason.into());
            }
            kept.behind.clear();
            let numbers: Vec<u32> = kept.jobs.iter().map(|job| job.n).collect();
            for n in numbers {
                let turns = self.ended(event, n);
                after.turns.extend(turns);
            }
        }
        let events = &self.events;
        after.turns.retain(|turn| events[&turn.event.0].jobs.is_empty());
    }

    /// What effects want of the inbox; `None`: conflict.
    fn emit(&mut self, emits: &[Emit]) -> Option<After> {
        if !self.holds(emits) {
            return None;
        }
        let mut after = After::default();
        for emit in emits {
            match emit {
                Emit::Cancel { webhook, key, .. } => {
                    self.take_back(webhook, key, "cancelled", &mut after);
                }
                Emit::Event { event, due_at, pending } => {
                    let taken = self.emit_one(event, *due_at, *pending, &mut after);
                    after.emitted.push(taken);
                }
            }
        }
        Some(after)
    }

    fn any_of_cancelled<'a>(&self, emits: &'a [Emit]) -> BTreeSet<(&'a str, &'a str)> {
        let cancelled = emits.iter().filter_map(|emit| match emit {
            Emit::Cancel { webhook, key, .. } => Some((&**webhook, &**key)),
            Emit::Event { .. } => None,
        });
        cancelled.filter(|(webhook, key)| self.any_waits(webhook, key)).collect()
    }

    fn emit_one(
        &mut self,
        event: &NewEvent,
        due_at: Option<Millis>,
        pending: Pending,
        after: &mut After,
    ) -> Option<Accepted> {
        if let Some(key) = &event.order_key {
            match pending {
                Pending::Keep if self.any_waits(&event.webhook, key) => return None,
                Pending::Replace => {
                    self.take_back(&event.webhook, key, "replaced by a later `emit`", after);
                }
                Pending::Add | Pending::Keep => {}
            }
        }
        let same = |other: &NewEvent| {
            event.delivery_id.is_some()
                && other.delivery_id == event.delivery_id
                && other.webhook == event.webhook
        };
        if self.scheduled.iter().any(|(_, other)| same(other)) {
            return None;
        }
        let Some(due_at) = due_at else { return Some(self.take(event.clone())) };
        if !self.events.values().any(|kept| same(&kept.event)) {
            self.scheduled.push((due_at, event.clone()));
        }
        None
    }

    fn promote(&mut self, now: Millis, limit: usize) -> Vec<Turn> {
        let mut turns = Vec::new();
        for _ in 0..limit {
            let due = (0..self.scheduled.len())
                .filter(|at| self.scheduled[*at].0 <= now)
                .min_by_key(|at| (self.scheduled[*at].0, *at));
            let Some(due) = due else { break };
            let (_, event) = self.scheduled.remove(due);
            let webhook = Arc::clone(&event.webhook);
            match self.take(NewEvent { received_at: now, ..event }) {
                Accepted::New(event) => turns.push(Turn { event, webhook, plan: false }),
                Accepted::Behind { event, plan: true } => {
                    turns.push(Turn { event, webhook, plan: true });
                }
                Accepted::Behind { .. } | Accepted::Duplicate { .. } | Accepted::Revived(_) => {}
            }
        }
        turns
    }

    fn fire(&mut self, firing: Firing) -> Fired {
        let mut fired = Fired::Noted;
        if let Some(event) = firing.event {
            if lane_of(&event).is_some_and(|lane| self.lanes.contains_key(&lane)) {
                return Fired::Busy;
            }
            if let Accepted::New(seq) = self.take(event) {
                fired = Fired::New(seq);
            }
        }
        self.timers.insert(firing.timer, firing.counts_from);
        fired
    }

    fn replay(
        &mut self,
        id: EventId,
        copy: EventId,
        now: Millis,
        max_pending: u64,
    ) -> Result<Replayed, StoreError> {
        let found = self.events.iter().find(|(_, kept)| kept.event.id == id);
        let Some((seq, kept)) = found.map(|(seq, kept)| (*seq, kept)) else {
            return Ok(Replayed::Unknown);
        };
        if let Some(state) = kept.unfinished() {
            return Ok(Replayed::NotEnded(state));
        }
        if !kept.has_payload {
            return Ok(Replayed::NoPayload);
        }
        let event = kept.event.clone();
        if self.revive(seq) {
            return Ok(Replayed::Resumed(Seq(seq)));
        }
        let copies = self.events.values().filter(|kept| kept.event.replay_of == Some(id));
        if let Some(state) = copies.rev().find_map(Kept::unfinished) {
            return Ok(Replayed::NotEnded(state));
        }
        if self.pending() >= max_pending {
            return Err(StoreError::Full { max_pending });
        }
        Ok(Replayed::Anew(self.take(NewEvent {
            id: copy,
            delivery_id: None,
            received_at: now,
            replay_of: Some(id),
            ..event
        })))
    }

    /// The jobs of the event, planned ones included, if this one may still end.
    fn jobs(&self, key: JobKey, plan: Option<&[PlannedJob]>) -> Option<Vec<Job>> {
        let mut jobs = self.events.get(&key.event.0)?.jobs.clone();
        if jobs.is_empty() {
            let planned = (0..).zip(plan?).map(|(n, planned)| Job {
                n,
                planned: planned.clone(),
                state: JobState::Pending,
                attempt: 0,
                due_at: Some(clock::steady()),
                put_off_since: None,
                error: None,
            });
            jobs.extend(planned);
        }
        let open = jobs.get(key.n as usize).is_some_and(|job| !job.state.is_final());
        open.then_some(jobs)
    }

    fn finish(&mut self, finish: Finish, max_pending: u64) -> Result<Committed, StoreError> {
        let Some(mut jobs) = self.jobs(finish.job, finish.plan.as_deref()) else {
            return Ok(Committed::Stale);
        };
        let mut after = After::default();
        if let Outcome::Done(effects) = &finish.outcome {
            match self.apply(effects, 1, max_pending)? {
                Some(emitted) => after = emitted,
                None => return Ok(Committed::Conflict),
            }
        }
        let job = &mut jobs[finish.job.n as usize];
        let first = finish.attempt <= 1;
        let used_none = finish.attempt == 0;
        let (resolved, then) = match &finish.outcome {
            Outcome::Resolved { jobs, .. } => (jobs.clone(), Vec::new()),
            Outcome::Dead { then, .. } => (Vec::new(), then.to_vec()),
            _ => (Vec::new(), Vec::new()),
        };
        let mut put_off_since = None;
        let (state, due_at, error, is_kept) = match finish.outcome {
            Outcome::Done(_) => (JobState::Done, None, None, !first || !finish.log.is_empty()),
            Outcome::Ignored(reason) => (JobState::Ignored, None, Some(reason), false),
            Outcome::Retry { due_at, error } => {
                (JobState::Retrying, Some(due_at), Some(error), true)
            }
            Outcome::Returned { due_at, reason } => {
                let state = if used_none { JobState::Pending } else { JobState::Retrying };
                (state, Some(due_at), Some(reason), false)
            }
            Outcome::PutOff { due_at, reason } => {
                put_off_since = job.put_off_since.or(Some(finish.ended_at));
                (JobState::Retrying, Some(due_at), Some(reason), false)
            }
            Outcome::Dead { error, .. } => (JobState::Dead, None, Some(error), true),
            Outcome::Resolved { due_at, .. } => (JobState::Pending, Some(due_at), None, false),
        };
        let attempt = Attempt {
            job: finish.job.n,
            attempt: finish.attempt,
            started_at: finish.started_at,
            ended_at: finish.ended_at,
            generation: finish.generation,
            version: finish.version,
            error: error.clone(),
            log: finish.log,
        };
        *job = Job { state, attempt: finish.attempt, due_at, error, put_off_since, ..job.clone() };
        let add = |jobs: &mut Vec<Job>, planned: PlannedJob, due_at| {
            let n = u32::try_from(jobs.len()).unwrap();
            jobs.push(Job {
                n,
                planned,
                state: JobState::Pending,
                attempt: 0,
                due_at,
                put_off_since: None,
                error: None,
            });
        };
        for (index, planned) in resolved.into_iter().enumerate() {
            if index == 0 {
                jobs[finish.job.n as usize].planned.pattern = planned.pattern;
            } else {
                add(&mut jobs, planned, due_at);
            }
        }
        for planned in then {
            add(&mut jobs, planned, Some(clock::steady()));
        }
        let kept = self.events.get_mut(&finish.job.event.0).unwrap();
        kept.jobs = jobs;
        kept.claimed.retain(|n| *n != finish.job.n);
        kept.behind.retain(|n| *n != finish.job.n);
        kept.attempts.extend(is_kept.then_some(attempt));
        if state.is_final() && finish.ordered {
            let turns = self.ended(finish.job.event.0, finish.job.n);
            after.turns.extend(turns);
        }
        Ok(Committed::Yes(after))
    }

    fn claim(&mut self, key: JobKey, plan: Option<&[PlannedJob]>, attempt: u32) -> Committed {
        let Some(mut jobs) = self.jobs(key, plan) else { return Committed::Stale };
        let job = &mut jobs[key.n as usize];
        *job = Job { state: JobState::Running, attempt, due_at: None, error: None, ..job.clone() };
        let kept = self.events.get_mut(&key.event.0).unwrap();
        kept.jobs = jobs;
        // Claimed twice it is given back once.
        if !kept.claimed.contains(&key.n) {
            kept.claimed.push(key.n);
        }
        kept.behind.retain(|n| *n != key.n);
        Committed::Yes(After::default())
    }

    fn known(&self, key: &AnswerKey) -> Option<Known> {
        if let Some(answer) = self.answers.get(key) {
            return Some(Known::Answer(answer.clone()));
        }
        let mut events = self.events.values().map(|kept| &kept.event);
        let is_it = |event: &NewEvent| {
            event.webhook == key.scope && event.delivery_id.as_ref() == Some(&key.key)
        };
        events.any(is_it).then_some(Known::Event)
    }

    fn answer(&mut self, answering: Answering, max_pending: u64) -> Result<Answered, StoreError> {
        let Answering { key, event, effects, answer } = answering;
        if let Some(known) = key.as_ref().and_then(|key| self.known(key)) {
            return Ok(Answered::Known(known));
        }
        let Some(after) = self.apply(&effects, 0, max_pending)? else {
            return Ok(Answered::Conflict);
        };
        if let Some(AnsweredEvent { event, job: planned, attempt }) = event {
            let state = JobState::Done;
            let job = Job {
                n: 0,
                planned,
                state,
                attempt: 1,
                due_at: None,
                put_off_since: None,
                error: None,
            };
            self.last += 1;
            let kept = Kept {
                event,
                has_payload: true,
                jobs: vec![job],
                attempts: attempt.into_iter().collect(),
                claimed: vec![],
                behind: vec![],
                place: None,
            };
            self.events.insert(self.last, kept);
        }
        self.answers.extend(key.zip(answer));
        Ok(Answered::Yes(after))
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

    /// All of it or nothing: `None`.
    fn apply(
        &mut self,
        effects: &Effects,
        ending: u64,
        max_pending: u64,
    ) -> Result<Option<After>, StoreError> {
        if effects.reads.iter().any(|(key, version)| self.document(key).1 != *version) {
            return Ok(None);
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
                    return Ok(None);
                }
            }
        }
        let emitted =
            effects.emits.iter().filter(|emit| matches!(emit, Emit::Event { .. })).count() as u64;
        let waiting = self.pending() + self.scheduled.len() as u64;
        let is_full = emitted > ending && waiting + emitted > 2 * max_pending + ending;
        let after = if is_full { None } else { self.emit(&effects.emits) };
        if after.is_none() {
            self.documents = before;
        }
        // A `cancel` that was told otherwise is a conflict, whatever room there is.
        if is_full && self.holds(&effects.emits) {
            return Err(StoreError::Full { max_pending });
        }
        Ok(after)
    }

    fn holds(&self, emits: &[Emit]) -> bool {
        let before = self.any_of_cancelled(emits);
        let mut touched: BTreeMap<(&str, &str), bool> = BTreeMap::new();
        emits.iter().all(|emit| match emit {
            Emit::Event { event, .. } => {
                if let Some(key) = &event.order_key {
                    touched.insert((&event.webhook, key), true);
                }
                true
            }
            Emit::Cancel { webhook, key, told } => {
                let before = before.contains(&(&**webhook, &**key));
                touched.insert((webhook, key), false).unwrap_or(before) == *told
            }
        })
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
        self.answers.retain(|_, answer| {
            let goes = left > 0 && answer.answered_at < events_before;
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

    /// All of them at once: how much one question looks at is not for the model to say, but `next` is where it stopped.
    fn events(&self, query: &EventQuery) -> EventPage {
        let first_from = |id| {
            let from = self.events.iter().filter(|(_, kept)| kept.event.id >= id);
            from.min_by_key(|(_, kept)| kept.event.id).map_or(i64::MAX, |(seq, _)| *seq)
        };
        let before = query.before.map_or(i64::MAX, first_from);
        let after = query.after.map_or(0, |id| {
            let from = first_from(id);
            let is_there = self.events.get(&from).is_some_and(|kept| kept.event.id == id);
            if is_there || from == i64::MAX { from } else { from - 1 }
        });
        let mut matching: Vec<EventSummary> = self
            .events
            .iter()
            .filter(|(seq, kept)| {
                **seq > after && **seq < before && query.matches(&kept.summary(**seq))
            })
            .filter(|(_, kept)| query.text.as_ref().is_none_or(|text| kept.contains(text)))
            .map(|(seq, kept)| kept.summary(*seq))
            .collect();
        if query.order == EventOrder::NewestFirst {
            matching.reverse();
        }
        let is_cut = matching.len() > query.limit;
        matching.truncate(query.limit);
        let next = matching.last().filter(|_| is_cut).map(|last| last.id);
        EventPage { events: matching, next }
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
            let after = state.apply(&effects, 0, max_pending)?;
            Ok(after.map_or(Committed::Conflict, Committed::Yes))
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

    fn retain(&self, payloads_before: Millis, events_before: Millis, limit: usize) -> Answer<u64> {
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
        Box::pin(ready(open(&self.state).map(|state| state.any_waits(webhook, key))))
    }

    fn count(&self, collection: &str, filter: Filter) -> LocalAnswer<'_, u64> {
        let count = self.found(collection, &filter).map(|documents| documents.len() as u64);
        Box::pin(ready(count))
    }
}
