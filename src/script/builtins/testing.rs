//! For the tests of this folder and its neighbours: scripts on an engine with our functions, on a thread with a stack as deep as a
//! coroutine's.

use std::thread;

use rhai::{Dynamic, Engine, EvalAltResult, Map, Scope};

use super::ending::{Ending, with_room};
use crate::script::value::{to_debug_text, to_text};

/// What a coroutine of a debug build has for the default budget.
const STACK_BYTES: usize = 512 << 20;

/// An engine as the host sets it up, but for what belongs to the host.
pub(crate) fn engine() -> Engine {
    let (global, modules) = super::standard();
    let mut engine = Engine::new_raw();
    engine.register_global_module(global);
    for (name, module) in modules {
        engine.register_static_module(name, module);
    }
    engine.set_max_call_levels(64).set_max_expr_depths(64, 64).set_strict_variables(true);
    engine
}

/// Runs a script and shows its result as it stands in an array, or its error: `CODE: message` for what it may catch.
pub(crate) fn run(script: &str) -> String {
    run_with(usize::MAX, script)
}

/// `run` where the script may allocate `room` more bytes.
pub(crate) fn run_with(room: usize, script: &str) -> String {
    run_on(room, script, |_| {})
}

/// `check` for a script with two equal variables `v` and `w`, arrays or maps of so many levels.
pub(crate) fn check_deep(levels: usize, maps: bool, script: &str, expected: &str) {
    let result = run_on(usize::MAX, script, move |scope| {
        for name in ["v", "w"] {
            scope.push(name, nested(levels, maps));
        }
    });
    assert_eq!(result, expected, "{script}");
}

fn nested(levels: usize, maps: bool) -> Dynamic {
    (0..levels).fold(Dynamic::UNIT, |inner, _| {
        if !maps {
            return Dynamic::from_array(vec![inner]);
        }
        let mut map = Map::new();
        map.insert("x".into(), inner);
        map.into()
    })
}

fn run_on(room: usize, script: &str, fill: impl FnOnce(&mut Scope<'_>) + Send + 'static) -> String {
    let script = script.to_owned();
    let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
        let engine = engine();
        let mut scope = Scope::new();
        fill(&mut scope);
        let ast = engine.compile_with_scope(&scope, &script).unwrap();
        let result = with_room(room, || engine.eval_ast_with_scope::<Dynamic>(&mut scope, &ast));
        let shown = match result {
            Ok(value) => to_debug_text(&value),
            Err(error) => show(&error),
        };
        // The engine still works.
        assert_eq!(engine.eval::<i64>("40 + 2").unwrap(), 42);
        shown
    });
    thread.unwrap().join().unwrap()
}

pub(crate) fn check(script: &str, expected: &str) {
    assert_eq!(run(script), expected, "{script}");
}

fn show(error: &EvalAltResult) -> String {
    if let Some(ending) = Ending::of(error) {
        return format!("ended: {ending:?}");
    }
    match error.unwrap_inner() {
        EvalAltResult::ErrorRuntime(value, _) => match value.as_map_ref() {
            Ok(map) => format!("{}: {}", to_text(&map["code"]), to_text(&map["message"])),
            Err(_) => format!("thrown: {}", to_text(value)),
        },
        other => {
            let text = other.to_string();
            text.split(" (line").next().unwrap_or_default().to_owned()
        }
    }
}
