//! A worker's means of running handlers: its stacks, its copies of scripts, its way to documents. Routes, webhooks that answer by script and
//! attempts of the inbox all run through `Executor::execute`, which performs what the script asks and gives back what it wants committed.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::config::{Environment, Scripts};
use crate::generation::Generation;
use crate::provider::{Caller, Circumstances};
use crate::script::compiled::{Compiled, SetUpError};
use crate::script::coroutine::Stacks;
use crate::script::handler::Script;
use crate::script::host_call::Given;
use crate::script::places::Place;
use crate::script::run::{End, Failure, Input, Limits, Stopped, Task, run};
use crate::script::{Ending, Shared};
use crate::store::{AttemptLog, Effects, Reader, Store, StoreError};

mod opening;
mod calls;
pub(crate) mod journal;
mod perform;
mod streams;
pub(crate) mod pipe;

use self::journal::Journal;
pub(crate) use self::opening::{Begun, Opening};
pub(crate) use crate::provider::Pieces;

/// A stream that writes nothing for so long has hung; clients and proxies give up about then.
const STREAM_IDLE: Duration = Duration::from_secs(60);
/// A script that runs away so often is stopped until it is saved again.
const RUNAWAYS_MAX: u32 = 2;
/// And one whose runs have left so much behind: twice what a run may hold at once, as shipped. Nothing but a restart gives it back.
const LEAKED_BYTES_MAX: u64 = 64 << 20;

/// One worker's.
pub(crate) struct Executor {
    shared: Rc<Shared>,
    stacks: Rc<Stacks>,
    /// For whoever commits what a run wants.
    pub(crate) store: Arc<dyn Store>,
    /// For whoever looks before it runs.
    pub(crate) reader: Rc<dyn Reader>,
    /// By the address of the script, which the copy keeps alive.
    compiled: RefCell<HashMap<*const Script, Rc<Compiled>>>,
    memory_budget: u64,
    /// Its way to providers.
    caller: Rc<Caller>,
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
    /// Where it runs; without one, where there is a place now.
    pub(crate) place: Option<Place>,
    /// What the run knows without asking.
    pub(crate) given: Given,
    /// Set before its first call that may have an effect outside.
    pub(crate) has_acted: Rc<Cell<bool>>,
    /// What it asks of providers; its reruns have the same.
    pub(crate) journal: Rc<Journal>,
    /// Where neither the handler nor the webhook says: the one of config.
    pub(crate) timeout: Option<Duration>,
    /// Where its result may be a stream.
    pub(crate) opening: Option<Rc<Opening>>,
}

/// How it ended, and what it wants committed; nothing where it failed.
pub(crate) struct Executed {
    /// The answer or the failure.
    pub(crate) end: End,
    /// Writes and the versions that they rely on.
    pub(crate) effects: Effects,
    /// What it logged, also where it failed; of an event's run only.
    pub(crate) log: AttemptLog,
}

impl Executor {
    /// For a worker's own thread.
    pub(crate) fn new(store: &Arc<dyn Store>, scripts: &Scripts) -> Result<Rc<Self>, StoreError> {
        Ok(Rc::new(Self {
            shared: Shared::new(),
            stacks: Stacks::new(scripts.memory_budget, scripts.max_runs),
            store: Arc::clone(store),
            reader: Rc::from(store.reader()?),
            compiled: RefCell::default(),
            memory_budget: scripts.memory_budget,
            caller: Caller::new(),
        }))
    }

    /// A place for a run, in the order of asking; for what can wait.
    pub(crate) async fn place(&self) -> Place {
        self.stacks.enter().await
    }

    /// Runs a handler to its end. Dropping the future cancels it.
    pub(crate) async fn execute(&self, run_of: Run<'_>) -> Executed {
        let Run {
            generation,
            script,
            handler,
            input,
            place,
            given,
            has_acted,
            journal,
            timeout,
            opening,
        } = run_of;
        if let Some(stopped) = is_stopped(script) {
            return failed(Failure::Stopped(stopped));
        }
        let compiled = match self.copy(script) {
            Ok(compiled) => compiled,
            Err(SetUpError::NoStack) => return failed(Failure::NoStack),
            Err(SetUpError::Compile(_) | SetUpError::Run(_) | SetUpError::Cut) => {
                return failed(Failure::Panicked);
            }
        };
        let scripts = &generation.config.scripts;
        let limits = Limits {
            cpu: scripts.cpu_budget,
            memory: scripts.memory_budget,
            timeout: timeout.unwrap_or(scripts.timeout),
            idle: STREAM_IDLE,
        };
        let is_attempt = matches!(input, Input::Event(_));
        let given = Rc::new(if is_attempt { given.keeping_log() } else { given });
        let retention = generation.config.storage.retention;
        let calling = perform::Calling {
            caller: Rc::clone(&self.caller),
            providers: Arc::clone(&generation.providers),
            has_acted,
            circumstances: Circumstances {
                deadline: given.started + limits.timeout,
                may_park: is_attempt,
                only_public: generation.config.server.environment == Environment::Production,
            },
        };
        let live = perform::Live::new(
            Rc::clone(&self.reader),
            retention,
            Rc::clone(&given),
            is_attempt,
            opening,
            calling,
            journal,
        );
        let task = Task { compiled, handler, input, given: Rc::clone(&given), limits };
        let mut end = run(&self.stacks, place, task, &live).await;
        if matches!(end.result, Err(Failure::Ended { ending: Ending::ByHandler, .. }))
            && let Some(ended) = live.ended()
        {
            end.result = Err(Failure::ByHandler(ended));
        }
        if matches!(end.result, Err(Failure::Ended { ending: Ending::ByCall, .. }))
            && let Some(over) = live.over()
        {
            end.result = Err(Failure::ByCall(over));
        }
        if matches!(end.result, Err(Failure::Runaway)) {
            script.runaways.fetch_add(1, Ordering::Relaxed);
            tracing::error!(script = %script.name, "a run of `{}` allocated without bound and was stopped for good; its memory is lost", script.name);
        }
        if !matches!(end.result, Err(Failure::Runaway)) {
            say_leaked(script, end.leaked);
        }
        let effects = if end.result.is_ok() { live.into_effects() } else { Effects::default() };
        Executed { end, effects, log: given.take_log() }
    }

    /// Makes this worker's copy of every script of a generation, and drops those that it no longer has.
    pub(crate) async fn prepare(&self, generation: &Generation) {
        for script in &generation.scripts {
            if let Err(error) = self.copy(script) {
                tracing::error!(script = %script.name, "`{}` passed the loader but does not load on a worker: {error}", script.path);
            }
            tokio::task::yield_now().await;
        }
        self.caller.keep(&generation.providers);
        self.compiled.borrow_mut().retain(|_, compiled| {
            generation.scripts.iter().any(|script| Arc::ptr_eq(script, &compiled.script))
        });
    }

    /// Gives back what a burst of runs needed and nobody needs now.
    pub(crate) fn trim(&self) {
        self.stacks.trim();
    }

    fn copy(&self, script: &Arc<Script>) -> Result<Rc<Compiled>, SetUpError> {
        let at = Arc::as_ptr(script);
        if let Some(compiled) = self.compiled.borrow().get(&at) {
            return Ok(Rc::clone(compiled));
        }
        let compiled = Compiled::new(&self.shared, &self.stacks, script, self.memory_budget)?;
        self.compiled.borrow_mut().insert(at, Rc::clone(&compiled));
        Ok(compiled)
    }
}

/// One closure that holds itself leaves some 600 bytes; a few a run are worth nobody's attention.
const LEAK_WORTH_SAYING: u64 = 16 << 10;

/// Whether its runs have done so much harm that it may run no more.
fn is_stopped(script: &Script) -> Option<Stopped> {
    if script.runaways.load(Ordering::Relaxed) >= RUNAWAYS_MAX {
        return Some(Stopped::RanAway);
    }
    (script.leaked.load(Ordering::Relaxed) > LEAKED_BYTES_MAX).then_some(Stopped::Leaked)
}

/// The run has been counted: the one that passes the limit stops the script.
fn say_leaked(script: &Script, bytes: u64) {
    if bytes > LEAK_WORTH_SAYING {
        tracing::warn!(script = %script.name, bytes, "a run of `{}` left {bytes} bytes behind, probably closures that hold each other", script.name);
    }
    let total = script.leaked.load(Ordering::Relaxed);
    if total > LEAKED_BYTES_MAX && total.saturating_sub(bytes) <= LEAKED_BYTES_MAX {
        tracing::error!(script = %script.name, bytes = total, "`{}` is stopped until it is saved again: its runs have left {total} bytes behind, closures that hold each other (`x.f = || x`); they come back with a restart", script.name);
    }
}

fn failed(failure: Failure) -> Executed {
    let end = End { result: Err(failure), leaked: 0 };
    Executed { end, effects: Effects::default(), log: AttemptLog::default() }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rhai::{Dynamic, FnPtr};

    use super::*;
    use crate::config::{self, How, Variables};
    use crate::script::load::{Candidate, Loader};
    use crate::store::memory::MemoryStore;

    /// A native function of the kind that nobody has thought of.
    #[expect(
        deprecated,
        reason = "rhai marks what may change with its next version as deprecated; tests need it to plant natives"
    )]
    fn allocates_without_end() -> Dynamic {
        let native = FnPtr::from_fn("native", |_context, _arguments| {
            let mut held = Vec::new();
            loop {
                held.push(vec![0_u8; 1 << 20]);
            }
        });
        native.unwrap().into()
    }

    fn nothing() -> Dynamic {
        Dynamic::UNIT
    }

    fn generation(sources: &[(&str, &str)]) -> Generation {
        let how = How { development: true, known_schemes: &[] };
        let config =
            config::load_text(Path::new("config.toml"), "", &Variables::of(&[]), how).unwrap();
        let load = |(name, source): &(&str, &str)| {
            let candidate = Candidate {
                name: (*name).into(),
                path: format!("scripts/{name}.rhai").into(),
                source: (*source).into(),
                modules: Arc::default(),
                ambient: Arc::default(),
            };
            Loader::new(config.scripts.memory_budget).load(&candidate).script.unwrap()
        };
        let scripts = sources.iter().map(load).collect();
        Generation::join(1, Arc::new(config), Default::default(), scripts, Vec::new()).unwrap()
    }

    async fn run_of(
        executor: &Executor,
        generation: &Generation,
        script: &str,
        handler: usize,
        make: fn() -> Dynamic,
    ) -> Result<String, String> {
        let script = generation.script(script).unwrap();
        let given = Given::new(1, "req_1".to_owned(), &script.name);
        let input = Input::Made(make);
        let journal = Journal::of_request("req_1");
        let run = Run {
            generation,
            script,
            handler,
            input,
            place: None,
            given,
            has_acted: Rc::default(),
            journal,
            timeout: None,
            opening: None,
        };
        let Executed { end, .. } = executor.execute(run).await;
        let answer = end.result.map_err(|failure| format!("{failure:?}"))?;
        Ok(String::from_utf8_lossy(answer.body.in_memory().unwrap()).into_owned())
    }

    #[tokio::test(flavor = "current_thread")]
    async fn s21_a_script_that_runs_away_twice_is_stopped_until_it_is_saved_and_no_other_is() {
        let source = "get(\"/\", |v| { v.call() }); get(\"/42\", |v| 40 + 2);";
        let other = "get(\"/other\", |v| 40 + 2);";
        let saved = generation(&[("bad", source), ("good", other)]);
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(10));
        let executor = Executor::new(&store, &saved.config.scripts).unwrap();
        for _time in 0..2 {
            assert_eq!(run_of(&executor, &saved, "bad", 1, nothing).await.as_deref(), Ok("42"));
            let ended = run_of(&executor, &saved, "bad", 0, allocates_without_end).await;
            assert_eq!(ended.unwrap_err(), "Runaway");
        }
        let stopped = run_of(&executor, &saved, "bad", 1, nothing).await;
        assert_eq!(stopped.unwrap_err(), "Stopped(RanAway)");
        assert_eq!(run_of(&executor, &saved, "good", 0, nothing).await.as_deref(), Ok("42"));

        let again = generation(&[("bad", source), ("good", other)]);
        assert_eq!(run_of(&executor, &again, "bad", 1, nothing).await.as_deref(), Ok("42"));
    }
}
