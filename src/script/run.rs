//! One run of a handler from start to end: what goes in, what it may use, what comes out. `strand` drives its coroutine and `branches` those of
//! `parallel`; what a script asks for is done by the `Perform` that the caller passes.
//!
//! Dropping the future cancels the run: its coroutines are unwound, each on its own stack, the branches first.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use rhai::{Dynamic, EvalAltResult};

use super::Ending;
use super::api::event::{self, EventInput};
use super::api::request::{self, RequestInput};
use super::api::respond::{self, Answer};
use super::compiled::Compiled;
use super::coroutine::{Coroutine, Stacks};
use super::diagnose::{self, Circumstances};
use super::host_call::{AttemptEnd, CallEnd, Given, HostCall, HostReply};
use super::load::file_of;
use super::places::Place;
use super::strand::{Common, Fault, Strand};
use crate::frame::Frame;
use crate::{memory, units};

/// Does what a script asks. The live runtime is one; tests bring another.
pub(crate) trait Perform {
    /// Does one call. Dropping what it returns gives it up. Branches of a run may have several calls under way, in any order.
    fn perform(&self, call: HostCall) -> Performed<'_>;

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
    /// Bytes that the run left behind: a cycle of closures, or what a runaway held. Everything else is counted exactly, so it is 0. The script
    /// has them in its own account already.
    pub(crate) leaked: u64,
}

/// Why a run gave no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It threw.
    Thrown {
        /// That of a thrown map.
        code: Option<Box<str>>,
        /// Its `retry_after`, in seconds.
        retry_after: Option<u32>,
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
    /// A call of it to a provider ended the attempt.
    ByCall(CallEnd),
    /// It allocated without bound between two hooks; what it held is lost.
    Runaway,
    /// A native function panicked.
    Panicked,
    /// No stack could be had.
    NoStack,
    /// Its script is stopped until it is saved again, for what its runs have done before.
    Stopped(Stopped),
}

/// What stops a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// Runs of it allocated without bound.
    RanAway,
    /// Runs of it left memory behind that nothing gives back.
    Leaked,
}

impl fmt::Display for Stopped {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::RanAway => {
                "its script is stopped until it is saved again: its runs allocated without bound (`scripts.memory_budget`)"
            }
            Self::Leaked => {
                "its script is stopped until it is saved again: its runs left too much memory behind, closures that hold each other"
            }
        })
    }
}

/// Runs to the end. Without a place it takes one now, and gives up where there is none.
pub(crate) async fn run(
    stacks: &Rc<Stacks>,
    place: Option<Place>,
    task: Task,
    perform: &dyn Perform,
) -> End {
    let Task { compiled, handler, input, given, limits } = task;
    let body = {
        // The input is not the run's own memory, so its last owner stands outside.
        let (compiled, input) = (Rc::clone(&compiled), input.clone());
        move || finish(&compiled, handler, &input, &limits)
    };
    let place = place.or_else(|| stacks.enter_now());
    let Some(Ok(coroutine)) = place.map(|place| Coroutine::new(stacks, place, body)) else {
        return End { result: Err(Failure::NoStack), leaked: 0 };
    };
    let common = Common::new(stacks, compiled, perform, limits, given.started);
    let result = {
        let mut strand = Strand::new(&common, coroutine, Some(Rc::clone(&given)), 0);
        let mut driving = pin!(strand.drive());
        poll_fn(|context| {
            common.begin_turn();
            driving.as_mut().poll(context)
        })
        .await
    };
    let result = match result {
        Ok(result) => judged(&common, result),
        Err(Fault::Runaway) => Err(Failure::Runaway),
        Err(Fault::Panicked) => Err(Failure::Panicked),
    };
    End { result, leaked: common.left_behind() }
}

/// An ending counts even where the script came to an end of its own by swallowing it. Where a branch met it, that place is told.
fn judged(common: &Common<'_>, result: Result<Answer, Failure>) -> Result<Answer, Failure> {
    let Some(ending) = common.ending() else { return result };
    let own = match result {
        Err(Failure::Ended { frame, .. }) => frame,
        _ => None,
    };
    Err(Failure::Ended { ending, frame: common.frame_of_branch().or(own) })
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

/// What an error of the script comes to.
pub(super) fn failure(compiled: &Compiled, limits: &Limits, error: &EvalAltResult) -> Failure {
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
            Some(Err(error)) => {
                Failure::Thrown { code: None, retry_after: None, frame: frame(&error) }
            }
            None => Failure::Thrown {
                code: code_of(thrown),
                retry_after: retry_after_of(thrown),
                frame: frame(error),
            },
        },
        _ => Failure::Thrown { code: None, retry_after: None, frame: frame(error) },
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

fn retry_after_of(thrown: &Dynamic) -> Option<u32> {
    let map = thrown.as_map_ref().ok()?;
    let seconds = map.get("retry_after")?.as_int().ok()?;
    u32::try_from(seconds.max(1)).ok()
}

fn code_of(thrown: &Dynamic) -> Option<Box<str>> {
    let map = thrown.as_map_ref().ok()?;
    let code = map.get("code")?.as_immutable_string_ref().ok()?;
    Some(code.as_str().into())
}
