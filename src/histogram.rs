//! Latencies as counts in buckets that grow with them: a fixed size, mergeable, and percentiles within an eighth of the truth. Percentiles of several
//! stretches of time or of several workers come from the merged counts, never from averages of averages.

use std::time::Duration;

/// Buckets for each doubling: each is a quarter of what the doubling begins with, so its middle is off by an eighth at most.
const PER_DOUBLING: usize = 4;
/// From 1 ms to 2^22 ms, which is more than an hour; what is less or more falls into the first or the last one.
const DOUBLINGS: usize = 22;
const BUCKETS: usize = PER_DOUBLING * DOUBLINGS;
/// Microseconds where the first doubling begins.
const FIRST_US: u64 = 1_000;

/// Counts of latencies, and their sum.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: [u32; BUCKETS],
    count: u64,
    sum_us: u64,
    longest: Duration,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], count: 0, sum_us: 0, longest: Duration::ZERO }
    }
}

impl Histogram {
    /// Counts one.
    pub(crate) fn add(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let count = &mut self.counts[bucket(micros)];
        *count = count.saturating_add(1);
        self.count += 1;
        self.sum_us = self.sum_us.saturating_add(micros);
        self.longest = self.longest.max(latency);
    }

    /// Counts all that another has counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count = count.saturating_add(*more);
        }
        self.count += other.count;
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
        self.longest = self.longest.max(other.longest);
    }

    /// The mean; `None` where nothing was counted.
    pub(crate) fn mean(&self) -> Option<Duration> {
        self.sum_us.checked_div(self.count).map(Duration::from_micros)
    }

    /// What `per_cent` in a hundred are not above; `None` where nothing was counted.
    pub(crate) fn percentile(&self, per_cent: u32) -> Option<Duration> {
        let rank = (self.count * u64::from(per_cent.min(100))).div_ceil(100).max(1);
        let mut seen = 0;
        let bucket = self.counts.iter().position(|count| {
            seen += u64::from(*count);
            seen >= rank
        })?;
        Some(middle(bucket).min(self.longest))
    }
}

fn bucket(micros: u64) -> usize {
    let Some(doubling) = (micros / FIRST_US).checked_ilog2() else { return 0 };
    let doubling = usize::try_from(doubling).unwrap_or(DOUBLINGS);
    if doubling >= DOUBLINGS {
        return BUCKETS - 1;
    }
    let begins = FIRST_US << doubling;
    let part = usize::try_from((micros - begins) * PER_DOUBLING as u64 / begins).unwrap_or(0);
    doubling * PER_DOUBLING + part.min(PER_DOUBLING - 1)
}

fn middle(bucket: usize) -> Duration {
    let begins = FIRST_US << (bucket / PER_DOUBLING);
    let eighths = 2 * (bucket % PER_DOUBLING) as u64 + 1;
    Duration::from_micros(begins + begins * eighths / (2 * PER_DOUBLING as u64))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(millis: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::default();
        millis.into_iter().for_each(|millis| histogram.add(Duration::from_millis(millis)));
        histogram
    }

    #[test]
    fn nothing_has_no_percentile_and_extremes_have_one() {
        assert_eq!((of([]).mean(), of([]).percentile(95)), (None, None));
        let extremes = of([0, 0, u64::MAX]);
        assert_eq!(extremes.percentile(0), extremes.percentile(50));
        assert!(extremes.percentile(50) < Some(Duration::from_millis(2)));
        assert!(extremes.percentile(100) > Some(Duration::from_secs(3_600)));
    }

    proptest! {
        #[test]
        fn a_percentile_is_within_an_eighth(mut millis in prop::collection::vec(1u64..3_000_000, 1..300), per_cent in 1u32..=100) {
            let histogram = of(millis.clone());
            millis.sort_unstable();
            let rank = (millis.len() as u64 * u64::from(per_cent)).div_ceil(100);
            let exact = millis[usize::try_from(rank).unwrap() - 1] as f64;
            let told = histogram.percentile(per_cent).unwrap().as_secs_f64() * 1_000.0;
            prop_assert!((told - exact).abs() <= exact / 8.0 + 0.01, "{told} and not {exact}");
            let mean = millis.iter().sum::<u64>() / millis.len() as u64;
            prop_assert_eq!(histogram.mean().unwrap().as_millis(), u128::from(mean));
        }

        #[test]
        fn merged_parts_are_the_whole(left in prop::collection::vec(0u64..100_000, 0..100), right in prop::collection::vec(0u64..100_000, 0..100)) {
            let whole = of(left.iter().chain(&right).copied());
            let mut merged = of(left);
            merged.merge(&of(right));
            prop_assert_eq!(merged.counts, whole.counts);
            prop_assert_eq!((merged.mean(), merged.percentile(95)), (whole.mean(), whole.percentile(95)));
        }
    }
}
