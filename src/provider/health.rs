//! How a provider has been lately: success rate, latency, its last error, over the last minute and the last five. And the one rule by which `is_healthy()`
//! says yes or no.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::breaker::Position;
use super::outcome::Verdict;
use super::window::Window;
use crate::clock::Millis;
use crate::histogram::Histogram;

/// Five minutes in slices.
const SLICE: Duration = Duration::from_secs(10);
const SLICES: usize = 30;
/// The slices of a minute.
const MINUTE: usize = 6;
/// Fewer calls in a minute say nothing of the provider.
const CALLS_MIN: u64 = 5;
/// A provider that fails more often than not is not healthy.
const SUCCESS_RATE_MIN: f64 = 0.5;
/// A gate that stays closed for longer is no matter of waiting a moment.
const CLOSED_MIN: Duration = Duration::from_secs(60);

/// The health of one provider, for all workers.
#[derive(Default)]
pub(crate) struct Health(Mutex<State>);

struct State {
    window: Window<Slice, SLICES>,
    last_error: Option<LastError>,
}

impl Default for State {
    fn default() -> Self {
        Self { window: Window::new(SLICE), last_error: None }
    }
}

#[derive(Clone, Default)]
struct Slice {
    good: u64,
    bad: u64,
    /// Made with the first call: a slice without calls costs nothing.
    latency: Option<Box<Histogram>>,
}

/// The last call that spoke against the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LastError {
    /// `TIMEOUT`, `SERVICE_UNAVAILABLE`, …
    pub(crate) code: &'static str,
    /// When it ended.
    pub(crate) at: Millis,
}

/// A stretch of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Lately {
    /// Calls that went well or spoke against the provider. Those about which only the request is to blame are not among them.
    pub(crate) calls: u64,
    /// In 0..=1; `None` without such calls.
    pub(crate) success_rate: Option<f64>,
    /// Of all calls that were answered, whatever the answer was.
    pub(crate) latency_mean: Option<Duration>,
    /// What 95 in 100 are not above.
    pub(crate) latency_p95: Option<Duration>,
}

/// All that is known.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Report {
    /// The last minute.
    pub(crate) minute: Lately,
    /// The last five.
    pub(crate) five_minutes: Lately,
    /// Whenever it was.
    pub(crate) last_error: Option<LastError>,
}

/// A call as health sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    /// What its last try says.
    pub(crate) verdict: Verdict,
    /// From the first try's start to the last one's end; `None` where nothing was answered.
    pub(crate) latency: Option<Duration>,
    /// What the script hears, where it failed.
    pub(crate) code: Option<&'static str>,
}

impl Health {
    /// A call has ended, at these times of both clocks.
    pub(crate) fn record(&self, call: &Ended, now: Instant, at: Millis) {
        let mut state = self.state();
        state.window.advance(now);
        if let (Verdict::Bad, Some(code)) = (call.verdict, call.code) {
            state.last_error = Some(LastError { code, at });
        }
        let slice = state.window.newest();
        match call.verdict {
            Verdict::Good => slice.good += 1,
            Verdict::Bad => slice.bad += 1,
            Verdict::Neither => {}
        }
        if let Some(latency) = call.latency {
            slice.latency.get_or_insert_default().add(latency);
        }
    }

    /// What is known now.
    pub(crate) fn report(&self, now: Instant) -> Report {
        let mut state = self.state();
        state.window.advance(now);
        Report {
            minute: state.lately(MINUTE),
            five_minutes: state.lately(SLICES),
            last_error: state.last_error.clone(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Report {
    /// What `is_healthy()` says: the breaker is not open, the gate does not stay closed for more than a minute, and where there were five calls in the
    /// last minute, half of them went well. A provider that nobody has called is healthy.
    pub(crate) fn is_healthy(&self, breaker: Position, closed_for: Option<Duration>) -> bool {
        let fails = self.minute.calls >= CALLS_MIN
            && self.minute.success_rate.is_some_and(|rate| rate < SUCCESS_RATE_MIN);
        breaker != Position::Open
            && closed_for.is_none_or(|closed_for| closed_for <= CLOSED_MIN)
            && !fails
    }
}

impl State {
    /// The newest slices, as many as that.
    fn lately(&self, slices: usize) -> Lately {
        let (mut good, mut calls, mut latency) = (0, 0, Histogram::default());
        for slice in self.window.lately(slices) {
            good += slice.good;
            calls += slice.good + slice.bad;
            if let Some(more) = &slice.latency {
                latency.merge(more);
            }
        }
        Lately {
            calls,
            // Both are far below 2^52.
            success_rate: (calls > 0).then(|| good as f64 / calls as f64),
            latency_mean: latency.mean(),
            latency_p95: latency.percentile(95),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock;

    const AT: Millis = Millis(1);

    fn ended(verdict: Verdict) -> Ended {
        let code = (verdict == Verdict::Bad).then_some("TIMEOUT");
        Ended { verdict, latency: Some(Duration::from_millis(100)), code }
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_minute_and_five_are_told_apart_and_what_is_older_is_forgotten() {
        let (health, start) = (Health::default(), clock::instant());
        let calls = |now| {
            let report = health.report(now);
            (report.minute.calls, report.five_minutes.calls)
        };
        health.record(&ended(Verdict::Bad), start, AT);
        assert_eq!(calls(start), (1, 1));
        health.record(&ended(Verdict::Good), after(start, 70), Millis(2));
        assert_eq!(calls(after(start, 70)), (1, 2));
        let report = health.report(after(start, 70));
        assert_eq!(
            (report.minute.success_rate, report.five_minutes.success_rate),
            (Some(1.0), Some(0.5))
        );
        assert_eq!(report.minute.latency_mean, Some(Duration::from_millis(100)));
        assert_eq!(calls(after(start, 310)), (0, 1));
        assert_eq!(calls(after(start, 10_000_000)), (0, 0));
        let report = health.report(after(start, 10_000_000));
        assert_eq!(report.last_error, Some(LastError { code: "TIMEOUT", at: AT }));
        assert_eq!(report.minute.latency_p95, None);
    }

    #[test]
    fn rule_16_what_the_request_is_to_blame_for_changes_no_rate() {
        let (health, start) = (Health::default(), clock::instant());
        for _ in 0..100 {
            health.record(&ended(Verdict::Neither), start, AT);
        }
        let report = health.report(start);
        assert_eq!((report.minute.calls, report.minute.success_rate), (0, None));
        assert!(report.minute.latency_p95.is_some() && report.last_error.is_none());
    }

    #[test]
    fn a_provider_is_healthy_unless_something_speaks_against_it() {
        let (health, start) = (Health::default(), clock::instant());
        let is_healthy = |breaker, closed_for: Option<u64>| {
            health.report(start).is_healthy(breaker, closed_for.map(Duration::from_secs))
        };
        assert!(is_healthy(Position::Closed, None), "nobody has called it");
        assert!(is_healthy(Position::HalfOpen, Some(60)));
        assert!(!is_healthy(Position::Open, None));
        assert!(!is_healthy(Position::Closed, Some(61)));
        for _ in 0..4 {
            health.record(&ended(Verdict::Bad), start, AT);
        }
        assert!(is_healthy(Position::Closed, None), "too few to say");
        health.record(&ended(Verdict::Bad), start, AT);
        assert!(!is_healthy(Position::Closed, None));
        for _ in 0..5 {
            health.record(&ended(Verdict::Good), start, AT);
        }
        assert!(is_healthy(Position::Closed, None), "half of them went well");
    }

    proptest! {
        #[test]
        fn every_call_of_the_last_minute_is_counted_and_none_that_is_a_slice_older(
            steps in prop::collection::vec((0u64..30_000, any::<bool>()), 1..100),
        ) {
            let (health, mut now) = (Health::default(), clock::instant());
            let mut calls = Vec::new();
            for (step, is_good) in steps {
                now += Duration::from_millis(step);
                health.record(&ended(if is_good { Verdict::Good } else { Verdict::Bad }), now, AT);
                calls.push(now);
                let within = |age: Duration| calls.iter().filter(|call| now - **call < age).count() as u64;
                let minute = health.report(now).minute.calls;
                prop_assert!(minute >= within(SLICE * 5) && minute <= within(SLICE * 6));
            }
        }
    }
}
