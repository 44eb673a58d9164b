//! One binary: it starts the real `rhaiway` on free ports, with real sockets, files and SQLite, and talks to it as senders, callers and operators do.

#[cfg(test)]
mod support;
mod hostile;
mod payloads;
mod routes;
mod auth;
mod readme;
mod webhooks;
mod scripting;
mod sandbox;
mod reload;
mod operators;
mod cli;
mod tidy;
mod inbox;
mod crash;
