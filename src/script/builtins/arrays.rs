//! Functions of arrays that call a closure, look for a value, or grow. The closures get copies of the items: what they do to them
//! changes nothing in the array, and an error leaves it as it was.

use rhai::{Array, Blob, Dynamic, FnPtr, ImmutableString, Map, Module, NativeCallContext};

use super::callback::Callback;
use super::compare::same;
use super::ending::{Fallible, reserve, room};
use super::{index_of, lend, set, set_mutating, start_of};
use crate::script::value::{Kind, build, kind, to_text};

/// What a script pays for each item of an array.
pub(super) const ITEM_BYTES: usize = size_of::<Dynamic>();

pub(super) fn register(module: &mut Module) {
    set(module, "get", get);
    set(module, "join", join);
    set(module, "join", |array: &mut Array| join(array, ""));
    set_mutating(module, "pad", pad);
    lookups(module);
    closures(module);
}

fn lookups(module: &mut Module) {
    set(module, "contains", |context: NativeCallContext<'_>, array: &mut Array, value: Dynamic| {
        position(&context, array, &value, 0).map(|found| found.is_some())
    });
    set(module, "index_of", |context: NativeCallContext<'_>, array: &mut Array, value: Dynamic| {
        position(&context, array, &value, 0).map(index_of)
    });
    set(
        module,
        "index_of",
        |context: NativeCallContext<'_>, array: &mut Array, value: Dynamic, start: i64| {
            position(&context, array, &value, start).map(index_of)
        },
    );
    // Rhai's own take a string for the name of a function here.
    set(
        module,
        "index_of",
        |context: NativeCallContext<'_>, array: &mut Array, text: ImmutableString| {
            position(&context, array, &text.into(), 0).map(index_of)
        },
    );
    set(
        module,
        "index_of",
        |context: NativeCallContext<'_>, array: &mut Array, text: ImmutableString, start: i64| {
            position(&context, array, &text.into(), start).map(index_of)
        },
    );
}

fn closures(module: &mut Module) {
    set(module, "index_of", |context: NativeCallContext<'_>, array: &mut Array, test: FnPtr| {
        first(&context, array, test, 0).map(index_of)
    });
    set(
        module,
        "index_of",
        |context: NativeCallContext<'_>, array: &mut Array, test: FnPtr, start: i64| {
            first(&context, array, test, start).map(index_of)
        },
    );
    set(module, "find", |context: NativeCallContext<'_>, array: &mut Array, test: FnPtr| {
        find(&context, array, test, 0)
    });
    set(
        module,
        "find",
        |context: NativeCallContext<'_>, array: &mut Array, test: FnPtr, start: i64| {
            find(&context, array, test, start)
        },
    );
    set(module, "find_map", |context: NativeCallContext<'_>, array: &mut Array, map: FnPtr| {
        find_map(&context, array, map, 0)
    });
    set(
        module,
        "find_map",
        |context: NativeCallContext<'_>, array: &mut Array, map: FnPtr, start: i64| {
            find_map(&context, array, map, start)
        },
    );
    set(module, "some", |context: NativeCallContext<'_>, array: &mut Array, test: FnPtr| {
        first(&context, array, test, 0).map(|found| found.is_some())
    });
    set(module, "all", all);
    set(module, "for_each", for_each);
    set(module, "map", map);
    set(module, "filter", filter);
    set(module, "zip", zip);
    set(module, "reduce", |context: NativeCallContext<'_>, array: &mut Array, step: FnPtr| {
        reduce(&context, array.iter().enumerate(), step, Dynamic::UNIT)
    });
    set(
        module,
        "reduce",
        |context: NativeCallContext<'_>, array: &mut Array, step: FnPtr, start: Dynamic| {
            reduce(&context, array.iter().enumerate(), step, start)
        },
    );
    set(module, "reduce_rev", |context: NativeCallContext<'_>, array: &mut Array, step: FnPtr| {
        reduce(&context, array.iter().enumerate().rev(), step, Dynamic::UNIT)
    });
    set(
        module,
        "reduce_rev",
        |context: NativeCallContext<'_>, array: &mut Array, step: FnPtr, start: Dynamic| {
            reduce(&context, array.iter().enumerate().rev(), step, start)
        },
    );
}

/// The item at `index`, counted from the end where it is negative; `()` outside.
fn get(array: &mut Array, index: i64) -> Dynamic {
    let length = i64::try_from(array.len()).unwrap_or(i64::MAX);
    let index = if index < 0 { index.saturating_add(length) } else { index };
    usize::try_from(index).ok().and_then(|index| array.get(index)).cloned().unwrap_or_default()
}

/// The items as text, with `separator` between them.
fn join(array: &mut Array, separator: &str) -> Fallible<ImmutableString> {
    build(|buffer| {
        for (index, item) in array.iter().enumerate() {
            if index > 0 {
                buffer.push_str(separator)?;
            }
            match item.read_lock::<ImmutableString>() {
                Some(text) => buffer.push_str(&text)?,
                None => buffer.push_str(&to_text(item))?,
            }
        }
        Ok(())
    })
}

/// Copies `item` to the end until there are `length`.
fn pad(array: &mut Array, length: i64, item: Dynamic) -> Fallible<()> {
    let missing = usize::try_from(length).unwrap_or(0).saturating_sub(array.len());
    if missing == 0 {
        return Ok(());
    }
    reserve(missing.saturating_mul(ITEM_BYTES + held(&item)))?;
    array.reserve_exact(missing);
    // What a copy takes in all its depth is measured on the first.
    let before = room();
    let first = item.clone();
    reserve((missing - 1).saturating_mul(before.saturating_sub(room())))?;
    array.push(first);
    array.extend(std::iter::repeat_n(item, missing - 1));
    Ok(())
}

/// What a copy of a value takes at least, by its outermost level: enough to refuse the worst before anything is copied.
fn held(value: &Dynamic) -> usize {
    match kind(value) {
        Kind::Array => value.as_array_ref().map_or(0, |array| array.len() * ITEM_BYTES),
        Kind::Map => {
            let entry = ITEM_BYTES + size_of::<rhai::Identifier>();
            value.as_map_ref().map_or(0, |map| map.len() * entry)
        }
        Kind::Blob => value.read_lock::<Blob>().map_or(0, |blob| blob.len()),
        _ => 0,
    }
}

fn position(
    context: &NativeCallContext<'_>,
    array: &[Dynamic],
    value: &Dynamic,
    start: i64,
) -> Fallible<Option<usize>> {
    for (index, item) in array.iter().enumerate().skip(start_of(array.len(), start)) {
        if same(context, item, value)? {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

/// The first item from `start` on that passes the test.
fn first(
    context: &NativeCallContext<'_>,
    array: &[Dynamic],
    test: FnPtr,
    start: i64,
) -> Fallible<Option<usize>> {
    let mut test = Callback::of_item(context, test);
    for (index, item) in array.iter().enumerate().skip(start_of(array.len(), start)) {
        if test.holds([item], index)? {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

fn find(
    context: &NativeCallContext<'_>,
    array: &[Dynamic],
    test: FnPtr,
    start: i64,
) -> Fallible<Dynamic> {
    let found = first(context, array, test, start)?;
    Ok(found.and_then(|index| array.get(index)).cloned().unwrap_or_default())
}

fn find_map(
    context: &NativeCallContext<'_>,
    array: &[Dynamic],
    map: FnPtr,
    start: i64,
) -> Fallible<Dynamic> {
    let mut map = Callback::of_item(context, map);
    for (index, item) in array.iter().enumerate().skip(start_of(array.len(), start)) {
        let value = map.call([item], index)?;
        if !value.is_unit() {
            return Ok(value);
        }
    }
    Ok(Dynamic::UNIT)
}

fn all(context: NativeCallContext<'_>, array: &mut Array, test: FnPtr) -> Fallible<bool> {
    let mut test = Callback::of_item(&context, test);
    for (index, item) in array.iter().enumerate() {
        if !test.holds([item], index)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn for_each(context: NativeCallContext<'_>, array: &mut Array, work: FnPtr) -> Fallible<()> {
    let mut work = Callback::of_item(&context, work);
    for (index, item) in array.iter().enumerate() {
        let _ = work.call([item], index)?;
    }
    Ok(())
}

fn map(context: NativeCallContext<'_>, array: &mut Array, map: FnPtr) -> Fallible<Array> {
    reserve(array.len() * ITEM_BYTES)?;
    let mut map = Callback::of_item(&context, map);
    array.iter().enumerate().map(|(index, item)| map.call([item], index)).collect()
}

fn filter(context: NativeCallContext<'_>, array: &mut Array, test: FnPtr) -> Fallible<Array> {
    let mut test = Callback::of_item(&context, test);
    let mut kept = Array::new();
    for (index, item) in array.iter().enumerate() {
        if test.holds([item], index)? {
            kept.push(item.clone());
        }
    }
    Ok(kept)
}

fn zip(
    context: NativeCallContext<'_>,
    array: &mut Array,
    other: Array,
    join: FnPtr,
) -> Fallible<Array> {
    reserve(array.len().min(other.len()) * ITEM_BYTES)?;
    let mut join = Callback::of_item(&context, join);
    let pairs = array.iter().zip(&other).enumerate();
    pairs.map(|(index, (left, right))| join.call([left, right], index)).collect()
}

fn reduce<'a>(
    context: &NativeCallContext<'_>,
    mut items: impl Iterator<Item = (usize, &'a Dynamic)>,
    step: FnPtr,
    start: Dynamic,
) -> Fallible<Dynamic> {
    let mut step = Callback::of_result_and_item(context, step);
    items.try_fold(start, |result, (index, item)| step.call([&result, item], index))
}
