//! What a run asks of providers: put together, looked up in its journal, sent, written down. The script hears what came of it, or that its attempt is over.

use std::sync::Arc;
use std::time::Duration;

use super::journal::{Asked, Begun, Ended};
use super::perform::{Calling, Live};
use crate::clock::{self, Millis};
use crate::provider::{self, End, Prepared, Provider, Sent, Trouble, What};
use crate::script::call::{CallError, Called, CalledBody, ProviderCall};
use crate::script::host_call::{CallEnd, HostError, HostReply};
use crate::store::{AnswerKind, CallAnswer, CallOutcome, Json, StoreError};

impl Live {
    /// Makes one call, or answers it from the journal.
    pub(super) async fn call(&self, call: &ProviderCall) -> Result<HostReply, StoreError> {
        let Some(provider) = self.provider(&call.provider) else { return Ok(gone(&call.provider)) };
        let prepared = match Prepared::new(provider, call).await {
            Ok(prepared) => prepared,
            Err(trouble) => return Ok(failed(provider, call, trouble)),
        };
        let asked = Asked {
            provider: &provider.name,
            operation: &prepared.operation,
            digest: prepared.digest,
            is_unsafe: prepared.is_unsafe(),
            key_ttl: prepared.key_ttl(),
            own_key: prepared.own_key.clone(),
            repeat: prepared.repeat(),
        };
        let ticket = match self.journal.begin(asked).await? {
            Begun::Reuse(answer) => return Ok(HostReply::Called(Box::new(recalled(&answer)))),
            Begun::Stop(reason) => return Ok(self.end_by_call(CallEnd::Unknown { reason })),
            Begun::Send(ticket) => ticket,
        };
        let Calling { caller, circumstances, has_acted, .. } = &self.calling;
        if prepared.is_unsafe() {
            has_acted.set(true);
        }
        let sent = caller.send(&prepared, ticket.key(), *circumstances).await;
        self.journal.end(*ticket, ended(&prepared, &sent)).await;
        Ok(match sent.end {
            End::Called(called) => HostReply::Called(Box::new(called)),
            End::Streaming(streaming) => self.streams.add(streaming),
            End::Failed(trouble) => failed(provider, call, trouble),
            End::Parked { until, reason, .. } => {
                self.end_by_call(CallEnd::Parked { until: steady(until), reason: reason.into() })
            }
        })
    }

    /// How a provider is doing.
    pub(super) fn health(&self, name: &str) -> HostReply {
        match self.provider(name) {
            Some(provider) => HostReply::Health(Box::new(provider.health())),
            None => gone(name),
        }
    }

    fn provider(&self, name: &str) -> Option<&Arc<Provider>> {
        self.calling.providers.iter().find(|provider| *provider.name == *name)
    }
}

/// A moment on the clock that counts waits.
fn steady(until: std::time::Instant) -> Millis {
    clock::steady().plus(until.saturating_duration_since(clock::instant()))
}

/// For the journal.
fn ended(prepared: &Prepared, sent: &Sent) -> Ended {
    let (outcome, status, error, answer) = match &sent.end {
        End::Called(called) => {
            let answer = prepared.is_unsafe().then(|| kept(called));
            (outcome_of(called.status), Some(called.status), None, answer)
        }
        // What comes as a stream is not kept: a rerun asks again, with the same key.
        End::Streaming(streaming) => {
            (outcome_of(streaming.status()), Some(streaming.status()), None, None)
        }
        End::Failed(trouble) => {
            let outcome = match trouble.status {
                _ if sent.tries == 0 || !trouble.what.may_have_been_done() => CallOutcome::Unsent,
                // An error that came with a good status (`error_when`).
                Some(..400) if trouble.what.is_refusal() => CallOutcome::Refused,
                Some(status) => outcome_of(status),
                None => CallOutcome::Failed,
            };
            (outcome, trouble.status, Some(trouble.what.code().into()), None)
        }
        End::Parked { .. } if sent.tries == 0 => (CallOutcome::Unsent, None, None, None),
        End::Parked { what: What::RateLimited, .. } => {
            (CallOutcome::Refused, Some(429), None, None)
        }
        // Something failed before: whether it was done is not known.
        End::Parked { .. } => (CallOutcome::Failed, None, None, None),
    };
    Ended { outcome, tries: sent.tries, status, error, answer }
}

fn outcome_of(status: u16) -> CallOutcome {
    match status {
        0..=399 => CallOutcome::Succeeded,
        400..=499 => CallOutcome::Refused,
        500.. => CallOutcome::Failed,
    }
}

fn kept(called: &Called) -> CallAnswer {
    let (kind, body) = match &called.body {
        CalledBody::Nothing => (AnswerKind::Nothing, bytes::Bytes::new()),
        CalledBody::Json(json) => (AnswerKind::Json, json.0.as_bytes().to_vec().into()),
        CalledBody::Text(text) => (AnswerKind::Text, text.as_bytes().to_vec().into()),
        CalledBody::Bytes(bytes) => (AnswerKind::Bytes, bytes.clone()),
    };
    CallAnswer { status: called.status, headers: called.headers.clone(), kind, body }
}

fn recalled(answer: &CallAnswer) -> Called {
    let text = || String::from_utf8_lossy(&answer.body).into_owned();
    let body = match answer.kind {
        AnswerKind::Nothing => CalledBody::Nothing,
        AnswerKind::Json => CalledBody::Json(Json(text().into())),
        AnswerKind::Text => CalledBody::Text(text().into()),
        AnswerKind::Bytes => CalledBody::Bytes(answer.body.clone()),
    };
    Called { status: answer.status, headers: answer.headers.clone(), body, page: None }
}

/// The run's generation has what its script was loaded with, so only a version of before can ask for this.
fn gone(name: &str) -> HostReply {
    let message = format!("config.toml has no provider `{name}` any more");
    HostReply::Failed(HostError { code: "CONFIGURATION_ERROR", message: message.into() })
}

/// What the script gets of a call that failed.
fn failed(provider: &Provider, call: &ProviderCall, trouble: Trouble) -> HostReply {
    let operation = provider::operation(call);
    let message = format!("{} {operation}: {}", provider.name, trouble.whole_message());
    let Trouble { what, status, retry_after, body, .. } = trouble;
    let seconds = |after: Duration| after.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX);
    HostReply::CallFailed(Box::new(CallError {
        code: what.code(),
        provider: Arc::clone(&provider.name),
        operation: operation.into(),
        status,
        message: message.into(),
        retry_after: retry_after.map(seconds),
        body,
    }))
}
