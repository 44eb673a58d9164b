//! Which jobs an event gets, decided once, at its first dispatch: one for each matching handler in every script, a placeholder for each script
//! that is broken with no older version to run, and one that is ignored where nobody is there for it. And which answer a death.

use std::sync::Arc;

use crate::generation::{Generation, Match};
use crate::script::source::Source;
use crate::store::PlannedJob;

/// The jobs, in order.
pub(super) fn of(generation: &Generation, source: &str, kind: &str) -> Arc<[PlannedJob]> {
    let matches = planned(generation, generation.matches(source, kind), None);
    // A timer belongs to its script alone.
    let is_timer = matches!(Source::of(source), Source::Timer(_));
    let placeholders = (!is_timer).then(|| placeholders(generation, None)).into_iter().flatten();
    let plan: Vec<PlannedJob> = matches.chain(placeholders).collect();
    if plan.is_empty() { Arc::from([nobody()]) } else { plan.into() }
}

/// The jobs that answer the death of the event's job number `dead_job`.
pub(super) fn of_death(generation: &Generation, source: &str, dead_job: u32) -> Arc<[PlannedJob]> {
    let mourners = planned(generation, generation.mourners(source), Some(dead_job));
    mourners.chain(placeholders(generation, Some(dead_job))).collect()
}

/// Those of one script, which has loaded since.
pub(super) fn of_death_in(
    generation: &Generation,
    script: &str,
    source: &str,
    dead_job: u32,
) -> Vec<PlannedJob> {
    planned(generation, generation.mourners(source), Some(dead_job))
        .filter(|job| *job.script == *script)
        .collect()
}

fn planned(
    generation: &Generation,
    matches: Vec<Match>,
    dead_job: Option<u32>,
) -> impl Iterator<Item = PlannedJob> {
    matches.into_iter().map(move |found| PlannedJob {
        script: Arc::clone(&generation.handler(found.handler).0.name),
        pattern: Some(found.pattern),
        dead_job,
    })
}

fn placeholders(
    generation: &Generation,
    dead_job: Option<u32>,
) -> impl Iterator<Item = PlannedJob> {
    generation.broken.iter().map(move |script| PlannedJob {
        script: Arc::clone(script),
        pattern: None,
        dead_job,
    })
}

/// The one job of an event that nobody handles.
fn nobody() -> PlannedJob {
    PlannedJob { script: "".into(), pattern: None, dead_job: None }
}

/// Whether it is that one.
pub(super) fn is_nobody(job: &PlannedJob) -> bool {
    job.script.is_empty()
}
