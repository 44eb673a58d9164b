//! The model of order within a key: who has its turn, from the lists as they are.

use super::*;

impl State {
    pub(super) fn lets_pass(&self, event: i64) -> bool {
        let kept = &self.events[&event];
        let ordered = || kept.jobs.iter().filter(|job| job.planned.dead_job.is_none());
        let through =
            ordered().any(|job| kept.of(&job.planned.script).all(|job| job.state.is_final()));
        let none_at_work =
            ordered().all(|job| job.state.is_final() || kept.behind.contains(&job.n));
        !kept.jobs.is_empty() && (through || none_at_work)
    }

    /// Who has its turn now that this job has ended.
    pub(super) fn ended(&mut self, event: i64, n: u32, after: &mut After) {
        let kept = &self.events[&event];
        let Some(lane) = lane_of(&kept.event) else { return };
        let planned = kept.jobs[n as usize].planned.clone();
        let script = planned.script;
        if planned.dead_job.is_some() || kept.of(&script).any(|job| !job.state.is_final()) {
            return;
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
            return;
        };
        if is_over && place < first {
            self.begin(first.1, true, after);
            self.unblock(first.1, None, after);
        } else if first.1 != event && self.events[&first.1].waits(&script) {
            self.unblock(first.1, Some(&script), after);
            return;
        }
        let behind: Vec<Place> =
            self.lanes[&lane].iter().filter(|standing| **standing > place).copied().collect();
        for (_, next) in behind {
            if self.events[&next].jobs.is_empty() {
                self.begin(next, false, after);
                break;
            }
            if self.events[&next].waits(&script) {
                self.unblock(next, Some(&script), after);
            }
            if self.events[&next].of(&script).any(|job| !job.state.is_final()) {
                break;
            }
        }
    }

    pub(super) fn begin(&mut self, event: i64, is_first: bool, after: &mut After) {
        let kept = &self.events[&event];
        if kept.jobs.is_empty() && self.released.insert(event) {
            let webhook = Arc::clone(&kept.event.webhook);
            after.turns.push(Turn { event: Seq(event), webhook, plan: !is_first });
        }
    }

    pub(super) fn unblock(&mut self, event: i64, script: Option<&str>, after: &mut After) {
        let kept = self.events.get_mut(&event).unwrap();
        for n in std::mem::take(&mut kept.behind) {
            let job = &mut kept.jobs[n as usize];
            if script.is_none_or(|script| *job.planned.script == *script) {
                job.due_at = Some(clock::steady());
                after.unblocked = true;
            } else {
                kept.behind.push(n);
            }
        }
    }

    pub(super) fn plan(&mut self, event: Seq, plan: &[PlannedJob]) -> Committed {
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
                parked_since: None,
                calls: 0,
                calls_dropped: 0,
                error: None,
            });
            behind.extend(waits.then_some(n));
        }
        let next = line.and_then(|line| line.iter().find(|standing| **standing > place).copied());
        let kept = self.events.get_mut(&event.0).unwrap();
        (kept.jobs, kept.behind) = (jobs, behind);
        let mut after = After::default();
        if self.lets_pass(event.0)
            && let Some((_, next)) = next
        {
            self.begin(next, false, &mut after);
        }
        Committed::Yes(after)
    }
}
