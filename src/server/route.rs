//! A scripted route: who calls → read → run → commit → answer. Effects are committed before the first byte goes out; a conflict runs the handler again.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use axum::http::request::Parts;
use axum::http::{Method, Response};

use super::Counted;
use super::answer::{self, Problem};
use super::body::Body;
use super::caller;
use super::limits::Caller;
use super::recorded;
use super::request;
use super::router::Context;
use super::streamed::{self, Running, Step, Stream};
use super::upload;
use crate::clock::{self, Millis};
use crate::execution::journal::Journal;
use crate::execution::{Begun, Executed, Opening, Run};
use crate::generation::HandlerRef;
use crate::script::api::request::{INVALID_PAYLOAD, RequestInput};
use crate::script::api::respond::Answer;
use crate::script::handler::Trigger;
use crate::script::host_call::{AttemptEnd, CallEnd, Given};
use crate::script::run::{Failure, Input};
use crate::store::{AttemptLog, Committed, Effects, StoreError};

/// Reruns after conflicts.
const CONFLICT_RERUNS_MAX: u32 = 10;

/// A run that somebody waits for.
pub(super) struct Asked {
    pub(super) at: HandlerRef,
    pub(super) input: Input,
    /// What the run is about, for logs and ids: a request or an event.
    pub(super) subject: String,
    /// What its calls to providers have in common with those of another run for the same: a delivery's id, a request's key.
    pub(super) calls_as: String,
    /// Where the handler does not say.
    pub(super) timeout: Option<Duration>,
    /// Whether the run is cancelled when the client leaves.
    pub(super) ends_with_client: bool,
    /// What is answered where its documents change again and again.
    pub(super) in_conflict: Problem,
    pub(super) streams: Streams,
}

/// Whether a result may be a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Streams {
    No,
    /// Nobody wants its body, so it is not written.
    HeadOnly,
    Yes,
}

/// What a commit of a run came to.
pub(super) enum Ended {
    /// This goes out.
    Answer(Response<Body>),
    /// What the run read has changed: it runs again.
    Conflict,
}

/// Answers a request of a route.
pub(super) async fn answer(
    context: &Context<'_>,
    at: HandlerRef,
    params: Vec<(Box<str>, Box<str>)>,
    parts: &Parts,
    body: Body,
) -> Response<Body> {
    let server = &context.generation.config.server;
    let (_, handler) = context.generation.handler(at);
    let Trigger::Route { method, path } = &handler.trigger else {
        return Problem::NotFound.answer(&context.id);
    };
    let caller = match caller::identify(context, &handler.options, parts).await {
        Ok(caller) => caller,
        Err(problem) => return problem.answer(&context.id),
    };
    let remote = request::remote_ip(context.client.ip, &parts.headers, &server.trusted_proxies);
    if let Some(rates) = &handler.options.rate_limit {
        // Before the body is read: what is refused costs little.
        let limits = &context.client.front.process.limits;
        let counted = Caller::of(caller.as_ref().and_then(caller::Known::user), remote);
        if let Err(problem) = limits.admit(*method, path, rates, counted) {
            return problem.answer(&context.id);
        }
    }
    let bytes_max = handler.options.max_body.unwrap_or(server.max_body);
    let received = match upload::receive(context, &parts.headers, body, bytes_max).await {
        Ok(received) => received,
        Err(problem) => return problem.answer(&context.id),
    };
    let once = match &handler.options.idempotency {
        None => None,
        Some(header) => {
            let whose = recorded::Whose { header, caller: caller.as_ref() };
            let body = &received.payload;
            match recorded::Once::of_request(whose, *method, path, parts, body).await {
                Ok(once) => once,
                Err(problem) => return problem.answer(&context.id),
            }
        }
    };
    let input = RequestInput {
        id: context.id.clone(),
        method: method.word(),
        path: parts.uri.path().into(),
        params,
        query: parts.uri.query().unwrap_or_default().into(),
        headers: request::headers(&parts.headers),
        body: received.payload,
        parts: received.parts,
        remote_ip: remote.to_string().into(),
        caller: caller.as_ref().map(caller::Known::input),
    };
    let asked = Asked {
        at,
        input: Input::Request(Rc::new(input)),
        subject: context.id.to_string(),
        calls_as: match &once {
            Some(once) => once.name(),
            None => context.id.to_string(),
        },
        timeout: None,
        ends_with_client: true,
        in_conflict: Problem::Conflict,
        streams: match &handler.options.idempotency {
            Some(_) => Streams::No,
            None if parts.method == Method::HEAD => Streams::HeadOnly,
            None => Streams::Yes,
        },
    };
    match once {
        Some(once) => recorded::request(context, once, asked).await,
        None => run_plainly(context, asked).await,
    }
}

/// What a run that has an answer leaves beside it.
pub(super) struct Ran {
    /// What it wants committed.
    pub(super) effects: Effects,
    pub(super) started_at: Millis,
    /// What it logged, where it handled a delivery.
    pub(super) log: AttemptLog,
}

/// Runs a handler and commits what it wants, and nothing else. Where its script may call providers, the run has a task of its own: a connection that breaks takes
/// its request with it, but not a run that has begun something outside (DESIGN §4, rule 10).
pub(super) async fn run_plainly(context: &Context<'_>, asked: Asked) -> Response<Body> {
    if !context.generation.handler(asked.at).0.calls {
        return run_here(context, asked).await;
    }
    let (id, client) = (context.id.clone(), Rc::clone(context.client));
    let generation = Rc::clone(&context.generation);
    let task = tokio::task::spawn_local(async move {
        let _counted = Counted::new(&client.front.under_way);
        let context = Context { id, client: &client, generation };
        run_here(&context, asked).await
    });
    task.await.unwrap_or_else(|_panicked| Problem::Script.answer(&context.id))
}

async fn run_here(context: &Context<'_>, asked: Asked) -> Response<Body> {
    run(context, asked, async |answer, ran| commit(context, answer, ran.effects).await).await
}

async fn commit(
    context: &Context<'_>,
    answer: Answer,
    effects: Effects,
) -> Result<Ended, StoreError> {
    if effects.is_empty() {
        return Ok(Ended::Answer(answer::of_script(answer)));
    }
    let front = &context.client.front;
    let emits = effects.emits.clone();
    match front.store.commit(effects).await? {
        Committed::Conflict => return Ok(Ended::Conflict),
        Committed::Yes(after) => front.inbox.follow(&context.generation, after, emits),
        Committed::Stale => {}
    }
    Ok(Ended::Answer(answer::of_script(answer)))
}

/// Runs a handler until what it wants is committed, and gives its answer.
pub(super) async fn run(
    context: &Context<'_>,
    asked: Asked,
    commit: impl AsyncFn(Answer, Ran) -> Result<Ended, StoreError>,
) -> Response<Body> {
    let Asked { at, input, subject, calls_as, timeout, ends_with_client, in_conflict, streams } =
        asked;
    let front = &context.client.front;
    let (script, handler) = context.generation.handler(at);
    let Ok(pass) = front.inbox.enter_handler(&script.name, at, handler) else {
        return Problem::Unavailable.answer(&context.id);
    };
    let seed = fastrand::u64(..);
    let journal = Journal::of_request(&calls_as);
    let has_acted = Rc::new(Cell::new(false));
    for _rerun in 0..=CONFLICT_RERUNS_MAX {
        journal.begin_run();
        let opening = (streams != Streams::No).then(Rc::<Opening>::default);
        let mut running = start(
            context,
            at,
            Fresh {
                input: input.clone(),
                given: Given::new(seed, subject.clone(), &script.name),
                has_acted: Rc::clone(&has_acted),
                journal: Rc::clone(&journal),
                timeout: handler.options.timeout.or(timeout),
                opening: opening.clone(),
            },
        );
        // Only the run can be cancelled: a commit that was begun is waited for, whoever is still there.
        let started_at = clock::now();
        let step = tokio::select! {
            biased;
            step = streamed::step(&mut running, opening.as_deref()) => Some(step),
            () = context.client.stream.left(), if ends_with_client => None,
        };
        let step = match step {
            Some(step) => step,
            // What it has begun outside cannot be taken back, so it comes to its end and commits.
            None if has_acted.get() => streamed::step(&mut running, opening.as_deref()).await,
            None => {
                tracing::debug!(request = %context.id, script = %script.name, "a client left, and its request was cancelled");
                return Problem::Unavailable.answer(&context.id);
            }
        };
        let (result, effects, log, begins) = match step {
            Step::Ended(Executed { end, effects, log }) => (end.result, effects, log, None),
            Step::Begins(Begun { head, effects, pieces }) => {
                (Ok(head), effects, AttemptLog::default(), opening.map(|opening| (opening, pieces)))
            }
        };
        let answered = match result {
            Ok(answered) => answered,
            Err(failure) => {
                say_failed(context, &script.name, &failure);
                return answer::of_failure(failure, &context.id);
            }
        };
        match commit(answered, Ran { effects, started_at, log }).await {
            Ok(Ended::Answer(head)) => match begins {
                None => return head,
                Some((_, Some(pieces))) => return streamed::pass(context, head, pieces, streams),
                Some((opening, None)) => {
                    let script = Arc::clone(&script.name);
                    let stream = Stream { head, running, opening, script, has_acted, pass };
                    return streamed::answer(context, stream, streams).await;
                }
            },
            Ok(Ended::Conflict) => {}
            Err(error) => {
                tracing::error!(request = %context.id, script = %script.name, "the effects of a request could not be stored: {error}");
                return Problem::from(&error).answer(&context.id);
            }
        }
    }
    tracing::warn!(request = %context.id, script = %script.name, "the documents of a request changed under it {CONFLICT_RERUNS_MAX} times in a row");
    in_conflict.answer(&context.id)
}

/// What a run begins with.
struct Fresh {
    input: Input,
    given: Given,
    has_acted: Rc<Cell<bool>>,
    journal: Rc<Journal>,
    timeout: Option<Duration>,
    opening: Option<Rc<Opening>>,
}

/// Begins a run that owns all that it needs: one that streams goes on when its request has been answered.
fn start(context: &Context<'_>, at: HandlerRef, fresh: Fresh) -> Running {
    let (client, generation) = (Rc::clone(context.client), Rc::clone(&context.generation));
    Box::pin(async move {
        let Fresh { input, given, has_acted, journal, timeout, opening } = fresh;
        let (script, _) = generation.handler(at);
        let run = Run {
            generation: &generation,
            script,
            handler: at.handler,
            input,
            place: None,
            given,
            has_acted,
            journal,
            timeout,
            opening,
        };
        client.front.executor.execute(run).await
    })
}

/// One line that reads alone; what it is about stands in its fields too.
pub(super) fn say_failed(context: &Context<'_>, script: &str, failure: &Failure) {
    let request = &context.id;
    match failure {
        Failure::ThrownAnswer(_) => {}
        Failure::Thrown { code, .. } if code.as_deref() == Some(INVALID_PAYLOAD) => {
            tracing::debug!(%request, script, "a request's body is not what `{script}` asks for");
        }
        Failure::Thrown { frame, .. } => {
            tracing::error!(%request, script, "a request failed in `{script}`: {}", frame.one_line());
        }
        Failure::Ended { frame: Some(frame), .. } => {
            tracing::error!(%request, script, "a request was ended in `{script}`: {}", frame.one_line());
        }
        Failure::Ended { ending, frame: None } => {
            tracing::error!(%request, script, "a request was ended in `{script}`: {ending}");
        }
        Failure::ByHandler(AttemptEnd::RetryLater { reason, .. }) => {
            tracing::info!(%request, script, "`{script}` asked for a delivery at another time: {reason}");
        }
        Failure::ByHandler(AttemptEnd::GiveUp { reason }) => {
            tracing::error!(%request, script, "`{script}` gave a delivery up: {reason}");
        }
        Failure::ByCall(CallEnd::Parked { reason, .. } | CallEnd::Unknown { reason }) => {
            tracing::error!(%request, script, "a call of `{script}` ended a request: {reason}");
        }
        Failure::Runaway => {
            tracing::error!(%request, script, "a request was ended in `{script}`: it allocated without bound");
        }
        Failure::Panicked => {
            tracing::error!(%request, script, "a function of Rhaiway panicked, called by `{script}`; this is a bug worth reporting");
        }
        Failure::NoStack => {
            tracing::warn!(%request, script, "there is no place for another run of `{script}` (`scripts.max_runs`), or no stack for it");
        }
        Failure::Stopped(stopped) => {
            tracing::error!(%request, script, "a request to `{script}` was refused: {stopped}");
        }
    }
}
