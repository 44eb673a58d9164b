//! The functions that every script has: the parts of Rhai's packages that are right, and ours over those that recurse or allocate
//! without a bound, swallow the end of a run, or panic. One global module a worker, shared by the engines of all its scripts.

mod arrays;
mod blobs;
mod callback;
mod characters;
mod compare;
mod core;
pub(crate) mod ending;
mod maps;
mod print;
mod refused;
mod sorting;
mod strings;
#[cfg(test)]
pub(super) mod testing;

use rhai::packages::{
    BasicArrayPackage, BasicBlobPackage, BasicFnPackage, BasicIteratorPackage, BasicMapPackage,
    BasicMathPackage, BasicStringPackage, BitFieldPackage, MoreStringPackage, Package,
};
use rhai::{Dynamic, FuncRegistration, Module, RhaiNativeFunc, Shared, Variant};

use super::api;

/// The global module, and the modules that scripts name with `::`. Build it once a worker: it takes some 300 KB and 1 ms.
pub(crate) fn standard() -> (Shared<Module>, Vec<(&'static str, Shared<Module>)>) {
    let mut module = Module::new();
    BitFieldPackage::init(&mut module);
    BasicStringPackage::init(&mut module);
    BasicIteratorPackage::init(&mut module);
    BasicFnPackage::init(&mut module);
    BasicMathPackage::init(&mut module);
    BasicArrayPackage::init(&mut module);
    BasicBlobPackage::init(&mut module);
    BasicMapPackage::init(&mut module);
    MoreStringPackage::init(&mut module);
    // Else each first call of a function in a run goes through all of them, at 20 µs and more.
    module.register_lazy_functions();
    core::register(&mut module);
    compare::register(&mut module);
    print::register(&mut module);
    arrays::register(&mut module);
    sorting::register(&mut module);
    maps::register(&mut module);
    strings::register(&mut module);
    characters::register(&mut module);
    blobs::register(&mut module);
    refused::register(&mut module);
    api::json::register(&mut module);
    api::register(&mut module);
    module.build_index();
    (Shared::new(module), api::modules())
}

/// Registers a function that changes none of its arguments.
pub(super) fn set<A: 'static, const N: usize, const X: bool, R, const F: bool, FUNC>(
    module: &mut Module,
    name: &'static str,
    function: FUNC,
) where
    R: Variant + Clone,
    FUNC: RhaiNativeFunc<A, N, X, R, F> + 'static,
{
    FuncRegistration::new(name).in_global_namespace().set_into_module(module, function);
}

/// Registers a function that changes its first argument, which a constant refuses.
fn set_mutating<A: 'static, const N: usize, const X: bool, R, const F: bool, FUNC>(
    module: &mut Module,
    name: &'static str,
    function: FUNC,
) where
    R: Variant + Clone,
    FUNC: RhaiNativeFunc<A, N, X, R, F> + 'static,
{
    FuncRegistration::new(name)
        .in_global_namespace()
        .with_purity(false)
        .set_into_module(module, function);
}

/// Registers a property that is read without parentheses.
fn set_getter<A: 'static, const X: bool, R, const F: bool, FUNC>(
    module: &mut Module,
    name: &'static str,
    function: FUNC,
) where
    R: Variant + Clone,
    FUNC: RhaiNativeFunc<A, 1, X, R, F> + 'static,
{
    FuncRegistration::new_getter(name).set_into_module(module, function);
}

/// Lends an array, map or blob as the value that it is part of.
pub(super) fn lend<T: Variant + Clone + Default, R>(
    part: &mut T,
    ask: impl FnOnce(&Dynamic) -> R,
) -> R {
    let value = Dynamic::from(std::mem::take(part));
    let result = ask(&value);
    *part = value.cast();
    result
}

/// A position as scripts see it: -1 for nowhere.
fn index_of(position: Option<usize>) -> i64 {
    position.and_then(|index| i64::try_from(index).ok()).unwrap_or(-1)
}

/// Where to start in something of `length` items; a negative start counts from the end.
fn start_of(length: usize, start: i64) -> usize {
    let distance = usize::try_from(start.unsigned_abs()).unwrap_or(usize::MAX);
    if start < 0 { length.saturating_sub(distance) } else { distance.min(length) }
}

#[cfg(test)]
mod tests {
    use super::testing::check;

    #[test]
    fn ours_win_over_rhai_s_in_every_style_of_call() {
        check("[1].get(5)", "()");
        check("get([1], -5)", "()");
        check("Fn(\"get\").call([1], -5)", "()");
        check("let a = [1]; a.get(-5)", "()");
        check("const A = [1]; A.get(-5)", "()");
        check(
            "Fn(\"exit\").call()",
            "INVALID_ARGUMENT: `exit` does not exist here; `return` ends a handler",
        );
        check("[[1]] == [[1]] && #{ a: [1] } != #{ a: [2] }", "true");
    }
}
