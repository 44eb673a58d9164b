//! How many coroutines a worker has at once. Who finds no place is told so, or stands in a line that is served in order. A place that comes free
//! goes to the first in line, so nobody overtakes it; one that is given up while it waits is passed over.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use tokio::sync::oneshot;

/// Those of one worker. Its line is as long as what the worker has in hand: only attempts of jobs stand in it.
pub(super) struct Places {
    max: usize,
    used: Cell<usize>,
    line: RefCell<VecDeque<oneshot::Sender<Place>>>,
}

/// One of them, until it is dropped.
pub(crate) struct Place(Rc<Places>);

impl Places {
    pub(super) fn new(max: usize) -> Rc<Self> {
        Rc::new(Self { max, used: Cell::new(0), line: RefCell::default() })
    }

    /// A place at once, or none.
    pub(super) fn enter_now(self: &Rc<Self>) -> Option<Place> {
        if self.used.get() >= self.max {
            return None;
        }
        self.used.set(self.used.get() + 1);
        Some(Place(Rc::clone(self)))
    }

    /// A place, in the order of asking. Dropping what it returns leaves the line.
    pub(super) async fn enter(self: &Rc<Self>) -> Place {
        loop {
            if let Some(place) = self.enter_now() {
                return place;
            }
            let (sender, place) = oneshot::channel();
            self.line.borrow_mut().push_back(sender);
            // The sender stands in the line until it has sent.
            if let Ok(place) = place.await {
                return place;
            }
        }
    }

    /// The first in line who still waits.
    fn next(&self) -> Option<oneshot::Sender<Place>> {
        let mut line = self.line.borrow_mut();
        while let Some(next) = line.pop_front() {
            if !next.is_closed() {
                return Some(next);
            }
        }
        None
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        match self.0.next() {
            Some(next) => drop(next.send(Self(Rc::clone(&self.0)))),
            None => self.0.used.set(self.0.used.get() - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn there_are_as_many_places_as_config_says_and_one_more_when_one_is_given_back() {
        let places = Places::new(2);
        let first = places.enter_now().unwrap();
        let _second = places.enter_now().unwrap();
        assert!(places.enter_now().is_none());
        drop(first);
        assert!(places.enter_now().is_some());
    }

    #[test]
    fn the_line_is_served_in_order_and_nobody_overtakes_it() {
        let places = Places::new(1);
        let first = places.enter_now().unwrap();
        let (mut second, mut third) = (pin!(places.enter()), pin!(places.enter()));
        assert!(second.as_mut().now_or_never().is_none());
        assert!(third.as_mut().now_or_never().is_none());
        drop(first);
        assert!(places.enter_now().is_none(), "it is the second's");
        assert!(third.as_mut().now_or_never().is_none());
        drop(second.as_mut().now_or_never().unwrap());
        drop(third.as_mut().now_or_never().unwrap());
        assert!(places.enter_now().is_some());
    }

    #[test]
    fn who_leaves_the_line_is_passed_over_with_or_without_a_place() {
        let places = Places::new(1);
        let first = places.enter_now().unwrap();
        let (mut second, mut third) = (Box::pin(places.enter()), Box::pin(places.enter()));
        let mut fourth = pin!(places.enter());
        for waiting in [&mut second, &mut third] {
            assert!(waiting.as_mut().now_or_never().is_none());
        }
        assert!(fourth.as_mut().now_or_never().is_none());
        drop(second);
        drop(first);
        // It has its place by now, and goes without having looked.
        drop(third);
        drop(fourth.as_mut().now_or_never().unwrap());
        assert!(places.enter_now().is_some());
    }
}
