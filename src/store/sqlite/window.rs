//! Which events have jobs, in memory: all up to a low-water mark, and above it one bit each. So the first end of an attempt needs no
//! look at the database, and recovery begins at the mark. The window is as wide as the oldest event without jobs is old: 1 M events, 125 KB.

use std::collections::VecDeque;

const BITS: i64 = 64;

/// The mark and the bits above it.
#[derive(Debug)]
pub(super) struct Window {
    low: i64,
    /// The seq of the first bit; a multiple of 64, at most `low`.
    base: i64,
    words: VecDeque<u64>,
}

impl Window {
    /// Every event up to `low` has jobs, and none after it has.
    pub(super) fn new(low: i64) -> Self {
        let base = low - low.rem_euclid(BITS);
        let mut window = Self { low, base, words: VecDeque::new() };
        for seq in base..=low {
            window.set(seq);
        }
        window
    }

    /// Every event up to here has jobs, as of the last `advance`.
    pub(super) fn low(&self) -> i64 {
        self.low
    }

    pub(super) fn has_jobs(&self, seq: i64) -> bool {
        seq <= self.low
            || self
                .place(seq)
                .is_some_and(|(word, bit)| self.words.get(word).is_some_and(|bits| bits & bit != 0))
    }

    pub(super) fn set(&mut self, seq: i64) {
        if let Some((word, bit)) = self.place(seq) {
            if word >= self.words.len() {
                self.words.resize(word + 1, 0);
            }
            self.words[word] |= bit;
        }
    }

    /// Moves the mark up over the events that have jobs now.
    pub(super) fn advance(&mut self) {
        while self.words.front() == Some(&u64::MAX) {
            self.words.pop_front();
            self.base += BITS;
        }
        let full = self.words.front().map_or(0, |bits| bits.trailing_ones());
        self.low = self.low.max(self.base + i64::from(full) - 1);
    }

    fn place(&self, seq: i64) -> Option<(usize, u64)> {
        let offset = seq - self.base;
        Some((usize::try_from(offset / BITS).ok().filter(|_| offset >= 0)?, 1 << (offset % BITS)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_mark_moves_only_over_events_that_have_jobs() {
        let mut window = Window::new(0);
        window.set(2);
        window.advance();
        assert_eq!(window.low(), 0);
        window.set(1);
        window.advance();
        assert_eq!(window.low(), 2);
        assert!(window.has_jobs(2) && !window.has_jobs(3));
    }

    proptest! {
        #[test]
        fn the_window_says_what_a_set_says(low in 0_i64..200, seqs in prop::collection::vec(1_i64..500, 0..400)) {
            let mut window = Window::new(low);
            let mut model: BTreeSet<i64> = (0..=low).collect();
            for (index, seq) in seqs.into_iter().enumerate() {
                window.set(low + seq);
                model.insert(low + seq);
                if index % 7 == 0 {
                    window.advance();
                }
            }
            window.advance();
            let expected = (0..).take_while(|seq| model.contains(seq)).last().unwrap();
            prop_assert_eq!(window.low(), expected);
            for seq in 0..800 {
                prop_assert_eq!(window.has_jobs(seq), model.contains(&seq), "{}", seq);
            }
        }
    }
}
