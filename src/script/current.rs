//! The run on this thread, as native functions see it: which phase it is in, what it was given, whether it has been ended. The driver
//! (`run.rs`, `load.rs`) puts it here for the length of one slice. An ending is sticky: every hook and every host call obeys it, so that
//! nothing goes on by swallowing an error, as Rhai's `sort` does.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rhai::{Dynamic, EvalAltResult, Map, Position};

use super::Ending;
use super::api::provider;
use super::coroutine::{self, RESERVE_BYTES, Suspend};
use super::host_call::{Given, HostCall, HostError, HostReply};
use super::parallel::Branches;
use crate::{clock, memory};

/// The clock is asked once in so many operations (some 3 µs of script).
const OPERATIONS_PER_LOOK: u32 = 64;

/// What an error of a native function is.
pub(crate) type Throw = Box<EvalAltResult>;

thread_local! {
    // What every operation looks at has nothing to drop, so that reaching it costs nothing.
    static CURRENT: Current = const { Current {
        phase: Cell::new(Phase::None),
        ending: Cell::new(None),
        slice_ends: Cell::new(None),
        operations: Cell::new(0),
        held_elsewhere: Cell::new(0),
    } };
    static GIVEN: RefCell<Option<Rc<Given>>> = const { RefCell::new(None) };
}

struct Current {
    phase: Cell<Phase>,
    ending: Cell<Option<Ending>>,
    slice_ends: Cell<Option<Instant>>,
    operations: Cell<u32>,
    held_elsewhere: Cell<usize>,
}

/// What scripts may do at this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No run is on this thread.
    None,
    /// The top level runs: it registers handlers and declares constants, and nothing else.
    SetUp,
    /// A handler runs.
    Handler,
}

/// What the driver lays down for one slice.
pub(crate) struct Slice {
    /// What it may do.
    pub(crate) phase: Phase,
    /// What has ended the run before, if anything.
    pub(crate) ending: Option<Ending>,
    /// When the slice is over.
    pub(crate) ends: Instant,
    /// Bytes that the run holds outside its account.
    pub(crate) held_elsewhere: usize,
    /// Absent in the set-up phase.
    pub(crate) given: Option<Rc<Given>>,
}

/// Makes it the run on this thread.
pub(crate) fn enter(slice: Slice) -> Entered {
    CURRENT.with(|current| {
        current.phase.set(slice.phase);
        current.ending.set(slice.ending);
        current.slice_ends.set(Some(slice.ends));
        current.held_elsewhere.set(slice.held_elsewhere);
    });
    GIVEN.set(slice.given);
    Entered
}

/// While it lives, natives find the run.
pub(crate) struct Entered;

impl Entered {
    /// What ended the run during the slice, if anything did.
    pub(crate) fn ending(&self) -> Option<Ending> {
        CURRENT.with(|current| current.ending.get())
    }

    /// What the coroutine goes by when it goes on: a branch that runs where it was called has its own.
    pub(crate) fn given(&self) -> Option<Rc<Given>> {
        GIVEN.take()
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.with(|current| current.phase.set(Phase::None));
        GIVEN.set(None);
    }
}

/// Rhai's hook between operations: `Some` ends the run.
pub(crate) fn on_operation() -> Option<Ending> {
    CURRENT.with(|current| {
        if current.ending.get().is_some() {
            return current.ending.get();
        }
        if coroutine::stack_left() < RESERVE_BYTES {
            return current.end(Ending::Stack);
        }
        if memory::is_over_budget(current.held_elsewhere.get()) {
            return current.end(Ending::Memory);
        }
        let operations = current.operations.get().wrapping_add(1);
        current.operations.set(operations);
        if operations.is_multiple_of(OPERATIONS_PER_LOOK)
            && current.slice_ends.get().is_some_and(|ends| clock::instant() >= ends)
        {
            return current.end_slice();
        }
        None
    })
}

impl Current {
    fn end(&self, ending: Ending) -> Option<Ending> {
        self.ending.set(Some(ending));
        Some(ending)
    }

    fn end_slice(&self) -> Option<Ending> {
        match self.phase.get() {
            Phase::SetUp => self.end(Ending::Cpu),
            Phase::Handler => {
                coroutine::suspend(Suspend::Slice);
                self.ending.get()
            }
            Phase::None => None,
        }
    }
}

/// Does what belongs to the set-up phase, such as the top level of a module that a handler imports: nothing may be asked, the run is not
/// suspended meanwhile, and it ends when the work takes longer than `budget`.
pub(crate) fn setting_up<T>(budget: Duration, work: impl FnOnce() -> T) -> T {
    CURRENT.with(|current| {
        if current.phase.get() != Phase::Handler {
            return work();
        }
        current.phase.set(Phase::SetUp);
        let slice_ends = current.slice_ends.replace(Some(clock::instant() + budget));
        let result = work();
        current.phase.set(Phase::Handler);
        current.slice_ends.set(slice_ends);
        result
    })
}

/// Asks the outside and waits. `what` names it for the set-up phase, where nothing may be asked. `call` builds plain data that leaves the run,
/// so it frees nothing of the run; `read` takes from the reply what the script gets.
pub(crate) fn ask<T>(
    what: &str,
    call: impl FnOnce() -> Result<HostCall, Throw>,
    read: impl FnOnce(&HostReply) -> Result<T, Throw>,
) -> Result<T, Throw> {
    in_handler(what)?;
    CURRENT.with(|current| {
        if memory::is_over_budget(current.held_elsewhere.get()) {
            current.end(Ending::Memory);
        }
    });
    obey()?;
    let reply = coroutine::suspend(Suspend::Call(memory::handed_out(call)?));
    let result = obey().and_then(|()| match &reply {
        HostReply::Failed(error) => Err(thrown(error)),
        HostReply::Ended => Err(end(Ending::Cancelled)),
        HostReply::CallFailed(error) => Err(provider::thrown(error)),
        HostReply::Over => Err(end(Ending::ByCall)),
        reply @ (HostReply::Unit
        | HostReply::RunHere
        | HostReply::Bool(_)
        | HostReply::Count(_)
        | HostReply::Document(_)
        | HostReply::Documents(_)
        | HostReply::Called(_)
        | HostReply::Health(_)
        | HostReply::Bytes(_)
        | HostReply::Digest(_)) => read(reply),
    });
    memory::uncharged(|| drop(reply));
    result
}

/// Ends the run for good; the error is what carries it out of the script.
pub(crate) fn end(ending: Ending) -> Throw {
    CURRENT.with(|current| current.end(ending));
    terminated(ending)
}

/// Has the driver run closures side by side, and waits for all of them. `RunHere` comes back where there is no place for any.
pub(super) fn branch_out(branches: Branches) -> Result<HostReply, Throw> {
    check()?;
    let reply = coroutine::suspend(Suspend::Branches(branches));
    obey()?;
    match reply {
        HostReply::Ended => Err(end(Ending::Cancelled)),
        reply => Ok(reply),
    }
}

/// What Rhai does between two operations, for a native function that takes its time: the run may be over, or its slice.
pub(super) fn check() -> Result<(), Throw> {
    on_operation().map_or(Ok(()), |ending| Err(terminated(ending)))
}

/// Until the guard is dropped, the coroutine on this thread goes by `given`.
pub(super) fn go_by(given: Given) -> GoesBy {
    GoesBy(GIVEN.replace(Some(Rc::new(given))))
}

/// Puts back what the coroutine went by before.
pub(super) struct GoesBy(Option<Rc<Given>>);

impl Drop for GoesBy {
    fn drop(&mut self) {
        GIVEN.set(self.0.take());
    }
}

/// What the run was given, for what it may know without asking.
pub(crate) fn given(what: &str) -> Result<Rc<Given>, Throw> {
    in_handler(what)?;
    let given = GIVEN.with_borrow(Clone::clone);
    given.ok_or_else(|| fail(&format!("`{what}` works in a handler only")))
}

/// Refuses in the set-up phase.
pub(crate) fn in_handler(what: &str) -> Result<(), Throw> {
    obey()?;
    match CURRENT.with(|current| current.phase.get()) {
        Phase::Handler => Ok(()),
        Phase::SetUp => Err(fail(&format!(
            "`{what}` cannot run while the script is loaded; the top level only registers handlers and declares constants"
        ))),
        Phase::None => Err(fail(&format!("`{what}` works in a handler only"))),
    }
}

/// Refuses outside the set-up phase.
pub(crate) fn in_set_up(what: &str) -> Result<(), Throw> {
    match CURRENT.with(|current| current.phase.get()) {
        Phase::SetUp => Ok(()),
        Phase::Handler | Phase::None => Err(fail(&format!(
            "`{what}` registers a handler and belongs to the top level of the script"
        ))),
    }
}

fn obey() -> Result<(), Throw> {
    CURRENT.with(|current| current.ending.get()).map_or(Ok(()), |ending| Err(terminated(ending)))
}

/// An error that a script may catch as text.
pub(crate) fn fail(message: &str) -> Throw {
    Box::new(EvalAltResult::ErrorRuntime(message.into(), Position::NONE))
}

/// An error that a script may catch as a map with `code` and `message`.
pub(crate) fn thrown(error: &HostError) -> Throw {
    let mut map = Map::new();
    map.insert("code".into(), error.code.into());
    map.insert("message".into(), error.message.as_ref().into());
    Box::new(EvalAltResult::ErrorRuntime(map.into(), Position::NONE))
}

/// The error that no script can catch.
pub(crate) fn terminated(ending: Ending) -> Throw {
    Box::new(EvalAltResult::ErrorTerminated(Dynamic::from(ending), Position::NONE))
}
