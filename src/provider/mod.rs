//! A third party that scripts call: who calls it, and what of its answers is told.

pub(crate) mod credentials;
