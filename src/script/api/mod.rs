//! What scripts see by name.
