//! The composition root: builds every part, starts it, stops it. Nothing else constructs, and nothing names this module but the commands.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot, watch as changes};

use crate::admin;
use crate::auth::Auth;
use crate::clock;
use crate::config::{self, Config};
use crate::frame::Frame;
use crate::generation::Generation;
use crate::inbox::dispatch::{self, Dispatcher};
use crate::inbox::timers::Timers;
use crate::inbox::{Gates, Notes, WAKE_MAX};
use crate::payload::Spool;
use crate::provider::Provider;
use crate::provider::budget::Ledger;
use crate::script::coroutine;
use crate::script::handler::{Ambient, Script};
use crate::server::listen::{self, ListenError};
use crate::server::{Limits, Process, Turns};
use crate::store::sqlite::{self, OpenError, SqliteStore};
use crate::store::{Store, StoreError};
use crate::webhook::Webhook;

pub(crate) mod folder;
pub(crate) mod limits;
pub(crate) mod reload;
mod configured;
mod retention;
mod indexes;
mod usage;
mod vital;
mod watch;
mod worker;

pub(crate) use self::configured::Reread;
use self::reload::{Reloader, Report};
use self::vital::Vitals;
use self::watch::Hints;

/// After a store that could not make jobs due.
const WAKE_PAUSE: Duration = Duration::from_secs(1);
const THREAD_NAME: &str = "rhaiway-worker";

/// Why it does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// Scripts, webhooks and paths do not go together.
    #[error("the scripts and config.toml contradict each other")]
    Clash(Vec<Frame>),
    /// The database.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What was used of providers.
    #[error("what was used of providers cannot be read: {0}")]
    Usage(StoreError),
    /// The main listener.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The admin socket.
    #[error(transparent)]
    Admin(#[from] admin::server::BindError),
    /// A worker has no way to documents.
    #[error("a worker cannot start: {0}")]
    Worker(#[from] StoreError),
    /// The system gives no more threads.
    #[error("a thread cannot be started: {0}")]
    Thread(#[from] std::io::Error),
    /// By a panic, which the log has.
    #[error("a part of it ended before it served")]
    Ended,
}

/// A runtime that serves.
pub(crate) struct Runtime {
    /// What is served now, and whether the process stops.
    pub(crate) process: Arc<Process>,
    /// Where it listens, with the port that was taken.
    pub(crate) address: SocketAddr,
    store: Arc<SqliteStore>,
    notes: Arc<Notes>,
    ledger: Arc<Ledger>,
    hints: Hints,
    stop: changes::Sender<bool>,
    workers: Vec<JoinHandle<()>>,
    loader: JoinHandle<()>,
    ended: mpsc::Receiver<&'static str>,
}

/// Webhooks of a config, and what is wrong with their secrets.
pub(crate) fn webhooks(config: &Config) -> (Vec<Arc<Webhook>>, Vec<String>) {
    let mut webhooks = Vec::new();
    let mut problems = Vec::new();
    for declared in &config.webhooks {
        if let Some((webhook, flaws)) = Webhook::new(declared) {
            problems.extend(flaws.iter().map(|flaw| format!("webhook `{}`: {flaw}", webhook.name)));
            webhooks.push(Arc::new(webhook));
        }
    }
    (webhooks, problems)
}

/// Providers of a config, or everything that is wrong with their descriptors.
fn providers(
    config: &Config,
    made: impl Fn(&config::Provider) -> Result<Arc<Provider>, Vec<Frame>>,
) -> Result<Vec<Arc<Provider>>, Vec<Frame>> {
    let mut problems = Vec::new();
    let mut providers = Vec::new();
    for declared in &config.providers {
        match made(declared) {
            Ok(provider) => providers.push(provider),
            Err(frames) => problems.extend(frames),
        }
    }
    if problems.is_empty() { Ok(providers) } else { Err(problems) }
}

/// What config gives to scripts.
fn ambient(config: &Config, providers: &[Arc<Provider>]) -> Ambient {
    let offers = providers.iter().map(|provider| (Arc::clone(&provider.name), provider.offers()));
    Ambient { vars: config.vars.clone(), providers: Arc::new(offers.collect()) }
}

/// What is wrong with values of variables, webhook by webhook and auth by auth; none of it is shown.
pub(crate) fn flaws(config: &Config) -> Vec<String> {
    webhooks(config).1.into_iter().chain(Auth::all(&config.auth, &[]).1).collect()
}

impl Runtime {
    /// Builds and starts everything; returns when every worker serves. `reread` gives the configuration again, as it was read now; `report` hears
    /// of each look at config and scripts, the first included.
    pub(crate) async fn start(
        config: Config,
        reread: Reread,
        report: impl Fn(&Report) + Send + 'static,
    ) -> Result<Self, StartError> {
        let config = Arc::new(config);
        limits::raise_open_files();
        limits::forbid_core_dumps();
        let listeners = listen::listen(config.server.listen, config.server.workers)?;
        let options = sqlite::OpenOptions {
            path: config.storage.path.clone(),
            max_pending: config.storage.max_pending,
        };
        let store = Arc::new(sqlite::open(&options)?);
        let started = Self::start_on(config, reread, &store, listeners, report).await;
        if started.is_err() {
            // So that the next start finds a store that was closed in good order.
            _ = store.close().await;
        }
        started
    }

    /// Everything that stands on an open store.
    async fn start_on(
        config: Arc<Config>,
        reread: Reread,
        store: &Arc<SqliteStore>,
        listeners: Vec<TcpListener>,
        report: impl Fn(&Report) + Send + 'static,
    ) -> Result<Self, StartError> {
        let store = Arc::clone(store);
        let shared: Arc<dyn Store> = Arc::<SqliteStore>::clone(&store);
        let workers = listeners.len();
        let address = listeners[0].local_addr()?;
        let socket = admin::server::bind(&config.admin.socket).await?;
        let (vitals, ended) = vital::channel();

        let (webhooks, _) = webhooks(&config);
        let ledger = usage::read(&*shared).await.map_err(StartError::Usage)?;
        let (sender, first) = oneshot::channel();
        let (hints, hinted) = watch::hints();
        let (swapped, following) = changes::channel(0);
        let spool = Spool::beside(&config.storage.path, limits::spool_files());
        let loader = {
            let (hints, bounded) = (hints.clone(), Arc::clone(&store));
            let ledger = Arc::clone(&ledger);
            let vital = vitals.guard("the loader of scripts");
            std::thread::Builder::new()
                .name("rhaiway-loader".to_owned())
                .stack_size(worker::STACK_BYTES)
                .spawn(move || {
                    let _vital = vital;
                    let mut reloader = match Reloader::new(&config, &webhooks, &ledger) {
                        Ok(reloader) => reloader,
                        Err(frames) => {
                            _ = sender.send(Err(frames));
                            return;
                        }
                    };
                    let (generation, looked) = reloader.look();
                    report(&looked);
                    let Some(generation) = generation else {
                        _ = sender.send(Err(looked.problems));
                        return;
                    };
                    let process = Arc::new(Process {
                        current: Arc::new(ArcSwap::from_pointee(generation)),
                        draining: AtomicBool::new(false),
                        turns: Turns::new(),
                        limits: Limits::default(),
                        differs: ArcSwap::default(),
                        spool,
                    });
                    _ = sender.send(Ok(Arc::clone(&process)));
                    reloader.follow_config(reread);
                    let apply = |config: &Config| apply(&*bounded, config);
                    reload::follow(reloader, &process, &swapped, (hints, hinted), &apply, &report);
                })?
        };
        let process = match first.await {
            Ok(Ok(process)) => process,
            Ok(Err(frames)) => return Err(StartError::Clash(frames)),
            Err(_ended) => return Err(StartError::Ended),
        };

        let notes = Arc::<Notes>::default();
        let gates = Gates::new(&notes);
        let (stop, stopping) = changes::channel(false);
        let (senders, assignments) = dispatch::channels(workers);
        let connections_max = (limits::connections() / workers).max(1);
        let mut threads = Vec::new();
        let mut serving = Vec::new();
        for (index, (listener, assignments)) in listeners.into_iter().zip(assignments).enumerate() {
            let (told, tells) = oneshot::channel();
            let parts = worker::Parts {
                process: Arc::clone(&process),
                store: Arc::clone(&shared),
                gates: Arc::clone(&gates),
                notes: Arc::clone(&notes),
                listener,
                assignments,
                connections_max,
                swapped: following.clone(),
                stop: stopping.clone(),
                serving: told,
                vitals: vitals.clone(),
            };
            let thread = std::thread::Builder::new()
                .name(format!("{THREAD_NAME}-{index}"))
                .stack_size(worker::STACK_BYTES);
            threads.push(thread.spawn(move || worker::run(parts))?);
            serving.push(tells);
        }
        for tells in serving {
            tells.await.map_err(|_ended| StartError::Ended)??;
        }
        tokio::spawn(admin::server::serve(
            socket,
            Arc::clone(&shared),
            Arc::clone(&process),
            Arc::clone(&notes),
            stopping,
        ));
        let dispatcher = Dispatcher::new(&shared, &gates, &notes, senders);
        let timers = Timers::new(&shared, &notes, &process.current).run(following.clone());
        let waking = wake_scripts(
            Arc::clone(&shared),
            Arc::clone(&notes),
            Arc::clone(&process),
            following.clone(),
        );
        let indexing = indexes::run(Arc::clone(&shared), Arc::clone(&process), following);
        let written = Arc::clone(&store);
        spawn_vital(&vitals, "the dispatcher", dispatcher.run());
        spawn_vital(&vitals, "the waking of jobs", waking);
        spawn_vital(&vitals, "the timers", timers);
        spawn_vital(&vitals, "the building of indexes", indexing);
        let written_down = usage::run(Arc::clone(&shared), Arc::clone(&ledger));
        spawn_vital(&vitals, "the usage of providers", written_down);
        spawn_vital(&vitals, "retention", retention::run(shared, Arc::clone(&process)));
        spawn_vital(&vitals, "the store", async move { written.ended().await });
        Ok(Self {
            process,
            address,
            store,
            notes,
            ledger,
            hints,
            stop,
            workers: threads,
            loader,
            ended,
        })
    }

    /// Waits for a part to end that never should; its name. The process is to be stopped then.
    pub(crate) async fn ended(&mut self) -> &'static str {
        self.ended.recv().await.unwrap_or("everything")
    }

    /// Asks for a look at config and scripts.
    pub(crate) fn reload(&self) {
        self.hints.look();
    }

    /// Stops accepting, lets what runs end within the grace, leaves the rest in the inbox, and closes the store: first the workers, which still
    /// commit; then the loader; the store last. With `Fault` the store stays as after a crash, so that the next start notes down each attempt
    /// before it begins, and an event that brings a worker down ends as a dead letter.
    pub(crate) async fn stop(self, why: Stop) -> Result<(), StoreError> {
        self.process.draining.store(true, Ordering::Release);
        self.notes.stop();
        _ = self.stop.send(true);
        join(self.workers).await;
        self.hints.stop();
        join(vec![self.loader]).await;
        usage::write(&*self.store, &self.ledger).await;
        match why {
            Stop::Asked => self.store.close().await,
            Stop::Fault => Ok(()),
        }
    }
}

/// Why it stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Somebody said so.
    Asked,
    /// A part of it ended by itself.
    Fault,
}

/// Waits for threads without holding the runtime up.
async fn join(threads: Vec<JoinHandle<()>>) {
    let joined = tokio::task::spawn_blocking(move || {
        threads.into_iter().map(JoinHandle::join).filter(Result::is_err).count()
    });
    let panicked = joined.await.unwrap_or(0);
    if panicked > 0 {
        tracing::error!("{panicked} threads ended by a panic");
    }
}

/// Spawns a part that must not end before the process does.
fn spawn_vital(
    vitals: &Vitals,
    part: &'static str,
    life: impl Future<Output = ()> + Send + 'static,
) {
    let vital = vitals.guard(part);
    tokio::spawn(async move {
        let _vital = vital;
        life.await;
    });
}

/// How many runs fit into the process's address space, where that is limited.
pub(crate) fn runs_that_fit(config: &Config) -> Option<u64> {
    coroutine::stacks_that_fit(config.scripts.memory_budget)
}

/// What of a new configuration is held elsewhere than in the generation.
fn apply(store: &dyn Store, config: &Config) {
    store.set_max_pending(config.storage.max_pending);
}

/// Jobs that wait because a script was broken are due when it loads; jobs that its old version failed are due when it is saved anew; all that
/// wait for it, when it is gone.
async fn wake_scripts(
    store: Arc<dyn Store>,
    notes: Arc<Notes>,
    process: Arc<Process>,
    mut swapped: changes::Receiver<u64>,
) {
    let mut before = process.current.load_full();
    let mut changed: Vec<Arc<str>> =
        before.scripts.iter().map(|script| Arc::clone(&script.name)).collect();
    let mut failed_too = false;
    loop {
        for name in changed {
            wake_script(&*store, &notes, &name, failed_too).await;
        }
        if swapped.changed().await.is_err() {
            return;
        }
        let generation = process.current.load_full();
        changed = changed_names(&before, &generation);
        before = generation;
        failed_too = true;
    }
}

/// Scripts of which another version serves now, and those that are gone.
fn changed_names(before: &Generation, now: &Generation) -> Vec<Arc<str>> {
    let is_new =
        |script: &&Arc<Script>| !before.scripts.iter().any(|known| Arc::ptr_eq(known, script));
    let new = now.scripts.iter().filter(is_new).map(|script| &script.name);
    let names = before.scripts.iter().map(|script| &script.name).chain(&before.broken);
    let gone = names.filter(|name| now.script(name).is_none() && !now.broken.contains(name));
    new.chain(gone).cloned().collect()
}

/// A part at a time, so that deliveries are committed in between; until the store has done it.
async fn wake_script(store: &dyn Store, notes: &Notes, name: &str, failed_too: bool) {
    let mut jobs = 0;
    loop {
        match store.wake(name, failed_too, clock::steady(), WAKE_MAX).await {
            Ok(woken) => {
                jobs += woken;
                notes.wake();
                if woken < WAKE_MAX as u64 {
                    break;
                }
            }
            Err(StoreError::Closed) => return,
            Err(error) => {
                tracing::warn!("jobs that wait for `{name}` cannot be made due yet: {error}");
                tokio::time::sleep(WAKE_PAUSE).await;
            }
        }
    }
    if jobs > 0 {
        tracing::info!(script = %name, jobs, "{jobs} jobs that waited for `{name}` are due");
    }
}
