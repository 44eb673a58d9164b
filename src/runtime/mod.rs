//! The composition root: builds every part, starts it, stops it. Nothing else constructs, and nothing names this module but the commands.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{oneshot, watch};

use crate::admin;
use crate::clock;
use crate::config::Config;
use crate::frame::Frame;
use crate::generation::Generation;
use crate::inbox::dispatch::{self, Dispatcher};
use crate::inbox::{Gates, Notes, WAKE_MAX};
use crate::script::coroutine;
use crate::script::handler::Script;
use crate::server::Process;
use crate::server::listen::{self, ListenError};
use crate::store::sqlite::{self, OpenError, SqliteStore};
use crate::store::{Store, StoreError};
use crate::webhook::Webhook;

pub(crate) mod folder;
pub(crate) mod limits;
pub(crate) mod reload;
mod worker;

use self::reload::{Hints, Reloader, Report};

/// Between two steps of retention.
const RETENTION_PAUSE: Duration = Duration::from_secs(60);
/// Rows of one step, so that no step holds the writer for long.
const RETENTION_ROWS: usize = 200;
/// The shortest time for which delivery ids are kept.
const IDS_KEPT_MIN: Duration = Duration::from_secs(7 * 24 * 3600);
/// After a store that could not make jobs due.
const WAKE_PAUSE: Duration = Duration::from_secs(1);
const THREAD_NAME: &str = "rhaiway-worker";

/// Why it does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// Scripts, webhooks and paths do not go together.
    #[error("the scripts and config.toml contradict each other")]
    Clash(Vec<Frame>),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Admin(#[from] admin::server::BindError),
    #[error("a worker cannot start: {0}")]
    Worker(#[from] StoreError),
    #[error("a thread cannot be started: {0}")]
    Thread(#[from] std::io::Error),
    #[error("a worker ended before it served")]
    WorkerEnded,
}

/// A runtime that serves.
pub(crate) struct Runtime {
    pub(crate) process: Arc<Process>,
    pub(crate) address: SocketAddr,
    store: Arc<SqliteStore>,
    notes: Arc<Notes>,
    hints: Hints,
    stop: watch::Sender<bool>,
    workers: Vec<JoinHandle<()>>,
    loader: JoinHandle<()>,
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

impl Runtime {
    /// Builds and starts everything; returns when every worker serves. `report` hears of each look at the scripts, the first included.
    pub(crate) async fn start(
        config: Config,
        report: impl Fn(&Report) + Send + 'static,
    ) -> Result<Self, StartError> {
        let config = Arc::new(config);
        limits::raise_open_files();
        let workers = config.server.workers;
        let listeners = listen::listen(config.server.listen, workers)?;
        let address = listeners[0].local_addr()?;
        let options = sqlite::OpenOptions {
            path: config.storage.path.clone(),
            max_pending: config.storage.max_pending,
        };
        let store = Arc::new(sqlite::open(&options)?);
        let shared: Arc<dyn Store> = Arc::<SqliteStore>::clone(&store);

        let (webhooks, _) = webhooks(&config);
        let (sender, first) = oneshot::channel();
        let (hints, hinted) = reload::hints();
        let (swapped, following) = watch::channel(0);
        let loader = {
            let (config, hints, webhooks) = (Arc::clone(&config), hints.clone(), webhooks);
            std::thread::Builder::new()
                .name("rhaiway-loader".to_owned())
                .stack_size(worker::STACK_BYTES)
                .spawn(move || {
                    let mut reloader = Reloader::new(&config, &webhooks);
                    let (generation, looked) = reloader.look();
                    report(&looked);
                    let Some(generation) = generation else {
                        _ = sender.send(Err(looked.problems));
                        return;
                    };
                    let process = Arc::new(Process {
                        current: Arc::new(ArcSwap::from_pointee(generation)),
                        draining: AtomicBool::new(false),
                    });
                    _ = sender.send(Ok(Arc::clone(&process)));
                    reload::follow(reloader, &process, &swapped, hints, hinted, &report);
                })?
        };
        let process = match first.await {
            Ok(Ok(process)) => process,
            Ok(Err(frames)) => return Err(StartError::Clash(frames)),
            Err(_ended) => return Err(StartError::WorkerEnded),
        };

        let notes = Arc::<Notes>::default();
        let gates = Gates::new(&notes);
        let (stop, stopping) = watch::channel(false);
        let (senders, assignments) = dispatch::channels(workers);
        let connections_max = limits::connections() / workers;
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
            };
            let thread = std::thread::Builder::new()
                .name(format!("{THREAD_NAME}-{index}"))
                .stack_size(worker::STACK_BYTES);
            threads.push(thread.spawn(move || worker::run(parts))?);
            serving.push(tells);
        }
        for tells in serving {
            tells.await.map_err(|_ended| StartError::WorkerEnded)??;
        }
        admin::server::start(&config.admin.socket, &shared, &process, stopping.clone()).await?;
        tokio::spawn(Dispatcher::new(&shared, &gates, &notes, senders).run());
        tokio::spawn(retain(Arc::clone(&shared), Arc::clone(&config)));
        tokio::spawn(wake_scripts(
            Arc::clone(&shared),
            Arc::clone(&notes),
            Arc::clone(&process),
            following,
        ));
        Ok(Self { process, address, store, notes, hints, stop, workers: threads, loader })
    }

    /// Asks for a look at the scripts.
    pub(crate) fn reload(&self) {
        self.hints.look();
    }

    /// Stops accepting, lets what runs end within the grace, leaves the rest in the inbox, closes the store.
    pub(crate) async fn stop(self) -> Result<(), StoreError> {
        self.process.draining.store(true, Ordering::Release);
        self.notes.stop();
        _ = self.stop.send(true);
        let workers = self.workers;
        let joined = tokio::task::spawn_blocking(move || {
            workers.into_iter().map(JoinHandle::join).filter(Result::is_err).count()
        });
        let panicked = joined.await.unwrap_or(0);
        if panicked > 0 {
            tracing::error!("{panicked} workers ended by a panic");
        }
        self.hints.stop();
        _ = tokio::task::spawn_blocking(move || self.loader.join()).await;
        self.store.close().await
    }
}

/// How many runs fit into the process's address space, where that is limited.
pub(crate) fn runs_that_fit(config: &Config) -> Option<u64> {
    coroutine::stacks_that_fit(config.scripts.memory_budget)
}

/// Deletes what is older than retention, a little at a time.
async fn retain(store: Arc<dyn Store>, config: Arc<Config>) {
    loop {
        let retention = config.storage.retention;
        let before = |age: Duration| {
            clock::Millis(
                clock::now().0.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)),
            )
        };
        let deleted = store
            .retain(before(retention), before(retention.max(IDS_KEPT_MIN)), RETENTION_ROWS)
            .await;
        match deleted {
            Ok(rows) if rows as usize >= RETENTION_ROWS => {
                tokio::time::sleep(Duration::from_millis(50)).await
            }
            Ok(_) => tokio::time::sleep(RETENTION_PAUSE).await,
            Err(error) => {
                tracing::debug!("nothing can be deleted now: {error}");
                tokio::time::sleep(RETENTION_PAUSE).await;
            }
        }
    }
}

/// Jobs that wait because a script was broken are due when it loads; jobs that its old version failed are due when it is saved anew; all that
/// wait for it, when it is gone.
async fn wake_scripts(
    store: Arc<dyn Store>,
    notes: Arc<Notes>,
    process: Arc<Process>,
    mut swapped: watch::Receiver<u64>,
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
        match store.wake(name, failed_too, clock::now(), WAKE_MAX).await {
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
