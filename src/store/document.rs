//! What one write makes of one document: the rules of `Write`, as pure functions over JSON text. Every store applies these,
//! and a run that reads its own writes does too. Nothing here knows where documents are kept.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Number as JsonNumber, Value};

use super::filter::is_newer;
use super::model::{Json, Number, Write};
use crate::clock::Millis;
use crate::json::Is;

/// A document before or after a write.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content {
    /// Not there, or not any more.
    Absent,
    /// Holds while the time is before `until`; then it is absence.
    Tombstone {
        /// The first moment at which it no longer holds.
        until: Millis,
    },
    /// There.
    Found {
        /// An object, without its id.
        body: Json,
        /// The first moment at which it is absence.
        expires_at: Option<Millis>,
    },
}

/// `if_newer` came out otherwise than the run was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Changed;

impl Content {
    /// The same, where what has run out is absence.
    pub(crate) fn at(self, now: Millis) -> Self {
        match self {
            Self::Tombstone { until } | Self::Found { expires_at: Some(until), .. }
                if until <= now =>
            {
                Self::Absent
            }
            other => other,
        }
    }

    /// What the write makes of it; `None`: it stays as it is. `self` is as of `at(now)`.
    pub(crate) fn after(&self, write: &Write, now: Millis) -> Result<Option<Self>, Changed> {
        match write {
            Write::Put { body, if_newer, expires_at } => {
                let writes = if_newer
                    .as_ref()
                    .is_none_or(|if_newer| self.gives_way_to(body, &if_newer.field));
                if if_newer.as_ref().is_some_and(|if_newer| if_newer.told != writes) {
                    return Err(Changed);
                }
                let put = || Self::Found { body: body.clone(), expires_at: *expires_at };
                Ok(writes.then(|| put().at(now)))
            }
            Write::Delete { tombstone_until: None } => Ok(Some(Self::Absent)),
            Write::Delete { tombstone_until: Some(until) } => {
                Ok(Some(Self::Tombstone { until: *until }.at(now)))
            }
            Write::Increment { field, by } => {
                let (body, expires_at) = match self {
                    Self::Found { body, expires_at } => (Some(body), *expires_at),
                    Self::Absent | Self::Tombstone { .. } => (None, None),
                };
                Ok(Some(Self::Found { body: increment(body, field, *by), expires_at }))
            }
        }
    }

    /// Whether an `if_newer` put of `new`, compared by `field`, writes. A tombstone that holds refuses.
    pub(crate) fn gives_way_to(&self, new: &Json, field: &str) -> bool {
        match self {
            Self::Absent => true,
            Self::Tombstone { .. } => false,
            Self::Found { body: old, .. } => {
                is_newer(top_field(old, field).as_ref(), top_field(new, field).as_ref())
            }
        }
    }
}

/// The body with `by` added to its top-level `field`. The other fields keep their digits.
pub(crate) fn increment(body: Option<&Json>, field: &str, by: Number) -> Json {
    let mut fields: BTreeMap<&str, &RawValue> = BTreeMap::new();
    let parsed: BTreeMap<String, &RawValue>;
    if let Some(body) = body {
        // What is no object is not of `Write::Put`; there is nothing to keep of it.
        parsed = serde_json::from_str(&body.0).unwrap_or_default();
        fields.extend(parsed.iter().map(|(name, value)| (name.as_str(), *value)));
    }
    let old = fields.get(field).and_then(|raw| serde_json::from_str(raw.get()).ok());
    let sum =
        serde_json::value::to_raw_value(&sum(old.as_ref(), by)).expect("a number is always JSON");
    fields.insert(field, &sum);
    let text = serde_json::to_string(&fields).expect("strings and raw JSON are always JSON");
    Json(text.into())
}

fn sum(old: Option<&Value>, by: Number) -> JsonNumber {
    let old = match old {
        None => Number::Integer(0),
        Some(Value::Number(old)) => match (old.as_i64(), old.as_f64()) {
            (Some(integer), _) => Number::Integer(integer),
            (None, float) => Number::Float(float.unwrap_or_default()),
        },
        // Replaced by `by`, also where that is the integer 0.
        Some(_) => return number(by),
    };
    match (old, by) {
        (Number::Integer(old), Number::Integer(by)) => match old.checked_add(by) {
            Some(sum) => sum.into(),
            None => number(Number::Float(old as f64 + by as f64)),
        },
        (old, by) => number(Number::Float(float(old) + float(by))),
    }
}

fn float(number: Number) -> f64 {
    match number {
        Number::Integer(integer) => integer as f64,
        Number::Float(float) => float,
    }
}

/// JSON has no infinity and no NaN: the first becomes the largest number, the second 0.
fn number(number: Number) -> JsonNumber {
    match number {
        Number::Integer(integer) => integer.into(),
        Number::Float(float) => {
            let finite = if float.is_nan() { 0.0 } else { float.clamp(f64::MIN, f64::MAX) };
            JsonNumber::from_f64(finite).unwrap_or_else(|| 0.into())
        }
    }
}

/// One field of an object without building the others: `if_newer` is on the way of most events.
fn top_field(body: &Json, field: &str) -> Option<Value> {
    let mut deserializer = serde_json::Deserializer::from_str(&body.0);
    deserializer.deserialize_map(Pick(field)).ok().flatten()
}

struct Pick<'a>(&'a str);

impl<'de> Visitor<'de> for Pick<'_> {
    type Value = Option<Value>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<Value>, A::Error> {
        let mut found = None;
        while let Some(wanted) = map.next_key_seed(Is(self.0))? {
            if wanted {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::IfNewer;

    const NOW: Millis = Millis(1000);

    fn json(text: &str) -> Json {
        Json(text.into())
    }

    fn check_increment(body: &str, by: Number, expected: &str) {
        let after = increment((!body.is_empty()).then(|| json(body)).as_ref(), "n", by);
        assert_eq!(&*after.0, expected, "{body} + {by:?}");
    }

    #[test]
    fn an_increment_adds_to_numbers_replaces_what_is_none_and_keeps_the_rest_digit_for_digit() {
        let one = Number::Integer(1);
        check_increment("", one, r#"{"n":1}"#);
        check_increment(r#"{"n":41}"#, one, r#"{"n":42}"#);
        check_increment(r#"{"n":0.5}"#, one, r#"{"n":1.5}"#);
        check_increment(r#"{"n":1}"#, Number::Float(0.5), r#"{"n":1.5}"#);
        check_increment(r#"{"n":"text"}"#, one, r#"{"n":1}"#);
        check_increment(r#"{"n":null}"#, one, r#"{"n":1}"#);
        check_increment(r#"{"n":9223372036854775807}"#, one, r#"{"n":9.223372036854776e+18}"#);
        check_increment(
            r#"{"n":1.7e308}"#,
            Number::Float(1.7e308),
            r#"{"n":1.7976931348623157e+308}"#,
        );
        check_increment(r#"{"n":1}"#, Number::Float(f64::NAN), r#"{"n":0.0}"#);
        let long = r#"{"a":123456789012345678901234567890,"n":2,"z":{"y":1.10}}"#;
        check_increment(long, one, r#"{"a":123456789012345678901234567890,"n":3,"z":{"y":1.10}}"#);
        check_increment("[1]", one, r#"{"n":1}"#);
    }

    fn put(body: &str, told: bool) -> Write {
        let if_newer = Some(IfNewer { field: "at".into(), told });
        Write::Put { body: json(body), if_newer, expires_at: None }
    }

    fn found(text: &str) -> Content {
        Content::Found { body: json(text), expires_at: None }
    }

    fn check_newer(before: &Content, body: &str, writes: bool) {
        let after = before.after(&put(body, writes), NOW).expect("as told");
        assert_eq!(after, writes.then(|| found(body)), "{before:?} {body}");
        assert_eq!(before.after(&put(body, !writes), NOW), Err(Changed), "{before:?} {body}");
    }

    #[test]
    fn a_put_with_if_newer_gives_way_and_says_so_when_told_otherwise() {
        check_newer(&Content::Absent, r#"{"at":1}"#, true);
        check_newer(&Content::Tombstone { until: Millis(1001) }, r#"{"at":9}"#, false);
        check_newer(&found(r#"{"at":2}"#), r#"{"at":1}"#, false);
        check_newer(&found(r#"{"at":2}"#), r#"{"at":2}"#, true);
        check_newer(&found(r#"{"b":{"at":9},"at":2}"#), r#"{"x":[1],"at":3}"#, true);
        check_newer(&found(r#"{"at":9,"at":2}"#), r#"{"at":3}"#, true);
        check_newer(&found(r#"{}"#), r#"{"at":1}"#, true);
        check_newer(&found(r#"{"at":2}"#), r#"{"\u0061t":1}"#, false);
    }

    #[test]
    fn a_tombstone_that_has_run_out_is_absence() {
        assert_eq!(Content::Tombstone { until: NOW }.at(NOW), Content::Absent);
        let later = Content::Tombstone { until: Millis(1001) };
        assert_eq!(later.clone().at(NOW), later);
        let delete = Write::Delete { tombstone_until: Some(NOW) };
        assert_eq!(later.after(&delete, NOW), Ok(Some(Content::Absent)));
    }

    #[test]
    fn a_document_that_has_run_out_is_absence_and_an_increment_keeps_when_it_does() {
        let until =
            |expires_at| Content::Found { body: json(r#"{"n":1}"#), expires_at: Some(expires_at) };
        assert_eq!(until(NOW).at(NOW), Content::Absent);
        let later = until(Millis(1001));
        assert_eq!(later.clone().at(NOW), later);
        let add = Write::Increment { field: "n".into(), by: Number::Integer(1) };
        let added = Content::Found { body: json(r#"{"n":2}"#), expires_at: Some(Millis(1001)) };
        assert_eq!(later.after(&add, NOW), Ok(Some(added)));
        let put = |expires_at| Write::Put { body: json("{}"), if_newer: None, expires_at };
        assert_eq!(later.after(&put(None), NOW), Ok(Some(found("{}"))), "a plain put clears it");
        assert_eq!(later.after(&put(Some(NOW)), NOW), Ok(Some(Content::Absent)));
    }
}
