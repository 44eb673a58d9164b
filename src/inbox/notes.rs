//! What workers tell the dispatcher: events they could not take, jobs they are through with. Nothing told is ever dropped; the lists are
//! bounded by `max_pending` and by what the dispatcher hands out. A worker touches this off the usual path only.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::store::{Seq, Undispatched};

/// Shared by the workers and the dispatcher.
#[derive(Default)]
pub(crate) struct Notes {
    lists: Mutex<Lists>,
    wake: Notify,
    stopping: AtomicBool,
}

/// What was told since the dispatcher looked.
#[derive(Default)]
pub(super) struct Lists {
    pub(super) overflow: VecDeque<Undispatched>,
    /// Events whose jobs an accepting worker still runs. Only the dispatcher takes one out, so that it can trust what it read before.
    pub(super) claimed: HashSet<Seq>,
    pub(super) released: Vec<Seq>,
    pub(super) ended: Vec<super::dispatch::Handed>,
}

impl Notes {
    /// For `shutdown`: from now on workers start nothing new.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.wake.notify_one();
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
        self.lists().overflow.push_back(Undispatched { event, webhook: Arc::clone(webhook) });
        self.wake.notify_one();
    }

    pub(super) fn claim(&self, event: Seq) {
        self.lists().claimed.insert(event);
    }

    pub(super) fn release(&self, event: Seq) {
        self.lists().released.push(event);
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
