//! Debug builds only: a test moves the clocks of a running process through a file. It holds two whole numbers of milliseconds, `elapsed`
//! and `jump`; what was taken over is written beside it (`NAME.taken`), so that a test knows from when on it holds.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use super::Shift;

/// How often the file is read.
const POLL: Duration = Duration::from_millis(5);

/// A file moves the clocks of this process.
static DRIVEN: AtomicBool = AtomicBool::new(false);
static SHIFT: RwLock<Shift> = RwLock::new(Shift { elapsed: 0, jump: 0 });

/// Why the clocks cannot be moved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DriveError {
    /// There is no such file, or it holds something else.
    #[error("RHAIWAY_CLOCK names `{}`, which does not hold two whole numbers of milliseconds", .0.display())]
    File(PathBuf),
    /// The system gives no thread.
    #[error("a thread for RHAIWAY_CLOCK cannot be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// Moves the clocks by what the file holds, now and whenever it changes.
pub(crate) fn drive(path: PathBuf) -> Result<(), DriveError> {
    let Some(first) = read(&path) else { return Err(DriveError::File(path)) };
    take_over(&path, first);
    DRIVEN.store(true, Ordering::Relaxed);
    thread::Builder::new().name("rhaiway-clock".to_owned()).spawn(move || {
        loop {
            thread::sleep(POLL);
            // While a test replaces it, there may be none.
            if let Some(read) = read(&path)
                && read != shift()
            {
                take_over(&path, read);
            }
        }
    })?;
    Ok(())
}

/// By how much the clocks are moved.
pub(super) fn shift() -> Shift {
    *SHIFT.read().unwrap_or_else(PoisonError::into_inner)
}

/// How soon a move is to be noticed, where a test moves the clocks.
pub(super) fn poll() -> Option<Duration> {
    DRIVEN.load(Ordering::Relaxed).then_some(POLL)
}

fn take_over(path: &Path, new: Shift) {
    *SHIFT.write().unwrap_or_else(PoisonError::into_inner) = new;
    // Nobody may be waiting for it.
    let _: std::io::Result<()> =
        fs::write(path.with_extension("taken"), format!("{} {}", new.elapsed, new.jump));
}

fn read(path: &Path) -> Option<Shift> {
    let text = fs::read_to_string(path).ok()?;
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next()?, numbers.next()?, numbers.next()) {
        (Ok(elapsed), Ok(jump), None) => Some(Shift { elapsed, jump }),
        _ => None,
    }
}
