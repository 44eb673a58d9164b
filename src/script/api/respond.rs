//! What a handler returns, and what becomes of it: `status`, `response`, `html`, `redirect`, and the plain values. It is turned into an
//! `Answer`, plain data, inside the run; what cannot be answered is the script's error and names the field at fault.

use std::borrow::Cow;

use rhai::{Blob, Dynamic, ImmutableString, Map, Module};

use super::file::File;
use crate::header;
use crate::payload::Payload;
use crate::script::builtins::ending::reserve;
use crate::script::current::{Throw, fail};
use crate::script::value::{self, Kind, Limits, Reason, kind};

/// A handler's result on its way to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// From 200 to 599.
    pub(crate) status: u16,
    /// Where `headers` does not give one.
    pub(crate) content_type: Option<Cow<'static, str>>,
    /// Names and values that HTTP allows, none of which the server sets itself.
    pub(crate) headers: Headers,
    /// Empty for 204 and its like.
    pub(crate) body: Payload,
}

/// Names in lower case, and values.
type Headers = Vec<(Box<str>, Box<str>)>;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const BYTES: &str = "application/octet-stream";

/// Headers that belong to the server or to the connection (RFC 9110, section 7.6.1).
const RESERVED: [&str; 8] = [
    "connection",
    "content-length",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-request-id",
];

/// What `status(…)` and its like give: a value that is an answer, returned or thrown.
#[derive(Clone)]
pub(crate) struct Response {
    status: u16,
    content_type: Option<&'static str>,
    headers: Headers,
    body: Dynamic,
}

impl Answer {
    /// One that says nothing but its status.
    pub(crate) fn empty(status: u16) -> Self {
        Self { status, content_type: None, headers: Vec::new(), body: Vec::<u8>::new().into() }
    }
}

/// The functions.
pub(crate) fn register(module: &mut Module) {
    module.set_custom_type::<Response>("Response");
    module.set_native_fn("status", |code: Dynamic| status(&code, Dynamic::UNIT));
    module.set_native_fn("status", |code: Dynamic, body: Dynamic| status(&code, body));
    module.set_native_fn("response", |map: Map| response(map));
    module.set_native_fn("html", |text: ImmutableString| {
        Ok(Response {
            status: 200,
            content_type: Some(HTML),
            headers: Vec::new(),
            body: text.into(),
        })
    });
    module.set_native_fn("redirect", |url: ImmutableString| redirect(&url));
}

/// The answer that a returned value is.
pub(crate) fn answer(result: &Dynamic) -> Result<Answer, Throw> {
    if let Some(response) = result.read_lock::<Response>() {
        return response.answer();
    }
    let status = if kind(result) == Kind::Unit { 204 } else { 200 };
    let (content_type, body) = body(result)?;
    Ok(Answer { status, content_type, headers: Vec::new(), body })
}

/// The answer that a thrown value is, if it is one.
pub(crate) fn thrown_answer(thrown: &Dynamic) -> Option<Result<Answer, Throw>> {
    thrown.read_lock::<Response>().map(|response| response.answer())
}

impl Response {
    fn answer(&self) -> Result<Answer, Throw> {
        let (content_type, body) = body(&self.body)?;
        let given = self.headers.iter().any(|(name, _)| &**name == "content-type");
        let content_type =
            if given { None } else { self.content_type.map(Cow::from).or(content_type) };
        Ok(Answer { status: self.status, content_type, headers: self.headers.clone(), body })
    }
}

/// A value as the bytes of a body, with what they are.
fn body(value: &Dynamic) -> Result<(Option<Cow<'static, str>>, Payload), Throw> {
    if kind(value) == Kind::Unit {
        return Ok((None, Payload::from("")));
    }
    if let Some(text) = value.read_lock::<ImmutableString>() {
        reserve(text.len())?;
        return Ok((Some(TEXT.into()), text.as_bytes().to_vec().into()));
    }
    if let Some(blob) = value.read_lock::<Blob>() {
        reserve(blob.len())?;
        return Ok((Some(BYTES.into()), blob.clone().into()));
    }
    if let Some(file) = value.read_lock::<File>() {
        let own = file.content_type().filter(|text| !text.is_empty() && is_header_value(text));
        let content_type = own.map_or(Cow::Borrowed(BYTES), |text| text.to_owned().into());
        return Ok((Some(content_type), file.payload()));
    }
    let text = value::to_json(value, Limits::NONE).map_err(|error| match error.reason {
        Reason::Memory => error.into(),
        _ => fail(&format!("the result cannot be answered: {error}")),
    })?;
    Ok((Some(JSON.into()), text.into_bytes().into()))
}

fn status(code: &Dynamic, body: Dynamic) -> Result<Response, Throw> {
    Ok(Response { status: status_code(code)?, content_type: None, headers: Vec::new(), body })
}

fn status_code(code: &Dynamic) -> Result<u16, Throw> {
    let number = code.as_int().map_err(|_| {
        fail(&format!("a status is a number from 200 to 599, not {}", value::to_text(code)))
    })?;
    let code = u16::try_from(number).ok().filter(|code| (200..=599).contains(code));
    code.ok_or_else(|| fail(&format!("a status is a number from 200 to 599, not {number}")))
}

fn response(map: Map) -> Result<Response, Throw> {
    let mut response =
        Response { status: 200, content_type: None, headers: Vec::new(), body: Dynamic::UNIT };
    for (name, value) in map {
        match name.as_str() {
            "status" => response.status = status_code(&value)?,
            "headers" => response.headers = headers(value)?,
            "body" => response.body = value,
            _ => {
                return Err(fail(&format!(
                    "unknown field `{name}` of a response; it has status, headers, body"
                )));
            }
        }
    }
    Ok(response)
}

/// The head of a stream from the options of `stream`.
pub(super) fn head(options: Map) -> Result<Answer, Throw> {
    let mut head = Answer::empty(200);
    let mut content_type = None;
    for (name, value) in options {
        match name.as_str() {
            "status" => head.status = status_code(&value)?,
            "headers" => head.headers.append(&mut headers(value)?),
            "content_type" => content_type = Some(value),
            _ => {
                return Err(fail(&format!(
                    "unknown option `{name}`; `stream` knows status, headers, content_type"
                )));
            }
        }
    }
    if matches!(head.status, 204 | 205 | 304) {
        return Err(fail(&format!("an answer with status {} has no body to stream", head.status)));
    }
    if let Some(value) = content_type {
        let given = Map::from([("content-type".into(), value)]);
        head.headers.retain(|(name, _)| &**name != "content-type");
        head.headers.append(&mut headers(given.into())?);
    }
    Ok(head)
}

fn headers(value: Dynamic) -> Result<Headers, Throw> {
    let map = value.try_cast::<Map>().ok_or_else(|| fail("`headers` of a response is a map"))?;
    let mut headers = Vec::with_capacity(map.len());
    for (name, value) in map {
        let lower = name.to_ascii_lowercase();
        if !header::is_name(&lower) {
            return Err(fail(&format!("`{}` cannot be the name of a header", name.escape_debug())));
        }
        if RESERVED.contains(&lower.as_str()) {
            return Err(fail(&format!("the header `{lower}` is the server's own")));
        }
        let several =
            if value.is_array() { value.into_array().unwrap_or_default() } else { vec![value] };
        for value in several {
            if !matches!(
                kind(&value),
                Kind::Text | Kind::Char | Kind::Int | Kind::Float | Kind::Bool
            ) {
                return Err(fail(&format!(
                    "the value of header `{lower}` is {}; it must be a string or a number",
                    kind(&value).words()
                )));
            }
            let text = value::to_text(&value);
            if !is_header_value(&text) {
                return Err(fail(&format!(
                    "the value of header `{lower}` has a character that HTTP forbids"
                )));
            }
            headers.push((lower.as_str().into(), text.into()));
        }
    }
    Ok(headers)
}

/// RFC 9110, section 5.5, without the obsolete bytes past ASCII.
pub(super) fn is_header_value(value: &str) -> bool {
    value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte))
}

fn redirect(url: &str) -> Result<Response, Throw> {
    let path = url.starts_with('/') && !url.starts_with("//") && !url.starts_with("/\\");
    let absolute = ["http://", "https://"]
        .iter()
        .any(|scheme| url.len() > scheme.len() && url.starts_with(scheme));
    if !(path || absolute) || !is_header_value(url) || url.contains([' ', '\t']) {
        return Err(fail(
            "`redirect` takes a path that starts with one `/`, or an http:// or https:// address",
        ));
    }
    let headers = vec![("location".into(), url.into())];
    Ok(Response { status: 302, content_type: None, headers, body: Dynamic::UNIT })
}
