//! The body of a route's request: small ones stay in memory, larger ones wait in a spool file, and where the parts of a form with files lie is found
//! out as they come. What is wrong with a form is told when the script looks at it.

use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use hyper::body::Body as _;

use super::answer::Problem;
use super::body::Body;
use super::request;
use super::router::Context;
use crate::multipart::{self, Broken, Part, Reader};
use crate::payload::{MEMORY_BYTES_MAX, Payload, SpoolError, Spooling};

/// A body that has come.
pub(super) struct Received {
    /// As it came.
    pub(super) payload: Payload,
    /// Of a form with files; `None`: its label says that it is something else.
    pub(super) parts: Option<Result<Vec<Part>, Broken>>,
}

/// Reads it whole. Too long is refused before it is read, where its length is told.
pub(super) async fn receive(
    context: &Context<'_>,
    headers: &HeaderMap,
    body: Body,
    bytes_max: u64,
) -> Result<Received, Problem> {
    let timeout = context.generation.config.server.read_timeout;
    let mut form = Form::of(headers);
    let size = body.size_hint();
    if size.upper().is_some_and(|bytes| bytes <= MEMORY_BYTES_MAX) {
        let body = request::body(body, bytes_max, timeout).await?;
        form.push(&body);
        return Ok(Received { payload: Payload::from(body), parts: form.finish() });
    }
    if size.lower() > bytes_max {
        return Err(Problem::PayloadTooLarge);
    }
    let spooled = spool(context, body, bytes_max, &mut form);
    let payload =
        tokio::time::timeout(timeout, spooled).await.map_err(|_| Problem::RequestTimeout)??;
    Ok(Received { payload, parts: form.finish() })
}

async fn spool(
    context: &Context<'_>,
    mut body: Body,
    bytes_max: u64,
    form: &mut Form,
) -> Result<Payload, Problem> {
    let mut spooling = Spooling::new(&context.client.front.process.spool);
    let mut length: u64 = 0;
    while let Some(data) = request::piece(&mut body, &mut length, bytes_max).await? {
        form.push(&data);
        spooling.push(&data).await.map_err(|error| not_spooled(context, &error))?;
    }
    spooling.finish().await.map_err(|error| not_spooled(context, &error))
}

fn not_spooled(context: &Context<'_>, error: &SpoolError) -> Problem {
    tracing::error!(request = %context.id, "the body of a request could not be kept: {error}");
    Problem::Unavailable
}

/// A form with files while it comes; `None`: it is none.
struct Form(Option<Result<Reader, Broken>>);

impl Form {
    fn of(headers: &HeaderMap) -> Self {
        let label = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let label = label.filter(|label| multipart::is_form_data(label));
        Self(label.map(|label| {
            multipart::boundary(label)
                .map(|boundary| Reader::new(&boundary))
                .ok_or(Broken::NoBoundary)
        }))
    }

    fn push(&mut self, bytes: &[u8]) {
        if let Some(Ok(reader)) = &mut self.0
            && let Err(broken) = reader.push(bytes)
        {
            self.0 = Some(Err(broken));
        }
    }

    fn finish(self) -> Option<Result<Vec<Part>, Broken>> {
        self.0.map(|reader| reader.and_then(Reader::finish))
    }
}
