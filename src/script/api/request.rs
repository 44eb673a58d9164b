//! `req`: what a route's handler gets. Its parts are read when the script asks for them, once; a body that is not what the script asks for is
//! the caller's fault and answers 400.

use std::cell::RefCell;
use std::rc::Rc;

use rhai::{Array, Dynamic, Map, Module};

pub(crate) use super::file::INVALID_PAYLOAD;
use super::file::{File, invalid, with_bytes};
use super::{form, upload};
use crate::json;
use crate::multipart::{Broken, Part};
use crate::payload::Payload;
use crate::script::builtins::ending::reserve;
use crate::script::current::Throw;
use crate::script::value::{self, Limits, Reason};

/// Who calls a route that asks for it.
#[derive(Clone, Debug)]
pub(crate) struct CallerInput {
    /// Never empty.
    pub(crate) user_id: Box<str>,
    /// Where it is known.
    pub(crate) email: Option<Box<str>>,
    /// Where it is known.
    pub(crate) first_name: Option<Box<str>>,
    /// Where it is known.
    pub(crate) last_name: Option<Box<str>>,
    /// All that its token says; JSON that `json::prepare` has seen.
    pub(crate) claims: Box<str>,
}

/// A request, as plain data.
#[derive(Clone, Debug)]
pub(crate) struct RequestInput {
    /// `req_…`, or the client's own.
    pub(crate) id: Box<str>,
    /// In capitals.
    pub(crate) method: &'static str,
    /// As it came, not decoded.
    pub(crate) path: Box<str>,
    /// Decoded, by the names in the route's path.
    pub(crate) params: Vec<(Box<str>, Box<str>)>,
    /// Without the `?`.
    pub(crate) query: Box<str>,
    /// Lower-case names; repeats are joined by `, `.
    pub(crate) headers: Vec<(Box<str>, Box<str>)>,
    /// Whole, as it came.
    pub(crate) body: Payload,
    /// Where the parts of a form with files lie in it; `None`: it is no such form.
    pub(crate) parts: Option<Result<Vec<Part>, Broken>>,
    /// Of the client, where the peer is a trusted proxy; else of the peer.
    pub(crate) remote_ip: Box<str>,
    /// `None`: the route is open to all.
    pub(crate) caller: Option<CallerInput>,
}

/// The value that scripts call `req`.
#[derive(Clone)]
pub(crate) struct Request(Rc<Parts>);

struct Parts {
    input: Rc<RequestInput>,
    json: RefCell<Option<Dynamic>>,
}

/// The value for a run.
pub(crate) fn build(input: Rc<RequestInput>) -> Dynamic {
    Dynamic::from(Request(Rc::new(Parts { input, json: RefCell::new(None) })))
}

/// Its properties.
pub(crate) fn register(module: &mut Module) {
    module.set_custom_type::<Request>("Request");
    let mut text = |name: &str, part: fn(&RequestInput) -> &str| {
        module.set_getter_fn(name, move |request: &mut Request| {
            Ok(Dynamic::from(part(&request.0.input).to_owned()))
        });
    };
    text("id", |input| &input.id);
    text("method", |input| input.method);
    text("path", |input| &input.path);
    text("remote_ip", |input| &input.remote_ip);
    module.set_getter_fn("params", |request: &mut Request| Ok(pairs(&request.0.input.params)));
    module.set_getter_fn("headers", |request: &mut Request| Ok(pairs(&request.0.input.headers)));
    module.set_getter_fn("query", |request: &mut Request| {
        form::parse(request.0.input.query.as_bytes())
            .map_err(|_| invalid("the query has an escape that is not one"))
    });
    module.set_getter_fn("text", |request: &mut Request| request.text());
    module.set_getter_fn("bytes", |request: &mut Request| Ok(request.bytes()));
    module.set_getter_fn("form", |request: &mut Request| request.form());
    module.set_getter_fn("files", |request: &mut Request| request.files());
    module.set_getter_fn("json", |request: &mut Request| request.json());
    module.set_getter_fn("auth", |request: &mut Request| match &request.0.input.caller {
        Some(caller) => caller.value(),
        None => Ok(Dynamic::UNIT),
    });
}

impl CallerInput {
    fn value(&self) -> Result<Dynamic, Throw> {
        let known = |text: &Option<Box<str>>| {
            text.as_ref().map_or(Dynamic::UNIT, |text| text.as_ref().into())
        };
        let mut map = Map::new();
        map.insert("user_id".into(), self.user_id.as_ref().into());
        map.insert("email".into(), known(&self.email));
        map.insert("first_name".into(), known(&self.first_name));
        map.insert("last_name".into(), known(&self.last_name));
        map.insert("claims".into(), value::from_json(&self.claims, Limits::NONE)?);
        Ok(map.into())
    }
}

impl Request {
    fn text(&self) -> Result<String, Throw> {
        with_bytes("req.text", &self.0.input.body, |bytes| {
            reserve(bytes.len())?;
            let text = std::str::from_utf8(bytes);
            text.map(str::to_owned).map_err(|_| invalid("the body is not UTF-8 text"))
        })
    }

    /// The body as a file that has no name.
    fn bytes(&self) -> File {
        let RequestInput { body, headers, .. } = &*self.0.input;
        let content_type = headers.iter().find(|(name, _)| &**name == "content-type");
        File::new(body, None, None, content_type.map(|(_, value)| value.clone()))
    }

    fn form(&self) -> Result<Map, Throw> {
        let RequestInput { body, parts, .. } = &*self.0.input;
        match parts {
            Some(parts) => upload::fields(sound(parts)?, body),
            None => with_bytes("req.form", body, |bytes| {
                form::parse(bytes).map_err(|_| invalid("the body is not a form"))
            }),
        }
    }

    fn files(&self) -> Result<Array, Throw> {
        let RequestInput { body, parts, .. } = &*self.0.input;
        match parts {
            Some(parts) => Ok(upload::files(sound(parts)?, body)),
            None => Ok(Array::new()),
        }
    }

    fn json(&self) -> Result<Dynamic, Throw> {
        if let Some(read) = &*self.0.json.borrow() {
            return Ok(read.clone());
        }
        let not_json =
            |error: &dyn std::fmt::Display| invalid(&format!("the body is not JSON: {error}"));
        let read = with_bytes("req.json", &self.0.input.body, |bytes| {
            let text = json::prepare(bytes).map_err(|error| not_json(&error))?;
            value::from_json(&text, Limits::NONE).map_err(|error| match error.reason {
                Reason::Memory => error.into(),
                _ => not_json(&error),
            })
        })?;
        self.0.json.replace(Some(read.clone()));
        Ok(read)
    }
}

fn pairs(pairs: &[(Box<str>, Box<str>)]) -> Map {
    pairs.iter().map(|(name, value)| (name.as_ref().into(), value.as_ref().into())).collect()
}

fn sound(parts: &Result<Vec<Part>, Broken>) -> Result<&[Part], Throw> {
    parts.as_deref().map_err(|broken| invalid(&format!("the body is not a form: {broken}")))
}
