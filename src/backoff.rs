//! When to try again: exponential with a cap and full jitter, for the inbox and, later, for provider calls.
//! Full jitter as in AWS's "Exponential Backoff And Jitter": a random wait between nothing and the step.

use std::time::Duration;

/// How often and how patiently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backoff {
    /// Attempts after the first.
    pub(crate) max: u32,
    /// The first step; it doubles each time.
    pub(crate) base: Duration,
    /// No step is longer.
    pub(crate) cap: Duration,
}

/// How a failed job is tried again where nobody says otherwise: about 11 hours in all.
pub(crate) const RETRY: Backoff =
    Backoff { max: 20, base: Duration::from_secs(5), cap: Duration::from_secs(3600) };

impl Backoff {
    /// The longest wait before attempt number `attempt` + 1, after `attempt` attempts have failed (from 1).
    pub(crate) fn step(&self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        self.base.saturating_mul(1 << doublings).min(self.cap)
    }

    /// A wait between half a millisecond and the step, by `chance` in 0..1; `None` when no attempt is left.
    pub(crate) fn wait(&self, attempt: u32, chance: f64) -> Option<Duration> {
        (attempt <= self.max).then(|| self.step(attempt).mul_f64(chance.clamp(0.0, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nobody_says_otherwise_a_job_is_tried_for_about_eleven_hours() {
        let longest: Duration = (1..=RETRY.max).map(|attempt| RETRY.step(attempt)).sum();
        assert_eq!(longest.as_secs() / 3600, 11);
    }

    const INBOX: Backoff =
        Backoff { max: 20, base: Duration::from_secs(5), cap: Duration::from_secs(3600) };

    #[test]
    fn steps_double_up_to_the_cap() {
        let steps: Vec<u64> = (1..=12).map(|attempt| INBOX.step(attempt).as_secs()).collect();
        assert_eq!(steps, [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]);
        assert_eq!(INBOX.step(u32::MAX).as_secs(), 3600);
    }

    #[test]
    fn the_last_attempt_has_no_successor() {
        assert!(INBOX.wait(20, 0.5).is_some());
        assert!(INBOX.wait(21, 0.5).is_none());
    }

    #[test]
    fn jitter_covers_the_whole_step() {
        assert_eq!(INBOX.wait(1, 0.0), Some(Duration::ZERO));
        assert_eq!(INBOX.wait(1, 1.0), Some(Duration::from_secs(5)));
    }
}
