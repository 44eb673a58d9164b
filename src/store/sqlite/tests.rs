//! The cases of storage that need a real file.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;

/// Called by the writer between the last statement of a batch and its commit.
type Hook = Box<dyn FnMut(&Connection) -> rusqlite::Result<()> + Send>;

/// A test's hand inside the writer.
#[derive(Default)]
pub(super) struct Probe {
    pub(super) hook: Mutex<Option<Hook>>,
    pub(super) commits: AtomicU64,
}

impl Probe {
    pub(super) fn before_commit(&self, connection: &Connection) -> rusqlite::Result<()> {
        self.commits.fetch_add(1, Ordering::Relaxed);
        match self.hook.lock().unwrap().as_mut() {
            Some(hook) => hook(connection),
            None => Ok(()),
        }
    }
}
