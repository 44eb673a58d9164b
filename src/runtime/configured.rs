//! The configuration as the loader thread knows it: the newest version that can be meant, with what cannot change as it was at the start. A version
//! that is broken leaves the one before it; each thing is told once, and when it is mended, that is told too.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use super::reload::Report;
use super::watch::Wanted;
use crate::auth::Auth;
use crate::config::live::{self, Waiting};
use crate::config::{Config, Webhook as Table};
use crate::frame::Frame;
use crate::provider::Provider;
use crate::provider::budget::Ledger;
use crate::webhook::Webhook;

/// Reads the configuration anew, as it was read at the start.
pub(crate) type Reread = Box<dyn Fn() -> Result<Config, Vec<Frame>> + Send>;

/// What config says, now and since the start.
pub(super) struct Configured {
    reread: Option<Reread>,
    /// What cannot change keeps its value from here.
    started: Arc<Config>,
    /// The newest version that can be meant.
    newest: Arc<Config>,
    /// Of that version; one whose table is the same is the same.
    webhooks: Vec<Arc<Webhook>>,
    /// Of that version, in the same way.
    providers: Vec<Arc<Provider>>,
    /// What was used of providers, whatever config says.
    ledger: Arc<Ledger>,
    /// Of that version; keys that were fetched for the one before are kept.
    auth: Vec<Arc<Auth>>,
    /// The version of the generation that serves: another one, while scripts contradict the newest.
    serving: Arc<Config>,
    fingerprint: Fingerprint,
    /// Why the version in the files cannot be meant, as it was told.
    refused: Vec<Frame>,
    /// What deserved a word at the last look, and what waits for a restart.
    noted: Vec<Frame>,
    waiting: Vec<Waiting>,
}

impl Configured {
    /// The configuration of the start, with its webhooks. What it notes was told then.
    pub(super) fn new(
        config: &Arc<Config>,
        webhooks: &[Arc<Webhook>],
        ledger: &Arc<Ledger>,
    ) -> Result<Self, Vec<Frame>> {
        Ok(Self {
            reread: None,
            started: Arc::clone(config),
            newest: Arc::clone(config),
            webhooks: webhooks.to_vec(),
            providers: super::providers(config, |table| {
                Provider::new(table, None, ledger).map(Arc::new)
            })?,
            ledger: Arc::clone(ledger),
            auth: Auth::all(&config.auth, &[]).0,
            serving: Arc::clone(config),
            // The first look reads in any case: much may have passed since config was read.
            fingerprint: Fingerprint::default(),
            refused: Vec::new(),
            noted: noted(config),
            waiting: Vec::new(),
        })
    }

    /// From now on it is read again at each look.
    pub(super) fn follow(&mut self, reread: Reread) {
        self.reread = Some(reread);
    }

    /// The newest version that can be meant.
    pub(super) fn config(&self) -> &Arc<Config> {
        &self.newest
    }

    /// Its webhooks.
    pub(super) fn webhooks(&self) -> &[Arc<Webhook>] {
        &self.webhooks
    }

    /// Its providers.
    pub(super) fn providers(&self) -> &[Arc<Provider>] {
        &self.providers
    }

    /// Its ways to tell callers apart.
    pub(super) fn auth(&self) -> &[Arc<Auth>] {
        &self.auth
    }

    /// Whether files, lengths or times differ from those at the last look; a version that is refused is tried until it is mended, for what it
    /// lacks may be anywhere.
    pub(super) fn has_changed(&self) -> bool {
        !self.refused.is_empty() || fingerprint(&self.newest.files) != self.fingerprint
    }

    /// The files from which config is made.
    pub(super) fn wanted(&self) -> Vec<Wanted> {
        Wanted::folders_of(&self.newest.files)
    }

    /// Reads config again; true where it means something else now.
    pub(super) fn look(&mut self, report: &mut Report) -> bool {
        let Some(reread) = &self.reread else { return false };
        // Before reading: what changes from here on is seen as a change at the next look.
        let before = fingerprint(&self.newest.files);
        let read = reread().and_then(|config| self.fit_to_run(config));
        let read = read.and_then(|config| Ok((self.renewed_providers(&config)?, config)));
        self.fingerprint = before;
        match read {
            Ok((providers, config)) => {
                let means_another = self.take(config, report);
                self.providers = providers;
                means_another
            }
            Err(frames) => {
                if frames != self.refused {
                    let serving = report.generation;
                    report.problems.extend(frames.iter().map(|frame| kept(frame, serving)));
                    self.refused = frames;
                }
                false
            }
        }
    }

    /// Why the version in the files is not used; empty where it is.
    pub(super) fn refused(&self) -> &[Frame] {
        &self.refused
    }

    /// Keys whose change waits for a restart.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &'static str> {
        self.waiting.iter().map(|waiting| waiting.key)
    }

    /// The newest version has been joined and serves: which keys have changed by that.
    pub(super) fn serves(&mut self) -> Vec<String> {
        let before = std::mem::replace(&mut self.serving, Arc::clone(&self.newest));
        live::changed(&before, &self.newest)
    }

    /// What is fine at a start and nobody can mean while it runs.
    fn fit_to_run(&self, config: Config) -> Result<Config, Vec<Frame>> {
        let path = config.path.display();
        let is_empty = fs::metadata(&config.path).is_ok_and(|metadata| metadata.len() == 0);
        if is_empty && !live::changed(&self.newest, &config).is_empty() {
            let frame = Frame::error("E0114", format!("`{path}` has become empty"));
            return Err(vec![frame.help("save it again; a full disk leaves such files")]);
        }
        let folder = &config.scripts.dir;
        if *folder != self.newest.scripts.dir && !folder.is_dir() {
            let title = format!("`scripts.dir` names `{}`, which is no folder", folder.display());
            let help = "make it before config names it, or jobs would find their scripts gone";
            return Err(vec![Frame::error("E0114", title).help(help)]);
        }
        Ok(config)
    }

    fn take(&mut self, mut config: Config, report: &mut Report) -> bool {
        report.mended = !std::mem::take(&mut self.refused).is_empty();
        let waiting = live::hold_back(&mut config, &self.started);
        report.waiting =
            waiting.iter().filter(|waits| !self.waiting.contains(waits)).cloned().collect();
        let waits = |known: &Waiting| waiting.iter().any(|waiting| waiting.key == known.key);
        report.settled =
            self.waiting.iter().filter(|known| !waits(known)).map(|known| known.key).collect();
        self.waiting = waiting;

        let noted = noted(&config);
        let was_noted = |frame: &&Frame| self.noted.iter().any(|known| known.title == frame.title);
        report.problems.extend(noted.iter().filter(|frame| !was_noted(frame)).cloned());
        self.noted = noted;

        let means_another = !live::changed(&self.newest, &config).is_empty();
        let config = Arc::new(config);
        self.webhooks = self.renewed(&config);
        self.auth = Auth::all(&config.auth, &self.auth).0;
        // Even where it means the same: a comment moves the lines that frames point at.
        self.newest = config;
        self.fingerprint_new_files();
        means_another
    }

    /// A file that was not asked for before has not been looked at either.
    fn fingerprint_new_files(&mut self) {
        let now = fingerprint(&self.newest.files);
        let before = std::mem::take(&mut self.fingerprint);
        let known = |file: &Seen| before.0.iter().find(|known| known.0 == file.0).cloned();
        self.fingerprint =
            Fingerprint(now.0.into_iter().map(|file| known(&file).unwrap_or(file)).collect());
    }

    /// The providers of a new version; one whose table is the same stays what it is.
    fn renewed_providers(&self, config: &Config) -> Result<Vec<Arc<Provider>>, Vec<Frame>> {
        super::providers(config, |table| {
            let known = self.providers.iter().find(|provider| *provider.name == *table.name);
            let before = self.newest.providers.iter().find(|before| before.name == table.name);
            match known {
                Some(known) if before.is_some_and(|it| live::same_provider(it, table)) => {
                    Ok(Arc::clone(known))
                }
                known => Provider::new(table, known.map(Arc::as_ref), &self.ledger).map(Arc::new),
            }
        })
    }

    /// The webhooks of a new version; one whose table is the same, in the same file, stays what it is.
    fn renewed(&self, config: &Config) -> Vec<Arc<Webhook>> {
        let kept = |table: &Table| {
            let before = self.newest.webhooks.iter().find(|known| known.name == table.name)?;
            let same = before.place == table.place && live::same_webhook(before, table);
            let known = || self.webhooks.iter().find(|webhook| *webhook.name == *table.name);
            same.then(known).flatten().cloned()
        };
        let made = |table: &Table| Some(Arc::new(Webhook::new(table)?.0));
        config.webhooks.iter().filter_map(|table| kept(table).or_else(|| made(table))).collect()
    }
}

/// A refusal, with what goes on serving meanwhile.
fn kept(frame: &Frame, serving: u64) -> Frame {
    let note = format!("not reloaded; the configuration of generation {serving} still serves");
    frame.clone().note(note)
}

/// What deserves a word, flaws of secrets included.
fn noted(config: &Config) -> Vec<Frame> {
    let flaws = super::flaws(config);
    let flaws = flaws.into_iter().map(|flaw| Frame::warning("E0110", flaw));
    config.notes.iter().cloned().chain(flaws).collect()
}

/// A file by what tells that it has not changed, without reading: its inode, its length and its time; `None` where it is not there.
type Seen = (PathBuf, Option<(u64, u64, Option<SystemTime>)>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Fingerprint(Vec<Seen>);

fn fingerprint(files: &[PathBuf]) -> Fingerprint {
    use std::os::unix::fs::MetadataExt as _;
    let seen = |file: &PathBuf| {
        let metadata = fs::metadata(file).ok();
        let seen = metadata.map(|seen| (seen.ino(), seen.len(), seen.modified().ok()));
        (file.clone(), seen)
    };
    Fingerprint(files.iter().map(seen).collect())
}
