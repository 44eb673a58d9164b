//! The in-memory model.
