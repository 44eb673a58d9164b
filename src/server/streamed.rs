//! A route that answers with a stream which its script writes: what the handler did is committed → the stream is written as the client reads →
//! what was written meanwhile is committed → the stream ends. Until its first byte an error is an answer like any other; after it an event stream
//! is told, and every other is cut, so that nothing broken looks whole.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response};

use super::answer::{self, Problem};
use super::body::Body;
use super::route::{self, Streams};
use super::router::Context;
use super::{Client, Counted};
use crate::execution::{Begun, Executed, Opening, Pieces};
use crate::generation::Pinned;
use crate::inbox::Pass;
use crate::script::host_call::Form;
use crate::script::run::Failure;
use crate::store::Committed;

/// What ends or interrupts a run, for whoever waits for its answer.
pub(super) enum Step {
    Ended(Executed),
    /// Its result is a stream.
    Begins(Begun),
}

/// A run that owns all that it needs, so that it can go on when its request has been answered.
pub(super) type Running = Pin<Box<dyn Future<Output = Executed>>>;

/// nginx and its like hold an answer back unless it says this.
const UNBUFFERED: HeaderName = HeaderName::from_static("x-accel-buffering");
const EVENTS: &str = "text/event-stream";

/// Until the run ends or wants to stream.
pub(super) async fn step(running: &mut Running, opening: Option<&Opening>) -> Step {
    poll_fn(|context| match running.as_mut().poll(context) {
        Poll::Ready(executed) => Poll::Ready(Step::Ended(executed)),
        Poll::Pending => match opening.and_then(Opening::asked) {
            Some(begun) => Poll::Ready(Step::Begins(begun)),
            None => Poll::Pending,
        },
    })
    .await
}

/// A stream whose effects so far are committed.
pub(super) struct Stream {
    /// Its answer without a body.
    pub(super) head: Response<Body>,
    pub(super) running: Running,
    pub(super) opening: Rc<Opening>,
    /// The name of its script.
    pub(super) script: Arc<str>,
    /// Whether it has begun something outside that cannot be taken back.
    pub(super) has_acted: Rc<Cell<bool>>,
    /// Its place among those that its registration bounds.
    pub(super) pass: Option<Pass>,
}

/// Answers with it: the head goes out with the first byte, and so does the content type, where the script has not named it.
pub(super) async fn answer(
    context: &Context<'_>,
    stream: Stream,
    streams: Streams,
) -> Response<Body> {
    let Stream { mut head, mut running, opening, script, has_acted, pass } = stream;
    if streams == Streams::HeadOnly {
        return head;
    }
    let outlet = opening.agree();
    let begun = {
        let mut waiting = pin!(first(&mut running, &opening));
        let begun = tokio::select! {
            biased;
            begun = waiting.as_mut() => Some(begun),
            () = context.client.stream.left() => None,
        };
        match begun {
            Some(begun) => begun,
            None if has_acted.get() => waiting.await,
            None => return Problem::Unavailable.answer(&context.id),
        }
    };
    let (form, ended) = match begun {
        First::Written(form, ended) => (form, ended),
        First::Nothing(executed) => return without_body(context, &script, head, executed).await,
    };
    name_content(head.headers_mut(), form);
    let is_events = is_events(head.headers());
    *head.body_mut() = Body::Piped(outlet);
    let rest = Rest {
        id: context.id.clone(),
        client: Rc::clone(context.client),
        generation: Rc::clone(&context.generation),
        opening,
        script,
        is_events,
        has_acted,
        _pass: pass,
    };
    tokio::task::spawn_local(async move {
        let client = Rc::clone(&rest.client);
        let _counted = Counted::new(&client.front.under_way);
        rest.write(running, ended).await;
    });
    head
}

/// Answers with what a provider streams. Its run is over.
pub(super) fn pass(
    context: &Context<'_>,
    mut head: Response<Body>,
    pieces: Pieces,
    streams: Streams,
) -> Response<Body> {
    name_content(head.headers_mut(), Form::Bytes);
    if streams != Streams::HeadOnly {
        let client = Rc::clone(context.client);
        let left = Box::pin(async move { client.stream.left().await });
        *head.body_mut() = Body::Passed { pieces, left };
    }
    head
}

/// What comes first.
enum First {
    /// Something was written, and perhaps that was all.
    Written(Form, Option<Executed>),
    /// The run ended before.
    Nothing(Executed),
}

async fn first(running: &mut Running, opening: &Opening) -> First {
    let form = || opening.inlet().and_then(|inlet| inlet.form());
    poll_fn(|context| {
        let ended = match running.as_mut().poll(context) {
            Poll::Ready(executed) => Some(executed),
            Poll::Pending => None,
        };
        match (form(), ended) {
            (Some(form), ended) => Poll::Ready(First::Written(form, ended)),
            (None, Some(executed)) => Poll::Ready(First::Nothing(executed)),
            (None, None) => Poll::Pending,
        }
    })
    .await
}

/// A stream of nothing, or an error that came before the first byte.
async fn without_body(
    context: &Context<'_>,
    script: &str,
    mut head: Response<Body>,
    executed: Executed,
) -> Response<Body> {
    match ended(context, script, executed).await {
        Ok(()) => {
            name_content(head.headers_mut(), Form::Text);
            head
        }
        Err(Broken::Problem(problem)) => problem.answer(&context.id),
        Err(Broken::Failure(failure)) => answer::of_failure(*failure, &context.id),
    }
}

/// Why a stream has no good end.
enum Broken {
    Problem(Problem),
    Failure(Box<Failure>),
}

/// Commits what was written while it streamed. The client has seen half of it already, so a conflict does not run it again.
async fn ended(context: &Context<'_>, script: &str, executed: Executed) -> Result<(), Broken> {
    let request = &context.id;
    let Executed { end, effects, .. } = executed;
    if let Err(failure) = end.result {
        route::say_failed(context, script, &failure);
        return Err(Broken::Failure(Box::new(failure)));
    }
    if effects.is_empty() {
        return Ok(());
    }
    let front = &context.client.front;
    let emits = effects.emits.clone();
    match front.store.commit(effects).await {
        Ok(Committed::Yes(after)) => front.inbox.follow(&context.generation, after, emits),
        Ok(Committed::Stale) => {}
        Ok(Committed::Conflict) => {
            tracing::warn!(%request, script, "what `{script}` wrote while it streamed is lost: the documents that it had read have changed");
            return Err(Broken::Problem(Problem::Conflict));
        }
        Err(error) => {
            tracing::error!(%request, script, "what `{script}` wrote while it streamed could not be stored: {error}");
            return Err(Broken::Problem(Problem::from(&error)));
        }
    }
    Ok(())
}

/// What is left to do when the answer has begun.
struct Rest {
    id: Box<str>,
    client: Rc<Client>,
    generation: Pinned,
    opening: Rc<Opening>,
    script: Arc<str>,
    is_events: bool,
    has_acted: Rc<Cell<bool>>,
    _pass: Option<Pass>,
}

impl Rest {
    /// Drives the run to its end. A client that leaves ends it, unless it has begun something outside; then nobody reads what it writes.
    async fn write(self, mut running: Running, executed: Option<Executed>) {
        let executed = match executed {
            Some(executed) => Some(executed),
            None => tokio::select! {
                biased;
                executed = &mut running => Some(executed),
                () = self.client.stream.left() => None,
            },
        };
        let executed = match executed {
            Some(executed) => executed,
            None if self.has_acted.get() => running.await,
            None => {
                return tracing::debug!(request = %self.id, script = %self.script, "a client left, and its stream was ended");
            }
        };
        let context = &Context {
            id: self.id.clone(),
            client: &self.client,
            generation: Rc::clone(&self.generation),
        };
        let ended = ended(context, &self.script, executed).await;
        let Some(inlet) = self.opening.inlet() else { return };
        let problem = match ended {
            Ok(()) => return inlet.end(),
            Err(Broken::Problem(problem)) => problem,
            Err(Broken::Failure(failure)) => answer::problem_of(&failure),
        };
        // Without a word it is cut.
        if self.is_events {
            let event = format!("event: error\ndata: {}\n\n", problem.body(&self.id));
            if inlet.write(event.as_bytes(), Form::Event).await {
                inlet.end();
            }
        }
    }
}

/// What the stream is, where its script does not say.
fn name_content(headers: &mut HeaderMap, form: Form) {
    let content_type = match form {
        Form::Text => "text/plain; charset=utf-8",
        Form::Bytes => "application/octet-stream",
        Form::Event => EVENTS,
    };
    headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static(content_type));
    if is_events(headers) {
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
        headers.entry(UNBUFFERED).or_insert(HeaderValue::from_static("no"));
    }
}

fn is_events(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    content_type
        .get(..EVENTS.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(EVENTS.as_bytes()))
}
