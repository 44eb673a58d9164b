//! Functions of maps that call a closure with each key and value; copies, and endings, as with arrays.

use rhai::{FnPtr, Map, Module, NativeCallContext};

use super::callback::Callback;
use super::ending::Fallible;
use super::{set, set_mutating};

pub(super) fn register(module: &mut Module) {
    set(module, "map", map);
    set(module, "filter", filter);
    set_mutating(module, "drain", |context: NativeCallContext<'_>, map: &mut Map, test: FnPtr| {
        take_out(context, map, test, true)
    });
    set_mutating(module, "retain", |context: NativeCallContext<'_>, map: &mut Map, test: FnPtr| {
        take_out(context, map, test, false)
    });
}

fn map(context: NativeCallContext<'_>, map: &mut Map, change: FnPtr) -> Fallible<Map> {
    let mut change = Callback::of_entry(context, change);
    let entries = map.iter();
    entries.map(|(key, value)| Ok((key.clone(), change.call([&key.into(), value], 0)?))).collect()
}

fn filter(context: NativeCallContext<'_>, map: &mut Map, test: FnPtr) -> Fallible<Map> {
    let mut test = Callback::of_entry(context, test);
    let mut kept = Map::new();
    for (key, value) in &*map {
        if test.holds([&key.into(), value], 0)? {
            kept.insert(key.clone(), value.clone());
        }
    }
    Ok(kept)
}

/// Takes out the entries for which the test says `wanted`, and gives them.
fn take_out(
    context: NativeCallContext<'_>,
    map: &mut Map,
    test: FnPtr,
    wanted: bool,
) -> Fallible<Map> {
    let mut test = Callback::of_entry(context, test);
    let goes: Vec<bool> = map
        .iter()
        .map(|(key, value)| Ok(test.holds([&key.into(), value], 0)? == wanted))
        .collect::<Fallible<_>>()?;
    let mut goes = goes.into_iter();
    Ok(map.extract_if(.., |_, _| goes.next().unwrap_or(false)).collect())
}
