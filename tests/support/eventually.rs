//! Waiting for a condition, never for a time: CI runs on two noisy cores.

use std::time::{Duration, Instant};

/// How long a condition may take to come true before the test fails; a machine under load is slow, not wrong.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again and again until `condition` gives something. Panics with `what` when it never does.
#[expect(
    clippy::disallowed_methods,
    reason = "a test stands outside the program and has no clock of its own"
)]
pub(crate) fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
