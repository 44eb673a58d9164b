//! `/v1/organizations` and the memberships below them.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::super::answer::Answer;
use super::super::ids::Ids;
use super::super::request::Request;
use super::{Clerk, Outcome, Problem, body, deleted, merge, page, set};
use crate::clock::Millis;

/// What may be set of an organisation.
const FIELDS: [&str; 5] =
    ["name", "slug", "max_allowed_memberships", "public_metadata", "private_metadata"];
/// What each instance has from the start.
const ROLES: [&str; 2] = ["org:admin", "org:member"];

impl Clerk {
    pub(super) fn organizations(
        &mut self,
        method: &str,
        path: &[&str],
        request: &Request,
        ids: &mut Ids,
        now: Millis,
    ) -> Outcome {
        match (method, path) {
            ("GET", []) => {
                let query = request.query("query").unwrap_or_default().to_lowercase();
                let all = self.organizations.newest_first().filter(|organization| {
                    let names = [&organization["id"], &organization["name"], &organization["slug"]];
                    names.iter().any(|name| name.to_string().to_lowercase().contains(&query))
                });
                let (data, total_count) = page(all, request)?;
                Ok(Answer::ok(&json!({ "data": data, "total_count": total_count })))
            }
            ("POST", []) => self.create_organization(&body(request)?, ids, now),
            ("GET", [id]) => Ok(Answer::ok(self.organization(id)?)),
            ("PATCH", [id]) => {
                let change = body(request)?;
                self.change_organization(id, now, |kept| set(kept, &change, &FIELDS))
            }
            ("PATCH", [id, "metadata"]) => {
                let change = body(request)?;
                self.change_organization(id, now, |kept| {
                    for name in ["public_metadata", "private_metadata"] {
                        merge(&mut kept[name], &change[name]);
                    }
                })
            }
            ("DELETE", [id]) => {
                self.organizations.remove(id).ok_or_else(|| not_found(id))?;
                self.memberships.retain(|kept| kept["organization"]["id"] != *id);
                Ok(deleted("organization", id))
            }
            (method, [id, "memberships", rest @ ..]) => {
                self.organization(id)?;
                self.memberships(method, id, rest, request, ids, now)
            }
            _ => Err(Problem::no_such_path()),
        }
    }

    /// The memberships that `is_wanted` picks, a page of them.
    pub(super) fn memberships_where(
        &self,
        request: &Request,
        is_wanted: impl Fn(&Value) -> bool,
    ) -> Outcome {
        let all = self.memberships.newest_first().filter(|membership| is_wanted(membership));
        let (data, total_count) = page(all, request)?;
        Ok(Answer::ok(&json!({ "data": data, "total_count": total_count })))
    }

    fn memberships(
        &mut self,
        method: &str,
        organization: &str,
        path: &[&str],
        request: &Request,
        ids: &mut Ids,
        now: Millis,
    ) -> Outcome {
        match (method, path) {
            ("GET", []) => {
                self.memberships_where(request, |kept| kept["organization"]["id"] == organization)
            }
            ("POST", []) => {
                let given = body(request)?;
                let user = given["user_id"].as_str().ok_or_else(|| Problem::missing("user_id"))?;
                self.add_member(organization, user, role(&given)?, ids, now)
            }
            ("PATCH", [user]) => {
                let given = body(request)?;
                let role = role(&given)?.to_owned();
                let id = self.membership(organization, user)?;
                let kept = self.memberships.get_mut(&id).ok_or_else(|| not_found(&id))?;
                kept["role"] = role.into();
                kept["updated_at"] = now.0.into();
                Ok(Answer::ok(kept))
            }
            ("DELETE", [user]) => {
                let id = self.membership(organization, user)?;
                let gone = self.memberships.remove(&id).ok_or_else(|| not_found(&id))?;
                self.count_members(organization);
                Ok(Answer::ok(&gone))
            }
            _ => Err(Problem::no_such_path()),
        }
    }

    /// By its id, or by its slug.
    fn organization(&self, id: &str) -> Result<&Value, Problem> {
        let by_slug = || self.organizations.newest_first().find(|kept| kept["slug"] == id);
        self.organizations.get(id).or_else(by_slug).ok_or_else(|| not_found(id))
    }

    fn create_organization(&mut self, given: &Value, ids: &mut Ids, now: Millis) -> Outcome {
        let name = given["name"].as_str().ok_or_else(|| Problem::missing("name"))?;
        let slug = match given["slug"].as_str() {
            Some(slug) => slug.to_owned(),
            None => slug_of(name),
        };
        if self.organizations.newest_first().any(|kept| kept["slug"] == *slug) {
            let long_message = "That slug is taken. Please try another.";
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            let code = "form_identifier_exists";
            return Err(Problem::new(status, code, long_message, long_message).about("slug"));
        }
        let creator = given["created_by"].as_str();
        if let Some(creator) = creator {
            self.user(creator)?;
        }
        let id = ids.next("org_", 27);
        let mut organization = json!({
            "object": "organization",
            "id": id,
            "name": name,
            "slug": slug,
            "image_url": "https://img.clerk.com/stand-in",
            "has_image": false,
            "members_count": 0,
            "pending_invitations_count": 0,
            "max_allowed_memberships": 5,
            "admin_delete_enabled": true,
            "public_metadata": {},
            "private_metadata": {},
            "created_by": creator,
            "created_at": now.0,
            "updated_at": now.0,
        });
        set(
            &mut organization,
            given,
            &["max_allowed_memberships", "public_metadata", "private_metadata"],
        );
        self.organizations.insert(organization);
        if let Some(creator) = creator {
            self.add_member(&id, creator, "org:admin", ids, now)?;
        }
        Ok(Answer::ok(self.organization(&id)?))
    }

    fn change_organization(
        &mut self,
        id: &str,
        now: Millis,
        change: impl FnOnce(&mut Value),
    ) -> Outcome {
        let kept = self.organizations.get_mut(id).ok_or_else(|| not_found(id))?;
        change(kept);
        kept["updated_at"] = now.0.into();
        Ok(Answer::ok(kept))
    }

    fn add_member(
        &mut self,
        organization: &str,
        user: &str,
        role: &str,
        ids: &mut Ids,
        now: Millis,
    ) -> Outcome {
        let user = self.user(user)?;
        let id = user["id"].as_str().unwrap_or_default();
        if self.membership(organization, id).is_ok() {
            let message = "already a member";
            let long_message = "The user is already a member of the organization.";
            let status = StatusCode::BAD_REQUEST;
            return Err(Problem::new(
                status,
                "already_a_member_in_organization",
                message,
                long_message,
            ));
        }
        let membership = json!({
            "object": "organization_membership",
            "id": ids.next("orgmem_", 27),
            "role": role,
            "permissions": [],
            "public_metadata": {},
            "private_metadata": {},
            "organization": self.organization(organization)?,
            "public_user_data": {
                "user_id": user["id"],
                "first_name": user["first_name"],
                "last_name": user["last_name"],
                "image_url": user["image_url"],
                "has_image": user["has_image"],
                "identifier": user["email_addresses"][0]["email_address"],
            },
            "created_at": now.0,
            "updated_at": now.0,
        });
        self.memberships.insert(membership.clone());
        self.count_members(organization);
        Ok(Answer::ok(&membership))
    }

    /// The id of one user's membership.
    fn membership(&self, organization: &str, user: &str) -> Result<String, Problem> {
        let found = self.memberships.newest_first().find(|kept| {
            kept["organization"]["id"] == organization
                && kept["public_user_data"]["user_id"] == user
        });
        let id = found.and_then(|kept| kept["id"].as_str());
        id.map(str::to_owned).ok_or_else(|| Problem::not_found("organization membership", user))
    }

    fn count_members(&mut self, organization: &str) {
        let members = self
            .memberships
            .newest_first()
            .filter(|kept| kept["organization"]["id"] == organization);
        let count = members.count();
        if let Some(kept) = self.organizations.get_mut(organization) {
            kept["members_count"] = count.into();
        }
    }
}

fn role(given: &Value) -> Result<&str, Problem> {
    let role = given["role"].as_str().ok_or_else(|| Problem::missing("role"))?;
    if ROLES.contains(&role) { Ok(role) } else { Err(Problem::bad_param("role")) }
}

fn slug_of(name: &str) -> String {
    let letters = name.to_lowercase();
    let words = letters.split(|letter: char| !letter.is_alphanumeric());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-")
}

fn not_found(id: &str) -> Problem {
    Problem::not_found("organization", id)
}
