//! How many handlers of one webhook, or of one registration, may run at once, over all workers. Who finds a gate full stands in its line, which
//! is served in order; who finds the line full too stays with the dispatcher. A gate never makes a worker wait, only a job.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::Notes;

/// Jobs in one line, each with its event's bytes: enough to keep a gate busy until the dispatcher brings more, which it does when half are gone.
const LINE_MAX: usize = 64;

/// The gates that exist, by name; made when they are first asked for.
pub(crate) struct Gates {
    gates: Mutex<HashMap<Box<str>, Arc<Gate>>>,
    notes: Arc<Notes>,
}

/// A place in one gate; given to the next in line when dropped.
pub(crate) struct Pass(Arc<Gate>);

/// What comes of asking for a place.
pub(super) enum Entering {
    Entered(Pass),
    /// In line; the place comes through this. Dropping it leaves the line.
    Waiting(oneshot::Receiver<Pass>),
    Full,
}

/// All places are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed;

struct Gate {
    places: Mutex<Places>,
    notes: Arc<Notes>,
}

#[derive(Default)]
struct Places {
    /// As it was last asked for: a new generation may bring another.
    limit: usize,
    used: usize,
    line: VecDeque<oneshot::Sender<Pass>>,
}

impl Gates {
    /// The dispatcher is told through `notes` when a line has room again.
    pub(crate) fn new(notes: &Arc<Notes>) -> Arc<Self> {
        Arc::new(Self { gates: Mutex::default(), notes: Arc::clone(notes) })
    }

    /// A place in the gate of this name, at once or not at all. Without a limit there is no gate.
    pub(super) fn enter_now(
        &self,
        name: &str,
        limit: Option<usize>,
    ) -> Result<Option<Pass>, Closed> {
        let Some(limit) = limit else { return Ok(None) };
        let gate = self.gate(name);
        if gate.take(limit) { Ok(Some(Pass(gate))) } else { Err(Closed) }
    }

    /// A place, or a place in the line.
    pub(super) fn enter(&self, name: &str, limit: usize) -> Entering {
        let gate = self.gate(name);
        if gate.take(limit) {
            return Entering::Entered(Pass(gate));
        }
        let mut places = gate.places();
        if places.line.len() >= LINE_MAX {
            return Entering::Full;
        }
        let (sender, place) = oneshot::channel();
        places.line.push_back(sender);
        drop(places);
        // One may have come free since.
        gate.admit();
        Entering::Waiting(place)
    }

    /// Whether one more would be let in, or at least into the line.
    pub(super) fn has_room(&self, name: &str) -> bool {
        let gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        gates.get(name).is_none_or(|gate| gate.places().line.len() < LINE_MAX)
    }

    fn gate(&self, name: &str) -> Arc<Gate> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        match gates.get(name) {
            Some(gate) => Arc::clone(gate),
            None => {
                let gate = Gate { places: Mutex::default(), notes: Arc::clone(&self.notes) };
                Arc::clone(gates.entry(name.into()).or_insert(Arc::new(gate)))
            }
        }
    }
}

impl Gate {
    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place, unless others wait for one.
    fn take(&self, limit: usize) -> bool {
        let mut places = self.places();
        places.limit = limit;
        let free = places.used < limit && places.line.is_empty();
        places.used += usize::from(free);
        free
    }

    /// Gives free places to those in line. The lock is not held while a place changes hands: one that nobody takes comes back through `leave`.
    fn admit(self: &Arc<Self>) {
        loop {
            let mut places = self.places();
            if places.used >= places.limit {
                return;
            }
            let Some(next) = places.line.pop_front() else { return };
            places.used += 1;
            let half_gone = places.line.len() == LINE_MAX / 2;
            drop(places);
            if half_gone {
                self.notes.wake();
            }
            drop(next.send(Pass(Arc::clone(self))));
        }
    }

    fn leave(self: &Arc<Self>) {
        self.places().used -= 1;
        self.admit();
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gates() -> Arc<Gates> {
        Gates::new(&Arc::default())
    }

    fn entered(entering: Entering) -> Pass {
        match entering {
            Entering::Entered(pass) => pass,
            Entering::Waiting(_) | Entering::Full => panic!("it is let in"),
        }
    }

    fn waiting(entering: Entering) -> oneshot::Receiver<Pass> {
        match entering {
            Entering::Waiting(place) => place,
            Entering::Entered(_) | Entering::Full => panic!("it waits"),
        }
    }

    #[test]
    fn a_gate_lets_in_as_many_as_its_limit_and_one_more_when_one_leaves() {
        let gates = gates();
        let enter = |name, limit| gates.enter_now(name, limit);
        let first = enter("clerk", Some(2)).unwrap();
        let _second = enter("clerk", Some(2)).unwrap();
        assert!(enter("clerk", Some(2)).is_err());
        assert!(enter("stripe", Some(1)).unwrap().is_some());
        assert!(enter("clerk", None).unwrap().is_none());
        drop(first);
        assert!(enter("clerk", Some(2)).is_ok());
    }

    #[test]
    fn a_line_is_served_in_order_and_nobody_overtakes_it() {
        let gates = gates();
        let first = entered(gates.enter("clerk", 1));
        let (mut second, mut third) =
            (waiting(gates.enter("clerk", 1)), waiting(gates.enter("clerk", 1)));
        drop(first);
        let second_pass = second.try_recv().unwrap();
        assert!(third.try_recv().is_err());
        assert!(gates.enter_now("clerk", Some(1)).is_err());
        drop(second_pass);
        drop(third.try_recv().unwrap());
        drop(entered(gates.enter("clerk", 1)));
    }

    #[test]
    fn a_place_that_nobody_takes_any_more_goes_to_the_next_in_line() {
        let gates = gates();
        let first = entered(gates.enter("clerk", 1));
        let (second, third) = (waiting(gates.enter("clerk", 1)), waiting(gates.enter("clerk", 1)));
        let mut fourth = waiting(gates.enter("clerk", 1));
        drop(second);
        drop(first);
        // It has its place by now, and goes without having looked.
        drop(third);
        drop(fourth.try_recv().unwrap());
        drop(entered(gates.enter("clerk", 1)));
    }

    #[test]
    fn a_line_is_bounded_and_a_higher_limit_lets_more_of_it_in() {
        let gates = gates();
        let _first = entered(gates.enter("clerk", 1));
        let mut line: Vec<_> = (0..LINE_MAX).map(|_| waiting(gates.enter("clerk", 1))).collect();
        assert!(!gates.has_room("clerk") && gates.has_room("stripe"));
        assert!(matches!(gates.enter("clerk", 1), Entering::Full));
        drop(line.pop());
        assert!(line[0].try_recv().is_err());
        assert!(gates.enter_now("clerk", Some(3)).is_err(), "the line comes first");
        let _last = gates.enter("clerk", 3);
        gates.gate("clerk").admit();
        assert!(line[0].try_recv().is_ok() && line[1].try_recv().is_ok());
    }
}
