//! Is a new version of a script fit to serve? On the loader thread, never on a worker: compile under a cap and a deadline, run the set-up
//! phase in a coroutine with budgets, list the handlers as plain data. What does not pass here is never compiled on a worker.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};

use rhai::{AST, ASTNode, Array, Dynamic, Expr, FnPtr, Map, ParseError, Scope, Stmt};

use super::api::register;
use super::compiled::{Prepared, SET_UP_BUDGET, SetUpError, prepare};
use super::coroutine::{self, Coroutine, Stacks, Step};
use super::current::{self, Phase};
use super::diagnose::{self, Circumstances, Exports, Names};
use super::handler::{self, Ambient, Handler, Reads, Script, Sources, Trigger};
use super::host::Shared;
use super::host_call::HostReply;
use super::imports::Imports;
use super::value::LEVELS_MAX;
use super::{Ending, host, lint, parts, refusal};
use crate::frame::Frame;
use crate::{clock, memory};

/// Values in a constant, at most; it bounds the look at them where closures share what they hold.
const VALUES_MAX: usize = 1_000_000;

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
    /// What config gives to it.
    pub(crate) ambient: Arc<Ambient>,
}

/// What became of it. `warnings` do not keep it from serving.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// Fit to serve, or why not.
    pub(crate) script: Result<Arc<Script>, Vec<Frame>>,
    /// What deserves a word all the same.
    pub(crate) warnings: Vec<Frame>,
}

impl Loader {
    /// For runs of `memory_budget` bytes.
    pub(crate) fn new(memory_budget: u64) -> Self {
        Self { shared: Shared::new(), stacks: Stacks::new(memory_budget, 1), memory_budget }
    }

    /// Judges one script.
    pub(crate) fn load(&self, candidate: &Candidate) -> Loaded {
        match self.set_up(candidate) {
            Ok(Judged { handlers, broken, frames, imports, queries, emits }) => {
                let (errors, warnings): (Vec<_>, Vec<_>) = frames
                    .into_iter()
                    .partition(|frame| frame.severity == crate::frame::Severity::Error);
                let script = if errors.is_empty() {
                    let script = script(candidate, handlers, &broken, imports);
                    Ok(Arc::new(Script { queries, emits, ..script }))
                } else {
                    Err(errors)
                };
                Loaded { script, warnings }
            }
            Err(frame) => Loaded { script: Err(vec![*frame]), warnings: Vec::new() },
        }
    }

    /// Runs `judge` in a coroutine under the set-up budgets. Everything that the script made is dropped in there.
    fn set_up(&self, candidate: &Candidate) -> Result<Judged, Box<Frame>> {
        let limit = |ending| Box::new(refusal::limit(candidate.site(), ending));
        let (shared, judged) = (Rc::clone(&self.shared), candidate.clone());
        let mut coroutine = Coroutine::aside(&self.stacks, move || judge(&shared, &judged))
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
        // Sticky: also where the script came to its end by swallowing it.
        let ended = running.ending();
        drop((running, charged));
        match step {
            Step::Done(Ok(_)) if let Some(ending) = ended => Err(limit(ending)),
            Step::Done(judged) => judged,
            Step::Runaway => Err(limit(Ending::Memory)),
            Step::Slice | Step::Call(_) | Step::Branches(_) => Err(limit(Ending::Cpu)),
            Step::Panicked => Err(Box::new(refusal::panicked(candidate.site()))),
        }
    }
}

/// Inside the coroutine: the set-up phase, and what is said of it.
fn judge(shared: &Shared, candidate: &Candidate) -> Result<Judged, Box<Frame>> {
    let Candidate { path, source, modules, ambient, .. } = candidate;
    let Modules { names, broken, mut emits } = modules_of(shared, candidate);
    let prepared = prepare(shared, path, source, modules, ambient, 1)
        .map_err(|error| Box::new(frame(candidate, &error, &names)))?;
    let mut frames = lint::check(path, source, &prepared.ast, &names);
    let queries = lint::queries(path, source, &prepared.ast);
    emits.add(path, source, &prepared.ast);
    frames.extend(
        prepared.handlers.iter().filter_map(|(_, function)| {
            lint::shared_capture(path, source, &prepared.ast, function)
        }),
    );
    frames.extend(broken_imports(candidate, &prepared.ast, &broken, &names));
    frames.extend(too_deep(candidate, &prepared));
    frames.extend(repeated(candidate, &prepared.handlers));
    frames.extend(parameters(candidate, &prepared));
    let compile = |path: &str, source: &str| {
        host::compile(&prepared.engine, ambient, path, source, host::COMPILE_DEADLINE).ok()
    };
    let imports = Imports::of(&prepared.ast, modules, compile);
    let with_parts = |(handler, function): (Handler, FnPtr)| Handler {
        parts: parts::of(&prepared.ast, &function).map(Arc::new),
        ..handler
    };
    let handlers = prepared.handlers.into_iter().map(with_parts).collect();
    let broken = broken.into_keys().collect();
    Ok(Judged { handlers, broken, frames, imports, queries, emits })
}

/// What the loader keeps of a script that came through its set-up phase.
struct Judged {
    handlers: Vec<Handler>,
    /// Modules that do not compile; no worker gets them.
    broken: Vec<Arc<str>>,
    frames: Vec<Frame>,
    imports: Imports,
    queries: Vec<lint::Query>,
    emits: lint::Emits,
}

fn frame(candidate: &Candidate, error: &SetUpError, names: &Names) -> Frame {
    match error {
        SetUpError::Compile(error) => {
            diagnose::compile_error(&candidate.path, &candidate.source, error, names)
        }
        SetUpError::NoStack | SetUpError::Cut => refusal::limit(candidate.site(), Ending::Stack),
        SetUpError::Run(error) => match Ending::of(error) {
            Some(ending) => refusal::limit(candidate.site(), ending),
            None => diagnose::run_error(
                &|path| file_of(&candidate.path, &candidate.source, &candidate.modules, path),
                error,
                names,
                &Circumstances::default(),
            ),
        },
    }
}

/// What the modules of the folder add to what is said of a script.
struct Modules {
    /// What it may name, for suggestions and for finding what does not exist.
    names: Names,
    /// Those that do not compile.
    broken: BTreeMap<Arc<str>, ParseError>,
    /// What the others emit.
    emits: lint::Emits,
}

fn modules_of(shared: &Shared, candidate: &Candidate) -> Modules {
    let engine =
        host::engine(shared, &candidate.modules, &candidate.ambient, host::COMPILE_DEADLINE);
    let mut names = Names::of(&engine, &host::known_names(&candidate.ambient));
    names.providers = Arc::clone(&candidate.ambient.providers);
    let (mut broken, mut emits) = (BTreeMap::new(), lint::Emits::default());
    for (path, source) in &*candidate.modules {
        match host::compile(&engine, &candidate.ambient, path, source, host::COMPILE_DEADLINE) {
            Ok(ast) => {
                emits.add(path, source, &ast);
                names.imports.insert(path.trim_end_matches(".rhai").into(), Exports::of(&ast));
            }
            Err(error) => _ = broken.insert(Arc::clone(path), error),
        }
    }
    Modules { names, broken, emits }
}

/// Imports inside functions, which the set-up phase does not come to, of modules that do not compile.
fn broken_imports(
    candidate: &Candidate,
    ast: &AST,
    broken: &BTreeMap<Arc<str>, ParseError>,
    names: &Names,
) -> Vec<Frame> {
    let mut imported = BTreeSet::new();
    if !broken.is_empty() {
        ast.walk(&mut |nodes| {
            if let Some(ASTNode::Stmt(Stmt::Import(import, _))) = nodes.last()
                && let Expr::StringConstant(path, _) = &import.0
            {
                imported.insert(format!("{path}.rhai"));
            }
            true
        });
    }
    let broken = broken.iter().filter(|(path, _)| imported.contains(&***path));
    broken
        .filter_map(|(path, error)| {
            let source = candidate.modules.get(path)?;
            Some(diagnose::compile_error(path, source, error, names))
        })
        .collect()
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

/// Constants, and values bound to handlers, that are nested deeper than any JSON: each worker would have to copy and drop them.
fn too_deep(candidate: &Candidate, prepared: &Prepared) -> Vec<Frame> {
    let constants = constants(prepared);
    let constants = constants.iter().filter(|(_, constant)| is_deep(constant, LEVELS_MAX));
    let mut frames: Vec<_> =
        constants.map(|(name, _)| refusal::deep_constant(candidate.site(), name)).collect();
    let bound = |(_, function): &&(Handler, FnPtr)| {
        function.iter_curry().any(|bound| is_deep(bound, LEVELS_MAX))
    };
    let handlers = prepared.handlers.iter().filter(bound);
    frames.extend(handlers.map(|(handler, _)| refusal::deep_capture(candidate.site(), handler)));
    frames
}

/// What the top level leaves as constants. Rhai keeps them where nobody can look, beside the functions, so it runs once more.
fn constants(prepared: &Prepared) -> Vec<(String, Dynamic)> {
    let mut scope = Scope::new();
    // It came through the first time; a budget that ends it now is seen by who runs this.
    _ = prepared.engine.run_ast_with_scope(&mut scope, &prepared.ast);
    drop(register::take());
    let constants = scope.iter().filter(|(_, is_constant, _)| *is_constant);
    constants.map(|(name, _, value)| (name.to_owned(), value)).collect()
}

/// Whether anything in it is nested deeper than so many levels, or is more than anybody writes into a script.
fn is_deep(value: &Dynamic, levels: usize) -> bool {
    is_deeper(value, levels, &mut VALUES_MAX.clone())
}

fn is_deeper(value: &Dynamic, levels: usize, left: &mut usize) -> bool {
    let mut deeper = |part: &Dynamic| {
        *left = left.saturating_sub(1);
        *left == 0 || levels == 0 || is_deeper(part, levels - 1, left)
    };
    if let Some(array) = value.read_lock::<Array>() {
        return levels == 0 || array.iter().any(deeper);
    }
    if let Some(map) = value.read_lock::<Map>() {
        return levels == 0 || map.values().any(deeper);
    }
    value.read_lock::<FnPtr>().is_some_and(|function| function.iter_curry().any(&mut deeper))
}

/// The same pattern twice for one webhook, one topic, or one route twice.
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
            Trigger::Topic { pattern } => vec![format!("on(\"{pattern}\", …)")],
            Trigger::Death { of } => vec![format!("on_dead(\"{of}\", …)")],
            Trigger::Timer(_) => Vec::new(),
        };
        for subject in subjects {
            if !seen.insert(subject.clone()) {
                frames.push(refusal::registered_twice(candidate.site(), handler, &subject));
            }
        }
    }
    frames
}

/// A handler takes what it is called with.
fn parameters(candidate: &Candidate, prepared: &Prepared) -> Vec<Frame> {
    let given = |handler: &Handler| -> &[&str] {
        match handler.trigger {
            Trigger::Route { .. } => &["req"],
            Trigger::Webhook { .. } | Trigger::Topic { .. } | Trigger::Timer(_) => &["event"],
            Trigger::Death { .. } => &["event", "error"],
        }
    };
    let wrong = |(handler, function): &&(Handler, FnPtr)| {
        parameter_count(&prepared.ast, function).is_some_and(|count| count != given(handler).len())
    };
    let frame = |(handler, function): &(Handler, FnPtr)| {
        let takes = parameter_count(&prepared.ast, function).unwrap_or(0);
        refusal::wrong_parameters(candidate.site(), handler, takes, given(handler))
    };
    prepared.handlers.iter().filter(wrong).map(frame).collect()
}

fn parameter_count(ast: &AST, function: &FnPtr) -> Option<usize> {
    let defined = ast.iter_functions().find(|defined| defined.name == function.fn_name())?;
    defined.params.len().checked_sub(function.curry().len())
}

/// Everything in a text that could be a name.
fn words(source: &str) -> impl Iterator<Item = &str> {
    source.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
}

fn script(
    candidate: &Candidate,
    handlers: Vec<Handler>,
    broken: &[Arc<str>],
    imports: Imports,
) -> Script {
    let mut modules = Arc::clone(&candidate.modules);
    if !broken.is_empty() {
        Arc::make_mut(&mut modules).retain(|path, _| !broken.contains(path));
    }
    let sources = || std::iter::once(&candidate.source).chain(candidate.modules.values());
    let names = |word: &str| sources().any(|source| source.contains(word));
    let is_provider = |word: &str| candidate.ambient.providers.contains_key(word);
    Script {
        name: Arc::clone(&candidate.name),
        path: Arc::clone(&candidate.path),
        source: Arc::clone(&candidate.source),
        version: handler::version(&candidate.source, &modules),
        modules,
        imports,
        ambient: Arc::clone(&candidate.ambient),
        handlers,
        queries: Vec::new(),
        emits: lint::Emits::default(),
        calls: sources().any(|source| words(source).any(is_provider)),
        runaways: AtomicU32::new(0),
        leaked: AtomicU64::new(0),
        reads: Reads { payload: names("payload"), headers: names("headers"), text: names("text") },
    }
}
