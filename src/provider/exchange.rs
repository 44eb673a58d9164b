//! One try of one call: send, wait for the head, read the body within its bounds. What breaks on the way is named by what it says of the outcome: nothing
//! was sent, or nobody knows.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use reqwest::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, LOCATION};
use reqwest::{Body, Client, Method, RequestBuilder, Response, StatusCode};

use super::error::{Trouble, What};
use super::request::{Content, Outgoing};
use crate::{clock, outbound};

/// Redirects that are followed, each to the same host (RFC 9110, section 15.4, leaves the number to clients).
const REDIRECTS_MAX: usize = 5;

/// Bounds of one try.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// For all of it.
    pub(super) ends: Instant,
    /// How long that was when it was set, for messages.
    pub(super) timeout: Duration,
    /// Bytes of the body.
    pub(super) bytes_max: u64,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Incoming {
    /// Its content type without parameters, in lower case.
    pub(super) fn content_type(&self) -> String {
        let value = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let kind = value.unwrap_or_default().split(';').next().unwrap_or_default();
        kind.trim().to_ascii_lowercase()
    }
}

/// Sends, and reads the whole answer.
pub(super) async fn exchange(
    client: &Client,
    outgoing: &Outgoing,
    bounds: Bounds,
) -> Result<Incoming, Trouble> {
    let response = head(client, outgoing, bounds).await?;
    rest(outgoing, response, bounds).await
}

/// The whole of an answer whose head has come.
pub(super) async fn rest(
    outgoing: &Outgoing,
    response: Response,
    bounds: Bounds,
) -> Result<Incoming, Trouble> {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let has_body = outgoing.method != Method::HEAD
        && !matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let body = if has_body { body(response, bounds).await? } else { Bytes::new() };
    Ok(Incoming { status, headers, body })
}

/// Sends, and waits for the head of the answer, behind redirects that stay where they are.
pub(super) async fn head(
    client: &Client,
    outgoing: &Outgoing,
    bounds: Bounds,
) -> Result<Response, Trouble> {
    let mut url = outgoing.url.clone();
    for _redirect in 0..=REDIRECTS_MAX {
        let request =
            client.request(outgoing.method.clone(), url.clone()).headers(outgoing.headers.clone());
        let request = with_body(request, &outgoing.body)
            .build()
            .map_err(|error| Trouble::new(What::BadCall, outbound::innermost(&error)))?;
        let response = within(bounds, client.execute(request)).await?;
        match redirected(outgoing, &url, &response)? {
            Some(next) => url = next,
            None => return plain(response),
        }
    }
    let message = format!("it redirects in a circle: {REDIRECTS_MAX} redirects were followed");
    Err(Trouble::new(What::Garbled, message))
}

/// Each try reads a body from its beginning; what is on disk is never in memory as a whole.
fn with_body(request: RequestBuilder, content: &Content) -> RequestBuilder {
    match content {
        Content::Bytes(bytes) if bytes.is_empty() => request,
        Content::Bytes(bytes) => request.body(bytes.clone()),
        Content::File(payload) => match payload.in_memory() {
            Some(bytes) => request.body(bytes.clone()),
            None => request
                .header(CONTENT_LENGTH, payload.len())
                .body(Body::wrap_stream(payload.chunks())),
        },
        Content::Form(form) => match form.whole() {
            Some(bytes) => request.body(bytes),
            None => {
                request.header(CONTENT_LENGTH, form.length).body(Body::wrap_stream(form.chunks()))
            }
        },
        // They are written before anything is sent.
        Content::Parts(_) => request,
    }
}

/// Where a redirect leads that may be followed: the same host, for a request that changes nothing.
fn redirected(
    outgoing: &Outgoing,
    url: &url::Url,
    response: &Response,
) -> Result<Option<url::Url>, Trouble> {
    let status = response.status();
    let Some(location) = response.headers().get(LOCATION).filter(|_| status.is_redirection())
    else {
        return Ok(None);
    };
    let next = location.to_str().ok().and_then(|location| url.join(location).ok());
    let same_place = |next: &url::Url| {
        (next.scheme(), next.host(), next.port_or_known_default())
            == (url.scheme(), url.host(), url.port_or_known_default())
    };
    let is_safe = matches!(outgoing.method, Method::GET | Method::HEAD);
    match next.filter(same_place).filter(|_| is_safe) {
        Some(next) => Ok(Some(next)),
        None if outgoing.whole => Ok(None),
        None => {
            let why =
                if is_safe { "to another place" } else { "a call that is not repeated blindly" };
            let message = format!("it redirects {why}, which is not followed");
            Err(Trouble::new(What::Refused, message).with_status(status.as_u16()))
        }
    }
}

/// An answer as it was asked for: without compression, so that nothing has to be inflated whose size nobody knows before.
fn plain(response: Response) -> Result<Response, Trouble> {
    let coding = response.headers().get(CONTENT_ENCODING);
    let is_coded =
        coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"));
    if !is_coded || !response.status().is_success() {
        return Ok(response);
    }
    let message = "its answer is compressed (`content-encoding`), although that was not asked for";
    Err(Trouble::new(What::Garbled, message).with_status(response.status().as_u16()))
}

/// The whole body.
async fn body(mut response: Response, bounds: Bounds) -> Result<Bytes, Trouble> {
    let status = response.status().as_u16();
    let too_large = || {
        let limit = crate::units::print_size(bounds.bytes_max);
        Trouble::new(What::TooLarge, format!("its answer has more than {limit} (`max_response`)"))
            .with_status(status)
    };
    let announced = response.content_length().unwrap_or(0);
    if announced > bounds.bytes_max {
        return Err(too_large());
    }
    let mut first: Option<Bytes> = None;
    let mut whole = BytesMut::new();
    while let Some(chunk) =
        within(bounds, response.chunk()).await.map_err(|trouble| trouble.with_status(status))?
    {
        let so_far = first.as_ref().map_or(whole.len(), Bytes::len);
        if (so_far + chunk.len()) as u64 > bounds.bytes_max {
            return Err(too_large());
        }
        // Most answers are one chunk, and that is not copied.
        match first.take() {
            None if whole.is_empty() => first = Some(chunk),
            Some(earlier) => {
                whole.extend_from_slice(&earlier);
                whole.extend_from_slice(&chunk);
            }
            None => whole.extend_from_slice(&chunk),
        }
    }
    Ok(first.unwrap_or_else(|| whole.freeze()))
}

async fn within<T>(
    bounds: Bounds,
    work: impl Future<Output = Result<T, reqwest::Error>>,
) -> Result<T, Trouble> {
    match tokio::time::timeout_at(bounds.ends.into(), work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(trouble(&error)),
        Err(_elapsed) => {
            let took = crate::units::print_duration(bounds.timeout);
            Err(Trouble::new(What::TimedOut, format!("it did not answer within {took}")))
        }
    }
}

/// What an error of the client says of the outcome.
fn trouble(error: &reqwest::Error) -> Trouble {
    let cause = outbound::innermost(error);
    if outbound::is_private(error) {
        return Trouble::new(What::NotConfigured, format!("it cannot be reached: {cause}"));
    }
    if error.is_connect() {
        let what = if error.is_timeout() { What::TimedOut } else { What::Unreachable };
        return Trouble::new(what, format!("it cannot be reached: {cause}"));
    }
    if error.is_timeout() {
        return Trouble::new(What::TimedOut, "it did not answer in time");
    }
    if error.is_builder() {
        return Trouble::new(What::BadCall, cause);
    }
    Trouble::new(What::Lost, format!("the connection broke: {cause}"))
}

/// When a try that may take `timeout` has to be through.
pub(super) fn ends(timeout: Duration, deadline: Instant) -> Instant {
    (clock::instant() + timeout).min(deadline)
}
