//! From changed files to the next generation, on the loader thread. A change is only a hint to look; what counts is the text. A script whose
//! newest version does not load keeps serving its last good one; a clash between files keeps the whole old generation.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use notify::event::ModifyKind;
use notify::{EventKind, RecursiveMode, Watcher as _};
use tokio::sync::watch;

use super::folder::{self, Fingerprint, Folder};
use crate::clock;
use crate::config::Config;
use crate::frame::Frame;
use crate::generation::Generation;
use crate::script::handler::{Script, Sources};
use crate::script::imports::Imports;
use crate::script::load::{Candidate, Loaded, Loader};
use crate::server::Process;
use crate::webhook::Webhook;

/// Files must rest so long before they are read: an editor may write a file in two halves.
const REST: Duration = Duration::from_millis(100);
/// But under changes that never rest they are read this often.
const REST_MAX: Duration = Duration::from_millis(500);
/// Without a hint the folder is looked at so often; watching fails on some file systems, and for folders made anew.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// What one look came to, for whoever shows it.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// The generation that serves now.
    pub(crate) generation: u64,
    /// Whether this look made it.
    pub(crate) is_new: bool,
    /// Scripts whose new version serves now, or that went.
    pub(crate) changed: Vec<Arc<str>>,
    /// Scripts whose file is gone.
    pub(crate) removed: Vec<Arc<str>>,
    /// Each problem once, when it appears.
    pub(crate) problems: Vec<Frame>,
    /// Files that were passed over; each once.
    pub(crate) skipped: Vec<String>,
}

/// Loads the scripts folder, again and again.
pub(crate) struct Reloader {
    config: Arc<Config>,
    webhooks: Vec<Arc<Webhook>>,
    loader: Loader,
    scripts: BTreeMap<Arc<str>, Known>,
    modules: Arc<Sources>,
    fingerprint: Fingerprint,
    /// What was said at the last look and still holds, so that it is not said again: of files passed over, and of what clashes.
    said: Vec<String>,
    clash: Vec<Frame>,
    number: u64,
}

/// A script as this thread knows it.
struct Known {
    /// What was last tried.
    source: Result<Arc<str>, Frame>,
    /// With which modules, and which of them count.
    modules: Arc<Sources>,
    imports: Imports,
    /// Errors and warnings of that try.
    said: Vec<Frame>,
    /// The version that serves.
    good: Option<Arc<Script>>,
}

impl Reloader {
    /// Knows nothing yet; `look` reads.
    pub(crate) fn new(config: &Arc<Config>, webhooks: &[Arc<Webhook>]) -> Self {
        Self {
            config: Arc::clone(config),
            webhooks: webhooks.to_vec(),
            loader: Loader::new(config.scripts.memory_budget),
            scripts: BTreeMap::new(),
            modules: Arc::default(),
            fingerprint: Fingerprint::default(),
            said: Vec::new(),
            clash: Vec::new(),
            number: 0,
        }
    }

    /// Looks at the folder; a generation where something has changed and joins.
    pub(crate) fn look(&mut self) -> (Option<Generation>, Report) {
        let folder = self.config.scripts.dir.clone();
        // Before reading: what changes from here on is seen as a change at the next look.
        self.fingerprint = folder::fingerprint(&folder);
        let mut report = Report { generation: self.number, ..Report::default() };
        let look = folder::read(&folder);
        self.say_skipped(look.as_ref(), &mut report);
        let mut changed = self.number == 0;
        if let Ok(look) = look {
            if *look.modules != *self.modules {
                self.modules = look.modules;
            }
            changed |= self.forget_removed(&look.scripts, &mut report);
            for (name, source) in look.scripts {
                changed |= self.load(&name, source, &mut report);
            }
        }
        if !changed {
            return (None, report);
        }
        match self.join() {
            Ok(generation) => {
                self.clash.clear();
                self.number = generation.number;
                (report.generation, report.is_new) = (self.number, true);
                (Some(generation), report)
            }
            Err(clash) => {
                if clash != self.clash {
                    report.problems.extend(clash.iter().map(|frame| self.kept(frame)));
                    self.clash = clash;
                }
                (None, report)
            }
        }
    }

    /// A clash, with what goes on serving meanwhile.
    fn kept(&self, frame: &Frame) -> Frame {
        match self.number {
            0 => frame.clone(),
            number => frame.clone().note(format!("not reloaded; generation {number} still serves")),
        }
    }

    /// Whether names, lengths or times differ from those at the last look.
    fn has_changed(&self) -> bool {
        folder::fingerprint(&self.config.scripts.dir) != self.fingerprint
    }

    fn forget_removed(
        &mut self,
        found: &BTreeMap<Arc<str>, Result<Arc<str>, Frame>>,
        report: &mut Report,
    ) -> bool {
        let gone: Vec<_> =
            self.scripts.keys().filter(|name| !found.contains_key(*name)).cloned().collect();
        for name in &gone {
            self.scripts.remove(name);
        }
        let any = !gone.is_empty();
        report.removed = gone;
        any
    }

    /// True when another version serves from now on, or a script without one appears.
    fn load(
        &mut self,
        name: &Arc<str>,
        source: Result<Arc<str>, Frame>,
        report: &mut Report,
    ) -> bool {
        let known = self.scripts.get(name);
        if let Some(known) = known
            && known.source == source
            && !known.imports.differ(&known.modules, &self.modules)
        {
            return false;
        }
        let path = folder::as_typed(&self.config.scripts.dir, Path::new(&format!("{name}.rhai")));
        let Loaded { script, warnings } = match &source {
            Ok(text) => self.loader.load(&Candidate {
                name: Arc::clone(name),
                path: path.into(),
                source: Arc::clone(text),
                modules: Arc::clone(&self.modules),
                vars: Arc::new(self.config.vars.clone()),
            }),
            Err(frame) => Loaded { script: Err(vec![frame.clone()]), warnings: Vec::new() },
        };
        let is_first = known.is_none();
        let before = known.and_then(|known| known.good.clone());
        let (good, imports, errors) = match script {
            Ok(script) => {
                let imports = script.imports.clone();
                (Some(script), imports, Vec::new())
            }
            // What it imports may be what is wrong with it.
            Err(errors) => (before.clone(), Imports::Any, self.with_what_serves(errors, &before)),
        };
        let is_new = errors.is_empty();
        let said: Vec<Frame> = errors.into_iter().chain(warnings).collect();
        if known.is_none_or(|known| known.said != said) {
            report.problems.extend(said.iter().cloned());
        }
        if is_new {
            report.changed.push(Arc::clone(name));
        }
        let modules = Arc::clone(&self.modules);
        self.scripts.insert(Arc::clone(name), Known { source, modules, imports, said, good });
        is_new || is_first
    }

    /// Errors of a version that does not load, with what becomes of its handlers.
    fn with_what_serves(&self, errors: Vec<Frame>, good: &Option<Arc<Script>>) -> Vec<Frame> {
        let note = match good {
            Some(_) => "not reloaded; its last good version still serves",
            None => "this script serves nothing until it loads; events for it wait",
        };
        errors.into_iter().map(|frame| frame.note(note)).collect()
    }

    fn join(&self) -> Result<Generation, Vec<Frame>> {
        let good = self.scripts.values().filter_map(|known| known.good.clone()).collect();
        let broken = self
            .scripts
            .iter()
            .filter(|(_, known)| known.good.is_none())
            .map(|(name, _)| Arc::clone(name))
            .collect();
        Generation::join(
            self.number + 1,
            Arc::clone(&self.config),
            self.webhooks.clone(),
            good,
            broken,
        )
    }

    fn say_skipped(&mut self, look: Result<&Folder, &folder::Unlisted>, report: &mut Report) {
        let skipped = match look {
            Ok(look) => {
                let unreadable = look.unreadable.iter().map(Frame::one_line);
                look.skipped.iter().cloned().chain(unreadable).collect()
            }
            Err(unlisted) => vec![unlisted.to_string()],
        };
        report.skipped = skipped.iter().filter(|line| !self.said.contains(line)).cloned().collect();
        self.said = skipped;
    }
}

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
pub(crate) struct Hinted(Receiver<Hint>);

/// Hints that are not yet heard: one is enough to look once more, and a second for what happens meanwhile.
pub(crate) fn hints() -> (Hints, Hinted) {
    let (sender, receiver) = sync_channel(2);
    (Hints(sender), Hinted(receiver))
}

/// The loader thread's life after the first generation: wait for a hint, let the files rest, look, swap.
pub(crate) fn follow(
    mut reloader: Reloader,
    process: &Process,
    swapped: &watch::Sender<u64>,
    hints: Hints,
    Hinted(hinted): Hinted,
    report: &dyn Fn(&Report),
) {
    let mut watching = Watching::new(reloader.config.scripts.dir.clone(), hints);
    loop {
        match hinted.recv_timeout(LOOK_AGAIN) {
            Ok(Hint::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            Ok(Hint::Changed) => {
                if rest(&hinted) {
                    return;
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                watching.renew();
                if !reloader.has_changed() {
                    continue;
                }
                if rest(&hinted) {
                    return;
                }
            }
        }
        watching.renew();
        let (generation, looked) = reloader.look();
        if let Some(generation) = generation {
            let number = generation.number;
            process.current.store(Arc::new(generation));
            _ = swapped.send(number);
        }
        if process.draining.load(Ordering::Acquire) {
            return;
        }
        report(&looked);
    }
}

/// Waits until the files rest; true when it is time to stop.
fn rest(hinted: &Receiver<Hint>) -> bool {
    let first = clock::instant();
    loop {
        match hinted.recv_timeout(REST) {
            Ok(Hint::Stop) | Err(RecvTimeoutError::Disconnected) => return true,
            Ok(Hint::Changed) if since(first) < REST_MAX => {}
            Ok(Hint::Changed) | Err(RecvTimeoutError::Timeout) => return false,
        }
    }
}

fn since(instant: Instant) -> Duration {
    clock::instant().saturating_duration_since(instant)
}

/// The watch on the folder. A folder that was deleted and made again is another one, even with the same inode, and has to be watched again.
struct Watching {
    folder: PathBuf,
    hints: Hints,
    watched: Option<Watched>,
}

struct Watched {
    /// Watches while it lives.
    _watcher: notify::RecommendedWatcher,
    inode: u64,
    /// Set when the folder itself was removed or renamed.
    lost: Arc<AtomicBool>,
}

impl Watching {
    fn new(folder: PathBuf, hints: Hints) -> Self {
        let mut watching = Self { folder, hints, watched: None };
        watching.renew();
        watching
    }

    fn renew(&mut self) {
        let Some(inode) = inode(&self.folder) else {
            self.watched = None;
            return;
        };
        let still =
            |watched: &Watched| watched.inode == inode && !watched.lost.load(Ordering::Acquire);
        if self.watched.as_ref().is_some_and(still) {
            return;
        }
        self.watched = match self.watch(inode) {
            Ok(watched) => Some(watched),
            Err(error) => {
                tracing::debug!(
                    "the scripts folder cannot be watched, so it is looked at every 2 s: {error}"
                );
                None
            }
        };
    }

    fn watch(&self, inode: u64) -> notify::Result<Watched> {
        let lost = Arc::new(AtomicBool::new(false));
        let (hints, folder, gone) = (self.hints.clone(), self.folder.clone(), Arc::clone(&lost));
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                let Ok(event) = event else { return };
                let itself = || event.paths.contains(&folder);
                match event.kind {
                    // Reading is an event too: a reload that reads would reload for ever.
                    EventKind::Access(_) => return,
                    EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) if itself() => {
                        gone.store(true, Ordering::Release);
                    }
                    _ => {}
                }
                hints.look();
            })?;
        watcher.watch(&self.folder, RecursiveMode::Recursive)?;
        Ok(Watched { _watcher: watcher, inode, lost })
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
