//! `/v1/users`.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::super::answer::Answer;
use super::super::ids::Ids;
use super::super::request::Request;
use super::{Clerk, Outcome, Problem, body, deleted, merge, page, set};
use crate::clock::Millis;

/// What may be set of a user.
const FIELDS: [&str; 8] = [
    "external_id",
    "first_name",
    "last_name",
    "username",
    "public_metadata",
    "private_metadata",
    "unsafe_metadata",
    "primary_email_address_id",
];

impl Clerk {
    pub(super) fn users(
        &mut self,
        method: &str,
        path: &[&str],
        request: &Request,
        ids: &mut Ids,
        now: Millis,
    ) -> Outcome {
        match (method, path) {
            ("GET", []) => self.list_users(request),
            ("GET", ["count"]) => {
                let count =
                    self.users.newest_first().filter(|user| is_wanted(user, request)).count();
                Ok(Answer::ok(&json!({ "object": "total_count", "total_count": count })))
            }
            ("POST", []) => self.create_user(&body(request)?, ids, now),
            ("GET", [id]) => Ok(Answer::ok(self.user(id)?)),
            ("PATCH", [id]) => {
                let change = body(request)?;
                self.change_user(id, now, |user| set(user, &change, &FIELDS))
            }
            ("PATCH", [id, "metadata"]) => {
                let change = body(request)?;
                self.change_user(id, now, |user| {
                    for name in ["public_metadata", "private_metadata", "unsafe_metadata"] {
                        merge(&mut user[name], &change[name]);
                    }
                })
            }
            ("POST", [id, "ban"]) => self.change_user(id, now, |user| user["banned"] = true.into()),
            ("POST", [id, "unban"]) => {
                self.change_user(id, now, |user| user["banned"] = false.into())
            }
            ("POST", [id, "lock"]) => {
                self.change_user(id, now, |user| user["locked"] = true.into())
            }
            ("POST", [id, "unlock"]) => {
                self.change_user(id, now, |user| user["locked"] = false.into())
            }
            ("GET", [id, "organization_memberships"]) => {
                self.user(id)?;
                self.memberships_where(request, |membership| {
                    membership["public_user_data"]["user_id"] == *id
                })
            }
            ("DELETE", [id]) => {
                self.users.remove(id).ok_or_else(|| Problem::not_found("user", id))?;
                self.sessions.retain(|session| session["user_id"] != *id);
                self.memberships.retain(|kept| kept["public_user_data"]["user_id"] != *id);
                Ok(deleted("user", id))
            }
            _ => Err(Problem::no_such_path()),
        }
    }

    pub(super) fn user(&self, id: &str) -> Result<&Value, Problem> {
        self.users.get(id).ok_or_else(|| Problem::not_found("user", id))
    }

    fn list_users(&self, request: &Request) -> Outcome {
        let order = request.query("order_by").unwrap_or("-created_at");
        let wanted = self.users.newest_first().filter(|user| is_wanted(user, request));
        let (items, _) = match order {
            "-created_at" => page(wanted, request)?,
            "created_at" | "+created_at" => page(wanted.rev(), request)?,
            _ => return Err(Problem::bad_param("order_by")),
        };
        Ok(Answer::ok(&json!(items)))
    }

    fn create_user(&mut self, given: &Value, ids: &mut Ids, now: Millis) -> Outcome {
        let addresses: Vec<&str> = given["email_address"]
            .as_array()
            .map(|addresses| addresses.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        if addresses.is_empty() {
            return Err(Problem::missing("email_address"));
        }
        if let Some(bad) = addresses.iter().find(|address| !address.contains('@')) {
            let long_message = format!("{bad} is not a valid email address.");
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            let code = "form_param_format_invalid";
            return Err(
                Problem::new(status, code, "is invalid", &long_message).about("email_address")
            );
        }
        if self
            .users
            .newest_first()
            .any(|user| addresses.iter().any(|address| has_address(user, address)))
        {
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            let long_message = "That email address is taken. Please try another.";
            return Err(Problem::new(status, "form_identifier_exists", long_message, long_message)
                .about("email_address"));
        }
        let addresses: Vec<Value> =
            addresses.iter().map(|address| email(&ids.next("idn_", 27), address)).collect();
        let mut user = user(&ids.next("user_", 27), &addresses, now);
        set(&mut user, given, &FIELDS);
        user["password_enabled"] = given["password"].is_string().into();
        self.users.insert(user.clone());
        Ok(Answer::ok(&user))
    }

    fn change_user(&mut self, id: &str, now: Millis, change: impl FnOnce(&mut Value)) -> Outcome {
        let user = self.users.get_mut(id).ok_or_else(|| Problem::not_found("user", id))?;
        change(user);
        user["updated_at"] = now.0.into();
        Ok(Answer::ok(user))
    }
}

/// The user that is there from the start.
pub(super) fn ada(now: Millis) -> Value {
    let mut ada = user("user_ada", &[email("idn_ada", "ada@example.com")], now);
    ada["first_name"] = "Ada".into();
    ada["last_name"] = "Lovelace".into();
    ada
}

fn user(id: &str, addresses: &[Value], now: Millis) -> Value {
    json!({
        "id": id,
        "object": "user",
        "username": null,
        "first_name": null,
        "last_name": null,
        "image_url": "https://img.clerk.com/stand-in",
        "has_image": false,
        "primary_email_address_id": addresses.first().map(|address| &address["id"]),
        "primary_phone_number_id": null,
        "primary_web3_wallet_id": null,
        "password_enabled": false,
        "two_factor_enabled": false,
        "totp_enabled": false,
        "backup_code_enabled": false,
        "email_addresses": addresses,
        "phone_numbers": [],
        "web3_wallets": [],
        "passkeys": [],
        "external_accounts": [],
        "saml_accounts": [],
        "external_id": null,
        "public_metadata": {},
        "private_metadata": {},
        "unsafe_metadata": {},
        "last_sign_in_at": null,
        "last_active_at": null,
        "banned": false,
        "locked": false,
        "delete_self_enabled": true,
        "create_organization_enabled": true,
        "created_at": now.0,
        "updated_at": now.0,
    })
}

fn email(id: &str, address: &str) -> Value {
    json!({
        "id": id,
        "object": "email_address",
        "email_address": address,
        "reserved": false,
        "verification": { "status": "verified", "strategy": "admin", "attempts": null, "expire_at": null },
        "linked_to": [],
    })
}

fn has_address(user: &Value, address: &str) -> bool {
    let addresses = user["email_addresses"].as_array().map(Vec::as_slice).unwrap_or_default();
    addresses.iter().any(|known| known["email_address"] == address)
}

/// Whether the filters of a query have this user: any value of each of them.
fn is_wanted(user: &Value, request: &Request) -> bool {
    let any_of = |name: &str, is_it: &dyn Fn(&str) -> bool| {
        let mut values = request.queries(name).peekable();
        values.peek().is_none() || values.any(is_it)
    };
    any_of("email_address", &|address| has_address(user, address))
        && any_of("user_id", &|id| user["id"] == id)
        && any_of("external_id", &|id| user["external_id"] == id)
        && any_of("username", &|name| user["username"] == name)
        && any_of("query", &|text| {
            let names =
                [&user["id"], &user["first_name"], &user["last_name"], &user["email_addresses"]];
            names
                .iter()
                .any(|value| value.to_string().to_lowercase().contains(&text.to_lowercase()))
        })
}
