//! Equality of whole values, by reference and to a bounded depth. Scalars compare as Rhai's own `==` does, so that
//! `[a] == [b]` says what `a == b` says.

use rhai::{Dynamic, ImmutableString};

use super::{Kind, Reason, ValueError, kind};

/// How deep two values are compared.
const COMPARED_LEVELS_MAX: usize = 128;

/// Whether two values are equal; functions, timestamps and types of the host have no equality among themselves.
pub(crate) fn deep_equal(left: &Dynamic, right: &Dynamic) -> Result<bool, ValueError> {
    equal(left, right, 0)
}

fn equal(left: &Dynamic, right: &Dynamic, level: usize) -> Result<bool, ValueError> {
    let kinds = (kind(left), kind(right));
    match kinds {
        (Kind::Shared, _) => {
            let left = left.read_lock::<Dynamic>().ok_or(Reason::InUse)?;
            equal(&left, right, level)
        }
        (_, Kind::Shared) => {
            let right = right.read_lock::<Dynamic>().ok_or(Reason::InUse)?;
            equal(left, &right, level)
        }
        (Kind::Array, Kind::Array) => {
            let left = left.as_array_ref().map_err(|_| Reason::InUse)?;
            let right = right.as_array_ref().map_err(|_| Reason::InUse)?;
            arrays(&left, &right, level)
        }
        (Kind::Map, Kind::Map) => {
            let left = left.as_map_ref().map_err(|_| Reason::InUse)?;
            let right = right.as_map_ref().map_err(|_| Reason::InUse)?;
            maps(&left, &right, level)
        }
        _ => scalars_equal(left, right),
    }
}

fn arrays(left: &[Dynamic], right: &[Dynamic], level: usize) -> Result<bool, ValueError> {
    let level = deeper(level)?;
    if left.len() != right.len() {
        return Ok(false);
    }
    for (index, (left, right)) in left.iter().zip(right).enumerate() {
        if !equal(left, right, level).map_err(|error| error.under_index(index))? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn maps(left: &rhai::Map, right: &rhai::Map, level: usize) -> Result<bool, ValueError> {
    let level = deeper(level)?;
    if left.len() != right.len() {
        return Ok(false);
    }
    // Both are sorted by key.
    for ((key, left), (right_key, right)) in left.iter().zip(right) {
        if key != right_key || !equal(left, right, level).map_err(|error| error.under_key(key))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// `deep_equal` of what has no parts.
fn scalars_equal(left: &Dynamic, right: &Dynamic) -> Result<bool, ValueError> {
    Ok(match (kind(left), kind(right)) {
        (Kind::Unit, Kind::Unit) => true,
        (Kind::Bool, Kind::Bool) => left.as_bool() == right.as_bool(),
        (Kind::Int, Kind::Int) => left.as_int() == right.as_int(),
        (Kind::Int | Kind::Float, Kind::Int | Kind::Float) => {
            floats_equal(as_float(left), as_float(right))
        }
        (Kind::Char, Kind::Char) => left.as_char() == right.as_char(),
        (Kind::Text, Kind::Text) => {
            same(left.read_lock::<ImmutableString>(), right.read_lock::<ImmutableString>())
        }
        (Kind::Text, Kind::Char) => text_is(left, right),
        (Kind::Char, Kind::Text) => text_is(right, left),
        (Kind::Blob, Kind::Blob) => {
            same(left.read_lock::<rhai::Blob>(), right.read_lock::<rhai::Blob>())
        }
        (Kind::Range, Kind::Range) => same(
            left.read_lock::<std::ops::Range<i64>>(),
            right.read_lock::<std::ops::Range<i64>>(),
        ),
        (Kind::RangeInclusive, Kind::RangeInclusive) => same(
            left.read_lock::<std::ops::RangeInclusive<i64>>(),
            right.read_lock::<std::ops::RangeInclusive<i64>>(),
        ),
        (both @ (Kind::Function | Kind::Timestamp | Kind::Other), other) if both == other => {
            return Err(Reason::NotComparable(both.words()).into());
        }
        _ => false,
    })
}

fn deeper(level: usize) -> Result<usize, ValueError> {
    if level == COMPARED_LEVELS_MAX {
        Err(Reason::TooDeep(COMPARED_LEVELS_MAX).into())
    } else {
        Ok(level + 1)
    }
}

fn same<T: PartialEq + Clone + 'static>(
    left: Option<rhai::DynamicReadLock<'_, T>>,
    right: Option<rhai::DynamicReadLock<'_, T>>,
) -> bool {
    matches!((left, right), (Some(left), Some(right)) if *left == *right)
}

fn text_is(text: &Dynamic, character: &Dynamic) -> bool {
    let character = character.as_char().unwrap_or_default();
    text.read_lock::<ImmutableString>()
        .is_some_and(|text| text.as_str() == character.encode_utf8(&mut [0; 4]))
}

/// An integer as Rhai compares it with a float.
#[expect(clippy::cast_precision_loss, reason = "Rhai's own comparison loses it too")]
fn as_float(value: &Dynamic) -> f64 {
    value.as_int().map_or_else(|_| value.as_float().unwrap_or(f64::NAN), |int| int as f64)
}

/// Rhai's `==` of floats: equal within one epsilon of the larger.
fn floats_equal(left: f64, right: f64) -> bool {
    let largest = if left * right == 0.0 { 1.0 } else { left.abs().max(right.abs()) };
    (left - right).abs() / largest <= f64::EPSILON
}
