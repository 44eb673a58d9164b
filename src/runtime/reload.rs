//! From changed files to the next generation, on the loader thread. A change is only a hint to look; what counts is the text. A configuration or
//! a script whose newest version cannot be meant keeps serving as its last good one; a clash between files keeps the whole old generation.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;

use super::configured::{Configured, Reread};
use super::folder::{self, Fingerprint, Folder};
use super::watch::{Hinted, Hints, Wanted, Watches, Woken};
use crate::config::Config;
use crate::config::live::Waiting;
use crate::frame::Frame;
use crate::generation::{Declared, Generation};
use crate::provider::budget::Ledger;
use crate::script::handler::{Ambient, Script, Sources};
use crate::script::imports::Imports;
use crate::script::load::{Candidate, Loaded, Loader};
use crate::server::{Differs, Process};
use crate::webhook::Webhook;

/// Without a hint the files are looked at so often; watching fails on some file systems, and for folders made anew.
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
    /// Keys of config that serve with another meaning now; never their values.
    pub(crate) configured: Vec<String>,
    /// Changes of config that wait for a restart; each once.
    pub(crate) waiting: Vec<Waiting>,
    /// Keys that waited for a restart and are again as they run.
    pub(crate) settled: Vec<&'static str>,
    /// Config could not be meant, and now can.
    pub(crate) mended: bool,
}

/// Loads config and the scripts folder, again and again.
pub(crate) struct Reloader {
    configured: Configured,
    /// What the newest config that can be meant gives to scripts.
    ambient: Arc<Ambient>,
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
    /// Under which path, with what from config and which modules, and which of these count.
    path: Arc<str>,
    ambient: Arc<Ambient>,
    modules: Arc<Sources>,
    imports: Imports,
    /// Errors and warnings of that try.
    said: Vec<Frame>,
    /// The version that serves.
    good: Option<Arc<Script>>,
}

impl Reloader {
    /// Knows nothing yet; `look` reads.
    pub(crate) fn new(
        config: &Arc<Config>,
        webhooks: &[Arc<Webhook>],
        ledger: &Arc<Ledger>,
    ) -> Result<Self, Vec<Frame>> {
        Ok(Self {
            configured: Configured::new(config, webhooks, ledger)?,
            ambient: Arc::default(),
            loader: Loader::new(config.scripts.memory_budget),
            scripts: BTreeMap::new(),
            modules: Arc::default(),
            fingerprint: Fingerprint::default(),
            said: Vec::new(),
            clash: Vec::new(),
            number: 0,
        })
    }

    /// From now on config is read again at each look, in this way.
    pub(crate) fn follow_config(&mut self, reread: Reread) {
        self.configured.follow(reread);
    }

    /// Looks at config and at the folder; a generation where something has changed and joins.
    pub(crate) fn look(&mut self) -> (Option<Generation>, Report) {
        let mut report = Report { generation: self.number, ..Report::default() };
        let mut changed = self.number == 0;
        changed |= self.configured.look(&mut report);
        let config = self.configured.config();
        let ambient = super::ambient(config, self.configured.providers());
        if ambient != *self.ambient {
            self.ambient = Arc::new(ambient);
        }
        let folder = config.scripts.dir.clone();
        // Before reading: what changes from here on is seen as a change at the next look.
        self.fingerprint = folder::fingerprint(&folder);
        let look = folder::read(&folder);
        self.say_skipped(look.as_ref(), &mut report);
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
                report.configured = self.configured.serves();
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

    /// What is in the files and does not serve.
    fn differs(&self) -> Differs {
        let problems = self.configured.refused().iter().chain(&self.clash);
        Differs {
            problems: problems.map(Frame::one_line).collect(),
            waiting: self.configured.waiting().collect(),
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
        let folder = &self.configured.config().scripts.dir;
        self.configured.has_changed() || folder::fingerprint(folder) != self.fingerprint
    }

    /// Every folder in which a change may count.
    fn wanted(&self) -> Vec<Wanted> {
        let folder = self.configured.config().scripts.dir.clone();
        let scripts = Wanted { folder, names: None };
        std::iter::once(scripts).chain(self.configured.wanted()).collect()
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
        let folder = &self.configured.config().scripts.dir;
        let path: Arc<str> = folder::as_typed(folder, Path::new(&format!("{name}.rhai"))).into();
        if let Some(known) = known
            && known.source == source
            && known.path == path
            && *known.ambient == *self.ambient
            && !known.imports.differ(&known.modules, &self.modules)
        {
            return false;
        }
        let Loaded { script, warnings } = match &source {
            Ok(text) => self.loader.load(&Candidate {
                name: Arc::clone(name),
                path: Arc::clone(&path),
                source: Arc::clone(text),
                modules: Arc::clone(&self.modules),
                ambient: Arc::clone(&self.ambient),
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
        let (ambient, modules) = (Arc::clone(&self.ambient), Arc::clone(&self.modules));
        let known = Known { source, path, ambient, modules, imports, said, good };
        self.scripts.insert(Arc::clone(name), known);
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
            Arc::clone(self.configured.config()),
            Declared {
                webhooks: self.configured.webhooks().to_vec(),
                auth: self.configured.auth().to_vec(),
                providers: self.configured.providers().into(),
            },
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

/// The loader thread's life after the first generation: wait for a hint, let the files rest, look, swap.
pub(super) fn follow(
    mut reloader: Reloader,
    process: &Process,
    swapped: &watch::Sender<u64>,
    (hints, hinted): (Hints, Hinted),
    apply: &dyn Fn(&Config),
    report: &dyn Fn(&Report),
) {
    let mut watches = Watches::new(hints);
    watches.renew(reloader.wanted());
    loop {
        match hinted.wait(LOOK_AGAIN) {
            Woken::Stopped => return,
            Woken::Hinted => {}
            Woken::Quiet => {
                watches.renew(reloader.wanted());
                if !reloader.has_changed() {
                    continue;
                }
            }
        }
        if hinted.rest() {
            return;
        }
        watches.renew(reloader.wanted());
        let (generation, looked) = reloader.look();
        if let Some(generation) = generation {
            let number = generation.number;
            apply(&generation.config);
            process.current.store(Arc::new(generation));
            _ = swapped.send(number);
        }
        process.differs.store(Arc::new(reloader.differs()));
        // What a new version names is watched too.
        watches.renew(reloader.wanted());
        if process.draining.load(Ordering::Acquire) {
            return;
        }
        report(&looked);
    }
}
