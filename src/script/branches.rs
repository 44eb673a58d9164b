//! The branches of one call of `parallel`: a bounded number of coroutines beside the one that waits for them, all of one run. When one of them ends
//! the run, the others are unwound before the caller hears of it, each on its own stack.
//!
//! It never waits for a place: what has no branch left and gets none is told to run the next closure itself, so nothing can stand still.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;

use futures_util::stream::{FuturesUnordered, StreamExt as _};

use super::Ending;
use super::compiled::Compiled;
use super::coroutine::Coroutine;
use super::current::Throw;
use super::host_call::HostReply;
use super::parallel::Branches;
use super::run::{Failure, Limits, failure};
use super::strand::{Common, Fault, Strand};
use crate::frame::Frame;
use crate::memory;

/// Live branches of one run, of all its calls of `parallel`: each holds a stack, and the runs of a worker share 16,000.
pub(super) const BRANCHES_MAX: usize = 64;
/// Branches that have branches: each level takes room on the worker's own stack while it is polled (some 4 KiB, in debug builds 20).
const DEPTH_MAX: usize = 16;

/// Runs closures until all are done, or until the caller has to run one itself. Boxed, so that a run that does without is no larger for it.
pub(super) fn run<'a>(
    common: &'a Common<'a>,
    asked: Branches,
    depth: usize,
) -> Pin<Box<dyn Future<Output = Result<HostReply, Fault>> + 'a>> {
    Box::pin(async move {
        let unstarted = Rc::new(Cell::new(0));
        let mut live = FuturesUnordered::new();
        loop {
            let ended = poll_fn(|context| {
                // Looked at each time, since another call of the run may have given places back.
                while live.len() < asked.limit && asked.has_more(unstarted.get()) {
                    let Some(branch) = branch(common, &asked, &unstarted, depth) else { break };
                    live.push(branch);
                }
                live.poll_next_unpin(context)
            })
            .await;
            match ended {
                None if asked.has_more(0) => return Ok(HostReply::RunHere),
                None => return Ok(HostReply::Unit),
                Some(Err(fault)) => return Err(fault),
                Some(Ok(())) if common.ending().is_some() => return Ok(HostReply::Ended),
                Some(Ok(())) => {}
            }
        }
    })
}

/// A further branch, where the run may have one and the worker has a stack for it.
fn branch<'a>(
    common: &'a Common<'a>,
    asked: &Branches,
    unstarted: &Rc<Cell<usize>>,
    depth: usize,
) -> Option<impl Future<Output = Result<(), Fault>> + 'a> {
    if depth > DEPTH_MAX || common.branches.get() >= BRANCHES_MAX {
        return None;
    }
    let place = common.stacks.enter_now()?;
    let body = {
        let (asked, unstarted) = (asked.clone(), Rc::clone(unstarted));
        let (compiled, limits) = (Rc::clone(&common.compiled), common.limits);
        move || {
            unstarted.set(unstarted.get() - 1);
            asked.work(&compiled).map_err(|error| Ended::of(&compiled, &limits, &error))
        }
    };
    let coroutine = Coroutine::new(common.stacks, place, body).ok()?;
    unstarted.set(unstarted.get() + 1);
    let counted = Counted::new(&common.branches);
    let mut strand = Strand::new(common, coroutine, None, depth);
    Some(async move {
        let ended = strand.drive().await?;
        drop((strand, counted));
        if let Err(Ended { ending, frame }) = ended {
            common.end(ending, frame);
        }
        Ok(())
    })
}

/// One of the live branches, while it lives.
struct Counted<'a>(&'a Cell<usize>);

impl<'a> Counted<'a> {
    fn new(branches: &'a Cell<usize>) -> Self {
        branches.set(branches.get() + 1);
        Self(branches)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// How a branch ended the run, as plain data.
struct Ended {
    ending: Ending,
    frame: Option<Box<Frame>>,
}

impl Ended {
    /// Inside the coroutine. The error is dropped there.
    fn of(compiled: &Compiled, limits: &Limits, error: &Throw) -> Self {
        memory::uncharged(|| match failure(compiled, limits, error) {
            Failure::Ended { ending, frame } => Self { ending, frame },
            _ => Self { ending: Ending::Cancelled, frame: None },
        })
    }
}
