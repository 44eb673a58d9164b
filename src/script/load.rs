//! Is a new version of a script fit to serve? On the loader thread, never on a worker: compile under a cap and a deadline, run the set-up
//! phase in a coroutine with budgets, list the handlers as plain data. What does not pass here is never compiled on a worker.

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

use rhai::{AST, Dynamic, FnPtr};

use super::compiled::{Prepared, SET_UP_BUDGET, SetUpError, prepare};
use super::coroutine::{self, Coroutine, Stacks, Step};
use super::current::{self, Phase};
use super::diagnose::{self, Circumstances, Exports, Names};
use super::handler::{Handler, Reads, Script, Sources, Trigger, Vars};
use super::host::Shared;
use super::host_call::HostReply;
use super::value::{self, Limits, Reason};
use super::{Ending, host, lint, refusal};
use crate::frame::Frame;
use crate::{clock, memory};

/// One file's source, at most; the worst of this size compiles in 1.4 s without a deadline.
pub(crate) const SOURCE_BYTES_MAX: usize = 64 << 10;

/// The loader's own engine parts and stack.
pub(crate) struct Loader {
    shared: Rc<Shared>,
    stacks: Rc<Stacks>,
    memory_budget: u64,
}

/// A file as the loader gets it.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    /// `clerk`.
    pub(crate) name: Arc<str>,
    /// `scripts/clerk.rhai`.
    pub(crate) path: Arc<str>,
    /// Its text.
    pub(crate) source: Arc<str>,
    /// Every module of the folder: a name may be computed.
    pub(crate) modules: Arc<Sources>,
    /// What `vars` is to give.
    pub(crate) vars: Arc<Vars>,
}

/// What became of it. `warnings` do not keep it from serving.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// Fit to serve, or why not.
    pub(crate) script: Result<Arc<Script>, Vec<Frame>>,
    /// What deserves a word all the same.
    pub(crate) warnings: Vec<Frame>,
}

/// The handlers of a script and what is said of it, or why it has none.
type Judged = Result<(Vec<Handler>, Vec<Frame>), Box<Frame>>;

impl Loader {
    /// For runs of `memory_budget` bytes.
    pub(crate) fn new(memory_budget: u64) -> Self {
        Self { shared: Shared::new(), stacks: Stacks::new(memory_budget, 1), memory_budget }
    }

    /// Judges one script.
    pub(crate) fn load(&self, candidate: &Candidate) -> Loaded {
        match self.set_up(candidate) {
            Ok((handlers, frames)) => {
                let (errors, warnings): (Vec<_>, Vec<_>) = frames
                    .into_iter()
                    .partition(|frame| frame.severity == crate::frame::Severity::Error);
                let script = if errors.is_empty() {
                    Ok(Arc::new(script(candidate, handlers)))
                } else {
                    Err(errors)
                };
                Loaded { script, warnings }
            }
            Err(frame) => Loaded { script: Err(vec![*frame]), warnings: Vec::new() },
        }
    }

    /// Runs `judge` in a coroutine under the set-up budgets. Everything that the script made is dropped in there.
    fn set_up(&self, candidate: &Candidate) -> Judged {
        let limit = |ending| Box::new(refusal::limit(candidate.site(), ending));
        let (shared, judged) = (Rc::clone(&self.shared), candidate.clone());
        let mut coroutine = Coroutine::new(&self.stacks, move || judge(&shared, &judged))
            .map_err(|_| limit(Ending::Stack))?;
        let mut balance = memory::Balance::default();
        let charged = memory::enter(&mut balance, self.memory_budget, coroutine::suspend_for_good);
        let running = current::enter(current::Slice {
            phase: Phase::SetUp,
            ending: None,
            ends: clock::instant() + SET_UP_BUDGET,
            held_elsewhere: 0,
            given: None,
        });
        let step = coroutine.resume(HostReply::Unit);
        drop((running, charged));
        match step {
            Step::Done(judged) => judged,
            Step::Runaway => Err(limit(Ending::Memory)),
            Step::Slice | Step::Call(_) => Err(limit(Ending::Cpu)),
            Step::Panicked => Err(Box::new(refusal::panicked(candidate.site()))),
        }
    }
}

/// Inside the coroutine: the set-up phase, and what is said of it.
fn judge(shared: &Shared, candidate: &Candidate) -> Judged {
    let Candidate { path, source, modules, vars, .. } = candidate;
    let names = names(shared, candidate);
    let prepared = prepare(shared, path, source, modules, vars, 1)
        .map_err(|error| Box::new(frame(candidate, &error, &names)))?;
    let mut frames = lint::check(path, source, &prepared.ast, &names);
    frames.extend(
        prepared.handlers.iter().filter_map(|(_, function)| {
            lint::shared_capture(path, source, &prepared.ast, function)
        }),
    );
    frames.extend(too_deep(candidate, &prepared.constants));
    frames.extend(repeated(candidate, &prepared.handlers));
    frames.extend(parameters(candidate, &prepared));
    Ok((prepared.handlers.into_iter().map(|(handler, _)| handler).collect(), frames))
}

fn frame(candidate: &Candidate, error: &SetUpError, names: &Names) -> Frame {
    match error {
        SetUpError::Compile(error) => {
            diagnose::compile_error(&candidate.path, &candidate.source, error, names)
        }
        SetUpError::Run(error) => match Ending::of(error) {
            Some(ending) => refusal::limit(candidate.site(), ending),
            None => diagnose::run_error(
                &|path| file_of(&candidate.path, &candidate.source, &candidate.modules, path),
                error,
                names,
                &Circumstances { missing: current::take_missing(), ..Circumstances::default() },
            ),
        },
    }
}

/// What a script may name, for suggestions and for finding what does not exist.
fn names(shared: &Shared, candidate: &Candidate) -> Names {
    let engine = host::engine(shared, &candidate.modules, &candidate.vars, host::COMPILE_DEADLINE);
    let mut names = Names::of(&engine, &host::known_names());
    for (path, source) in &*candidate.modules {
        // One that does not compile is told of by whoever imports it.
        if let Ok(ast) = host::compile(&engine, path, source) {
            names.imports.insert(path.trim_end_matches(".rhai").into(), Exports::of(&ast));
        }
    }
    names
}

/// The file that one of Rhai's sources is, with its text; `None` asks for the script itself.
pub(crate) fn file_of(
    script: &Arc<str>,
    source: &Arc<str>,
    modules: &Sources,
    path: Option<&str>,
) -> Option<(String, Arc<str>)> {
    match path {
        None => Some((script.to_string(), Arc::clone(source))),
        Some(path) if *path == **script => Some((path.to_owned(), Arc::clone(source))),
        Some(path) => modules.get(path).map(|text| (path.to_owned(), Arc::clone(text))),
    }
}

impl Candidate {
    fn site(&self) -> diagnose::Site<'_> {
        refusal::site(&self.path, &self.source)
    }
}

/// Constants nested deeper than any JSON: each worker would have to copy and drop them.
fn too_deep(candidate: &Candidate, constants: &[(String, Dynamic)]) -> Vec<Frame> {
    let deep = constants.iter().filter(|(_, constant)| is_too_deep(constant));
    deep.map(|(name, _)| refusal::deep_constant(candidate.site(), name)).collect()
}

fn is_too_deep(constant: &Dynamic) -> bool {
    value::to_json(constant, Limits::NONE)
        .is_err_and(|error| matches!(error.reason, Reason::TooDeep(_)))
}

/// The same pattern twice for one webhook, or one route twice.
fn repeated(candidate: &Candidate, handlers: &[(Handler, FnPtr)]) -> Vec<Frame> {
    let mut seen = HashSet::new();
    let mut frames = Vec::new();
    for (handler, _) in handlers {
        let subjects: Vec<String> = match &handler.trigger {
            Trigger::Webhook { webhook, patterns } => patterns
                .iter()
                .map(|pattern| format!("webhook(\"{webhook}\", \"{pattern}\", …)"))
                .collect(),
            Trigger::Route { method, path } => {
                vec![format!("{}(\"{path}\", …)", method.function())]
            }
        };
        for subject in subjects {
            if !seen.insert(subject.clone()) {
                frames.push(refusal::registered_twice(candidate.site(), handler, &subject));
            }
        }
    }
    frames
}

/// A handler takes the one thing it is called with.
fn parameters(candidate: &Candidate, prepared: &Prepared) -> Vec<Frame> {
    let wrong = |(_, function): &&(Handler, FnPtr)| {
        parameter_count(&prepared.ast, function).is_some_and(|count| count != 1)
    };
    let frame = |(handler, function): &(Handler, FnPtr)| {
        let takes = parameter_count(&prepared.ast, function).unwrap_or(0);
        let given = if matches!(handler.trigger, Trigger::Route { .. }) { "req" } else { "event" };
        refusal::wrong_parameters(candidate.site(), handler, takes, given)
    };
    prepared.handlers.iter().filter(wrong).map(frame).collect()
}

fn parameter_count(ast: &AST, function: &FnPtr) -> Option<usize> {
    let defined = ast.iter_functions().find(|defined| defined.name == function.fn_name())?;
    defined.params.len().checked_sub(function.curry().len())
}

fn script(candidate: &Candidate, handlers: Vec<Handler>) -> Script {
    let names = |word: &str| {
        candidate.source.contains(word)
            || candidate.modules.values().any(|source| source.contains(word))
    };
    Script {
        name: Arc::clone(&candidate.name),
        path: Arc::clone(&candidate.path),
        source: Arc::clone(&candidate.source),
        modules: Arc::clone(&candidate.modules),
        vars: Arc::clone(&candidate.vars),
        handlers,
        reads: Reads { payload: names("payload"), headers: names("headers"), text: names("text") },
    }
}
