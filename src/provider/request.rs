//! A call as it goes out: which URL, which headers, which body. A script names a path below the base URL or a whole URL that config allows; anything
//! else is refused before a byte is sent.

use std::sync::Arc;

use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use reqwest::Method;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::Provider;
use super::answer::{self, Expects};
use super::descriptor::request::{self as described, Asked, Attachment, PartValue, Step};
use super::descriptor::{
    Answer, Encoding, Form, Idempotency, Next, Operation, Page, Repeat, Stream,
};
use super::error::{Trouble, What};
use super::pages;
use crate::multipart::{Encoded, Sent};
use crate::payload::Payload;
use crate::script::call::{CallBody, CallOptions, PagePlace, Verb};
use crate::store::Json;

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
    /// Whether a try that failed may be followed by another, also without a key.
    pub(super) is_idempotent: bool,
    /// What is done after an unknown outcome that no key protects.
    pub(super) repeat: Repeat,
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
    let form = provider.descriptor.form;
    if let Some(query) = &options.query {
        add_query(&mut url, &query.0, form)?;
    }
    let mut headers = headers(provider, options)?;
    let (body, content_type) = body(options.body.as_ref(), form)?;
    add_content_type(&mut headers, content_type)?;
    let expects = expects(provider, whole, answer::Form::Any);
    let is_idempotent = verb.is_idempotent();
    let repeat = if is_idempotent { Repeat::Safe } else { provider.descriptor.repeat };
    Ok(Built { verb, url, headers, body, expects, is_idempotent, repeat })
}

/// What a script gives to an operation.
pub(super) struct Given<'a> {
    pub(super) path: &'a [Box<str>],
    pub(super) params: Option<&'a Json>,
    pub(super) files: &'a [Sent],
    pub(super) options: &'a CallOptions,
    pub(super) page: Option<&'a PagePlace>,
}

/// A call of an operation.
pub(super) fn of_operation(
    provider: &Provider,
    base_url: &Url,
    operation: &Operation,
    given: &Given<'_>,
) -> Result<Built, Trouble> {
    let options = given.options;
    let params = given.params.map(|params| params.0.to_string());
    let params = match operation.stream {
        Some(Stream::OpenaiChat) if options.stream => params.map(with_usage),
        _ => params,
    };
    let asked = Asked {
        path: given.path.to_vec(),
        params,
        files: attachments(given.files),
        query: options.query.as_ref().map(|query| query.0.to_string()),
    };
    let request = provider.descriptor.request(operation, asked);
    let request = request.map_err(|error| bad(error.to_string()))?;
    let mut url = base_url.clone();
    url.set_path(&format!("{}{}", base_url.path().trim_end_matches('/'), request.path));
    url.set_query(Some(&*request.query).filter(|query| !query.is_empty()));
    if let (Some(page), Some(described)) = (given.page, &operation.page) {
        url = page_url(url, page, described, (base_url, &provider.config.also))?;
    }
    let mut headers = headers(provider, options)?;
    let (body, content_type) = match request.content {
        described::Content::None => (Content::Bytes(Bytes::new()), None),
        described::Content::Bytes { content_type, bytes } => {
            (Content::Bytes(bytes.into()), Some(content_type.to_owned()))
        }
        described::Content::Multipart(parts) => {
            let sent = parts.into_iter().map(|part| sent(part, given.files));
            (Content::Parts(sent.collect()), None)
        }
    };
    add_content_type(&mut headers, content_type)?;
    let form = match operation.answer {
        Answer::Decoded => answer::Form::Json,
        Answer::Bytes => answer::Form::Bytes,
    };
    Ok(Built {
        verb: operation.verb,
        url,
        headers,
        body,
        expects: expects(provider, false, form),
        is_idempotent: operation.idempotent,
        repeat: operation.repeat,
    })
}

/// Of a page that is not the first.
fn page_url(
    mut url: Url,
    place: &PagePlace,
    described: &Page,
    (base, also): (&Url, &[Url]),
) -> Result<Url, Trouble> {
    let text = match place {
        PagePlace::Query(param, value) => {
            // Pages that have numbers would begin elsewhere.
            let is_counted = matches!(described.next, Next::Number { .. });
            let size = described.size.as_ref().filter(|_| !is_counted);
            if let Some(size) = size.filter(|size| pages::field(&url, &size.param).is_none()) {
                pages::set(&mut url, &size.param, &size.max.to_string());
            }
            pages::set(&mut url, param, value);
            return Ok(url);
        }
        PagePlace::Url(text) => text,
    };
    let elsewhere = |at: String| {
        let message = "the next page of its list would be elsewhere than below its `base_url` or one of its `also`, so it was not asked for";
        Trouble { detail: Some(at), ..Trouble::new(What::Garbled, message) }
    };
    let next = Url::parse(text).map_err(|_| elsewhere("at no URL".to_owned()))?;
    let has_user = !next.username().is_empty() || next.password().is_some();
    let allowed = std::iter::once(base).chain(also).any(|prefix| is_below(&next, prefix));
    if has_user || !allowed {
        return Err(elsewhere(format!("at {}", next.origin().ascii_serialization())));
    }
    Ok(next)
}

/// The way of idempotency keys with a verb, where the provider knows them.
pub(super) fn idempotency(provider: &Provider, verb: Verb) -> Option<&Idempotency> {
    provider.descriptor.idempotency.as_ref().filter(|known| known.verbs.contains(&verb))
}

fn expects(provider: &Provider, whole: bool, body: answer::Form) -> Expects {
    let (descriptor, error_when) = (Arc::clone(&provider.descriptor), &provider.config.error_when);
    Expects { whole, body, descriptor, error_when: error_when.clone() }
}

/// A stream of a chat says what it used only where it is asked to (OpenAI API reference, `stream_options`). Who has said something of it is obeyed.
fn with_usage(params: String) -> String {
    let Ok(serde_json::Value::Object(mut fields)) = serde_json::from_str(&params) else {
        return params;
    };
    fields.entry("stream_options").or_insert_with(|| serde_json::json!({ "include_usage": true }));
    serde_json::Value::Object(fields).to_string()
}

/// Where each file stands in the params. Several of one name are a list.
fn attachments(files: &[Sent]) -> Vec<Attachment> {
    let of_name = |name: &str| files.iter().filter(|file| *file.field == *name).count();
    let at = |place: usize, file: &Sent| {
        let before = files.iter().take(place).filter(|other| other.field == file.field).count();
        let index = (of_name(&file.field) > 1).then_some(Step::Index(before));
        let at = std::iter::once(Step::Key(file.field.clone())).chain(index).collect();
        Attachment { at, file: place }
    };
    files.iter().enumerate().map(|(place, file)| at(place, file)).collect()
}

fn sent(part: described::Part, files: &[Sent]) -> Sent {
    let field = part.name.into();
    match part.value {
        PartValue::Text(text) => {
            Sent { field, file_name: None, content_type: None, payload: Payload::from(text) }
        }
        PartValue::File(file) => Sent { field, ..files[file].clone() },
    }
}

fn add_content_type(headers: &mut HeaderMap, kind: Option<String>) -> Result<(), Trouble> {
    let Some(kind) = kind else { return Ok(()) };
    let value = HeaderValue::try_from(kind)
        .map_err(|_| bad("the content type of this file cannot stand in a header"))?;
    headers.entry(CONTENT_TYPE).or_insert(value);
    Ok(())
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
    let mut whole = base.path().trim_end_matches('/').to_owned();
    if !path.is_empty() {
        whole.push('/');
        whole.extend(utf8_percent_encode(path.trim_start_matches('/'), PATH));
    }
    let mut url = base.clone();
    url.set_path(&whole);
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

fn add_query(url: &mut Url, object: &str, form: Form) -> Result<(), Trouble> {
    let mut query = url.query().unwrap_or_default().to_owned();
    let added = described::add_query(&mut query, object, form);
    added.map_err(|error| bad(format!("`query`: {error}")))?;
    url.set_query(Some(&*query).filter(|query| !query.is_empty()));
    Ok(())
}

fn headers(provider: &Provider, options: &CallOptions) -> Result<HeaderMap, Trouble> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, */*;q=0.5"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let of_descriptor = provider.descriptor.headers.iter();
    for (name, value) in of_descriptor.chain(&provider.config.headers).chain(&options.headers) {
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

fn body(body: Option<&CallBody>, form: Form) -> Result<(Content, Option<String>), Trouble> {
    let plain = |bytes: Bytes, kind: &str| (Content::Bytes(bytes), Some(kind.to_owned()));
    Ok(match body {
        None => (Content::Bytes(Bytes::new()), None),
        Some(CallBody::Json(json)) => {
            plain(Bytes::copy_from_slice(json.0.as_bytes()), "application/json")
        }
        Some(CallBody::Form(object)) => {
            let params = Some(object.0.to_string());
            let content = described::content(Encoding::Form, form, params, &[]);
            match content.map_err(|error| bad(format!("`form`: {error}")))? {
                described::Content::Bytes { content_type, bytes } => {
                    plain(bytes.into(), content_type)
                }
                _ => (Content::Bytes(Bytes::new()), None),
            }
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
