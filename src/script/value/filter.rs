//! The filters that scripts write, `#{ status: ["a", "b"], at: #{ gte: x, lt: y }, "customer.id": 5 }`, as the store knows them.
//! A map as a test holds operators only; a field inside a field is written with a dot.

use rhai::{Dynamic, Map};
use serde_json::Value;

use super::{Kind, Reason, ValueError, kind, shown, to_plain};
use crate::script::builtins::ending::refused;
use crate::store::filter::{Condition, Filter, Test};

/// Tests in one filter; each is looked at for each document.
const CONDITIONS_MAX: usize = 64;
/// Values that a field may be one of.
const CHOICES_MAX: usize = 1_000;
/// Each operator, in the order in which messages list them.
const OPERATORS: &str = "eq, ne, gt, gte, lt, lte, in, not";

/// A filter that means nothing to the store: the field, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("filter on `{field}`: {problem}")]
pub(crate) struct FilterError {
    /// As the script wrote it.
    pub(crate) field: Box<str>,
    /// What is wrong with its test.
    pub(crate) problem: FilterProblem,
}

/// What can be wrong with one test.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FilterProblem {
    /// Most often a nested map that means a field inside the field.
    #[error(
        "`{0}` is no operator; there are {OPERATORS} (a field inside is written with a dot, as one key)"
    )]
    UnknownOperator(Box<str>),
    /// An empty map.
    #[error("an empty map tests nothing; there are {OPERATORS}")]
    NoOperator,
    /// The operator, and what it was given.
    #[error("`{0}` takes a number or a string, not {1}")]
    NoOrder(&'static str, &'static str),
    /// `in` with something else than an array.
    #[error("`in` takes an array, not {0}")]
    NotAList(&'static str),
    /// `a..b`, or an empty key.
    #[error("a field's name is empty")]
    EmptyName,
    /// This field's tests are one too many.
    #[error("a filter has at most {CONDITIONS_MAX} tests")]
    TooManyConditions,
    /// A list that is too long.
    #[error("one of at most {CHOICES_MAX} values")]
    TooManyChoices,
    /// A value that no document can hold.
    #[error(transparent)]
    Value(#[from] ValueError),
}

impl From<FilterError> for Box<rhai::EvalAltResult> {
    fn from(error: FilterError) -> Self {
        match error.problem {
            FilterProblem::Value(error) if error.reason == Reason::Memory => error.into(),
            _ => refused(&error.to_string()),
        }
    }
}

/// Reads a filter; every test in it must hold.
pub(crate) fn to_filter(map: &Map) -> Result<Filter, FilterError> {
    let mut conditions = Vec::new();
    for (field, value) in map {
        let on_field = |problem| FilterError { field: shown(field).into(), problem };
        let path: Vec<Box<str>> = field.split('.').map(Box::from).collect();
        if path.iter().any(|name| name.is_empty()) {
            return Err(on_field(FilterProblem::EmptyName));
        }
        for test in tests(value).map_err(on_field)? {
            conditions.push(Condition { path: path.clone(), test });
        }
        if conditions.len() > CONDITIONS_MAX {
            return Err(on_field(FilterProblem::TooManyConditions));
        }
    }
    Ok(Filter(conditions))
}

fn tests(value: &Dynamic) -> Result<Vec<Test>, FilterProblem> {
    match kind(value) {
        Kind::Array => Ok(vec![Test::In(choices(value)?)]),
        Kind::Map => {
            let map = value.as_map_ref().map_err(|_| FilterProblem::NoOperator)?;
            if map.is_empty() {
                return Err(FilterProblem::NoOperator);
            }
            map.iter().map(|(name, operand)| test(name, operand)).collect()
        }
        _ => Ok(vec![Test::In(vec![to_plain(value)?])]),
    }
}

fn test(name: &str, operand: &Dynamic) -> Result<Test, FilterProblem> {
    Ok(match name {
        "eq" => Test::In(vec![to_plain(operand)?]),
        "ne" => Test::Not(vec![to_plain(operand)?]),
        "not" if kind(operand) == Kind::Array => Test::Not(choices(operand)?),
        "not" => Test::Not(vec![to_plain(operand)?]),
        "gt" => Test::Greater { than: ordered("gt", operand)?, or_equal: false },
        "gte" => Test::Greater { than: ordered("gte", operand)?, or_equal: true },
        "lt" => Test::Less { than: ordered("lt", operand)?, or_equal: false },
        "lte" => Test::Less { than: ordered("lte", operand)?, or_equal: true },
        "in" => Test::In(choices(operand)?),
        _ => return Err(FilterProblem::UnknownOperator(shown(name).into())),
    })
}

fn choices(operand: &Dynamic) -> Result<Vec<Value>, FilterProblem> {
    match to_plain(operand)? {
        Value::Array(values) if values.len() <= CHOICES_MAX => Ok(values),
        Value::Array(_) => Err(FilterProblem::TooManyChoices),
        _ => Err(FilterProblem::NotAList(kind(operand).words())),
    }
}

fn ordered(operator: &'static str, operand: &Dynamic) -> Result<Value, FilterProblem> {
    match to_plain(operand)? {
        value @ (Value::Number(_) | Value::String(_)) => Ok(value),
        _ => Err(FilterProblem::NoOrder(operator, kind(operand).words())),
    }
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
            r#"{"at":{"gte":5,"lt":9},"status":["a","b"],"customer.id":5,"gone":null,"w":{"not":["a",1]},"x":{"ne":{"a":1}},"y":{"in":[1,2]}}"#,
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
                condition(&["w"], Test::Not(vec![json!("a"), json!(1)])),
                condition(&["x"], Test::Not(vec![json!({"a": 1})])),
                condition(&["y"], Test::In(vec![json!(1), json!(2)])),
            ]
        );
    }

    #[test]
    fn what_means_nothing_is_refused_with_what_there_is() {
        check(
            r#"{"customer":{"id":5}}"#,
            "filter on `customer`: `id` is no operator; there are eq, ne, gt, gte, lt, lte, in, not (a field inside is written with a dot, as one key)",
        );
        check(
            r#"{"a":{}}"#,
            "filter on `a`: an empty map tests nothing; there are eq, ne, gt, gte, lt, lte, in, not",
        );
        check(r#"{"a":{"gt":null}}"#, "filter on `a`: `gt` takes a number or a string, not ()");
        check(r#"{"a":{"in":5}}"#, "filter on `a`: `in` takes an array, not an integer");
        check(r#"{"a..b":5}"#, "filter on `a..b`: a field's name is empty");
        let fields: Vec<_> = (0..65).map(|n| format!(r#""f{n}":1"#)).collect();
        check(
            &format!("{{{}}}", fields.join(",")),
            "filter on `f9`: a filter has at most 64 tests",
        );
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
