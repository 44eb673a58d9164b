//! What all workers share of one provider, and what outlives a new generation: how fast it is called, how it is doing, what it has said of its limits.
//! A provider that config moves elsewhere, or gives another key, begins anew.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Provider;
use super::breaker::{self, Breaker, Pass};
use super::error::{Trouble, What};
use super::gate::{self, Gate, Part};
use super::headroom::Headroom;
use super::health::Health;
use super::places::{Place, Places};
use super::rate_limit::{RateLimit, Taken};
use crate::clock;

/// A wait up to here happens in place; a longer one parks a job and fails a request (DESIGN §4, rule 12).
pub(super) const WAIT_MAX: Duration = Duration::from_secs(2);

/// One provider's.
#[derive(Default)]
pub(crate) struct State {
    pub(super) gate: Gate,
    pub(super) headroom: Headroom,
    pub(super) health: Health,
    rate: Arc<RateLimit>,
    breaker: Arc<Breaker>,
    places: Arc<Places>,
    /// Whether what closed the gate last was a limit, and not a failure that named a time.
    is_limited: AtomicBool,
}

/// Why a call has to wait for longer than it may.
#[derive(Debug)]
pub(super) struct Later {
    /// When it may be made.
    pub(super) until: Instant,
    /// What keeps it.
    pub(super) part: Part,
    /// As an error.
    pub(super) what: What,
    pub(super) message: Cow<'static, str>,
}

/// Why a try cannot be made now.
#[derive(Debug)]
pub(super) enum Kept {
    /// It could be made later.
    Later(Later),
    /// It has waited for as long as it may.
    Out(Trouble),
}

impl Later {
    /// The provider has asked for a pause that is too long to be waited for, by an answer of that kind.
    pub(super) fn asked(until: Instant, what: What) -> Self {
        let message = match what {
            What::RateLimited => "it has asked for a pause (rate limit)",
            _ => "it has asked for a pause",
        };
        Self { until, part: Part::Provider, what, message: message.into() }
    }
}

impl State {
    /// Where its breaker stands.
    pub(super) fn breaker(&self, now: Instant) -> breaker::Position {
        self.breaker.position(now)
    }

    /// Leave of the breaker for one call, all its tries included.
    pub(super) async fn pass(&self, deadline: Instant) -> Result<Pass, Later> {
        loop {
            let now = clock::instant();
            match self.breaker.ask(now) {
                breaker::Asked::Pass(pass) => return Ok(pass),
                breaker::Asked::OpenUntil(until) if until <= (now + WAIT_MAX).min(deadline) => {
                    tokio::time::sleep_until(until.into()).await;
                }
                breaker::Asked::OpenUntil(until) => {
                    return Err(Later {
                        until,
                        part: Part::Provider,
                        what: What::BreakerOpen,
                        message:
                            "it has failed too often just now, so it is left alone for a while"
                                .into(),
                    });
                }
            }
        }
    }

    /// Leave for one try: the gate is open, the rate allows it, there is a place. `ends` is when the try would have to be through.
    pub(super) async fn admit(
        &self,
        provider: &Provider,
        operation: &str,
        ends: Instant,
    ) -> Result<Place, Kept> {
        let mut has_slot = false;
        loop {
            let now = clock::instant();
            let latest = (now + WAIT_MAX).min(ends);
            if let gate::Asked::ClosedUntil(until, part) = self.gate.ask(operation, now) {
                if until > latest {
                    return Err(Kept::Later(self.closed(until, part)));
                }
                tokio::time::sleep_until(until.into()).await;
                continue;
            }
            if !has_slot {
                match self.rate.take(&provider.rates, now, latest) {
                    Taken::Now => {}
                    Taken::At(slot) => {
                        tokio::time::sleep_until(slot.at().into()).await;
                        slot.used();
                    }
                    Taken::TooLate(until) => {
                        return Err(Kept::Later(Later {
                            until,
                            part: Part::Provider,
                            what: What::OverLimit,
                            message: "our own `rate_limit` for it is used up".into(),
                        }));
                    }
                }
                has_slot = true;
            }
            let patience = ends.saturating_duration_since(clock::instant());
            let Ok(place) =
                self.places.enter(provider.config.resilience.concurrency, patience).await
            else {
                let message = "no place came free in time (`concurrency`)";
                return Err(Kept::Out(Trouble::new(What::TimedOut, message)));
            };
            // While it stood in line, an answer to somebody else may have closed the gate.
            if self.gate.ask(operation, clock::instant()) == gate::Asked::Open {
                return Ok(place);
            }
        }
    }

    /// Closes a part of it for everybody.
    pub(super) fn close(&self, part: Part, closed_for: Duration, is_limit: bool, now: Instant) {
        self.is_limited.store(is_limit, Ordering::Relaxed);
        self.gate.close(part, closed_for, now);
    }

    fn closed(&self, until: Instant, part: Part) -> Later {
        let is_limited = self.is_limited.load(Ordering::Relaxed);
        let what = if is_limited { What::RateLimited } else { What::Failing };
        Later { part, ..Later::asked(until, what) }
    }
}
