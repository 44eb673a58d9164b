//! A resource: a row of `resources.json`, and what follows from it for every resource alike.

use hyper::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Context;
use super::error::Problem;
use super::params;

/// Parameters that each operation takes.
const ALWAYS: [&str; 1] = ["expand"];
/// Letters of an id behind its prefix.
const ID_LENGTH: usize = 24;

/// A row.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Resource {
    /// Below `/v1/`.
    pub(super) path: String,
    /// What its objects call themselves.
    pub(super) object: String,
    prefix: String,
    #[serde(default)]
    id_length: Option<usize>,
    /// What its events begin with, where that is not the object's name; `none` where it has none of its own.
    #[serde(default)]
    event: Option<String>,
    verbs: Vec<String>,
    /// What `POST /v1/PATH/ID/ACT` may be.
    #[serde(default)]
    acts: Vec<String>,
    #[serde(default)]
    required: Vec<String>,
    params: Vec<String>,
    /// What a list may be narrowed by.
    #[serde(default)]
    pub(super) filters: Vec<String>,
    /// A new object.
    pub(super) template: Map<String, Value>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Create,
    Retrieve,
    Update,
    List,
    Search,
    Delete,
    Act,
}

/// All rows.
pub(super) fn all() -> Vec<Resource> {
    serde_json::from_str(include_str!("resources.json"))
        .expect("a file of this folder, as a test shows")
}

impl Verb {
    /// What a method and a path mean, if the resource has it.
    pub(super) fn of(
        method: &Method,
        id: Option<&str>,
        act: Option<&str>,
        resource: &Resource,
    ) -> Option<Self> {
        let (verb, name) = match (method.as_str(), id, act) {
            ("GET", Some("search"), None) => (Self::Search, "search"),
            ("GET", None, None) => (Self::List, "list"),
            ("GET", Some(_), None) => (Self::Retrieve, "retrieve"),
            ("POST", None, None) => (Self::Create, "create"),
            ("POST", Some(_), None) => (Self::Update, "update"),
            ("DELETE", Some(_), None) if resource.path == "subscriptions" => {
                (Self::Delete, "cancel")
            }
            ("DELETE", Some(_), None) => (Self::Delete, "delete"),
            ("GET", Some(_), Some("line_items")) | ("POST", Some(_), Some(_)) => {
                let act = act?;
                return resource.acts.iter().any(|known| known == act).then_some(Self::Act);
            }
            _ => return None,
        };
        resource.verbs.iter().any(|known| known == name).then_some(verb)
    }
}

impl Resource {
    /// Whether it knows every parameter.
    pub(super) fn check(&self, given: &Value) -> Result<(), Problem> {
        let names = given.as_object().into_iter().flat_map(Map::keys);
        for name in names {
            let is_known = self.params.contains(name) || ALWAYS.contains(&name.as_str());
            if !is_known {
                return Err(Problem::bad(
                    format!("Received unknown parameter: {name}"),
                    Some(name),
                )
                .with_code("parameter_unknown"));
            }
        }
        params::check(given)
    }

    pub(super) fn check_required(&self, given: &Value) -> Result<(), Problem> {
        let is_missing = |name: &&String| given.get(name.as_str()).is_none_or(|value| value == "");
        self.required.iter().find(is_missing).map_or(Ok(()), |name| Err(Problem::missing(name)))
    }

    /// A new object with what was given.
    pub(super) fn object(&self, given: &Value, context: &mut Context<'_>) -> Value {
        let mut object = Value::Object(self.template.clone());
        params::set(&mut object, given, &self.template);
        object["id"] = context.ids.next(&self.prefix, self.id_length.unwrap_or(ID_LENGTH)).into();
        object["object"] = json!(self.object);
        object["created"] = context.seconds.into();
        object["livemode"] = false.into();
        object
    }

    pub(super) fn event_prefix(&self) -> Option<&str> {
        match self.event.as_deref() {
            Some("none") => None,
            Some(prefix) => Some(prefix),
            None => Some(&self.object),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_can_be_read_and_holds_together() {
        for resource in all() {
            let named = resource.required.iter().chain(&resource.filters);
            for name in named {
                let is_known = resource.params.contains(name)
                    || resource.template.contains_key(name)
                    || resource.path == "events";
                assert!(is_known, "{}: {name}", resource.path);
            }
            for verb in &resource.verbs {
                let known = ["create", "retrieve", "update", "list", "search", "delete", "cancel"];
                assert!(known.contains(&verb.as_str()), "{}: {verb}", resource.path);
            }
        }
    }
}
