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
                order_by(context, array, compare).map(|order| put_in_order(array, &order))
            },
        );
    }
    for name in ["order", "order_by"] {
        set(module, name, |context: NativeCallContext<'_>, array: &mut Array, compare: FnPtr| {
            order_by(context, array, compare).map(|order| in_order(array, &order))
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
            let mut equal = Callback::of_two(context, equal);
            dedup(array, |earlier, item| equal.holds([earlier, item], 0))
        },
    );
    set_mutating(
        module,
        "drain",
        |context: NativeCallContext<'_>, array: &mut Array, test: FnPtr| {
            take_out(context, array, test, true)
        },
    );
    set_mutating(
        module,
        "retain",
        |context: NativeCallContext<'_>, array: &mut Array, test: FnPtr| {
            take_out(context, array, test, false)
        },
    );
}

/// The indices of the items in the order that the closure says: less than 0, or `true`, puts the first before the second.
fn order_by(
    context: NativeCallContext<'_>,
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
    context: NativeCallContext<'_>,
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::check;
    use super::*;

    #[test]
    fn arrays_are_sorted_by_their_items_or_by_a_closure() {
        check("let a = [3, 1, 2]; a.sort(); a", "[1, 2, 3]");
        check("let a = [3, 1, 2]; a.sort_desc(); a", "[3, 2, 1]");
        check("[\"b\", \"a\"].order()", "[\"a\", \"b\"]");
        check("[2.0, -1.0, 0.0].order_desc()", "[2.0, 0.0, -1.0]");
        check("let a = [3, 1, 2]; a.sort(|x, y| y - x); a", "[3, 2, 1]");
        check("[3, 1, 2].order(|x, y| x < y)", "[1, 2, 3]");
        check(
            "[[\"b\", 1], [\"a\", 1], [\"c\", 0]].order_by(|x, y| x[1] - y[1])",
            "[[\"c\", 0], [\"b\", 1], [\"a\", 1]]",
        );
        check(
            "[1, \"a\"].order()",
            "INVALID_ARGUMENT: items of different types cannot be sorted without a closure",
        );
        check(
            "[[1], [2]].order()",
            "INVALID_ARGUMENT: an array has no order; give `sort` a closure",
        );
        check("[[], [()], [1]].map(|a| a.order())", "[[], [()], [1]]");
    }

    #[test]
    fn sorting_floats_with_nan_does_not_panic() {
        check(
            "let nan = 0.0 / 0.0; let a = []; for i in 0..100 { a.push(nan); a.push(i * 1.0); } a.sort(); a.len()",
            "200",
        );
    }

    #[test]
    fn s30_an_error_of_the_closure_stops_a_sort_and_leaves_the_array() {
        check(
            "let x = [3, 1]; x.sort(|a, b| { x.push(1); a - b })",
            "Data race detected on argument #1 of function 'sort'",
        );
        check(
            "let a = [3, 1, 2]; try { a.sort(|x, y| throw `${x}`); } catch (err) { a.push(err); } a",
            "[3, 1, 2, \"3\"]",
        );
        check(
            "let n = 0; let a = [3, 1, 2]; try { a.retain(|x| { n += 1; if n == 2 { throw 1; } false }); } catch {} a",
            "[3, 1, 2]",
        );
        check(
            "[2, 1].order(|x, y| ())",
            "INVALID_ARGUMENT: the closure of a sort gives a number (less than, equal to or greater than 0) or a bool, not ()",
        );
        check(
            "[2, 1].order(|x| 1)",
            "INVALID_ARGUMENT: `order` calls its closure with 2 arguments; this one takes another number",
        );
    }

    #[test]
    fn items_are_taken_out_in_place() {
        check("let a = [1, 1, 2, 1]; a.dedup(); a", "[1, 2, 1]");
        check("let a = [1, 2, 5, 6]; a.dedup(|x, y| y - x < 2); a", "[1, 5]");
        check("let a = [1, 2, 3, 4]; [a.drain(|x| x % 2 == 0), a]", "[[2, 4], [1, 3]]");
        check("let a = [1, 2, 3, 4]; [a.retain(|x, i| i < 1), a]", "[[2, 3, 4], [1]]");
        check(
            "let a = [1, 2, 3, 4]; [a.drain(1..3), a, a.retain(0, 1), a]",
            "[[2, 3], [1, 4], [4], [1]]",
        );
        check(
            "let m = #{ a: 1, b: 2 }; [m.drain(|k, v| v == 2), m, m.map(|k, v| k + v), m.filter(|k| this == 5)]",
            "[#{\"b\": 2}, #{\"a\": 1}, #{\"a\": \"a1\"}, #{}]",
        );
    }

    proptest! {
        #[test]
        fn the_sort_is_stable_and_right(values in prop::collection::vec(0_i64..20, 0..200)) {
            let indices = (0..values.len()).collect();
            let sorted = merge_sort(indices, |left, right| Ok(values[left] > values[right]));
            let mut expected: Vec<usize> = (0..values.len()).collect();
            expected.sort_by_key(|index| values[*index]);
            prop_assert_eq!(sorted.unwrap(), expected);
        }

        #[test]
        fn no_comparison_makes_the_sort_panic(
            length in 0_usize..100,
            answers in prop::collection::vec(any::<bool>(), 2000),
        ) {
            let mut answers = answers.into_iter();
            let sorted = merge_sort((0..length).collect(), |_, _| Ok(answers.next().unwrap_or(true)));
            let mut sorted = sorted.unwrap();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (0..length).collect::<Vec<_>>());
        }
    }
}
