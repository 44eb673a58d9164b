//! `parallel`: closures that run side by side in one run, on copies of what they capture. Here are its forms and their bounds; `script/parallel`
//! works through them.

use rhai::{Array, FnPtr, Map, Module, NativeCallContext};

use crate::script::branches::BRANCHES_MAX;
use crate::script::builtins::ending::refused;
use crate::script::builtins::set;
use crate::script::current::{Throw, in_handler};
use crate::script::parallel::run;
use crate::script::value::{Kind, kind};

/// Closures that run at once where the script does not say: as many calls of one provider as few of them refuse.
const LIMIT: usize = 16;
/// And at most: as many as a run may have in all.
const LIMIT_MAX: usize = BRANCHES_MAX;
/// Items of one call: a list that JSON of a large body can hold, and within the shipped CPU budget.
const ITEMS_MAX: usize = 100_000;

/// The functions.
pub(crate) fn register(module: &mut Module) {
    set(module, "parallel", |context: NativeCallContext<'_>, closures: Array| {
        closures_of(&closures)?;
        start(&context, None, closures, LIMIT)
    });
    set(module, "parallel", |context: NativeCallContext<'_>, list: Array, each: FnPtr| {
        start(&context, Some(each), list, LIMIT)
    });
    set(
        module,
        "parallel",
        |context: NativeCallContext<'_>, list: Array, each: FnPtr, options: Map| {
            start(&context, Some(each), list, limit(&options)?)
        },
    );
}

fn start(
    context: &NativeCallContext<'_>,
    each: Option<FnPtr>,
    items: Array,
    limit: usize,
) -> Result<Array, Throw> {
    in_handler("parallel")?;
    if items.len() > ITEMS_MAX {
        let count = items.len();
        return Err(refused(&format!(
            "`parallel` takes a list of at most {ITEMS_MAX} items; this one has {count}"
        )));
    }
    run(context, each, items, limit)
}

fn closures_of(closures: &Array) -> Result<(), Throw> {
    match closures.iter().position(|closure| kind(closure) != Kind::Function) {
        None => Ok(()),
        Some(index) => Err(refused(&format!(
            "`parallel` takes a list of closures, or a list and a closure; at index {index} stands {}",
            kind(&closures[index]).words()
        ))),
    }
}

fn limit(options: &Map) -> Result<usize, Throw> {
    let mut limit = LIMIT;
    for (name, option) in options {
        if name != "limit" {
            return Err(refused(&format!("unknown option `{name}`; `parallel` knows limit")));
        }
        let number = option.as_int().ok().and_then(|number| usize::try_from(number).ok());
        limit = number
            .filter(|number| (1..=LIMIT_MAX).contains(number))
            .ok_or_else(|| refused(&format!("`limit` is a number from 1 to {LIMIT_MAX}")))?;
    }
    Ok(limit)
}
