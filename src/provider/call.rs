//! The pipeline of one call, top to bottom: the breaker's leave, then try after try its turn, its place, its credentials, the exchange, and what is learned
//! from the answer; then what the call came to.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::Client;
use reqwest::header::HeaderValue;

use super::Provider;
use super::breaker::Pass;
use super::credentials::{Applied, Now};
use super::error::{Trouble, What};
use super::exchange::{self, Bounds, Incoming};
use super::gate::{Answered, CLOSED_MAX};
use super::health;
use super::limit_headers;
use super::opened::{self, Streaming};
use super::outcome::Outcome;
use super::prepared::Prepared;
use super::retry::{Failed, Next};
use super::retry_after::retry_after;
use super::state::{Kept, Later, WAIT_MAX};
use crate::outbound::{self, Reach};
use crate::script::call::Called;
use crate::{clock, redact, units};

/// A connection stands by then, TLS included. Far away is 300 ms; a lost SYN is sent again after 1 s and 3 s.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Where a limit says nothing of time, it is over after so long.
const LIMIT_PAUSE: Duration = Duration::from_secs(1);
/// Between two jobs that come back to a provider without a rate of its own.
const GAP: Duration = Duration::from_millis(10);

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
    /// Whether a wait that is too long parks the job, in place of failing the call.
    pub(crate) may_park: bool,
}

/// What a call came to.
#[derive(Debug)]
pub(crate) struct Sent {
    /// Requests that were sent.
    pub(crate) tries: u32,
    /// In short.
    pub(crate) end: End,
}

/// How a call ended.
#[derive(Debug)]
pub(crate) enum End {
    /// It has succeeded.
    Called(Called),
    /// It has succeeded so far: the head of its answer is there.
    Streaming(Box<Streaming>),
    /// It has not.
    Failed(Trouble),
    /// It was not made, and its job is to come back then.
    Parked {
        /// On the clock of waits.
        until: Instant,
        /// Why.
        reason: String,
        /// What it would be as an error.
        what: What,
    },
}

/// What a call has come to so far.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    /// Requests that were sent.
    tries: u32,
    /// As its answer says; that of a stream is told at its end.
    tokens_used: Option<u64>,
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

    /// Makes one call. `key` is the idempotency key that it carries.
    pub(crate) async fn send(
        &self,
        prepared: &Prepared,
        key: Option<&str>,
        circumstances: Circumstances,
    ) -> Sent {
        let started = clock::instant();
        let mut tally = Tally::default();
        let result = self.tried(prepared, key, circumstances, &mut tally).await;
        let latency = clock::instant().saturating_duration_since(started);
        let end = match result {
            Ok(Made::Called(called)) => End::Called(called),
            Ok(Made::Streaming(streaming)) => End::Streaming(streaming),
            Err(Kept::Out(trouble)) => End::Failed(trouble),
            Err(Kept::Later(later)) => kept_out(prepared, later, circumstances),
        };
        say(prepared, &end, tally, latency);
        Sent { tries: tally.tries, end }
    }

    async fn tried(
        &self,
        prepared: &Prepared,
        key: Option<&str>,
        circumstances: Circumstances,
        tally: &mut Tally,
    ) -> Result<Made, Kept> {
        let provider = &prepared.provider;
        provider.within_budget(prepared.verb)?;
        let client = self.client(provider, circumstances).map_err(Kept::Out)?;
        let pass = provider.state.pass(circumstances.deadline).await.map_err(Kept::Later)?;
        let began = clock::instant();
        let result = self.repeated(&client, prepared, key, circumstances, tally).await;
        // What was never sent says nothing of the provider.
        if tally.tries > 0 {
            learned(provider, pass, &result, began);
        }
        result
    }

    /// Try after try.
    async fn repeated(
        &self,
        client: &Client,
        prepared: &Prepared,
        key: Option<&str>,
        circumstances: Circumstances,
        tally: &mut Tally,
    ) -> Result<Made, Kept> {
        let provider = &prepared.provider;
        let settings = &provider.config.resilience;
        let mut fresh_token = false;
        let mut repeated_at_once = false;
        loop {
            let timeout = prepared.timeout.unwrap_or(settings.timeout);
            let ends = exchange::ends(timeout, circumstances.deadline);
            let place = provider.state.admit(provider, &prepared.operation, ends).await?;
            // While it stood in line, others may have spent the rest. A call that has begun goes on to its end.
            if tally.tries == 0 {
                provider.within_budget(prepared.verb)?;
            }
            let bounds = Bounds {
                ends: exchange::ends(timeout, circumstances.deadline),
                timeout,
                bytes_max: provider.config.max_response,
            };
            let now = Now { wall: clock::now(), steady: clock::steady() };
            let applied = (provider.credentials.apply(now, client, bounds.ends).await)
                .map_err(|error| Kept::Out(Trouble::from(&error)))?;
            tally.tries += 1;
            let outgoing = prepared.outgoing(key, &applied);
            let answered = match &outgoing {
                Ok(outgoing) if prepared.streams => {
                    opened::open(client, outgoing, bounds, prepared.timeout.is_some()).await
                }
                Ok(outgoing) => {
                    exchange::exchange(client, outgoing, bounds).await.map(opened::Answered::Whole)
                }
                Err(trouble) => Err(trouble.clone()),
            };
            let result = match answered {
                Ok(opened::Answered::Streaming(opened)) => {
                    let opened = *opened;
                    told(prepared, &opened.head, false);
                    let streaming = Streaming::new(opened, place, prepared);
                    return Ok(Made::Streaming(Box::new(streaming)));
                }
                Ok(opened::Answered::Whole(incoming)) => {
                    // Before its place is free: whoever gets it has to know.
                    tally.tokens_used = prepared.count(&incoming);
                    Ok(harmless(incoming))
                }
                Err(trouble) => Err(trouble),
            };
            drop(place);
            let trouble = match result.and_then(|incoming| judged(prepared, &incoming)) {
                Ok(called) => return Ok(Made::Called(called)),
                Err(trouble) => trouble,
            };
            if trouble.status == Some(401) && !fresh_token && is_renewed(provider, &applied) {
                fresh_token = true;
                continue;
            }
            let is_repeatable = prepared.is_repeatable(key);
            // A connection that was closed while it was idle tells only when it is used. Where an answer has begun, it was none of those.
            let may_have_been_idle = trouble.what == What::Lost && trouble.status.is_none();
            if may_have_been_idle && is_repeatable && !repeated_at_once {
                repeated_at_once = true;
                continue;
            }
            let Some(outcome) = trouble.outcome() else { return Err(Kept::Out(trouble)) };
            let failed = Failed {
                tries: tally.tries,
                outcome,
                // What a limit has turned away was not done.
                is_repeatable: is_repeatable || trouble.what == What::RateLimited,
                retry_after: trouble.retry_after,
                left: circumstances.deadline.saturating_duration_since(clock::instant()),
            };
            let is_limited = trouble.what == What::RateLimited;
            // A provider that names a long pause is not waited for in place (DESIGN §4, rule 12).
            let is_long = trouble.retry_after.is_some_and(|after| after > WAIT_MAX);
            let may_come_again = failed.is_repeatable && outcome.may_pass();
            let may_park = circumstances.may_park && prepared.may_wait && may_come_again;
            match failed.next(&settings.retry, clock::chance()) {
                // A closed gate is waited for where it is asked.
                Next::Again(_) if is_limited && !is_long => {}
                Next::Again(wait) if !is_long => tokio::time::sleep(wait).await,
                _ if may_park && (is_limited || is_long) => {
                    let pause = trouble.retry_after.unwrap_or(LIMIT_PAUSE).min(CLOSED_MAX);
                    return Err(Kept::Later(Later::asked(clock::instant() + pause, trouble.what)));
                }
                _ => return Err(out(trouble)),
            }
        }
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
            connect_timeout: CONNECT_TIMEOUT.min(provider.config.resilience.timeout),
            only_public: circumstances.only_public && !provider.config.private_network,
            idle_max: provider.config.resilience.concurrency,
        };
        let client = outbound::provider(reach)
            .map_err(|error| Trouble::new(What::Unreachable, error.to_string()))?;
        self.clients.borrow_mut().insert(at, (Arc::clone(provider), client.clone()));
        Ok(client)
    }
}

/// It stays an error. What it says of coming again is believed for an hour at most.
fn out(trouble: Trouble) -> Kept {
    let retry_after = trouble.retry_after.map(|after| after.min(CLOSED_MAX));
    Kept::Out(Trouble { retry_after, ..trouble })
}

/// Whether another token can be had in place of the one that was refused.
fn is_renewed(provider: &Provider, applied: &Applied) -> bool {
    let now = Now { wall: clock::now(), steady: clock::steady() };
    applied.token.as_ref().is_some_and(|token| provider.credentials.invalidate(*token, now))
}

/// What a call gives that has succeeded.
enum Made {
    Called(Called),
    Streaming(Box<Streaming>),
}

impl Made {
    fn status(&self) -> u16 {
        match self {
            Self::Called(called) => called.status,
            Self::Streaming(streaming) => streaming.status(),
        }
    }
}

/// Without our own secrets, which some echo.
fn harmless(incoming: Incoming) -> Incoming {
    let redactor = redact::current();
    let mut headers = incoming.headers;
    for value in headers.values_mut() {
        if let Some(replaced) = redactor.replaced(value.as_bytes())
            && let Ok(replaced) = HeaderValue::from_bytes(&replaced)
        {
            *value = replaced;
        }
    }
    let body = redactor.replaced(&incoming.body).map_or(incoming.body, Bytes::from);
    Incoming { headers, body, ..incoming }
}

/// What an answer comes to. What it says of limits is for everybody, also where it comes with a good status.
fn judged(prepared: &Prepared, incoming: &Incoming) -> Result<Called, Trouble> {
    let judged = prepared.judge(incoming);
    let is_refused = matches!(&judged, Err(trouble) if trouble.what == What::RateLimited);
    told(prepared, incoming, is_refused || incoming.status == 429);
    judged
}

/// What an answer says of limits, for everybody.
fn told(prepared: &Prepared, incoming: &Incoming, is_limited: bool) {
    let (now, at) = (clock::instant(), clock::now());
    let state = &prepared.provider.state;
    let limits = &prepared.provider.descriptor.limits;
    let header = |name: &str| incoming.headers.get(name).and_then(|value| value.to_str().ok());
    let told = limits.read(&header, at);
    state.headroom.tell(&told, now);
    let answered = Answered {
        status: incoming.status,
        is_limited,
        retry_after: header("retry-after").and_then(|text| retry_after(text, at)),
        resets_in: limit_headers::resets_in(&told),
        otherwise: LIMIT_PAUSE,
    };
    if let Some(closed_for) = answered.closes_for() {
        let part = limits.part(&header, &prepared.operation);
        state.close(part, closed_for, is_limited, now);
    }
}

/// What a call says of the provider, for everybody.
fn learned(provider: &Provider, pass: Pass, result: &Result<Made, Kept>, began: Instant) {
    let (now, at) = (clock::instant(), clock::now());
    let (outcome, code, answered) = match result {
        Ok(made) => (Some(Outcome::Answered(made.status())), None, true),
        Err(Kept::Out(trouble)) => {
            (trouble.outcome(), Some(trouble.what.code()), trouble.status.is_some())
        }
        Err(Kept::Later(later)) => (Some(Outcome::Answered(429)), Some(later.what.code()), true),
    };
    let Some(outcome) = outcome else { return };
    let verdict = outcome.verdict();
    let latency = answered.then(|| now.saturating_duration_since(began));
    provider.state.health.record(&health::Ended { verdict, latency, code }, now, at);
    if pass.ended(verdict, &provider.config.resilience.breaker, now) {
        tracing::error!(service = %provider.name, "`{}` fails too often: no call goes out for {}", provider.name, units::print_duration(provider.config.resilience.breaker.open_for));
    }
}

/// A wait that is too long parks the job, or fails the call.
fn kept_out(prepared: &Prepared, later: Later, circumstances: Circumstances) -> End {
    let now = clock::instant();
    let provider = &prepared.provider;
    if circumstances.may_park && prepared.may_wait {
        let gap = provider.rates.iter().map(|rate| rate.gap).max().unwrap_or(GAP);
        let until = provider.state.gate.park_until(&later.part, later.until, gap, now);
        let reason = format!("{} {}: {}", provider.name, prepared.operation, later.message);
        return End::Parked { until, reason, what: later.what };
    }
    let retry_after = Some(later.until.saturating_duration_since(now));
    End::Failed(Trouble { retry_after, ..Trouble::new(later.what, later.message) })
}

/// One line for each call. What the provider said is not in it: it may be about a person.
fn say(prepared: &Prepared, end: &End, tally: Tally, latency: Duration) {
    let (service, method) = (&prepared.provider.name, &prepared.operation);
    let Tally { tries: attempt, tokens_used } = tally;
    let latency_ms = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
    let took = units::print_duration(latency);
    match end {
        End::Called(called) => {
            let request_id = called.request_id().unwrap_or_default();
            tracing::info!(%service, %method, success = true, latency_ms, tokens_used, attempt, status = called.status, request_id, "{service} {method}: {} in {took}", called.status);
        }
        End::Streaming(streaming) => {
            tracing::info!(%service, %method, success = true, latency_ms, attempt, status = streaming.status(), "{service} {method}: began to answer in {took}");
        }
        End::Failed(trouble) => {
            let (code, message) = (trouble.what.code(), &trouble.message);
            tracing::warn!(%service, %method, success = false, latency_ms, attempt, status = trouble.status, code, "{service} {method}: {message}");
        }
        End::Parked { reason, .. } => {
            tracing::info!(%service, %method, success = false, latency_ms, attempt, "a job waits: {reason}");
        }
    }
}
