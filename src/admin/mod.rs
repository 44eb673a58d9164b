//! What a running instance tells and does for those who watch it: HTTP over a Unix socket that only its owner may open. `wire` is what goes over
//! it, shared by both ends; commands and the monitor know no more than it says.

pub(crate) mod client;
pub(crate) mod query;
pub(crate) mod server;
pub(crate) mod wire;
