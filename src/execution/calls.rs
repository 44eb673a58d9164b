//! What a run asks of providers: put together, sent, told. The script hears what came of it.

use std::sync::Arc;

use super::perform::{Calling, Live};
use crate::provider::{self, End, Prepared, Provider, Sent, Trouble};
use crate::script::call::{CallError, ProviderCall};
use crate::script::host_call::{HostError, HostReply};

impl Live {
    /// Makes one call.
    pub(super) async fn call(&self, call: &ProviderCall) -> HostReply {
        let Some(provider) = self.provider(&call.provider) else { return gone(&call.provider) };
        let prepared = match Prepared::new(provider, call) {
            Ok(prepared) => prepared,
            Err(trouble) => return failed(provider, call, trouble),
        };
        let Calling { caller, circumstances, .. } = &self.calling;
        let Sent { end, .. } =
            caller.send(&prepared, prepared.own_key.as_deref(), *circumstances).await;
        match end {
            End::Called(called) => HostReply::Called(Box::new(called)),
            End::Streaming(streaming) => self.streams.add(streaming),
            End::Failed(trouble) => failed(provider, call, trouble),
            End::Parked { .. } => HostReply::Ended,
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
