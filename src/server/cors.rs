//! Cross-origin answers (Fetch Standard, "CORS protocol"): which origin may read a route's answer from a browser. Only routes of scripts
//! take part; webhooks are not called by browsers.

use super::body::Body;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Response};

use crate::config::Cors;

/// Seconds for which a browser may keep the answer to a preflight; Chromium caps at this.
const MAX_AGE_S: u32 = 7200;

/// Lays the headers for an allowed origin on an answer; says `Vary` to every other, so that caches keep them apart.
pub(super) fn decorate(cors: &Cors, request: &HeaderMap, response: &mut Response<Body>) {
    if cors.origins.is_empty() {
        return;
    }
    let headers = response.headers_mut();
    headers.append(VARY, HeaderValue::from_static("Origin"));
    let Some(origin) = allowed(cors, request) else { return };
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    if cors.credentials {
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
}

/// The same for a preflight, which asks what may be sent.
pub(super) fn preflight(cors: &Cors, request: &HeaderMap, response: &mut Response<Body>) {
    decorate(cors, request, response);
    if response.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
        let headers = response.headers_mut();
        let mut list = |name, values: &[Box<str>]| {
            if let Ok(value) = HeaderValue::from_str(&values.join(", ")) {
                headers.insert(name, value);
            }
        };
        list(ACCESS_CONTROL_ALLOW_METHODS, &cors.methods);
        list(ACCESS_CONTROL_ALLOW_HEADERS, &cors.headers);
        headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE_S.into());
    }
}

/// The value to answer with: the origin itself, or `*` where anybody may read and no credentials are sent.
fn allowed(cors: &Cors, request: &HeaderMap) -> Option<HeaderValue> {
    let origin = request.get(ORIGIN)?;
    if cors.origins.iter().any(|known| known.as_bytes() == origin.as_bytes() && origin != "null") {
        return Some(origin.clone());
    }
    let anybody = !cors.credentials && cors.origins.iter().any(|known| &**known == "*");
    anybody.then(|| HeaderValue::from_static("*"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h20_only_an_allowed_origin_gets_the_headers_and_never_a_star_with_credentials() {
        let cors = |origins: &[&str], credentials| Cors {
            origins: origins.iter().map(|origin| (*origin).into()).collect(),
            methods: vec!["GET".into(), "POST".into()],
            headers: vec!["content-type".into()],
            credentials,
        };
        let check = |cors: &Cors, origin: Option<&'static str>, expected: Option<&str>| {
            let mut request = HeaderMap::new();
            if let Some(origin) = origin {
                request.insert(ORIGIN, HeaderValue::from_static(origin));
            }
            let mut response = Response::new(Body::empty());
            preflight(cors, &request, &mut response);
            let answered = response
                .headers()
                .get(ACCESS_CONTROL_ALLOW_ORIGIN)
                .map(|value| value.to_str().unwrap());
            assert_eq!(answered, expected, "{origin:?}");
            assert_eq!(response.headers().contains_key(VARY), !cors.origins.is_empty());
        };
        let known = cors(&["https://app.example.com"], true);
        check(&known, Some("https://app.example.com"), Some("https://app.example.com"));
        check(&known, Some("https://evil.example.com"), None);
        check(&known, Some("null"), None);
        check(&known, None, None);
        check(&cors(&["*"], false), Some("https://any.example.com"), Some("*"));
        check(&cors(&["*"], true), Some("https://any.example.com"), None);
        check(&cors(&["null"], false), Some("null"), None);
        check(&cors(&[], false), Some("https://app.example.com"), None);
    }
}
