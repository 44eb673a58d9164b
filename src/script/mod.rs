//! What a script is to the rest of the program: handlers in, host calls out. It gets its sources as (path, text) pairs and does no I/O:
//! a script can reach nothing but what a `HostCall` asks for. In reading order: `handler` (what a script offers, as plain data), `load`
//! (is a new version fit?), `compiled` (a worker's own copy), `run` (drive one run), `host_call` (what it may ask), `api` (the names it sees).

pub(crate) mod handler;
pub(crate) mod source;
pub(crate) mod providers;
mod parts;
pub(crate) mod load;
pub(crate) mod imports;
pub(crate) mod compiled;
pub(crate) mod run;
pub(crate) mod host_call;
pub(crate) mod call;
pub(crate) mod effects;
pub(crate) mod coroutine;
pub(crate) mod places;
mod parallel;
mod strand;
mod branches;
pub(crate) mod current;
pub(crate) mod refusal;
mod host;
pub(crate) mod api;
pub(crate) mod builtins;
pub(crate) mod value;
pub(crate) mod diagnose;
pub(crate) mod lint;
#[cfg(test)]
mod tests;

pub(crate) use self::builtins::ending::Ending;
pub(crate) use self::host::Shared;
