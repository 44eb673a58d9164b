//! `concurrency` of a provider: how many of its calls are under way at once, over all workers. Who finds no place stands in a line that is served in
//! order, until its patience ends. A place that comes free goes to the first in line, so nobody overtakes it; one who has left is passed over.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

/// A line that is longer is looked through for those who have left, and again when it has doubled.
const SWEEP_FROM: usize = 64;

/// The places of one provider. Its line is as long as there are runs that call it: their number is bounded.
#[derive(Default)]
pub(crate) struct Places(Mutex<State>);

#[derive(Default)]
struct State {
    /// As it was last asked for: a new generation may bring another.
    limit: usize,
    used: usize,
    line: VecDeque<oneshot::Sender<Place>>,
    /// How long the line may get before it is looked through.
    sweep_at: usize,
}

/// A place, until it is dropped.
pub(crate) struct Place {
    /// `None`: it was given back.
    of: Option<Arc<Places>>,
}

/// No place came free in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoPlace;

impl Places {
    /// A place, in the order of asking. Dropping what it returns leaves the line.
    pub(crate) async fn enter(
        self: &Arc<Self>,
        limit: usize,
        patience: Duration,
    ) -> Result<Place, NoPlace> {
        let place = match self.take_or_wait(limit) {
            Ok(place) => return Ok(place),
            Err(place) => place,
        };
        // It looks for the place before it looks at the time: one that came at the last moment is taken.
        match tokio::time::timeout(patience, place).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(NoPlace),
        }
    }

    /// Calls under way, and those that wait.
    #[cfg(test)]
    pub(crate) fn taken(&self) -> (usize, usize) {
        let state = self.state();
        (state.used, state.line.iter().filter(|waits| !waits.is_closed()).count())
    }

    fn take_or_wait(self: &Arc<Self>, limit: usize) -> Result<Place, oneshot::Receiver<Place>> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state();
        state.limit = limit;
        if state.used < limit && state.line.is_empty() {
            state.used += 1;
            drop(state);
            return Ok(self.place());
        }
        state.sweep();
        state.line.push_back(sender);
        drop(state);
        // A higher limit than before lets others in first, and those who have left may be all that stood in line.
        self.admit();
        Err(receiver)
    }

    /// Gives free places to those in line. The lock is not held while a place changes hands: one that nobody takes comes back through `drop`.
    fn admit(self: &Arc<Self>) {
        loop {
            let mut state = self.state();
            if state.used >= state.limit {
                return;
            }
            let Some(next) = state.line.pop_front() else { return };
            state.used += 1;
            drop(state);
            // One who has left is passed over in this loop: dropping a place would come back here, once more inside for each of a long line.
            if let Err(mut refused) = next.send(self.place())
                && refused.of.take().is_some()
            {
                self.state().used -= 1;
            }
        }
    }

    fn place(self: &Arc<Self>) -> Place {
        Place { of: Some(Arc::clone(self)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Lets go of those who have left, each time that the line has doubled.
    fn sweep(&mut self) {
        if self.line.len() >= self.sweep_at.max(SWEEP_FROM) {
            self.line.retain(|waits| !waits.is_closed());
            self.sweep_at = self.line.len() * 2;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(places) = self.of.take() {
            places.state().used -= 1;
            places.admit();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    const PATIENT: Duration = Duration::from_secs(3_600);

    /// One on whose runtime time-outs run.
    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
    }

    #[test]
    fn the_line_is_served_in_order_and_nobody_overtakes_it() {
        run(async {
            let places = Arc::new(Places::default());
            let first = places.enter(1, PATIENT).await.unwrap();
            let (mut second, mut third) =
                (pin!(places.enter(1, PATIENT)), pin!(places.enter(1, PATIENT)));
            assert!(second.as_mut().now_or_never().is_none());
            assert!(third.as_mut().now_or_never().is_none());
            assert_eq!(places.taken(), (1, 2));
            drop(first);
            let mut fourth = pin!(places.enter(1, PATIENT));
            assert!(fourth.as_mut().now_or_never().is_none(), "the place is the second's");
            assert!(third.as_mut().now_or_never().is_none());
            drop(second.as_mut().now_or_never().unwrap());
            drop(third.as_mut().now_or_never().unwrap());
            drop(fourth.as_mut().now_or_never().unwrap());
            assert_eq!(places.taken(), (0, 0));
        });
    }

    #[test]
    fn v20_waiting_ends_in_time_and_loses_no_place() {
        run(async {
            let places = Arc::new(Places::default());
            let first = places.enter(1, PATIENT).await.unwrap();
            let waited = places.enter(1, Duration::from_millis(1)).await;
            assert_eq!(waited.err(), Some(NoPlace));
            let mut left = Box::pin(places.enter(1, PATIENT));
            assert!(left.as_mut().now_or_never().is_none());
            let mut last = pin!(places.enter(1, PATIENT));
            assert!(last.as_mut().now_or_never().is_none());
            drop(first);
            // It has its place by now, and goes without having looked.
            drop(left);
            drop(last.as_mut().now_or_never().unwrap());
            assert_eq!(places.taken(), (0, 0));
        });
    }

    #[test]
    fn a_higher_limit_lets_more_in_and_a_lower_one_takes_nothing_away() {
        run(async {
            let places = Arc::new(Places::default());
            let held = [places.enter(2, PATIENT).await, places.enter(2, PATIENT).await];
            let mut third = pin!(places.enter(2, PATIENT));
            assert!(third.as_mut().now_or_never().is_none());
            let mut fourth = pin!(places.enter(4, PATIENT));
            assert!(fourth.as_mut().now_or_never().is_some_and(|place| place.is_ok()));
            assert!(third.as_mut().now_or_never().is_some_and(|place| place.is_ok()));
            let mut fifth = pin!(places.enter(1, PATIENT));
            assert!(fifth.as_mut().now_or_never().is_none());
            drop(held);
            assert!(fifth.as_mut().now_or_never().is_some(), "all others have gone");
        });
    }

    #[test]
    fn those_who_have_left_do_not_pile_up_while_no_place_comes_free() {
        run(async {
            let places = Arc::new(Places::default());
            let first = places.enter(1, PATIENT).await.unwrap();
            for _ in 0..10_000 {
                assert!(places.enter(1, PATIENT).now_or_never().is_none());
            }
            assert!(places.state().line.len() <= SWEEP_FROM);
            drop(first);
            assert!(places.enter(1, PATIENT).now_or_never().is_some());
        });
    }

    #[test]
    fn v20_a_thousand_calls_of_many_workers_are_64_at_once_and_all_are_served() {
        let places = Arc::new(Places::default());
        let (under_way, most, served) =
            (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _worker in 0..8 {
                scope.spawn(|| {
                    run(async {
                        let call = async || {
                            let place = places.enter(64, PATIENT).await.unwrap();
                            most.fetch_max(
                                under_way.fetch_add(1, Ordering::SeqCst) + 1,
                                Ordering::SeqCst,
                            );
                            tokio::task::yield_now().await;
                            under_way.fetch_sub(1, Ordering::SeqCst);
                            served.fetch_add(1, Ordering::SeqCst);
                            drop(place);
                        };
                        futures_util::future::join_all((0..125).map(|_| call())).await;
                    });
                });
            }
        });
        assert_eq!(served.load(Ordering::SeqCst), 1_000);
        let most = most.load(Ordering::SeqCst);
        assert!((1..=64).contains(&most), "{most}");
        assert_eq!(places.taken(), (0, 0));
    }

    proptest! {
        /// However calls come, end, give up and are cancelled: never more than the limit, never fewer while somebody waits, none lost in the end.
        #[test]
        fn no_place_is_lost_and_none_is_given_twice(limit in 1usize..5, steps in prop::collection::vec((0u8..4, 0usize..8), 1..100)) {
            run(async {
                let places = Arc::new(Places::default());
                let (mut held, mut waiting) = (Vec::new(), Vec::new());
                for (kind, index) in steps {
                    match kind {
                        0 | 1 => waiting.push(Box::pin(places.enter(limit, PATIENT))),
                        2 if !held.is_empty() => drop(held.swap_remove(index % held.len())),
                        3 if !waiting.is_empty() => drop(waiting.swap_remove(index % waiting.len())),
                        _ => {}
                    }
                    let mut still = Vec::new();
                    for mut call in waiting {
                        match call.as_mut().now_or_never() {
                            Some(place) => held.push(place.unwrap()),
                            None => still.push(call),
                        }
                    }
                    waiting = still;
                    assert!(held.len() <= limit);
                    assert!(waiting.is_empty() || held.len() == limit);
                    assert_eq!(places.taken(), (held.len(), waiting.len()));
                }
                drop((held, waiting));
                assert_eq!(places.taken(), (0, 0));
            });
        }
    }
}
