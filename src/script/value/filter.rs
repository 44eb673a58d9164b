//! The filters that scripts write, `#{ status: ["a", "b"], at: #{ gte: x, lt: y }, "customer.id": 5 }`, as the store knows them.
//! A map as a test holds operators only; a field inside a field is written with a dot.

use rhai::{Dynamic, Map};
use serde_json::Value;

use super::{Kind, ValueError, kind, to_plain};
use crate::store::filter::{Condition, Filter, Test};

/// Tests in one filter; each is looked at for each document.
const CONDITIONS_MAX: usize = 64;
/// Values that a field may be one of.
const CHOICES_MAX: usize = 1_000;
/// Each operator, in the order in which messages list them.
const OPERATORS: &str = "eq, ne, gt, gte, lt, lte, in";

/// A filter that means nothing to the store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FilterError {
    #[error(
        "filter on `{field}`: `{name}` is no operator; there are {OPERATORS} (a field inside `{field}` is written \"{field}.{name}\")"
    )]
    UnknownOperator { field: Box<str>, name: Box<str> },
    #[error("filter on `{field}`: an empty map tests nothing; there are {OPERATORS}")]
    NoOperator { field: Box<str> },
    #[error("filter on `{field}`: `{operator}` takes a number or a string, not {found}")]
    NoOrder { field: Box<str>, operator: &'static str, found: &'static str },
    #[error("filter on `{field}`: `in` takes an array, not {found}")]
    NotAList { field: Box<str>, found: &'static str },
    #[error("filter on `{field}`: a field's name is empty")]
    EmptyName { field: Box<str> },
    #[error("a filter has at most {CONDITIONS_MAX} tests")]
    TooManyConditions,
    #[error("filter on `{field}`: one of at most {CHOICES_MAX} values")]
    TooManyChoices { field: Box<str> },
    #[error("filter on `{field}`: {error}")]
    Value { field: Box<str>, error: ValueError },
}

impl From<FilterError> for Box<rhai::EvalAltResult> {
    fn from(error: FilterError) -> Self {
        match error {
            FilterError::Value { error, .. } if error.reason == super::Reason::Memory => {
                error.into()
            }
            error => crate::script::builtins::ending::refused(&error.to_string()),
        }
    }
}

/// Reads a filter; every test in it must hold.
pub(crate) fn to_filter(map: &Map) -> Result<Filter, FilterError> {
    let mut conditions = Vec::new();
    for (field, value) in map {
        let path: Vec<Box<str>> = field.split('.').map(Box::from).collect();
        if path.iter().any(|name| name.is_empty()) {
            return Err(FilterError::EmptyName { field: field.as_str().into() });
        }
        for test in tests(field, value)? {
            conditions.push(Condition { path: path.clone(), test });
        }
        if conditions.len() > CONDITIONS_MAX {
            return Err(FilterError::TooManyConditions);
        }
    }
    Ok(Filter(conditions))
}

fn tests(field: &str, value: &Dynamic) -> Result<Vec<Test>, FilterError> {
    match kind(value) {
        Kind::Array => Ok(vec![Test::In(choices(field, value)?)]),
        Kind::Map => {
            let map =
                value.as_map_ref().map_err(|_| FilterError::NoOperator { field: field.into() })?;
            if map.is_empty() {
                return Err(FilterError::NoOperator { field: field.into() });
            }
            map.iter().map(|(name, operand)| test(field, name, operand)).collect()
        }
        _ => Ok(vec![Test::In(vec![plain(field, value)?])]),
    }
}

fn test(field: &str, name: &str, operand: &Dynamic) -> Result<Test, FilterError> {
    Ok(match name {
        "eq" => Test::In(vec![plain(field, operand)?]),
        "ne" => Test::Not(plain(field, operand)?),
        "gt" => Test::Greater { than: ordered(field, "gt", operand)?, or_equal: false },
        "gte" => Test::Greater { than: ordered(field, "gte", operand)?, or_equal: true },
        "lt" => Test::Less { than: ordered(field, "lt", operand)?, or_equal: false },
        "lte" => Test::Less { than: ordered(field, "lte", operand)?, or_equal: true },
        "in" => Test::In(choices(field, operand)?),
        _ => {
            let name = name.chars().take(super::KEY_SHOWN_MAX).collect::<String>().into();
            return Err(FilterError::UnknownOperator { field: field.into(), name });
        }
    })
}

fn choices(field: &str, operand: &Dynamic) -> Result<Vec<Value>, FilterError> {
    match plain(field, operand)? {
        Value::Array(values) if values.len() <= CHOICES_MAX => Ok(values),
        Value::Array(_) => Err(FilterError::TooManyChoices { field: field.into() }),
        _ => Err(FilterError::NotAList { field: field.into(), found: kind(operand).words() }),
    }
}

fn ordered(field: &str, operator: &'static str, operand: &Dynamic) -> Result<Value, FilterError> {
    match plain(field, operand)? {
        value @ (Value::Number(_) | Value::String(_)) => Ok(value),
        _ => {
            let found = kind(operand).words();
            Err(FilterError::NoOrder { field: field.into(), operator, found })
        }
    }
}

fn plain(field: &str, value: &Dynamic) -> Result<Value, FilterError> {
    to_plain(value).map_err(|error| FilterError::Value { field: field.into(), error })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Limits, from_json};
    use super::*;

    fn read(json: &str) -> Result<Filter, FilterError> {
        to_filter(&from_json(json, Limits::NONE).unwrap().cast::<Map>())
    }

    fn check(json: &str, expected: &str) {
        assert_eq!(read(json).unwrap_err().to_string(), expected, "{json}");
    }

    #[test]
    fn every_form_of_a_test_is_read() {
        let filter = read(
            r#"{"at":{"gte":5,"lt":9},"status":["a","b"],"customer.id":5,"gone":null,"x":{"ne":{"a":1}},"y":{"in":[1,2]}}"#,
        );
        let condition = |path: &[&str], test| Condition {
            path: path.iter().map(|name| Box::from(*name)).collect(),
            test,
        };
        assert_eq!(
            filter.unwrap().0,
            [
                condition(&["at"], Test::Greater { than: json!(5), or_equal: true }),
                condition(&["at"], Test::Less { than: json!(9), or_equal: false }),
                condition(&["customer", "id"], Test::In(vec![json!(5)])),
                condition(&["gone"], Test::In(vec![json!(null)])),
                condition(&["status"], Test::In(vec![json!("a"), json!("b")])),
                condition(&["x"], Test::Not(json!({"a": 1}))),
                condition(&["y"], Test::In(vec![json!(1), json!(2)])),
            ]
        );
    }

    #[test]
    fn what_means_nothing_is_refused_with_what_there_is() {
        check(
            r#"{"customer":{"id":5}}"#,
            "filter on `customer`: `id` is no operator; there are eq, ne, gt, gte, lt, lte, in (a field inside `customer` is written \"customer.id\")",
        );
        check(
            r#"{"a":{}}"#,
            "filter on `a`: an empty map tests nothing; there are eq, ne, gt, gte, lt, lte, in",
        );
        check(r#"{"a":{"gt":null}}"#, "filter on `a`: `gt` takes a number or a string, not ()");
        check(r#"{"a":{"in":5}}"#, "filter on `a`: `in` takes an array, not an integer");
        check(r#"{"a..b":5}"#, "filter on `a..b`: a field's name is empty");
        let fields: Vec<_> = (0..65).map(|n| format!(r#""f{n}":1"#)).collect();
        check(&format!("{{{}}}", fields.join(",")), "a filter has at most 64 tests");
        let choices = vec!["1"; 1_001].join(",");
        check(&format!(r#"{{"a":[{choices}]}}"#), "filter on `a`: one of at most 1000 values");
    }

    #[test]
    fn a_function_in_a_filter_is_refused_by_name() {
        let mut map = Map::new();
        map.insert("a".into(), vec![Dynamic::from(rhai::FnPtr::new("f").unwrap())].into());
        assert_eq!(
            to_filter(&map).unwrap_err().to_string(),
            "filter on `a`: `[0]`: a function cannot be JSON"
        );
    }
}
