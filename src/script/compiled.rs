//! A worker's own copy of a script: its engine and its functions, which never leave the worker. Made from a `Script` that passed the loader,
//! between requests (80 µs for 25 lines). `prepare` is the set-up phase itself, which the loader runs first, with its own limits.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rhai::{AST, Dynamic, Engine, EvalAltResult, FnPtr, Module, ParseError, Scope};

use super::api::register;
use super::coroutine::{self, Coroutine, Stacks, Step};
use super::current::{self, Phase};
use super::diagnose::Names;
use super::handler::{Ambient, Handler, Script, Sources};
use super::host::{self, Shared};
use super::host_call::HostReply;
use crate::{clock, memory};

/// How long the top level of a script may run.
pub(crate) const SET_UP_BUDGET: Duration =
    Duration::from_millis(if cfg!(debug_assertions) { 500 } else { 50 });
/// Workers repeat what the loader did within its limits; a busy machine must not make them fail.
const PATIENCE: u32 = 20;

/// A script that can run on this worker.
pub(crate) struct Compiled {
    /// What it was made from.
    pub(crate) script: Arc<Script>,
    engine: Engine,
    functions: Vec<FnPtr>,
    /// Handlers are called with an empty AST: their functions and imports stand in a module of the engine.
    nothing: AST,
}

impl Compiled {
    /// Repeats the set-up phase that the loader has checked, as the loader ran it: in a coroutine.
    pub(crate) fn new(
        shared: &Rc<Shared>,
        stacks: &Rc<Stacks>,
        script: &Arc<Script>,
        memory_budget: u64,
    ) -> Result<Rc<Self>, SetUpError> {
        let body = {
            let (shared, script) = (Rc::clone(shared), Arc::clone(script));
            move || {
                prepare(
                    &shared,
                    &script.path,
                    &script.source,
                    &script.modules,
                    &script.ambient,
                    PATIENCE,
                )
                .map(|prepared| (prepared.engine, prepared.handlers))
            }
        };
        let mut coroutine = Coroutine::aside(stacks, body).map_err(|_| SetUpError::NoStack)?;
        let mut balance = memory::Balance::default();
        let charged = memory::enter(&mut balance, memory_budget, coroutine::suspend_for_good);
        let running = current::enter(current::Slice {
            phase: Phase::SetUp,
            ending: None,
            ends: clock::instant() + SET_UP_BUDGET * PATIENCE,
            held_elsewhere: 0,
            given: None,
        });
        let step = coroutine.resume(HostReply::Unit);
        drop((running, charged));
        let (engine, handlers) = match step {
            Step::Done(prepared) => prepared?,
            Step::Slice | Step::Call(_) | Step::Branches(_) | Step::Runaway | Step::Panicked => {
                return Err(SetUpError::Cut);
            }
        };
        let functions =
            handlers.into_iter().map(|(_, function)| with_own_constants(function)).collect();
        Ok(Rc::new(Self { script: Arc::clone(script), engine, functions, nothing: AST::empty() }))
    }

    /// Calls a handler, inside its coroutine.
    pub(crate) fn call(
        &self,
        handler: usize,
        input: Dynamic,
        second: Option<Dynamic>,
    ) -> Result<Dynamic, Box<EvalAltResult>> {
        match (self.functions.get(handler), second) {
            (Some(function), None) => {
                function.call::<Dynamic>(&self.engine, &self.nothing, (input,))
            }
            (Some(function), Some(second)) => {
                function.call::<Dynamic>(&self.engine, &self.nothing, (input, second))
            }
            (None, _) => Err(current::fail("this handler is gone")),
        }
    }

    /// The script's own engine, for what calls its closures.
    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What the script could have named, for the hint in an error.
    pub(crate) fn names(&self) -> Names {
        Names::of(&self.engine, &host::known_names(&self.script.ambient))
    }
}

/// What a handler captured is a constant (the loader refuses variables); unshared, two runs at once cannot meet on it.
fn with_own_constants(mut function: FnPtr) -> FnPtr {
    for captured in function.iter_curry_mut() {
        *captured = std::mem::take(captured).flatten();
    }
    function
}

/// What the set-up phase gives.
pub(crate) struct Prepared {
    /// The script's own: its functions and imports stand in it.
    pub(crate) engine: Engine,
    /// What it registered, with the functions, in that order.
    pub(crate) handlers: Vec<(Handler, FnPtr)>,
    /// For the loader to judge; calls do without.
    pub(crate) ast: AST,
}

/// Why the set-up phase did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetUpError {
    /// The source does not parse.
    #[error(transparent)]
    Compile(#[from] ParseError),
    /// The top level failed or was ended.
    #[error(transparent)]
    Run(#[from] Box<EvalAltResult>),
    /// There is no stack for it now.
    #[error("no stack could be had")]
    NoStack,
    /// It was stopped from outside.
    #[error("it did not come to its end")]
    Cut,
}

/// Compiles, runs the top level once, and keeps what it registered.
pub(crate) fn prepare(
    shared: &Shared,
    path: &str,
    source: &str,
    modules: &Arc<Sources>,
    ambient: &Arc<Ambient>,
    patience: u32,
) -> Result<Prepared, SetUpError> {
    let mut engine = host::engine(shared, modules, ambient, host::COMPILE_DEADLINE * patience);
    let ast = host::compile(&engine, ambient, path, source, host::COMPILE_DEADLINE * patience)?;
    drop(register::take());
    let module = Module::eval_ast_as_new(Scope::new(), &ast, &engine);
    let handlers = register::take();
    engine.register_global_module(module?.into());
    Ok(Prepared { engine, handlers, ast })
}
