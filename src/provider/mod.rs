//! The third parties that scripts call. `Provider` is one of them as config has it, with all that every worker shares of it; `Caller` is one worker's
//! means of reaching them. The story of one call stands in `call.rs`; each mechanism on its way has a file of its own.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use self::budget::{Ledger, Spent};
use self::credentials::Credentials;
use self::descriptor::{Descriptor, Prices, Style};
use self::state::State;
use crate::clock;
use crate::config;
use crate::config::BaseUrl;
use crate::frame::Frame;
use crate::script::call::{Headroom, Health};
use crate::script::providers::Tree;
use crate::units::Rate;

pub(crate) mod descriptor;
mod call;
mod prepared;
mod request;
mod answer;
mod pages;
mod error;
mod exchange;
mod opened;
mod stream;
mod sse;
mod merge;
mod credentials;
mod state;
pub(crate) mod budget;
mod usage;
mod spending;
mod rate_limit;
mod places;
mod gate;
mod breaker;
mod outcome;
mod window;
mod retry;
mod retry_after;
mod limit_headers;
mod headroom;
mod health;

pub(crate) use self::call::{Caller, Circumstances, End, Sent};
pub(crate) use self::descriptor::Repeat;
pub(crate) use self::error::{Trouble, What};
pub(crate) use self::opened::{Pieces, Streaming};
pub(crate) use self::prepared::{Prepared, operation};

/// One third party, as one generation has it.
pub(crate) struct Provider {
    /// As scripts write it.
    pub(crate) name: Arc<str>,
    /// Its table.
    config: config::Provider,
    /// Where it is; `None`: config names a variable that is not set.
    base_url: Option<Url>,
    /// How often it is called: as config says, else as it publishes.
    rates: Box<[Rate]>,
    /// What its API looks like.
    descriptor: Arc<Descriptor>,
    /// What its answers cost.
    prices: Prices,
    /// What was used of it.
    spent: Arc<Spent>,
    /// What all workers share of it, whatever config says.
    state: Arc<State>,
    credentials: Arc<Credentials>,
}

impl fmt::Debug for Provider {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Provider").field(&self.name).finish()
    }
}

impl Provider {
    /// From its table, or everything that is wrong with its own descriptor. What is known of it stays known where it is the same as before, and so
    /// do its tokens; what was used of it stands in the ledger under its name.
    pub(crate) fn new(
        config: &config::Provider,
        before: Option<&Self>,
        ledger: &Ledger,
    ) -> Result<Self, Vec<Frame>> {
        let descriptor = match &config.descriptor {
            Some(file) => Arc::new(Descriptor::read(&file.path, &file.text)?),
            None => Descriptor::built_in(config.kind),
        };
        if descriptor.usage.is_none()
            && let Some(frame) = spending::uncounted(config)
        {
            return Err(vec![frame]);
        }
        let base_url = match &config.base_url {
            Some(BaseUrl::Known(url)) => Some(url.clone()),
            Some(BaseUrl::Secret(secret)) => Url::parse(secret.expose()).ok(),
            Some(BaseUrl::Missing(_)) => None,
            None => descriptor.base_url.as_deref().and_then(|url| Url::parse(url).ok()),
        };
        let place = base_url.as_ref().map_or("", Url::as_str);
        let signs = config.credentials.as_ref().map(|meant| in_style(meant, &descriptor.style));
        let credentials = match before {
            Some(before) => before.credentials.renewed(signs.as_ref(), place),
            None => Arc::new(Credentials::new(signs.as_ref(), place)),
        };
        let same = |before: &&Self| {
            before.base_url == base_url && before.config.credentials == config.credentials
        };
        let state = before.filter(same).map(|before| Arc::clone(&before.state)).unwrap_or_default();
        let rates =
            config.resilience.rate_limit.clone().unwrap_or_else(|| descriptor.rate_limit.clone());
        let prices = spending::prices(&descriptor.prices, &config.spending);
        Ok(Self {
            name: config.name.as_ref().into(),
            config: config.clone(),
            base_url,
            rates,
            descriptor,
            prices,
            spent: ledger.spent(&config.name),
            state,
            credentials,
        })
    }

    /// What scripts may call by name.
    pub(crate) fn offers(&self) -> Arc<Tree> {
        Arc::clone(&self.descriptor.offers)
    }

    /// The variables without which nothing can be called.
    pub(crate) fn missing(&self) -> Vec<&str> {
        let url = match &self.config.base_url {
            Some(BaseUrl::Missing(variable)) => Some(&**variable),
            _ => None,
        };
        let credentials = match &self.config.credentials {
            Some(config::Credentials::Missing(variables)) => &**variables,
            _ => &[],
        };
        url.into_iter().chain(credentials.iter().map(|variable| &**variable)).collect()
    }

    /// How it is doing.
    pub(crate) fn health(&self) -> Health {
        let now = clock::instant();
        let report = self.state.health.report(now);
        let breaker = self.state.breaker(now);
        let closed = self.state.gate.closed_until(now);
        let closed = closed.map(|until| until.saturating_duration_since(now));
        let lately = &report.five_minutes;
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let headroom = self.state.headroom.left(now).into_iter().map(|left| Headroom {
            of: left.bucket,
            remaining: left.remaining,
            limit: left.limit,
            resets_in_ms: left.resets_in.map(millis),
            exhausted_in_ms: left.used_up_in.map(millis),
        });
        Health {
            is_healthy: self.missing().is_empty() && report.is_healthy(breaker, closed),
            calls: lately.calls,
            success_rate: lately.success_rate,
            latency_ms: lately.latency_mean.map(millis),
            p95_ms: lately.latency_p95.map(millis),
            breaker: breaker.word(),
            closed_ms: closed.map_or(0, millis),
            headroom: headroom.collect(),
            last_error: report.last_error.map(|error| (error.code, error.at)),
        }
    }
}

/// An API key, in the way in which the provider takes it.
fn in_style(credentials: &config::Credentials, style: &Style) -> config::Credentials {
    let config::Credentials::Key(key) = credentials else { return credentials.clone() };
    let value = key.clone();
    match style {
        Style::Bearer | Style::None => config::Credentials::Bearer(value),
        Style::Basic => config::Credentials::Basic { user: value, password: None },
        Style::Header(name) => config::Credentials::Header { name: name.clone(), value },
        Style::Query(name) => config::Credentials::Query { name: name.clone(), value },
    }
}
