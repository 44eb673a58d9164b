//! Nested values as names and texts, `a[b][0]=x`, straight from JSON: no tree is built, and each value costs what its own name and text
//! are long.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::{Arrays, Form, Nulls};

/// Why a value has no form.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PairsError {
    /// Only a map has names.
    #[error("params must be a map")]
    NotAMap,
    /// Long names of many values make more than anybody reads.
    #[error("written as a form it is larger than {0} bytes")]
    TooLarge(usize),
    /// Nothing that we write ourselves.
    #[error("it is not JSON: {0}")]
    Json(serde_json::Error),
}

/// Hands each value of the map in a JSON text over, with its name, as long as all of them together have at most `bytes_max` bytes.
pub(super) fn pairs(
    json: &str,
    form: Form,
    bytes_max: usize,
    take: &mut dyn FnMut(&str, &str),
) -> Result<(), PairsError> {
    if !json.trim_start().starts_with('{') {
        return Err(PairsError::NotAMap);
    }
    let mut writer = Writer { form, name: String::new(), left: Some(bytes_max), take };
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let read = Walk { writer: &mut writer, depth: 0 }.deserialize(&mut deserializer);
    let read = read.and_then(|()| deserializer.end());
    match (writer.left, read) {
        (None, _) => Err(PairsError::TooLarge(bytes_max)),
        (Some(_), read) => read.map_err(PairsError::Json),
    }
}

struct Writer<'w> {
    form: Form,
    /// Of the value that is being read.
    name: String,
    /// `None`: it was too much.
    left: Option<usize>,
    take: &'w mut dyn FnMut(&str, &str),
}

impl Writer<'_> {
    fn pair<E: Error>(&mut self, text: &str) -> Result<(), E> {
        let bytes = self.name.len() + text.len() + "=&".len();
        self.left = self.left.and_then(|left| left.checked_sub(bytes));
        if self.left.is_none() {
            return Err(E::custom("too large"));
        }
        (self.take)(&self.name, text);
        Ok(())
    }
}

struct Walk<'a, 'w> {
    writer: &'a mut Writer<'w>,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Walk<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        match self.writer.form.nulls {
            Nulls::Empty => self.writer.pair(""),
            Nulls::Omitted => Ok(()),
        }
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.writer.pair(if value { "true" } else { "false" })
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.writer.pair(&value.to_string())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.writer.pair(&value.to_string())
    }

    // `2.0` is written `2`: where a form is read, a whole number is what was meant.
    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.writer.pair(&value.to_string())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.writer.pair(value)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { writer, depth } = self;
        let length = writer.name.len();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if depth == 0 {
                writer.name.push_str(&key);
            } else {
                writer.name.extend(["[", &*key, "]"]);
            }
            map.next_value_seed(Walk { writer: &mut *writer, depth: depth + 1 })?;
            writer.name.truncate(length);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Self { writer, depth } = self;
        let length = writer.name.len();
        let mut index = 0_usize;
        loop {
            let item = Item { writer: &mut *writer, depth: depth + 1, index };
            if items.next_element_seed(item)?.is_none() {
                return Ok(());
            }
            writer.name.truncate(length);
            index += 1;
        }
    }
}

/// One element of a list: its name depends on what it is.
struct Item<'a, 'w> {
    writer: &'a mut Writer<'w>,
    depth: usize,
    index: usize,
}

impl Item<'_, '_> {
    fn leaf<E: Error>(self, write: impl FnOnce(Walk<'_, '_>) -> Result<(), E>) -> Result<(), E> {
        let name = &mut self.writer.name;
        match self.writer.form.arrays {
            Arrays::Indexed => name.push_str(&format!("[{}]", self.index)),
            Arrays::Brackets => name.push_str("[]"),
            Arrays::Repeated => {}
        }
        write(Walk { writer: self.writer, depth: self.depth })
    }

    fn nested<E: Error>(self, write: impl FnOnce(Walk<'_, '_>) -> Result<(), E>) -> Result<(), E> {
        self.writer.name.push_str(&format!("[{}]", self.index));
        write(Walk { writer: self.writer, depth: self.depth })
    }
}

impl<'de> DeserializeSeed<'de> for Item<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Item<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.leaf(|walk| walk.visit_unit())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.leaf(|walk| walk.visit_bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.leaf(|walk| walk.visit_i64(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.leaf(|walk| walk.visit_u64(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.leaf(|walk| walk.visit_f64(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.leaf(|walk| walk.visit_str(value))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        self.nested(|walk| walk.visit_map(map))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<(), A::Error> {
        self.nested(|walk| walk.visit_seq(items))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(json: &str, arrays: Arrays, nulls: Nulls) -> Vec<String> {
        let mut pairs_found = Vec::new();
        let mut take = |name: &str, text: &str| pairs_found.push(format!("{name}={text}"));
        pairs(json, Form { arrays, nulls }, 1 << 20, &mut take).unwrap();
        pairs_found
    }

    #[test]
    fn stripes_form_has_brackets_for_maps_places_for_lists_and_nothing_for_null() {
        let json = r#"{"mode":"payment","line_items":[{"price":"p_1","quantity":2},{"price":"p_2"}],
            "metadata":{"order":"é&="},"automatic_tax":{"enabled":true},"tags":["a","b"],"none":[],"x":null,"half":0.5,"two":2.0}"#;
        assert_eq!(
            written(json, Arrays::Indexed, Nulls::Empty),
            [
                "mode=payment",
                "line_items[0][price]=p_1",
                "line_items[0][quantity]=2",
                "line_items[1][price]=p_2",
                "metadata[order]=é&=",
                "automatic_tax[enabled]=true",
                "tags[0]=a",
                "tags[1]=b",
                "x=",
                "half=0.5",
                "two=2",
            ]
        );
    }

    #[test]
    fn lists_are_written_as_the_descriptor_says() {
        let json = r#"{"a":[1,null,"x"],"b":[{"c":[true]}],"d":[[1]]}"#;
        assert_eq!(
            written(json, Arrays::Repeated, Nulls::Omitted),
            ["a=1", "a=x", "b[0][c]=true", "d[0]=1"]
        );
        assert_eq!(
            written(json, Arrays::Brackets, Nulls::Empty),
            ["a[]=1", "a[]=", "a[]=x", "b[0][c][]=true", "d[0][]=1"]
        );
    }

    #[test]
    fn what_is_no_map_or_too_much_is_refused() {
        let form = Form { arrays: Arrays::Indexed, nulls: Nulls::Empty };
        let refused = |json: &str, most| pairs(json, form, most, &mut |_, _| ()).unwrap_err();
        assert!(matches!(refused("[1]", 10), PairsError::NotAMap));
        assert!(matches!(refused("null", 10), PairsError::NotAMap));
        assert!(matches!(refused("{\"a\":", 10), PairsError::Json(_)));
        assert!(matches!(refused("{\"a\":\"0123456789\"}", 10), PairsError::TooLarge(10)));
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(200), "]".repeat(200));
        assert!(matches!(refused(&deep, 1 << 20), PairsError::Json(_)));
    }

    #[test]
    fn a_long_name_over_many_values_ends_at_the_bound_and_not_after_minutes() {
        let json = format!("{{\"{}\":[{}1]}}", "n".repeat(1 << 20), "1,".repeat(1 << 20));
        let mut bytes = 0;
        let form = Form { arrays: Arrays::Repeated, nulls: Nulls::Empty };
        let ended =
            pairs(&json, form, 16 << 20, &mut |name, text| bytes += name.len() + text.len());
        assert!(matches!(ended, Err(PairsError::TooLarge(_))) && bytes <= 16 << 20);
    }

    proptest! {
        #[test]
        fn no_text_brings_it_down(text in "(?s).{0,60}|[{}\\[\\]:,\"a1 -]{0,40}") {
            let form = Form { arrays: Arrays::Brackets, nulls: Nulls::Empty };
            _ = pairs(&text, form, 1000, &mut |_, _| ());
        }
    }
}
