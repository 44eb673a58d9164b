//! What keeps calls of a third party within bounds, a mechanism a file: rates, places, the gate, the breaker, retries, health. Each is shared by all
//! workers, kept across reloads, and told what time it is; none of them does any I/O. What config says comes with each question, so a new
//! generation needs no new state.

pub(crate) mod outcome;
pub(crate) mod rate_limit;
pub(crate) mod places;
pub(crate) mod gate;
pub(crate) mod breaker;
pub(crate) mod retry;
pub(crate) mod retry_after;
pub(crate) mod limit_headers;
pub(crate) mod headroom;
pub(crate) mod health;
