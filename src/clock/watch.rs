//! Notices when clocks have not gone on as usual: the wall clock was set, the machine was suspended, or a test has moved them. Whoever
//! sleeps until a time waits on this too, and looks again. A sleep of the runtime knows nothing of either.

use std::time::{Duration, Instant};

use super::{Shift, instant, now, poll, shift, steady};

/// What is noticed: less is drift, and no wait is so exact.
const NOTICED_MS: u64 = 1_000;
/// How often it looks where nobody tests.
const POLL: Duration = Duration::from_secs(1);

/// One for each who waits, and kept between waits: what happens while nobody waits ends the next wait at once.
pub(crate) struct Watch {
    begin: Instant,
    seen: Reading,
}

/// How the clocks stand to each other.
#[derive(Clone, Copy)]
struct Reading {
    /// Milliseconds that the wall clock is ahead of the steady one. Setting it changes this.
    set: i64,
    /// And the steady one of what was measured since the beginning. A sleep of the machine changes this.
    slept: i64,
    shift: Shift,
}

impl Watch {
    /// Clocks as they stand now are how they should be.
    pub(crate) fn new() -> Self {
        let begin = instant();
        Self { begin, seen: Reading::at(begin) }
    }

    /// When the clocks stand otherwise than at the last time that this told so. Dropping it early loses nothing.
    pub(crate) async fn moved(&mut self) {
        loop {
            let reading = Reading::at(self.begin);
            if reading.differs(self.seen) {
                self.seen = reading;
                return;
            }
            tokio::time::sleep(poll().unwrap_or(POLL)).await;
        }
    }
}

impl Reading {
    fn at(begin: Instant) -> Self {
        let shift = shift();
        let (now, steady) = (now().0, steady().0);
        let passed = instant().saturating_duration_since(begin).as_millis();
        let passed = i64::try_from(passed).unwrap_or(i64::MAX);
        Self { set: now.saturating_sub(steady), slept: steady.saturating_sub(passed), shift }
    }

    fn differs(self, other: Self) -> bool {
        self.set.abs_diff(other.set) > NOTICED_MS
            || self.slept.abs_diff(other.slept) > NOTICED_MS
            || self.shift != other.shift
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o17_a_clock_that_was_set_and_a_machine_that_slept_are_noticed_and_drift_is_not() {
        let seen = Reading { set: 5, slept: 1_000_000, shift: Shift::default() };
        let check = |reading: Reading, expected: bool| assert_eq!(reading.differs(seen), expected);
        check(seen, false);
        check(Reading { set: 905, ..seen }, false);
        check(Reading { set: 1_006, ..seen }, true);
        check(Reading { set: -996, ..seen }, true);
        check(Reading { slept: 1_000_900, ..seen }, false);
        check(Reading { slept: 1_001_001, ..seen }, true);
        check(Reading { shift: Shift { elapsed: 1, jump: 0 }, ..seen }, true);
    }

    #[test]
    fn the_steady_clock_starts_with_the_wall_clock_and_goes_on_with_it() {
        let ahead = now().0.abs_diff(steady().0);
        assert!(ahead < 60_000, "{ahead}");
        let (before, start) = (steady(), instant());
        while instant() - start < Duration::from_millis(20) {}
        let passed = before.until(steady());
        assert!(passed >= Duration::from_millis(19), "{passed:?}");
    }
}
