//! A scripted route: read → run → commit → answer. Effects are committed before the first byte goes out; a conflict runs the handler again.

use std::net::IpAddr;
use std::rc::Rc;

use axum::body::Body;
use axum::http::{Request, Response};

use super::Front;
use super::answer::{self, Problem};
use super::request;
use super::router::Context;
use crate::execution::{Executed, Run};
use crate::generation::HandlerRef;
use crate::script::api::request::RequestInput;
use crate::script::handler::Trigger;
use crate::script::host_call::Given;
use crate::script::run::{Failure, Input};
use crate::store::Committed;

/// Reruns after conflicts.
const CONFLICT_RERUNS_MAX: u32 = 10;

/// Answers a request of a route.
pub(super) async fn answer(
    front: &Front,
    context: &Context,
    at: HandlerRef,
    params: Vec<(Box<str>, Box<str>)>,
    request: Request<Body>,
) -> Response<Body> {
    let server = &context.generation.config.server;
    let (_, handler) = context.generation.handler(at);
    let Trigger::Route { method, .. } = &handler.trigger else {
        return Problem::NotFound.answer(&context.id);
    };
    let bytes_max = handler.options.max_body.unwrap_or(server.max_body);
    let (parts, body) = request.into_parts();
    let body = match request::body(&parts.headers, body, bytes_max, server.read_timeout).await {
        Ok(body) => body,
        Err(problem) => return problem.answer(&context.id),
    };
    let remote: IpAddr = request::remote_ip(context.peer, &parts.headers, &server.trusted_proxies);
    let input = RequestInput {
        id: context.id.clone(),
        method: method.word(),
        path: parts.uri.path().into(),
        params,
        query: parts.uri.query().unwrap_or_default().into(),
        headers: request::headers(&parts.headers),
        body,
        remote_ip: remote.to_string().into(),
    };
    run(front, context, at, Input::Request(Rc::new(input)), context.id.to_string(), None).await
}

/// Runs a handler for somebody who waits for its answer.
pub(super) async fn run(
    front: &Front,
    context: &Context,
    at: HandlerRef,
    input: Input,
    subject: String,
    timeout: Option<std::time::Duration>,
) -> Response<Body> {
    let (script, handler) = context.generation.handler(at);
    let _pass = match front.inbox.enter_handler(&script.name, at, handler) {
        Ok(pass) => pass,
        Err(_closed) => return Problem::Unavailable.answer(&context.id),
    };
    let seed = fastrand::u64(..);
    for _rerun in 0..=CONFLICT_RERUNS_MAX {
        let run = Run {
            generation: &context.generation,
            script,
            handler: at.handler,
            input: input.clone(),
            given: Given::new(seed, subject.clone(), &script.name),
            timeout: handler.options.timeout.or(timeout),
        };
        let Executed { end, effects } = front.executor.execute(run).await;
        let answered = match end.result {
            Ok(answered) => answered,
            Err(failure) => {
                say_failed(context, &script.name, &failure);
                return answer::of_failure(failure, &context.id);
            }
        };
        if effects.is_empty() {
            return answer::of_script(answered);
        }
        match front.store.commit(effects).await {
            Ok(Committed::Yes | Committed::Stale) => return answer::of_script(answered),
            Ok(Committed::Conflict) => {}
            Err(error) => {
                tracing::error!(request = %context.id, script = %script.name, "the effects of a request could not be stored: {error}");
                return Problem::from(&error).answer(&context.id);
            }
        }
    }
    tracing::warn!(request = %context.id, script = %script.name, "documents changed under a request {CONFLICT_RERUNS_MAX} times in a row");
    Problem::Conflict.answer(&context.id)
}

fn say_failed(context: &Context, script: &str, failure: &Failure) {
    let request = &context.id;
    match failure {
        Failure::ThrownAnswer(_) => {}
        Failure::Thrown { code, .. }
            if code.as_deref() == Some(crate::script::api::request::INVALID_PAYLOAD) =>
        {
            tracing::debug!(%request, script, "the request's body is not what the script asks for");
        }
        Failure::Thrown { frame, .. } => {
            tracing::error!(%request, script, "script error: {}", frame.one_line())
        }
        Failure::Ended { frame: Some(frame), .. } => {
            tracing::error!(%request, script, "run ended: {}", frame.one_line())
        }
        Failure::Ended { ending, frame: None } => {
            tracing::error!(%request, script, "run ended: {ending}")
        }
        Failure::Runaway => {
            tracing::error!(%request, script, "run ended: it allocated without bound")
        }
        Failure::Panicked => {
            tracing::error!(%request, script, "a function of Rhaiway panicked; this is a bug worth reporting")
        }
        Failure::NoStack => {
            tracing::warn!(%request, script, "no stack for another run could be had")
        }
    }
}
