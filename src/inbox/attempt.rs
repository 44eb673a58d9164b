//! One attempt of one job: run the handler, then commit its effects with its end, or back off, or give up. A conflict runs it again at once; a
//! store that cannot commit is asked again until it can, since the attempt's outcome is known and must not be lost.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::gate::{Entering, Pass};
use super::{Inbox, plan};
use crate::backoff::Backoff;
use crate::clock::{self, Millis};
use crate::execution::journal::{Journal, OfJob};
use crate::execution::{Executed, Run};
use crate::failpoint::{self, Point};
use crate::generation::{Generation, HandlerRef, Pinned, matches_of};
use crate::script::Ending;
use crate::script::api::event::{Death, EventInput};
use crate::script::host_call::{AttemptEnd, CallEnd, Given};
use crate::script::places::Place;
use crate::script::run::{Failure, Input};
use crate::script::source::Source;
use crate::store::{
    self, After, AttemptLog, Calls, Committed, Finish, JobKey, JobState, NewEvent, Outcome,
    PlannedJob, Seq, StoreError,
};

/// Reruns of one attempt after conflicts; they use no attempt.
const CONFLICT_RERUNS_MAX: u32 = 10;
/// A job that could not run at all, for lack of a stack or of a place in a gate's line, comes back after one to five of these.
const SOON: Duration = Duration::from_secs(1);
/// Between two tries to commit an end that the store could not take.
const COMMIT_PAUSE: Duration = Duration::from_millis(250);
/// Where a placeholder waits when nobody wakes it: its script is still broken.
const BROKEN_SCRIPT_PAUSE: Duration = Duration::from_secs(3600);
/// Jobs that one command makes due, so that the writer is not held for long.
pub(crate) const WAKE_MAX: usize = 10_000;
/// A handler may put its attempt off for so long in all before that counts as one.
const PUT_OFF_MAX: Duration = Duration::from_secs(24 * 3600);
/// A job may wait for gates for so long in all before it is dead: over a weekend on which nobody looks.
const PARKED_MAX: Duration = Duration::from_secs(3 * 24 * 3600);
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
    /// The last of these was claimed, and the process ended before it did.
    pub(super) interrupted: bool,
    /// This attempt is to be claimed before it starts.
    pub(super) store_claim: bool,
    /// It comes from the dispatcher, which hands out only so many at once.
    pub(super) handed: bool,
    /// Since when its handler puts this attempt off.
    pub(super) put_off_since: Option<Millis>,
    /// Since when it waits at gates.
    pub(super) parked_since: Option<Millis>,
    /// The death that it answers.
    pub(super) death: Option<Death>,
}

/// What to do in the attempt.
enum Work {
    Handle(HandlerRef),
    End(Outcome),
}

/// What is told of an attempt beside how it came out.
#[derive(Clone)]
struct Tried {
    started_at: Millis,
    /// Of the script that ran.
    version: Option<Arc<str>>,
    log: AttemptLog,
    /// What it asked of providers.
    calls: Option<Arc<Calls>>,
}

impl Tried {
    /// One that begins now, if it comes to that.
    fn now() -> Self {
        Self { started_at: clock::now(), version: None, log: AttemptLog::default(), calls: None }
    }
}

/// What an attempt needs to begin.
struct Entered {
    /// Places in the gates that it must pass: the handler's own, the webhook's.
    passes: [Option<Pass>; 2],
    /// That of its run.
    place: Place,
}

/// Why there are none.
enum Refused {
    /// The line before the webhook's gate is full; the dispatcher knows when it is not.
    ByWebhook,
    /// The line before the handler's own gate is.
    ByHandler,
    Stopped,
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
            interrupted: false,
            store_claim: false,
            handed: false,
            put_off_since: None,
            parked_since: None,
            death: None,
        }
    }

    /// The next attempt of a stored job; `jobs` are all of its event.
    pub(super) fn again(
        event: Seq,
        new: &Rc<NewEvent>,
        job: &store::Job,
        jobs: &[store::Job],
    ) -> Self {
        let dead = job.planned.dead_job.and_then(|dead| jobs.iter().find(|job| job.n == dead));
        let death = dead.map(|dead| Death {
            script: Arc::clone(&dead.planned.script),
            attempts: dead.attempt,
            message: dead.error.clone().unwrap_or_default(),
        });
        Self {
            key: JobKey { event, n: job.n },
            event: Rc::clone(new),
            planned: job.planned.clone(),
            plan: None,
            used: job.attempt,
            interrupted: job.state == JobState::Running,
            store_claim: false,
            handed: false,
            put_off_since: job.put_off_since,
            parked_since: job.parked_since,
            death,
        }
    }

    /// The number of this attempt.
    fn attempt(&self) -> u32 {
        self.used.saturating_add(1)
    }

    /// Whether a later `emit` or `cancel` may take it back until it has begun, so that beginning is written down.
    fn can_be_taken_back(&self) -> bool {
        self.event.order_key.is_some()
            && matches!(Source::of(&self.event.webhook), Source::Topic(_))
    }

    /// Its event has no jobs in the store, and gets no other than this.
    fn is_alone(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.len() == 1)
    }
}

impl Inbox {
    /// Runs it to the end of one attempt. When the runtime stops before it has begun, nothing is written: it is as it was.
    pub(super) async fn attempt(self: &Rc<Self>, generation: &Pinned, job: Job) {
        let handler = match self.work(generation, &job) {
            Work::End(outcome) => return self.end_unused(generation, &job, outcome).await,
            Work::Handle(handler) => handler,
        };
        let entered = match self.enter(generation, &job, handler).await {
            Ok(entered) => entered,
            Err(Refused::Stopped) => return,
            Err(Refused::ByWebhook) if job.is_alone() => {
                return self.notes.overflow(job.key.event, &job.event.webhook);
            }
            Err(Refused::ByWebhook | Refused::ByHandler) => {
                let outcome = returned("all its places are taken (`concurrency`)");
                return self.end_unused(generation, &job, outcome).await;
            }
        };
        if self.current.load().number == generation.number {
            return self.handle(generation, &job, handler, entered).await;
        }
        // It has stood in line meanwhile: what begins now begins with what is newest now.
        let newest = Rc::new(self.current.load_full());
        match self.work(&newest, &job) {
            Work::End(outcome) => self.end_unused(&newest, &job, outcome).await,
            Work::Handle(handler) => self.handle(&newest, &job, handler, entered).await,
        }
    }

    fn work(&self, generation: &Generation, job: &Job) -> Work {
        if plan::is_nobody(&job.planned) {
            return Work::End(Outcome::Ignored("no handler for this type".into()));
        }
        let (script, webhook) = (&*job.planned.script, &*job.event.webhook);
        let Some(pattern) = &job.planned.pattern else {
            return self.placeholder(generation, job);
        };
        match generation.resolve(script, webhook, pattern, job.planned.dead_job.is_some()) {
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
        let jobs = match job.planned.dead_job {
            Some(dead_job) => plan::of_death_in(generation, name, &job.event.webhook, dead_job),
            None => matches_of(script, &job.event.webhook, &job.event.kind)
                .map(|(_, pattern)| PlannedJob {
                    script: Arc::clone(name),
                    pattern: Some(pattern),
                    dead_job: None,
                })
                .collect(),
        };
        Work::End(if jobs.is_empty() {
            Outcome::Ignored(format!("`{name}` has no handler for this type").into())
        } else {
            Outcome::Resolved { jobs, due_at: clock::steady() }
        })
    }

    /// Its places, the handler's own first: who waits for the webhook's holds up none of its other handlers.
    async fn enter(
        &self,
        generation: &Generation,
        job: &Job,
        at: HandlerRef,
    ) -> Result<Entered, Refused> {
        if self.notes.is_stopping() {
            return Err(Refused::Stopped);
        }
        let (script, handler) = generation.handler(at);
        let mut passes = [None, None];
        if let Some(limit) = handler.options.concurrency {
            let entering = self.gates.enter(&handler_gate(&script.name, at), limit);
            passes[0] = Some(self.wait(job, entering, Refused::ByHandler).await?);
        }
        let bounds = generation.bounds(&job.event.webhook);
        if let Some(limit) = bounds.and_then(|bounds| bounds.concurrency) {
            let entering = self.gates.enter(&job.event.webhook, limit);
            passes[1] = Some(self.wait(job, entering, Refused::ByWebhook).await?);
        }
        // Before it is claimed: what never began has used no attempt.
        tokio::select! {
            biased;
            () = self.notes.stopped() => Err(Refused::Stopped),
            place = self.executor.place() => Ok(Entered { passes, place }),
        }
    }

    async fn wait(&self, job: &Job, entering: Entering, full: Refused) -> Result<Pass, Refused> {
        let place = match entering {
            Entering::Entered(pass) => return Ok(pass),
            Entering::Full => return Err(full),
            Entering::Waiting(place) => place,
        };
        let _in_line = job.handed.then(|| self.notes.stand_in_line());
        tokio::select! {
            biased;
            () = self.notes.stopped() => Err(Refused::Stopped),
            pass = place => pass.map_err(|_gone| Refused::Stopped),
        }
    }

    /// Runs the handler and commits its end.
    async fn handle(
        self: &Rc<Self>,
        generation: &Pinned,
        job: &Job,
        at: HandlerRef,
        entered: Entered,
    ) {
        let Entered { passes, place } = entered;
        let mut tried = Tried::now();
        let outcome = self.run(generation, job, at, place, &mut tried).await;
        drop(passes);
        if let Some((used, outcome)) = outcome {
            self.end(generation, job, used, tried, outcome).await;
        }
    }

    /// Runs it until it commits without a conflict or fails; with the attempts used then. `None`: nothing is left to write. Of the log there is what the
    /// last of its runs said: what ran before has never happened.
    async fn run(
        self: &Rc<Self>,
        generation: &Pinned,
        job: &Job,
        at: HandlerRef,
        place: Place,
        tried: &mut Tried,
    ) -> Option<(u32, Outcome)> {
        let (script, handler) = generation.handler(at);
        let Some(bounds) = generation.bounds(&job.event.webhook) else {
            let reason = format!("config.toml has no webhook `{}` any more", job.event.webhook);
            return Some((job.used, Outcome::Ignored(reason.into())));
        };
        let retry = handler.options.retry.unwrap_or(bounds.retry);
        if job.interrupted && job.used > retry.max {
            let error = "the process ended each time while this event was handled";
            return Some((job.used, dead(generation, job, error.into())));
        }
        if (job.store_claim || job.can_be_taken_back()) && !self.claim(job).await {
            return None;
        }
        let attempt = job.attempt();
        tried.version = Some(Arc::clone(&script.version));
        let mut first = Some(place);
        let journal = self.journal(job);
        for _rerun in 0..=CONFLICT_RERUNS_MAX {
            let input = EventInput {
                id: job.event.id,
                webhook: Arc::clone(&job.event.webhook),
                kind: job.event.kind.clone(),
                received_at: job.event.received_at,
                request: job.event.request.clone(),
                body: job.event.body.clone(),
                data: bounds.data,
                attempt,
                last_attempt: attempt > retry.max,
                replayed: job.event.replay_of.is_some(),
                death: job.death.clone(),
            };
            let place = match first.take() {
                Some(place) => place,
                None => self.executor.place().await,
            };
            let seed = seed(job);
            journal.begin_run();
            let given = Given::new(seed, job.event.id.to_string(), &script.name);
            let run = Run {
                generation,
                script,
                handler: at.handler,
                input: Input::Event(Rc::new(input)),
                place: Some(place),
                given,
                has_acted: Rc::default(),
                journal: Rc::clone(&journal),
                timeout: handler.options.timeout.or(bounds.timeout),
            };
            failpoint::reached(Point::AttemptStarted);
            let Executed { end, effects, log } = self.executor.execute(run).await;
            (tried.log, tried.calls) = (log, journal.calls());
            failpoint::reached(Point::AttemptEnded);
            let outcome = match end.result {
                Ok(_) => Outcome::Done(effects),
                Err(Failure::NoStack) => {
                    return Some((job.used, returned("no stack for another run could be had")));
                }
                Err(Failure::Ended { ending: Ending::Cancelled, .. }) => {
                    return Some((job.used, returned("the runtime stopped")));
                }
                Err(Failure::ByHandler(AttemptEnd::RetryLater { delay, reason })) => {
                    return Some(put_off(generation, job, &retry, delay, reason));
                }
                Err(Failure::ByCall(CallEnd::Parked { until, reason })) => {
                    return Some(parked(generation, job, until, reason));
                }
                Err(failure) => {
                    return Some((attempt, failed(generation, job, &retry, attempt, &failure)));
                }
            };
            match self.commit(generation, job, attempt, tried, outcome).await {
                Ok(Committed::Conflict) => {}
                Ok(Committed::Yes(_) | Committed::Stale) => return None,
                Err(full) => {
                    let error = format!("what it emits has no place: {full}");
                    return Some((attempt, again_or_dead(generation, job, &retry, attempt, error)));
                }
            }
        }
        let error = format!("its documents changed under it {CONFLICT_RERUNS_MAX} times in a row");
        Some((attempt, again_or_dead(generation, job, &retry, attempt, error)))
    }

    /// What this attempt asks of providers, and what those before it have asked.
    fn journal(&self, job: &Job) -> Rc<Journal> {
        Journal::of_job(OfJob {
            executor: Rc::clone(&self.executor),
            job: job.key,
            event: Rc::clone(&job.event),
            planned: job.planned.clone(),
            plan: job.plan.clone(),
            attempt: job.attempt(),
            is_stored: job.plan.is_none(),
        })
    }

    /// After an unclean stop an attempt is written down before it starts. False: there is nothing to start.
    async fn claim(&self, job: &Job) -> bool {
        loop {
            let claim = self.executor.store.claim(job.key, job.plan.clone(), job.attempt());
            match claim.await {
                Ok(Committed::Yes(_)) => {
                    failpoint::reached(Point::ClaimAnswered);
                    return true;
                }
                Ok(Committed::Conflict | Committed::Stale) => return false,
                Err(_) if self.notes.is_stopping() => return false,
                Err(error) => {
                    tracing::error!(event = %job.event.id, "a claim cannot be stored yet: {error}");
                    tokio::time::sleep(COMMIT_PAUSE).await;
                }
            }
        }
    }

    /// The end of an attempt that did not run.
    async fn end_unused(self: &Rc<Self>, generation: &Pinned, job: &Job, outcome: Outcome) {
        self.end(generation, job, job.used, Tried::now(), outcome).await;
    }

    async fn end(
        self: &Rc<Self>,
        generation: &Pinned,
        job: &Job,
        used: u32,
        tried: Tried,
        outcome: Outcome,
    ) {
        if let Outcome::Dead { error, .. } = &outcome {
            tracing::error!(event = %job.event.id, script = %job.planned.script, attempt = used, "dead letter: no attempt is left; {error}");
        }
        let waits = match &outcome {
            Outcome::Dead { then, .. } => !then.is_empty(),
            Outcome::Done(_) | Outcome::Ignored(_) => false,
            Outcome::Retry { .. }
            | Outcome::Returned { .. }
            | Outcome::PutOff { .. }
            | Outcome::Parked { .. }
            | Outcome::Resolved { .. } => true,
        };
        // Only what emits can find no place, and this emits nothing.
        _ = self.commit(generation, job, used, &tried, outcome).await;
        if waits {
            self.wake_if_reloaded(generation, &job.planned.script).await;
            self.notes.wake();
        }
    }

    /// A script that was saved while its attempt ran has woken those that waited then; this one waits only now. Looked at after the commit, so that
    /// one of the two always sees the other.
    async fn wake_if_reloaded(&self, generation: &Generation, script: &Arc<str>) {
        let newest = self.current.load();
        let version = |generation: &Generation| {
            (generation.script(script).map(Arc::as_ptr), generation.broken.contains(script))
        };
        if newest.number == generation.number || version(&newest) == version(generation) {
            return;
        }
        drop(newest);
        if let Err(error) = self.executor.store.wake(script, true, clock::steady(), WAKE_MAX).await
        {
            tracing::warn!("a job that waits for `{script}` cannot be made due now: {error}");
        }
    }

    /// Asks the store until it answers; the runtime's stop ends it, and then the job is as it was before this attempt. An error is `Full`: what it
    /// emits has no place.
    async fn commit(
        self: &Rc<Self>,
        generation: &Pinned,
        job: &Job,
        used: u32,
        tried: &Tried,
        outcome: Outcome,
    ) -> Result<Committed, StoreError> {
        loop {
            let finish = Finish {
                job: job.key,
                plan: job.plan.clone(),
                attempt: used,
                started_at: tried.started_at,
                ended_at: clock::now(),
                generation: generation.number,
                version: tried.version.clone(),
                log: tried.log.clone(),
                calls: tried.calls.clone(),
                ordered: job.event.order_key.is_some(),
                outcome: outcome.clone(),
            };
            match self.executor.store.finish(finish).await {
                Ok(Committed::Yes(after)) => {
                    failpoint::reached(Point::FinishAnswered);
                    let emits = match outcome {
                        Outcome::Done(effects) => effects.emits,
                        _ => Vec::new(),
                    };
                    self.follow(generation, after, emits);
                    if matches!(Source::of(&job.event.webhook), Source::Timer(_)) {
                        self.notes.timer_ended();
                    }
                    return Ok(Committed::Yes(After::default()));
                }
                Ok(committed) => return Ok(committed),
                Err(full @ StoreError::Full { .. }) => return Err(full),
                Err(error) => {
                    tracing::error!(event = %job.event.id, "the end of an attempt cannot be stored yet: {error}");
                    if self.notes.is_stopping() {
                        return Ok(Committed::Stale);
                    }
                    tokio::time::sleep(COMMIT_PAUSE).await;
                }
            }
        }
    }
}

fn failed(
    generation: &Generation,
    job: &Job,
    retry: &Backoff,
    attempt: u32,
    failure: &Failure,
) -> Outcome {
    let error = describe(failure);
    tracing::warn!(event = %job.event.id, script = %job.planned.script, attempt, "handler failed: {error}");
    match failure {
        Failure::ByHandler(AttemptEnd::GiveUp { .. })
        | Failure::ByCall(CallEnd::Unknown { .. }) => dead(generation, job, error.into()),
        _ => again_or_dead(generation, job, retry, attempt, error),
    }
}

/// The handler asked for another time. That uses no attempt, but for a handler that has asked for a day.
fn put_off(
    generation: &Generation,
    job: &Job,
    retry: &Backoff,
    delay: Duration,
    reason: Box<str>,
) -> (u32, Outcome) {
    let now = clock::now();
    let due_at = clock::steady().plus(delay);
    tracing::debug!(event = %job.event.id, script = %job.planned.script, "put off by its handler until {due_at}: {reason}");
    let asked_for = job.put_off_since.map_or(Duration::ZERO, |since| since.until(now));
    if asked_for < PUT_OFF_MAX {
        return (job.used, Outcome::PutOff { due_at, reason });
    }
    let attempt = job.attempt();
    let error = format!("put off by its handler for a day: {reason}").into();
    if attempt > retry.max {
        return (attempt, dead(generation, job, error));
    }
    (attempt, Outcome::Retry { due_at, error })
}

/// A gate is closed. Waiting for it uses no attempt, but ends after three days in all.
fn parked(generation: &Generation, job: &Job, until: Millis, reason: Box<str>) -> (u32, Outcome) {
    tracing::debug!(event = %job.event.id, script = %job.planned.script, "parked until {until}: {reason}");
    match parked_until(job.parked_since, until, clock::now(), clock::steady()) {
        Some(due_at) => (job.used, Outcome::Parked { due_at, reason }),
        None => {
            let error = format!("parked for three days: {reason}").into();
            (job.attempt(), dead(generation, job, error))
        }
    }
}

/// When it is due again; `None`: it has waited for as long as it may. `now` is the wall clock's, as `since` is, `steady` that of waits.
fn parked_until(
    since: Option<Millis>,
    until: Millis,
    now: Millis,
    steady: Millis,
) -> Option<Millis> {
    let waited = since.map_or(Duration::ZERO, |since| since.until(now));
    let left = PARKED_MAX.saturating_sub(waited);
    (!left.is_zero()).then(|| until.min(steady.plus(left)))
}

/// The name of the gate of one registration.
pub(super) fn handler_gate(script: &str, at: HandlerRef) -> String {
    format!("{script}/{}", at.handler)
}

fn returned(reason: &str) -> Outcome {
    // Spread, so that what was refused together does not come back together.
    let pause = SOON.mul_f64(4.0f64.mul_add(clock::chance(), 1.0));
    Outcome::Returned { due_at: clock::steady().plus(pause), reason: reason.into() }
}

fn waiting_for(script: &str) -> Outcome {
    let reason = format!(
        "`{script}` is broken and has no older version to run; it goes on when the script loads"
    );
    Outcome::Returned { due_at: clock::steady().plus(BROKEN_SCRIPT_PAUSE), reason: reason.into() }
}

fn again_or_dead(
    generation: &Generation,
    job: &Job,
    retry: &Backoff,
    attempt: u32,
    error: String,
) -> Outcome {
    match retry.wait(attempt, clock::chance()) {
        Some(wait) => Outcome::Retry { due_at: clock::steady().plus(wait), error: error.into() },
        None => dead(generation, job, error.into()),
    }
}

/// No attempt is left. What answers a death has nobody to answer its own.
fn dead(generation: &Generation, job: &Job, error: Box<str>) -> Outcome {
    let then = match job.planned.dead_job {
        None => plan::of_death(generation, &job.event.webhook, job.key.n),
        Some(_) => Arc::default(),
    };
    Outcome::Dead { error, then }
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
        Failure::ByHandler(
            AttemptEnd::GiveUp { reason } | AttemptEnd::RetryLater { reason, .. },
        ) => reason.clone().into_string(),
        Failure::ByCall(CallEnd::Parked { reason, .. } | CallEnd::Unknown { reason }) => {
            reason.clone().into_string()
        }
        Failure::Ended { ending, frame: None } => ending.to_string(),
        Failure::Runaway => "allocated without bound (`scripts.memory_budget`)".to_owned(),
        Failure::Panicked => {
            "a function of Rhaiway panicked; this is a bug worth reporting".to_owned()
        }
        Failure::NoStack => "no stack could be had".to_owned(),
        Failure::Stopped(stopped) => stopped.to_string(),
    };
    text.truncate(text.floor_char_boundary(ERROR_BYTES_MAX));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_12_a_parked_job_is_due_when_its_gate_opens_and_dead_after_three_days_in_all() {
        const HOUR: i64 = 3_600_000;
        let (now, steady) = (Millis(500 * HOUR), Millis(7_000 * HOUR));
        let check = |since: Option<i64>, hours: i64, due: Option<i64>| {
            let since = since.map(|ago| Millis(now.0 - ago * HOUR));
            let due_at = parked_until(since, Millis(steady.0 + hours * HOUR), now, steady);
            assert_eq!(due_at, due.map(|due| Millis(steady.0 + due * HOUR)), "{since:?} {hours}");
        };
        check(None, 2, Some(2));
        check(None, 100, Some(72));
        check(Some(70), 1, Some(1));
        check(Some(70), 5, Some(2));
        check(Some(72), 1, None);
        check(Some(-5), 1, Some(1));
    }
}
