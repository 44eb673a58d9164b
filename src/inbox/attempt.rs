//! One attempt of one job: run the handler, then commit its effects with its end, or back off, or give up. A conflict runs it again at once; a
//! store that cannot commit is asked again until it can, since the attempt's outcome is known and must not be lost.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::gate::{Closed, Pass};
use super::{Inbox, plan};
use crate::backoff::Backoff;
use crate::clock::{self, Millis};
use crate::execution::{Executed, Run};
use crate::generation::{Generation, HandlerRef, matches_of};
use crate::script::Ending;
use crate::script::api::event::EventInput;
use crate::script::host_call::Given;
use crate::script::run::{Failure, Input};
use crate::store::{self, Committed, Finish, JobKey, NewEvent, Outcome, PlannedJob, Seq};

/// Reruns of one attempt after conflicts; they use no attempt.
const CONFLICT_RERUNS_MAX: u32 = 10;
/// A job that could not run at all, for lack of a stack or of a place in its gate, comes back after this.
const SOON: Duration = Duration::from_secs(1);
/// Between two tries to commit an end that the store could not take.
const COMMIT_PAUSE: Duration = Duration::from_millis(250);
/// Where a placeholder waits when nobody wakes it: its script is still broken.
const BROKEN_SCRIPT_PAUSE: Duration = Duration::from_secs(3600);
/// Bytes of an error that are stored.
const ERROR_BYTES_MAX: usize = 4 << 10;

/// A job and what its next attempt needs.
pub(super) struct Job {
    pub(super) key: JobKey,
    pub(super) event: Rc<NewEvent>,
    pub(super) planned: PlannedJob,
    /// To be written with its end, where the event has no jobs yet.
    pub(super) plan: Option<Arc<[PlannedJob]>>,
    /// Attempts used before this one.
    pub(super) used: u32,
    /// This attempt is written down already.
    pub(super) claimed: bool,
    pub(super) replayed: bool,
}

/// What to do in the attempt.
enum Work {
    Handle(HandlerRef),
    End(Outcome),
}

impl Job {
    /// The first attempt of the event's job number `n`.
    pub(super) fn first(
        event: Seq,
        new: &Rc<NewEvent>,
        n: usize,
        plan: &Arc<[PlannedJob]>,
    ) -> Self {
        Self {
            key: JobKey { event, n: u32::try_from(n).unwrap_or(u32::MAX) },
            event: Rc::clone(new),
            planned: plan[n].clone(),
            plan: Some(Arc::clone(plan)),
            used: 0,
            claimed: false,
            replayed: false,
        }
    }

    /// The next attempt of a stored job.
    pub(super) fn again(event: Seq, new: &Rc<NewEvent>, job: &store::Job) -> Self {
        Self {
            key: JobKey { event, n: job.n },
            event: Rc::clone(new),
            planned: job.planned.clone(),
            plan: None,
            used: job.attempt,
            claimed: false,
            replayed: false,
        }
    }
}

impl Inbox {
    /// Runs it to the end of one attempt.
    pub(super) async fn attempt(&self, generation: &Generation, job: Job) {
        let started_at = clock::now();
        let outcome = match self.work(generation, &job) {
            Work::End(outcome) => (job.used, outcome),
            Work::Handle(handler) => match self.enter(generation, &job, handler) {
                Ok(passes) => {
                    let Some(ended) = self.handle(generation, &job, handler, started_at).await
                    else {
                        return;
                    };
                    drop(passes);
                    ended
                }
                Err(Closed) => (job.used, returned("all its places are taken (`concurrency`)")),
            },
        };
        let (attempt, outcome) = outcome;
        self.end(generation, &job, attempt, started_at, outcome).await;
    }

    fn work(&self, generation: &Generation, job: &Job) -> Work {
        if plan::is_nobody(&job.planned) {
            return Work::End(Outcome::Ignored("no handler for this type".into()));
        }
        let (script, webhook) = (&*job.planned.script, &*job.event.webhook);
        let Some(pattern) = &job.planned.pattern else {
            return self.placeholder(generation, job);
        };
        match generation.resolve(script, webhook, pattern) {
            Some(handler) => Work::Handle(handler),
            None if generation.broken.iter().any(|broken| **broken == *script) => {
                Work::End(waiting_for(script))
            }
            None => Work::End(Outcome::Ignored(
                format!("`{script}` has no handler for `{pattern}` any more").into(),
            )),
        }
    }

    /// A job of a script that was broken when the event came: resolved as soon as the script loads.
    fn placeholder(&self, generation: &Generation, job: &Job) -> Work {
        let name = &job.planned.script;
        let Some(script) = generation.script(name) else {
            return Work::End(if generation.broken.contains(name) {
                waiting_for(name)
            } else {
                Outcome::Ignored(format!("`{name}` is gone").into())
            });
        };
        let jobs: Vec<PlannedJob> = matches_of(script, &job.event.webhook, &job.event.kind)
            .map(|(_, pattern)| PlannedJob { script: Arc::clone(name), pattern: Some(pattern) })
            .collect();
        Work::End(if jobs.is_empty() {
            Outcome::Ignored(format!("`{name}` has no handler for this type").into())
        } else {
            Outcome::Resolved { jobs, due_at: clock::now() }
        })
    }

    fn enter(
        &self,
        generation: &Generation,
        job: &Job,
        at: HandlerRef,
    ) -> Result<[Option<Pass>; 2], Closed> {
        let (script, handler) = generation.handler(at);
        let webhook = generation.webhook(&job.event.webhook);
        let of_webhook = self
            .gates
            .enter(&job.event.webhook, webhook.and_then(|webhook| webhook.concurrency))?;
        let name = format!("{}/{}", script.name, at.handler);
        let of_handler = match handler.options.concurrency {
            Some(_) => self.gates.enter(&name, handler.options.concurrency)?,
            None => None,
        };
        Ok([of_webhook, of_handler])
    }

    /// Runs the handler until it commits without a conflict or fails. `None`: nothing is left to write.
    async fn handle(
        &self,
        generation: &Generation,
        job: &Job,
        at: HandlerRef,
        started_at: Millis,
    ) -> Option<(u32, Outcome)> {
        let (script, handler) = generation.handler(at);
        let webhook = generation.webhook(&job.event.webhook)?;
        let retry = handler.options.retry.unwrap_or(webhook.retry);
        let attempt = job.used.saturating_add(u32::from(!job.claimed));
        if job.used > retry.max {
            return Some((
                job.used,
                Outcome::Dead("the process ended each time while this event was handled".into()),
            ));
        }
        for _rerun in 0..=CONFLICT_RERUNS_MAX {
            let input = EventInput {
                id: job.event.id,
                webhook: Arc::clone(&job.event.webhook),
                kind: job.event.kind.clone(),
                received_at: job.event.received_at,
                request: job.event.request.clone(),
                body: job.event.body.clone(),
                data: webhook.data(),
                attempt,
                last_attempt: attempt > retry.max,
                replayed: job.replayed,
            };
            let seed = seed(job);
            let given = Given::new(seed, job.event.id.to_string(), &script.name);
            let run = Run {
                generation,
                script,
                handler: at.handler,
                input: Input::Event(Rc::new(input)),
                given,
                timeout: handler.options.timeout.or(webhook.timeout),
            };
            let Executed { end, effects } = self.executor.execute(run).await;
            let outcome = match end.result {
                Ok(_) => Outcome::Done(effects),
                Err(Failure::NoStack) => {
                    return Some((job.used, returned("no stack for another run could be had")));
                }
                Err(Failure::Ended { ending: Ending::Cancelled, .. }) => {
                    return None;
                }
                Err(failure) => {
                    return Some((attempt, self.failed(job, &retry, attempt, &failure)));
                }
            };
            match self.commit(generation, job, attempt, started_at, outcome).await {
                Committed::Conflict => {}
                Committed::Yes | Committed::Stale => return None,
            }
        }
        let error = format!("its documents changed under it {CONFLICT_RERUNS_MAX} times in a row");
        Some((attempt, again_or_dead(&retry, attempt, error)))
    }

    fn failed(&self, job: &Job, retry: &Backoff, attempt: u32, failure: &Failure) -> Outcome {
        let error = describe(failure);
        tracing::warn!(event = %job.event.id, script = %job.planned.script, attempt, "handler failed: {error}");
        again_or_dead(retry, attempt, error)
    }

    async fn end(
        &self,
        generation: &Generation,
        job: &Job,
        attempt: u32,
        started_at: Millis,
        outcome: Outcome,
    ) {
        if let Outcome::Dead(error) = &outcome {
            tracing::error!(event = %job.event.id, script = %job.planned.script, attempt, "dead letter: no attempt is left; {error}");
        }
        let waits = matches!(
            outcome,
            Outcome::Retry { .. } | Outcome::Returned { .. } | Outcome::Resolved { .. }
        );
        self.commit(generation, job, attempt, started_at, outcome).await;
        if waits {
            self.notes.wake();
        }
    }

    /// Asks the store until it answers; the runtime's stop ends it, and then the job is as it was before this attempt.
    async fn commit(
        &self,
        generation: &Generation,
        job: &Job,
        attempt: u32,
        started_at: Millis,
        outcome: Outcome,
    ) -> Committed {
        loop {
            let finish = Finish {
                job: job.key,
                plan: job.plan.clone(),
                attempt,
                started_at,
                ended_at: clock::now(),
                generation: generation.number,
                outcome: outcome.clone(),
            };
            match self.executor.store.finish(finish).await {
                Ok(committed) => return committed,
                Err(error) => {
                    tracing::error!(event = %job.event.id, "the end of an attempt cannot be stored yet: {error}");
                    if self.notes.is_stopping() {
                        return Committed::Stale;
                    }
                    tokio::time::sleep(COMMIT_PAUSE).await;
                }
            }
        }
    }
}

fn returned(reason: &str) -> Outcome {
    Outcome::Returned { due_at: clock::now().plus(SOON), reason: reason.into() }
}

fn waiting_for(script: &str) -> Outcome {
    let reason = format!(
        "`{script}` is broken and has no older version to run; it goes on when the script loads"
    );
    Outcome::Returned { due_at: clock::now().plus(BROKEN_SCRIPT_PAUSE), reason: reason.into() }
}

fn again_or_dead(retry: &Backoff, attempt: u32, error: String) -> Outcome {
    match retry.wait(attempt, clock::chance()) {
        Some(wait) => Outcome::Retry { due_at: clock::now().plus(wait), error: error.into() },
        None => Outcome::Dead(error.into()),
    }
}

/// The same for every attempt of a job, so that `uuid()` gives the same in a rerun.
fn seed(job: &Job) -> u64 {
    let (high, low) = job.event.id.0.as_u64_pair();
    high.rotate_left(17) ^ low ^ u64::from(job.key.n).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// For the journal: what failed and where, never a payload.
fn describe(failure: &Failure) -> String {
    let mut text = match failure {
        Failure::Thrown { frame, .. } | Failure::Ended { frame: Some(frame), .. } => {
            frame.one_line()
        }
        Failure::ThrownAnswer(answer) => format!("threw status({})", answer.status),
        Failure::Ended { ending, frame: None } => ending.to_string(),
        Failure::Runaway => "allocated without bound (`scripts.memory_budget`)".to_owned(),
        Failure::Panicked => {
            "a function of Rhaiway panicked; this is a bug worth reporting".to_owned()
        }
        Failure::NoStack => "no stack could be had".to_owned(),
    };
    text.truncate(text.floor_char_boundary(ERROR_BYTES_MAX));
    text
}
