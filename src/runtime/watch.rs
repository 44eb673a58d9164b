//! Hints that something may have changed, and where they come from: the system's watch on folders, and whoever asks. A hint is never more than a
//! reason to look; where folders cannot be watched, they are looked at all the same.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use notify::event::ModifyKind;
use notify::{EventKind, RecursiveMode, Watcher as _};

use crate::clock;

/// Files must rest so long before they are read: an editor may write a file in two halves.
const REST: Duration = Duration::from_millis(100);
/// But under changes that never rest they are read this often.
const REST_MAX: Duration = Duration::from_millis(500);
/// Folders watched at a time: scripts, config, and a few with secrets. What is in further ones is only looked at.
const FOLDERS_MAX: usize = 16;

/// A hint to look: a file changed, or somebody asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hint {
    Changed,
    Stop,
}

/// The way to the loader thread.
#[derive(Clone)]
pub(crate) struct Hints(SyncSender<Hint>);

impl Hints {
    /// Asks for a look, as SIGHUP does. Many at once are one.
    pub(crate) fn look(&self) {
        match self.0.try_send(Hint::Changed) {
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        _ = self.0.send(Hint::Stop);
    }
}

/// Where hints arrive.
pub(super) struct Hinted(Receiver<Hint>);

/// What waiting came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// Somebody said that something may have changed.
    Hinted,
    /// Nobody did for as long as was waited.
    Quiet,
    /// It is time to end.
    Stopped,
}

/// Hints that are not yet heard: one is enough to look once more, and a second for what happens meanwhile.
pub(super) fn hints() -> (Hints, Hinted) {
    let (sender, receiver) = sync_channel(2);
    (Hints(sender), Hinted(receiver))
}

impl Hinted {
    /// Waits for a hint.
    pub(super) fn wait(&self, at_most: Duration) -> Woken {
        match self.0.recv_timeout(at_most) {
            Ok(Hint::Stop) | Err(RecvTimeoutError::Disconnected) => Woken::Stopped,
            Ok(Hint::Changed) => Woken::Hinted,
            Err(RecvTimeoutError::Timeout) => Woken::Quiet,
        }
    }

    /// Waits until the files rest; true when it is time to stop.
    pub(super) fn rest(&self) -> bool {
        let first = clock::instant();
        loop {
            match self.wait(REST) {
                Woken::Stopped => return true,
                Woken::Hinted if since(first) < REST_MAX => {}
                Woken::Hinted | Woken::Quiet => return false,
            }
        }
    }
}

fn since(instant: Instant) -> Duration {
    clock::instant().saturating_duration_since(instant)
}

/// What is to be watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// A folder; it may not be there.
    pub(super) folder: PathBuf,
    /// The files in it that count; `None`: all of them, and those in folders within.
    pub(super) names: Option<BTreeSet<OsString>>,
}

impl Wanted {
    /// The folders of these files, each once.
    pub(super) fn folders_of(files: &[PathBuf]) -> Vec<Self> {
        let mut wanted: Vec<Self> = Vec::new();
        for file in files {
            let (Some(folder), Some(name)) = (file.parent(), file.file_name()) else { continue };
            let folder = if folder == Path::new("") { Path::new(".") } else { folder };
            match wanted.iter_mut().find(|known| known.folder == folder) {
                Some(Self { names: Some(names), .. }) => _ = names.insert(name.to_owned()),
                _ => wanted.push(Self {
                    folder: folder.to_owned(),
                    names: Some(BTreeSet::from([name.to_owned()])),
                }),
            }
        }
        wanted
    }

    /// A database may stand beside config.toml; its writes are no hints.
    fn concerns(&self, event: &notify::Event) -> bool {
        let Some(names) = &self.names else { return true };
        // Mounted configuration is swapped by a link named `..data`, and no event names the files behind it.
        let counts =
            |name: &OsStr| names.contains(name) || name.as_encoded_bytes().starts_with(b"..");
        event.paths.iter().any(|path| path == &self.folder || path.file_name().is_some_and(counts))
    }
}

/// The watches on folders. A folder that was deleted and made again is another one, even with the same inode, and has to be watched again.
pub(super) struct Watches {
    hints: Hints,
    watched: Vec<Watched>,
}

struct Watched {
    wanted: Wanted,
    /// Watches while it lives.
    _watcher: notify::RecommendedWatcher,
    inode: u64,
    /// Set when the folder itself was removed or renamed.
    lost: Arc<AtomicBool>,
}

impl Watches {
    /// Watches nothing yet.
    pub(super) fn new(hints: Hints) -> Self {
        Self { hints, watched: Vec::new() }
    }

    /// Watches these, and nothing else.
    pub(super) fn renew(&mut self, wanted: Vec<Wanted>) {
        let mut before = std::mem::take(&mut self.watched);
        for wanted in wanted.into_iter().take(FOLDERS_MAX) {
            let Some(inode) = inode(&wanted.folder) else { continue };
            let still = |watched: &Watched| {
                watched.wanted == wanted
                    && watched.inode == inode
                    && !watched.lost.load(Ordering::Acquire)
            };
            if let Some(at) = before.iter().position(still) {
                self.watched.push(before.swap_remove(at));
                continue;
            }
            let folder = wanted.folder.clone();
            match self.watch(wanted, inode) {
                Ok(watched) => self.watched.push(watched),
                Err(error) => tracing::debug!(
                    "`{}` cannot be watched, so it is looked at every 2 s: {error}",
                    folder.display()
                ),
            }
        }
    }

    fn watch(&self, wanted: Wanted, inode: u64) -> notify::Result<Watched> {
        let lost = Arc::new(AtomicBool::new(false));
        let (hints, filter, gone) = (self.hints.clone(), wanted.clone(), Arc::clone(&lost));
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                let Ok(event) = event else { return };
                let itself = || event.paths.contains(&filter.folder);
                match event.kind {
                    // Reading is an event too: a reload that reads would reload for ever.
                    EventKind::Access(_) => return,
                    EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) if itself() => {
                        gone.store(true, Ordering::Release);
                    }
                    _ => {}
                }
                if filter.concerns(&event) {
                    hints.look();
                }
            })?;
        let mode = match wanted.names {
            Some(_) => RecursiveMode::NonRecursive,
            None => RecursiveMode::Recursive,
        };
        watcher.watch(&wanted.folder, mode)?;
        Ok(Watched { wanted, _watcher: watcher, inode, lost })
    }
}

#[cfg(unix)]
fn inode(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).ok().map(|metadata| metadata.ino())
}

#[cfg(not(unix))]
fn inode(path: &Path) -> Option<u64> {
    path.exists().then_some(0)
}
