//! What a script is to the rest of the program.

pub(crate) mod api;
pub(crate) mod builtins;
pub(crate) mod coroutine;
pub(crate) mod diagnose;
pub(crate) mod host_call;
pub(crate) mod lint;
pub(crate) mod value;
