//! Deletes what is older than `storage.retention`, in small steps and at a pace of its own: it takes a fifth of the writer's time at most, on
//! whatever disk, so that deliveries hardly notice it.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{self, Millis, Watch};
use crate::server::Process;
use crate::store::Store;

/// When there was nothing left to delete.
const PAUSE: Duration = Duration::from_secs(60);
/// Rows of one step.
const ROWS: usize = 200;
/// How long a step may hold the writer. A look for what is old comes before it and takes a millisecond at most, so deliveries wait for 5 ms at most.
const STEP: Duration = Duration::from_millis(3);
/// After a step that found something it rests for so many times as long as the step took.
const REST: u32 = 4;
/// But so long at least.
const REST_MIN: Duration = Duration::from_millis(10);
/// The shortest time for which delivery ids are kept.
const IDS_KEPT_MIN: Duration = Duration::from_secs(7 * 24 * 3600);

/// For as long as the process lives.
pub(super) async fn run(store: Arc<dyn Store>, process: Arc<Process>) {
    let mut clocks = Watch::new();
    loop {
        let retention = process.current.load().config.storage.retention;
        let started = clock::instant();
        let deleted =
            store.retain(before(retention), before(retention.max(IDS_KEPT_MIN)), ROWS, STEP).await;
        let pause = match deleted {
            Ok(rows) if rows > 0 => {
                (clock::instant().saturating_duration_since(started) * REST).max(REST_MIN)
            }
            Ok(_) => PAUSE,
            Err(error) => {
                tracing::debug!("nothing can be deleted now: {error}");
                PAUSE
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // What is old has changed with it.
            () = clocks.moved() => {}
        }
    }
}

fn before(age: Duration) -> Millis {
    let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    Millis(clock::now().0.saturating_sub(age))
}
