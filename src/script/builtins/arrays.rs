//! Functions of arrays that call a closure, look for a value, or grow. The closures get copies of the items: what they do to them
//! changes nothing in the array, and an error leaves it as it was.

use rhai::{Array, Blob, Dynamic, FnPtr, ImmutableString, Module, NativeCallContext};

use super::callback::Callback;
use super::compare::same;
use super::ending::{Fallible, reserve, room};
use super::{index_of, set, set_mutating, start_of};
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
        first(context, array, test, 0).map(index_of)
    });
    set(
        module,
        "index_of",
        |context: NativeCallContext<'_>, array: &mut Array, test: FnPtr, start: i64| {
            first(context, array, test, start).map(index_of)
        },
    );
    set(module, "find", |context: NativeCallContext<'_>, array: &mut Array, test: FnPtr| {
        find(context, array, test, 0)
    });
    set(
        module,
        "find",
        |context: NativeCallContext<'_>, array: &mut Array, test: FnPtr, start: i64| {
            find(context, array, test, start)
        },
    );
    set(module, "find_map", |context: NativeCallContext<'_>, array: &mut Array, map: FnPtr| {
        find_map(context, array, map, 0)
    });
    set(
        module,
        "find_map",
        |context: NativeCallContext<'_>, array: &mut Array, map: FnPtr, start: i64| {
            find_map(context, array, map, start)
        },
    );
    set(module, "some", |context: NativeCallContext<'_>, array: &mut Array, test: FnPtr| {
        first(context, array, test, 0).map(|found| found.is_some())
    });
    set(module, "all", all);
    set(module, "for_each", for_each);
    set(module, "map", map);
    set(module, "filter", filter);
    set(module, "zip", zip);
    set(module, "reduce", |context: NativeCallContext<'_>, array: &mut Array, step: FnPtr| {
        reduce(context, array.iter().enumerate(), step, Dynamic::UNIT)
    });
    set(
        module,
        "reduce",
        |context: NativeCallContext<'_>, array: &mut Array, step: FnPtr, start: Dynamic| {
            reduce(context, array.iter().enumerate(), step, start)
        },
    );
    set(module, "reduce_rev", |context: NativeCallContext<'_>, array: &mut Array, step: FnPtr| {
        reduce(context, array.iter().enumerate().rev(), step, Dynamic::UNIT)
    });
    set(
        module,
        "reduce_rev",
        |context: NativeCallContext<'_>, array: &mut Array, step: FnPtr, start: Dynamic| {
            reduce(context, array.iter().enumerate().rev(), step, start)
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
    context: NativeCallContext<'_>,
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
    context: NativeCallContext<'_>,
    array: &[Dynamic],
    test: FnPtr,
    start: i64,
) -> Fallible<Dynamic> {
    let found = first(context, array, test, start)?;
    Ok(found.and_then(|index| array.get(index)).cloned().unwrap_or_default())
}

fn find_map(
    context: NativeCallContext<'_>,
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
    let mut test = Callback::of_item(context, test);
    for (index, item) in array.iter().enumerate() {
        if !test.holds([item], index)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn for_each(context: NativeCallContext<'_>, array: &mut Array, work: FnPtr) -> Fallible<()> {
    let mut work = Callback::of_item(context, work);
    for (index, item) in array.iter().enumerate() {
        let _ = work.call([item], index)?;
    }
    Ok(())
}

fn map(context: NativeCallContext<'_>, array: &mut Array, map: FnPtr) -> Fallible<Array> {
    reserve(array.len() * ITEM_BYTES)?;
    let mut map = Callback::of_item(context, map);
    array.iter().enumerate().map(|(index, item)| map.call([item], index)).collect()
}

fn filter(context: NativeCallContext<'_>, array: &mut Array, test: FnPtr) -> Fallible<Array> {
    let mut test = Callback::of_item(context, test);
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
    let mut join = Callback::of_item(context, join);
    let pairs = array.iter().zip(other).enumerate();
    pairs.map(|(index, (left, right))| join.call([left, &right], index)).collect()
}

fn reduce<'a>(
    context: NativeCallContext<'_>,
    mut items: impl Iterator<Item = (usize, &'a Dynamic)>,
    step: FnPtr,
    start: Dynamic,
) -> Fallible<Dynamic> {
    let mut step = Callback::of_result_and_item(context, step);
    items.try_fold(start, |result, (index, item)| step.call([&result, item], index))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, run_with};

    #[test]
    fn closures_get_the_item_or_the_item_and_its_index_or_the_item_as_this() {
        check("[1, 2, 3].map(|x| x * 2)", "[2, 4, 6]");
        check("[1, 2, 3].map(|x, i| x * i)", "[0, 2, 6]");
        check("[1, 2, 3].map(|| this * 2)", "[2, 4, 6]");
        check("[1, 2, 3].filter(|x| x > 1)", "[2, 3]");
        check("[1, 2, 3].find(|x| x > 1)", "2");
        check("[1, 2, 3].find(|x| x > 1, 2)", "3");
        check("[1, 2, 3].find(|x| x > 9)", "()");
        check("[1, 2, 3].find_map(|x| if x > 1 { x * 10 })", "20");
        check(
            "[[1, 2].some(|x| x > 1), [1, 2].all(|x| x > 1), [].some(|x| true), [].all(|x| false)]",
            "[true, false, false, true]",
        );
        check("[1, 2, 3].reduce(|sum, x| (sum ?? 0) + x)", "6");
        check("[1, 2, 3].reduce(|sum, x| sum + x, 10)", "16");
        check("[1, 2, 3].reduce(|sum, x, i| sum + x * i, 0)", "8");
        check("[1, 2, 3].reduce(|sum| sum + this, 0)", "6");
        check("[1, 2, 3].reduce_rev(|text, x| text + x, \"\")", "\"321\"");
        check("[1, 2].zip([3, 4, 5], |x, y| x * y)", "[3, 8]");
        check("[1, 2, 3, 2].index_of(|x| x == 2, 2)", "3");
        check("let n = 0; [1, 2].for_each(|x| n += x); n", "3");
        check("const A = [1, 2]; A.map(|x| x)", "[1, 2]");
        check("fn twice(x) { x * 2 } [1, 2].map(Fn(\"twice\"))", "[2, 4]");
        check("[\"a\", \"b\"].map(Fn(\"to_upper\"))", "[\"A\", \"B\"]");
    }

    #[test]
    fn a_closure_with_the_wrong_number_of_parameters_is_told_so() {
        check(
            "[1].map(|a, b, c| a)",
            "INVALID_ARGUMENT: `map` calls its closure with 1 argument; this one takes another number",
        );
        check("[1].map(Fn(\"nothing\"))", "Function not found: nothing (i64)");
        check("[1].map(|x| nothing(x))", "Function not found: nothing (i64)");
    }

    #[test]
    fn what_a_closure_does_to_an_item_stays_there() {
        check("let a = [#{ n: 1 }]; a.map(|x| { x.n = 2; x }); a", "[#{\"n\": 1}]");
        check("let a = [1]; a.for_each(|| this = 5); a", "[1]");
    }

    #[test]
    fn s30_a_closure_that_uses_the_array_it_is_called_for_is_an_error_at_once() {
        let busy = "Data race detected on argument #1 of function";
        check("let x = [3, 1]; x.map(|v| x.len())", &format!("{busy} 'map'"));
        check("let u = #{ xs: [1], p: 1 }; u.xs.filter(|e| e == u.p)", &format!("{busy} 'filter'"));
        check("let x = [3, 1]; let f = || x.push(1); x.map(|v| f.call())", "Data race detected");
        check("let x = [3, 1]; map(x, |v| v + x.len())", "[5, 3]");
        check("let u = #{ xs: [1, 2], p: 2 }; let p = u.p; u.xs.filter(|e| e == p)", "[2]");
    }

    #[test]
    fn an_ending_inside_a_closure_cannot_be_caught() {
        for call in [
            "[1].map(|x| f(x))",
            "[1].find(|x| f(x))",
            "[1, 2].sort(|x, y| f(x))",
            "[1, 2].dedup(|x, y| f(x))",
            "[1].drain(|x| f(x))",
            "#{ a: 1 }.map(|k, v| f(v))",
            "#{ a: 1 }.retain(|k, v| f(v))",
        ] {
            let script =
                format!("fn f(x) {{ blob(2000000000) }} try {{ {call}; }} catch {{ return 1; }} 2");
            assert_eq!(run_with(1 << 20, &script), "ended: Memory", "{call}");
        }
    }

    #[test]
    fn items_are_found_by_value() {
        check("[[1, \"b\", #{ a: 1 }].index_of(#{ a: 1 }), [1].index_of(2)]", "[2, -1]");
        check("[\"a\", \"b\"].index_of(\"b\")", "1");
        check("[\"a\", \"b\", \"a\"].index_of(\"a\", 1)", "2");
        check("[1, 2, 1].index_of(1, -1)", "2");
        check("[1, \"b\"].contains('b') && \"b\" in [1, \"b\"]", "true");
    }

    #[test]
    fn get_outside_gives_unit_and_join_makes_text() {
        check(
            "[[1, 2].get(1), [1, 2].get(-2), [1, 2].get(2), [1, 2].get(-3), [].get(0)]",
            "[2, 1, (), (), ()]",
        );
        check("[1, \"a\", (), 2.5, ['c']].join(\"-\")", "\"1-a--2.5-['c']\"");
        check("[[].join(\",\"), [1].join(\",\"), [1, 2].join()]", "[\"\", \"1\", \"12\"]");
    }

    #[test]
    fn s16_padding_an_array_ends_at_the_budget() {
        let room = 32 << 20;
        let pad = |script: &str| run_with(room, script);
        assert_eq!(pad("let a = []; a.pad(2000000000, 'x')"), "ended: Memory");
        assert_eq!(
            pad("let b = []; b.pad(60000, 1); let a = []; a.pad(100000, b)"),
            "ended: Memory"
        );
        assert_eq!(pad("let a = []; a.pad(9223372036854775807, 1)"), "ended: Memory");
        assert_eq!(pad("let a = [1]; a.pad(3, 7); a.pad(1, 9); a.pad(-5, 9); a"), "[1, 7, 7]");
        check("const A = [1]; A.pad(3, 1)", "Non-pure method 'pad' cannot be called on constant");
    }
}
