//! Correctly signed sample events.
