//! An answer as plain data: a status, headers, and a body that is whole or comes in pieces.

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use serde_json::Value;

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
}

/// What it says.
#[derive(Clone, Debug)]
pub(super) enum Body {
    Whole(Bytes),
    /// Sent one by one, with the pause between them that the stand-in was told to make.
    Pieces(Vec<Bytes>),
}

impl Answer {
    pub(super) fn json(status: StatusCode, value: &Value) -> Self {
        Self::whole(status, "application/json", Bytes::from(value.to_string()))
    }

    pub(super) fn ok(value: &Value) -> Self {
        Self::json(StatusCode::OK, value)
    }

    pub(super) fn whole(status: StatusCode, content_type: &'static str, body: Bytes) -> Self {
        let headers =
            HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        Self { status, headers, body: Body::Whole(body) }
    }

    /// Server-sent events, each of which is a piece.
    pub(super) fn events(pieces: Vec<Bytes>) -> Self {
        let mut answer =
            Self::whole(StatusCode::OK, "text/event-stream; charset=utf-8", Bytes::new());
        answer.body = Body::Pieces(pieces);
        answer.with("cache-control", "no-cache")
    }

    /// With a header more. A value that no header can carry is left out, as one that a client sent may be.
    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }
}
