//! Rhaiway: webhooks and third-party calls as small Rhai scripts. This is the table of contents, in the order in which a webhook
//! meets the modules.

use std::process::ExitCode;

mod cli;
mod runtime;
mod config;
mod generation;

mod server;
mod auth;
mod webhook;
mod inbox;
mod execution;
mod provider;
mod script;
mod store;
mod admin;
mod stand_in;

mod backoff;
mod catalogue;
mod clock;
mod failpoint;
mod frame;
mod header;
mod histogram;
mod id;
mod json;
mod memory;
mod multipart;
mod outbound;
mod rate;
mod redact;
mod payload;
mod schedule;
mod units;

fn main() -> ExitCode {
    cli::main()
}
