//! JSON text into Rhai values: one visitor that builds them directly, with no tree in between. The text has been through
//! `json::prepare`; here depth and the script's memory are bounded, and of two equal keys the last wins.

use std::cell::{Cell, RefCell};
use std::fmt;

use rhai::{Array, Dynamic, Identifier, ImmutableString, Map};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{LEVELS_MAX, Limits, Reason, ValueError};
use crate::script::builtins::ending::room;
use crate::script::handler::Parts;

/// Values between two looks at the script's memory. A map costs some 500 bytes at most: one look every 64 KiB.
const VALUES_BETWEEN_LOOKS: u32 = 128;
/// Text from this size on is looked at before it is copied.
const LARGE_TEXT: usize = 4096;

/// One value from JSON text.
pub(crate) fn from_json(text: &str, limits: Limits) -> Result<Dynamic, ValueError> {
    from_json_parts(text, &Parts::default(), limits)
}

/// The parts of a value from JSON text; others are passed over, so the text must be known to be valid.
pub(crate) fn from_json_parts(
    text: &str,
    parts: &Parts,
    limits: Limits,
) -> Result<Dynamic, ValueError> {
    if text.len() > limits.bytes {
        return Err(Reason::TooLarge(limits.bytes).into());
    }
    let state = State { countdown: Cell::new(VALUES_BETWEEN_LOOKS), reason: RefCell::new(None) };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Seed(&state, wanted(parts))
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value));
    value.map_err(|error| {
        let reason = state.reason.take().unwrap_or_else(|| syntax(&error.to_string()));
        reason.into()
    })
}

fn wanted(parts: &Parts) -> Option<&Parts> {
    (!parts.is_whole()).then_some(parts)
}

/// serde_json ends its recursion itself, at the depth that is ours too, and tells it by its message alone.
fn syntax(message: &str) -> Reason {
    if message.starts_with("recursion limit exceeded") {
        Reason::TooDeep(LEVELS_MAX)
    } else {
        Reason::Syntax(message.into())
    }
}

/// What all visitors of one text share.
struct State {
    countdown: Cell<u32>,
    /// Why we stopped it, where it was not the text's own fault.
    reason: RefCell<Option<Reason>>,
}

impl State {
    fn stop<E: Error>(&self, reason: Reason) -> E {
        let error = E::custom(&reason);
        self.reason.replace(Some(reason));
        error
    }

    /// Counts one more value and now and then looks whether the script has memory left.
    fn count<E: Error>(&self) -> Result<(), E> {
        match self.countdown.get() {
            0 if room() == 0 => Err(self.stop(Reason::Memory)),
            0 => {
                self.countdown.set(VALUES_BETWEEN_LOOKS);
                Ok(())
            }
            left => {
                self.countdown.set(left - 1);
                Ok(())
            }
        }
    }

    fn allow<E: Error>(&self, text: &str) -> Result<(), E> {
        if text.len() >= LARGE_TEXT && text.len() > room() {
            return Err(self.stop(Reason::Memory));
        }
        Ok(())
    }
}

/// With the parts that are wanted; `None`: all.
#[derive(Clone, Copy)]
struct Seed<'a>(&'a State, Option<&'a Parts>);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Dynamic;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Dynamic, D::Error> {
        self.0.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Dynamic;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Dynamic, E> {
        Ok(Dynamic::UNIT)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Dynamic, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Dynamic, E> {
        Ok(value.into())
    }

    /// Past i64 the digits stay exact as text.
    fn visit_u64<E: Error>(self, value: u64) -> Result<Dynamic, E> {
        Ok(match i64::try_from(value) {
            Ok(value) => value.into(),
            Err(_) => value.to_string().into(),
        })
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Dynamic, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Dynamic, E> {
        self.0.allow(text)?;
        Ok(ImmutableString::from(text).into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Dynamic, A::Error> {
        let mut array = Array::new();
        while let Some(item) = items.next_element_seed(Self(self.0, None))? {
            array.push(item);
        }
        Ok(Dynamic::from_array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Dynamic, A::Error> {
        let mut map = Map::new();
        if let Some(parts) = self.1 {
            while let Some(key) = entries.next_key_seed(Wanted(parts))? {
                match key {
                    Some((key, part)) => {
                        _ = map.insert(key, entries.next_value_seed(Self(self.0, wanted(part)))?)
                    }
                    None => _ = entries.next_value::<IgnoredAny>()?,
                }
            }
            return Ok(Dynamic::from_map(map));
        }
        while let Some(key) = entries.next_key_seed(KeySeed(self.0))? {
            map.insert(key, entries.next_value_seed(self)?);
        }
        Ok(Dynamic::from_map(map))
    }
}

/// A key and its part, if it is wanted.
struct Wanted<'a>(&'a Parts);

impl<'de, 'a> DeserializeSeed<'de> for Wanted<'a> {
    type Value = Option<(Identifier, &'a Parts)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for Wanted<'a> {
    type Value = Option<(Identifier, &'a Parts)>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(self.0.get(text).map(|part| (text.into(), part)))
    }
}

/// A key, straight into the form that maps keep.
struct KeySeed<'a>(&'a State);

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = Identifier;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Identifier, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed<'_> {
    type Value = Identifier;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Identifier, E> {
        self.0.allow(text)?;
        Ok(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::builtins::ending::with_room;

    #[test]
    fn parts_that_nobody_looks_at_are_passed_over() {
        let text = r#"{"type":"a","data":{"id":1,"other":{"deep":[1,2]},"items":[{"x":1}],"id":2},"rest":[{}]}"#;
        let path = |names: &[&str]| names.iter().map(|name| Box::from(*name)).collect::<Vec<_>>();
        let parts = Parts::below(&path(&["data", "id"]), Parts::default());
        let value = from_json_parts(text, &parts, Limits::NONE).unwrap();
        assert_eq!(super::super::to_json(&value, Limits::NONE).unwrap(), r#"{"data":{"id":2}}"#);
        let parts = Parts::below(&path(&["data", "items", "x"]), Parts::default());
        let value = from_json_parts(text, &parts, Limits::NONE).unwrap();
        assert_eq!(
            super::super::to_json(&value, Limits::NONE).unwrap(),
            r#"{"data":{"items":[{"x":1}]}}"#
        );
    }

    fn read(text: &str) -> Result<Dynamic, ValueError> {
        from_json(text, Limits::NONE)
    }

    fn check(text: &str, expected: &str) {
        let result = read(text).map(|value| super::super::to_debug_text(&value));
        assert_eq!(result.unwrap_or_else(|error| error.to_string()), expected, "{text}");
    }

    #[test]
    fn each_kind_of_json_becomes_its_kind_of_value() {
        check("null", "()");
        check("[true, 1, -1.5, \"x\", {}]", "[true, 1, -1.5, \"x\", #{}]");
        check(r#"{"b":{"c":[]},"a":"\u00e9\ud83d\ude00"}"#, r#"#{"a": "é😀", "b": #{"c": []}}"#);
        check("-0", "0.0");
        check("1E2", "100.0");
        check("9223372036854775807", "9223372036854775807");
        check("-9223372036854775808", "-9223372036854775808");
    }

    #[test]
    fn p5_of_equal_keys_the_last_wins() {
        check(r#"{"a":1,"a":2}"#, r#"#{"a": 2}"#);
    }

    #[test]
    fn p6_an_integer_past_i64_keeps_its_digits() {
        check("18446744073709551615", r#""18446744073709551615""#);
    }

    #[test]
    fn p9_what_is_no_json_says_where() {
        check("[1,]", "not JSON: trailing comma at line 1 column 4");
        check("{} {}", "not JSON: trailing characters at line 1 column 4");
        check("1e400", "not JSON: number out of range at line 1 column 5");
        for text in ["", " ", "NaN", "01", "+1", ".5", "{'a':1}", "/**/1", r#""\ud800""#] {
            assert!(matches!(read(text).unwrap_err().reason, Reason::Syntax(_)), "{text}");
        }
    }

    #[test]
    fn p2_127_levels_are_read_and_128_are_not() {
        let nested = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(read(&nested(127)).is_ok());
        assert_eq!(read(&nested(128)).unwrap_err().reason, Reason::TooDeep(127));
        let maps = |levels| format!("{}0{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
        assert!(read(&maps(127)).is_ok());
        assert_eq!(read(&maps(128)).unwrap_err().reason, Reason::TooDeep(127));
    }

    #[test]
    fn s20_parsing_ends_at_the_script_s_memory_and_at_the_depth() {
        let ones = format!("[{}1]", "1,".repeat(4_000_000));
        let short = with_room(0, || read(&ones));
        assert_eq!(short.unwrap_err().reason, Reason::Memory);
        let text = format!("\"{}\"", "x".repeat(100_000));
        assert_eq!(with_room(50_000, || read(&text)).unwrap_err().reason, Reason::Memory);
        assert!(with_room(150_000, || read(&text)).is_ok());
        assert_eq!(read(&"[".repeat(1_000_000)).unwrap_err().reason, Reason::TooDeep(127));
        let limits = Limits { bytes: 10 };
        assert_eq!(from_json(&ones, limits).unwrap_err().reason, Reason::TooLarge(10));
    }
}
