//! Every path there is: health, webhooks, routes of scripts. A request pins one generation here and sees nothing else to its end.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode};

use super::Front;
use super::answer::{self, Methods, Problem};
use super::{cors, request, route};
use crate::config::Respond;
use crate::generation::{Endpoint, Found, Generation};
use crate::id::EventId;
use crate::script::handler;
use crate::script::run::Input;
use crate::store::Accepted;
use crate::webhook::{Delivery, Refusal, Webhook};

const REQUEST_ID: &str = "x-request-id";

/// A request while it is answered.
pub(super) struct Context {
    pub(super) id: Box<str>,
    pub(super) peer: IpAddr,
    pub(super) generation: Rc<Arc<Generation>>,
}

/// Answers one request.
pub(super) async fn answer(front: &Front, peer: IpAddr, request: Request<Body>) -> Response<Body> {
    let id = request::id(request.headers());
    let mut response = match request::check(request.version(), request.headers()) {
        Ok(()) => {
            let context = Context { id: id.clone(), peer, generation: front.pin() };
            find(front, &context, request).await
        }
        Err(problem) => problem.answer(&id),
    };
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

async fn find(front: &Front, context: &Context, request: Request<Body>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    match path.as_str() {
        "/healthz" => return health(&request, &context.id, async { true }).await,
        "/readyz" => return health(&request, &context.id, front.is_ready()).await,
        "*" if request.method() == Method::OPTIONS => {
            return answer::text(StatusCode::NO_CONTENT, "");
        }
        _ => {}
    }
    let generation = Rc::clone(&context.generation);
    let Some(path) = request::decoded_path(&path) else {
        return Problem::NotFound.answer(&context.id);
    };
    let Some(Found { endpoint, params }) = generation.find(&path) else {
        return Problem::NotFound.answer(&context.id);
    };
    let params = request::params(&params);
    if let Some(webhook) = endpoint.webhook {
        return webhook_answer(front, context, &generation.webhooks[webhook], &params, request)
            .await;
    }
    scripted(front, context, endpoint, params, request).await
}

async fn health(
    request: &Request<Body>,
    id: &str,
    healthy: impl Future<Output = bool>,
) -> Response<Body> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Problem::MethodNotAllowed(Methods::default().with("GET")).answer(id);
    }
    if healthy.await {
        answer::text(StatusCode::OK, "ok\n")
    } else {
        answer::text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

/// A route of a script, with what CORS adds.
async fn scripted(
    front: &Front,
    context: &Context,
    endpoint: &Endpoint,
    params: Vec<(Box<str>, Box<str>)>,
    request: Request<Body>,
) -> Response<Body> {
    let config = &context.generation.config;
    let headers = request.headers().clone();
    let may_cross = |handler| context.generation.handler(handler).1.options.cors != Some(false);
    let crosses = endpoint.routes.values().copied().any(may_cross);
    if request.method() == Method::OPTIONS {
        return if crosses {
            cors::preflight(&config.cors, &headers)
        } else {
            not_allowed(endpoint, &context.id)
        };
    }
    let method = handler::Method::ALL.into_iter().find(|method| {
        method.word() == request.method().as_str()
            || (request.method() == Method::HEAD && *method == handler::Method::Get)
    });
    let Some(at) = method.and_then(|method| endpoint.routes.get(&method)).copied() else {
        return not_allowed(endpoint, &context.id);
    };
    let mut response = route::answer(front, context, at, params, request).await;
    if may_cross(at) {
        cors::decorate(&config.cors, &headers, &mut response);
    }
    response
}

fn not_allowed(endpoint: &Endpoint, id: &str) -> Response<Body> {
    let methods = endpoint
        .routes
        .keys()
        .fold(Methods::default().with("OPTIONS"), |methods, method| methods.with(method.word()));
    Problem::MethodNotAllowed(methods).answer(id)
}

/// A delivery: verified, committed, acknowledged, and only then handled; or handled and answered by its script.
async fn webhook_answer(
    front: &Front,
    context: &Context,
    webhook: &Arc<Webhook>,
    params: &[(Box<str>, Box<str>)],
    request: Request<Body>,
) -> Response<Body> {
    let id = &context.id;
    if request.method() != Method::POST {
        return Problem::MethodNotAllowed(Methods::default().with("POST")).answer(id);
    }
    let (parts, body) = request.into_parts();
    let read_timeout = context.generation.config.server.read_timeout;
    let body = match request::body(&parts.headers, body, webhook.max_body, read_timeout).await {
        Ok(body) => body,
        Err(problem) => return problem.answer(id),
    };
    let delivery = Delivery {
        headers: &parts.headers,
        query: parts.uri.query().unwrap_or_default(),
        params,
        body,
    };
    let event = match webhook.verify(delivery) {
        Ok(event) => event,
        Err(refusal) => {
            say_refused(webhook, context, &refusal);
            return Problem::from(&refusal).answer(id);
        }
    };
    if webhook.respond == Respond::ByScript {
        return by_script(front, context, webhook, event).await;
    }
    let delivery = event.delivery_id.clone();
    match front.inbox.accept(&context.generation, event).await {
        Ok(Accepted::New(_)) => {}
        Ok(Accepted::Duplicate { same_body, .. }) => {
            tracing::debug!(webhook = %webhook.name, request = %id, same_body, "duplicate delivery acknowledged");
            if !same_body {
                tracing::warn!(webhook = %webhook.name, request = %id, delivery = delivery.as_deref().unwrap_or_default(), "a delivery came again with another body; the first one counts");
            }
        }
        Ok(Accepted::Revived(_)) => {
            tracing::info!(webhook = %webhook.name, request = %id, "a dead letter was delivered again and is pending once more");
        }
        Err(error) => {
            tracing::error!(webhook = %webhook.name, request = %id, "a delivery could not be stored: {error}");
            return Problem::from(&error).answer(id);
        }
    }
    answer::received()
}

/// `respond = "script"`, `store = false`: the one matching handler answers; without one the delivery is acknowledged.
async fn by_script(
    front: &Front,
    context: &Context,
    webhook: &Arc<Webhook>,
    event: crate::store::NewEvent,
) -> Response<Body> {
    let generation = &context.generation;
    let matches = generation.matches(&webhook.name, &event.kind);
    let Some(found) = matches.first() else { return answer::received() };
    let subject = EventId(event.id.0).to_string();
    let input = crate::script::api::event::EventInput {
        id: event.id,
        webhook: Arc::clone(&webhook.name),
        kind: event.kind,
        received_at: event.received_at,
        request: event.request,
        body: event.body,
        data: webhook.data(),
        attempt: 1,
        last_attempt: true,
        replayed: false,
    };
    route::run(front, context, found.handler, Input::Event(input), subject, webhook.timeout).await
}

fn say_refused(webhook: &Webhook, context: &Context, refusal: &Refusal) {
    let (webhook, request) = (&webhook.name, &context.id);
    match refusal {
        Refusal::NotConfigured(_) => {
            tracing::error!(%webhook, %request, "delivery refused: {refusal}")
        }
        Refusal::NotVerified(_) | Refusal::Encoded | Refusal::NotJson(_) | Refusal::NotForm => {
            tracing::warn!(%webhook, %request, "delivery refused: {refusal}")
        }
    }
}
