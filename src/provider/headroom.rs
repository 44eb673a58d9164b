//! How much a provider still lets through, as its headers tell: what is left of each quota, and when it will be used up if all goes on as it did in the
//! last minute. For metrics and `health()`; nothing is held back because of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::limit_headers::Told;

/// Quotas of one provider that are remembered; those that come later are not.
const BUCKETS_MAX: usize = 32;
/// How far back use is looked at.
const LOOK_BACK: Duration = Duration::from_secs(60);
/// From one mark of use to the next, at least: a minute is twelve of them.
const BETWEEN: Duration = Duration::from_secs(5);
/// Use that was seen for a shorter time says nothing of what comes.
const SEEN_MIN: Duration = Duration::from_secs(2);

/// The quotas of one provider, for all workers.
#[derive(Default)]
pub(crate) struct Headroom(Mutex<BTreeMap<Box<str>, Quota>>);

/// What is known of one quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    /// Its name: `requests`, `tokens`.
    pub(crate) bucket: Box<str>,
    /// How much there is in all, where that was told.
    pub(crate) limit: Option<u64>,
    /// How much is left.
    pub(crate) remaining: u64,
    /// When it is full again, where that was told and is still to come.
    pub(crate) resets_in: Option<Duration>,
    /// When nothing will be left, by the use of the last minute; `None` where it is full again before that, or not used.
    pub(crate) used_up_in: Option<Duration>,
}

struct Quota {
    limit: Option<u64>,
    remaining: u64,
    told: Instant,
    resets: Option<Instant>,
    /// What was left, and when.
    marks: VecDeque<(Instant, u64)>,
}

impl Headroom {
    /// Takes in what an answer told.
    pub(crate) fn tell(&self, told: &[Told], now: Instant) {
        let mut quotas = self.quotas();
        for told in told {
            let Some(remaining) = told.remaining else { continue };
            if !quotas.contains_key(&told.bucket) && quotas.len() >= BUCKETS_MAX {
                continue;
            }
            let quota = quotas.entry(told.bucket.clone()).or_insert_with(|| Quota::new(now));
            quota.tell(remaining, told, now);
        }
    }

    /// All quotas, by name.
    pub(crate) fn left(&self, now: Instant) -> Vec<Left> {
        self.quotas().iter().map(|(bucket, quota)| quota.left(bucket, now)).collect()
    }

    fn quotas(&self) -> MutexGuard<'_, BTreeMap<Box<str>, Quota>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Quota {
    fn new(now: Instant) -> Self {
        Self { limit: None, remaining: 0, told: now, resets: None, marks: VecDeque::new() }
    }

    fn tell(&mut self, remaining: u64, told: &Told, now: Instant) {
        if self.resets.is_some_and(|resets| resets <= now) {
            // It is full again: what was used before says nothing of what is left.
            self.marks.clear();
        }
        self.limit = told.limit.or(self.limit);
        self.remaining = remaining;
        self.told = now;
        self.resets = told.resets_in.and_then(|resets_in| now.checked_add(resets_in));
        let is_due = |(last, _): &(Instant, u64)| now.saturating_duration_since(*last) >= BETWEEN;
        if self.marks.back().is_none_or(is_due) {
            self.marks.push_back((now, remaining));
        }
        while self.marks.len() > 1 && now.saturating_duration_since(self.marks[0].0) > LOOK_BACK {
            self.marks.pop_front();
        }
    }

    fn left(&self, bucket: &str, now: Instant) -> Left {
        let resets_in = self.resets.map(|resets| resets.saturating_duration_since(now));
        let resets_in = resets_in.filter(|resets_in| !resets_in.is_zero());
        let used_up_in = self.used_up(now).filter(|used_up| {
            let is_old = self.resets.is_some() && resets_in.is_none();
            !is_old && resets_in.is_none_or(|resets_in| *used_up < resets_in)
        });
        Left {
            bucket: bucket.into(),
            limit: self.limit,
            remaining: self.remaining,
            resets_in,
            used_up_in,
        }
    }

    /// By a straight line through what was left first and last.
    fn used_up(&self, now: Instant) -> Option<Duration> {
        if self.remaining == 0 {
            return Some(Duration::ZERO);
        }
        let (first, then) = *self.marks.front()?;
        let seen = self.told.saturating_duration_since(first);
        let used = then.checked_sub(self.remaining).filter(|used| *used > 0)?;
        if seen < SEEN_MIN || now.saturating_duration_since(self.told) > LOOK_BACK {
            return None;
        }
        // The parts are far below 2^52.
        let left = seen.as_secs_f64() * self.remaining as f64 / used as f64;
        let left = Duration::try_from_secs_f64(left).ok()?;
        Some(left.saturating_sub(now.saturating_duration_since(self.told)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn told(bucket: &str, remaining: u64, resets_in: Option<u64>) -> [Told; 1] {
        let resets_in = resets_in.map(Duration::from_secs);
        [Told { bucket: bucket.into(), limit: Some(1_000), remaining: Some(remaining), resets_in }]
    }

    fn used_up(headroom: &Headroom, now: Instant) -> Option<u64> {
        headroom.left(now)[0].used_up_in.map(|wait| wait.as_secs())
    }

    #[test]
    fn it_is_told_when_nothing_will_be_left() {
        let (headroom, start) = (Headroom::default(), clock::instant());
        let after = |seconds| start + Duration::from_secs(seconds);
        headroom.tell(&told("tokens", 1_000, Some(600)), start);
        assert_eq!(used_up(&headroom, start), None, "nothing was used yet");
        headroom.tell(&told("tokens", 800, Some(590)), after(10));
        assert_eq!(used_up(&headroom, after(10)), Some(40));
        assert_eq!(used_up(&headroom, after(15)), Some(35));
        headroom.tell(&told("tokens", 400, Some(585)), after(15));
        assert_eq!(used_up(&headroom, after(15)), Some(10));
        headroom.tell(&told("tokens", 0, Some(580)), after(20));
        assert_eq!(used_up(&headroom, after(20)), Some(0));
    }

    #[test]
    fn what_is_full_again_before_is_not_used_up() {
        let (headroom, start) = (Headroom::default(), clock::instant());
        let after = |seconds| start + Duration::from_secs(seconds);
        headroom.tell(&told("tokens", 1_000, Some(30)), start);
        headroom.tell(&told("tokens", 800, Some(20)), after(10));
        assert_eq!(used_up(&headroom, after(10)), None);
        headroom.tell(&told("tokens", 0, Some(10)), after(20));
        assert_eq!(used_up(&headroom, after(20)), Some(0));
        assert_eq!(used_up(&headroom, after(30)), None, "by now it is full again");
        headroom.tell(&told("tokens", 900, Some(600)), after(31));
        assert_eq!(used_up(&headroom, after(31)), None, "use of before does not count");
    }

    #[test]
    fn only_the_last_minute_counts_and_the_number_of_quotas_is_bounded() {
        let (headroom, start) = (Headroom::default(), clock::instant());
        let after = |seconds| start + Duration::from_secs(seconds);
        for seconds in 0..1_000 {
            headroom.tell(&told("tokens", 1_000, None), after(seconds));
        }
        assert!(headroom.quotas()["tokens"].marks.len() <= 14);
        headroom.tell(&told("tokens", 900, None), after(1_000));
        assert!(used_up(&headroom, after(1_000)).is_some());
        assert_eq!(used_up(&headroom, after(2_000)), None, "that is long ago");
        for index in 0..100 {
            headroom.tell(&told(&format!("bucket-{index}"), 1, None), start);
        }
        assert_eq!(headroom.left(start).len(), BUCKETS_MAX);
    }
}
