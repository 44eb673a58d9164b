//! One delivery: verify, deduplicate and commit, acknowledge.

pub(crate) mod scheme;
pub(crate) mod signature;
pub(crate) mod verifier;
pub(crate) mod explain;
pub(crate) mod sample;
