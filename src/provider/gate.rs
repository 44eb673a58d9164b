//! The gate that everybody obeys: an answer that says "not before" closes the provider or one of its operations until then, for all
//! scripts and workers. A later answer may close it for longer, never for less. Jobs that park come back one after the other, not all at once.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// No answer closes anything for longer: a provider that means a day may say so again, and one that is mistaken has not stopped us for one.
pub(crate) const CLOSED_MAX: Duration = Duration::from_secs(3_600);
/// Operations that are closed at once. Beyond these the whole provider closes: it has turned down so many that it means all.
const CLOSED_PARTS_MAX: usize = 256;

/// The gate of one provider.
#[derive(Default)]
pub(crate) struct Gate(Mutex<HashMap<Part, Closed>>);

/// What is closed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    /// All of it.
    Provider,
    /// One operation, as its call names it.
    Operation(Box<str>),
    /// Nothing: where jobs stand in line that wait for a budget, so that those that wait for a rate do not come behind them.
    Budget,
}

/// Whether a call may go out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It may.
    Open,
    /// Not before this, and what it is that is closed.
    ClosedUntil(Instant, Part),
}

#[derive(Clone, Copy)]
struct Closed {
    until: Instant,
    /// The last moment that was given to a job that parks.
    parked: Option<Instant>,
}

/// What an answer says of going on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    /// Of the answer.
    pub(crate) status: u16,
    /// Whether it is about a limit: 429, or what the descriptor takes for one.
    pub(crate) is_limited: bool,
    /// `Retry-After`.
    pub(crate) retry_after: Option<Duration>,
    /// When quotas that are used up are filled again, as their headers tell; the longest.
    pub(crate) resets_in: Option<Duration>,
    /// Where a limit says nothing of time.
    pub(crate) otherwise: Duration,
}

impl Answered {
    /// For how long it closes what it is about. An answer that went well closes nothing: its `Retry-After` says when to ask for a result.
    pub(crate) fn closes_for(&self) -> Option<Duration> {
        let told = match self.is_limited {
            true => Some(self.retry_after.or(self.resets_in).unwrap_or(self.otherwise)),
            false => self.retry_after.filter(|_| self.status >= 400),
        };
        told.filter(|told| !told.is_zero()).map(|told| told.min(CLOSED_MAX))
    }
}

impl Gate {
    /// Closes a part, for an hour at most; one that is closed for longer already stays so.
    pub(crate) fn close(&self, part: Part, closed_for: Duration, now: Instant) {
        let until = now + closed_for.min(CLOSED_MAX);
        let mut closed = self.closed();
        closed.retain(|_, closed| closed.is_of_use(now));
        let part = if closed.len() >= CLOSED_PARTS_MAX && !closed.contains_key(&part) {
            Part::Provider
        } else {
            part
        };
        let known = closed.entry(part).or_insert(Closed { until, parked: None });
        known.until = known.until.max(until);
    }

    /// Whether a call of an operation may go out now.
    pub(crate) fn ask(&self, operation: &str, now: Instant) -> Asked {
        let closed = self.closed();
        if closed.is_empty() {
            return Asked::Open;
        }
        let found = [Part::Provider, Part::Operation(operation.into())].into_iter();
        let found = found.filter_map(|part| Some((closed.get(&part)?.until, part)));
        match found.filter(|(until, _)| *until > now).max_by_key(|(until, _)| *until) {
            Some((until, part)) => Asked::ClosedUntil(until, part),
            None => Asked::Open,
        }
    }

    /// Until when the provider as a whole is closed.
    pub(crate) fn closed_until(&self, now: Instant) -> Option<Instant> {
        self.closed().get(&Part::Provider).map(|closed| closed.until).filter(|until| *until > now)
    }

    /// When a job that parks is to come back, where `part` opens at `opens`: each a `gap` after the one before, so that those who waited
    /// together do not run into the same limit together again. Also for an open breaker or a rate: `Part::Provider` and the moment that they say.
    pub(crate) fn park_until(
        &self,
        part: &Part,
        opens: Instant,
        gap: Duration,
        now: Instant,
    ) -> Instant {
        let mut closed = self.closed();
        closed.retain(|_, closed| closed.is_of_use(now));
        let part = if closed.len() < CLOSED_PARTS_MAX || closed.contains_key(part) {
            part.clone()
        } else {
            Part::Provider
        };
        let known = closed.entry(part).or_insert(Closed { until: now, parked: None });
        let due = match known.parked {
            Some(parked) => opens.max(parked + gap),
            None => opens,
        };
        known.parked = Some(due);
        due
    }

    fn closed(&self) -> MutexGuard<'_, HashMap<Part, Closed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Closed {
    fn is_of_use(&self, now: Instant) -> bool {
        self.until > now || self.parked.is_some_and(|parked| parked > now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn rule_12_a_gate_closes_for_everybody_and_is_never_shortened() {
        let (gate, now) = (Gate::default(), clock::instant());
        gate.close(Part::Provider, SECOND * 10, now);
        gate.close(Part::Provider, SECOND * 2, now);
        let until = now + SECOND * 10;
        assert_eq!(gate.ask("any", now), Asked::ClosedUntil(until, Part::Provider));
        assert_eq!(gate.closed_until(now), Some(until));
        assert_eq!(gate.ask("any", until), Asked::Open);
        gate.close(Part::Provider, Duration::MAX, now);
        assert_eq!(gate.closed_until(now), Some(now + CLOSED_MAX), "an hour at most");
    }

    #[test]
    fn rule_12_where_the_headers_say_so_one_operation_closes_alone() {
        let (gate, now) = (Gate::default(), clock::instant());
        gate.close(Part::Operation("refunds.create".into()), SECOND, now);
        gate.close(Part::Operation("issues.search".into()), SECOND * 2, now);
        assert!(matches!(gate.ask("refunds.create", now), Asked::ClosedUntil(..)));
        assert_eq!(gate.ask("refunds.list", now), Asked::Open);
        let search = Part::Operation("issues.search".into());
        let closed = Asked::ClosedUntil(now + SECOND * 2, search);
        assert_eq!(gate.ask("issues.search", now), closed);
        assert_eq!(gate.closed_until(now), None);
    }

    #[test]
    fn ten_thousand_jobs_that_park_do_not_come_back_at_once() {
        let (gate, now) = (Gate::default(), clock::instant());
        gate.close(Part::Provider, SECOND * 10, now);
        let opens = now + SECOND * 10;
        let gap = Duration::from_millis(10);
        let park = |part, opens| gate.park_until(&part, opens, gap, now);
        let due: Vec<Instant> = (0..10_000).map(|_| park(Part::Provider, opens)).collect();
        assert_eq!(due[0], opens);
        assert!(due.windows(2).all(|two| two[1] - two[0] == gap));
        // What waits for something else does not stand behind them.
        let other = Part::Operation("refunds.create".into());
        assert_eq!(park(other, now + SECOND), now + SECOND);
    }

    #[test]
    fn so_many_closed_parts_close_the_whole_and_what_is_over_is_forgotten() {
        let (gate, now) = (Gate::default(), clock::instant());
        let part = |index: usize| Part::Operation(index.to_string().into());
        for index in 0..CLOSED_PARTS_MAX {
            gate.close(part(index), SECOND, now);
        }
        assert_eq!(gate.closed_until(now), None);
        gate.close(part(CLOSED_PARTS_MAX), SECOND, now);
        assert!(gate.closed_until(now).is_some());
        gate.close(part(0), SECOND, now + SECOND * 2);
        assert_eq!(gate.closed().len(), 1);
    }

    #[test]
    fn v10_v11_which_answers_close_and_for_how_long() {
        let otherwise = SECOND;
        let check = |status, is_limited, retry_after, resets_in, expected: Option<u64>| {
            let seconds = |seconds: Option<u64>| seconds.map(Duration::from_secs);
            let (retry_after, resets_in) = (seconds(retry_after), seconds(resets_in));
            let answered = Answered { status, is_limited, retry_after, resets_in, otherwise };
            assert_eq!(answered.closes_for(), seconds(expected), "{answered:?}");
        };
        check(429, true, Some(2), Some(9), Some(2));
        check(429, true, None, Some(9), Some(9));
        check(429, true, None, None, Some(1));
        check(429, true, Some(0), None, None);
        check(429, true, Some(1_000_000_000), None, Some(3_600));
        check(403, true, None, Some(60), Some(60));
        check(200, true, None, None, Some(1));
        check(503, false, Some(5), None, Some(5));
        check(503, false, None, Some(5), None);
        check(202, false, Some(5), None, None);
        check(200, false, None, None, None);
    }

    proptest! {
        #[test]
        fn a_gate_is_open_exactly_when_the_longest_time_is_over(
            closes in prop::collection::vec((0u64..100, 0u64..5_000), 1..20), later in 0u64..10_000,
        ) {
            let (gate, mut now) = (Gate::default(), clock::instant());
            let mut until = now;
            for (step, closed_for) in closes {
                now += Duration::from_millis(step);
                let closed_for = Duration::from_secs(closed_for);
                gate.close(Part::Provider, closed_for, now);
                until = until.max(now + closed_for.min(CLOSED_MAX));
            }
            let asked = now + Duration::from_secs(later);
            prop_assert_eq!(gate.ask("any", asked) == Asked::Open, asked >= until);
        }
    }
}
