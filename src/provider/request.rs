//! A call as it goes out: which URL, which headers, which body. A script names a path below the base URL or a whole URL that config allows; anything
//! else is refused before a byte is sent.

use std::sync::Arc;

use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use reqwest::Method;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::Provider;
use super::answer::Expects;
use super::error::{Trouble, What};
use crate::multipart::{Encoded, Sent};
use crate::payload::Payload;
use crate::script::call::{CallBody, CallOptions, Verb};

/// Headers that a script may not set: they say who calls, or belong to the connection.
const REFUSED: [&str; 13] = [
    "accept-encoding",
    "authorization",
    "proxy-authorization",
    "cookie",
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "expect",
];
/// What a path may not hold as it is (RFC 3986, section 3.3).
const PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'`')
    .add(b'\\')
    .add(b'^')
    .add(b'{')
    .add(b'}')
    .add(b'|');

/// What a body is made of.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// All of it.
    Bytes(Bytes),
    /// Bytes that may be on disk.
    File(Payload),
    /// The parts of a form.
    Parts(Vec<Sent>),
    /// The same, written.
    Form(Arc<Encoded>),
}

/// One request, as it goes out.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Content,
    /// Whatever comes is wanted, also a redirect that is not followed.
    pub(super) whole: bool,
}

/// A call put together, without who makes it.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) verb: Verb,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Content,
    pub(super) expects: Expects,
}

/// A call of a verb.
pub(super) fn of_path(
    provider: &Provider,
    base_url: &Url,
    verb: Verb,
    path: &str,
    whole: bool,
    options: &CallOptions,
) -> Result<Built, Trouble> {
    let mut url = resolve(base_url, &provider.config.also, path)?;
    if let Some(query) = &options.query {
        add_query(&mut url, &query.0)?;
    }
    let mut headers = headers(provider, options)?;
    let (body, content_type) = body(options.body.as_ref())?;
    if let Some(content_type) = content_type {
        let value = HeaderValue::try_from(content_type)
            .map_err(|_| bad("the content type of this file cannot stand in a header"))?;
        headers.entry(CONTENT_TYPE).or_insert(value);
    }
    let expects =
        Expects { whole, error_when: provider.config.error_when.clone(), ..Expects::default() };
    Ok(Built { verb, url, headers, body, expects })
}

fn bad(message: impl Into<String>) -> Trouble {
    Trouble::new(What::BadCall, message)
}

/// The URL of a path, or of a whole URL, as far as config allows it.
fn resolve(base: &Url, also: &[Url], path: &str) -> Result<Url, Trouble> {
    if path.contains(|c: char| c.is_control() || c == '\\') {
        return Err(bad("a path has no control characters and no `\\`"));
    }
    if path.contains("://") && !path.starts_with('/') {
        return absolute(base, also, path);
    }
    if path.starts_with("//") {
        return Err(bad("a path begins with one `/`; two would name another host"));
    }
    let (path, query) =
        path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    if path.contains('#') || query.is_some_and(|query| query.contains('#')) {
        return Err(bad("a path has no `#`"));
    }
    if path.split('/').any(is_dots) {
        return Err(bad("a path has no `.` and no `..` among its segments"));
    }
    let mut whole = base.as_str().trim_end_matches('/').to_owned();
    if !path.is_empty() {
        whole.push('/');
        whole.extend(utf8_percent_encode(path.trim_start_matches('/'), PATH));
    }
    let mut url =
        Url::parse(&whole).map_err(|error| bad(format!("this path makes no URL: {error}")))?;
    url.set_query(query.filter(|query| !query.is_empty()));
    // What was put together by hand is looked at as a whole, too.
    if is_below(&url, base) {
        Ok(url)
    } else {
        Err(bad("this path leads out of the provider's URL"))
    }
}

/// `.` and `..`, also written with `%2e`, which a server or a proxy takes for the same.
fn is_dots(segment: &str) -> bool {
    matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
}

fn absolute(base: &Url, also: &[Url], text: &str) -> Result<Url, Trouble> {
    let url = Url::parse(text).map_err(|error| bad(format!("this is no URL: {error}")))?;
    let has_user = !url.username().is_empty() || url.password().is_some();
    let allowed = std::iter::once(base).chain(also).any(|prefix| is_below(&url, prefix));
    if has_user || url.fragment().is_some() || !allowed {
        return Err(bad(
            "this URL is not below the provider's `base_url` or one of its `also`, so nothing was sent",
        ));
    }
    Ok(url)
}

/// Whether a URL begins with another one, whole segments of its path counted.
fn is_below(url: &Url, prefix: &Url) -> bool {
    if url.scheme() != prefix.scheme()
        || url.host() != prefix.host()
        || url.port_or_known_default() != prefix.port_or_known_default()
    {
        return false;
    }
    let (path, prefix) = (url.path(), prefix.path().trim_end_matches('/'));
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn add_query(url: &mut Url, object: &str) -> Result<(), Trouble> {
    let fields: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(object).map_err(|_| bad("`query` is a map"))?;
    let mut pairs = url.query_pairs_mut();
    for (name, value) in &fields {
        match value {
            serde_json::Value::Null => {}
            serde_json::Value::Array(items) => {
                for item in items {
                    pairs.append_pair(name, &plain(item)?);
                }
            }
            value => _ = pairs.append_pair(name, &plain(value)?),
        }
    }
    Ok(())
}

/// A value of a form or a query.
fn plain(value: &serde_json::Value) -> Result<String, Trouble> {
    match value {
        serde_json::Value::String(text) => Ok(text.clone()),
        serde_json::Value::Number(number) => Ok(number.to_string()),
        serde_json::Value::Bool(flag) => Ok(flag.to_string()),
        serde_json::Value::Null => Ok(String::new()),
        serde_json::Value::Array(_) | serde_json::Value::Object(_) => {
            Err(bad("a value of a query or a form is a string, a number or a boolean"))
        }
    }
}

fn headers(provider: &Provider, options: &CallOptions) -> Result<HeaderMap, Trouble> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, */*;q=0.5"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    for (name, value) in provider.config.headers.iter().chain(&options.headers) {
        let refused = REFUSED.contains(&&**name);
        let name = HeaderName::try_from(&**name).ok().filter(|_| !refused);
        let value = HeaderValue::try_from(&**value).ok();
        let (Some(name), Some(value)) = (name, value) else {
            return Err(bad(
                "a script may not set the headers that say who calls or belong to the connection (`authorization`, `host`, …); nothing was sent",
            ));
        };
        headers.insert(name, value);
    }
    Ok(headers)
}

fn body(body: Option<&CallBody>) -> Result<(Content, Option<String>), Trouble> {
    let plain = |bytes: Bytes, kind: &str| (Content::Bytes(bytes), Some(kind.to_owned()));
    Ok(match body {
        None => (Content::Bytes(Bytes::new()), None),
        Some(CallBody::Json(json)) => {
            plain(Bytes::copy_from_slice(json.0.as_bytes()), "application/json")
        }
        Some(CallBody::Form(object)) => {
            let fields: serde_json::Map<String, serde_json::Value> =
                serde_json::from_str(&object.0).map_err(|_| bad("`form` is a map"))?;
            let mut form = form_urlencoded::Serializer::new(String::new());
            for (name, value) in &fields {
                form.append_pair(name, &self::plain(value)?);
            }
            plain(form.finish().into(), "application/x-www-form-urlencoded")
        }
        Some(CallBody::Text(text)) => {
            plain(Bytes::copy_from_slice(text.as_bytes()), "text/plain; charset=utf-8")
        }
        Some(CallBody::File(payload, kind)) => {
            let kind = kind.as_deref().unwrap_or("application/octet-stream");
            (Content::File(payload.clone()), Some(kind.to_owned()))
        }
        // Its content type names the boundary, which follows from the content.
        Some(CallBody::Multipart(parts)) => (Content::Parts(parts.clone()), None),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(path: &str) -> String {
        let base = Url::parse("https://good.com/api/").unwrap();
        let also = [Url::parse("https://hooks.good.com/commands/").unwrap()];
        match resolve(&base, &also, path) {
            Ok(url) => url.to_string(),
            Err(trouble) => format!("{}: {}", trouble.what.code(), trouble.message),
        }
    }

    #[test]
    fn v23_a_call_goes_below_the_base_url_or_nowhere() {
        for (path, expected) in [
            ("/users", "https://good.com/api/users"),
            ("users", "https://good.com/api/users"),
            ("", "https://good.com/api"),
            ("/users?x=1", "https://good.com/api/users?x=1"),
            ("/a b/é", "https://good.com/api/a%20b/%C3%A9"),
            ("/a%2Fb", "https://good.com/api/a%2Fb"),
            ("https://good.com/api/users", "https://good.com/api/users"),
            ("https://hooks.good.com/commands/1", "https://hooks.good.com/commands/1"),
        ] {
            assert_eq!(url(path), expected, "{path}");
        }
        for path in [
            "https://good.com.evil.com/api",
            "https://good.com@evil.com/api",
            "https://user:word@good.com/api/x",
            "https://good.com/apix",
            "https://good.com/other",
            "https://good.com/api/../other",
            "https://good.com:444/api/x",
            "http://good.com/api/x",
            "//evil.com",
            "/../other",
            "/a/../../other",
            "/%2e%2E/other",
            "/x#y",
            "/x\r\nhost: evil",
            "\\\\evil.com",
            "file:///etc/passwd",
        ] {
            assert!(url(path).starts_with("INVALID_REQUEST"), "{path} → {}", url(path));
        }
    }
}
