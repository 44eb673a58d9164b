//! How many handlers of one webhook, or of one registration, may run at once, over all workers. A closed gate makes a job wait with the
//! dispatcher; it never makes a worker wait.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The gates that exist, by name; made when they are first asked for.
#[derive(Default)]
pub(crate) struct Gates(Mutex<HashMap<Box<str>, Arc<AtomicUsize>>>);

/// A place in one gate; given back when dropped.
#[derive(Debug)]
pub(crate) struct Pass(Arc<AtomicUsize>);

impl Gates {
    /// A place in the gate of this name, unless `limit` are taken. Without a limit there is no gate.
    pub(super) fn enter(&self, name: &str, limit: Option<usize>) -> Result<Option<Pass>, Closed> {
        let Some(limit) = limit else { return Ok(None) };
        let used = self.used(name);
        let entered = used.fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
            (used < limit).then_some(used + 1)
        });
        entered.map(|_| Some(Pass(used))).map_err(|_| Closed)
    }

    fn used(&self, name: &str) -> Arc<AtomicUsize> {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match gates.get(name) {
            Some(used) => Arc::clone(used),
            None => Arc::clone(gates.entry(name.into()).or_default()),
        }
    }
}

/// All places are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed;

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_lets_in_as_many_as_its_limit_and_one_more_when_one_leaves() {
        let gates = Gates::default();
        let first = gates.enter("clerk", Some(2)).unwrap();
        let _second = gates.enter("clerk", Some(2)).unwrap();
        assert_eq!(gates.enter("clerk", Some(2)).unwrap_err(), Closed);
        assert!(gates.enter("stripe", Some(1)).unwrap().is_some());
        assert!(gates.enter("clerk", None).unwrap().is_none());
        drop(first);
        assert!(gates.enter("clerk", Some(2)).is_ok());
    }
}
