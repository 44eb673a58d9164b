//! `/v1/sessions`, and the tokens of one.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::super::answer::Answer;
use super::super::ids::Ids;
use super::super::request::Request;
use super::tokens::{self, Order};
use super::{Clerk, Outcome, Problem, body, page};
use crate::clock::Millis;

/// A session ends after a week, and is abandoned after a month, in milliseconds.
const LIFE: i64 = 7 * 24 * 3_600_000;
const ABANDONED: i64 = 30 * 24 * 3_600_000;

impl Clerk {
    pub(super) fn sessions(
        &mut self,
        method: &str,
        path: &[&str],
        request: &Request,
        ids: &mut Ids,
        now: Millis,
    ) -> Outcome {
        match (method, path) {
            ("GET", []) => {
                let is_wanted = |session: &&Value| {
                    ["user_id", "client_id", "status"]
                        .into_iter()
                        .all(|name| request.query(name).is_none_or(|value| session[name] == value))
                };
                let (items, _) = page(self.sessions.newest_first().filter(is_wanted), request)?;
                Ok(Answer::ok(&json!(items)))
            }
            ("POST", []) => {
                let given = body(request)?;
                let user = given["user_id"].as_str().ok_or_else(|| Problem::missing("user_id"))?;
                self.user(user)?;
                let session = session(user, ids, now);
                self.sessions.insert(session.clone());
                Ok(Answer::ok(&session))
            }
            ("GET", [id]) => Ok(Answer::ok(self.session(id)?)),
            ("POST", [id, "revoke"]) => {
                let session = self.sessions.get_mut(id).ok_or_else(|| not_found(id))?;
                session["status"] = "revoked".into();
                session["updated_at"] = now.0.into();
                Ok(Answer::ok(session))
            }
            ("POST", [id, "tokens"]) => self.session_token(id, ids, now),
            ("POST", [id, "tokens", _template]) => self.session_token(id, ids, now),
            _ => Err(Problem::no_such_path()),
        }
    }

    fn session(&self, id: &str) -> Result<&Value, Problem> {
        self.sessions.get(id).ok_or_else(|| not_found(id))
    }

    fn session_token(&mut self, id: &str, ids: &mut Ids, now: Millis) -> Outcome {
        let session = self.session(id)?;
        if session["status"] != "active" {
            let message = "Session is not active";
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            return Err(Problem::new(status, "session_not_active", message, message));
        }
        let order = Order::for_session(&session["user_id"], id);
        let issued = tokens::issue(&self.keys, &self.issuer, &order, ids, now);
        let issued = issued.map_err(|why| {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_clerk_error", &why, &why)
        })?;
        Ok(Answer::ok(&json!({ "object": "token", "jwt": issued["token"] })))
    }
}

fn session(user: &str, ids: &mut Ids, now: Millis) -> Value {
    json!({
        "object": "session",
        "id": ids.next("sess_", 27),
        "user_id": user,
        "client_id": ids.next("client_", 27),
        "status": "active",
        "actor": null,
        "last_active_organization_id": null,
        "last_active_at": now.0,
        "expire_at": now.0 + LIFE,
        "abandon_at": now.0 + ABANDONED,
        "created_at": now.0,
        "updated_at": now.0,
    })
}

fn not_found(id: &str) -> Problem {
    Problem::not_found("session", id)
}
