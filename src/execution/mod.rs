//! A worker's means of running handlers: its stacks, its copies of scripts, its way to documents. Routes, webhooks that answer by script and
//! attempts of the inbox all run through `Executor::execute`, which performs what the script asks and gives back what it wants committed.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::config::Scripts;
use crate::generation::Generation;
use crate::script::Shared;
use crate::script::compiled::Compiled;
use crate::script::coroutine::Stacks;
use crate::script::handler::Script;
use crate::script::host_call::Given;
use crate::script::run::{End, Failure, Input, Limits, Task, run};
use crate::store::{Effects, Reader, Store, StoreError};

mod perform;

/// Runs at once on one worker; further ones are refused, and jobs wait.
const RUNS_MAX: usize = 16_000;
/// A script that runs away so often is stopped until it is saved again.
const RUNAWAYS_MAX: u32 = 2;

/// One worker's.
pub(crate) struct Executor {
    shared: Rc<Shared>,
    stacks: Rc<Stacks>,
    /// For whoever commits what a run wants.
    pub(crate) store: Arc<dyn Store>,
    reader: Rc<dyn Reader>,
    /// By the address of the script, which the copy keeps alive.
    compiled: RefCell<HashMap<*const Script, Rc<Copy>>>,
    memory_budget: u64,
}

/// A worker's copy of a script, and what it did.
struct Copy {
    compiled: Rc<Compiled>,
    runaways: Cell<u32>,
}

/// What is to run.
pub(crate) struct Run<'a> {
    /// The one that the run sees from start to end.
    pub(crate) generation: &'a Generation,
    /// One of its scripts.
    pub(crate) script: &'a Arc<Script>,
    /// Index in the script's `handlers`.
    pub(crate) handler: usize,
    /// What the handler is called with.
    pub(crate) input: Input,
    /// What the run knows without asking.
    pub(crate) given: Given,
    /// Where neither the handler nor the webhook says: the one of config.
    pub(crate) timeout: Option<std::time::Duration>,
}

/// How it ended, and what it wants committed; nothing where it failed.
pub(crate) struct Executed {
    /// The answer or the failure.
    pub(crate) end: End,
    /// Writes and the versions that they rely on.
    pub(crate) effects: Effects,
}

impl Executor {
    /// For a worker's own thread.
    pub(crate) fn new(store: &Arc<dyn Store>, scripts: &Scripts) -> Result<Rc<Self>, StoreError> {
        Ok(Rc::new(Self {
            shared: Shared::new(),
            stacks: Stacks::new(scripts.memory_budget, RUNS_MAX),
            store: Arc::clone(store),
            reader: Rc::from(store.reader()?),
            compiled: RefCell::default(),
            memory_budget: scripts.memory_budget,
        }))
    }

    /// Runs a handler to its end. Dropping the future cancels it.
    pub(crate) async fn execute(&self, run_of: Run<'_>) -> Executed {
        let Run { generation, script, handler, input, given, timeout } = run_of;
        let copy = match self.copy(script) {
            Some(copy) if copy.runaways.get() < RUNAWAYS_MAX => copy,
            Some(_) => return failed(Failure::Runaway),
            None => return failed(Failure::Panicked),
        };
        let scripts = &generation.config.scripts;
        let limits = Limits {
            cpu: scripts.cpu_budget,
            memory: scripts.memory_budget,
            timeout: timeout.unwrap_or(scripts.timeout),
        };
        let mut live =
            perform::Live::new(Rc::clone(&self.reader), generation.config.storage.retention);
        let task = Task {
            compiled: Rc::clone(&copy.compiled),
            handler,
            input,
            given: Rc::new(given),
            limits,
        };
        let end = run(&self.stacks, task, &mut live).await;
        if matches!(end.result, Err(Failure::Runaway)) {
            copy.runaways.set(copy.runaways.get() + 1);
            tracing::error!(script = %script.name, "a run of `{}` allocated without bound and was stopped for good; its memory is lost", script.name);
        }
        if end.leaked > LEAK_WORTH_SAYING {
            tracing::warn!(script = %script.name, bytes = end.leaked, "a run of `{}` left {} bytes behind, probably closures that hold each other", script.name, end.leaked);
        }
        let effects = if end.result.is_ok() { live.into_effects() } else { Effects::default() };
        Executed { end, effects }
    }

    /// Makes this worker's copy of every script of a generation, and drops those that it no longer has.
    pub(crate) async fn prepare(&self, generation: &Generation) {
        for script in &generation.scripts {
            if self.copy(script).is_none() {
                tracing::error!(script = %script.name, "`{}` passed the loader but does not load on a worker", script.path);
            }
            tokio::task::yield_now().await;
        }
        self.compiled.borrow_mut().retain(|_, copy| {
            generation.scripts.iter().any(|script| Arc::ptr_eq(script, &copy.compiled.script))
        });
    }

    fn copy(&self, script: &Arc<Script>) -> Option<Rc<Copy>> {
        let at = Arc::as_ptr(script);
        if let Some(copy) = self.compiled.borrow().get(&at) {
            return Some(Rc::clone(copy));
        }
        let compiled = Compiled::new(&self.shared, script, self.memory_budget).ok()?;
        let copy = Rc::new(Copy { compiled, runaways: Cell::new(0) });
        self.compiled.borrow_mut().insert(at, Rc::clone(&copy));
        Some(copy)
    }
}

/// Less is noise of shared parts that grow with use.
const LEAK_WORTH_SAYING: u64 = 64 << 10;

fn failed(failure: Failure) -> Executed {
    let end = End { result: Err(failure), leaked: 0 };
    Executed { end, effects: Effects::default() }
}
