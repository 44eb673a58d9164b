//! One token for all workers. Whoever needs one and finds none fetches it, one at a time: the others wait for that, each until its own deadline,
//! and whoever is next takes over where the one that fetched is gone. It is renewed before it runs out, while calls go on with the old one. An
//! endpoint that fails is left alone for a while.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::header::HeaderValue;
use tokio::sync::Semaphore;

use super::Now;
use super::error::CredentialsError;
use super::fetch::{Fetch, Fetched};
use crate::backoff::Backoff;
use crate::clock::Millis;
use crate::redact::Kept;

/// How long an endpoint that failed is left alone, longer each time. It never gives up.
const PAUSES: Backoff =
    Backoff { max: u32::MAX, base: Duration::from_secs(1), cap: Duration::from_secs(60) };
/// Where an answer does not say for how long its token is good: a short time costs little, and a token that ended sooner is told by a 401.
const LIFETIME_UNKNOWN: Duration = Duration::from_secs(300);
/// An answer that says 0 or less must not make a fetch of every call.
const LIFETIME_MIN: Duration = Duration::from_secs(1);
/// What is longer, or no number that fits, is taken for a day.
const LIFETIME_MAX: Duration = Duration::from_secs(86_400);
/// Tokens that are long lived are renewed so long before their end.
const AHEAD: Duration = Duration::from_secs(60);
/// Nothing is begun with a token that ends sooner; less where it lives shortly.
const MARGIN: Duration = Duration::from_secs(5);
/// A provider that refuses a new token too is not cured by a third.
const BETWEEN_REFUSALS: Duration = Duration::from_secs(10);

/// Which token of a provider it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TokenId(u64);

/// The token of one provider, and the way to the next.
pub(super) struct Tokens {
    fetch: Fetch,
    state: Mutex<State>,
    /// Whose turn it is to fetch.
    turn: Arc<Semaphore>,
}

#[derive(Default)]
struct State {
    token: Option<Token>,
    fetched: u64,
    failure: Option<Failure>,
    /// When a token was last dropped because the provider refused it.
    refused_at: Option<Millis>,
}

struct Token {
    id: TokenId,
    header: HeaderValue,
    renew_at: Millis,
    ends_at: Millis,
    _kept: Kept,
}

/// The last fetch went wrong, as had `count` in all.
struct Failure {
    error: CredentialsError,
    count: u32,
    until: Millis,
}

/// A token as calls carry it.
type Carried = (HeaderValue, TokenId);

impl Tokens {
    pub(super) fn new(fetch: Fetch) -> Self {
        Self { fetch, state: Mutex::default(), turn: Arc::new(Semaphore::new(1)) }
    }

    pub(super) async fn get(
        self: &Arc<Self>,
        now: Now,
        client: &reqwest::Client,
        deadline: Instant,
    ) -> Result<Carried, CredentialsError> {
        if let Some((carried, is_due)) = self.carried(now) {
            if is_due {
                self.renew(now, client);
            }
            return Ok(carried);
        }
        let fetched = async {
            self.left_alone(now)?;
            // Asked for before anything is looked at again, so that no token is fetched twice.
            let _turn = self.turn.acquire().await;
            if let Some((carried, _)) = self.carried(now) {
                return Ok(carried);
            }
            self.left_alone(now)?;
            self.fetch(now, client).await?;
            self.carried(now).map(|(carried, _)| carried).ok_or(CredentialsError::TimedOut)
        };
        let fetched = tokio::time::timeout_at(deadline.into(), fetched).await;
        fetched.unwrap_or(Err(CredentialsError::TimedOut))
    }

    /// Drops a token that the provider refused; whether another one is there or can be fetched.
    pub(super) fn invalidate(&self, id: TokenId, now: Now) -> bool {
        let mut state = self.state();
        if state.token.as_ref().is_none_or(|token| token.id != id) {
            return true;
        }
        let is_soon = state.refused_at.is_some_and(|at| at.until(now.steady) < BETWEEN_REFUSALS);
        if !is_soon {
            state.token = None;
            state.refused_at = Some(now.steady);
        }
        !is_soon
    }

    /// The token, and whether it is time for the next.
    fn carried(&self, now: Now) -> Option<(Carried, bool)> {
        let state = self.state();
        let token = state.token.as_ref().filter(|token| now.steady < token.ends_at)?;
        Some(((token.header.clone(), token.id), now.steady >= token.renew_at))
    }

    /// The last failure, as long as the endpoint is left alone after it.
    fn left_alone(&self, now: Now) -> Result<(), CredentialsError> {
        let state = self.state();
        match state.failure.as_ref().filter(|failure| now.steady < failure.until) {
            Some(failure) => Err(failure.error.clone().after(now.steady.until(failure.until))),
            None => Ok(()),
        }
    }

    /// Fetches the next token beside the calls, unless somebody does.
    fn renew(self: &Arc<Self>, now: Now, client: &reqwest::Client) {
        if self.left_alone(now).is_err() {
            return;
        }
        let Ok(turn) = Arc::clone(&self.turn).try_acquire_owned() else { return };
        let (tokens, client) = (Arc::clone(self), client.clone());
        tokio::spawn(async move {
            if let Err(error) = tokens.fetch(now, &client).await {
                tracing::warn!(
                    "a token cannot be renewed, and the one before is used to its end: {error}"
                );
            }
            drop(turn);
        });
    }

    /// To be called by whoever has the turn.
    async fn fetch(&self, now: Now, client: &reqwest::Client) -> Result<(), CredentialsError> {
        let fetched = self.fetch.fetch(now, client).await;
        let mut state = self.state();
        match fetched {
            Ok(fetched) => {
                state.fetched += 1;
                state.token = Some(Token::new(TokenId(state.fetched), fetched, now.steady));
                state.failure = None;
                Ok(())
            }
            Err(error) => {
                let count = state.failure.as_ref().map_or(1, |failure| failure.count + 1);
                let pause = PAUSES.step(count);
                let until = now.steady.plus(pause);
                state.failure = Some(Failure { error: error.clone(), count, until });
                Err(error.after(pause))
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Token {
    /// Its time runs from before it was asked for.
    fn new(id: TokenId, fetched: Fetched, asked_at: Millis) -> Self {
        let lifetime =
            fetched.lifetime.unwrap_or(LIFETIME_UNKNOWN).clamp(LIFETIME_MIN, LIFETIME_MAX);
        let renewed_after = (lifetime / 5 * 4).max(lifetime.saturating_sub(AHEAD));
        let used_for = lifetime.saturating_sub(MARGIN.min(lifetime / 10));
        Self {
            id,
            header: fetched.header,
            renew_at: asked_at.plus(renewed_after),
            ends_at: asked_at.plus(used_for),
            _kept: fetched.kept,
        }
    }
}
