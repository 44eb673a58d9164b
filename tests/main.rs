//! One binary: it starts the real `rhaiway` on free ports, with real sockets, files and SQLite, and talks to it as senders, callers and operators do.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by a panic, in its helpers too, and stands outside of the program's doors"
)]

#[cfg(test)]
mod support;
mod hostile;
mod payloads;
mod routes;
mod streams;
mod provider_streams;
mod own_providers;
mod shipped;
mod conformance;
mod providers;
mod files;
mod auth;
mod secrets;
mod journal;
mod clients;
mod limits;
mod callers;
mod readme;
mod webhooks;
mod scripting;
mod sandbox;
mod parallel;
mod reload;
mod live_config;
mod upgrade;
mod operators;
mod cli;
mod tidy;
mod stand_ins;
mod upstreams;
mod inbox;
mod events;
mod order;
mod internal;
mod answers;
mod crash;
mod backlog;
#[cfg(debug_assertions)]
mod clocks;
#[cfg(debug_assertions)]
mod budgets;
#[cfg(debug_assertions)]
mod failpoints;
#[cfg(debug_assertions)]
mod rounds;
#[cfg(debug_assertions)]
mod week;
#[cfg(debug_assertions)]
mod examples;
#[cfg(debug_assertions)]
mod timers;
mod documents;
