//! `==` and `!=` of arrays and maps, and what rests on them. Rhai's own recurse without a bound and copy the right side at each
//! level.

use rhai::{Array, Dynamic, Map, Module, NativeCallContext, OP_EQUALS};

use super::ending::Fallible;
use super::{lend, set};
use crate::script::value::{Kind, deep_equal, kind};

pub(super) fn register(module: &mut Module) {
    set(module, "==", equal_arrays);
    set(module, "!=", |left: &mut Array, right: Array| equal_arrays(left, right).map(|same| !same));
    set(module, "==", equal_maps);
    set(module, "!=", |left: &mut Map, right: Map| equal_maps(left, right).map(|same| !same));
}

fn equal_arrays(left: &mut Array, right: Array) -> Fallible<bool> {
    Ok(lend(left, |left| deep_equal(left, &Dynamic::from_array(right)))?)
}

fn equal_maps(left: &mut Map, right: Map) -> Fallible<bool> {
    Ok(lend(left, |left| deep_equal(left, &Dynamic::from_map(right)))?)
}

/// Whether an item is the value looked for. Types of the host are asked by their own `==`, where they have one.
pub(super) fn same(
    context: &NativeCallContext<'_>,
    item: &Dynamic,
    value: &Dynamic,
) -> Fallible<bool> {
    let kinds = (kind(item), kind(value));
    if kinds == (Kind::Other, Kind::Other) && item.type_id() == value.type_id() {
        let arguments = &mut [&mut item.clone(), &mut value.clone()];
        let result = context.call_native_fn_raw(OP_EQUALS, false, arguments)?;
        return Ok(result.as_bool().unwrap_or(false));
    }
    Ok(deep_equal(item, value)?)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, check_deep};

    #[test]
    fn s7_comparing_deep_values_is_an_error_that_names_the_depth() {
        let error = |place: &str| format!("INVALID_VALUE: `{place}`: nested deeper than 128");
        let arrays = error(&format!("{}…", "[0]".repeat(40)));
        for call in [
            "v == w",
            "v != w",
            "[v].contains(w)",
            "w in [v]",
            "[v].index_of(w)",
            "let a = [v, w]; a.dedup()",
        ] {
            check_deep(20_000, false, call, &arrays);
        }
        check_deep(20_000, true, "v == w", &error(&format!("x{}.…", ".x".repeat(59))));
    }

    #[test]
    fn equality_looks_at_every_part() {
        check("[1, [2, #{ a: 'x' }]] == [1.0, [2, #{ a: \"x\" }]]", "true");
        check("[1, 2] == [1, 3] || [1] == [1, 2] || #{ a: 1 } == #{ b: 1 } || [] == #{}", "false");
        check("#{ a: () } == #{}", "false");
        check("let f = || 1; [f] == [f]", "INVALID_VALUE: `[0]`: a function cannot be compared");
        check("let f = || 1; [1].contains(f)", "false");
    }
}
