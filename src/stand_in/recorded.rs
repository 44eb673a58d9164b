//! What came, for tests that count and look. It is bounded, and keys are masked: what a test prints holds none.

use std::collections::VecDeque;

use hyper::HeaderMap;
use serde_json::{Value, json};

use super::request::Request;

/// Requests that are kept; those before are only counted.
const REQUESTS_MAX: usize = 1_000;
/// Bytes of one body that are kept.
const BODY_BYTES_MAX: usize = 16 << 10;
/// Headers whose value is a key.
const SECRET_HEADERS: [&str; 4] = ["authorization", "cookie", "x-api-key", "proxy-authorization"];
/// Letters of a key that are shown, so that a test can tell two keys apart.
const SHOWN: usize = 12;

/// The last requests, the oldest first, and how many there were in all.
#[derive(Default)]
pub(super) struct Recorded {
    count: u64,
    requests: VecDeque<Value>,
}

impl Recorded {
    pub(super) fn push(&mut self, request: &Request) {
        if self.requests.len() >= REQUESTS_MAX {
            self.requests.pop_front();
        }
        self.count += 1;
        let kept = &request.body[..request.body.len().min(BODY_BYTES_MAX)];
        self.requests.push_back(json!({
            "method": request.method.as_str(),
            "path": request.path,
            "query": request.query,
            "headers": headers(&request.headers),
            "body": String::from_utf8_lossy(kept),
            "body_bytes": request.body.len(),
        }));
    }

    /// All of it; `since` leaves out as many of the first.
    pub(super) fn to_json(&self, since: usize) -> Value {
        let forgotten = usize::try_from(self.count).unwrap_or(usize::MAX) - self.requests.len();
        let requests: Vec<&Value> =
            self.requests.iter().skip(since.saturating_sub(forgotten)).collect();
        json!({ "count": self.count, "requests": requests })
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

fn headers(headers: &HeaderMap) -> Value {
    let mut shown = serde_json::Map::new();
    for name in headers.keys() {
        let values: Vec<String> = headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .map(
                |value| {
                    if SECRET_HEADERS.contains(&name.as_str()) { masked(&value) } else { value }
                },
            )
            .collect();
        shown.insert(name.as_str().to_owned(), values.join(", ").into());
    }
    Value::Object(shown)
}

/// The first letters, at most half of them, and `…`.
fn masked(value: &str) -> String {
    let (scheme, key) = value.split_once(' ').map_or(("", value), |(scheme, key)| (scheme, key));
    let shown: String = key.chars().take(SHOWN.min(key.chars().count() / 2)).collect();
    format!("{scheme} {shown}…").trim_start().to_owned()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hyper::Method;
    use hyper::header::{AUTHORIZATION, HeaderValue};

    use super::*;

    fn request(body: &'static [u8]) -> Request {
        let headers = HeaderMap::from_iter([(
            AUTHORIZATION,
            HeaderValue::from_static("Bearer sk_test_a_key_that_nobody_must_see"),
        )]);
        Request {
            method: Method::POST,
            path: "/v1/customers".to_owned(),
            query: Vec::new(),
            headers,
            body: Bytes::from_static(body),
        }
    }

    #[test]
    fn what_came_is_kept_without_its_key() {
        let mut recorded = Recorded::default();
        recorded.push(&request(b"email=ada%40example.com"));
        let shown = recorded.to_json(0);
        assert_eq!(shown["count"], 1);
        assert_eq!(shown["requests"][0]["body"], "email=ada%40example.com");
        assert_eq!(shown["requests"][0]["headers"]["authorization"], "Bearer sk_test_a_ke…");
        assert!(!shown.to_string().contains("nobody"));
    }

    #[test]
    fn what_is_past_the_bound_is_counted_only() {
        let mut recorded = Recorded::default();
        for _ in 0..REQUESTS_MAX + 5 {
            recorded.push(&request(b""));
        }
        let shown = recorded.to_json(REQUESTS_MAX + 3);
        assert_eq!(shown["count"], REQUESTS_MAX + 5);
        assert_eq!(shown["requests"].as_array().unwrap().len(), 2);
    }
}
