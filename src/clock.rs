//! The one door to time, chance and new ids. Everything else that needs the time asks here, so that
//! tests and replay can set it by hand. It never decides anything.

use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch, as scripts and the store see time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Millis(pub(crate) i64);

impl Millis {
    /// This time moved forward; the end of time stays the end of time.
    pub(crate) fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long from `self` to `later`; zero when `later` is not later.
    pub(crate) fn until(self, later: Self) -> Duration {
        Duration::from_millis(u64::try_from(later.0.saturating_sub(self.0)).unwrap_or(0))
    }
}

/// RFC 3339 in UTC with milliseconds: the form that everything outside scripts uses.
impl fmt::Display for Millis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(timestamp) => write!(formatter, "{timestamp:.3}"),
            Err(_) => write!(formatter, "{}ms", self.0),
        }
    }
}

/// The wall clock: for what is stored and for what a person reads, never for measuring.
#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub(crate) fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The monotonic clock: for budgets, deadlines and latencies.
#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub(crate) fn instant() -> Instant {
    Instant::now()
}

/// A fresh UUIDv7 at `now`. Its random part is not secret.
pub(crate) fn uuid() -> uuid::Uuid {
    let Millis(now) = now();
    uuid_at(u64::try_from(now).unwrap_or(0))
}

fn uuid_at(millis: u64) -> uuid::Uuid {
    let mut random = [0; 10];
    fastrand::fill(&mut random);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

/// A number in 0..1, for jitter.
pub(crate) fn chance() -> f64 {
    fastrand::f64()
}
