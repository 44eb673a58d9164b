//! Each provider's API as its published reference shows it: what a call of an operation sends, and what a script gets of recorded answers and errors.
//! The rows stand in clerk.json, stripe.json and openai.json beside this file; one asks the real binary, whose provider is an upstream that answers
//! with what is recorded.
//!
//! A row has `call`, an expression of a script; `sent`, what has to go out (`line`, and `body` as it is, or as JSON where it is no text); the recorded
//! `status`, `headers` and `answer`; and `gives`, what the script has to get, or `throws`, each as much of it as matters. A list of answers is given one
//! after the other.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::upstream::{Asked, Upstream, answer};
use crate::support::{Project, Rhaiway};

/// What the upstream has yet to answer.
type Recorded = Arc<Mutex<Vec<Vec<u8>>>>;

struct Replayed {
    upstream: Upstream,
    recorded: Recorded,
    rhaiway: Rhaiway,
    _project: Project,
}

fn rows(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/conformance/{name}.json"));
    let text = fs::read_to_string(&path).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A script with a route for each row.
fn script(rows: &[Value]) -> String {
    let route = |(index, row): (usize, &Value)| {
        let call = row["call"].as_str().expect("a call");
        format!(
            "get(\"/row/{index}\", #{{ auth: \"none\" }}, |req| {{\n    try {{ let given = {call}; return #{{ gives: given }}; }} catch (err) {{ return #{{ throws: err }}; }}\n}});\n"
        )
    };
    let all = "fn all(list) { let ids = []; for item in list { ids.push(item.id); } ids }\n";
    all.to_owned() + &rows.iter().enumerate().map(route).collect::<String>()
}

/// `base` is the path that the provider's own SDK has in its base URL.
fn replayed(name: &str, base: &str, rows: &[Value]) -> Replayed {
    let recorded = Recorded::default();
    let answers = Arc::clone(&recorded);
    let upstream = Upstream::serving(move |_asked| {
        let mut answers = answers.lock().unwrap();
        if answers.is_empty() { answer("501 Not Recorded", &[], b"") } else { answers.remove(0) }
    });
    let config = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[providers.{name}]\nkind = \"{name}\"\nbase_url = \"{}{base}\"\napi_key_env = \"KEY\"\nretry = {{ max = 0, base = \"1s\" }}\nrate_limit = \"1000/s\"\n",
        upstream.url()
    );
    let project = Project::with_config(&config, &script(rows));
    project.write(".dev.vars", "KEY=sk_test_conformance\n");
    let (_, said) = project.expect(0, &["check"]);
    assert!(said.contains("0 errors, 0 warnings"), "{said}");
    let rhaiway = project.start();
    Replayed { upstream, recorded, rhaiway, _project: project }
}

/// The bytes of what is recorded.
fn recorded(row: &Value, body: &Value) -> Vec<u8> {
    let status = row["status"].as_u64().unwrap_or(200);
    let mut headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    for (name, value) in row["headers"].as_object().into_iter().flatten() {
        headers.retain(|(known, _)| known != name);
        headers.push((name.clone(), value.as_str().unwrap().to_owned()));
    }
    let headers: Vec<(&str, &str)> =
        headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let body = match body {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    answer(&format!("{status} Recorded"), &headers, body.as_bytes())
}

/// Whether everything that is expected is there.
fn holds(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => expected
            .iter()
            .all(|(name, value)| holds(value, found.get(name).unwrap_or(&Value::Null))),
        (Value::Array(expected), Value::Array(found)) => {
            expected.len() == found.len()
                && expected.iter().zip(found).all(|(expected, found)| holds(expected, found))
        }
        _ => expected == found,
    }
}

fn sent(row: &Value, asked: &Asked) -> Result<(), String> {
    let line = format!("{} {}", asked.method, asked.path);
    if row["sent"]["line"] != json!(line) {
        return Err(format!("it asked {line}"));
    }
    let body = String::from_utf8_lossy(&asked.body);
    let is_right = match &row["sent"]["body"] {
        Value::Null => body.is_empty(),
        Value::String(text) => *text == body,
        Value::Array(parts) => parts.iter().all(|part| body.contains(part.as_str().unwrap())),
        json => serde_json::from_str::<Value>(&body).is_ok_and(|found| found == *json),
    };
    if !is_right {
        return Err(format!("it sent {body}"));
    }
    for (name, value) in row["sent"]["headers"].as_object().into_iter().flatten() {
        let found = asked.header(name);
        let is_right = match value {
            Value::Bool(is_there) => found.is_some() == *is_there,
            other => found == other.as_str(),
        };
        if !is_right {
            return Err(format!("its header {name} is {found:?}"));
        }
    }
    let key = asked.header("authorization");
    if key == Some("Bearer sk_test_conformance") {
        Ok(())
    } else {
        Err(format!("its key is {key:?}"))
    }
}

fn check(name: &str, base: &str) {
    let rows = rows(name);
    let replayed = replayed(name, base, &rows);
    let mut wrong = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let answers = match &row["answers"] {
            Value::Array(several) => several.clone(),
            _ => vec![row["answer"].clone()],
        };
        *replayed.recorded.lock().unwrap() =
            answers.iter().map(|body| recorded(row, body)).collect();
        let before = replayed.upstream.requests().len();
        let answer = replayed.rhaiway.get(&format!("/row/{index}"));
        let found = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        let asked = replayed.upstream.requests().split_off(before);
        let expected = json!({ "gives": row["gives"], "throws": row["throws"] });
        let call = &row["call"];
        if asked.len() != answers.len() {
            wrong.push(format!("{call}: {} requests, {found}", asked.len()));
        } else if let Err(why) = sent(row, &asked[0]) {
            wrong.push(format!("{call}: {why}"));
        } else if !holds(&expected, &found) {
            wrong.push(format!("{call}: it gives {found}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

#[test]
fn clerk_is_called_and_understood_as_its_reference_says() {
    check("clerk", "");
}

#[test]
fn stripe_is_called_and_understood_as_its_reference_says() {
    check("stripe", "");
}

#[test]
fn openai_is_called_and_understood_as_its_reference_says() {
    check("openai", "/v1");
}
