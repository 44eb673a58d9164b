//! What workers tell the dispatcher: events they could not take, jobs they are through with. Nothing told is ever dropped; the lists are
//! bounded by `max_pending` and by what the dispatcher hands out. A worker touches this off the usual path only.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::store::{Accepted, JobKey, Seq, Turn, Undispatched};

/// Shared by the workers and the dispatcher.
#[derive(Default)]
pub(crate) struct Notes {
    lists: Mutex<Lists>,
    wake: Notify,
    timers: Notify,
    /// Of what the dispatcher has handed out, how much stands in line at a gate: it keeps nobody from running.
    in_line: AtomicUsize,
    stopping: AtomicBool,
    /// The same for those who wait for it.
    stopped: CancellationToken,
}

/// What was told since the dispatcher looked.
#[derive(Default)]
pub(super) struct Lists {
    pub(super) overflow: VecDeque<Undispatched>,
    /// Jobs of events with several that a worker has not ended yet. Only the dispatcher takes one out, so that it can trust what it read before.
    pub(super) claimed: HashSet<JobKey>,
    pub(super) released: Vec<JobKey>,
    pub(super) ended: Vec<super::dispatch::Handed>,
}

impl Notes {
    /// For `shutdown`: from now on workers start nothing new.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.stopped.cancel();
        self.wake.notify_one();
    }

    /// When `stop` is called.
    pub(super) async fn stopped(&self) {
        self.stopped.cancelled().await;
    }

    pub(super) fn in_line(&self) -> usize {
        self.in_line.load(Ordering::Acquire)
    }

    /// Counts one that the dispatcher handed out while it stands in line.
    pub(super) fn stand_in_line(&self) -> InLine<'_> {
        self.in_line.fetch_add(1, Ordering::AcqRel);
        self.wake();
        InLine(self)
    }

    /// Whether `stop` was called.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Something has become due.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    pub(super) fn overflow(&self, event: Seq, webhook: &Arc<str>) {
        let webhook = Arc::clone(webhook);
        self.lists().overflow.push_back(Undispatched { event, webhook, plan: false });
        self.wake.notify_one();
    }

    /// Events whose turn has come.
    pub(super) fn turns(&self, turns: Vec<Turn>) {
        if turns.is_empty() {
            return;
        }
        let undispatched = |Turn { event, webhook, plan }| Undispatched { event, webhook, plan };
        self.lists().overflow.extend(turns.into_iter().map(undispatched));
        self.wake.notify_one();
    }

    /// An event was taken by somebody who runs none: the dispatcher does.
    pub(crate) fn taken(&self, accepted: Accepted, webhook: &Arc<str>) {
        match accepted {
            Accepted::New(event) => self.overflow(event, webhook),
            Accepted::Behind { event, plan: true } => {
                self.turns(vec![Turn { event, webhook: Arc::clone(webhook), plan: true }]);
            }
            // Its turn comes with the end of another.
            Accepted::Behind { plan: false, .. } | Accepted::Duplicate { .. } => {}
            // Its jobs are due.
            Accepted::Revived(_) => self.wake(),
        }
    }

    /// An event of a timer has ended: the next may be overdue.
    pub(super) fn timer_ended(&self) {
        self.timers.notify_one();
    }

    /// The next time that one has, or has since the last look.
    pub(super) async fn any_timer_ended(&self) {
        self.timers.notified().await;
    }

    pub(super) fn claim(&self, jobs: impl Iterator<Item = JobKey>) {
        self.lists().claimed.extend(jobs);
    }

    pub(super) fn release(&self, job: JobKey) {
        self.lists().released.push(job);
        self.wake.notify_one();
    }

    pub(super) fn ended(&self, handed: super::dispatch::Handed) {
        self.lists().ended.push(handed);
        self.wake.notify_one();
    }

    pub(super) fn lists(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next time that something was told, or was told since the last look.
    pub(super) async fn told(&self) {
        self.wake.notified().await;
    }
}

/// One in line, while it lives.
pub(super) struct InLine<'a>(&'a Notes);

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.0.in_line.fetch_sub(1, Ordering::AcqRel);
    }
}
