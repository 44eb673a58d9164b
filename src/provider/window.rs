//! The last stretch of time in slices that are reused one after the other: what counts is added to the newest, and what is too old is gone.

use std::time::{Duration, Instant};

/// So many slices, each as long as `slice`.
pub(super) struct Window<S, const SLICES: usize> {
    slice: Duration,
    /// When the newest slice began.
    began: Option<Instant>,
    newest: usize,
    slices: [S; SLICES],
}

impl<S: Default, const SLICES: usize> Window<S, SLICES> {
    /// An empty one.
    pub(super) fn new(slice: Duration) -> Self {
        let slices = std::array::from_fn(|_| S::default());
        Self { slice, began: None, newest: 0, slices }
    }

    /// Empties the slices whose time is over.
    pub(super) fn advance(&mut self, now: Instant) {
        let began = *self.began.get_or_insert(now);
        let over = now.saturating_duration_since(began).as_millis() / self.slice.as_millis();
        let Ok(over) = u32::try_from(over) else {
            *self = Self { began: Some(now), ..Self::new(self.slice) };
            return;
        };
        let turns = usize::try_from(over).map_or(SLICES, |over| over.min(SLICES));
        for _ in 0..turns {
            self.newest = (self.newest + 1) % SLICES;
            self.slices[self.newest] = S::default();
        }
        self.began = Some(began + self.slice * over);
    }

    /// The slice of now, as `advance` was told it.
    pub(super) fn newest(&mut self) -> &mut S {
        &mut self.slices[self.newest]
    }

    /// The newest slices, as many as that, the newest first.
    pub(super) fn lately(&self, slices: usize) -> impl Iterator<Item = &S> {
        (0..slices.min(SLICES)).map(|back| &self.slices[(self.newest + SLICES - back) % SLICES])
    }
}
