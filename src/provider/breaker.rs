//! The breaker of a provider: after too many calls that failed, none goes out for a while; then one at a time tries whether it works again (half-open).
//! Closed, it counts the calls of the last minute. Open, it stays so for `open_for`, and twice as long each time that the trial fails, up to five
//! minutes. Half-open, two calls that went well in a row close it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::outcome::Verdict;
use super::window::Window;
use crate::config::BreakerSettings;

/// What counts is a minute: long enough for `min_calls` of a quiet provider, short enough to be about now.
const SLICE: Duration = Duration::from_secs(5);
const SLICES: usize = 12;
/// Doubling stops here, or at `open_for` where that is longer: a provider that is back is found out within five minutes.
const OPEN_MAX: Duration = Duration::from_secs(300);
/// One call that went well may be luck.
const CLOSES_AFTER: u32 = 2;
/// A trial that has not ended by then no longer keeps the next one waiting.
const TRIAL_MAX: Duration = Duration::from_secs(60);
/// While a trial is under way, whoever else comes is to look again after this: most trials have ended by then.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The breaker of one provider, for all workers.
#[derive(Default)]
pub(crate) struct Breaker(Mutex<State>);

#[derive(Default)]
struct State {
    phase: Phase,
    /// Counts changes of the phase, so that a call of before one says nothing after it.
    era: u64,
}

enum Phase {
    Closed(Calls),
    Open {
        until: Instant,
        /// How long it was open this time.
        open_for: Duration,
    },
    HalfOpen {
        /// Of the time before, to be doubled.
        open_for: Duration,
        successes: u32,
        /// Since when a trial is under way, and which.
        trial: Option<(Instant, u64)>,
        trials: u64,
    },
}

/// Calls of the last minute.
struct Calls(Window<Slice, SLICES>);

#[derive(Clone, Copy, Default)]
struct Slice {
    good: u32,
    bad: u32,
}

/// The three words for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    /// Calls go out.
    Closed,
    /// None does.
    Open,
    /// One at a time does.
    HalfOpen,
}

impl Position {
    /// As `health()` and metrics spell it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// What comes of asking for a call.
pub(crate) enum Asked {
    /// It may go out, and says here how it ended.
    Pass(Pass),
    /// Not before this.
    OpenUntil(Instant),
}

/// Leave for one call. Dropped without a word (the run was cancelled), it counts for nothing and makes way for the next trial.
#[must_use = "the breaker learns from how the call ends"]
pub(crate) struct Pass {
    breaker: Arc<Breaker>,
    era: u64,
    /// Which trial it is, where it is one.
    trial: Option<u64>,
}

impl Breaker {
    /// Leave for one call, all its tries included.
    pub(crate) fn ask(self: &Arc<Self>, now: Instant) -> Asked {
        let mut state = self.state();
        if let Phase::Open { until, open_for } = state.phase {
            if until > now {
                return Asked::OpenUntil(until);
            }
            state.enter(Phase::HalfOpen { open_for, successes: 0, trial: None, trials: 0 });
        }
        let era = state.era;
        let trial = match &mut state.phase {
            Phase::HalfOpen { trial, trials, .. } => {
                if let Some((since, _)) = *trial
                    && now.saturating_duration_since(since) < TRIAL_MAX
                {
                    return Asked::OpenUntil((since + TRIAL_MAX).min(now + LOOK_AGAIN));
                }
                *trials += 1;
                *trial = Some((now, *trials));
                Some(*trials)
            }
            Phase::Closed(_) | Phase::Open { .. } => None,
        };
        drop(state);
        Asked::Pass(Pass { breaker: Arc::clone(self), era, trial })
    }

    /// Where it stands. One whose time is over is half-open, although nobody has come yet.
    pub(crate) fn position(&self, now: Instant) -> Position {
        match self.state().phase {
            Phase::Closed(_) => Position::Closed,
            Phase::Open { until, .. } if until > now => Position::Open,
            Phase::Open { .. } | Phase::HalfOpen { .. } => Position::HalfOpen,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass {
    /// The call has ended. Says whether it opened the breaker.
    pub(crate) fn ended(
        mut self,
        verdict: Verdict,
        settings: &BreakerSettings,
        now: Instant,
    ) -> bool {
        let trial = self.trial.take();
        let mut state = self.breaker.state();
        if state.era != self.era {
            return false;
        }
        match &mut state.phase {
            Phase::Closed(window) => {
                window.count(verdict, now);
                if !window.is_past(settings) {
                    return false;
                }
                let open_for = settings.open_for;
                state.enter(Phase::Open { until: now + open_for, open_for });
                true
            }
            Phase::HalfOpen { open_for, .. } if verdict == Verdict::Bad => {
                let longest = OPEN_MAX.max(settings.open_for);
                let open_for = (*open_for * 2).clamp(settings.open_for, longest);
                state.enter(Phase::Open { until: now + open_for, open_for });
                true
            }
            Phase::HalfOpen { successes, trial: under_way, .. } => {
                // Whatever it says of the request, the provider has answered.
                *successes += 1;
                if under_way.is_some_and(|(_, number)| Some(number) == trial) {
                    *under_way = None;
                }
                if *successes >= CLOSES_AFTER {
                    state.enter(Phase::Closed(Calls::new()));
                }
                false
            }
            Phase::Open { .. } => false,
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let Some(number) = self.trial.take() else { return };
        let mut state = self.breaker.state();
        if state.era == self.era
            && let Phase::HalfOpen { trial, .. } = &mut state.phase
            && trial.is_some_and(|(_, under_way)| under_way == number)
        {
            *trial = None;
        }
    }
}

impl State {
    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.era += 1;
    }
}

impl Default for Phase {
    fn default() -> Self {
        Self::Closed(Calls::new())
    }
}

impl Calls {
    fn new() -> Self {
        Self(Window::new(SLICE))
    }

    fn count(&mut self, verdict: Verdict, now: Instant) {
        self.0.advance(now);
        let slice = self.0.newest();
        match verdict {
            Verdict::Good => slice.good = slice.good.saturating_add(1),
            Verdict::Bad => slice.bad = slice.bad.saturating_add(1),
            Verdict::Neither => {}
        }
    }

    fn is_past(&self, settings: &BreakerSettings) -> bool {
        let sum =
            |of: fn(&Slice) -> u32| self.0.lately(SLICES).map(|slice| u64::from(of(slice))).sum();
        let (good, bad): (u64, u64) = (sum(|slice| slice.good), sum(|slice| slice.bad));
        let all = good + bad;
        // A share of counts far below 2^52: exact enough as floats.
        bad > 0
            && all >= u64::from(settings.min_calls)
            && bad as f64 >= settings.failure_rate * all as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock;

    const SECOND: Duration = Duration::from_secs(1);
    const SETTINGS: BreakerSettings =
        BreakerSettings { failure_rate: 0.5, min_calls: 4, open_for: Duration::from_secs(30) };

    fn pass(breaker: &Arc<Breaker>, now: Instant) -> Pass {
        match breaker.ask(now) {
            Asked::Pass(pass) => pass,
            Asked::OpenUntil(_) => panic!("it lets calls through"),
        }
    }

    fn until(breaker: &Arc<Breaker>, now: Instant) -> Instant {
        match breaker.ask(now) {
            Asked::OpenUntil(until) => until,
            Asked::Pass(_) => panic!("it lets none through"),
        }
    }

    fn call(breaker: &Arc<Breaker>, verdict: Verdict, now: Instant) -> bool {
        pass(breaker, now).ended(verdict, &SETTINGS, now)
    }

    /// One that has just opened.
    fn opened(now: Instant) -> Arc<Breaker> {
        let breaker = Arc::new(Breaker::default());
        let opened: Vec<bool> = (0..4).map(|_| call(&breaker, Verdict::Bad, now)).collect();
        assert_eq!(opened, [false, false, false, true]);
        breaker
    }

    #[test]
    fn v18_it_opens_after_as_many_calls_and_lets_one_through_when_its_time_is_over() {
        let now = clock::instant();
        let breaker = opened(now);
        assert_eq!(breaker.position(now), Position::Open);
        assert_eq!(until(&breaker, now) - now, SETTINGS.open_for);
        let later = now + SETTINGS.open_for;
        assert_eq!(breaker.position(later), Position::HalfOpen);
        let trial = pass(&breaker, later);
        assert_eq!(until(&breaker, later), later + LOOK_AGAIN, "one at a time");
        assert!(!trial.ended(Verdict::Good, &SETTINGS, later));
        assert_eq!(breaker.position(later).word(), "half_open");
        assert!(!call(&breaker, Verdict::Good, later));
        assert_eq!(breaker.position(later).word(), "closed");
        assert!(!call(&breaker, Verdict::Bad, later), "what was before is forgotten");
    }

    #[test]
    fn v18_a_trial_that_fails_opens_it_for_twice_as_long_up_to_five_minutes() {
        let mut now = clock::instant();
        let breaker = opened(now);
        for seconds in [30, 60, 120, 240, 300, 300] {
            let until = until(&breaker, now);
            assert_eq!(until - now, SECOND * seconds);
            now = until;
            assert!(call(&breaker, Verdict::Bad, now));
        }
    }

    #[test]
    fn v21_a_trial_that_is_cancelled_or_never_ends_makes_way() {
        let breaker = opened(clock::instant());
        let now = clock::instant() + SECOND * 31;
        drop(pass(&breaker, now));
        let silent = pass(&breaker, now);
        let almost = now + TRIAL_MAX - SECOND / 2;
        let later = until(&breaker, almost);
        assert_eq!(later, now + TRIAL_MAX);
        let next = pass(&breaker, later);
        drop(silent);
        assert!(matches!(breaker.ask(later), Asked::OpenUntil(_)), "the next is under way");
        drop(next);
        drop(pass(&breaker, later));
    }

    #[test]
    fn what_a_call_of_before_says_does_not_count_afterwards() {
        let now = clock::instant();
        let breaker = Arc::new(Breaker::default());
        let slow = pass(&breaker, now);
        for _ in 0..4 {
            call(&breaker, Verdict::Bad, now);
        }
        let later = now + SETTINGS.open_for;
        let trial = pass(&breaker, later);
        assert!(!slow.ended(Verdict::Bad, &SETTINGS, later));
        assert_eq!(breaker.position(later), Position::HalfOpen);
        drop(trial);
    }

    #[test]
    fn rule_16_what_the_request_is_to_blame_for_opens_nothing_and_ends_a_trial_well() {
        let now = clock::instant();
        let breaker = Arc::new(Breaker::default());
        for _ in 0..100 {
            assert!(!call(&breaker, Verdict::Neither, now));
        }
        let breaker = opened(now);
        let later = now + SETTINGS.open_for;
        call(&breaker, Verdict::Neither, later);
        call(&breaker, Verdict::Neither, later);
        assert_eq!(breaker.position(later), Position::Closed);
    }

    #[test]
    fn what_is_older_than_a_minute_is_forgotten() {
        let mut now = clock::instant();
        let breaker = Arc::new(Breaker::default());
        for _ in 0..100 {
            assert!(!call(&breaker, Verdict::Bad, now));
            now += SECOND * 21;
        }
        now += SECOND * 1_000_000;
        assert!(!call(&breaker, Verdict::Bad, now));
    }

    #[test]
    fn v19_it_is_one_breaker_for_all_workers() {
        let now = clock::instant();
        let breaker = Arc::new(Breaker::default());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| call(&breaker, Verdict::Bad, now));
            }
        });
        assert_eq!(breaker.position(now), Position::Open);
        let later = now + SETTINGS.open_for;
        let through = std::thread::scope(|scope| {
            let ask = || match breaker.ask(later) {
                Asked::Pass(pass) => Some(pass),
                Asked::OpenUntil(_) => None,
            };
            let asking: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            let passes: Vec<_> =
                asking.into_iter().filter_map(|asked| asked.join().unwrap()).collect();
            passes.len()
        });
        assert_eq!(through, 1);
    }

    proptest! {
        /// Whatever happens: half-open has one trial at a time, and after a pause and two good calls it is closed.
        #[test]
        fn it_never_gets_stuck(steps in prop::collection::vec((0u8..5, 0u64..40_000), 0..200)) {
            let breaker = Arc::new(Breaker::default());
            let (mut now, mut held) = (clock::instant(), Vec::new());
            for (kind, pause) in steps {
                now += Duration::from_millis(pause);
                match (kind, breaker.ask(now)) {
                    (_, Asked::OpenUntil(until)) => prop_assert!(until > now && until <= now + OPEN_MAX),
                    (0, Asked::Pass(pass)) => held.push(pass),
                    (1, Asked::Pass(_)) => held.clear(),
                    (2, Asked::Pass(pass)) => _ = pass.ended(Verdict::Good, &SETTINGS, now),
                    (_, Asked::Pass(pass)) => _ = pass.ended(Verdict::Bad, &SETTINGS, now),
                }
            }
            drop(held);
            now += OPEN_MAX;
            for _ in 0..CLOSES_AFTER {
                call(&breaker, Verdict::Good, now);
            }
            prop_assert_eq!(breaker.position(now), Position::Closed);
        }

        #[test]
        fn it_opens_exactly_when_enough_calls_of_a_minute_failed(
            verdicts in prop::collection::vec(any::<bool>(), 1..60), min_calls in 1u32..30, failure_rate in 0.05f64..=1.0,
        ) {
            let settings = BreakerSettings { failure_rate, min_calls, open_for: SECOND };
            let (breaker, now) = (Arc::new(Breaker::default()), clock::instant());
            let (mut all, mut bad) = (0u32, 0u32);
            for is_good in verdicts {
                let verdict = if is_good { Verdict::Good } else { Verdict::Bad };
                all += 1;
                bad += u32::from(!is_good);
                let opens = bad > 0 && all >= min_calls && f64::from(bad) >= failure_rate * f64::from(all);
                prop_assert_eq!(pass(&breaker, now).ended(verdict, &settings, now), opens);
                if opens {
                    break;
                }
            }
        }
    }
}
