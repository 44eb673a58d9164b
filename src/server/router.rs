//! Every path there is: health, webhooks, routes of scripts. A request pins one generation here and sees nothing else to its end.
//!
//! A path is percent-decoded once and then compared as it is: no slash is added, taken away or folded, no `..` is resolved, case counts.

use std::rc::Rc;

use axum::http::header::ACCESS_CONTROL_REQUEST_METHOD;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode};
use bytes::Bytes;

use super::Client;
use super::answer::{self, Methods, Problem};
use super::body::Body;
use super::request::{self, REQUEST_ID};
use super::{cors, delivery, route};
use crate::generation::{Endpoint, Found, HandlerRef, Pinned};
use crate::script::handler;

/// A request while it is answered.
pub(super) struct Context<'a> {
    pub(super) id: Box<str>,
    pub(super) client: &'a Rc<Client>,
    pub(super) generation: Pinned,
}

/// Answers one request.
pub(super) async fn answer(client: &Rc<Client>, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let context =
        Context { id: request::id(&parts.headers), client, generation: client.front.pin() };
    let mut response = match request::check(&parts) {
        Ok(()) => find(&context, &parts, body).await,
        Err(problem) => problem.answer(&context.id),
    };
    let id = Bytes::from(context.id.into_string());
    if let Ok(id) = HeaderValue::from_maybe_shared(id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

async fn find(context: &Context<'_>, parts: &Parts, body: Body) -> Response<Body> {
    let (front, id) = (&context.client.front, &*context.id);
    let Some(path) = request::decoded_path(parts.uri.path()) else {
        return Problem::NotFound.answer(id);
    };
    match &*path {
        "/healthz" => return health(parts, id, async { true }).await,
        "/readyz" => return health(parts, id, front.is_ready()).await,
        "*" => return answer::of_server(),
        _ if front.is_draining() => return Problem::Unavailable.answer(id),
        _ => {}
    }
    let Some(Found { endpoint, params }) = context.generation.find(&path) else {
        return Problem::NotFound.answer(id);
    };
    let params = request::params(&params);
    match endpoint.webhook {
        Some(webhook) if parts.method == Method::POST => {
            let webhook = &context.generation.webhooks[webhook];
            delivery::answer(context, webhook, &params, parts, body).await
        }
        Some(_) => Problem::MethodNotAllowed(Methods::default().with("POST")).answer(id),
        None => scripted(context, endpoint, params, parts, body).await,
    }
}

async fn health(parts: &Parts, id: &str, healthy: impl Future<Output = bool>) -> Response<Body> {
    if !matches!(parts.method, Method::GET | Method::HEAD) {
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
    context: &Context<'_>,
    endpoint: &Endpoint,
    params: Vec<(Box<str>, Box<str>)>,
    parts: &Parts,
    body: Body,
) -> Response<Body> {
    let cors = &context.generation.config.cors;
    if parts.method == Method::OPTIONS {
        let mut response = answer::options(methods(endpoint));
        if may_be_asked(context, endpoint, parts) {
            cors::preflight(cors, &parts.headers, &mut response);
        }
        return response;
    }
    let Some(at) = routed(endpoint, parts.method.as_str()) else {
        return Problem::MethodNotAllowed(methods(endpoint)).answer(&context.id);
    };
    let mut response = route::answer(context, at, params, parts, body).await;
    if may_cross(context, at) {
        cors::decorate(cors, &parts.headers, &mut response);
    }
    response
}

/// The handler of a method; that of GET answers HEAD too, and hyper leaves its body out.
fn routed(endpoint: &Endpoint, method: &str) -> Option<HandlerRef> {
    let word = if method == "HEAD" { "GET" } else { method };
    let method = handler::Method::ALL.into_iter().find(|method| method.word() == word)?;
    endpoint.routes.get(&method).copied()
}

fn methods(endpoint: &Endpoint) -> Methods {
    let routes = endpoint.routes.keys();
    routes.fold(Methods::default().with("OPTIONS"), |methods, method| methods.with(method.word()))
}

fn may_cross(context: &Context<'_>, at: HandlerRef) -> bool {
    context.generation.handler(at).1.options.cors != Some(false)
}

/// Whether a preflight may be told what it asks: of the route that it names, else of any.
fn may_be_asked(context: &Context<'_>, endpoint: &Endpoint, parts: &Parts) -> bool {
    let method = parts.headers.get(ACCESS_CONTROL_REQUEST_METHOD);
    let named = method.and_then(|method| routed(endpoint, method.to_str().ok()?));
    match named {
        Some(at) => may_cross(context, at),
        None => endpoint.routes.values().any(|at| may_cross(context, *at)),
    }
}
