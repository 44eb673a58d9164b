//! The story of one delivery, on one page: verify the raw bytes, read what they say of themselves, commit them as an event. What is answered
//! and what runs is decided by others; nothing here runs a handler.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;

use crate::backoff::Backoff;
use crate::clock;
use crate::config::{self, Respond};
use crate::frame::Place;
use crate::id::EventId;
use crate::json::{self, Found, JsonError, Pointer};
use crate::multipart::{Broken, Reader};
use crate::store::NewEvent;

pub(crate) mod scheme;
pub(crate) mod signature;
pub(crate) mod verifier;
pub(crate) mod explain;
pub(crate) mod request;
pub(crate) mod sample;
mod order;

use self::explain::{Explanation, explain};
use self::request::Content;
use self::scheme::{Payload, Scheme};
use self::signature::Problem;
use self::verifier::Verifier;

/// Bytes of a type that are kept: what is longer is nobody's type.
const KIND_BYTES_MAX: usize = 1024;

/// A webhook as config means it, with the keys that its secrets are.
pub(crate) struct Webhook {
    /// Its name in config.
    pub(crate) name: Arc<str>,
    /// Where it is posted to; `{name}` stands for one part.
    pub(crate) path: Box<str>,
    /// Where config has it.
    pub(crate) place: Place,
    verifier: Verifier,
    /// Variables that config names and the environment lacks, and those whose value cannot be a secret.
    pub(crate) unset: Vec<Box<str>>,
    /// Bytes of a body.
    pub(crate) max_body: u64,
    /// Of one run of a handler; `None`: that of the scripts.
    pub(crate) timeout: Option<Duration>,
    /// Handlers at once, over all workers.
    pub(crate) concurrency: Option<usize>,
    /// Where the handler's registration does not say.
    pub(crate) retry: Backoff,
    dedupe: bool,
    ordered_by: Option<Pointer>,
    /// Who answers.
    pub(crate) respond: Respond,
}

/// A request to a webhook's path, read whole.
pub(crate) struct Delivery<'a> {
    /// As they came.
    pub(crate) headers: &'a HeaderMap,
    /// Without the `?`.
    pub(crate) query: &'a str,
    /// Decoded.
    pub(crate) params: &'a [(Box<str>, Box<str>)],
    /// The bytes that were signed.
    pub(crate) body: Bytes,
}

/// Why a delivery does not become an event.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// The variables that lack a usable value.
    #[error("no usable secret is set: {}", .0.join(", "))]
    NotConfigured(Vec<Box<str>>),
    /// What was compared and did not agree, for the log; the sender does not hear it.
    #[error("{0}")]
    NotVerified(Explanation),
    /// Nothing is inflated before it is verified, and senders do not compress.
    #[error("a body with a content-encoding is not read")]
    Encoded,
    /// Where the scheme says JSON.
    #[error("the payload is not JSON: {0}")]
    NotJson(#[from] JsonError),
    /// Where the label says form.
    #[error("the form has an escape that is not one, or too many fields")]
    NotForm,
    /// Where it says a form with files.
    #[error("the payload is not a form: {0}")]
    NotMultipart(#[from] Broken),
}

impl Webhook {
    /// From config; what is wrong with its secrets is said beside it and leaves it not configured.
    pub(crate) fn new(config: &config::Webhook) -> Option<(Self, Vec<Problem>)> {
        let scheme = Scheme::named(&config.scheme)?;
        let (verifier, problems) = Verifier::new(scheme, &config.secrets, config.tolerance);
        let unset = config
            .secrets
            .missing
            .iter()
            .chain(problems.iter().map(|problem| &problem.variable))
            .cloned()
            .collect();
        let webhook = Self {
            name: config.name.as_ref().into(),
            path: config.path.clone(),
            place: config.place.clone(),
            verifier,
            unset,
            max_body: config.max_body,
            timeout: config.timeout,
            concurrency: config.concurrency,
            retry: config.retry,
            dedupe: config.dedupe,
            ordered_by: config.ordered_by.clone(),
            respond: config.respond,
        };
        Some((webhook, problems))
    }

    /// Verifies a delivery and makes it an event, which is yet to be committed. `keep_headers` is false where nobody will look at them.
    pub(crate) fn verify(
        &self,
        delivery: Delivery<'_>,
        keep_headers: bool,
    ) -> Result<NewEvent, Refusal> {
        let now = clock::now();
        if delivery.headers.contains_key(axum::http::header::CONTENT_ENCODING) {
            return Err(Refusal::Encoded);
        }
        if !self.is_configured() {
            return Err(Refusal::NotConfigured(self.unset.clone()));
        }
        let signed = verifier::Delivery { headers: delivery.headers, body: &delivery.body };
        let verified = self
            .verifier
            .verify(&signed, now)
            .map_err(|refused| Refusal::NotVerified(explain(&self.verifier, &signed, refused)))?;
        let content = self.content(delivery.headers);
        let text = text(&content, &delivery.body)?;
        let found = text
            .as_ref()
            .map(|text| json::scan(text, &self.verifier.scheme.pointers))
            .transpose()?;
        let delivery_id =
            self.verifier.delivery_id(&verified, found.as_ref()).filter(|_| self.dedupe);
        let order_key = self
            .ordered_by
            .as_ref()
            .zip(text.as_ref())
            .and_then(|(pointer, text)| order::key(text, pointer));
        let secret = verified.secret.map(|matched| matched.variable);
        Ok(NewEvent {
            id: EventId(clock::uuid()),
            webhook: Arc::clone(&self.name),
            delivery_id,
            order_key,
            replay_of: None,
            kind: self.kind(delivery.headers, found.as_ref()),
            received_at: now,
            request: request::describe(
                keep_headers.then_some(delivery.headers),
                delivery.query,
                delivery.params,
                &content,
                secret,
            ),
            body: delivery.body,
        })
    }

    /// Whether any delivery can be verified.
    pub(crate) fn is_configured(&self) -> bool {
        self.verifier.is_configured()
    }

    /// Whether its events have types that a pattern can match.
    pub(crate) fn has_types(&self) -> bool {
        self.verifier.scheme.kind.is_some()
    }

    /// What `event.data` is; `None`: the whole payload.
    pub(crate) fn data(&self) -> Option<&'static Pointer> {
        self.verifier.scheme.data.as_ref()
    }

    /// By the scheme: JSON whatever its label says, or what the label says.
    fn content(&self, headers: &HeaderMap) -> Content {
        match self.verifier.scheme.payload {
            Payload::Json => Content::Json,
            Payload::Any => Content::of(
                headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default(),
            ),
        }
    }

    fn kind(&self, headers: &HeaderMap, found: Option<&Found<'_>>) -> Box<str> {
        let kind = self.verifier.scheme.kind(headers, found);
        if kind.len() <= KIND_BYTES_MAX {
            return kind.into();
        }
        format!("{}…", &kind[..kind.floor_char_boundary(KIND_BYTES_MAX)]).into()
    }
}

/// The body as JSON text, if it is to be JSON; a form must be one.
fn text<'a>(content: &Content, body: &'a [u8]) -> Result<Option<Cow<'a, str>>, Refusal> {
    match content {
        Content::Json => return Ok(Some(json::prepare(body)?)),
        Content::Form if !request::is_form(body) => return Err(Refusal::NotForm),
        Content::Multipart(boundary) if boundary.is_empty() => {
            return Err(Broken::NoBoundary.into());
        }
        Content::Multipart(boundary) => _ = Reader::read(boundary, body)?,
        Content::Form | Content::Text => {}
    }
    Ok(None)
}
