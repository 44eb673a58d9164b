//! One delivery: verify, deduplicate and commit, acknowledge.

pub(crate) mod explain;
pub(crate) mod sample;
pub(crate) mod scheme;
pub(crate) mod signature;
