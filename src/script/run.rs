//! Drive one run of a handler from start to end: slices, CPU and wall budget, memory, cancellation. It decides when a script stops and
//! nothing else; what a script asks for is done by the `Perform` that the caller passes.
//!
//! Dropping the future cancels the run: its coroutine is unwound on its own stack.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rhai::{Dynamic, EvalAltResult};

use super::Ending;
use super::api::event::{self, EventInput};
use super::api::request::{self, RequestInput};
use super::api::respond::{self, Answer};
use super::compiled::Compiled;
use super::coroutine::{self, Coroutine, Stacks, Step};
use super::current::{self, Phase};
use super::diagnose::{self, Circumstances};
use super::host_call::{AttemptEnd, Given, HostCall, HostReply};
use super::load::file_of;
use crate::frame::Frame;
use crate::{clock, memory, units};

/// How long a script may keep its worker before the others get their turn.
const SLICE: Duration = Duration::from_micros(500);

/// Does what a script asks. The live runtime is one; tests bring another.
pub(crate) trait Perform {
    /// Does one call. Dropping what it returns gives it up.
    fn perform(&mut self, call: HostCall) -> Performed<'_>;

    /// Bytes that the run holds here, such as writes that wait for its commit; they count against its memory.
    fn held_bytes(&self) -> usize;
}

/// What a call comes to: most are done at once.
pub(crate) enum Performed<'a> {
    /// It is done.
    Now(HostReply),
    /// It takes its time.
    Later(Pin<Box<dyn Future<Output = HostReply> + 'a>>),
}

/// One run.
pub(crate) struct Task {
    /// This worker's copy of the script.
    pub(crate) compiled: Rc<Compiled>,
    /// Index of the handler in its script.
    pub(crate) handler: usize,
    /// What it is called with.
    pub(crate) input: Input,
    /// What it knows without asking.
    pub(crate) given: Rc<Given>,
    /// What it may use.
    pub(crate) limits: Limits,
}

/// What the handler is called with. It is shared with whoever may have to run the handler again.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// A delivery, for a webhook's handler.
    Event(Rc<EventInput>),
    /// A request, for a route's.
    Request(Rc<RequestInput>),
    /// A value that a test makes inside the run, where it belongs.
    #[cfg(test)]
    Made(fn() -> Dynamic),
}

/// What one run may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// CPU time.
    pub(crate) cpu: Duration,
    /// Bytes held at once.
    pub(crate) memory: u64,
    /// Wall time.
    pub(crate) timeout: Duration,
}

/// How a run ended, and what it took.
#[derive(Debug)]
pub(crate) struct End {
    /// What the handler returned, or why it did not.
    pub(crate) result: Result<Answer, Failure>,
    /// Bytes that the run left behind: a cycle of closures, or what a runaway held. Everything else is counted exactly, so it is 0.
    pub(crate) leaked: u64,
}

/// Why a run gave no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It threw.
    Thrown {
        /// That of a thrown map.
        code: Option<Box<str>>,
        /// Where.
        frame: Box<Frame>,
    },
    /// A `status(…)` was thrown: this is the answer, its effects are discarded.
    ThrownAnswer(Answer),
    /// A limit or the runtime ended it.
    Ended {
        /// Which.
        ending: Ending,
        /// Where, if that is known.
        frame: Option<Box<Frame>>,
    },
    /// It ended the attempt itself.
    ByHandler(AttemptEnd),
    /// It allocated without bound between two hooks; what it held is lost.
    Runaway,
    /// A native function panicked.
    Panicked,
    /// No stack could be had.
    NoStack,
}

/// Runs to the end.
pub(crate) async fn run(stacks: &Rc<Stacks>, task: Task, perform: &mut dyn Perform) -> End {
    let Task { compiled, handler, input, given, limits } = task;
    let body = {
        // The input is not the run's own memory, so its last owner stands outside.
        let (compiled, input) = (Rc::clone(&compiled), input.clone());
        move || finish(&compiled, handler, &input, &limits)
    };
    let Ok(coroutine) = Coroutine::new(stacks, body) else {
        return End { result: Err(Failure::NoStack), leaked: 0 };
    };
    let deadline = given.started + limits.timeout;
    let mut active = Active {
        coroutine,
        given,
        limits,
        balance: memory::Balance::default(),
        cpu: Duration::ZERO,
        ending: None,
    };
    let result = active.drive(perform, deadline).await;
    // A panic's own traces cannot be told from what the script left.
    let leaked = match &result {
        Err(Failure::Panicked) => 0,
        _ => active.balance.bytes(),
    };
    End { result, leaked }
}

/// A run between two slices.
struct Active {
    coroutine: Coroutine<Result<Answer, Failure>>,
    given: Rc<Given>,
    limits: Limits,
    balance: memory::Balance,
    cpu: Duration,
    /// Sticky: once set, every hook and every host call of the run obeys it.
    ending: Option<Ending>,
}

impl Active {
    async fn drive(
        &mut self,
        perform: &mut dyn Perform,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let mut reply = HostReply::Unit;
        loop {
            let (step, now) = self.resume(reply, perform.held_bytes());
            if self.ending.is_none() && matches!(step, Step::Slice | Step::Call(_)) {
                self.ending = self.spent(now, deadline);
            }
            reply = match step {
                Step::Done(result) => return self.judged(result),
                Step::Panicked => return Err(Failure::Panicked),
                Step::Runaway => return Err(Failure::Runaway),
                Step::Slice | Step::Call(_) if self.ending.is_some() => HostReply::Ended,
                Step::Slice => {
                    tokio::task::yield_now().await;
                    HostReply::Unit
                }
                Step::Call(call) => self.answer(call, perform, deadline).await,
            };
        }
    }

    /// One slice, and when it was over: everything that natives and the allocator look for is in place exactly as long as it lasts.
    fn resume(
        &mut self,
        reply: HostReply,
        held_elsewhere: usize,
    ) -> (Step<Result<Answer, Failure>>, Instant) {
        let started = clock::instant();
        let running = current::enter(current::Slice {
            phase: Phase::Handler,
            ending: self.ending,
            ends: started + SLICE,
            held_elsewhere,
            given: Some(Rc::clone(&self.given)),
        });
        let charged =
            memory::enter(&mut self.balance, self.limits.memory, coroutine::suspend_for_good);
        let step = self.coroutine.resume(reply);
        drop(charged);
        self.ending = self.ending.or_else(|| running.ending());
        drop(running);
        let now = clock::instant();
        self.cpu += now.saturating_duration_since(started);
        (step, now)
    }

    fn spent(&self, now: Instant, deadline: Instant) -> Option<Ending> {
        if self.cpu > self.limits.cpu {
            return Some(Ending::Cpu);
        }
        (now >= deadline).then_some(Ending::Timeout)
    }

    async fn answer(
        &mut self,
        call: HostCall,
        perform: &mut dyn Perform,
        deadline: Instant,
    ) -> HostReply {
        match perform.perform(call) {
            Performed::Now(reply) => reply,
            Performed::Later(later) => {
                match tokio::time::timeout_at(deadline.into(), later).await {
                    Ok(reply) => reply,
                    Err(_elapsed) => {
                        self.ending = Some(Ending::Timeout);
                        HostReply::Ended
                    }
                }
            }
        }
    }

    /// An ending counts even where the script came to an end of its own by swallowing it.
    fn judged(&self, result: Result<Answer, Failure>) -> Result<Answer, Failure> {
        match self.ending {
            None => result,
            Some(ending) => Err(match result {
                Err(Failure::Ended { frame, .. }) => Failure::Ended { ending, frame },
                _ => Failure::Ended { ending, frame: None },
            }),
        }
    }
}

/// A run that nobody waits for any more is unwound, and whatever stops the unwinding finds that the run has ended.
impl Drop for Active {
    fn drop(&mut self) {
        let _running = current::enter(current::Slice {
            phase: Phase::Handler,
            ending: self.ending.or(Some(Ending::Cancelled)),
            ends: self.given.started,
            held_elsewhere: 0,
            given: None,
        });
        self.coroutine.unwind();
    }
}

/// Inside the coroutine: input to value, the handler, its result to plain data. Every value is dropped in here.
fn finish(
    compiled: &Compiled,
    handler: usize,
    input: &Input,
    limits: &Limits,
) -> Result<Answer, Failure> {
    let result = value_of(compiled, handler, input)
        .and_then(|value| compiled.call(handler, value, second_of(input)))
        .and_then(|result| memory::handed_out(|| respond::answer(&result)));
    result.map_err(|error| memory::uncharged(|| failure(compiled, limits, &error)))
}

fn value_of(
    compiled: &Compiled,
    handler: usize,
    input: &Input,
) -> Result<Dynamic, Box<EvalAltResult>> {
    match input {
        Input::Event(input) => {
            let parts =
                compiled.script.handlers.get(handler).and_then(|handler| handler.parts.as_deref());
            event::build(input, compiled.script.reads, parts)
        }
        Input::Request(input) => Ok(request::build(Rc::clone(input))),
        #[cfg(test)]
        Input::Made(make) => Ok(make()),
    }
}

/// What `on_dead` gets beside its event.
fn second_of(input: &Input) -> Option<Dynamic> {
    match input {
        Input::Event(input) => input.death.as_ref().map(event::Death::build),
        Input::Request(_) => None,
        #[cfg(test)]
        Input::Made(_) => None,
    }
}

fn failure(compiled: &Compiled, limits: &Limits, error: &EvalAltResult) -> Failure {
    let ending = Ending::of(error);
    let frame = |error: &EvalAltResult| {
        let script = &compiled.script;
        let files =
            |path: Option<&str>| file_of(&script.path, &script.source, &script.modules, path);
        let circumstances = Circumstances { ending, limits: limits.shown() };
        Box::new(diagnose::run_error(&files, error, &compiled.names(), &circumstances))
    };
    if let Some(ending) = ending {
        return Failure::Ended { ending, frame: Some(frame(error)) };
    }
    match innermost(error) {
        EvalAltResult::ErrorRuntime(thrown, _) => match respond::thrown_answer(thrown) {
            Some(Ok(answer)) => Failure::ThrownAnswer(answer),
            Some(Err(error)) => Failure::Thrown { code: None, frame: frame(&error) },
            None => Failure::Thrown { code: code_of(thrown), frame: frame(error) },
        },
        _ => Failure::Thrown { code: None, frame: frame(error) },
    }
}

impl Limits {
    /// As configuration writes them.
    fn shown(&self) -> diagnose::Limits {
        diagnose::Limits {
            cpu_budget: units::print_duration(self.cpu).into(),
            memory_budget: units::print_size(self.memory).into(),
            timeout: units::print_duration(self.timeout).into(),
        }
    }
}

/// The error at the bottom of its call chain.
fn innermost(error: &EvalAltResult) -> &EvalAltResult {
    match error {
        EvalAltResult::ErrorInFunctionCall(_, _, inner, _)
        | EvalAltResult::ErrorInModule(_, inner, _) => innermost(inner),
        other => other,
    }
}

fn code_of(thrown: &Dynamic) -> Option<Box<str>> {
    let map = thrown.as_map_ref().ok()?;
    let code = map.get("code")?.as_immutable_string_ref().ok()?;
    Some(code.as_str().into())
}
