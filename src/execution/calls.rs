//! What a run asks of providers: put together, sent, told. The script hears what came of it.

use std::sync::Arc;

use bytes::Bytes;

use super::journal::{Asked, Begun, Ended};
use super::perform::{Calling, Live};
use crate::clock;
use crate::provider::{self, End, Prepared, Provider, Sent, Trouble};
use crate::script::call::{CallError, Called, CalledBody, ProviderCall};
use crate::script::host_call::{CallEnd, HostError, HostReply};
use crate::store::{AnswerKind, CallAnswer, CallOutcome, Json, StoreError};

impl Live {
    /// Makes one call.
    pub(super) async fn call(&self, call: &ProviderCall) -> HostReply {
        let Some(provider) = self.provider(&call.provider) else { return gone(&call.provider) };
        let prepared = match Prepared::new(provider, call) {
            Ok(prepared) => prepared,
            Err(trouble) => return failed(provider, call, trouble),
        };
        let ticket = match self.journal.begin(asked(&prepared)).await {
            Ok(Begun::Send(ticket)) => ticket,
            Ok(Begun::Reuse(answer)) => return HostReply::Called(Box::new(called(answer))),
            Ok(Begun::Stop(reason)) => return self.end_by_call(CallEnd::Unknown { reason }),
            Err(error) => return unstored(&error),
        };
        let Calling { caller, circumstances, .. } = &self.calling;
        let sent = caller.send(&prepared, ticket.key(), *circumstances).await;
        self.journal.end(ticket, ended(&sent)).await;
        match sent.end {
            End::Called(called) => HostReply::Called(Box::new(called)),
            End::Failed(trouble) => failed(provider, call, trouble),
            End::Parked { until, reason } => {
                let wait = until.saturating_duration_since(clock::instant());
                let until = clock::steady().plus(wait);
                self.end_by_call(CallEnd::Parked { until, reason: reason.into() })
            }
        }
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

/// A call in the words of the journal.
fn asked(prepared: &Prepared) -> Asked<'_> {
    Asked {
        provider: prepared.provider(),
        operation: &prepared.operation,
        digest: prepared.digest(),
        is_unsafe: prepared.is_unsafe(),
        key_ttl: prepared.key_ttl(),
        own_key: prepared.own_key.clone(),
        repeat: prepared.repeat(),
    }
}

/// What a call came to, in the words of the journal.
fn ended(sent: &Sent) -> Ended {
    let Sent { tries, end, .. } = sent;
    let (status, error, answer) = match end {
        End::Called(called) => (Some(called.status), None, Some(kept(called))),
        End::Failed(trouble) => (trouble.status, Some(trouble.what.code()), None),
        // It was sent only where the answer was that it comes too often.
        End::Parked { .. } => ((*tries > 0).then_some(429), Some("RATE_LIMIT_EXCEEDED"), None),
    };
    let outcome = match (end, status) {
        (End::Failed(trouble), _) if trouble.what.is_unknown() => CallOutcome::Failed,
        (End::Called(_), Some(..400)) => CallOutcome::Succeeded,
        (_, Some(500..)) => CallOutcome::Failed,
        (_, Some(_)) => CallOutcome::Refused,
        // One of the tries before may have been answered by nobody.
        (_, None) if *tries > 1 => CallOutcome::Failed,
        (_, None) => CallOutcome::Unsent,
    };
    Ended { outcome, tries: *tries, status, error: error.map(Into::into), answer }
}

/// An answer as it is stored.
fn kept(called: &Called) -> CallAnswer {
    let (kind, body) = match &called.body {
        CalledBody::Nothing => (AnswerKind::Nothing, Bytes::new()),
        CalledBody::Json(json) => (AnswerKind::Json, Bytes::copy_from_slice(json.0.as_bytes())),
        CalledBody::Text(text) => (AnswerKind::Text, Bytes::copy_from_slice(text.as_bytes())),
        CalledBody::Bytes(bytes) => (AnswerKind::Bytes, bytes.clone()),
    };
    CallAnswer { status: called.status, headers: called.headers.clone(), kind, body }
}

/// A stored answer as it came.
fn called(answer: CallAnswer) -> Called {
    let CallAnswer { status, headers, kind, body } = answer;
    let text = || String::from_utf8_lossy(&body).into();
    let body = match kind {
        AnswerKind::Nothing => CalledBody::Nothing,
        AnswerKind::Json => CalledBody::Json(Json(text())),
        AnswerKind::Text => CalledBody::Text(text()),
        AnswerKind::Bytes => CalledBody::Bytes(body),
    };
    Called { status, headers, body }
}

/// It could not be written down before it was sent, so it was not sent.
fn unstored(error: &StoreError) -> HostReply {
    let message = format!("the call was not made: {error}");
    HostReply::Failed(HostError { code: "SERVICE_UNAVAILABLE", message: message.into() })
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
    let seconds = |after: std::time::Duration| {
        after.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)
    };
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
