//! `rate_limit` of a provider: whose turn is when. Who comes too early gets a slot of its own in time, in the order of asking, and waits for it
//! without holding anything. A slot that is given back in time goes to whoever asks next.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::rate::Pace;
use crate::units::Rate;

/// Slots that wait to be used by somebody else. Those beyond are lost, and the rate is not used up: nothing worse.
const FREED_MAX: usize = 1_024;

/// The rates of one provider, for all workers.
#[derive(Default)]
pub(crate) struct RateLimit(Mutex<State>);

#[derive(Default)]
struct State {
    pace: Pace,
    /// Slots that were given back before their time.
    freed: BTreeSet<Instant>,
}

/// What comes of asking for a turn.
#[derive(Debug)]
pub(crate) enum Taken {
    /// At once. It is used.
    Now,
    /// At the slot's time.
    At(Slot),
    /// Not before this, which is too late; nothing is reserved.
    TooLate(Instant),
}

/// A turn that is yet to come. Dropping it gives it back.
#[must_use = "dropping it gives the turn back"]
pub(crate) struct Slot {
    limit: Arc<RateLimit>,
    at: Instant,
    is_used: bool,
}

impl RateLimit {
    /// A turn within all of the rates, but none after `latest`. Without rates everybody's turn is now.
    pub(crate) fn take(self: &Arc<Self>, rates: &[Rate], now: Instant, latest: Instant) -> Taken {
        let mut state = self.state();
        // What was given back too late is gone: used now it would come too close to what follows.
        state.freed = state.freed.split_off(&now);
        let freed = state.freed.first().copied();
        let at = freed.unwrap_or_else(|| state.pace.earliest(rates, now));
        if at > now && at > latest {
            return Taken::TooLate(at);
        }
        if freed.is_some() {
            state.freed.pop_first();
        } else {
            state.pace.take(rates, at);
        }
        if at <= now {
            return Taken::Now;
        }
        Taken::At(Slot { limit: Arc::clone(self), at, is_used: false })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// When it comes.
    pub(crate) fn at(&self) -> Instant {
        self.at
    }

    /// Its time has come, and the call is made.
    pub(crate) fn used(mut self) {
        self.is_used = true;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.is_used {
            return;
        }
        let mut state = self.limit.state();
        if state.freed.len() < FREED_MAX {
            state.freed.insert(self.at);
        }
    }
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Slot").field(&self.at).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::clock;
    use crate::units::parse_rate;

    const LONG: Duration = Duration::from_secs(3_600);

    fn rates(texts: &[&str]) -> Vec<Rate> {
        texts.iter().map(|text| parse_rate(text).unwrap()).collect()
    }

    fn slot(taken: Taken) -> Slot {
        match taken {
            Taken::At(slot) => slot,
            other => panic!("it waits: {other:?}"),
        }
    }

    #[test]
    fn turns_come_in_the_order_of_asking_and_only_if_they_come_in_time() {
        let (limit, rates, now) =
            (Arc::new(RateLimit::default()), rates(&["1/s"]), clock::instant());
        let take = |latest| limit.take(&rates, now, now + latest);
        assert!(matches!(take(LONG), Taken::Now));
        let (first, second) = (slot(take(LONG)), slot(take(LONG)));
        assert_eq!(
            (first.at() - now, second.at() - now),
            (Duration::from_secs(1), Duration::from_secs(2))
        );
        let Taken::TooLate(at) = take(Duration::from_secs(2)) else { panic!("it is too late") };
        assert_eq!(at - now, Duration::from_secs(3));
        assert_eq!(slot(take(LONG)).at(), at, "who was told so has reserved nothing");
    }

    #[test]
    fn v21_a_turn_that_is_given_back_goes_to_whoever_asks_next() {
        let (limit, rates, now) =
            (Arc::new(RateLimit::default()), rates(&["1/s"]), clock::instant());
        let take = |now: Instant| limit.take(&rates, now, now + LONG);
        assert!(matches!(take(now), Taken::Now));
        let (first, second) = (slot(take(now)), slot(take(now)));
        let at = first.at();
        drop(first);
        let again = slot(take(now));
        assert_eq!(again.at(), at);
        drop(again);
        second.used();
        let late = now + Duration::from_millis(1_500);
        assert_eq!(slot(take(late)).at() - now, Duration::from_secs(3), "its time has gone");
    }

    #[test]
    fn without_a_rate_nobody_waits() {
        let (limit, now) = (Arc::new(RateLimit::default()), clock::instant());
        assert!((0..1_000).all(|_| matches!(limit.take(&[], now, now), Taken::Now)));
    }

    proptest! {
        /// Whoever comes and whoever gives back: what is used is within all rates, over every stretch of time.
        #[test]
        fn calls_are_within_all_rates_whatever_is_given_back(
            counts in prop::collection::vec((1u32..30, 0usize..2), 1..3),
            steps in prop::collection::vec((0u64..200, 0u8..4), 1..150),
        ) {
            let texts = counts.iter().map(|(count, unit)| format!("{count}/{}", ["s", "min"][*unit]));
            let rates: Vec<Rate> = texts.map(|text| parse_rate(&text).unwrap()).collect();
            let limit = Arc::new(RateLimit::default());
            let (mut now, mut used, mut held) = (clock::instant(), Vec::new(), Vec::new());
            for (step, kind) in steps {
                now += Duration::from_millis(step);
                match limit.take(&rates, now, now + Duration::from_secs(3)) {
                    Taken::Now => used.push(now),
                    Taken::At(slot) if kind == 0 => {
                        held.push(slot);
                        drop(held.swap_remove(held.len() / 2));
                    }
                    Taken::At(slot) if kind == 1 => held.push(slot),
                    Taken::At(slot) => {
                        used.push(slot.at());
                        slot.used();
                    }
                    Taken::TooLate(at) => prop_assert!(at > now + Duration::from_secs(3)),
                }
            }
            used.extend(held.iter().map(Slot::at));
            used.sort();
            for rate in &rates {
                for first in 0..used.len() {
                    for last in first..used.len() {
                        let more = (last - first + 1).saturating_sub(rate.count as usize);
                        prop_assert!(used[last] - used[first] >= rate.gap * u32::try_from(more).unwrap());
                    }
                }
            }
        }

        #[test]
        fn nobody_who_comes_later_goes_first(count in 1u32..30, steps in prop::collection::vec(0u64..100, 1..150)) {
            let (limit, rates) = (Arc::new(RateLimit::default()), rates(&[&format!("{count}/s")]));
            let (mut now, mut last) = (clock::instant(), None);
            for step in steps {
                now += Duration::from_millis(step);
                let at = match limit.take(&rates, now, now + LONG) {
                    Taken::Now => now,
                    Taken::At(slot) => {
                        let at = slot.at();
                        slot.used();
                        at
                    }
                    Taken::TooLate(_) => continue,
                };
                prop_assert!(last.is_none_or(|last| last <= at));
                last = Some(at);
            }
        }
    }
}
