//! HTTP around the stand-ins: accepts, reads requests whole and within bounds, and sends what `behaviour` has left of the answer.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::answer::{Answer, Body};
use super::behaviour::{Fail, Fate};
use super::request::Request;
use super::{Moment, Shared, State, control};
use crate::clock;

/// Connections at once; further ones wait to be accepted. The benchmark opens 1,000 streams.
const CONNECTIONS_MAX: usize = 4_096;
/// Bytes of one body. OpenAI takes files of 512 MB; tests upload 50 MB.
const BODY_BYTES_MAX: usize = 64 << 20;
/// After an error of `accept`, such as no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why a connection is ended without the whole of an answer: it was told so, or the client left.
#[derive(Debug, thiserror::Error)]
#[error("the connection ends here")]
struct Broken;

/// Accepts until it is dropped, and every connection with it.
pub(super) async fn serve(listener: &TcpListener, shared: &Arc<Shared>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = Arc::clone(shared);
                connections.spawn(async move {
                    connection(stream, shared).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!("a connection to the stand-in could not be accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    // Pieces of a stream must not wait for each other.
    _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { handle(request, shared).await }
    });
    let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    if let Err(error) = served {
        tracing::trace!("a connection to the stand-in ended: {error}");
    }
}

async fn handle(
    request: hyper::Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<UnsyncBoxBody<Bytes, Broken>>, Broken> {
    let request = match read(request).await {
        Ok(request) => request,
        Err(Unread::TooLong) => {
            return Ok(whole(Answer::whole(
                StatusCode::PAYLOAD_TOO_LARGE,
                "text/plain",
                Bytes::from_static(b"the body is longer than a stand-in keeps\n"),
            )));
        }
        Err(Unread::Broken) => return Err(Broken),
    };
    if let Some(path) = request.path.strip_prefix("/_stand_in/") {
        return Ok(whole(control::answer(path, &request, &shared).await));
    }
    let (outcome, latency, pacing) = decide(&mut shared.state(), &request);
    tokio::time::sleep(latency).await;
    match outcome {
        Outcome::Answer(answer) => Ok(response(answer, pacing)),
        Outcome::Nothing => Err(Broken),
        Outcome::Never => std::future::pending().await,
    }
}

enum Outcome {
    Answer(Answer),
    Nothing,
    Never,
}

/// How the pieces of a stream are sent.
#[derive(Clone, Copy)]
struct Pacing {
    delay: Duration,
    cut_after: Option<usize>,
}

/// What is carried out is carried out before the answer waits, so that a client that leaves meanwhile has still asked for it.
fn decide(state: &mut State, request: &Request) -> (Outcome, Duration, Pacing) {
    state.recorded.push(request);
    let instant = clock::instant();
    let chance = state.ids.chance();
    let latency = state.behaviour.latency(&request.path);
    let pacing = Pacing {
        delay: Duration::from_millis(state.behaviour.chunk_delay_ms),
        cut_after: state.behaviour.cut_stream_after,
    };
    let moment = |room| Moment { now: clock::now(), instant, latency, room };
    let outcome = match state.behaviour.next(&request.path, instant, chance) {
        Fate::Answered(room) => Outcome::Answer(state.answer(request, &moment(room))),
        Fate::Failed(fail) => Outcome::Answer(failure(state, fail)),
        Fate::Limited(wait) => Outcome::Answer(state.limited(wait)),
        Fate::Lost => {
            _ = state.answer(request, &moment(None));
            Outcome::Nothing
        }
        Fate::Dropped => Outcome::Nothing,
        Fate::Hung => Outcome::Never,
    };
    (outcome, latency, pacing)
}

fn failure(state: &mut State, fail: Fail) -> Answer {
    let status = StatusCode::from_u16(fail.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = state.failure(status);
    if let Some(body) = fail.body {
        answer.body = Body::Whole(match body {
            serde_json::Value::String(text) => Bytes::from(text),
            other => Bytes::from(other.to_string()),
        });
    }
    for (name, value) in fail.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            answer.headers.insert(name, value);
        }
    }
    answer
}

enum Unread {
    TooLong,
    Broken,
}

async fn read(request: hyper::Request<Incoming>) -> Result<Request, Unread> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() { Unread::TooLong } else { Unread::Broken }
    })?;
    let query = form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes());
    Ok(Request {
        method: head.method,
        path: head.uri.path().to_owned(),
        query: query.into_owned().collect(),
        headers: head.headers,
        body: body.to_bytes(),
    })
}

fn whole(answer: Answer) -> Response<UnsyncBoxBody<Bytes, Broken>> {
    response(answer, Pacing { delay: Duration::ZERO, cut_after: None })
}

fn response(answer: Answer, pacing: Pacing) -> Response<UnsyncBoxBody<Bytes, Broken>> {
    let body = match answer.body {
        Body::Whole(bytes) => {
            let never = |error: Infallible| match error {};
            Full::new(bytes).map_err(never).boxed_unsync()
        }
        Body::Pieces(pieces) => pieces_of(pieces, pacing),
    };
    let mut response = Response::new(body);
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response
}

fn pieces_of(pieces: Vec<Bytes>, pacing: Pacing) -> UnsyncBoxBody<Bytes, Broken> {
    let pieces = pieces.into_iter().enumerate();
    let frames = stream::unfold(pieces, move |mut pieces| async move {
        let (number, piece) = pieces.next()?;
        if number > 0 && !pacing.delay.is_zero() {
            tokio::time::sleep(pacing.delay).await;
        }
        if pacing.cut_after.is_some_and(|after| number >= after) {
            // Given up the turn, so that the pieces before have left when the connection is broken off.
            tokio::time::sleep(CUT_PAUSE).await;
            return Some((Err(Broken), pieces));
        }
        Some((Ok(Frame::data(piece)), pieces))
    });
    StreamBody::new(frames).boxed_unsync()
}

/// Between the last piece of a stream and its being cut: hyper flushes what it has as soon as there is nothing more at once.
const CUT_PAUSE: Duration = Duration::from_millis(10);
