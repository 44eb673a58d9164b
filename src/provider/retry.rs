//! What to do after a try that failed: try again, and when, or give up. Only calls that are safe to repeat are tried again, `retry.max` times at most,
//! after 1 s, 2 s, 4 s with full jitter or when the provider says, and never beyond the time that the call has.

use std::time::Duration;

use super::gate::CLOSED_MAX;
use super::outcome::Outcome;
use crate::backoff::Backoff;

/// A try that has failed, and what its call may still do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed {
    /// Tries so far, this one included: from 1.
    pub(crate) tries: u32,
    /// How this one ended.
    pub(crate) outcome: Outcome,
    /// Whether the call may be made twice: its verb or its operation says so, or it carries an idempotency key.
    pub(crate) is_repeatable: bool,
    /// What the provider said of coming again.
    pub(crate) retry_after: Option<Duration>,
    /// Until the call's or the run's deadline, whichever is first.
    pub(crate) left: Duration,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Try again after this.
    Again(Duration),
    /// Tell the script, which may be told when another call makes sense.
    GiveUp {
        /// As the provider said, up to an hour.
        retry_after: Option<Duration>,
    },
}

impl Failed {
    /// Decides. `chance` is a number in 0..1.
    pub(crate) fn next(&self, retry: &Backoff, chance: f64) -> Next {
        let retry_after = self.retry_after.map(|wait| wait.min(CLOSED_MAX));
        let give_up = Next::GiveUp { retry_after };
        if !self.is_repeatable || !self.outcome.may_pass() {
            return give_up;
        }
        let Some(backoff) = retry.wait(self.tries, chance) else { return give_up };
        // What the provider said is kept to as it is said: its own limit is behind it. Where others wait for the same moment, their rate keeps them apart.
        let wait = self.retry_after.unwrap_or(backoff);
        // A wait that uses up all there is leaves no time for the try itself.
        if wait >= self.left { give_up } else { Next::Again(wait) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RETRY: Backoff =
        Backoff { max: 3, base: Duration::from_secs(1), cap: Duration::from_secs(60) };
    const SECOND: Duration = Duration::from_secs(1);

    fn failed() -> Failed {
        Failed {
            tries: 1,
            outcome: Outcome::Answered(503),
            is_repeatable: true,
            retry_after: None,
            left: SECOND * 60,
        }
    }

    const GIVEN_UP: Next = Next::GiveUp { retry_after: None };

    #[test]
    fn waits_double_and_end_after_as_many_retries_as_config_says() {
        let longest = |tries| Failed { tries, ..failed() }.next(&RETRY, 1.0);
        for (tries, seconds) in [(1, 1), (2, 2), (3, 4)] {
            assert_eq!(longest(tries), Next::Again(SECOND * seconds));
        }
        assert_eq!(longest(4), GIVEN_UP);
        assert_eq!(failed().next(&RETRY, 0.0), Next::Again(Duration::ZERO));
        assert_eq!(failed().next(&Backoff { max: 0, ..RETRY }, 0.5), GIVEN_UP);
    }

    #[test]
    fn v10_what_the_provider_says_wins_while_there_is_time_for_it() {
        let said =
            |wait: Duration| Failed { retry_after: Some(wait), ..failed() }.next(&RETRY, 1.0);
        assert_eq!(said(SECOND * 2), Next::Again(SECOND * 2));
        assert_eq!(said(Duration::ZERO), Next::Again(Duration::ZERO));
        let thrown = |wait| Next::GiveUp { retry_after: Some(wait) };
        assert_eq!(said(SECOND * 60), thrown(SECOND * 60));
        assert_eq!(said(SECOND * 1_000_000_000), thrown(CLOSED_MAX));
    }

    #[test]
    fn v1_v12_only_what_may_pass_and_may_be_repeated_is_tried_again() {
        let next = |outcome, is_repeatable| {
            let next = Failed { outcome, is_repeatable, ..failed() }.next(&RETRY, 0.5);
            matches!(next, Next::Again(_))
        };
        for outcome in [Outcome::NotConnected, Outcome::Broken, Outcome::Answered(429)] {
            assert!(next(outcome, true), "{outcome:?}");
            assert!(!next(outcome, false), "{outcome:?}");
        }
        for outcome in [Outcome::TimedOut, Outcome::Answered(401), Outcome::Answered(403)] {
            assert!(!next(outcome, true), "{outcome:?}");
        }
    }

    proptest! {
        #[test]
        fn a_call_is_never_tried_beyond_its_time_nor_more_often_than_allowed(
            max in 0u32..10, left in 0u64..100_000, said in prop::option::of(0u64..100_000), chance in 0.0f64..=1.0,
        ) {
            let retry = Backoff { max, ..RETRY };
            let mut left = Duration::from_millis(left);
            let retry_after = said.map(Duration::from_millis);
            for tries in 1.. {
                match (Failed { tries, left, retry_after, ..failed() }).next(&retry, chance) {
                    Next::GiveUp { .. } => break,
                    Next::Again(wait) => {
                        prop_assert!(wait < left && tries <= max);
                        prop_assert!(retry_after.is_none_or(|said| wait == said));
                        left -= wait;
                    }
                }
            }
        }
    }
}
