//! Sorting and thinning out arrays in place. A closure that fails stops it at once and the array is as it was; Rhai's own swallow
//! the error, and with it the end of a run.

use std::cmp::Ordering;

use rhai::{Array, Dynamic, FnPtr, ImmutableString, Module, NativeCallContext};

use super::callback::Callback;
use super::compare::same;
use super::ending::{Fallible, refused, reserve};
use super::{set, set_mutating};
use crate::script::value::{Kind, kind};

pub(super) fn register(module: &mut Module) {
    for name in ["sort", "sort_by"] {
        set_mutating(
            module,
            name,
            |context: NativeCallContext<'_>, array: &mut Array, compare: FnPtr| {
                order_by(&context, array, compare).map(|order| put_in_order(array, &order))
            },
        );
    }
    for name in ["order", "order_by"] {
        set(module, name, |context: NativeCallContext<'_>, array: &mut Array, compare: FnPtr| {
            order_by(&context, array, compare).map(|order| in_order(array, &order))
        });
    }
    set_mutating(module, "sort", |array: &mut Array| sort(array, false));
    set_mutating(module, "sort_desc", |array: &mut Array| sort(array, true));
    set(module, "order", |array: &mut Array| sorted(array, false));
    set(module, "order_desc", |array: &mut Array| sorted(array, true));
    thinning(module);
}

fn thinning(module: &mut Module) {
    set_mutating(module, "dedup", |context: NativeCallContext<'_>, array: &mut Array| {
        dedup(array, |earlier, item| same(&context, earlier, item))
    });
    set_mutating(
        module,
        "dedup",
        |context: NativeCallContext<'_>, array: &mut Array, equal: FnPtr| {
            let mut equal = Callback::of_two(&context, equal);
            dedup(array, |earlier, item| equal.holds([earlier, item], 0))
        },
    );
    set_mutating(
        module,
        "drain",
        |context: NativeCallContext<'_>, array: &mut Array, test: FnPtr| {
            take_out(&context, array, test, true)
        },
    );
    set_mutating(
        module,
        "retain",
        |context: NativeCallContext<'_>, array: &mut Array, test: FnPtr| {
            take_out(&context, array, test, false)
        },
    );
}

/// The indices of the items in the order that the closure says: less than 0, or `true`, puts the first before the second.
fn order_by(
    context: &NativeCallContext<'_>,
    array: &[Dynamic],
    compare: FnPtr,
) -> Fallible<Vec<usize>> {
    reserve(2 * size_of::<usize>() * array.len())?;
    let mut compare = Callback::of_two(context, compare);
    merge_sort((0..array.len()).collect(), |left, right| {
        let answer = compare.call([&array[left], &array[right]], 0)?;
        match kind(&answer) {
            Kind::Int => Ok(answer.as_int().unwrap_or(0) > 0),
            Kind::Bool => Ok(!answer.as_bool().unwrap_or(true)),
            other => Err(refused(&format!(
                "the closure of a sort gives a number (less than, equal to or greater than 0) or a bool, not {}",
                other.words()
            ))),
        }
    })
}

/// A stable sort that stops at the first error, and that an inconsistent comparison cannot make panic, as it can the standard
/// library's. `after(a, b)` says whether `a` belongs behind `b`.
fn merge_sort(
    mut items: Vec<usize>,
    mut after: impl FnMut(usize, usize) -> Fallible<bool>,
) -> Fallible<Vec<usize>> {
    let mut merged = Vec::with_capacity(items.len());
    let mut width = 1;
    while width < items.len() {
        for pair in items.chunks(2 * width) {
            let (mut left, mut right) = pair.split_at(width.min(pair.len()));
            while let (Some(first), Some(second)) = (left.first(), right.first()) {
                let side = if after(*first, *second)? { &mut right } else { &mut left };
                merged.extend(side.split_off_first());
            }
            merged.extend(left);
            merged.extend(right);
        }
        std::mem::swap(&mut items, &mut merged);
        merged.clear();
        width *= 2;
    }
    Ok(items)
}

/// Moves each item to its place: `order[n]` is where item n of the result stands now.
fn put_in_order(array: &mut Array, order: &[usize]) {
    let mut items = std::mem::take(array);
    *array = order.iter().map(|index| std::mem::take(&mut items[*index])).collect();
}

/// A copy of the items in that order.
fn in_order(array: &[Dynamic], order: &[usize]) -> Array {
    order.iter().map(|index| array[*index].clone()).collect()
}

/// Sorts items of one kind that has an order.
fn sort(array: &mut Array, descending: bool) -> Fallible<()> {
    let Some(first) = array.first().map(kind) else { return Ok(()) };
    if array.iter().any(|item| kind(item) != first) {
        return Err(refused("items of different types cannot be sorted without a closure"));
    }
    let compare: fn(&Dynamic, &Dynamic) -> Ordering = match first {
        Kind::Unit => return Ok(()),
        Kind::Int => |left, right| left.as_int().cmp(&right.as_int()),
        Kind::Bool => |left, right| left.as_bool().cmp(&right.as_bool()),
        Kind::Char => |left, right| left.as_char().cmp(&right.as_char()),
        Kind::Float => |left, right| match (left.as_float(), right.as_float()) {
            (Ok(left), Ok(right)) => left.total_cmp(&right),
            _ => Ordering::Equal,
        },
        Kind::Text => |left, right| match (
            left.read_lock::<ImmutableString>(),
            right.read_lock::<ImmutableString>(),
        ) {
            (Some(left), Some(right)) => left.as_str().cmp(right.as_str()),
            _ => Ordering::Equal,
        },
        other => {
            let kind = other.words();
            return Err(refused(&format!("{kind} has no order; give `sort` a closure")));
        }
    };
    reserve(array.len() * size_of::<Dynamic>() / 2)?;
    if descending {
        array.sort_by(|left, right| compare(right, left));
    } else {
        array.sort_by(compare);
    }
    Ok(())
}

fn sorted(array: &mut Array, descending: bool) -> Fallible<Array> {
    let mut copy = array.clone();
    sort(&mut copy, descending)?;
    Ok(copy)
}

/// Takes out each item that equals the one kept before it.
fn dedup(
    array: &mut Array,
    mut equal: impl FnMut(&Dynamic, &Dynamic) -> Fallible<bool>,
) -> Fallible<()> {
    let mut keep = Vec::with_capacity(array.len());
    let mut kept = 0;
    for (index, item) in array.iter().enumerate() {
        let repeated = index > 0 && equal(&array[kept], item)?;
        keep.push(!repeated);
        kept = if repeated { kept } else { index };
    }
    let mut keep = keep.into_iter();
    array.retain(|_| keep.next().unwrap_or(true));
    Ok(())
}

/// Takes out the items for which the test says `wanted`, and gives them.
fn take_out(
    context: &NativeCallContext<'_>,
    array: &mut Array,
    test: FnPtr,
    wanted: bool,
) -> Fallible<Array> {
    let mut test = Callback::of_item(context, test);
    let items = array.iter().enumerate();
    let goes: Vec<bool> = items
        .map(|(index, item)| Ok(test.holds([item], index)? == wanted))
        .collect::<Fallible<_>>()?;
    let mut goes = goes.into_iter();
    Ok(array.extract_if(.., |_| goes.next().unwrap_or(false)).collect())
}
