//! Rhai values and JSON, bounded.
