//! Configuration as meant: every value has its type, its default filled in and its text checked. `file.rs` holds it as written,
//! `build.rs` converts one into the other and is the only place that refuses.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::frame::Frame;

mod read;
mod file;
mod fill;
mod build;
mod webhooks;
mod check;
mod env;
pub(crate) mod secret;
#[cfg(test)]
mod tests;

pub(crate) use self::build::{How, load, load_text};
pub(crate) use self::env::{Environment as Variables, Source};
pub(crate) use self::secret::{Secret, SecretSet};

/// The whole of `config.toml`.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The file, for messages and for paths relative to its folder.
    pub(crate) path: PathBuf,
    pub(crate) server: Server,
    pub(crate) cors: Cors,
    pub(crate) storage: Storage,
    pub(crate) scripts: Scripts,
    pub(crate) admin: Admin,
    pub(crate) webhooks: Vec<Webhook>,
    /// Plain values that scripts read as `vars.NAME`.
    pub(crate) vars: BTreeMap<Box<str>, serde_json::Value>,
    /// Every environment variable that the file asks for, in its order.
    pub(crate) variables: Vec<Variable>,
    /// What works but deserves a word: a `.dev.vars` that is ignored, a secret that is not set, … Warnings, all of them.
    pub(crate) notes: Vec<Frame>,
}

/// An environment variable that config asks for. Its value is nowhere here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Variable {
    pub(crate) name: Box<str>,
    /// What it is for: "secret of webhook `clerk`", "`server.listen`".
    pub(crate) purpose: String,
    /// Whether something does not work without it.
    pub(crate) required: bool,
    /// Where it was found; `None`: it is not set.
    pub(crate) source: Option<Source>,
    /// Why its value is as good as none.
    pub(crate) unusable: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Environment {
    Development,
    Production,
}

#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) listen: SocketAddr,
    /// Worker threads; one per core where the file says 0.
    pub(crate) workers: usize,
    pub(crate) environment: Environment,
    pub(crate) public_url: Option<Box<str>>,
    /// Bytes of one request's body, at most.
    pub(crate) max_body: u64,
    /// For reading one request's body.
    pub(crate) read_timeout: Duration,
    pub(crate) shutdown_grace: Duration,
    pub(crate) trusted_proxies: Vec<Cidr>,
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cidr {
    pub(crate) address: std::net::IpAddr,
    pub(crate) prefix: u8,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Cors {
    /// Empty: no cross-origin answers at all. `*` stands for any origin.
    pub(crate) origins: Vec<Box<str>>,
    pub(crate) methods: Vec<Box<str>>,
    pub(crate) headers: Vec<Box<str>>,
    pub(crate) credentials: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Storage {
    /// The SQLite file.
    pub(crate) path: PathBuf,
    pub(crate) retention: Duration,
    pub(crate) max_pending: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Scripts {
    pub(crate) dir: PathBuf,
    /// CPU time of one run.
    pub(crate) cpu_budget: Duration,
    /// Bytes that one run may hold at once.
    pub(crate) memory_budget: u64,
    /// Wall time of one run.
    pub(crate) timeout: Duration,
}

#[derive(Clone, Debug)]
pub(crate) struct Admin {
    pub(crate) socket: PathBuf,
}

#[derive(Clone, Debug)]
pub(crate) struct Webhook {
    pub(crate) name: Box<str>,
    pub(crate) path: Box<str>,
    /// A row of `webhook/schemes.toml`, or `none`.
    pub(crate) scheme: Box<str>,
    pub(crate) secrets: SecretSet,
    pub(crate) tolerance: Duration,
    pub(crate) max_body: u64,
    pub(crate) timeout: Option<Duration>,
    /// Handlers of this webhook that run at once, over all workers.
    pub(crate) concurrency: Option<usize>,
    pub(crate) retry: Backoff,
    pub(crate) dedupe: bool,
    pub(crate) respond: Respond,
    /// Where it stands in the file, for messages that compare it with something else: `config.toml:12:1`.
    pub(crate) place: Box<str>,
}

/// Who answers a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Respond {
    /// 200 once it is committed; handlers run from the inbox.
    WhenStored,
    /// The one matching handler, before the answer; nothing is stored (`respond = "script"`, `store = false`).
    ByScript,
}
