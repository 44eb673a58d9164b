//! Parameters, which come as text: what is a number or a yes, how they change an object, and what `expand` puts in place of an id.

use serde_json::{Map, Value, json};

use super::error::Problem;

/// Names of numbers, wherever they stand.
const INTEGERS: [&str; 15] = [
    "amount",
    "amount_to_capture",
    "balance",
    "billing_cycle_anchor",
    "cancel_at",
    "days_until_due",
    "due_date",
    "expires_at",
    "interval_count",
    "quantity",
    "exp_month",
    "exp_year",
    "trial_end",
    "trial_period_days",
    "unit_amount",
];
/// Names of what is true or false.
const BOOLEANS: [&str; 11] = [
    "active",
    "allow_promotion_codes",
    "auto_advance",
    "cancel_at_period_end",
    "confirm",
    "enabled",
    "off_session",
    "refund_application_fee",
    "reverse_transfer",
    "shippable",
    "invoice_now",
];
/// Ids that one `expand` asks for.
const EXPANDED_MAX: usize = 20;

/// Whether each number is one, and each yes or no.
pub(super) fn check(given: &Value) -> Result<(), Problem> {
    each(given, "", &mut |name, param, text| {
        if INTEGERS.contains(&name) && text.parse::<i64>().is_err() {
            return Err(Problem::bad(format!("Invalid integer: {text}"), Some(param))
                .with_code("parameter_invalid_integer"));
        }
        if BOOLEANS.contains(&name) && !["true", "false"].contains(&text) {
            return Err(Problem::bad(format!("Invalid boolean: {text}"), Some(param)));
        }
        Ok(())
    })
}

/// Looks at each text by its name and by the whole parameter; metadata are text whatever they are called.
fn each(
    given: &Value,
    param: &str,
    look: &mut impl FnMut(&str, &str, &str) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let name = param.rsplit('[').next().unwrap_or_default().trim_end_matches(']');
    match given {
        Value::Object(map) => {
            for (name, value) in map.iter().filter(|(name, _)| *name != "metadata") {
                let param =
                    if param.is_empty() { name.clone() } else { format!("{param}[{name}]") };
                each(value, &param, look)?;
            }
            Ok(())
        }
        Value::Array(list) => list
            .iter()
            .enumerate()
            .try_for_each(|(number, value)| each(value, &format!("{param}[{number}]"), look)),
        Value::String(text) if !text.is_empty() => look(name, param, text),
        _ => Ok(()),
    }
}

/// Sets what the object has a field for. An empty text takes a value away; metadata are merged.
pub(super) fn set(object: &mut Value, given: &Value, template: &Map<String, Value>) {
    let Value::Object(given) = given else { return };
    for (name, value) in given {
        if !template.contains_key(name) {
            continue;
        }
        match (name.as_str(), value) {
            ("metadata", Value::Object(changes)) => merge(&mut object["metadata"], changes),
            ("metadata", _) => object["metadata"] = json!({}),
            (_, Value::String(text)) if text.is_empty() => {
                object[name] = if template[name].is_object() { json!({}) } else { Value::Null };
            }
            (_, Value::Object(changes)) if object[name].is_object() => {
                let typed = typed(name, Value::Object(changes.clone()));
                for (key, value) in typed.as_object().into_iter().flatten() {
                    object[name][key] = value.clone();
                }
            }
            _ => object[name] = typed(name, value.clone()),
        }
    }
}

/// A value as JSON has it: numbers and booleans by their names.
pub(super) fn typed(name: &str, value: Value) -> Value {
    match value {
        Value::String(text) if INTEGERS.contains(&name) => {
            text.parse::<i64>().map_or(Value::String(text), Value::from)
        }
        Value::String(text) if BOOLEANS.contains(&name) => Value::Bool(text == "true"),
        Value::Object(map) if name != "metadata" => {
            map.into_iter().map(|(name, value)| (name.clone(), typed(&name, value))).collect()
        }
        Value::Array(list) => list.into_iter().map(|value| typed(name, value)).collect(),
        other => other,
    }
}

/// Puts objects in place of the ids that `expand` names.
pub(super) fn expand(
    mut answer: Value,
    given: &Value,
    find: impl Fn(&str) -> Option<Value>,
) -> Value {
    let wanted = given["expand"].as_array().map(Vec::as_slice).unwrap_or_default();
    for path in wanted.iter().filter_map(Value::as_str).take(EXPANDED_MAX) {
        let path: Vec<&str> = path.split('.').collect();
        put(&mut answer, &path, &find);
    }
    answer
}

fn put(node: &mut Value, path: &[&str], find: &impl Fn(&str) -> Option<Value>) {
    let Some((name, rest)) = path.split_first() else {
        if let Some(found) = node.as_str().and_then(find) {
            *node = found;
        }
        return;
    };
    match node {
        Value::Array(list) => list.iter_mut().for_each(|item| put(item, path, find)),
        Value::Object(map) => {
            if let Some(value) = map.get_mut(*name) {
                put(value, rest, find);
            }
        }
        _ => {}
    }
}

fn merge(metadata: &mut Value, changes: &Map<String, Value>) {
    for (name, value) in changes {
        match metadata.as_object_mut() {
            Some(map) if value == "" => _ = map.remove(name),
            _ => metadata[name] = value.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_numbers_by_their_names_and_metadata_are_text() {
        let given = json!({
            "amount": "2000",
            "metadata": { "amount": "5", "b": "" },
            "items": [{ "quantity": "2", "price": "7" }],
            "name": "",
            "else": "x",
        });
        let template = json!({ "amount": 0, "metadata": {}, "items": null, "name": null });
        let mut object =
            json!({ "amount": 0, "metadata": { "b": "1" }, "items": null, "name": "Ada" });
        set(&mut object, &given, template.as_object().unwrap());
        let expected = json!({
            "amount": 2000,
            "metadata": { "amount": "5" },
            "items": [{ "quantity": 2, "price": "7" }],
            "name": null,
        });
        assert_eq!(object, expected);
    }

    #[test]
    fn what_is_no_number_is_named_by_its_whole_parameter() {
        check(&json!({ "metadata": { "amount": "x" } })).unwrap();
        let problem = check(&json!({ "items": [{ "quantity": "two" }] })).unwrap_err();
        assert_eq!(problem.message, "Invalid integer: two");
        let answer = format!("{:?}", problem.to_answer());
        assert!(answer.contains("items[0][quantity]"), "{answer}");
    }

    #[test]
    fn expand_follows_lists() {
        let answer = json!({ "data": [{ "customer": "cus_1" }, { "customer": null }] });
        let given = json!({ "expand": ["data.customer", "nothing.there"] });
        let expanded = expand(answer, &given, |id| Some(json!({ "id": id })));
        assert_eq!(
            expanded,
            json!({ "data": [{ "customer": { "id": "cus_1" } }, { "customer": null }] })
        );
    }
}
