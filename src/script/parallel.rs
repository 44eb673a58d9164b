//! The closures of one call of `parallel`, and how they are worked through: by branches, each a coroutine that takes the next closure whenever it
//! has ended one, or where `parallel` was called, when there is no place for a branch.
//!
//! Promises: every closure works on copies, so no two meet on a value; all run to their end, whichever throws; results stand in the order of the
//! list. The table belongs to the native function that made it, so that whatever is left is dropped on the stack of the run.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use rhai::{
    Array, Dynamic, Engine, EvalAltResult, FnPtr, GlobalRuntimeState, NativeCallContext, Position,
};

use super::Ending;
use super::builtins::ending::{refused, reserve};
use super::compiled::Compiled;
use super::current::{self, Throw};
use super::host_call::{Given, HostReply};
use super::value::unshare;

/// Closures that are to run side by side, as the driver of a run sees them. It owns none of them.
#[derive(Clone, Debug)]
pub(crate) struct Branches {
    table: Weak<Table>,
    /// So many at once.
    pub(super) limit: usize,
}

impl Branches {
    /// Whether a further branch would find something to do. `unstarted`: branches that have taken nothing yet, and each will.
    pub(super) fn has_more(&self, unstarted: usize) -> bool {
        let left = |table: Rc<Table>| table.count - table.next.get();
        self.table.upgrade().map_or(0, left) > unstarted
    }

    /// What a branch does, inside its coroutine. An error is the end of the whole run; what closures throw stays in the table.
    pub(super) fn work(&self, compiled: &Compiled) -> Result<(), Throw> {
        match self.table.upgrade() {
            Some(table) => table.work(compiled.engine()),
            None => Ok(()),
        }
    }
}

/// What one call of `parallel` has to do, and what came of it.
struct Table {
    /// Called with each item; `None`: the items are what is called.
    each: Option<FnPtr>,
    /// Each is taken out when its turn comes.
    items: RefCell<Array>,
    next: Cell<usize>,
    count: usize,
    /// As long as the items from the start, so that nothing is allocated while it is borrowed.
    results: RefCell<Array>,
    /// The first in the order of the list that has thrown, and what.
    thrown: Cell<Option<(usize, Throw)>>,
    /// What the caller goes by, and the number of this call in it.
    given: Rc<Given>,
    parallel: u64,
    /// Where it was called: there closures find the functions and imports that their author sees.
    state: GlobalRuntimeState,
    position: Position,
}

/// Runs all of them, at most `limit` at once, and gives what they gave.
pub(super) fn run(
    context: &NativeCallContext<'_>,
    each: Option<FnPtr>,
    items: Array,
    limit: usize,
) -> Result<Array, Throw> {
    let given = current::given("parallel")?;
    let count = items.len();
    reserve(count.saturating_mul(size_of::<Dynamic>()))?;
    let table = Rc::new(Table {
        each,
        items: RefCell::new(items),
        next: Cell::new(0),
        count,
        results: RefCell::new(vec![Dynamic::UNIT; count]),
        thrown: Cell::new(None),
        parallel: given.next_parallel(),
        given,
        state: context.global_runtime_state().clone(),
        position: context.call_position(),
    });
    if count.min(limit) <= 1 {
        table.work(context.engine())?;
    }
    while table.has_more() {
        match current::branch_out(Branches { table: Rc::downgrade(&table), limit })? {
            HostReply::RunHere => table.one(context.engine())?,
            _done => break,
        }
    }
    match table.thrown.take() {
        Some((_, error)) => Err(error),
        None => Ok(table.results.take()),
    }
}

impl Table {
    fn has_more(&self) -> bool {
        self.next.get() < self.count
    }

    /// One after the other until none is left.
    fn work(&self, engine: &Engine) -> Result<(), Throw> {
        while self.has_more() {
            self.one(engine)?;
        }
        Ok(())
    }

    /// The next of them.
    fn one(&self, engine: &Engine) -> Result<(), Throw> {
        let index = self.next.replace(self.next.get() + 1);
        // Where closures do nothing, this is the only hook. It may give the thread to another branch, so the closure is taken before.
        current::check()?;
        let goes_by = current::go_by(self.given.branch(self.parallel, index));
        let result = self.call(engine, index);
        drop(goes_by);
        match result {
            Ok(value) => self.results.borrow_mut()[index] = value,
            Err(error) if Ending::of(&error).is_some() => return Err(error),
            Err(error) => self.keep_first(index, error),
        }
        Ok(())
    }

    fn call(&self, engine: &Engine, index: usize) -> Result<Dynamic, Throw> {
        let item = unshare::copy(self.take(index))?;
        let context = NativeCallContext::new_with_all_fields(
            engine,
            "parallel",
            None,
            &self.state,
            self.position,
        );
        let (function, result) = match &self.each {
            Some(each) => {
                let function = unshare::copy_function(each.clone())?;
                let result = function.call_raw(&context, None, [item]);
                (function, result)
            }
            None => {
                let not_one = || refused("`parallel` takes a list of closures");
                let function = item.try_cast::<FnPtr>().ok_or_else(not_one)?;
                let result = function.call_raw(&context, None, []);
                (function, result)
            }
        };
        result.map_err(|error| match takes_other(&function, &error) {
            true => self.wrong_parameters(index),
            false => error,
        })
    }

    fn take(&self, index: usize) -> Dynamic {
        std::mem::take(&mut self.items.borrow_mut()[index])
    }

    fn wrong_parameters(&self, index: usize) -> Throw {
        match self.each {
            Some(_) => refused(
                "`parallel` calls its closure with one item of the list; this closure takes another number of parameters: write `|item| …`",
            ),
            None => refused(&format!(
                "`parallel` calls the closures of its list without arguments; the one at index {index} has parameters: write `|| …`"
            )),
        }
    }

    fn keep_first(&self, index: usize, error: Throw) {
        let first = match self.thrown.take() {
            Some(first) if first.0 < index => first,
            _ => (index, error),
        };
        self.thrown.set(Some(first));
    }
}

/// Whether there was no closure with so many parameters, rather than an error inside it.
pub(super) fn takes_other(function: &FnPtr, error: &EvalAltResult) -> bool {
    function.is_anonymous()
        && matches!(error, EvalAltResult::ErrorFunctionNotFound(signature, _)
            if signature.starts_with(function.fn_name()))
}
