//! How often something may happen: GCRA, which is a token bucket that needs one moment instead of a count and a timer (ITU-T I.371, "generic cell
//! rate algorithm"). Several rates may hold at once; what happens must be within all of them. A rate of 100 in a minute lets 100 come at once after
//! a rest, and from then on one each 0.6 s. Time is given to it; it never waits.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hash};
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::units::Rate;

/// Rates that hold at once for one thing. A second, a minute, an hour and a day is all that anybody asks for.
pub(crate) const RATES_MAX: usize = 4;
/// Callers that one limiter remembers, at most; each takes some 100 bytes.
const KEYS_MAX: usize = 65_536;
/// So that workers seldom meet at one lock, which is held for the look into a map or two.
const SHARDS: usize = 16;
/// Each shard has two maps, an older and a younger one.
const KEYS_OF_MAP_MAX: usize = KEYS_MAX / SHARDS / 2;

/// How far one thing is along its rates: for each of them the moment at which it would be at rest again. Nothing at all: it is at rest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pace(Box<[Instant]>);

impl Pace {
    /// From when on it may happen once more: `now`, or later.
    pub(crate) fn earliest(&self, rates: &[Rate], now: Instant) -> Instant {
        let opens = |(rate, rested): (&Rate, &Instant)| {
            rested.checked_sub(rate.gap * (rate.count - 1)).unwrap_or(now)
        };
        rates.iter().zip(&self.0).map(opens).fold(now, Instant::max)
    }

    /// It happens at `at`, which `earliest` has given.
    pub(crate) fn take(&mut self, rates: &[Rate], at: Instant) {
        // Other rates than before: they begin anew.
        if self.0.len() != rates.len() {
            self.0 = rates.iter().map(|_| at).collect();
        }
        for (rested, rate) in self.0.iter_mut().zip(rates) {
            *rested = (*rested).max(at) + rate.gap;
        }
    }
}

/// The same rates for each of many, told apart by a key. Who is at rest costs nothing. At the bound those are let go who were not heard of for
/// longest, and begin anew.
pub(crate) struct Keyed<K> {
    rates: Arc<[Rate]>,
    /// After so long without being asked everybody is at rest.
    rests: Duration,
    shards: [Mutex<Shard<K>>; SHARDS],
    hasher: RandomState,
}

/// Whoever is asked for goes into the younger map; the older one is dropped as a whole.
struct Shard<K> {
    young: HashMap<K, Pace>,
    old: HashMap<K, Pace>,
    /// Since when the younger map is filled.
    since: Option<Instant>,
}

impl<K: Hash + Eq> Keyed<K> {
    /// For these rates; without any, everything is admitted.
    pub(crate) fn new(rates: Arc<[Rate]>) -> Self {
        let rests = rates.iter().map(|rate| rate.gap * rate.count).max().unwrap_or_default();
        let shard =
            || Mutex::new(Shard { young: HashMap::new(), old: HashMap::new(), since: None });
        Self { rates, rests, shards: std::array::from_fn(|_| shard()), hasher: RandomState::new() }
    }

    /// What it was made for.
    pub(crate) fn rates(&self) -> &[Rate] {
        &self.rates
    }

    /// Counts one for the key, or says when one would be within the rates. Who is refused is not counted.
    pub(crate) fn admit(&self, key: K, now: Instant) -> Result<(), Instant> {
        let shard = self.hasher.hash_one(&key) % (SHARDS as u64);
        let shard = &self.shards[usize::try_from(shard).unwrap_or(0)];
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        shard.turn(now, self.rests);
        let mut pace = shard.take(&key).unwrap_or_default();
        let at = pace.earliest(&self.rates, now);
        if at <= now {
            pace.take(&self.rates, now);
        }
        shard.young.insert(key, pace);
        if at <= now { Ok(()) } else { Err(at) }
    }

    /// Whether everybody is at rest, so that nothing is lost with it.
    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        self.shards.iter().all(|shard| {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.turn(now, self.rests);
            shard.young.is_empty() && shard.old.is_empty()
        })
    }
}

impl<K: Hash + Eq> Shard<K> {
    /// Makes the younger map the older one where it is time, or where it is full. Who stays in the older one for a whole rest is at rest.
    fn turn(&mut self, now: Instant, rests: Duration) {
        let since = *self.since.get_or_insert(now);
        let age = now.saturating_duration_since(since);
        if age <= rests && self.young.len() < KEYS_OF_MAP_MAX {
            return;
        }
        self.old = mem::take(&mut self.young);
        if age > rests * 2 {
            self.old.clear();
        }
        self.since = Some(now);
    }

    fn take(&mut self, key: &K) -> Option<Pace> {
        self.young.remove(key).or_else(|| self.old.remove(key))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock;
    use crate::units::parse_rate;

    fn rates(texts: &[&str]) -> Arc<[Rate]> {
        texts.iter().map(|text| parse_rate(text).unwrap()).collect()
    }

    #[test]
    fn as_many_as_the_rate_says_come_at_once_and_then_one_after_the_other() {
        let rates = rates(&["3/s"]);
        let (start, mut pace) = (clock::instant(), Pace::default());
        for _ in 0..3 {
            assert_eq!(pace.earliest(&rates, start), start);
            pace.take(&rates, start);
        }
        let next = pace.earliest(&rates, start);
        assert_eq!(next - start, rates[0].gap);
        pace.take(&rates, next);
        assert_eq!(pace.earliest(&rates, start) - start, rates[0].gap * 2);
        let rested = start + Duration::from_secs(5);
        assert_eq!(pace.earliest(&rates, rested), rested);
    }

    #[test]
    fn who_is_refused_is_told_when_and_others_are_not_touched() {
        let keyed = Keyed::new(rates(&["2/s"]));
        let start = clock::instant();
        assert!(keyed.admit("a", start).is_ok() && keyed.admit("a", start).is_ok());
        let at = keyed.admit("a", start).unwrap_err();
        assert_eq!(at - start, Duration::from_millis(500));
        assert_eq!(keyed.admit("a", start), Err(at), "a refusal counts nothing");
        assert!(keyed.admit("b", start).is_ok());
        assert!(keyed.admit("a", at).is_ok());
    }

    #[test]
    fn keys_that_rest_cost_nothing_and_those_that_do_not_are_remembered() {
        let keyed = Keyed::new(rates(&["1/min"]));
        let start = clock::instant();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(keyed.admit("a", start).is_ok());
        for seconds in 1..60 {
            assert!(keyed.admit("a", after(seconds)).is_err(), "{seconds}");
            assert!(!keyed.is_idle(after(seconds)));
        }
        assert!(keyed.admit("a", after(60)).is_ok());
        assert!(keyed.is_idle(after(300)));
    }

    #[test]
    fn the_number_of_keys_is_bounded_and_who_comes_often_is_kept() {
        let keyed = Keyed::new(rates(&["1/d"]));
        let start = clock::instant();
        assert!(keyed.admit(u32::MAX, start).is_ok());
        for key in 0..300_000 {
            assert!(keyed.admit(key, start).is_ok());
            if key % 1_000 == 0 {
                assert!(keyed.admit(u32::MAX, start).is_err(), "{key}");
            }
        }
        let held = |shard: &Mutex<Shard<u32>>| {
            let shard = shard.lock().unwrap();
            shard.young.len() + shard.old.len()
        };
        assert!(keyed.shards.iter().map(held).sum::<usize>() <= KEYS_MAX + SHARDS);
    }

    proptest! {
        /// Within every rate, over every stretch of time: its count, and one more for each gap that the stretch is long.
        #[test]
        fn what_is_admitted_is_within_all_rates_at_any_time(
            counts in prop::collection::vec((1u32..50, 0usize..3), 1..RATES_MAX),
            steps in prop::collection::vec(0u64..400, 1..200),
        ) {
            let texts = counts.iter().map(|(count, unit)| format!("{count}/{}", ["s", "min", "h"][*unit]));
            let rates: Arc<[Rate]> = texts.map(|text| parse_rate(&text).unwrap()).collect();
            let keyed = Keyed::new(Arc::clone(&rates));
            let mut now = clock::instant();
            let mut admitted: Vec<Instant> = Vec::new();
            for step in steps {
                now += Duration::from_millis(step);
                match keyed.admit((), now) {
                    Ok(()) => admitted.push(now),
                    Err(at) => prop_assert!(at > now),
                }
            }
            for rate in &*rates {
                for (first, start) in admitted.iter().enumerate() {
                    for (last, end) in admitted.iter().enumerate().skip(first) {
                        let more = (last - first + 1).saturating_sub(rate.count as usize);
                        prop_assert!(*end - *start >= rate.gap * u32::try_from(more).unwrap());
                    }
                }
            }
        }

        #[test]
        fn the_moment_that_is_told_is_the_first_that_is_admitted(
            count in 1u32..20, steps in prop::collection::vec(0u64..300, 1..100),
        ) {
            let keyed = Keyed::new(rates(&[&format!("{count}/s"), "60/min"]));
            let mut now = clock::instant();
            for step in steps {
                now += Duration::from_millis(step);
                if let Err(at) = keyed.admit((), now) {
                    prop_assert!(keyed.admit((), at - Duration::from_nanos(1)).is_err());
                    prop_assert!(keyed.admit((), at).is_ok());
                    now = at;
                }
            }
        }
    }
}
