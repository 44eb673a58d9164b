//! The engine that scripts run in: one for each script on each worker, cheap because the functions stand in modules that a worker's engines
//! share. Its limits, its names, its imports; nothing of a run.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rhai::module_resolvers::ModuleResolver;
use rhai::{
    AST, Dynamic, Engine, EvalAltResult, LexError, Module, OptimizationLevel, Position, Scope,
    Token,
};

use super::api::vars::Vars;
use super::api::{self, OBJECTS};
use super::compiled::SET_UP_BUDGET;
use super::diagnose::COMPILE_DEADLINE_PASSED;
use super::handler::{Ambient, Sources};
use super::{builtins, current};
use crate::{clock, memory};

/// Nested calls of script functions.
const CALL_LEVELS_MAX: usize = 64;
/// Nested expressions, at the top level and in functions. Debug builds default to far less, so it is always set.
const EXPRESSION_DEPTH_MAX: usize = 64;
/// Functions and closures of one file.
pub(crate) const FUNCTIONS_MAX: usize = 500;
/// Imports of one file.
const MODULES_MAX: usize = 100;
/// How long compiling one file may take on the loader; workers compile only what kept it there, and get ten times as long.
pub(crate) const COMPILE_DEADLINE: Duration =
    Duration::from_millis(if cfg!(debug_assertions) { 1000 } else { 100 });

/// What the engines of one thread share.
pub(crate) struct Shared {
    globals: Rc<Module>,
    modules: Vec<(&'static str, Rc<Module>)>,
}

impl Shared {
    /// Builds the functions once; 560 KB and some 200 µs.
    pub(crate) fn new() -> Rc<Self> {
        let (globals, modules) = builtins::standard();
        Rc::new(Self { globals, modules })
    }
}

/// An engine for one script, with the modules that it may import.
pub(crate) fn engine(
    shared: &Shared,
    modules: &Arc<Sources>,
    ambient: &Arc<Ambient>,
    deadline: Duration,
) -> Engine {
    let mut engine = Engine::new_raw();
    engine.register_global_module(Rc::clone(&shared.globals));
    engine.register_global_module(api::provider::operations(ambient));
    for (name, module) in &shared.modules {
        engine.register_static_module(*name, Rc::clone(module));
    }
    engine
        .set_optimization_level(OptimizationLevel::None)
        .set_strict_variables(true)
        .set_max_call_levels(CALL_LEVELS_MAX)
        .set_max_expr_depths(EXPRESSION_DEPTH_MAX, EXPRESSION_DEPTH_MAX)
        .set_max_functions(FUNCTIONS_MAX)
        .set_max_modules(MODULES_MAX)
        .set_max_strings_interned(0)
        .disable_symbol("eval")
        .on_print(api::log::print)
        .on_debug(|text, _source, _position| api::log::debug(text))
        .on_progress(|_operations| current::on_operation().map(Dynamic::from))
        .set_module_resolver(Imports::new(Arc::clone(modules), Arc::clone(ambient), deadline));
    stop_slow_compiles(&mut engine);
    answer_names(&mut engine, ambient);
    engine
}

/// The names that exist beside a script's own, for compiling under strict variables.
pub(crate) fn known_names(ambient: &Ambient) -> Scope<'static> {
    let mut scope = Scope::new();
    for name in ambient.providers.keys() {
        scope.push_dynamic(name.as_ref(), Dynamic::UNIT);
    }
    for name in OBJECTS {
        scope.push_dynamic(name, Dynamic::UNIT);
    }
    scope
}

#[expect(
    deprecated,
    reason = "rhai marks what may change with its next version as deprecated; it is named here only"
)]
fn answer_names(engine: &mut Engine, ambient: &Arc<Ambient>) {
    let vars = Vars::new(&ambient.vars);
    let ambient = Arc::clone(ambient);
    engine.on_var(move |name, _index, context| {
        let is_object = OBJECTS.contains(&name);
        let provider = if is_object { None } else { ambient.providers.get_key_value(name) };
        if !is_object && provider.is_none() || context.scope().contains(name) {
            return Ok(None);
        }
        if let Some((name, offers)) = provider {
            let provider = api::provider::Provider::new(name, offers);
            return Ok(Some(memory::uncharged(|| Dynamic::from(provider))));
        }
        Ok(match name {
            "db" => Some(Dynamic::from(api::db::Db)),
            "log" => Some(Dynamic::from(api::log::Log)),
            "vars" => Some(Dynamic::from(vars.clone())),
            _ => None,
        })
    });
}

thread_local! {
    /// When the compile on this thread has to be through.
    static COMPILE_ENDS: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Compiling is quadratic in some constructs; a source within the size cap may still take seconds.
#[expect(
    deprecated,
    reason = "rhai marks what may change with its next version as deprecated; it is named here only"
)]
fn stop_slow_compiles(engine: &mut Engine) {
    engine.on_parse_token(|token, _position, _state| {
        let late = COMPILE_ENDS.get().is_some_and(|ends| clock::instant() >= ends);
        if late && token != Token::EOF {
            return Token::LexError(LexError::Runtime(COMPILE_DEADLINE_PASSED.to_owned()).into());
        }
        token
    });
}

/// `import "lib/…"`: only what is in the set resolves, computed names too. There is no file access here at all.
struct Imports {
    sources: Arc<Sources>,
    ambient: Arc<Ambient>,
    /// `None` while it is being loaded. Nothing is suspended meanwhile, so only what it imports itself can meet that.
    loaded: RefCell<HashMap<String, Option<Rc<Module>>>>,
    /// For compiling one of them.
    deadline: Duration,
}

impl Imports {
    fn new(sources: Arc<Sources>, ambient: Arc<Ambient>, deadline: Duration) -> Self {
        Self { sources, ambient, loaded: RefCell::default(), deadline }
    }

    fn load(
        &self,
        engine: &Engine,
        path: &str,
        source: &str,
    ) -> Result<Rc<Module>, Box<EvalAltResult>> {
        // A module stays with the engine, so it is not the run's that happens to import it first.
        memory::handed_out(|| {
            let ast = compile(engine, &self.ambient, path, source, self.deadline)
                .map_err(|error| Box::new(EvalAltResult::from(error)))?;
            current::setting_up(SET_UP_BUDGET, || {
                Ok(Module::eval_ast_as_new(Scope::new(), &ast, engine)?.into())
            })
        })
    }
}

impl ModuleResolver for Imports {
    fn resolve(
        &self,
        engine: &Engine,
        _importer: Option<&str>,
        path: &str,
        position: Position,
    ) -> Result<Rc<Module>, Box<EvalAltResult>> {
        match self.loaded.borrow().get(path) {
            Some(Some(module)) => return Ok(Rc::clone(module)),
            Some(None) => {
                let text = format!("`{path}` imports itself, by way of what it imports");
                return Err(Box::new(EvalAltResult::ErrorRuntime(text.into(), position)));
            }
            None => {}
        }
        let file = format!("{path}.rhai");
        let Some((file, source)) = self.sources.get_key_value(file.as_str()) else {
            return Err(Box::new(EvalAltResult::ErrorModuleNotFound(path.to_owned(), position)));
        };
        let loading = Loading::new(self, path);
        let module = self.load(engine, file, source);
        drop(loading);
        match module {
            Ok(module) => {
                memory::uncharged(|| {
                    self.loaded.borrow_mut().insert(path.to_owned(), Some(Rc::clone(&module)))
                });
                Ok(module)
            }
            Err(error) => {
                Err(Box::new(EvalAltResult::ErrorInModule(path.to_owned(), error, position)))
            }
        }
    }
}

/// Marks a module as being loaded, until it is dropped, by a panic too.
struct Loading<'a> {
    imports: &'a Imports,
    path: &'a str,
}

impl<'a> Loading<'a> {
    fn new(imports: &'a Imports, path: &'a str) -> Self {
        memory::uncharged(|| imports.loaded.borrow_mut().insert(path.to_owned(), None));
        Self { imports, path }
    }
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        memory::uncharged(|| self.imports.loaded.borrow_mut().remove(self.path));
    }
}

/// Source to AST, with its path for error messages. This is the only way to compile, so that none goes on past its deadline.
pub(crate) fn compile(
    engine: &Engine,
    ambient: &Ambient,
    path: &str,
    source: &str,
    deadline: Duration,
) -> Result<AST, rhai::ParseError> {
    let outer = COMPILE_ENDS.replace(Some(clock::instant() + deadline));
    let compiled = engine.compile_with_scope(&known_names(ambient), source);
    COMPILE_ENDS.set(outer);
    let mut ast = compiled?;
    ast.set_source(path);
    Ok(ast)
}
