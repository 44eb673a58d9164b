//! From changed files to the next generation, on the loader thread. A change is only a hint to look; what counts is the text. A script whose
//! newest version does not load keeps serving its last good one; a clash between files keeps the whole old generation.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, atomic::Ordering};
use std::time::{Duration, Instant};

use notify::{EventKind, RecursiveMode, Watcher as _};
use tokio::sync::watch;

use super::folder::{self, Fingerprint, Folder, Unreadable};
use crate::clock;
use crate::config::Config;
use crate::frame::Frame;
use crate::generation::Generation;
use crate::script::handler::{Script, Sources};
use crate::script::load::{Candidate, Loader};
use crate::script::refusal;
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
    said: Vec<String>,
    number: u64,
}

/// A script as this thread knows it.
struct Known {
    /// What was last tried.
    source: Result<Arc<str>, Unreadable>,
    modules: Arc<Sources>,
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
            number: 0,
        }
    }

    /// Looks at the folder; a generation where something has changed and joins.
    pub(crate) fn look(&mut self) -> (Option<Generation>, Report) {
        let folder = self.config.scripts.dir.clone();
        self.fingerprint = folder::fingerprint(&folder);
        let look = folder::read(&folder);
        let mut report = Report { generation: self.number, ..Report::default() };
        self.say_skipped(&look, &mut report);
        if *look.modules != *self.modules {
            self.modules = Arc::clone(&look.modules);
        }
        let mut changed = self.number == 0;
        changed |= self.forget_removed(&look, &mut report);
        for (name, source) in look.scripts {
            changed |= self.load(&name, source, &mut report);
        }
        if !changed {
            return (None, report);
        }
        match self.join() {
            Ok(generation) => {
                self.number = generation.number;
                (report.generation, report.is_new) = (self.number, true);
                (Some(generation), report)
            }
            Err(clashes) => {
                report.problems.extend(clashes);
                (None, report)
            }
        }
    }

    /// Whether names, lengths or times differ from those at the last look.
    fn has_changed(&self) -> bool {
        folder::fingerprint(&self.config.scripts.dir) != self.fingerprint
    }

    fn forget_removed(&mut self, look: &Folder, report: &mut Report) -> bool {
        let gone: Vec<_> =
            self.scripts.keys().filter(|name| !look.scripts.contains_key(*name)).cloned().collect();
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
        source: Result<Arc<str>, Unreadable>,
        report: &mut Report,
    ) -> bool {
        let known = self.scripts.get(name);
        let imports = source.as_ref().is_ok_and(|source| source.contains("import"));
        if let Some(known) = known
            && known.source == source
            && (!imports || Arc::ptr_eq(&known.modules, &self.modules))
        {
            return false;
        }
        let good = known.and_then(|known| known.good.clone());
        let is_first = known.is_none();
        let path: Arc<str> =
            format!("{}/{name}.rhai", folder_name(&self.config.scripts.dir)).into();
        let loaded = match &source {
            Ok(text) => {
                let candidate = Candidate {
                    name: Arc::clone(name),
                    path,
                    source: Arc::clone(text),
                    modules: Arc::clone(&self.modules),
                    vars: Arc::new(self.config.vars.clone()),
                };
                let loaded = self.loader.load(&candidate);
                report.problems.extend(loaded.warnings);
                loaded.script
            }
            Err(unreadable) => Err(vec![refusal::unreadable(&path, &unreadable.to_string())]),
        };
        let known = |good| Known { source, modules: Arc::clone(&self.modules), good };
        match loaded {
            Ok(script) => {
                self.scripts.insert(Arc::clone(name), known(Some(script)));
                report.changed.push(Arc::clone(name));
                true
            }
            Err(mut frames) => {
                let note = match &good {
                    Some(_) => format!(
                        "not reloaded; the version of generation {} still serves",
                        self.number
                    ),
                    None => {
                        "this script serves nothing until it loads; events for it wait".to_owned()
                    }
                };
                for frame in &mut frames {
                    frame.notes.push(note.clone());
                }
                report.problems.extend(frames);
                self.scripts.insert(Arc::clone(name), known(good));
                is_first
            }
        }
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

    fn say_skipped(&mut self, look: &Folder, report: &mut Report) {
        let unreadable = look.unreadable.iter().map(|(path, reason)| format!("{path}: {reason}"));
        let skipped: Vec<String> = look.skipped.iter().cloned().chain(unreadable).collect();
        report.skipped = skipped.iter().filter(|line| !self.said.contains(line)).cloned().collect();
        self.said = skipped;
    }
}

/// `scripts`, as the reader would type it.
fn folder_name(dir: &std::path::Path) -> String {
    dir.file_name()
        .map_or_else(|| dir.display().to_string(), |name| name.to_string_lossy().into_owned())
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

/// The watch on the folder. A folder that was deleted and made again is another one, and has to be watched again.
struct Watching {
    folder: PathBuf,
    hints: Hints,
    watched: Option<(notify::RecommendedWatcher, u64)>,
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
        if self.watched.as_ref().is_some_and(|(_, watched)| *watched == inode) {
            return;
        }
        self.watched = self
            .watch()
            .map(|watcher| (watcher, inode))
            .map_err(|error| {
                tracing::debug!(
                    "the scripts folder cannot be watched, so it is looked at every 2 s: {error}"
                )
            })
            .ok();
    }

    fn watch(&self) -> notify::Result<notify::RecommendedWatcher> {
        let hints = self.hints.clone();
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                // Reading is an event too: a reload that reads would reload for ever.
                if event.is_ok_and(|event| !matches!(event.kind, EventKind::Access(_))) {
                    hints.look();
                }
            })?;
        watcher.watch(&self.folder, RecursiveMode::Recursive)?;
        Ok(watcher)
    }
}

#[cfg(unix)]
fn inode(path: &std::path::Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).ok().map(|metadata| metadata.ino())
}

#[cfg(not(unix))]
fn inode(path: &std::path::Path) -> Option<u64> {
    path.exists().then_some(0)
}
