//! One at a time: who has the turn for a delivery, a request or an order key, over all workers, and the line behind. Lines are served in the order in
//! which they were joined. A turn is held by whoever runs, in memory only: a crash ends it.

use std::collections::VecDeque;
use std::collections::hash_map::{Entry, HashMap, RandomState};
use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::store::AnswerKey;

/// In one line, each with a body and a connection; a sender that posts more of the same at once gains nothing from it.
const LINE_MAX: usize = 1_024;
/// So that workers seldom meet at one lock, which is held for the look into one map.
const SHARDS: usize = 64;

/// What one can have the turn for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Of {
    /// A delivery or request: whoever comes with the same key asks for the same answer.
    Answer(AnswerKey),
    /// Deliveries to one webhook that are handled one after the other.
    Order { webhook: Arc<str>, key: Box<str> },
}

/// The turns that somebody has, each with the line behind it.
pub(crate) struct Turns {
    shards: [Mutex<HashMap<Of, Line>>; SHARDS],
    hasher: RandomState,
}

type Line = VecDeque<oneshot::Sender<Turn>>;

/// The turn, while it lives; then it is that of the next in line.
pub(super) struct Turn {
    turns: Arc<Turns>,
    /// `None`: it was passed on.
    of: Option<Of>,
}

/// What comes of joining a line.
pub(super) enum Joined {
    Now(Turn),
    /// It comes through this. Dropping it leaves the line.
    Later(oneshot::Receiver<Turn>),
    Full,
}

impl Turns {
    /// For the whole process.
    pub(crate) fn new() -> Arc<Self> {
        let shards = std::array::from_fn(|_| Mutex::default());
        Arc::new(Self { shards, hasher: RandomState::new() })
    }

    /// The turn, where nobody has it.
    pub(super) fn take(self: &Arc<Self>, of: Of) -> Option<Turn> {
        match self.lines(&of).entry(of.clone()) {
            Entry::Occupied(_) => None,
            Entry::Vacant(place) => {
                place.insert(Line::new());
                Some(self.turn(of))
            }
        }
    }

    /// The turn, or a place in the line for it.
    pub(super) fn join(self: &Arc<Self>, of: Of) -> Joined {
        match self.lines(&of).entry(of.clone()) {
            Entry::Vacant(place) => {
                place.insert(Line::new());
                Joined::Now(self.turn(of))
            }
            Entry::Occupied(mut line) => {
                let line = line.get_mut();
                // Those who have left make room.
                if line.len() >= LINE_MAX {
                    line.retain(|waits| !waits.is_closed());
                }
                if line.len() >= LINE_MAX {
                    return Joined::Full;
                }
                let (sender, place) = oneshot::channel();
                line.push_back(sender);
                Joined::Later(place)
            }
        }
    }

    fn turn(self: &Arc<Self>, of: Of) -> Turn {
        Turn { turns: Arc::clone(self), of: Some(of) }
    }

    /// The next in line, if there is one; else the turn is nobody's.
    fn next(&self, of: &Of) -> Option<oneshot::Sender<Turn>> {
        let mut lines = self.lines(of);
        let next = lines.get_mut(of).and_then(Line::pop_front);
        if next.is_none() {
            lines.remove(of);
        }
        next
    }

    fn lines(&self, of: &Of) -> MutexGuard<'_, HashMap<Of, Line>> {
        let shard = self.hasher.hash_one(of) % (SHARDS as u64);
        let shard = usize::try_from(shard).unwrap_or(0);
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    /// No lock is held while it changes hands. Whoever has left does not take it, and it goes to the one behind.
    fn drop(&mut self) {
        let Some(mut of) = self.of.take() else { return };
        while let Some(next) = self.turns.next(&of) {
            match next.send(self.turns.turn(of)) {
                Ok(()) => return,
                Err(mut refused) => match refused.of.take() {
                    Some(same) => of = same,
                    None => return,
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(key: &str) -> Of {
        Of::Answer(AnswerKey { scope: "clerk".into(), key: key.into() })
    }

    fn now(joined: Joined) -> Turn {
        match joined {
            Joined::Now(turn) => turn,
            Joined::Later(_) | Joined::Full => panic!("nobody has it"),
        }
    }

    fn later(joined: Joined) -> oneshot::Receiver<Turn> {
        match joined {
            Joined::Later(place) => place,
            Joined::Now(_) | Joined::Full => panic!("somebody has it"),
        }
    }

    #[test]
    fn a_turn_is_one_at_a_time_and_the_line_is_served_in_order() {
        let turns = Turns::new();
        let first = now(turns.join(of("a")));
        let (mut second, mut third) = (later(turns.join(of("a"))), later(turns.join(of("a"))));
        assert!(turns.take(of("a")).is_none());
        let order = Of::Order { webhook: "clerk".into(), key: "a".into() };
        drop((turns.take(of("b")).unwrap(), turns.take(order).unwrap()));
        assert!(second.try_recv().is_err());
        drop(first);
        let second = second.try_recv().unwrap();
        assert!(third.try_recv().is_err() && turns.take(of("a")).is_none());
        drop(second);
        drop(third.try_recv().unwrap());
        assert!(turns.take(of("a")).is_some());
    }

    #[test]
    fn a_turn_passes_over_those_who_have_left_and_is_free_in_the_end() {
        let turns = Turns::new();
        let first = now(turns.join(of("a")));
        let line: Vec<_> = (0..LINE_MAX).map(|_| later(turns.join(of("a")))).collect();
        assert!(matches!(turns.join(of("a")), Joined::Full));
        let (mut kept, mut left) = (Vec::new(), Vec::new());
        for (index, place) in line.into_iter().enumerate() {
            if index == 700 { kept.push(place) } else { left.push(place) }
        }
        drop(left);
        let mut last = later(turns.join(of("a")));
        drop(first);
        // The turn has reached it already, and it goes without having looked.
        drop(kept);
        drop(last.try_recv().unwrap());
        assert!(turns.shards.iter().all(|shard| shard.lock().unwrap().is_empty()));
    }
}
