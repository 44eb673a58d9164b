//! Which jobs an event gets, decided once, at its first dispatch: one for each matching handler in every script, a placeholder for each script
//! that is broken with no older version to run, and one that is ignored where nobody is there for it.

use std::sync::Arc;

use crate::generation::Generation;
use crate::store::PlannedJob;

/// The jobs, in order.
pub(super) fn of(generation: &Generation, webhook: &str, kind: &str) -> Arc<[PlannedJob]> {
    let matches = generation.matches(webhook, kind).into_iter().map(|found| PlannedJob {
        script: Arc::clone(&generation.handler(found.handler).0.name),
        pattern: Some(found.pattern),
    });
    let placeholders = generation
        .broken
        .iter()
        .map(|script| PlannedJob { script: Arc::clone(script), pattern: None });
    let plan: Vec<PlannedJob> = matches.chain(placeholders).collect();
    if plan.is_empty() { Arc::from([nobody()]) } else { plan.into() }
}

/// The one job of an event that nobody handles.
fn nobody() -> PlannedJob {
    PlannedJob { script: "".into(), pattern: None }
}

/// Whether it is that one.
pub(super) fn is_nobody(job: &PlannedJob) -> bool {
    job.script.is_empty()
}
