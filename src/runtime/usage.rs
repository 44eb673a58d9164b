//! Writes down what was used of providers, so that a budget is the same after a start. Once a second and not with each call: no request waits for it, and
//! what a kill -9 can lose is what the last second used.

use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::provider::budget::Ledger;
use crate::store::{Store, StoreError};

/// Between two writes: at most so much is lost where the process ends without a word, and a commit in so long costs nothing.
const PAUSE: Duration = Duration::from_secs(1);

/// What counts for any budget, as it is stored.
pub(super) async fn read(store: &dyn Store) -> Result<Arc<Ledger>, StoreError> {
    let stored = store.usage(Ledger::since(clock::now())).await?;
    Ok(Arc::new(Ledger::of(stored)))
}

/// For as long as the process lives.
pub(super) async fn run(store: Arc<dyn Store>, ledger: Arc<Ledger>) {
    loop {
        tokio::time::sleep(PAUSE).await;
        write(&*store, &ledger).await;
    }
}

/// Writes what is not written; what the store cannot take now waits for the next time.
pub(super) async fn write(store: &dyn Store, ledger: &Ledger) {
    let unsaved = ledger.take_unsaved();
    if unsaved.is_empty() {
        return;
    }
    if let Err(error) = store.add_usage(unsaved.clone()).await {
        ledger.give_back(&unsaved);
        tracing::debug!("what was used of providers cannot be stored yet: {error}");
    }
}
