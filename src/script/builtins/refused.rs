//! Functions that Rhai has, or that its users look for, and that a script must not have: each says what to use instead.

use std::any::TypeId;

use rhai::{
    Array, Dynamic, FuncRegistration, ImmutableString, Module, NativeCallContext, RhaiFunc, Shared,
};

use super::ending::{Fallible, refused};
use super::set;

/// Functions of arrays that also took the *name* of a function. `index_of` with a string now looks for that string.
const BY_NAME: [(&str, usize); 12] = [
    ("map", 2),
    ("filter", 2),
    ("some", 2),
    ("all", 2),
    ("dedup", 2),
    ("reduce", 2),
    ("reduce", 3),
    ("reduce_rev", 2),
    ("reduce_rev", 3),
    ("sort", 2),
    ("drain", 2),
    ("retain", 2),
];

pub(super) fn register(module: &mut Module) {
    set(module, "exit", no_exit);
    set(module, "exit", |_: Dynamic| no_exit());
    set(module, "sleep", |_: i64| no_bare_sleep());
    set(module, "sleep", |_: f64| no_bare_sleep());
    set(module, "timestamp", || no_clock("timestamp"));
    set(module, "rand", || no_chance("rand"));
    set(module, "rand", |_: i64, _: i64| no_chance("rand"));
    set(module, "random", || no_chance("random"));
    for (name, parameters) in BY_NAME {
        no_names(module, name, parameters);
    }
}

/// Closes the form of `name` that takes the name of a function.
fn no_names(module: &mut Module, name: &'static str, parameters: usize) {
    let types = [TypeId::of::<Array>(), TypeId::of::<ImmutableString>(), TypeId::of::<Dynamic>()];
    let function = RhaiFunc::Method {
        func: Shared::new(move |_: Option<NativeCallContext<'_>>, _: &mut [&mut Dynamic]| {
            Err(refused(&format!(
                "`{name}` takes a closure, or `Fn(\"name\")` for a function by name"
            )))
        }),
        has_context: false,
        is_pure: true,
        is_volatile: false,
    };
    FuncRegistration::new(name).set_into_module_raw(module, &types[..parameters], function);
}

fn no_exit() -> Fallible<()> {
    Err(refused("`exit` does not exist here; `return` ends a handler"))
}

fn no_bare_sleep() -> Fallible<()> {
    Err(refused("`sleep` takes a duration with its unit: \"250ms\", \"10s\", \"1m\""))
}

fn no_clock(name: &str) -> Fallible<()> {
    Err(refused(&format!("`{name}` does not exist here; `now()` gives the time in milliseconds")))
}

fn no_chance(name: &str) -> Fallible<()> {
    Err(refused(&format!(
        "`{name}` does not exist here; `uuid()` gives something new each time, `now()` the time"
    )))
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;

    #[test]
    fn s24_a_bare_number_is_no_time_to_sleep() {
        for call in ["sleep(10)", "sleep(0.5)"] {
            check(
                call,
                "INVALID_ARGUMENT: `sleep` takes a duration with its unit: \"250ms\", \"10s\", \"1m\"",
            );
        }
    }

    #[test]
    fn s25_exit_is_an_error() {
        for call in ["exit()", "exit(3)", "Fn(\"exit\").call()", "let x = 5; x.exit()"] {
            check(call, "INVALID_ARGUMENT: `exit` does not exist here; `return` ends a handler");
        }
    }

    #[test]
    fn s26_other_clocks_and_chance_name_now() {
        check(
            "timestamp()",
            "INVALID_ARGUMENT: `timestamp` does not exist here; `now()` gives the time in milliseconds",
        );
        check(
            "rand()",
            "INVALID_ARGUMENT: `rand` does not exist here; `uuid()` gives something new each time, `now()` the time",
        );
    }

    #[test]
    fn a_function_by_its_bare_name_is_refused() {
        for call in
            ["map(\"f\")", "filter(\"f\")", "reduce(\"f\", 1)", "sort(\"f\")", "drain(\"f\")"]
        {
            let name = call.split('(').next().unwrap_or_default();
            check(
                &format!("fn f(x) {{ x }} let a = [1, 2]; a.{call}"),
                &format!(
                    "INVALID_ARGUMENT: `{name}` takes a closure, or `Fn(\"name\")` for a function by name"
                ),
            );
        }
    }
}
