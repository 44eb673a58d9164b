//! Brings the indexes of documents to what `[db.NAME] index` of the configuration that serves says, in small steps and at a pace of its own: the
//! writer is held for `STEP` at a time, and has most of the time to itself. What is half done at a stop or a crash goes on at the next start.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock;
use crate::config::Config;
use crate::server::Process;
use crate::store::{IndexStep, IndexedField, Store, StoreError};

/// How long one step may hold the writer.
const STEP: Duration = Duration::from_millis(2);
/// After a step it rests for so many times as long as the step and its commit took.
const REST: u32 = 2;
/// After a store that could not.
const PAUSE: Duration = Duration::from_secs(1);

/// For as long as the process lives. `swapped` tells of each new generation.
pub(super) async fn run(
    store: Arc<dyn Store>,
    process: Arc<Process>,
    mut swapped: watch::Receiver<u64>,
) {
    let mut declared = None;
    loop {
        swapped.borrow_and_update();
        let wanted = fields(&process.current.load().config);
        if declared.as_ref() != Some(&wanted) {
            match store.set_indexes(wanted.clone()).await {
                Ok(()) => declared = Some(wanted),
                Err(error) => rest(&error).await,
            }
            continue;
        }
        let started = clock::instant();
        match store.index_step(STEP).await {
            // Nobody swaps any more when the loader has ended; the process ends soon.
            Ok(IndexStep::Idle) => {
                if swapped.changed().await.is_err() {
                    return std::future::pending().await;
                }
            }
            Ok(step) => {
                tell(&step);
                tokio::time::sleep(clock::instant().saturating_duration_since(started) * REST)
                    .await;
            }
            Err(error) => rest(&error).await,
        }
    }
}

fn fields(config: &Config) -> Vec<IndexedField> {
    let mut fields = Vec::new();
    for (collection, declared) in &config.db {
        let of_it = declared.index.iter().cloned();
        fields.extend(of_it.map(|field| IndexedField { collection: collection.clone(), field }));
    }
    fields
}

fn tell(step: &IndexStep) {
    match step {
        IndexStep::Ready(IndexedField { collection, field }) => {
            tracing::info!(collection = %collection, field = %field, "the index of `db.{collection}` by `{field}` is ready");
        }
        IndexStep::Dropped(IndexedField { collection, field }) => {
            tracing::info!(collection = %collection, field = %field, "the index of `db.{collection}` by `{field}` is gone");
        }
        IndexStep::Idle | IndexStep::Working => {}
    }
}

async fn rest(error: &StoreError) {
    tracing::debug!("indexes cannot be built now: {error}");
    tokio::time::sleep(PAUSE).await;
}
