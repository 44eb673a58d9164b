//! Bodies and queries in `application/x-www-form-urlencoded` (WHATWG URL Standard, section 5.1) as maps: a name that comes more than once gives an array.
//! `+` and `%20` are blanks; an escape that is not one is refused, as are too many fields.

use rhai::{Array, Dynamic, Map};

use crate::script::current::{Throw, fail};
use crate::webhook::request::is_form;

/// The pairs as a map.
pub(crate) fn parse(body: &[u8]) -> Result<Map, Throw> {
    if !is_form(body) {
        return Err(fail(
            "the form is not valid: a `%` must be followed by two hexadecimal digits, and it may have 10,000 fields at most",
        ));
    }
    let mut map = Map::new();
    for (name, value) in form_urlencoded::parse(body) {
        insert(&mut map, &name, value.into_owned().into());
    }
    Ok(map)
}

/// Adds a field to those that came before.
pub(super) fn insert(map: &mut Map, name: &str, value: Dynamic) {
    match map.get_mut(name) {
        None => _ = map.insert(name.into(), value),
        Some(several) if several.is_array() => {
            if let Ok(mut several) = several.as_array_mut() {
                several.push(value);
            }
        }
        Some(first) => *first = Array::from([std::mem::take(first), value]).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p22_repeats_become_arrays_and_escapes_are_read_once() {
        let map = parse(b"a=1&a=2&b=x+y%20z&c=&d=%2526&a=3").unwrap();
        let text =
            crate::script::value::to_json(&map.into(), crate::script::value::Limits::NONE).unwrap();
        assert_eq!(text, r#"{"a":["1","2","3"],"b":"x y z","c":"","d":"%26"}"#);
    }

    #[test]
    fn p22_a_bad_escape_and_too_many_pairs_are_refused() {
        for body in ["a=%zz", "a=%", "a=%2", "%=1"] {
            assert!(parse(body.as_bytes()).is_err(), "{body}");
            assert!(!is_form(body.as_bytes()), "{body}");
        }
        assert!(parse("a=1&".repeat(100_000).as_bytes()).is_err());
        assert!(is_form(b"") && is_form(b"a=1&b=%41"));
    }
}
