//! A request as plain data, whole and bounded, and the questions that an API asks of it.

use bytes::Bytes;
use hyper::{HeaderMap, Method};
use percent_encoding::percent_decode_str;
use serde_json::Value;

/// A request.
pub(super) struct Request {
    pub(super) method: Method,
    /// As it came, without the query.
    pub(super) path: String,
    /// Decoded, in order.
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Request {
    /// The parts of the path, each decoded by itself, so that a slash within an id stays in the id.
    pub(super) fn segments(&self) -> Vec<String> {
        let path = self.path.trim_start_matches('/');
        path.split('/').map(|part| percent_decode_str(part).decode_utf8_lossy().into()).collect()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The first value of a name of the query.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// All values of a name that may be repeated, also where it is written `name[]`.
    pub(super) fn queries<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let is_it = move |known: &str| known.strip_suffix("[]").unwrap_or(known) == name;
        self.query.iter().filter(move |(known, _)| is_it(known)).map(|(_, value)| value.as_str())
    }

    /// A number of the query: `None` where it is not there, `Err` where it is none.
    pub(super) fn number(&self, name: &str) -> Result<Option<usize>, ()> {
        self.query(name).map(|text| text.parse().map_err(|_| ())).transpose()
    }

    /// The key of `Authorization: Bearer …`.
    pub(super) fn bearer(&self) -> Option<&str> {
        let (scheme, key) = self.header("authorization")?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
    }

    /// The body as a JSON object; an empty body is an empty object.
    pub(super) fn json(&self) -> Option<Value> {
        if self.body.is_empty() {
            return Some(Value::Object(serde_json::Map::new()));
        }
        serde_json::from_slice(&self.body).ok().filter(Value::is_object)
    }
}
