//! A call of a provider as plain data: what a script asks for, and what it hears. Nothing here knows how a provider is reached, and nothing holds a
//! value of the script.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::clock::Millis;
use crate::multipart::Sent;
use crate::payload::Payload;
use crate::store::Json;

/// One outbound call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ProviderCall {
    /// As config names it.
    pub(crate) provider: Arc<str>,
    /// What is called there.
    pub(crate) target: Target,
    /// Everything that may be left out.
    pub(crate) options: CallOptions,
    /// Of a list: which page, where that is not the first.
    pub(crate) page: Option<PagePlace>,
}

/// What is called.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Target {
    /// `x.get("/path")` and its like.
    Path {
        /// The verb.
        method: Verb,
        /// Below the provider's base URL, or a whole URL that config allows.
        path: Box<str>,
        /// Whether status and headers are wanted too, and no status is an error (`x.request`).
        whole: bool,
    },
    /// `x.resource.operation(…)`.
    Operation {
        /// `checkout.sessions.create`.
        name: Arc<str>,
        /// Its path parameters, in their order.
        path: Vec<Box<str>>,
        /// An object, where any were given.
        params: Option<Json>,
        /// The files among them.
        files: Vec<Sent>,
    },
}

/// A verb of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// `GET`.
    Get,
    /// `HEAD`.
    Head,
    /// `POST`.
    Post,
    /// `PUT`.
    Put,
    /// `PATCH`.
    Patch,
    /// `DELETE`.
    Delete,
    /// `OPTIONS`.
    Options,
}

impl Verb {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Get, "GET"),
        (Self::Head, "HEAD"),
        (Self::Post, "POST"),
        (Self::Put, "PUT"),
        (Self::Patch, "PATCH"),
        (Self::Delete, "DELETE"),
        (Self::Options, "OPTIONS"),
    ];

    /// In capitals, as it goes over the wire.
    pub(crate) fn word(self) -> &'static str {
        Self::ALL.iter().find(|(verb, _)| *verb == self).map_or("GET", |(_, word)| word)
    }

    /// In any case.
    pub(crate) fn of(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| known.eq_ignore_ascii_case(word)).map(|(verb, _)| *verb)
    }

    /// Whether it changes nothing (RFC 9110, section 9.2.1).
    pub(crate) fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options)
    }

    /// Whether twice is the same as once (RFC 9110, section 9.2.2).
    pub(crate) fn is_idempotent(self) -> bool {
        !matches!(self, Self::Post | Self::Patch)
    }
}

/// The options of a call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CallOptions {
    /// The body; at most one kind of it.
    pub(crate) body: Option<CallBody>,
    /// An object whose fields go behind `?`.
    pub(crate) query: Option<Json>,
    /// Names in lower case.
    pub(crate) headers: Vec<(Box<str>, Box<str>)>,
    /// Of one try; `None`: the provider's.
    pub(crate) timeout: Option<Duration>,
    /// Instead of the one that is made for the call.
    pub(crate) idempotency_key: Option<Box<str>>,
    /// False: where it would have to wait for a limit, it throws.
    pub(crate) wait: bool,
    /// The answer is wanted as it comes.
    pub(crate) stream: bool,
}

impl Default for CallOptions {
    fn default() -> Self {
        Self {
            body: None,
            query: None,
            headers: Vec::new(),
            timeout: None,
            idempotency_key: None,
            wait: true,
            stream: false,
        }
    }
}

/// A body as the script gives it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum CallBody {
    /// Any value, as JSON.
    Json(Json),
    /// An object, as `application/x-www-form-urlencoded`.
    Form(Json),
    /// Text, which is sent as `text/plain` where no header says otherwise.
    Text(Box<str>),
    /// Bytes, with its content type where it has one.
    File(Payload, Option<Box<str>>),
    /// A form with files.
    Multipart(Vec<Sent>),
}

/// What a script asks of a stream that it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamPart {
    /// The next chunk.
    Chunk,
    /// All that is left, put together.
    Message,
    /// What it used, as far as it has said so.
    Usage,
    /// Why the model stopped, as far as it has said so.
    FinishReason,
}

/// What came back.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Called {
    /// Of HTTP.
    pub(crate) status: u16,
    /// Names in lower case; several of one name stand beside each other.
    pub(crate) headers: Vec<(Box<str>, Box<str>)>,
    /// Decoded by its content type.
    pub(crate) body: CalledBody,
    /// Where it is a page of a list.
    pub(crate) page: Option<Box<Page>>,
}

impl Called {
    /// The provider's own id of the request, for whoever asks it about one.
    pub(crate) fn request_id(&self) -> Option<&str> {
        let named =
            |(name, _): &&(Box<str>, Box<str>)| matches!(&**name, "request-id" | "x-request-id");
        self.headers.iter().find(named).map(|(_, value)| &**value)
    }
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Page {
    /// The way to its items in the body; none where the body is the list.
    pub(crate) items: Box<[Box<str>]>,
    /// Where the list goes on.
    pub(crate) next: Option<PagePlace>,
}

/// Where a page of a list begins that is not the first.
#[derive(Clone, Debug, PartialEq, Hash)]
pub(crate) enum PagePlace {
    /// A field of the query, and its value.
    Query(Box<str>, Box<str>),
    /// A URL of its own, as the answer before has named it.
    Url(Box<str>),
}

/// An answer's body.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum CalledBody {
    /// There is none.
    Nothing,
    /// JSON.
    Json(Json),
    /// Text of another kind.
    Text(Box<str>),
    /// What is no text.
    Bytes(Bytes),
}

/// Why a call failed, in the words that scripts see.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CallError {
    /// `RATE_LIMIT_EXCEEDED` and its like.
    pub(crate) code: &'static str,
    /// As config names it.
    pub(crate) provider: Arc<str>,
    /// `checkout.sessions.create`, or `POST /path`.
    pub(crate) operation: Box<str>,
    /// Of HTTP, where an answer came.
    pub(crate) status: Option<u16>,
    /// A sentence for people.
    pub(crate) message: Box<str>,
    /// Whole seconds after which another try makes sense, rounded up.
    pub(crate) retry_after: Option<u64>,
    /// What the provider said; secrets are taken out.
    pub(crate) body: Option<CalledBody>,
}

/// How a provider is doing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Health {
    /// Whether calling it makes sense.
    pub(crate) is_healthy: bool,
    /// Calls of the last five minutes.
    pub(crate) calls: u64,
    /// Of these, from 0 to 1; `None`: there were none.
    pub(crate) success_rate: Option<f64>,
    /// Their mean.
    pub(crate) latency_ms: Option<u64>,
    /// 95 of 100 took less.
    pub(crate) p95_ms: Option<u64>,
    /// `closed`, `open` or `half_open`.
    pub(crate) breaker: &'static str,
    /// For so long its own answers keep everybody out; 0: it is open.
    pub(crate) closed_ms: u64,
    /// What its answers say is left.
    pub(crate) headroom: Vec<Headroom>,
    /// The code of the last call that spoke against it, and when that was.
    pub(crate) last_error: Option<(&'static str, Millis)>,
}

/// What is left of one limit of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Headroom {
    /// `requests`, `tokens`.
    pub(crate) of: Box<str>,
    /// So many are left.
    pub(crate) remaining: u64,
    /// Of so many.
    pub(crate) limit: Option<u64>,
    /// When it is full again.
    pub(crate) resets_in_ms: Option<u64>,
    /// When it will be used up at the pace of the last minute.
    pub(crate) exhausted_in_ms: Option<u64>,
}
