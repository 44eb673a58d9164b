//! The one door to time, chance and new ids. Everything else that needs the time asks here, so that
//! tests and replay can set it by hand. It never decides anything.
//!
//! There are three clocks: `now` for what is stored and read, which an operator or NTP may set; `steady` for what is waited for, which
//! nobody sets and which goes on while the machine sleeps; `instant` for what is measured.

use std::fmt;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

#[cfg(debug_assertions)]
mod by_hand;
mod watch;

#[cfg(debug_assertions)]
pub(crate) use self::by_hand::drive;
#[cfg(debug_assertions)]
use self::by_hand::{poll, shift};
pub(crate) use self::watch::Watch;

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

/// The wall clock: for what is stored and for what a person reads, never for measuring or for counting a wait.
pub(crate) fn now() -> Millis {
    let Shift { elapsed, jump } = shift();
    Millis(system().saturating_add(elapsed).saturating_add(jump))
}

/// The time by which waits are counted: that of the wall clock when this was first asked, moved on by what has passed since, time in which
/// the machine was suspended included. Setting the wall clock does not move it.
pub(crate) fn steady() -> Millis {
    static START: LazyLock<i64> = LazyLock::new(|| system().saturating_sub(since_boot()));
    Millis(START.saturating_add(since_boot()).saturating_add(shift().elapsed))
}

#[expect(clippy::disallowed_methods, reason = "this is the door")]
fn system() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Milliseconds since the machine started.
fn since_boot() -> i64 {
    // Elsewhere the monotonic clock is the one that nobody sets; whether it goes on in a sleep is the system's to say.
    #[cfg(target_os = "linux")]
    const CLOCK: ClockId = ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    const CLOCK: ClockId = ClockId::Monotonic;
    let time = clock_gettime(CLOCK);
    time.tv_sec.saturating_mul(1000).saturating_add(time.tv_nsec / 1_000_000)
}

/// Milliseconds by which a test has moved the clocks; none in a release build.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Shift {
    /// Both: time has passed.
    elapsed: i64,
    /// The wall clock only: somebody has set it.
    jump: i64,
}

#[cfg(not(debug_assertions))]
fn shift() -> Shift {
    Shift::default()
}

/// How often a test that moves the clocks wants it to be noticed.
#[cfg(not(debug_assertions))]
fn poll() -> Option<Duration> {
    None
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
