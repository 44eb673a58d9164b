//! One part of a text, as it is written there: what a pointer names. Of equal keys the last one wins. It builds no tree and copies nothing.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::scan::is_index;
use super::{Is, Pointer};

/// The part of a text, which `scan` has checked, that a pointer names; `None` where there is nothing.
pub(crate) fn part<'a>(text: &'a str, pointer: &Pointer) -> Option<&'a str> {
    pointer.names().iter().try_fold(text, |text, name| {
        Member(name).deserialize(&mut serde_json::Deserializer::from_str(text)).ok()?
    })
}

/// The value of one name in an object, or at one index of an array.
struct Member<'n>(&'n str);

impl<'a> DeserializeSeed<'a> for Member<'_> {
    type Value = Option<&'a str>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Member<'_> {
    type Value = Option<&'a str>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array or an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_it) = map.next_key_seed(Is(self.0))? {
            if is_it {
                found = Some(map.next_value::<&RawValue>()?.get());
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        for index in 0_usize.. {
            if is_index(self.0, index) {
                found = seq.next_element::<&RawValue>()?.map(RawValue::get);
            } else if seq.next_element::<IgnoredAny>()?.is_none() {
                break;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_equal_keys_is_named_with_all_that_is_under_it() {
        let check = |text: &str, pointer: &str, expected: Option<&str>| {
            assert_eq!(part(text, &pointer.parse().unwrap()), expected, "{text} {pointer}");
        };
        check(r#"{"a":1}"#, "", Some(r#"{"a":1}"#));
        check(r#"{"a": {"b" : [ 1 ] } }"#, "/a", Some(r#"{"b" : [ 1 ] }"#));
        check(r#"{"a":{"b":1},"a":{"b":2}}"#, "/a/b", Some("2"));
        check(r#"{"a":{"b":1},"a":{}}"#, "/a/b", None);
        check(r#"{"a":{"b":1},"a":7}"#, "/a/b", None);
        check(r#"{"\u0061":1}"#, "/a", Some("1"));
        check(r#"{"a/b":{"~":true}}"#, "/a~1b/~0", Some("true"));
        check(r#"[10,[20,"x"]]"#, "/1/1", Some(r#""x""#));
        check("[10]", "/1", None);
        check("[10]", "/00", None);
        check("[10]", "/-", None);
        check(r#"{"0":1}"#, "/0", Some("1"));
        check("7", "/a", None);
        check(r#"{"a":null}"#, "/a", Some("null"));
    }
}
