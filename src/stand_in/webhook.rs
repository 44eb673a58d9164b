//! Posts a webhook as the third party would: its event around the data, signed by the same row of `webhook/schemes.toml` that verifies it.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::ids::Ids;
use super::{Name, stripe};
use crate::clock::{self, Millis};
use crate::config::Secret;
use crate::outbound::{self, OutboundError, Trust};
use crate::webhook::scheme::Scheme;
use crate::webhook::signature::Problem;
use crate::webhook::verifier::{self, Message};

/// For the receiver to answer, as long as a third party waits.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of the receiver's answer that are told.
const ANSWER_BYTES_MAX: usize = 16 << 10;

/// What `POST /_stand_in/webhook` takes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    /// Where to post. Plain HTTP only: a stand-in is for this machine.
    url: String,
    /// The signing secret, as the receiver has it.
    secret: String,
    /// The event's type.
    #[serde(rename = "type", default)]
    kind: String,
    /// What the event is about.
    #[serde(default)]
    data: Value,
    /// The whole body in place of an event around `data`: a string as it is, anything else as JSON.
    #[serde(default)]
    body: Option<Value>,
    /// The delivery's id, for schemes that have one; the same again is a duplicate.
    #[serde(default)]
    id: Option<String>,
}

/// Why nothing was posted.
#[derive(Debug, thiserror::Error)]
pub(super) enum WebhookError {
    #[error("there is no scheme `{0}` to sign with")]
    NoScheme(&'static str),
    #[error(transparent)]
    Secret(#[from] Problem),
    #[error(transparent)]
    Outbound(#[from] OutboundError),
    #[error("nobody answered at {url}: {error}")]
    NoAnswer { url: String, error: String },
}

/// One delivery, ready to be posted.
pub(super) struct Delivery {
    url: String,
    secret: Secret,
    scheme: &'static Scheme,
    id: String,
    body: String,
}

/// Makes the delivery. The stand-in's lock is held by the caller, so nothing is posted yet.
pub(super) fn prepare(order: Order, name: Name, ids: &mut Ids) -> Result<Delivery, WebhookError> {
    let scheme_name = match name {
        Name::Clerk => "svix",
        Name::Stripe => "stripe",
        Name::OpenAi => "standard-webhooks",
    };
    let scheme = Scheme::named(scheme_name).ok_or(WebhookError::NoScheme(scheme_name))?;
    let body = match order.body {
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
        None => event(name, &order.kind, &order.data, clock::now(), ids).to_string(),
    };
    let id = order.id.unwrap_or_else(|| ids.next("msg_", 27));
    Ok(Delivery { url: order.url, secret: Secret::new("secret", order.secret), scheme, id, body })
}

fn event(name: Name, kind: &str, data: &Value, now: Millis, ids: &mut Ids) -> Value {
    let seconds = now.0.div_euclid(1000);
    match name {
        Name::Clerk => json!({
            "data": data,
            "event_attributes": { "http_request": { "client_ip": "", "user_agent": "" } },
            "instance_id": "ins_stand_in",
            "object": "event",
            "timestamp": now.0,
            "type": kind,
        }),
        Name::Stripe => stripe::event(kind, data, seconds, ids),
        Name::OpenAi => json!({
            "id": ids.hex("evt_", 32),
            "object": "event",
            "created_at": seconds,
            "type": kind,
            "data": data,
        }),
    }
}

/// Posts it; what the receiver said.
pub(super) async fn post(delivery: Delivery) -> Result<Value, WebhookError> {
    let Delivery { url, secret, scheme, id, body } = delivery;
    let message = Message { id: &id, at: clock::now(), body: body.as_bytes() };
    let signed = verifier::headers(scheme, &secret, &message)?;
    let client = outbound::client(TIMEOUT, Trust::Nobody)?;
    let mut request = client.post(&url).header("content-type", "application/json");
    for (name, value) in signed {
        request = request.header(name, value);
    }
    let no_answer = |error: &dyn std::error::Error| WebhookError::NoAnswer {
        url: url.clone(),
        error: error.to_string(),
    };
    let response = request.body(body.clone()).send().await.map_err(|error| no_answer(&error))?;
    let status = response.status().as_u16();
    let mut said = response.bytes().await.map_err(|error| no_answer(&error))?;
    said.truncate(ANSWER_BYTES_MAX);
    Ok(json!({
        "id": id,
        "status": status,
        "answer": String::from_utf8_lossy(&said),
        "body": body,
    }))
}
