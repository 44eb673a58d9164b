//! One worker: a thread, a runtime, its listener, its engines and stacks. Nothing that is not `Send` leaves it; a request that it accepted stays
//! with it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, LocalSet};

use super::vital::Vitals;
use crate::clock;
use crate::execution::Executor;
use crate::inbox::dispatch::{self, Assignments};
use crate::inbox::{Gates, Inbox, Notes};
use crate::server::{self, Front, Process};
use crate::store::{Store, StoreError};

/// The thread's own stack: compiling a script within its limits needs far less.
pub(super) const STACK_BYTES: usize = 16 << 20;
/// Threads of a worker that read and write spool files, and look names up: disks and name servers take their time, and so many at once.
const BLOCKING_THREADS_MAX: usize = 64;
/// Between two looks at what can be given back to the system.
const TRIM_PAUSE: Duration = Duration::from_secs(5);
/// While draining, whether everything has ended is looked at so often.
const DRAIN_LOOK: Duration = Duration::from_millis(10);

/// What a worker is made of; all of it may cross to its thread.
pub(super) struct Parts {
    pub(super) process: Arc<Process>,
    pub(super) store: Arc<dyn Store>,
    pub(super) gates: Arc<Gates>,
    pub(super) notes: Arc<Notes>,
    pub(super) listener: std::net::TcpListener,
    pub(super) assignments: Assignments,
    pub(super) connections_max: usize,
    /// Each new generation's number.
    pub(super) swapped: watch::Receiver<u64>,
    pub(super) stop: watch::Receiver<bool>,
    /// Told once, when it serves.
    pub(super) serving: oneshot::Sender<Result<(), StoreError>>,
    pub(super) vitals: Vitals,
}

/// The thread's life: serve until told to stop, then let what runs end within the grace.
pub(super) fn run(parts: Parts) {
    let _vital = parts.vitals.guard("a worker");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build();
    match runtime {
        Ok(runtime) => LocalSet::new().block_on(&runtime, serve(parts)),
        Err(error) => {
            tracing::error!("a worker cannot start: {error}");
            _ = parts.serving.send(Err(StoreError::Closed));
        }
    }
}

async fn serve(parts: Parts) {
    let Parts {
        process,
        store,
        gates,
        notes,
        listener,
        assignments,
        connections_max,
        swapped,
        mut stop,
        serving,
        vitals,
    } = parts;
    let started =
        Executor::new(&store, &process.current.load().config.scripts).and_then(|executor| {
            let listener = tokio::net::TcpListener::from_std(listener)
                .map_err(|error| StoreError::Unavailable(error.to_string().into()))?;
            Ok((executor, listener))
        });
    let (executor, listener) = match started {
        Ok(started) => started,
        Err(error) => {
            _ = serving.send(Err(error));
            return;
        }
    };
    let inbox = Inbox::new(&executor, &gates, &notes, &process.current);
    let front = Front::new(&process, &executor, &inbox, connections_max);
    executor.prepare(&front.pin()).await;
    let pinning = Rc::clone(&front);
    let work = dispatch::work(Rc::clone(&inbox), move || pinning.pin(), assignments);
    spawn_vital(&vitals, "a worker's part of the inbox", work);
    spawn_vital(&vitals, "a worker's loader", follow(Rc::clone(&front), swapped));
    let accepting = server::serve(Rc::clone(&front), listener, stop.clone());
    spawn_vital(&vitals, "a worker's listener", accepting);
    let trimming = Rc::clone(&executor);
    tokio::task::spawn_local(async move {
        loop {
            tokio::time::sleep(TRIM_PAUSE).await;
            trimming.trim();
        }
    });
    _ = serving.send(Ok(()));

    _ = stop.wait_for(|stop| *stop).await;
    // While it drains it still accepts, to say that it is not ready.
    drain(&front, process.current.load().config.server.shutdown_grace).await;
}

/// Spawns a part of this worker without which it would serve half. A panic ends one task only, and nobody would notice.
fn spawn_vital(
    vitals: &Vitals,
    part: &'static str,
    life: impl Future<Output = ()> + 'static,
) -> JoinHandle<()> {
    let vital = vitals.guard(part);
    tokio::task::spawn_local(async move {
        let _vital = vital;
        life.await;
    })
}

/// Compiles what a new generation brings, between requests.
async fn follow(front: Rc<Front>, mut swapped: watch::Receiver<u64>) {
    while swapped.changed().await.is_ok() {
        let generation = front.pin();
        front.executor.prepare(&generation).await;
    }
}

/// What is still under way when the grace is over stays in the inbox, or was never acknowledged.
async fn drain(front: &Front, grace: Duration) {
    let deadline = clock::instant() + grace;
    let busy = || front.connections() + front.under_way() + front.inbox.in_hand() > 0;
    while clock::instant() < deadline && busy() {
        tokio::time::sleep(DRAIN_LOOK).await;
    }
    let (connections, jobs) = (front.connections(), front.inbox.in_hand());
    if connections + jobs > 0 {
        tracing::warn!(
            connections,
            jobs,
            "the grace is over: {connections} connections are cut, {jobs} events stay in the inbox"
        );
    }
}
