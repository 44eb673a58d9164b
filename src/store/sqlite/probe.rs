//! A test's hand inside the writer: makes a commit fail, wait, or be the last thing that happens. In the product it does nothing.

use std::time::Duration;

use rusqlite::Connection;

#[cfg(test)]
use std::sync::Mutex;
#[cfg(test)]
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Called by the writer between the last statement of a batch and its commit.
#[cfg(test)]
type Hook = Box<dyn FnMut(&Connection) -> rusqlite::Result<()> + Send>;

#[cfg(test)]
#[derive(Default)]
pub(super) struct Probe {
    hook: Mutex<Option<Hook>>,
    batches: AtomicU64,
    impatient: AtomicBool,
}

#[cfg(test)]
impl Probe {
    pub(super) fn set_hook(&self, hook: Option<Hook>) {
        *self.hook.lock().unwrap() = hook;
    }

    /// Commits that were about to be made, so far.
    pub(super) fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }

    /// Locks of others are waited for a moment only.
    pub(super) fn be_impatient(&self) {
        self.impatient.store(true, Ordering::Relaxed);
    }

    pub(super) fn patience(&self, usual: Duration) -> Duration {
        if self.impatient.load(Ordering::Relaxed) { Duration::from_millis(1) } else { usual }
    }

    pub(super) fn before_commit(&self, connection: &Connection) -> rusqlite::Result<()> {
        self.batches.fetch_add(1, Ordering::Relaxed);
        match self.hook.lock().unwrap().as_mut() {
            Some(hook) => hook(connection),
            None => Ok(()),
        }
    }
}

#[cfg(not(test))]
#[derive(Default)]
pub(super) struct Probe {}

#[cfg(not(test))]
#[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "the signatures of tests")]
impl Probe {
    pub(super) fn patience(&self, usual: Duration) -> Duration {
        usual
    }

    pub(super) fn before_commit(&self, _: &Connection) -> rusqlite::Result<()> {
        Ok(())
    }
}
