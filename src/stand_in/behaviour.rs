//! How a stand-in misbehaves, and what that makes of one request. Pure: time and chance are given to it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

/// What `POST /_stand_in/behave` takes. Each one replaces the one before, so that `{}` is good behaviour again.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Behaviour {
    /// Answers with an error.
    fail: Option<Fail>,
    /// Waits before it answers.
    latency_ms: u64,
    /// Has a rate limit of its own.
    rate_limit: Option<RateLimit>,
    /// Closes the connection without a word.
    down: bool,
    /// Never answers.
    hang: bool,
    /// Carries out so many requests, and closes the connection without an answer: the caller cannot know.
    lose: u32,
    /// Breaks off a stream after so many pieces.
    pub(super) cut_stream_after: Option<usize>,
    /// Waits before each piece of a stream but the first.
    pub(super) chunk_delay_ms: u64,
    /// Only where the path begins so; elsewhere it behaves.
    only: Option<String>,
    #[serde(skip)]
    bucket: Option<Bucket>,
}

/// An error that it answers with.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fail {
    /// The status.
    pub(super) status: u16,
    /// So many times; without it always.
    #[serde(default)]
    times: Option<u32>,
    /// This share of requests, from 0 to 1, as chance picks them; without it all.
    #[serde(default)]
    share: Option<f64>,
    /// Put in place of those that the answer has.
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    /// In place of the third party's own words.
    #[serde(default)]
    pub(super) body: Option<Value>,
}

impl Fail {
    /// A failure with the third party's own words.
    pub(crate) fn new(status: u16, times: Option<u32>) -> Self {
        Self { status, times, share: None, headers: BTreeMap::new(), body: None }
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RateLimit {
    per_second: u32,
}

/// A token bucket that holds one second's worth.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    level: f64,
    at: Instant,
}

/// What a rate limit has left after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) limit: u32,
    pub(super) remaining: u32,
    /// Until all of it is there again.
    pub(super) full_in: Duration,
}

/// What becomes of one request.
#[derive(Debug)]
pub(super) enum Fate {
    Answered(Option<Room>),
    Failed(Fail),
    /// Over the rate limit; there is room after this.
    Limited(Duration),
    Dropped,
    Lost,
    Hung,
}

impl Behaviour {
    /// As the command line says it.
    pub(crate) fn new(fail: Option<Fail>, latency: Duration) -> Self {
        let latency_ms = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
        Self { fail, latency_ms, ..Self::default() }
    }

    /// Whether it can do what it is told.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let status = self.fail.as_ref().map(|fail| fail.status);
        if status.is_some_and(|status| !(200..=599).contains(&status)) {
            return Err("`fail.status` is 200 to 599");
        }
        if self.rate_limit.is_some_and(|limit| limit.per_second == 0) {
            return Err("`rate_limit.per_second` is 1 or more; to answer nothing, say `down`");
        }
        Ok(())
    }

    /// How long the answer to a request of this path waits.
    pub(super) fn latency(&self, path: &str) -> Duration {
        if self.is_about(path) { Duration::from_millis(self.latency_ms) } else { Duration::ZERO }
    }

    /// What becomes of the next request; `chance` is a number in 0..1.
    pub(super) fn next(&mut self, path: &str, now: Instant, chance: f64) -> Fate {
        if !self.is_about(path) {
            return Fate::Answered(None);
        }
        if self.down {
            return Fate::Dropped;
        }
        if self.hang {
            return Fate::Hung;
        }
        if let Some(fail) = self.failure(chance) {
            return Fate::Failed(fail);
        }
        if self.lose > 0 {
            self.lose -= 1;
            return Fate::Lost;
        }
        match self.take(now) {
            None => Fate::Answered(None),
            Some(Ok(room)) => Fate::Answered(Some(room)),
            Some(Err(wait)) => Fate::Limited(wait),
        }
    }

    fn is_about(&self, path: &str) -> bool {
        self.only.as_ref().is_none_or(|only| path.starts_with(&**only))
    }

    fn failure(&mut self, chance: f64) -> Option<Fail> {
        let fail = self.fail.as_mut()?;
        if fail.share.is_some_and(|share| chance >= share) || fail.times == Some(0) {
            return None;
        }
        fail.times = fail.times.map(|times| times - 1);
        Some(fail.clone())
    }

    fn take(&mut self, now: Instant) -> Option<Result<Room, Duration>> {
        let limit = self.rate_limit?.per_second;
        let rate = f64::from(limit);
        let bucket = self.bucket.get_or_insert(Bucket { level: rate, at: now });
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        *bucket = Bucket { level: (bucket.level + passed * rate).min(rate), at: now };
        if bucket.level < 1.0 {
            return Some(Err(Duration::from_secs_f64((1.0 - bucket.level) / rate)));
        }
        bucket.level -= 1.0;
        #[expect(clippy::cast_possible_truncation, reason = "it is between 0 and the limit")]
        let remaining = bucket.level as u32;
        let full_in = Duration::from_secs_f64((rate - bucket.level) / rate);
        Some(Ok(Room { limit, remaining, full_in }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn told(json: &str) -> Behaviour {
        let behaviour: Behaviour = serde_json::from_str(json).unwrap();
        behaviour.check().unwrap();
        behaviour
    }

    #[test]
    fn a_failure_lasts_as_often_as_it_was_told_and_only_where() {
        let mut behaviour = told(r#"{ "fail": { "status": 503, "times": 2 }, "only": "/v1/a" }"#);
        let mut next =
            |path| matches!(behaviour.next(path, clock::instant(), 0.5), Fate::Failed(_));
        assert!(!next("/v1/b"));
        assert!(next("/v1/a"));
        assert!(next("/v1/a/x"));
        assert!(!next("/v1/a"));
    }

    #[test]
    fn a_share_of_requests_fails_as_chance_says() {
        let mut behaviour = told(r#"{ "fail": { "status": 500, "share": 0.1 } }"#);
        assert!(matches!(behaviour.next("/", clock::instant(), 0.09), Fate::Failed(_)));
        assert!(matches!(behaviour.next("/", clock::instant(), 0.1), Fate::Answered(None)));
    }

    #[test]
    fn a_rate_limit_gives_one_second_s_worth_and_says_when_there_is_more() {
        let mut behaviour = told(r#"{ "rate_limit": { "per_second": 2 } }"#);
        let start = clock::instant();
        let mut next = |millis| behaviour.next("/", start + Duration::from_millis(millis), 0.0);
        let Fate::Answered(Some(room)) = next(0) else { panic!("it has room") };
        assert_eq!(room, Room { limit: 2, remaining: 1, full_in: Duration::from_millis(500) });
        assert!(matches!(next(0), Fate::Answered(Some(Room { remaining: 0, .. }))));
        let Fate::Limited(wait) = next(100) else { panic!("it has no room") };
        assert_eq!(wait, Duration::from_millis(400));
        assert!(matches!(next(500), Fate::Answered(Some(_))));
    }

    #[test]
    fn what_it_cannot_do_is_refused() {
        for json in [r#"{ "fail": { "status": 99 } }"#, r#"{ "rate_limit": { "per_second": 0 } }"#]
        {
            assert!(serde_json::from_str::<Behaviour>(json).unwrap().check().is_err(), "{json}");
        }
        assert!(serde_json::from_str::<Behaviour>(r#"{ "fial": {} }"#).is_err());
    }
}
