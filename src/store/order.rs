//! The order of documents by one of their fields, as bytes that compare as the values do: absent and `null`, then numbers by value, then
//! strings by bytes, then `false` and `true`, then everything else, which counts as equal. One order for `order_by`, for the model and for what an
//! index holds; nothing here knows where documents are kept.

use std::cmp::Ordering;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};

use super::model::Json;
use crate::json::Is;

/// Bytes of a string that an index holds. Longer ones that begin alike share an entry's value, and are told apart by their documents.
const TEXT_MAX: usize = 512;

const NULL: u8 = 0;
const NUMBER: u8 = 1;
const TEXT: u8 = 2;
const FLAG: u8 = 3;
const OTHER: u8 = 4;

/// By which field, and in which direction. Descending is ascending read backwards, ids of equals included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// Field names from the top level down.
    pub(crate) path: Vec<Box<str>>,
    /// The largest first.
    pub(crate) descending: bool,
}

impl Order {
    /// `created_at`, `-created_at`, `customer.id`; `None` where a name is empty.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (descending, field) = match text.strip_prefix('-') {
            Some(field) => (true, field),
            None => (false, text),
        };
        Some(Self { path: path(field)?, descending })
    }
}

/// The names in `customer.id`; `None` where one is empty.
pub(crate) fn path(field: &str) -> Option<Vec<Box<str>>> {
    let path: Vec<Box<str>> = field.split('.').map(Box::from).collect();
    (!path.iter().any(|name| name.is_empty())).then_some(path)
}

/// The value of a field, as bytes in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key(Vec<u8>);

impl Key {
    /// Of a value.
    pub(crate) fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::null(),
            Value::Bool(flag) => Self::flag(*flag),
            Value::Number(number) => Self::number(number),
            Value::String(text) => Self::text(text),
            Value::Array(_) | Value::Object(_) => Self(vec![OTHER]),
        }
    }

    /// Of a field of a document; nothing is built but the field.
    pub(crate) fn in_document(Json(body): &Json, path: &[Box<str>]) -> Self {
        let mut deserializer = serde_json::Deserializer::from_str(body);
        Descend(path).deserialize(&mut deserializer).unwrap_or_else(|_| Self::null())
    }

    /// What an index holds of it.
    pub(crate) fn indexed(&self) -> &[u8] {
        self.0.get(..=TEXT_MAX).unwrap_or(&self.0)
    }

    fn null() -> Self {
        Self(vec![NULL])
    }

    fn flag(flag: bool) -> Self {
        Self(vec![FLAG, flag.into()])
    }

    fn text(text: &str) -> Self {
        let mut bytes = Vec::with_capacity(1 + text.len());
        bytes.push(TEXT);
        bytes.extend_from_slice(text.as_bytes());
        Self(bytes)
    }

    fn number(number: &Number) -> Self {
        let mut bytes = Vec::with_capacity(1 + NUMBER_BYTES);
        bytes.push(NUMBER);
        bytes.extend_from_slice(&number_bytes(number));
        Self(bytes)
    }
}

/// Whether documents that share this value of an index may differ in the field itself.
pub(crate) fn is_cut(indexed: &[u8]) -> bool {
    indexed.len() > TEXT_MAX
}

/// Every value of an index that a number, or a string, can have: from the first, and before the second.
pub(crate) fn kind_of(key: &Key) -> Option<(Vec<u8>, Vec<u8>)> {
    match key.0.first()? {
        &kind @ (NUMBER | TEXT) => Some((vec![kind], vec![kind + 1])),
        _ => None,
    }
}

const NUMBER_BYTES: usize = 10;

/// The nearest float, and how far the number is from it: integers of 64 bits keep all their digits, and 1 is 1.0.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the float is a whole number of at most 65 bits"
)]
fn number_bytes(number: &Number) -> [u8; NUMBER_BYTES] {
    let integer =
        number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from)).unwrap_or(0);
    let is_integer = !number.is_f64();
    let float = if is_integer { integer as f64 } else { number.as_f64().unwrap_or_default() };
    let rest = if is_integer { integer - float as i128 } else { 0 };
    // Adding 0.0 makes one zero of two.
    let bits = (float + 0.0).to_bits();
    let ordered = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    // Integers of 64 bits are at most 1,024 from a float.
    let rest = i16::try_from(rest).unwrap_or(0).cast_unsigned() ^ 0x8000;
    let mut bytes = [0; NUMBER_BYTES];
    bytes[..8].copy_from_slice(&ordered.to_be_bytes());
    bytes[8..].copy_from_slice(&rest.to_be_bytes());
    bytes
}

/// By value, exactly.
pub(crate) fn compare_numbers(left: &Number, right: &Number) -> Ordering {
    number_bytes(left).cmp(&number_bytes(right))
}

/// Where a document stands in an order. Without an order the key is the same for all, and the id decides.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    /// Of the field that orders.
    pub(crate) key: Key,
    /// Decides between equals.
    pub(crate) id: Box<str>,
}

impl Rank {
    /// Where there is no order but that of ids.
    pub(crate) fn of_id(id: &str) -> Self {
        Self { key: Key::default(), id: id.into() }
    }

    /// Of a document.
    pub(crate) fn of(order: Option<&Order>, id: &str, body: &Json) -> Self {
        let key = order.map(|order| Key::in_document(body, &order.path)).unwrap_or_default();
        Self { key, id: id.into() }
    }

    /// Which stands first.
    pub(crate) fn compare(&self, other: &Self, order: Option<&Order>) -> Ordering {
        if order.is_some_and(|order| order.descending) { other.cmp(self) } else { self.cmp(other) }
    }
}

/// Goes down a path and makes the key of what is there.
struct Descend<'p>(&'p [Box<str>]);

impl Descend<'_> {
    fn found(&self, key: impl FnOnce() -> Key) -> Key {
        if self.0.is_empty() { key() } else { Key::null() }
    }
}

impl<'de> DeserializeSeed<'de> for Descend<'_> {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Descend<'_> {
    type Value = Key;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Key, E> {
        Ok(Key::null())
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Key, E> {
        Ok(self.found(|| Key::flag(flag)))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Key, E> {
        Ok(self.found(|| Key::number(&number.into())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Key, E> {
        Ok(self.found(|| Key::number(&number.into())))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Key, E> {
        Ok(self.found(|| Number::from_f64(number).map_or_else(Key::null, |n| Key::number(&n))))
    }

    fn visit_str<E>(self, text: &str) -> Result<Key, E> {
        Ok(self.found(|| Key::text(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Key, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(self.found(|| Key(vec![OTHER])))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Key, A::Error> {
        let Some((first, rest)) = self.0.split_first() else {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(Key(vec![OTHER]));
        };
        let mut key = Key::null();
        while let Some(wanted) = map.next_key_seed(Is(first))? {
            if wanted {
                key = map.next_value_seed(Descend(rest))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn values_stand_in_the_order_that_is_promised() {
        let sorted = [
            json!(null),
            json!(-1e308),
            json!(i64::MIN),
            json!(-1.5),
            json!(-1),
            json!(0),
            json!(5e-324),
            json!(1),
            json!(1.5),
            json!(9_007_199_254_740_992_i64),
            json!(9_007_199_254_740_993_i64),
            json!(i64::MAX - 1),
            json!(i64::MAX),
            json!(9.3e18),
            json!(u64::MAX),
            json!(1e308),
            json!(""),
            json!("1"),
            json!("B"),
            json!("a"),
            json!("aa"),
            json!("é"),
            json!(false),
            json!(true),
            json!([1]),
        ];
        for pair in sorted.windows(2) {
            assert!(Key::of(&pair[0]) < Key::of(&pair[1]), "{pair:?}");
        }
        let equal = [
            (json!(1), json!(1.0)),
            (json!(0), json!(-0.0)),
            (json!([]), json!({ "a": 1 })),
            (json!(9_223_372_036_854_775_808_u64), json!(9_223_372_036_854_775_808.0)),
        ];
        for (left, right) in equal {
            assert_eq!(Key::of(&left), Key::of(&right), "{left} {right}");
        }
    }

    #[test]
    fn a_field_is_found_below_others_and_what_has_no_such_field_is_null() {
        let key = |body: &str, field: &str| {
            Key::in_document(&Json(body.into()), &path(field).expect("names"))
        };
        let body = r#"{"a":{"b":[1],"c":{"d":"x"}},"e":5,"\u0066":true}"#;
        assert_eq!(key(body, "a.c.d"), Key::of(&json!("x")));
        assert_eq!(key(body, "e"), Key::of(&json!(5)));
        assert_eq!(key(body, "f"), Key::of(&json!(true)));
        assert_eq!(key(body, "a"), Key::of(&json!({})));
        assert_eq!(key(body, "a.b"), Key::of(&json!([])));
        for absent in ["x", "a.x", "e.x", "a.b.x", "a.c.d.x"] {
            assert_eq!(key(body, absent), Key::of(&json!(null)), "{absent}");
        }
        assert_eq!(key("no JSON", "a"), Key::of(&json!(null)));
    }

    #[test]
    fn an_order_is_a_field_and_perhaps_a_minus() {
        let order = |text| Order::parse(text).map(|order| (order.path.join("/"), order.descending));
        assert_eq!(order("at"), Some(("at".to_owned(), false)));
        assert_eq!(order("-a.b"), Some(("a/b".to_owned(), true)));
        for nothing in ["", "-", "a..b", ".a", "a."] {
            assert_eq!(order(nothing), None, "{nothing}");
        }
    }

    proptest! {
        #[test]
        fn integers_and_floats_compare_as_their_exact_values_do(left in any::<i64>(), right in any::<i64>(), float in -1e19..1e19_f64) {
            let key = |value: &Value| Key::of(value);
            prop_assert_eq!(key(&json!(left)).cmp(&key(&json!(right))), left.cmp(&right));
            // Where the float is whole, the comparison of whole numbers decides.
            let whole = float.trunc();
            let expected = i128::from(left).cmp(&format!("{whole:.0}").parse::<i128>().unwrap());
            prop_assert_eq!(key(&json!(left)).cmp(&key(&json!(whole))), expected);
        }

        #[test]
        fn what_an_index_holds_never_turns_the_order_around(left in ".{0,600}", right in ".{0,600}") {
            let (left, right) = (Key::of(&json!(left)), Key::of(&json!(right)));
            if left.indexed() < right.indexed() {
                prop_assert!(left < right);
            }
            prop_assert_eq!(is_cut(left.indexed()) , left.0.len() > TEXT_MAX);
        }
    }
}
