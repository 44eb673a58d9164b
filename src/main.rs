//! Rhaiway: webhooks and third-party calls as small Rhai scripts. This is the table of contents, in the order in which a webhook
//! meets the modules.

mod cli;
mod config;
mod webhook;
mod script;
mod store;

mod backoff;
mod catalogue;
mod clock;
mod frame;
mod id;
mod json;
mod memory;
mod outbound;
mod units;

fn main() {}
