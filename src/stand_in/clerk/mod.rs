//! Clerk: users, organisations, memberships, sessions, and session tokens with the key set that verifies them. Written from
//! <https://clerk.com/docs/reference/backend-api>.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};

use super::Moment;
use super::answer::Answer;
use super::ids::Ids;
use super::objects::Objects;
use super::request::Request;
use crate::clock::Millis;

mod error;
mod keys;
mod organizations;
mod sessions;
mod tokens;
mod users;

use self::error::Problem;
use self::keys::Keys;
use self::tokens::Order;

/// What secret keys begin with.
const KEY_PREFIXES: [&str; 2] = ["sk_test_", "sk_live_"];
/// Objects of one page, and how many where nothing is said.
const PAGE_MAX: usize = 500;
const PAGE: usize = 10;

/// What one operation comes to.
type Outcome = Result<Answer, Problem>;

/// The stand-in for Clerk.
pub(super) struct Clerk {
    /// Its own URL, which its tokens name.
    issuer: String,
    keys: Keys,
    users: Objects,
    organizations: Objects,
    memberships: Objects,
    sessions: Objects,
}

impl Clerk {
    /// With one user, `user_ada`, so that a token can be had at once.
    pub(super) fn new(issuer: &str, now: Millis) -> Self {
        let mut users = Objects::default();
        users.insert(users::ada(now));
        Self {
            issuer: issuer.to_owned(),
            keys: Keys::new(),
            users,
            organizations: Objects::default(),
            memberships: Objects::default(),
            sessions: Objects::default(),
        }
    }

    pub(super) fn answer(&mut self, request: &Request, ids: &mut Ids, moment: &Moment) -> Answer {
        self.dispatch(request, ids, moment.now).unwrap_or_else(|problem| problem.to_answer(ids))
    }

    /// A session token, as the order has it.
    pub(super) fn token(
        &mut self,
        order: &Order,
        ids: &mut Ids,
        now: Millis,
    ) -> Result<Value, String> {
        tokens::issue(&self.keys, &self.issuer, order, ids, now)
    }

    /// Signs with another key from now on; the key set has both, the new one first.
    pub(super) fn rotate(&mut self) -> Value {
        self.keys.rotate();
        json!({ "kid": self.keys.current().id() })
    }

    fn dispatch(&mut self, request: &Request, ids: &mut Ids, now: Millis) -> Outcome {
        let segments = request.segments();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let method = request.method.as_str();
        // The frontend API's, which anybody may ask.
        if (method, segments.as_slice()) == ("GET", &[".well-known", "jwks.json"]) {
            return Ok(Answer::ok(&self.keys.set()));
        }
        authorised(request)?;
        match segments.as_slice() {
            ["v1", "jwks"] if method == "GET" => Ok(Answer::ok(&self.keys.set())),
            ["v1", "users", rest @ ..] => self.users(method, rest, request, ids, now),
            ["v1", "organizations", rest @ ..] => {
                self.organizations(method, rest, request, ids, now)
            }
            ["v1", "sessions", rest @ ..] => self.sessions(method, rest, request, ids, now),
            _ => Err(Problem::no_such_path()),
        }
    }
}

/// An error of this status, in the words that Clerk has for it.
pub(super) fn failure(status: StatusCode, ids: &mut Ids) -> Answer {
    error::general(status).to_answer(ids)
}

/// Too many requests; there is room after `wait`.
pub(super) fn limited(answer: Answer, wait: Duration) -> Answer {
    answer.with("retry-after", &wait.as_secs_f64().ceil().max(1.0).to_string())
}

fn authorised(request: &Request) -> Result<(), Problem> {
    let Some(key) = request.bearer().filter(|key| !key.is_empty()) else {
        return Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "authorization_header_format_invalid",
            "Invalid Authorization header format",
            "Invalid Authorization header format. Must be 'Bearer <YOUR_API_KEY>'",
        ));
    };
    if KEY_PREFIXES.iter().any(|prefix| key.starts_with(prefix)) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::UNAUTHORIZED,
        "clerk_key_invalid",
        "The provided Clerk Secret Key is invalid. Make sure that your Clerk Secret Key is correct.",
        "The provided Clerk Secret Key is invalid. Make sure that your Clerk Secret Key is correct.",
    ))
}

fn body(request: &Request) -> Result<Value, Problem> {
    request.json().ok_or_else(|| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "request_body_invalid",
            "Request body invalid",
            "The request body is invalid. Please consult the API documentation for more information.",
        )
    })
}

/// The part of a list that `limit` and `offset` ask for, and how long the list is.
fn page<'a>(
    all: impl Iterator<Item = &'a Value>,
    request: &Request,
) -> Result<(Vec<&'a Value>, usize), Problem> {
    let number = |name: &str| request.number(name).map_err(|()| Problem::bad_param(name));
    let limit = number("limit")?.unwrap_or(PAGE);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Problem::bad_param("limit"));
    }
    let all: Vec<&Value> = all.collect();
    let count = all.len();
    let items = all.into_iter().skip(number("offset")?.unwrap_or(0)).take(limit).collect();
    Ok((items, count))
}

/// Lays a change over metadata, as Clerk merges it: deep, and null removes.
fn merge(into: &mut Value, change: &Value) {
    let Value::Object(change) = change else { return };
    if !into.is_object() {
        *into = json!({});
    }
    let Value::Object(map) = into else { return };
    for (name, value) in change {
        match value {
            Value::Null => _ = map.remove(name),
            Value::Object(_) => merge(map.entry(name.clone()).or_insert(Value::Null), value),
            other => _ = map.insert(name.clone(), other.clone()),
        }
    }
}

/// Sets the fields of `names` that the change has.
fn set(object: &mut Value, change: &Value, names: &[&str]) {
    for name in names {
        if let Some(value) = change.get(*name) {
            object[*name] = value.clone();
        }
    }
}

fn deleted(object: &str, id: &str) -> Answer {
    Answer::ok(&json!({ "object": object, "id": id, "deleted": true }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_merged_deep_and_null_removes() {
        let mut kept = json!({ "plan": "free", "team": { "id": 1, "role": "admin" } });
        merge(&mut kept, &json!({ "plan": null, "team": { "role": "member" }, "new": [1] }));
        assert_eq!(kept, json!({ "team": { "id": 1, "role": "member" }, "new": [1] }));
    }
}
