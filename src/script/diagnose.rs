//! Rhai's errors as frames.
