//! The third parties that scripts call. `Provider` is one of them as config has it, with all that every worker shares of it; `Caller` is one worker's
//! means of reaching them. The story of one call stands in `call.rs`; each mechanism on its way has a file of its own.

use std::sync::Arc;

use url::Url;

use crate::config;
use crate::config::{BaseUrl, ProviderKind};
use crate::script::providers::Tree;

mod call;
mod credentials;
mod error;
mod exchange;
mod merge;
mod opened;
mod request;
mod sse;
mod stream;

pub(crate) use self::call::{Caller, Circumstances, Made};
pub(crate) use self::opened::{Pieces, Streaming};

/// One third party, as one generation has it.
#[derive(Debug)]
pub(crate) struct Provider {
    /// As scripts write it.
    pub(crate) name: Arc<str>,
    /// Its table.
    config: config::Provider,
    /// Where it is; `None`: config names a variable that is not set.
    base_url: Option<Url>,
}

impl Provider {
    /// From its table.
    pub(crate) fn new(config: &config::Provider) -> Self {
        let base_url = match &config.base_url {
            Some(BaseUrl::Known(url)) => Some(url.clone()),
            Some(BaseUrl::Secret(secret)) => Url::parse(secret.expose()).ok(),
            Some(BaseUrl::Missing(_)) => None,
            None => home(config.kind),
        };
        Self { name: config.name.as_ref().into(), config: config.clone(), base_url }
    }

    /// What scripts may call by name.
    pub(crate) fn offers(&self) -> Arc<Tree> {
        Arc::default()
    }

    /// The variable without which nothing can be called.
    pub(crate) fn missing(&self) -> Option<&str> {
        match &self.config.base_url {
            Some(BaseUrl::Missing(variable)) => Some(variable),
            _ => None,
        }
    }
}

/// Where an API is that config does not place elsewhere.
fn home(kind: ProviderKind) -> Option<Url> {
    let url = match kind {
        ProviderKind::Clerk => "https://api.clerk.com",
        ProviderKind::Stripe => "https://api.stripe.com",
        ProviderKind::OpenAi => "https://api.openai.com/v1",
        ProviderKind::Http => return None,
    };
    Url::parse(url).ok()
}
