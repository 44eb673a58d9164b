//! The model of the inbox: events, jobs and their ends.

use super::*;

impl State {
    pub(super) fn pending(&self) -> u64 {
        self.events.values().filter(|kept| kept.is_pending()).count() as u64
    }

    pub(super) fn seq_of(&self, event: &NewEvent) -> Option<i64> {
        let same = |kept: &Kept| {
            let by_delivery = event.delivery_id.is_some()
                && kept.event.delivery_id == event.delivery_id
                && kept.event.webhook == event.webhook;
            by_delivery || kept.event.id == event.id
        };
        self.events.iter().find(|(_, kept)| same(kept)).map(|(seq, _)| *seq)
    }

    pub(super) fn accept(
        &mut self,
        event: NewEvent,
        max_pending: u64,
    ) -> Result<Accepted, StoreError> {
        if self.seq_of(&event).is_none() && self.pending() >= max_pending {
            return Err(StoreError::Full { max_pending });
        }
        Ok(self.take(event))
    }

    pub(super) fn take(&mut self, event: NewEvent) -> Accepted {
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
            calls: BTreeMap::new(),
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
    pub(super) fn revive(&mut self, seq: i64) -> bool {
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
            job.parked_since = None;
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

    /// The jobs of the event, planned ones included, if this one may still end.
    pub(super) fn jobs(&self, key: JobKey, plan: Option<&[PlannedJob]>) -> Option<Vec<Job>> {
        let mut jobs = self.events.get(&key.event.0)?.jobs.clone();
        if jobs.is_empty() {
            let planned = (0..).zip(plan?).map(|(n, planned)| Job {
                n,
                planned: planned.clone(),
                state: JobState::Pending,
                attempt: 0,
                due_at: Some(clock::steady()),
                put_off_since: None,
                parked_since: None,
                calls: 0,
                calls_dropped: 0,
                error: None,
            });
            jobs.extend(planned);
        }
        let open = jobs.get(key.n as usize).is_some_and(|job| !job.state.is_final());
        open.then_some(jobs)
    }

    pub(super) fn finish(
        &mut self,
        finish: Finish,
        max_pending: u64,
    ) -> Result<Committed, StoreError> {
        let Some(mut jobs) = self.jobs(finish.job, finish.plan.as_deref()) else {
            return Ok(Committed::Stale);
        };
        let mut after = After::default();
        if let Outcome::Done(effects) = &finish.outcome {
            match self.apply(effects, Some(finish.job.event.0), max_pending)? {
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
        let (mut put_off_since, mut parked_since) = (None, None);
        let (state, due_at, error, is_kept) = match finish.outcome {
            Outcome::Done(_) => (JobState::Done, None, None, !first || !finish.log.is_empty()),
            Outcome::Ignored(reason) => (JobState::Ignored, None, Some(reason), false),
            Outcome::Retry { due_at, error } => {
                (JobState::Retrying, Some(due_at), Some(error), true)
            }
            Outcome::Returned { due_at, reason } => {
                (put_off_since, parked_since) = (job.put_off_since, job.parked_since);
                let state = if used_none { JobState::Pending } else { JobState::Retrying };
                (state, Some(due_at), Some(reason), false)
            }
            Outcome::PutOff { due_at, reason } => {
                put_off_since = job.put_off_since.or(Some(finish.ended_at));
                parked_since = job.parked_since;
                (JobState::Retrying, Some(due_at), Some(reason), false)
            }
            Outcome::Parked { due_at, reason } => {
                put_off_since = job.put_off_since;
                parked_since = job.parked_since.or(Some(finish.ended_at));
                (JobState::Parked, Some(due_at), Some(reason), false)
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
        let calls = finish.calls.as_deref();
        *job = Job {
            state,
            attempt: finish.attempt,
            due_at,
            error,
            put_off_since,
            parked_since,
            calls: calls.map_or(job.calls, |calls| calls.asked),
            calls_dropped: job.calls_dropped + calls.map_or(0, |calls| calls.dropped),
            ..job.clone()
        };
        let add = |jobs: &mut Vec<Job>, planned: PlannedJob, due_at| {
            let n = u32::try_from(jobs.len()).unwrap();
            jobs.push(Job {
                n,
                planned,
                state: JobState::Pending,
                attempt: 0,
                due_at,
                put_off_since: None,
                parked_since: None,
                calls: 0,
                calls_dropped: 0,
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
        for call in calls.iter().flat_map(|calls| &calls.made) {
            let kept_call = if state == JobState::Done { call.unanswered() } else { call.clone() };
            kept.calls.insert((call.job, call.number), kept_call);
        }
        if state.is_final() && finish.ordered {
            self.ended(finish.job.event.0, finish.job.n, &mut after);
        }
        Ok(Committed::Yes(after))
    }

    pub(super) fn claim(
        &mut self,
        key: JobKey,
        plan: Option<&[PlannedJob]>,
        attempt: u32,
    ) -> Committed {
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

    pub(super) fn note_call(&mut self, noted: Noted) -> Committed {
        let Noted { job, plan, attempt, call } = noted;
        let claimed = self.claim(job, plan.as_deref(), attempt);
        if claimed != Committed::Stale {
            let kept = self.events.get_mut(&job.event.0).unwrap();
            kept.calls.insert((call.job, call.number), call);
        }
        claimed
    }

    pub(super) fn recalled(&self, job: JobKey) -> Recalled {
        let Some(kept) = self.events.get(&job.event.0) else { return Recalled::default() };
        let calls = kept.calls.values().filter(|call| call.job == job.n);
        let next = calls.clone().map(|call| call.number + 1).max().unwrap_or(0);
        Recalled { calls: calls.filter(|call| call.is_unsafe).cloned().collect(), next }
    }

    pub(super) fn known(&self, key: &AnswerKey) -> Option<Known> {
        if let Some(answer) = self.answers.get(key) {
            return Some(Known::Answer(answer.clone()));
        }
        let mut events = self.events.values().map(|kept| &kept.event);
        let is_it = |event: &NewEvent| {
            event.webhook == key.scope && event.delivery_id.as_ref() == Some(&key.key)
        };
        events.any(is_it).then_some(Known::Event)
    }

    pub(super) fn answer(
        &mut self,
        answering: Answering,
        max_pending: u64,
    ) -> Result<Answered, StoreError> {
        let Answering { key, event, effects, answer } = answering;
        if let Some(known) = key.as_ref().and_then(|key| self.known(key)) {
            return Ok(Answered::Known(known));
        }
        let Some(after) = self.apply(&effects, None, max_pending)? else {
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
                parked_since: None,
                calls: 0,
                calls_dropped: 0,
                error: None,
            };
            self.last += 1;
            let kept = Kept {
                event,
                has_payload: true,
                jobs: vec![job],
                attempts: attempt.into_iter().collect(),
                calls: BTreeMap::new(),
                claimed: vec![],
                behind: vec![],
                place: None,
            };
            self.events.insert(self.last, kept);
        }
        self.answers.extend(key.zip(answer));
        Ok(Answered::Yes(after))
    }

    pub(super) fn retain(
        &mut self,
        payloads_before: Millis,
        events_before: Millis,
        limit: usize,
    ) -> u64 {
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
        self.usage.retain(|(_, _, began_at), _| {
            let goes = left > 0 && began_at.plus(USAGE_KEPT) < clock::now();
            left -= usize::from(goes);
            !goes
        });
        (limit - left) as u64
    }

    pub(super) fn due(&self) -> Vec<DueJob> {
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
    pub(super) fn events(&self, query: &EventQuery) -> EventPage {
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
