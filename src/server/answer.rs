//! The only place that decides a status code: the table of errors that callers see. Every error body is `{"error", "code", …}`; nothing of a
//! script, a secret or a payload is in it.

use axum::body::Body;
use axum::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode};
use serde_json::json;

use crate::script::Ending;
use crate::script::api::request::INVALID_PAYLOAD;
use crate::script::api::respond::Answer;
use crate::script::run::Failure;
use crate::store::StoreError;
use crate::webhook::Refusal;

/// After this many seconds a refused sender may come again.
const RETRY_AFTER_S: u32 = 5;
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What a request gets that is not what it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    BadRequest,
    InvalidPayload,
    InvalidSignature,
    NotFound,
    /// With the methods that exist.
    MethodNotAllowed(Methods),
    RequestTimeout,
    Conflict,
    PayloadTooLarge,
    UnsupportedMediaType,
    ExpectationFailed,
    NotConfigured,
    Unavailable,
    RateLimited,
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

    pub(super) fn list(self) -> String {
        let listed: Vec<&str> = METHODS
            .into_iter()
            .enumerate()
            .filter(|(index, _)| self.0 & 1 << index != 0)
            .map(|(_, method)| method)
            .collect();
        listed.join(", ")
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
            Self::PayloadTooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", "Payload too large")
            }
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
            Self::RateLimited => (
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
        let (status, code, error) = self.row();
        let mut body = json!({ "error": error, "code": code });
        if matches!(self, Self::Script | Self::ScriptLimit) {
            body["id"] = id.into();
        }
        if self == Self::RateLimited {
            body["retryAfter"] = RETRY_AFTER_S.into();
        }
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, JSON);
        match self {
            Self::MethodNotAllowed(methods) => {
                if let Ok(list) = HeaderValue::from_str(&methods.list()) {
                    headers.insert(ALLOW, list);
                }
            }
            Self::Unavailable | Self::RateLimited | Self::ScriptLimit => {
                _ = headers.insert(RETRY_AFTER, RETRY_AFTER_S.into())
            }
            _ => {}
        }
        response
    }
}

impl From<&Refusal> for Problem {
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::NotConfigured(_) => Self::NotConfigured,
            Refusal::NotVerified(_) => Self::InvalidSignature,
            Refusal::Encoded => Self::UnsupportedMediaType,
            Refusal::NotJson(_) | Refusal::NotForm => Self::InvalidPayload,
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
        Failure::Thrown { code, .. } => thrown(code.as_deref()).answer(id),
        Failure::Ended {
            ending: Ending::Cpu | Ending::Memory | Ending::Timeout | Ending::Stack,
            ..
        }
        | Failure::Runaway => Problem::ScriptLimit.answer(id),
        Failure::Ended { ending: Ending::Cancelled, .. } | Failure::NoStack => {
            Problem::Unavailable.answer(id)
        }
        Failure::Panicked => Problem::Script.answer(id),
    }
}

/// By the code of a thrown map, where it is one of ours.
fn thrown(code: Option<&str>) -> Problem {
    match code {
        Some(INVALID_PAYLOAD) => Problem::InvalidPayload,
        Some("SERVICE_UNAVAILABLE" | "TIMEOUT") => Problem::Unavailable,
        Some("CONFIGURATION_ERROR") => Problem::NotConfigured,
        Some("RATE_LIMIT_EXCEEDED") => Problem::RateLimited,
        Some(_) | None => Problem::Script,
    }
}

/// A handler's own answer.
pub(super) fn of_script(answer: Answer) -> Response<Body> {
    let Answer { status, content_type, headers: given, body } = answer;
    let mut response = Response::new(Body::from(body));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if let Some(content_type) = content_type {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    for (name, value) in given {
        if let (Ok(name), Ok(value)) =
            (HeaderName::try_from(&*name), HeaderValue::try_from(&*value))
        {
            headers.append(name, value);
        }
    }
    response
}

/// What every accepted delivery hears, the first as well as its duplicates.
pub(super) fn received() -> Response<Body> {
    let mut response =
        Response::new(Body::from(bytes::Bytes::from_static(br#"{"received":true}"#)));
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// A small text, for health.
pub(super) fn text(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(bytes::Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
