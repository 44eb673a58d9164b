//! From an operation, its arguments and its params to what is sent: path, query, body. Pure: no URL is joined here, nothing is signed, and
//! files are named by their number.

use super::pairs::{PairsError, pairs};
use super::path::PathError;
use super::{Arrays, Descriptor, Encoding, Form, Operation, Params};

/// Bytes of a query: servers refuse a URI of more than 8 to 64 KiB.
const QUERY_BYTES_MAX: usize = 64 << 10;
/// Bytes of a form before it is encoded: params of 16 MB and their names; a run may hold 32 MiB by default.
const FORM_BYTES_MAX: usize = 32 << 20;

/// What a script asks of an operation.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// Path arguments in their order.
    pub(crate) path: Vec<Box<str>>,
    /// Params as JSON, without the files in them.
    pub(crate) params: Option<String>,
    /// The files that stood in the params.
    pub(crate) files: Vec<Attachment>,
    /// More for the query, a map as JSON.
    pub(crate) query: Option<String>,
}

/// A file inside params.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attachment {
    /// Where it stood: keys and places on the way to it, a key first.
    pub(crate) at: Box<[Step]>,
    /// Its number, among the files that the caller knows.
    pub(crate) file: usize,
}

/// One step into params.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Into a map.
    Key(Box<str>),
    /// Into a list.
    Index(usize),
}

/// What is sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// Below the base URL, encoded, with its slash.
    pub(crate) path: String,
    /// Encoded, without its `?`; may be empty.
    pub(crate) query: String,
    /// What goes with it.
    pub(crate) content: Content,
}

/// A body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// None at all.
    None,
    /// These bytes.
    Bytes {
        /// The header `content-type`.
        content_type: &'static str,
        /// As they are sent.
        bytes: Vec<u8>,
    },
    /// Parts in their order, files last. The boundary is whose business the sending is.
    Multipart(Vec<Part>),
}

/// One part of a body in parts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Of the field.
    pub(crate) name: String,
    /// What is in it.
    pub(crate) value: PartValue,
}

/// What is in a part.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PartValue {
    /// A text.
    Text(String),
    /// The file with this number.
    File(usize),
}

/// Why nothing can be sent. All of it is the script's to change.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// The path cannot be made.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Params for an operation without any.
    #[error("it takes no params")]
    NoParams,
    /// Files where only text goes.
    #[error("a file can be sent in a multipart body only")]
    File,
    /// Params that cannot be written so.
    #[error("{0}")]
    Params(#[source] PairsError),
    /// The option `query` cannot be written so.
    #[error("in `query`: {0}")]
    Query(#[source] PairsError),
}

impl Descriptor {
    /// What is sent for this operation.
    pub(crate) fn request(
        &self,
        operation: &Operation,
        asked: Asked,
    ) -> Result<Request, RequestError> {
        let path = operation.path.fill(&asked.path)?;
        let params = asked.params.filter(|params| params.trim() != "null");
        let mut query = String::new();
        let content = match operation.params {
            Params::Body => content(operation.encoding, self.form, params, &asked.files)?,
            Params::Query if !asked.files.is_empty() => return Err(RequestError::File),
            Params::None if params.is_some() || !asked.files.is_empty() => {
                return Err(RequestError::NoParams);
            }
            Params::Query | Params::None => {
                if let Some(params) = &params {
                    add_query(&mut query, params, self.form).map_err(RequestError::Params)?;
                }
                Content::None
            }
        };
        if let Some(more) = &asked.query {
            add_query(&mut query, more, self.form).map_err(RequestError::Query)?;
        }
        Ok(Request { path, query, content })
    }
}

/// Params as a body. JSON is sent as it came: it is not read again.
pub(crate) fn content(
    encoding: Encoding,
    form: Form,
    params: Option<String>,
    files: &[Attachment],
) -> Result<Content, RequestError> {
    if encoding != Encoding::Multipart && !files.is_empty() {
        return Err(RequestError::File);
    }
    match (encoding, params) {
        (Encoding::Json, Some(params)) => {
            Ok(Content::Bytes { content_type: "application/json", bytes: params.into_bytes() })
        }
        (Encoding::Form, Some(params)) => {
            let mut written = form_urlencoded::Serializer::new(String::new());
            let mut take = |name: &str, text: &str| _ = written.append_pair(name, text);
            pairs(&params, form, FORM_BYTES_MAX, &mut take).map_err(RequestError::Params)?;
            Ok(Content::Bytes {
                content_type: "application/x-www-form-urlencoded",
                bytes: written.finish().into_bytes(),
            })
        }
        (Encoding::Json | Encoding::Form, None) => Ok(Content::None),
        (Encoding::Multipart, params) => {
            let mut parts = Vec::new();
            let mut take = |name: &str, text: &str| {
                let value = PartValue::Text(text.to_owned());
                parts.push(Part { name: name.to_owned(), value });
            };
            if let Some(params) = &params {
                pairs(params, form, FORM_BYTES_MAX, &mut take).map_err(RequestError::Params)?;
            }
            parts.extend(files.iter().map(|file| Part {
                name: name_of(&file.at, form),
                value: PartValue::File(file.file),
            }));
            Ok(Content::Multipart(parts))
        }
    }
}

/// Adds a map as JSON to a query.
pub(crate) fn add_query(query: &mut String, json: &str, form: Form) -> Result<(), PairsError> {
    let before = query.len();
    let mut written = form_urlencoded::Serializer::for_suffix(std::mem::take(query), 0);
    let mut take = |name: &str, text: &str| _ = written.append_pair(name, text);
    let left = QUERY_BYTES_MAX.saturating_sub(before);
    let result = pairs(json, form, left, &mut take);
    *query = written.finish();
    result
}

/// The name of a file's part, as `pairs` would write it.
fn name_of(at: &[Step], form: Form) -> String {
    let mut name = String::new();
    for (depth, step) in at.iter().enumerate() {
        match step {
            Step::Key(key) if depth == 0 => name.push_str(key),
            Step::Key(key) => name.extend(["[", &**key, "]"]),
            Step::Index(index) if depth + 1 < at.len() => name.push_str(&format!("[{index}]")),
            Step::Index(index) => match form.arrays {
                Arrays::Indexed => name.push_str(&format!("[{index}]")),
                Arrays::Brackets => name.push_str("[]"),
                Arrays::Repeated => {}
            },
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ProviderKind;

    fn asked(kind: &str, operation: &str, path: &[&str], params: Option<&str>) -> Request {
        let descriptor = Descriptor::built_in(ProviderKind::of(kind).unwrap());
        let path = path.iter().map(|text| (*text).into()).collect();
        let asked = Asked { path, params: params.map(str::to_owned), ..Asked::default() };
        descriptor.request(descriptor.operation(operation).unwrap(), asked).unwrap()
    }

    fn text(request: &Request) -> (&'static str, &str) {
        let Content::Bytes { content_type, bytes } = &request.content else {
            panic!("{request:?}")
        };
        (content_type, std::str::from_utf8(bytes).unwrap())
    }

    #[test]
    fn stripe_gets_a_nested_form_and_a_query_for_what_it_lists() {
        let request = asked(
            "stripe",
            "checkout.sessions.create",
            &[],
            Some(r#"{"mode":"payment","line_items":[{"price":"p_1","quantity":1}]}"#),
        );
        assert_eq!(request.path, "/v1/checkout/sessions");
        let form =
            "mode=payment&line_items%5B0%5D%5Bprice%5D=p_1&line_items%5B0%5D%5Bquantity%5D=1";
        assert_eq!(text(&request), ("application/x-www-form-urlencoded", form));
        let request =
            asked("stripe", "customers.list", &[], Some(r#"{"limit":3,"created":{"gte":5}}"#));
        assert_eq!(
            (request.query.as_str(), request.content),
            ("limit=3&created%5Bgte%5D=5", Content::None)
        );
        let request = asked("stripe", "subscriptions.cancel", &["sub/1"], None);
        assert_eq!(
            (request.path.as_str(), request.content),
            ("/v1/subscriptions/sub%2F1", Content::None)
        );
    }

    #[test]
    fn json_is_sent_as_it_came() {
        let params = r#"{ "model":"gpt-5",  "messages":[] }"#;
        let request = asked("openai", "chat.completions.create", &[], Some(params));
        assert_eq!(text(&request), ("application/json", params));
        let request = asked("clerk", "users.ban", &["user_1"], Some("null"));
        assert_eq!(
            (request.path.as_str(), request.content),
            ("/v1/users/user_1/ban", Content::None)
        );
        let request = asked("clerk", "users.list", &[], Some(r#"{"user_id":["a","b"],"limit":2}"#));
        assert_eq!(request.query, "user_id=a&user_id=b&limit=2");
    }

    #[test]
    fn files_become_parts_behind_the_fields() {
        let openai = Descriptor::built_in(ProviderKind::OpenAi);
        let edit = openai.operation("images.edit").unwrap();
        let file = |at: &[Step], file| Attachment { at: at.into(), file };
        let asked = || Asked {
            params: Some(r#"{"prompt":"a cat","n":2}"#.to_owned()),
            files: vec![
                file(&[Step::Key("image".into()), Step::Index(0)], 7),
                file(&[Step::Key("mask".into())], 8),
            ],
            ..Asked::default()
        };
        let request = openai.request(edit, asked()).unwrap();
        let Content::Multipart(parts) = &request.content else { panic!("{request:?}") };
        let shown: Vec<String> =
            parts.iter().map(|part| format!("{} {:?}", part.name, part.value)).collect();
        assert_eq!(
            shown,
            ["prompt Text(\"a cat\")", "n Text(\"2\")", "image[] File(7)", "mask File(8)"]
        );
        let chat = openai.operation("chat.completions.create").unwrap();
        assert!(matches!(openai.request(chat, asked()), Err(RequestError::File)));
    }

    #[test]
    fn what_cannot_be_sent_says_why() {
        let stripe = Descriptor::built_in(ProviderKind::Stripe);
        let told = |operation: &str, asked: Asked| {
            let operation = stripe.operation(operation).unwrap();
            stripe.request(operation, asked).unwrap_err().to_string()
        };
        let params = |text: &str| Asked { params: Some(text.to_owned()), ..Asked::default() };
        assert_eq!(told("customers.create", params("[1]")), "params must be a map");
        let many = told("customers.retrieve", Asked::default());
        assert_eq!(many, "it takes 1 path parameters, and was given 0");
        let query = Asked {
            query: Some(format!("{{\"a\":\"{}\"}}", "b".repeat(1 << 17))),
            ..Asked::default()
        };
        assert_eq!(
            told("customers.create", query),
            "in `query`: written as a form it is larger than 65536 bytes"
        );
    }

    #[test]
    fn params_of_16_mb_take_time_for_each_byte_once() {
        let item =
            r#"{"price":"price_0123456789012345678901234567","quantity":1,"é":[true,null,0.5]},"#;
        let mut json = String::from("{\"items\":[");
        while json.len() < 16_000_000 {
            json.push_str(item);
        }
        json.pop();
        json.push_str("]}");
        let request = asked("stripe", "customers.create", &[], Some(&json));
        let form = text(&request).1;
        assert!(form.len() > 16_000_000 && form.ends_with("%5D=0.5"));
    }
}
