//! The engine that scripts run in: one for each script on each worker, cheap because the functions stand in modules that a worker's engines
//! share. Its limits, its names, its imports; nothing of a run.

use std::cell::RefCell;
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
use super::diagnose::COMPILE_DEADLINE_PASSED;
use super::handler::Sources;
use super::{builtins, current};
use crate::clock;

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
    vars: &super::handler::Vars,
    deadline: Duration,
) -> Engine {
    let mut engine = Engine::new_raw();
    engine.register_global_module(Rc::clone(&shared.globals));
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
        .on_progress(|_operations| current::on_operation().map(Dynamic::from))
        .set_module_resolver(Imports::new(Arc::clone(modules)));
    stop_slow_compiles(&mut engine, deadline);
    answer_names(&mut engine, Vars::new(vars));
    note_missing_fields(&mut engine);
    engine
}

/// The names that exist beside a script's own, for compiling under strict variables.
pub(crate) fn known_names() -> Scope<'static> {
    let mut scope = Scope::new();
    for name in OBJECTS {
        scope.push_dynamic(name, Dynamic::UNIT);
    }
    scope
}

#[expect(
    deprecated,
    reason = "rhai marks what may change with its next version as deprecated; it is named here only"
)]
fn answer_names(engine: &mut Engine, vars: Vars) {
    engine.on_var(move |name, _index, context| {
        if !OBJECTS.contains(&name) || context.scope().contains(name) {
            return Ok(None);
        }
        Ok(match name {
            "db" => Some(Dynamic::from(api::db::Db)),
            "log" => Some(Dynamic::from(api::log::Log)),
            "vars" => Some(Dynamic::from(vars.clone())),
            _ => None,
        })
    });
}

/// A field that a map lacks is `()`, and `?.` goes on working; what was missing is kept for the hint, should the run fail by it.
fn note_missing_fields(engine: &mut Engine) {
    engine.on_map_missing_property(|map, name, _context| {
        current::note_missing(map, name);
        Ok(Dynamic::UNIT.into())
    });
}

/// Compiling is quadratic in some constructs; a source within the size cap may still take seconds.
#[expect(
    deprecated,
    reason = "rhai marks what may change with its next version as deprecated; it is named here only"
)]
fn stop_slow_compiles(engine: &mut Engine, deadline: Duration) {
    let started: RefCell<Option<Instant>> = RefCell::new(None);
    engine.on_parse_token(move |token, position, _state| {
        // The first token of a compile stands at its beginning; nothing else tells compiles apart.
        let now = clock::instant();
        let first = started.borrow().is_none() || position.is_beginning_of_file();
        if first {
            started.replace(Some(now));
        }
        let late = started
            .borrow()
            .is_some_and(|started| now.saturating_duration_since(started) > deadline);
        if late && token != Token::EOF {
            started.replace(None);
            return Token::LexError(LexError::Runtime(COMPILE_DEADLINE_PASSED.to_owned()).into());
        }
        if token == Token::EOF {
            started.replace(None);
        }
        token
    });
}

trait Beginning {
    fn is_beginning_of_file(&self) -> bool;
}

impl Beginning for Position {
    fn is_beginning_of_file(&self) -> bool {
        self.line() == Some(1) && self.position() == Some(1)
    }
}

/// `import "lib/…"`: only what is in the set resolves, computed names too. There is no file access here at all.
struct Imports {
    sources: Arc<Sources>,
    loaded: RefCell<HashMap<String, Option<Rc<Module>>>>,
}

impl Imports {
    fn new(sources: Arc<Sources>) -> Self {
        Self { sources, loaded: RefCell::default() }
    }

    fn load(
        &self,
        engine: &Engine,
        path: &str,
        source: &str,
    ) -> Result<Rc<Module>, Box<EvalAltResult>> {
        let ast =
            compile(engine, path, source).map_err(|error| Box::new(EvalAltResult::from(error)))?;
        Ok(Module::eval_ast_as_new(Scope::new(), &ast, engine)?.into())
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
        self.loaded.borrow_mut().insert(path.to_owned(), None);
        let module = self.load(engine, file, source);
        match &module {
            Ok(module) => self.loaded.borrow_mut().insert(path.to_owned(), Some(Rc::clone(module))),
            Err(_) => self.loaded.borrow_mut().remove(path),
        };
        module.map_err(|error| {
            Box::new(EvalAltResult::ErrorInModule(path.to_owned(), error, position))
        })
    }
}

/// Source to AST, with its path for error messages.
pub(crate) fn compile(engine: &Engine, path: &str, source: &str) -> Result<AST, rhai::ParseError> {
    let mut ast = engine.compile_with_scope(&known_names(), source)?;
    ast.set_source(path);
    Ok(ast)
}
