//! The only place that decides a status code: the table of errors that callers see. Every error body is `{"error", "code", …}`; nothing of a
//! script, a secret or a payload is in it.

use std::borrow::Cow;

use axum::http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use bytes::Bytes;

use super::body::Body;
use crate::auth;
use crate::clock;
use crate::id::RequestId;
use crate::script::Ending;
use crate::script::api::request::INVALID_PAYLOAD;
use crate::script::api::respond::Answer;
use crate::script::host_call::{AttemptEnd, CallEnd};
use crate::script::run::Failure;
use crate::store::{Recorded, StoreError};
use crate::webhook::Refusal;

/// After this many seconds a refused sender may come again.
const RETRY_AFTER_S: u32 = 5;
/// Tells an answer that was given before from one that was made now.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What a request gets that is not what it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    BadRequest,
    InvalidPayload,
    InvalidSignature,
    Unauthorized,
    InvalidToken,
    TokenExpired,
    NotFound,
    /// With the methods that exist.
    MethodNotAllowed(Methods),
    RequestTimeout,
    Conflict,
    IdempotencyMismatch,
    PayloadTooLarge,
    UriTooLong,
    HeadersTooLarge,
    UnsupportedMediaType,
    ExpectationFailed,
    NotConfigured,
    Unavailable,
    /// With the seconds after which it may be asked again.
    RateLimited {
        after_s: u32,
    },
    Script,
    ScriptLimit,
}

/// A set of methods, as `Allow` lists them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Methods(u8);

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

impl Methods {
    /// The set with one more; `GET` brings `HEAD`.
    pub(super) fn with(self, method: &str) -> Self {
        let bit = |method: &str| {
            METHODS.iter().position(|known| *known == method).map_or(0, |index| 1 << index)
        };
        Self(self.0 | bit(method) | if method == "GET" { bit("HEAD") } else { 0 })
    }

    fn header(self) -> HeaderValue {
        let listed: Vec<&str> = METHODS
            .into_iter()
            .enumerate()
            .filter(|(index, _)| self.0 & 1 << index != 0)
            .map(|(_, method)| method)
            .collect();
        HeaderValue::try_from(listed.join(", ")).expect("names of methods are plain text")
    }
}

impl Problem {
    const fn row(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::BadRequest => (StatusCode::BAD_REQUEST, "BAD_REQUEST", "Bad request"),
            Self::InvalidPayload => (StatusCode::BAD_REQUEST, INVALID_PAYLOAD, "Invalid payload"),
            Self::InvalidSignature => {
                (StatusCode::UNAUTHORIZED, "INVALID_SIGNATURE", "Invalid webhook signature")
            }
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "Unauthorized"),
            Self::InvalidToken => (StatusCode::UNAUTHORIZED, "INVALID_TOKEN", "Invalid token"),
            Self::TokenExpired => (StatusCode::UNAUTHORIZED, "TOKEN_EXPIRED", "Token expired"),
            Self::NotFound => (StatusCode::NOT_FOUND, "NOT_FOUND", "Not found"),
            Self::MethodNotAllowed(_) => {
                (StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "Method not allowed")
            }
            Self::RequestTimeout => (
                StatusCode::REQUEST_TIMEOUT,
                "REQUEST_TIMEOUT",
                "The request took too long to arrive",
            ),
            Self::Conflict => {
                (StatusCode::CONFLICT, "CONFLICT", "The request conflicts with another")
            }
            Self::IdempotencyMismatch => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "IDEMPOTENCY_MISMATCH",
                "The idempotency key was used for another request",
            ),
            Self::PayloadTooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", "Payload too large")
            }
            Self::UriTooLong => (StatusCode::URI_TOO_LONG, "URI_TOO_LONG", "URI too long"),
            Self::HeadersTooLarge => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "HEADERS_TOO_LARGE",
                "Headers too large",
            ),
            Self::UnsupportedMediaType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "UNSUPPORTED_MEDIA_TYPE",
                "Unsupported media type",
            ),
            Self::ExpectationFailed => (
                StatusCode::EXPECTATION_FAILED,
                "EXPECTATION_FAILED",
                "Only 100-continue may be expected",
            ),
            Self::NotConfigured => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "CONFIGURATION_ERROR",
                "Configuration error. Please contact support.",
            ),
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "SERVICE_UNAVAILABLE",
                "Service temporarily unavailable. Please try again later.",
            ),
            Self::RateLimited { .. } => (
                StatusCode::TOO_MANY_REQUESTS,
                "RATE_LIMIT_EXCEEDED",
                "Too many requests. Please wait a moment and try again.",
            ),
            Self::Script => (StatusCode::INTERNAL_SERVER_ERROR, "SCRIPT_ERROR", "Internal error"),
            Self::ScriptLimit => (
                StatusCode::SERVICE_UNAVAILABLE,
                "SCRIPT_LIMIT",
                "The request took too much to answer",
            ),
        }
    }

    /// The answer. `id`: the request's, which script errors repeat in their body, to be found in the log.
    pub(super) fn answer(self, id: &str) -> Response<Body> {
        let (status, ..) = self.row();
        let mut response = Response::new(Body::from(self.body(id)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, JSON);
        match self {
            Self::MethodNotAllowed(methods) => _ = headers.insert(ALLOW, methods.header()),
            Self::Unauthorized | Self::InvalidToken | Self::TokenExpired => {
                _ = headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(self.challenge()));
            }
            // What is left of the request is not read.
            Self::RequestTimeout | Self::PayloadTooLarge => {
                _ = headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Self::RateLimited { after_s } => _ = headers.insert(RETRY_AFTER, after_s.into()),
            Self::Unavailable | Self::ScriptLimit => {
                _ = headers.insert(RETRY_AFTER, RETRY_AFTER_S.into());
            }
            _ => {}
        }
        response
    }

    /// What a client is to present, and what was wrong with what it did (RFC 6750, section 3).
    const fn challenge(self) -> &'static str {
        match self {
            Self::InvalidToken => "Bearer error=\"invalid_token\"",
            Self::TokenExpired => {
                "Bearer error=\"invalid_token\", error_description=\"The token expired\""
            }
            _ => "Bearer",
        }
    }

    /// Neither the texts of the table nor an id holds anything that JSON would escape.
    fn body(self, id: &str) -> String {
        let (_, code, error) = self.row();
        match self {
            Self::Script | Self::ScriptLimit => {
                format!(r#"{{"error":"{error}","code":"{code}","id":"{id}"}}"#)
            }
            Self::RateLimited { after_s } => {
                format!(r#"{{"error":"{error}","code":"{code}","retryAfter":{after_s}}}"#)
            }
            _ => format!(r#"{{"error":"{error}","code":"{code}"}}"#),
        }
    }
}

/// What a connection past the limit hears, whatever it would have asked: the bytes of a whole answer.
pub(super) fn full() -> String {
    let id = RequestId(clock::uuid());
    let body = Problem::Unavailable.body("");
    let length = body.len();
    format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nretry-after: {RETRY_AFTER_S}\r\nx-request-id: {id}\r\nconnection: close\r\n\r\n{body}"
    )
}

impl From<&Refusal> for Problem {
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::NotConfigured(_) => Self::NotConfigured,
            Refusal::NotVerified(_) => Self::InvalidSignature,
            Refusal::Encoded => Self::UnsupportedMediaType,
            Refusal::NotJson(_) | Refusal::NotForm | Refusal::NotMultipart(_) => {
                Self::InvalidPayload
            }
        }
    }
}

impl From<&auth::Refusal> for Problem {
    fn from(refusal: &auth::Refusal) -> Self {
        match refusal {
            auth::Refusal::Missing => Self::Unauthorized,
            auth::Refusal::Invalid(_) => Self::InvalidToken,
            auth::Refusal::Expired => Self::TokenExpired,
            auth::Refusal::NotConfigured(_) => Self::NotConfigured,
            auth::Refusal::NoKeys => Self::Unavailable,
        }
    }
}

impl From<&StoreError> for Problem {
    fn from(_error: &StoreError) -> Self {
        Self::Unavailable
    }
}

/// What a caller hears of a run that gave no answer.
pub(super) fn of_failure(failure: Failure, id: &str) -> Response<Body> {
    match failure {
        Failure::ThrownAnswer(answer) => of_script(answer),
        Failure::Thrown { code, retry_after, .. } => {
            thrown(code.as_deref(), retry_after).answer(id)
        }
        Failure::Ended {
            ending: Ending::Cpu | Ending::Memory | Ending::Timeout | Ending::Stack,
            ..
        }
        | Failure::Runaway
        | Failure::Stopped(_) => Problem::ScriptLimit.answer(id),
        Failure::Ended { ending: Ending::Cancelled, .. }
        | Failure::ByCall(CallEnd::Parked { .. })
        | Failure::NoStack
        | Failure::ByHandler(AttemptEnd::RetryLater { .. }) => Problem::Unavailable.answer(id),
        Failure::Ended { ending: Ending::ByHandler | Ending::ByCall, .. }
        | Failure::ByCall(CallEnd::Unknown { .. })
        | Failure::ByHandler(AttemptEnd::GiveUp { .. })
        | Failure::Panicked => Problem::Script.answer(id),
    }
}

/// By the code of a thrown map, where it is one of ours.
fn thrown(code: Option<&str>, retry_after: Option<u32>) -> Problem {
    match code {
        Some(INVALID_PAYLOAD) => Problem::InvalidPayload,
        Some("SERVICE_UNAVAILABLE" | "TIMEOUT") => Problem::Unavailable,
        Some("CONFIGURATION_ERROR") => Problem::NotConfigured,
        Some("RATE_LIMIT_EXCEEDED" | "BUDGET_EXCEEDED") => {
            Problem::RateLimited { after_s: retry_after.unwrap_or(RETRY_AFTER_S) }
        }
        Some(_) | None => Problem::Script,
    }
}

/// A handler's own answer.
pub(super) fn of_script(answer: Answer) -> Response<Body> {
    let Answer { status, content_type, headers: given, body } = answer;
    let mut response = Response::new(Body::of(body));
    *response.status_mut() = code(status);
    let headers = response.headers_mut();
    match content_type {
        Some(Cow::Borrowed(text)) => {
            _ = headers.insert(CONTENT_TYPE, HeaderValue::from_static(text))
        }
        Some(Cow::Owned(text)) => headers.extend(
            HeaderValue::try_from(text).ok().map(|content_type| (CONTENT_TYPE, content_type)),
        ),
        None => {}
    }
    append(headers, &given);
    response
}

/// A handler's own answer, in the form in which it is kept.
pub(super) fn of_recorded(recorded: &Recorded) -> Response<Body> {
    let mut response = Response::new(Body::from(Bytes::clone(&recorded.body)));
    *response.status_mut() = code(recorded.status);
    append(response.headers_mut(), &recorded.headers);
    response
}

/// The same once more, for whoever asks again.
pub(super) fn replayed(recorded: &Recorded) -> Response<Body> {
    let mut response = of_recorded(recorded);
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

fn code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn append(headers: &mut HeaderMap, given: &[(Box<str>, Box<str>)]) {
    for (name, value) in given {
        if let (Ok(name), Ok(value)) =
            (HeaderName::try_from(&**name), HeaderValue::try_from(&**value))
        {
            headers.append(name, value);
        }
    }
}

/// What every accepted delivery hears, the first as well as its duplicates.
pub(super) fn received() -> Response<Body> {
    let mut response = Response::new(Body::from(Bytes::from_static(br#"{"received":true}"#)));
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// A small text, for health.
pub(super) fn text(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// What may be asked of a path.
pub(super) fn options(methods: Methods) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(ALLOW, methods.header());
    response
}

/// `OPTIONS *`: the server is there (RFC 9110, section 9.3.7).
pub(super) fn of_server() -> Response<Body> {
    Response::new(Body::empty())
}
