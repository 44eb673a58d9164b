//! A delivery: read → verify → commit → acknowledge, and only then handled; or handled and answered by its script (`respond = "script"`).

use std::rc::Rc;
use std::sync::Arc;

use axum::http::Response;
use axum::http::request::Parts;

use super::answer::{self, Problem};
use super::body::Body;
use super::recorded;
use super::request;
use super::route::{self, Asked};
use super::router::Context;
use crate::config::Respond;
use crate::generation::HandlerRef;
use crate::script::api::event::EventInput;
use crate::script::run::Input;
use crate::store::{Accepted, NewEvent};
use crate::webhook::{Delivery, Refusal, Webhook};

/// Answers a POST to a webhook's path.
pub(super) async fn answer(
    context: &Context<'_>,
    webhook: &Arc<Webhook>,
    params: &[(Box<str>, Box<str>)],
    parts: &Parts,
    body: Body,
) -> Response<Body> {
    let read_timeout = context.generation.config.server.read_timeout;
    let body = match request::body(body, webhook.max_body, read_timeout).await {
        Ok(body) => body,
        Err(problem) => return problem.answer(&context.id),
    };
    let query = parts.uri.query().unwrap_or_default();
    // Of what is not stored only that is kept which a script looks at.
    let keep_headers = webhook.respond != Respond::ByScript { stored: false }
        || context.generation.scripts.iter().any(|script| script.reads.headers);
    let delivery = Delivery { headers: &parts.headers, query, params, body };
    match webhook.verify(delivery, keep_headers) {
        Ok(event) => match webhook.respond {
            Respond::WhenStored => accept(context, event).await,
            Respond::ByScript { stored: true } => recorded::delivery(context, webhook, event).await,
            Respond::ByScript { stored: false } => by_script(context, webhook, event).await,
        },
        Err(refusal) => {
            say_refused(context, webhook, &refusal);
            Problem::from(&refusal).answer(&context.id)
        }
    }
}

/// 200 only when it is committed, or was before.
pub(super) async fn accept(context: &Context<'_>, event: NewEvent) -> Response<Body> {
    let front = &context.client.front;
    let (webhook, request) = (Arc::clone(&event.webhook), &context.id);
    let delivery = event.delivery_id.clone();
    match front.inbox.accept(&context.generation, event).await {
        Ok(Accepted::New(_) | Accepted::Behind { .. }) => {}
        Ok(Accepted::Duplicate { same_body: true, .. }) => {
            tracing::debug!(%webhook, %request, "a delivery to `{webhook}` came again");
        }
        Ok(Accepted::Duplicate { same_body: false, .. }) => {
            say_differs(context, &webhook, delivery.as_deref());
        }
        Ok(Accepted::Revived(_)) => {
            tracing::info!(%webhook, %request, "a dead letter of `{webhook}` was delivered again and is pending once more");
        }
        Err(error) => {
            tracing::error!(%webhook, %request, "a delivery to `{webhook}` could not be stored: {error}");
            return Problem::from(&error).answer(&context.id);
        }
    }
    answer::received()
}

/// One id, two bodies: the sender is worth a look.
pub(super) fn say_differs(context: &Context<'_>, webhook: &str, delivery: Option<&str>) {
    let (request, delivery) = (&context.id, delivery.unwrap_or_default());
    tracing::warn!(%webhook, %request, delivery, "a delivery to `{webhook}` came again with another body; the first one counts");
}

/// The one matching handler answers, and nothing is kept; without one the delivery is acknowledged.
async fn by_script(
    context: &Context<'_>,
    webhook: &Arc<Webhook>,
    event: NewEvent,
) -> Response<Body> {
    let matches = context.generation.matches(&webhook.name, &event.kind);
    let Some(found) = matches.first() else { return answer::received() };
    let inbox = &context.client.front.inbox;
    let Ok(_pass) = inbox.enter_webhook(&webhook.name, webhook.concurrency) else {
        return Problem::Unavailable.answer(&context.id);
    };
    route::run_plainly(context, asked(webhook, event, found.handler)).await
}

/// The run that answers a delivery.
pub(super) fn asked(webhook: &Webhook, event: NewEvent, at: HandlerRef) -> Asked {
    let subject = event.id.to_string();
    let calls_as = match &event.delivery_id {
        Some(delivery) => format!("{}\n{delivery}", webhook.name),
        None => format!("{}\n{subject}", webhook.name),
    };
    let input = EventInput {
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
        death: None,
    };
    Asked {
        at,
        input: Input::Event(Rc::new(input)),
        subject,
        calls_as,
        timeout: webhook.timeout,
        // A sender that has left posts again; what its first delivery does is kept.
        ends_with_client: false,
        in_conflict: Problem::Unavailable,
    }
}

fn say_refused(context: &Context<'_>, webhook: &Webhook, refusal: &Refusal) {
    let (webhook, request) = (&webhook.name, &context.id);
    match refusal {
        Refusal::NotConfigured(_) => {
            tracing::error!(%webhook, %request, "a delivery to `{webhook}` was refused: {refusal}")
        }
        Refusal::NotVerified(_)
        | Refusal::Encoded
        | Refusal::NotJson(_)
        | Refusal::NotForm
        | Refusal::NotMultipart(_) => {
            tracing::warn!(%webhook, %request, "a delivery to `{webhook}` was refused: {refusal}")
        }
    }
}
