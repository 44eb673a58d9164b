//! One binary: it starts the real `rhaiway` on free ports, with real sockets, files and SQLite, and talks to it as senders, callers and operators do.

mod support;
mod webhooks;
mod inbox;
mod crash;
