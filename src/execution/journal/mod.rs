//! What one run asks of providers, and what earlier runs of the same job have asked: so that a rerun does nothing twice that may do harm (DESIGN §4, rules
//! 13 and 14). A call is the same in another run by what it says, not by when it is made. What has succeeded is answered from here; what may have
//! been done carries the same key again, for as long as the provider remembers it; what the provider looked at and refused takes a fresh one.
//!
//! An unsafe call without a key is on disk before `begin` says that it may be sent, and its answer before `end` returns.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ring::digest::{Context, SHA256};

use super::Executor;
use crate::clock::{self, Millis};
use crate::failpoint::{self, Point};
use crate::provider::Repeat;
use crate::store::{
    Call, CallAnswer, CallOutcome, Calls, Committed, JobKey, KeptAnswer, NewEvent, Noted,
    PlannedJob, StoreError,
};

/// Calls of one attempt that are kept: more than any handler should make. Those past it are counted; their keys protect them all the same.
const CALLS_MAX: usize = 1_000;
/// Bytes of one answer that is kept for reruns: a page of objects.
const ANSWER_BYTES_MAX: usize = 256 << 10;
/// Bytes of all of one attempt, so that a long loop fills neither memory nor disk.
const ANSWERS_BYTES_MAX: usize = 4 << 20;
/// Between two tries to store an answer that the store could not take.
const STORE_PAUSE: Duration = Duration::from_millis(250);
/// Bytes of a digest that a key shows, as hexadecimal digits: 192 bits.
const KEY_BYTES: usize = 24;

/// The calls of one attempt of a job, or of one request; its reruns after conflicts share it.
pub(crate) struct Journal {
    origin: Origin,
    memory: RefCell<Memory>,
}

/// For whom calls are made.
enum Origin {
    Job(OfJob),
    /// What names the request: its idempotency header, else its id.
    Request(Box<str>),
}

/// The attempt of a job, for the journal.
pub(crate) struct OfJob {
    /// Its worker's.
    pub(crate) executor: Rc<Executor>,
    /// Which job.
    pub(crate) job: JobKey,
    /// Its event.
    pub(crate) event: Rc<NewEvent>,
    /// What it runs.
    pub(crate) planned: PlannedJob,
    /// As in `Finish`.
    pub(crate) plan: Option<Arc<[PlannedJob]>>,
    /// The number of the attempt.
    pub(crate) attempt: u32,
    /// The job is in the store, so that it may have run before.
    pub(crate) is_stored: bool,
}

/// A call that a script is about to make.
pub(crate) struct Asked<'a> {
    /// As config names it.
    pub(crate) provider: &'a str,
    /// `chat.completions.create`, `POST /v1/charges`.
    pub(crate) operation: &'a str,
    /// Of everything that it says.
    pub(crate) digest: [u8; 32],
    /// Whether doing it twice may do harm: every verb but those that read.
    pub(crate) is_unsafe: bool,
    /// How long the provider remembers idempotency keys; `None`: it knows none.
    pub(crate) key_ttl: Option<Duration>,
    /// The script's own key.
    pub(crate) own_key: Option<Box<str>>,
    /// What is done where nobody knows whether it was done before, and no key protects it.
    pub(crate) repeat: Repeat,
}

/// What becomes of a call.
#[derive(Debug)]
pub(crate) enum Begun {
    /// It has succeeded before, with this answer.
    Reuse(CallAnswer),
    /// It is to be sent, and `Journal::end` told what it came to.
    Send(Box<Ticket>),
    /// It must not be sent; the attempt ends with this reason, and the job with it.
    Stop(Box<str>),
}

/// A call that is under way. Dropped, it is one of unknown outcome.
#[derive(Debug)]
pub(crate) struct Ticket {
    call: Call,
    began: Instant,
    /// Its place among those of the attempt; `None`: it is not kept.
    place: Option<usize>,
    is_noted: bool,
}

impl Ticket {
    /// The idempotency key that it is to carry.
    pub(crate) fn key(&self) -> Option<&str> {
        self.call.key.as_deref()
    }
}

/// What a call came to.
#[derive(Debug)]
pub(crate) struct Ended {
    /// In one word.
    pub(crate) outcome: CallOutcome,
    /// HTTP requests of it.
    pub(crate) tries: u32,
    /// Of the last answer.
    pub(crate) status: Option<u16>,
    /// The code of its error.
    pub(crate) error: Option<Box<str>>,
    /// What a rerun is to be given, secrets taken out; of a call that succeeded.
    pub(crate) answer: Option<CallAnswer>,
}

impl Journal {
    /// For an attempt of a job.
    pub(crate) fn of_job(of_job: OfJob) -> Rc<Self> {
        let memory = Memory { is_recalled: !of_job.is_stored, ..Memory::default() };
        Rc::new(Self { origin: Origin::Job(of_job), memory: RefCell::new(memory) })
    }

    /// For a request; `name` is its idempotency header where it has one, else its id.
    pub(crate) fn of_request(name: &str) -> Rc<Self> {
        let memory = Memory { is_recalled: true, ..Memory::default() };
        Rc::new(Self { origin: Origin::Request(name.into()), memory: RefCell::new(memory) })
    }

    /// To be called before each run.
    pub(crate) fn begin_run(&self) {
        self.memory.borrow_mut().begin_run();
    }

    /// For the end of the attempt; `None` where it has asked for nothing and nothing was asked before.
    pub(crate) fn calls(&self) -> Option<Arc<Calls>> {
        let is_stored = matches!(&self.origin, Origin::Job(OfJob { is_stored: true, .. }));
        self.memory.borrow().calls(is_stored).map(Arc::new)
    }

    /// Whether a call is sent. An error means that it must not be.
    pub(crate) async fn begin(&self, asked: Asked<'_>) -> Result<Begun, StoreError> {
        self.recall().await?;
        let attempt = match &self.origin {
            Origin::Job(of_job) => Some((of_job.job.n, of_job.attempt)),
            Origin::Request(_) => None,
        };
        let content = self.origin.content(&asked);
        let begun = self.memory.borrow_mut().begin(content, asked, attempt, clock::now());
        let Begun::Send(ticket) = begun else { return Ok(begun) };
        if ticket.is_noted {
            match self.note(&ticket.call).await {
                Ok(Committed::Yes(_)) => {}
                // It was given to another run meanwhile, whose end counts.
                Ok(Committed::Stale | Committed::Conflict) => {
                    return Ok(Begun::Stop("its job has ended meanwhile".into()));
                }
                Err(error) => {
                    self.memory.borrow_mut().end(*ticket, Ended::unsent());
                    return Err(error);
                }
            }
        }
        failpoint::reached(Point::CallBegun);
        Ok(Begun::Send(ticket))
    }

    /// What a call came to. Where that must be on disk, it is when this returns.
    pub(crate) async fn end(&self, ticket: Ticket, ended: Ended) {
        failpoint::reached(Point::CallEnded);
        let noted = self.memory.borrow_mut().end(ticket, ended);
        if let Some(call) = noted {
            while let Err(error) = self.note(&call).await {
                tracing::error!(provider = %call.provider, operation = %call.operation, "what a call came to cannot be stored yet: {error}");
                tokio::time::sleep(STORE_PAUSE).await;
            }
        }
        failpoint::reached(Point::CallNoted);
    }

    /// Looks up what earlier runs of the job have asked, when the first call needs it.
    async fn recall(&self) -> Result<(), StoreError> {
        let Origin::Job(of_job) = &self.origin else { return Ok(()) };
        if self.memory.borrow().is_recalled {
            return Ok(());
        }
        let recalled = of_job.executor.reader.calls(of_job.job).await?;
        let mut memory = self.memory.borrow_mut();
        // Another branch may have looked it up meanwhile.
        if !memory.is_recalled {
            memory.is_recalled = true;
            memory.next = recalled.next;
            recalled.calls.iter().for_each(|call| memory.learn(call));
        }
        Ok(())
    }

    async fn note(&self, call: &Call) -> Result<Committed, StoreError> {
        let Origin::Job(OfJob { executor, job, plan, attempt, .. }) = &self.origin else {
            return Ok(Committed::Stale);
        };
        let (job, plan, attempt) = (*job, plan.clone(), *attempt);
        executor.store.note_call(Noted { job, plan, attempt, call: call.clone() }).await
    }
}

impl Ended {
    /// Nothing of it has left.
    fn unsent() -> Self {
        Self { outcome: CallOutcome::Unsent, tries: 0, status: None, error: None, answer: None }
    }
}

impl Origin {
    /// What equal calls of a job's runs have in common. Handlers are told apart: each is a transaction of its own.
    fn content(&self, asked: &Asked<'_>) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        let mut add = |part: &[u8]| {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        };
        match self {
            Self::Job(OfJob { event, planned, .. }) => {
                add(event.webhook.as_bytes());
                match &event.delivery_id {
                    Some(delivery_id) => add(delivery_id.as_bytes()),
                    None => add(event.id.to_string().as_bytes()),
                }
                add(planned.script.as_bytes());
                add(planned.pattern.as_deref().unwrap_or_default().as_bytes());
                add(&[u8::from(planned.dead_job.is_some())]);
            }
            Self::Request(name) => add(name.as_bytes()),
        }
        add(asked.provider.as_bytes());
        add(asked.operation.as_bytes());
        add(&asked.digest);
        finished(context)
    }
}

/// What the calls of a job have come to, as far as this run knows.
#[derive(Default)]
struct Memory {
    /// What is in the store of earlier attempts is known.
    is_recalled: bool,
    /// By identity.
    known: HashMap<[u8; 32], Known>,
    /// By content: how many equal calls this run has made.
    counts: HashMap<[u8; 32], u32>,
    /// Those of this attempt, over its reruns.
    made: Vec<Made>,
    /// The number that the next call takes.
    next: u32,
    /// How often this run has asked for one.
    asked: u32,
    dropped: u32,
    answer_bytes: usize,
}

struct Made {
    call: Call,
    is_noted: bool,
    is_ended: bool,
}

/// What is known of the calls of one identity.
#[derive(Clone, Debug, Default)]
struct Known {
    /// How often it takes a fresh key.
    epoch: u32,
    /// Since when it may have been done under the key of this epoch.
    maybe_done_since: Option<Millis>,
    /// It has succeeded: when, and with which answer.
    succeeded: Option<(Millis, KeptAnswer)>,
}

impl Known {
    fn learn(&mut self, call: &Call) {
        match call.outcome {
            CallOutcome::Unsent => {}
            CallOutcome::Intent | CallOutcome::Failed => {
                self.maybe_done_since.get_or_insert(call.started_at);
            }
            CallOutcome::Refused if call.status.is_some_and(is_verdict) => {
                self.epoch = call.epoch.saturating_add(1);
                self.maybe_done_since = None;
            }
            // It settles nothing: what may have been done under this key, perhaps by a run that left no trace, may still have been.
            CallOutcome::Refused => {}
            CallOutcome::Succeeded => {
                self.epoch = call.epoch;
                self.succeeded = Some((call.started_at, call.answer.clone()));
            }
        }
    }
}

/// Whether a refusal says that the provider has looked at the call itself, and not only at who asks, how often, or that the same key is at work at this
/// moment. Only such an answer is kept under a key by those who keep answers (Stripe, "Idempotent requests").
fn is_verdict(status: u16) -> bool {
    !matches!(status, 401 | 403 | 408 | 409 | 425 | 429)
}

impl Memory {
    fn begin_run(&mut self) {
        self.counts.clear();
        self.asked = 0;
        let mut cut = Vec::new();
        for made in self.made.iter_mut().filter(|made| !made.is_ended) {
            made.is_ended = true;
            cut.push(made.call.clone());
        }
        cut.iter().for_each(|call| self.learn(call));
    }

    fn learn(&mut self, call: &Call) {
        if call.is_unsafe {
            self.known.entry(call.identity).or_default().learn(call);
        }
    }

    /// `attempt`: the job's number and that of its attempt; `None` for a request, of which nothing is stored.
    fn begin(
        &mut self,
        content: [u8; 32],
        asked: Asked<'_>,
        attempt: Option<(u32, u32)>,
        now: Millis,
    ) -> Begun {
        self.asked = self.asked.saturating_add(1);
        let count = self.counts.entry(content).or_default();
        let identity = digest(&content, *count);
        *count = count.saturating_add(1);
        let known = self.known.get(&identity).cloned().unwrap_or_default();
        let mut epoch = known.epoch;
        let maybe_done_since = match known.succeeded {
            Some((_, KeptAnswer::Whole(answer))) => return Begun::Reuse(answer),
            Some((at, KeptAnswer::TooLarge | KeptAnswer::Nothing)) => Some(at),
            None => known.maybe_done_since,
        };
        let is_remembered = |since: Millis| asked.key_ttl.is_some_and(|ttl| since.until(now) < ttl);
        if let Some(since) = maybe_done_since
            && !is_remembered(since)
        {
            if asked.repeat == Repeat::Stop {
                return Begun::Stop(stop_reason(&asked, since));
            }
            epoch = epoch.saturating_add(1);
        }
        let key = asked.key_ttl.and_then(|_| match asked.own_key {
            Some(own) => Some(own),
            None => asked.is_unsafe.then(|| key_text(&identity, epoch)),
        });
        let (job, number_of_attempt) = attempt.unwrap_or_default();
        let call = Call {
            job,
            number: self.next,
            attempt: number_of_attempt,
            provider: asked.provider.into(),
            operation: asked.operation.into(),
            is_unsafe: asked.is_unsafe,
            identity,
            digest: asked.digest,
            key,
            epoch,
            started_at: now,
            latency_ms: 0,
            tries: 0,
            outcome: CallOutcome::Intent,
            status: None,
            error: None,
            answer: KeptAnswer::Nothing,
        };
        self.next = self.next.saturating_add(1);
        let is_noted = attempt.is_some() && call.is_unsafe && call.key.is_none();
        Begun::Send(Box::new(self.keep(call, is_noted)))
    }

    /// What is noted has a row of its own already, so it always has a place here.
    fn keep(&mut self, call: Call, is_noted: bool) -> Ticket {
        let place = (is_noted || self.made.len() < CALLS_MAX).then_some(self.made.len());
        match place {
            Some(_) => self.made.push(Made { call: call.clone(), is_noted, is_ended: false }),
            None => self.dropped = self.dropped.saturating_add(1),
        }
        Ticket { call, began: clock::instant(), place, is_noted }
    }

    /// The call, where it has to be stored before the script goes on.
    fn end(&mut self, ticket: Ticket, ended: Ended) -> Option<Call> {
        let Ticket { mut call, began, place, is_noted } = ticket;
        let took = clock::instant().saturating_duration_since(began).as_millis();
        call.latency_ms = u64::try_from(took).unwrap_or(u64::MAX);
        call.answer = self.kept(&call, ended.outcome, ended.answer);
        (call.outcome, call.tries) = (ended.outcome, ended.tries);
        (call.status, call.error) = (ended.status, ended.error);
        self.learn(&call);
        if let Some(made) = place.and_then(|place| self.made.get_mut(place)) {
            (made.call, made.is_ended) = (call.clone(), true);
        }
        is_noted.then_some(call)
    }

    fn kept(
        &mut self,
        call: &Call,
        outcome: CallOutcome,
        answer: Option<CallAnswer>,
    ) -> KeptAnswer {
        let Some(answer) = answer else { return KeptAnswer::Nothing };
        if !call.is_unsafe || outcome != CallOutcome::Succeeded {
            return KeptAnswer::Nothing;
        }
        let bytes = answer.bytes();
        if bytes > ANSWER_BYTES_MAX || self.answer_bytes + bytes > ANSWERS_BYTES_MAX {
            tracing::warn!(provider = %call.provider, operation = %call.operation, bytes, "an answer of {bytes} bytes is not kept: should its handler run again, it cannot be given it");
            return KeptAnswer::TooLarge;
        }
        self.answer_bytes += bytes;
        KeptAnswer::Whole(answer)
    }

    fn calls(&self, is_stored: bool) -> Option<Calls> {
        if self.asked == 0 && self.made.is_empty() && self.dropped == 0 && !is_stored {
            return None;
        }
        let made = self.made.iter().filter(|made| !made.is_noted);
        let made = made.map(|made| made.call.clone()).collect();
        Some(Calls { made, asked: self.asked, dropped: self.dropped })
    }
}

fn stop_reason(asked: &Asked<'_>, since: Millis) -> Box<str> {
    let Asked { provider, operation, .. } = asked;
    format!(
        "whether `{provider}` did `{operation}` at {since} is not known, and no key protects it from being done twice (`repeat = \"stop\"`); look there, and settle it by hand"
    )
    .into()
}

/// 56 characters of `[a-z0-9_]`.
fn key_text(identity: &[u8; 32], epoch: u32) -> Box<str> {
    let mut text = String::from("rhaiway_");
    for byte in &digest(identity, epoch)[..KEY_BYTES] {
        // Writing to a String cannot fail.
        _ = write!(text, "{byte:02x}");
    }
    text.into()
}

fn digest(of: &[u8; 32], number: u32) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(of);
    context.update(&number.to_be_bytes());
    finished(context)
}

fn finished(context: Context) -> [u8; 32] {
    context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests;
