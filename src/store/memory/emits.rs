//! The model of internal events: what is emitted and taken back, what is for later, timers, replays.

use super::*;

impl State {
    /// What of a key has not started.
    pub(super) fn not_started(&self, webhook: &str, key: &str, own: Option<i64>) -> Vec<i64> {
        let line = self.lanes.get(&(webhook.into(), key.into()));
        let events = line.into_iter().flatten().map(|(_, event)| *event);
        events
            .filter(|event| {
                // The one whose run it is has started.
                let jobs = &self.events[event].jobs;
                Some(*event) != own
                    && jobs.iter().all(|job| job.state == JobState::Pending && job.attempt == 0)
            })
            .collect()
    }

    pub(super) fn any_waits(&self, webhook: &str, key: &str, own: Option<i64>) -> bool {
        let scheduled = self.scheduled.iter().any(|(_, event)| is_of(event, webhook, key));
        scheduled || !self.not_started(webhook, key, own).is_empty()
    }

    pub(super) fn take_back(
        &mut self,
        webhook: &str,
        key: &str,
        reason: &str,
        own: Option<i64>,
        after: &mut After,
    ) {
        self.scheduled.retain(|(_, event)| !is_of(event, webhook, key));
        for event in self.not_started(webhook, key, own) {
            let kept = self.events.get_mut(&event).unwrap();
            if kept.jobs.is_empty() {
                kept.jobs.push(Job {
                    n: 0,
                    planned: PlannedJob { script: "".into(), pattern: None, dead_job: None },
                    state: JobState::Pending,
                    attempt: 0,
                    due_at: None,
                    put_off_since: None,
                    parked_since: None,
                    calls: 0,
                    calls_dropped: 0,
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
                self.ended(event, n, after);
            }
        }
        let events = &self.events;
        after.turns.retain(|turn| events[&turn.event.0].jobs.is_empty());
    }

    /// What effects want of the inbox; `None`: conflict.
    pub(super) fn emit(&mut self, emits: &[Emit], own: Option<i64>) -> Option<After> {
        if !self.holds(emits, own) {
            return None;
        }
        let mut after = After::default();
        for emit in emits {
            match emit {
                Emit::Cancel { webhook, key, .. } => {
                    self.take_back(webhook, key, "cancelled", own, &mut after);
                }
                Emit::Event { event, due_at, pending } => {
                    let taken = self.emit_one(event, (*due_at, *pending), own, &mut after);
                    after.emitted.push(taken);
                }
            }
        }
        Some(after)
    }

    pub(super) fn any_of_cancelled<'a>(
        &self,
        emits: &'a [Emit],
        own: Option<i64>,
    ) -> BTreeSet<(&'a str, &'a str)> {
        let cancelled = emits.iter().filter_map(|emit| match emit {
            Emit::Cancel { webhook, key, .. } => Some((&**webhook, &**key)),
            Emit::Event { .. } => None,
        });
        cancelled.filter(|(webhook, key)| self.any_waits(webhook, key, own)).collect()
    }

    pub(super) fn emit_one(
        &mut self,
        event: &NewEvent,
        (due_at, pending): (Option<Millis>, Pending),
        own: Option<i64>,
        after: &mut After,
    ) -> Option<Accepted> {
        if let Some(key) = &event.order_key {
            match pending {
                Pending::Keep if self.any_waits(&event.webhook, key, own) => return None,
                Pending::Replace => {
                    self.take_back(&event.webhook, key, "replaced by a later `emit`", own, after);
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

    pub(super) fn promote(&mut self, now: Millis, limit: usize) -> Vec<Turn> {
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

    pub(super) fn fire(&mut self, firing: Firing) -> Fired {
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

    pub(super) fn replay(
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

    pub(super) fn holds(&self, emits: &[Emit], own: Option<i64>) -> bool {
        let before = self.any_of_cancelled(emits, own);
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
}
