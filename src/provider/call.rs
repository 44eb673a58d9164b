//! The pipeline of one call, top to bottom: which provider, which request, a try, what came of it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::Client;

use super::Provider;
use super::error::{Trouble, What, of_status};
use super::exchange::{self, Bounds, Incoming};
use super::opened::{self, Answered, Streaming};
use super::request;
use crate::outbound::{self, Reach};
use crate::script::call::{CallError, Called, CalledBody, ProviderCall, Target};
use crate::store::Json;
use crate::{clock, units};

/// Where config does not say: of one try.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of an answer that an error repeats.
const SHOWN_BYTES: usize = 200;
/// Bytes of an error's answer that a script gets.
const ERROR_BODY_BYTES: usize = 64 << 10;

/// One worker's means of reaching providers. Pooled connections belong to its runtime.
pub(crate) struct Caller {
    /// By the address of the provider, which is kept alive with it.
    clients: RefCell<HashMap<*const Provider, (Arc<Provider>, Client)>>,
}

/// What surrounds a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Circumstances {
    /// When its run has to be through.
    pub(crate) deadline: Instant,
    /// Whether names may lead to public addresses only.
    pub(crate) only_public: bool,
}

impl Caller {
    /// Without connections yet.
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self { clients: RefCell::default() })
    }

    /// Lets go of what is for providers that no generation has any more.
    pub(crate) fn keep(&self, providers: &[Arc<Provider>]) {
        self.clients
            .borrow_mut()
            .retain(|_, (known, _)| providers.iter().any(|provider| Arc::ptr_eq(provider, known)));
    }

    /// Makes one call.
    pub(crate) async fn call(
        &self,
        provider: &Arc<Provider>,
        call: &ProviderCall,
        circumstances: Circumstances,
    ) -> Result<Made, CallError> {
        let started = clock::instant();
        let result = match self.made(provider, call, circumstances).await {
            Ok(Answered::Whole(incoming)) => judged(&incoming, is_whole(call)).map(Made::Called),
            Ok(Answered::Streaming(opened)) => {
                let operation = operation(call).into();
                let streaming = Streaming::new(opened, Arc::clone(&provider.name), operation);
                Ok(Made::Streaming(Box::new(streaming)))
            }
            Err(trouble) => Err(trouble),
        };
        let latency = clock::instant().saturating_duration_since(started);
        let result = result.map_err(|trouble| failed(provider, call, trouble));
        say(provider, call, &result, latency);
        result
    }

    async fn made(
        &self,
        provider: &Arc<Provider>,
        call: &ProviderCall,
        circumstances: Circumstances,
    ) -> Result<Answered, Trouble> {
        if let Some(variable) = provider.missing() {
            let message = format!("it is not configured: `{variable}` is not set");
            return Err(Trouble::new(What::NotConfigured, message));
        }
        let Some(base_url) = &provider.base_url else {
            return Err(Trouble::new(What::NotConfigured, "it has no `base_url`"));
        };
        let outgoing = match &call.target {
            Target::Path { method, path, .. } => {
                request::of_path(provider, base_url, *method, path, &call.options)?
            }
            Target::Operation { name, .. } => {
                let message = format!("there is no operation `{name}`");
                return Err(Trouble::new(What::BadCall, message));
            }
        };
        let client = self.client(provider, circumstances)?;
        let timeout = outgoing.timeout.unwrap_or(TIMEOUT);
        let bounds = Bounds {
            ends: exchange::ends(timeout, circumstances.deadline),
            timeout,
            bytes_max: provider.config.max_response,
        };
        if call.options.stream {
            return opened::open(&client, &outgoing, bounds).await;
        }
        exchange::exchange(&client, &outgoing, bounds).await.map(Answered::Whole)
    }

    fn client(
        &self,
        provider: &Arc<Provider>,
        circumstances: Circumstances,
    ) -> Result<Client, Trouble> {
        let at = Arc::as_ptr(provider);
        if let Some((_, client)) = self.clients.borrow().get(&at) {
            return Ok(client.clone());
        }
        let reach = Reach {
            connect_timeout: Duration::from_secs(10),
            only_public: circumstances.only_public && !provider.config.private_network,
            idle_max: 64,
        };
        let client = outbound::provider(reach)
            .map_err(|error| Trouble::new(What::Unreachable, error.to_string()))?;
        self.clients.borrow_mut().insert(at, (Arc::clone(provider), client.clone()));
        Ok(client)
    }
}

/// What a call gives.
pub(crate) enum Made {
    /// All of its answer.
    Called(Called),
    /// An answer that comes.
    Streaming(Box<Streaming>),
}

fn is_whole(call: &ProviderCall) -> bool {
    matches!(call.target, Target::Path { whole: true, .. })
}

/// What an answer comes to. `whole`: no status is an error.
fn judged(incoming: &Incoming, whole: bool) -> Result<Called, Trouble> {
    let status = incoming.status;
    if status >= 400 && !whole {
        let body = error_body(incoming);
        let message = format!("it answered {status}{}", shown(&incoming.body));
        return Err(Trouble {
            body,
            ..Trouble::new(of_status(status), message).with_status(status)
        });
    }
    let body = decoded(incoming)?;
    let headers = incoming
        .headers
        .iter()
        .map(|(name, value)| {
            (name.as_str().into(), String::from_utf8_lossy(value.as_bytes()).into())
        })
        .collect();
    Ok(Called { status, headers, body })
}

/// The body by its content type. What says that it is JSON has to be.
fn decoded(incoming: &Incoming) -> Result<CalledBody, Trouble> {
    let body = without_mark(&incoming.body);
    if body.is_empty() {
        return Ok(CalledBody::Nothing);
    }
    let kind = incoming.content_type();
    let is_json = kind == "application/json" || kind.ends_with("+json");
    if is_json {
        return json(&body).ok_or_else(|| {
            let message = format!(
                "its answer ({}) is not JSON, though it says so{}",
                incoming.status,
                shown(&body)
            );
            Trouble::new(What::Garbled, message).with_status(incoming.status)
        });
    }
    if kind.is_empty()
        && let Some(json) = json(&body)
    {
        return Ok(json);
    }
    Ok(text(&body).unwrap_or(CalledBody::Bytes(body)))
}

fn error_body(incoming: &Incoming) -> Option<CalledBody> {
    let body = without_mark(&incoming.body);
    let body = body.slice(..body.len().min(ERROR_BODY_BYTES));
    if body.is_empty() {
        return None;
    }
    json(&body).or_else(|| text(&body)).or(Some(CalledBody::Bytes(body)))
}

fn json(body: &Bytes) -> Option<CalledBody> {
    let text = str::from_utf8(body).ok()?;
    serde_json::from_str::<serde::de::IgnoredAny>(text).ok()?;
    Some(CalledBody::Json(Json(text.into())))
}

fn text(body: &Bytes) -> Option<CalledBody> {
    str::from_utf8(body).ok().map(|text| CalledBody::Text(text.into()))
}

/// Without a byte order mark (RFC 8259, section 8.1, allows to ignore it).
fn without_mark(body: &Bytes) -> Bytes {
    if body.starts_with(b"\xef\xbb\xbf") { body.slice(3..) } else { body.clone() }
}

/// The beginning of a body, for a message.
fn shown(body: &[u8]) -> String {
    if body.is_empty() {
        return String::new();
    }
    let text = String::from_utf8_lossy(&body[..body.len().min(SHOWN_BYTES)]);
    format!(": {}", text.escape_debug())
}

/// What a script gets of it.
fn failed(provider: &Provider, call: &ProviderCall, trouble: Trouble) -> CallError {
    let Trouble { what, message, status, retry_after, body } = trouble;
    let operation = operation(call);
    CallError {
        code: what.code(),
        provider: Arc::clone(&provider.name),
        message: format!("{} {operation}: {message}", provider.name).into(),
        operation: operation.into(),
        status,
        retry_after: retry_after
            .map(|after| after.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)),
        body,
    }
}

/// What is called, for logs and errors: no query, which may hold what is nobody's business.
fn operation(call: &ProviderCall) -> String {
    match &call.target {
        Target::Operation { name, .. } => name.to_string(),
        Target::Path { method, path, .. } => {
            let path = path.split('?').next().unwrap_or_default();
            format!("{} {path}", method.word())
        }
    }
}

/// One line for each call.
fn say(
    provider: &Provider,
    call: &ProviderCall,
    result: &Result<Made, CallError>,
    latency: Duration,
) {
    let (service, method) = (&provider.name, operation(call));
    let latency_ms = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
    match result {
        Ok(Made::Streaming(_)) => {
            tracing::debug!(%service, %method, success = true, latency_ms, "{service} {method} began to answer in {}", units::print_duration(latency));
        }
        Ok(Made::Called(called)) => {
            tracing::debug!(%service, %method, success = true, status = called.status, latency_ms, "{service} {method} answered {} in {}", called.status, units::print_duration(latency));
        }
        Err(error) => {
            tracing::warn!(%service, %method, success = false, status = error.status, latency_ms, code = error.code, "{}", error.message);
        }
    }
}
