//! Which documents `find` and `count` mean: one set of rules, evaluated by every store in the same way.
//! A filter is a list of conditions that all must hold; a document that is not valid JSON matches nothing.

use std::cmp::Ordering;

use serde_json::Value;

use super::model::Json;
use super::order::compare_numbers;

/// All conditions must hold. None: every document.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Filter(pub(crate) Vec<Condition>);

/// One field and what must be true of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Condition {
    /// Field names from the top level down.
    pub(crate) path: Vec<Box<str>>,
    /// What its value must be.
    pub(crate) test: Test,
}

/// What must be true of a field. An absent field is `null`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Test {
    /// Equal to one of these; numbers by value, so 1 is 1.0.
    In(Vec<Value>),
    /// Equal to none of these.
    Not(Vec<Value>),
    /// Ordered comparisons hold only between two numbers or two strings (by bytes).
    Greater {
        /// The bound.
        than: Value,
        /// Whether the bound itself will do.
        or_equal: bool,
    },
    /// As `Greater`, the other way.
    Less {
        /// The bound.
        than: Value,
        /// Whether the bound itself will do.
        or_equal: bool,
    },
}

impl Filter {
    /// Whether a stored document is meant.
    pub(crate) fn matches(&self, body: &Json) -> bool {
        self.0.is_empty()
            || serde_json::from_str::<Value>(&body.0).is_ok_and(|value| self.matches_value(&value))
    }

    /// The same, of one that is parsed.
    pub(crate) fn matches_value(&self, document: &Value) -> bool {
        self.0.iter().all(|condition| condition.holds(document))
    }
}

impl Condition {
    fn holds(&self, document: &Value) -> bool {
        let field = self
            .path
            .iter()
            .try_fold(document, |value, name| value.get(name.as_ref()))
            .unwrap_or(&Value::Null);
        match &self.test {
            Test::In(wanted) => wanted.iter().any(|wanted| equal(field, wanted)),
            Test::Not(unwanted) => !unwanted.iter().any(|unwanted| equal(field, unwanted)),
            Test::Greater { than, or_equal } => match compare(field, than) {
                Some(Ordering::Greater) => true,
                Some(Ordering::Equal) => *or_equal,
                Some(Ordering::Less) | None => false,
            },
            Test::Less { than, or_equal } => match compare(field, than) {
                Some(Ordering::Less) => true,
                Some(Ordering::Equal) => *or_equal,
                Some(Ordering::Greater) | None => false,
            },
        }
    }
}

/// Whether `new` may replace `old` under `if_newer`: equal or absent (in either) writes, and so do two that cannot be compared.
pub(crate) fn is_newer(old: Option<&Value>, new: Option<&Value>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => compare(new, old) != Some(Ordering::Less),
        _ => true,
    }
}

fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(_), Value::Number(_)) => compare(left, right) == Some(Ordering::Equal),
        _ => left == right,
    }
}

/// Numbers by value, strings by bytes; anything else has no order.
pub(crate) fn compare(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => Some(compare_numbers(left, right)),
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(test: Test, document: &Value, expected: bool) {
        let condition = Condition { path: vec!["a".into(), "b".into()], test };
        assert_eq!(condition.holds(document), expected, "{condition:?} on {document}");
    }

    #[test]
    fn equality_is_by_value_and_an_absent_field_is_null() {
        let document = json!({ "a": { "b": 1 } });
        check(Test::In(vec![json!(1.0)]), &document, true);
        check(Test::In(vec![json!("1")]), &document, false);
        check(Test::In(vec![json!(2), json!(1)]), &document, true);
        check(Test::In(vec![Value::Null]), &json!({}), true);
        check(Test::Not(vec![json!(1)]), &document, false);
        check(Test::Not(vec![json!(2), json!(1.0)]), &document, false);
        check(Test::Not(vec![]), &document, true);
        check(Test::Not(vec![json!(1)]), &json!({ "a": 5 }), true);
    }

    #[test]
    fn order_holds_between_numbers_and_between_strings_only() {
        let above = |than: Value| Test::Greater { than, or_equal: false };
        check(above(json!(0.5)), &json!({ "a": { "b": 1 } }), true);
        check(above(json!(1)), &json!({ "a": { "b": 1 } }), false);
        check(Test::Greater { than: json!(1), or_equal: true }, &json!({ "a": { "b": 1 } }), true);
        check(above(json!("a")), &json!({ "a": { "b": "b" } }), true);
        check(above(json!("a")), &json!({ "a": { "b": 9 } }), false);
        check(Test::Less { than: json!(9), or_equal: false }, &json!({}), false);
        // Exactly: as floats the two are one.
        let large = json!({ "a": { "b": 9_007_199_254_740_993_i64 } });
        check(above(json!(9_007_199_254_740_992.0)), &large, true);
    }

    #[test]
    fn newer_writes_and_so_does_what_is_equal_or_absent() {
        assert!(is_newer(Some(&json!(1)), Some(&json!(2))));
        assert!(is_newer(Some(&json!(2)), Some(&json!(2))));
        assert!(!is_newer(Some(&json!(3)), Some(&json!(2))));
        assert!(!is_newer(Some(&json!("2026-02")), Some(&json!("2026-01"))));
        assert!(is_newer(None, Some(&json!(2))) && is_newer(Some(&json!(2)), None));
        assert!(is_newer(Some(&json!("x")), Some(&json!(2))));
    }
}
