//! An issuer's keys, shared by all workers: fetched when the first token asks for them, again in the background while they are in use, and by one
//! task at a time however many wait. A fetch that fails leaves the last good set. Its lock is held for a look, never over an await.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::fetch::{self, FetchError};
use super::key::Key;
use super::key_set::{KeySet, Named};
use crate::clock::{self, Millis};

/// A set of this age is fetched again in the background by whoever uses it.
const REFRESH_AFTER: Duration = Duration::from_secs(5 * 60);
/// A set of this age is not used before it was tried to fetch it again: a key that its issuer has removed works no longer than this.
const USED_AT_MOST: Duration = Duration::from_secs(10 * 60);
/// While the issuer cannot be reached, its last good set serves for so long. Issuers announce new keys days ahead, and whoever can keep us from the
/// issuer must not keep a stolen key alive for ever.
const KEPT_AT_MOST: Duration = Duration::from_secs(24 * 60 * 60);
/// After a fetch that failed, the next one.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(5);
/// Between two fetches for names that no key has: anybody can make up names.
const PAUSE_FOR_UNKNOWN: Duration = Duration::from_secs(60);
/// A set of this age is not fetched again for a name that it lacks: those who waited for it and those who came just behind them ask once.
const JUST_FETCHED: Duration = Duration::from_secs(10);

/// The keys of one URL.
pub(super) struct Cache {
    url: Box<str>,
    state: Mutex<State>,
}

/// Times are those of `clock::steady`.
#[derive(Default)]
struct State {
    set: Option<(Arc<KeySet>, Millis)>,
    /// Closed when the fetch ends, however it ends.
    under_way: Option<watch::Receiver<()>>,
    /// When a fetch failed, unless one has succeeded since, and how it was told.
    failed: Option<(Millis, FetchError)>,
    /// When a fetch was last begun for a name that no key had.
    unknown_at: Option<Millis>,
}

/// What to do for whoever wants the set.
enum Step {
    Use(Arc<KeySet>),
    /// Use it, and see to it that the next one gets a newer one.
    UseAndFetch(Arc<KeySet>),
    Wait,
    /// There is none, and it was tried just now.
    Fail,
}

/// A key and the set that holds it.
pub(super) struct FoundKey(Arc<KeySet>, usize);

/// Why there is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoKey {
    /// No set was fetched, or none for too long.
    NoSet,
    /// The set has no key of that name.
    Unknown,
    /// No name was given, and the set has several keys.
    Unnamed,
}

impl FoundKey {
    pub(super) fn key(&self) -> &Key {
        self.0.key(self.1)
    }
}

impl State {
    fn step(&self, now: Millis) -> Step {
        let age = |at: Millis| at.until(now);
        let is_pausing = self.failed.as_ref().is_some_and(|(at, _)| age(*at) < PAUSE_AFTER_FAILURE);
        match &self.set {
            Some((set, at)) if age(*at) < REFRESH_AFTER => Step::Use(Arc::clone(set)),
            Some((set, at)) if age(*at) < KEPT_AT_MOST => {
                let set = Arc::clone(set);
                if is_pausing {
                    Step::Use(set)
                } else if age(*at) < USED_AT_MOST || self.failed.is_some() {
                    Step::UseAndFetch(set)
                } else {
                    Step::Wait
                }
            }
            Some(_) | None if is_pausing => Step::Fail,
            Some(_) | None => Step::Wait,
        }
    }

    /// Whether a name that the set lacks is worth a fetch; if so, it is noted down as begun.
    fn may_fetch_for_unknown(&mut self, now: Millis) -> bool {
        let within = |at: Option<Millis>, pause| at.is_some_and(|at| at.until(now) < pause);
        let fetched_at = self.set.as_ref().map(|(_, at)| *at);
        let failed_at = self.failed.as_ref().map(|(at, _)| *at);
        let may = !within(self.unknown_at, PAUSE_FOR_UNKNOWN)
            && !within(fetched_at, JUST_FETCHED)
            && !within(failed_at, PAUSE_AFTER_FAILURE);
        if may {
            self.unknown_at = Some(now);
        }
        may
    }

    fn settle(&mut self, fetched: Result<KeySet, FetchError>, now: Millis) {
        match fetched {
            Ok(set) => {
                self.set = Some((Arc::new(set), now));
                self.failed = None;
            }
            Err(error) => self.failed = Some((now, error)),
        }
    }

    fn kept(&self, now: Millis) -> Option<Arc<KeySet>> {
        let (set, at) = self.set.as_ref()?;
        (at.until(now) < KEPT_AT_MOST).then(|| Arc::clone(set))
    }
}

impl Cache {
    /// It fetches nothing before somebody asks.
    pub(super) fn new(url: &str) -> Arc<Self> {
        Arc::new(Self { url: url.into(), state: Mutex::default() })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The key of that name, or without a name the only one. It waits for a fetch where it must.
    pub(super) async fn key(self: &Arc<Self>, kid: Option<&str>) -> Result<FoundKey, NoKey> {
        let set = self.current().await.ok_or(NoKey::NoSet)?;
        let unnamed = match set.find(kid) {
            Named::Key(index) => return Ok(FoundKey(set, index)),
            Named::Unnamed => true,
            Named::Unknown => false,
        };
        if unnamed {
            return Err(NoKey::Unnamed);
        }
        let newer = self.newer(&set).await.ok_or(NoKey::Unknown)?;
        match newer.find(kid) {
            Named::Key(index) => Ok(FoundKey(newer, index)),
            Named::Unnamed | Named::Unknown => Err(NoKey::Unknown),
        }
    }

    async fn current(self: &Arc<Self>) -> Option<Arc<KeySet>> {
        let fetch = {
            let mut state = self.state();
            match state.step(clock::steady()) {
                Step::Use(set) => return Some(set),
                Step::UseAndFetch(set) => {
                    _ = self.fetch(&mut state);
                    return Some(set);
                }
                Step::Fail => return None,
                Step::Wait => self.fetch(&mut state),
            }
        };
        ended(fetch).await;
        self.state().kept(clock::steady())
    }

    /// A set that is newer than this one, which lacks a name: one that has come meanwhile, one that is under way, or one that is fetched for it.
    async fn newer(self: &Arc<Self>, than: &Arc<KeySet>) -> Option<Arc<KeySet>> {
        let fetch = {
            let mut state = self.state();
            match &state.set {
                Some((set, _)) if !Arc::ptr_eq(set, than) => return Some(Arc::clone(set)),
                _ => {}
            }
            match state.under_way.clone() {
                Some(under_way) => under_way,
                None if state.may_fetch_for_unknown(clock::steady()) => self.fetch(&mut state),
                None => return None,
            }
        };
        ended(fetch).await;
        self.state().kept(clock::steady())
    }

    /// Joins the fetch that is under way, or begins one. It goes on when whoever began it has left.
    fn fetch(self: &Arc<Self>, state: &mut State) -> watch::Receiver<()> {
        if let Some(under_way) = &state.under_way {
            return under_way.clone();
        }
        let (sender, receiver) = watch::channel(());
        state.under_way = Some(receiver.clone());
        let fetching = Fetching { cache: Arc::clone(self), _sender: sender };
        tokio::spawn(async move {
            let fetched = fetch::fetch(&fetching.cache.url).await;
            fetching.cache.take(fetched);
        });
        receiver
    }

    fn take(&self, fetched: Result<KeySet, FetchError>) {
        let mut state = self.state();
        let failed_before = state.failed.take().map(|(_, error)| error);
        let url = &self.url;
        match &fetched {
            Ok(set) => {
                if failed_before.is_some() {
                    tracing::info!(url = %url, "the keys of `{url}` can be had again");
                }
                let known = state.set.as_ref().map(|(known, _)| &known.passed_over);
                if known != Some(&set.passed_over) {
                    for passed_over in &set.passed_over {
                        tracing::warn!(url = %url, "a key of `{url}` is not used: {passed_over}");
                    }
                }
            }
            Err(error) if failed_before.as_ref() != Some(error) => {
                let meanwhile = match &state.set {
                    Some(_) => "those that were fetched before serve on",
                    None => "routes that need them answer 503",
                };
                tracing::warn!(url = %url, "the keys of `{url}` cannot be had, and {meanwhile}: {error}");
            }
            Err(_) => {}
        }
        state.settle(fetched, clock::steady());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A fetch while it lives: when it ends, by a panic or the end of its worker too, nothing is under way and those who wait look again.
struct Fetching {
    cache: Arc<Cache>,
    _sender: watch::Sender<()>,
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.cache.state().under_way = None;
    }
}

/// Its sender says nothing: it goes.
async fn ended(mut fetch: watch::Receiver<()>) {
    _ = fetch.changed().await;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::key_set::tests::jwk;
    use super::*;

    fn set() -> KeySet {
        KeySet::read(json!({ "keys": [jwk("a")] }).to_string().as_bytes()).unwrap()
    }

    fn at(time: Duration) -> Millis {
        Millis(1_000_000).plus(time)
    }

    fn step(state: &State, time: Duration) -> &'static str {
        match state.step(at(time)) {
            Step::Use(_) => "use",
            Step::UseAndFetch(_) => "use and fetch",
            Step::Wait => "wait",
            Step::Fail => "fail",
        }
    }

    const ZERO: Duration = Duration::ZERO;
    const MOMENT: Duration = Duration::from_millis(1);

    #[test]
    fn a16_a_set_is_renewed_in_the_background_and_a_removed_key_is_gone_within_the_cache_time() {
        let mut state = State::default();
        assert_eq!(step(&state, ZERO), "wait");
        state.settle(Ok(set()), at(ZERO));
        assert_eq!(step(&state, ZERO), "use");
        assert_eq!(step(&state, REFRESH_AFTER - MOMENT), "use");
        assert_eq!(step(&state, REFRESH_AFTER), "use and fetch");
        assert_eq!(step(&state, USED_AT_MOST - MOMENT), "use and fetch");
        assert_eq!(step(&state, USED_AT_MOST), "wait");
        state.settle(Ok(set()), at(USED_AT_MOST));
        assert_eq!(step(&state, USED_AT_MOST), "use");
    }

    #[test]
    fn a15_the_last_good_set_serves_on_while_fetches_fail_but_not_for_ever() {
        let mut state = State::default();
        state.settle(Ok(set()), at(ZERO));
        let error = || Err(FetchError::Status(500));
        state.settle(error(), at(USED_AT_MOST));
        assert_eq!(step(&state, USED_AT_MOST), "use");
        assert_eq!(step(&state, USED_AT_MOST + PAUSE_AFTER_FAILURE), "use and fetch");
        state.settle(error(), at(KEPT_AT_MOST - MOMENT));
        assert_eq!(step(&state, KEPT_AT_MOST - MOMENT), "use");
        assert_eq!(step(&state, KEPT_AT_MOST), "fail");
        assert!(state.kept(at(KEPT_AT_MOST)).is_none());
        assert_eq!(step(&state, KEPT_AT_MOST + PAUSE_AFTER_FAILURE), "wait");
    }

    #[test]
    fn a15_where_nothing_was_fetched_a_failure_holds_for_a_moment() {
        let mut state = State::default();
        state.settle(Err(FetchError::TimedOut), at(ZERO));
        assert_eq!(step(&state, ZERO), "fail");
        assert_eq!(step(&state, PAUSE_AFTER_FAILURE - MOMENT), "fail");
        assert_eq!(step(&state, PAUSE_AFTER_FAILURE), "wait");
    }

    #[test]
    fn a14_names_that_no_key_has_are_worth_one_fetch_a_minute() {
        let mut state = State::default();
        state.settle(Ok(set()), at(ZERO));
        let mut may = |time: Duration| state.may_fetch_for_unknown(at(time));
        assert!(!may(ZERO) && !may(JUST_FETCHED - MOMENT));
        assert!(may(JUST_FETCHED));
        let fetches =
            (0..600).filter(|tenth| may(JUST_FETCHED + Duration::from_millis(tenth * 100)));
        assert_eq!(fetches.count(), 0);
        assert!(may(JUST_FETCHED + PAUSE_FOR_UNKNOWN));
        assert!(!may(JUST_FETCHED + PAUSE_FOR_UNKNOWN + MOMENT));
    }
}
