//! Configuration as meant: every value has its type, its default filled in and its text checked. `file.rs` holds it as written,
//! `build.rs` converts one into the other and is the only place that refuses.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::frame::{Frame, Place};
use crate::json::Pointer;

mod read;
mod file;
mod fill;
mod build;
mod webhooks;
mod providers;
mod credentials;
mod secret_variable;
mod resilience;
mod budget;
mod auth;
mod db;
mod check;
pub(crate) mod live;
pub(crate) mod env;
pub(crate) mod secret;
mod secret_file;
#[cfg(test)]
mod tests;

pub(crate) use self::budget::{Budget, ModelPrice, Period, Spending, Unit};
#[cfg(test)]
pub(crate) use self::build::load_text;
pub(crate) use self::build::{How, load};
pub(crate) use self::credentials::{Asserted, Credentials, Token};
pub(crate) use self::env::Source;
#[cfg(test)]
pub(crate) use self::env::Variables;
pub(crate) use self::env::process_variable;
pub(crate) use self::read::{quoted, take_out};
pub(crate) use self::resilience::{BreakerSettings, Resilience};
pub(crate) use self::secret::{Secret, SecretSet};

/// The whole of `config.toml`.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The file, for messages and for paths relative to its folder.
    pub(crate) path: PathBuf,
    /// Where to listen and for whom.
    pub(crate) server: Server,
    /// Which pages in browsers may call the routes.
    pub(crate) cors: Cors,
    /// Where events and documents are kept.
    pub(crate) storage: Storage,
    /// Where the scripts are, and what one run of them may use.
    pub(crate) scripts: Scripts,
    /// The door for `rhaiway events` and the like.
    pub(crate) admin: Admin,
    /// How callers of routes are told apart, in the order of the file.
    pub(crate) auth: Vec<Auth>,
    /// Who posts webhooks, in the order of the file.
    pub(crate) webhooks: Vec<Webhook>,
    /// Whom scripts call, in the order of the file.
    pub(crate) providers: Vec<Provider>,
    /// What collections of documents need, by their names.
    pub(crate) db: BTreeMap<Box<str>, Collection>,
    /// Plain values that scripts read as `vars.NAME`.
    pub(crate) vars: BTreeMap<Box<str>, serde_json::Value>,
    /// Every environment variable that the file asks for, in its order.
    pub(crate) variables: Vec<Variable>,
    /// What works but deserves a word: a `.dev.vars` that is ignored, a secret that is not set, … Warnings, all of them.
    pub(crate) notes: Vec<Frame>,
    /// What it was read from, there or not: a change of one of them may be a change of this.
    pub(crate) files: Vec<PathBuf>,
}

/// An environment variable that config asks for. Its value is nowhere here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Variable {
    /// As the process and the files spell it.
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

/// How strict to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Environment {
    /// `.dev.vars` is read, and what is unsafe is only noted.
    Development,
    /// What is unsafe is refused.
    Production,
}

/// `[server]`: the main listener.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    /// Port 0 takes a free one.
    pub(crate) listen: SocketAddr,
    /// Worker threads; one per core where the file says 0.
    pub(crate) workers: usize,
    /// Development wherever the caller forced it.
    pub(crate) environment: Environment,
    /// How the world reaches this server: scheme, host and port, no slash at the end.
    pub(crate) public_url: Option<Box<str>>,
    /// Bytes of one request's body, at most.
    pub(crate) max_body: u64,
    /// For reading one request's body.
    pub(crate) read_timeout: Duration,
    /// What running work gets before the process ends; may be zero.
    pub(crate) shutdown_grace: Duration,
    /// Whose `X-Forwarded-For` and `-Proto` are believed.
    pub(crate) trusted_proxies: Vec<Cidr>,
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cidr {
    /// The first address of the range.
    pub(crate) address: std::net::IpAddr,
    /// How many leading bits all of them share.
    pub(crate) prefix: u8,
}

impl Cidr {
    /// Whether the address is in the range; an IPv4 address written as IPv6 is what it stands for.
    pub(crate) fn contains(&self, address: std::net::IpAddr) -> bool {
        use std::net::IpAddr::{V4, V6};
        let shift = |bits: u32| bits.saturating_sub(u32::from(self.prefix));
        match (self.address, address.to_canonical()) {
            (V4(range), V4(address)) => {
                (range.to_bits() ^ address.to_bits()).checked_shr(shift(32)).unwrap_or(0) == 0
            }
            (V6(range), V6(address)) => {
                (range.to_bits() ^ address.to_bits()).checked_shr(shift(128)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// `[cors]`: which pages in browsers may call the routes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cors {
    /// Empty: no cross-origin answers at all. `*` stands for any origin.
    pub(crate) origins: Vec<Box<str>>,
    /// In capital letters.
    pub(crate) methods: Vec<Box<str>>,
    /// Names of request headers, in lower case.
    pub(crate) headers: Vec<Box<str>>,
    /// Whether cookies may be sent; never together with `*`.
    pub(crate) credentials: bool,
}

/// `[storage]`: where events and documents are kept.
#[derive(Clone, Debug)]
pub(crate) struct Storage {
    /// The SQLite file.
    pub(crate) path: PathBuf,
    /// How long finished events are kept.
    pub(crate) retention: Duration,
    /// Events that may wait; above it webhooks get 503.
    pub(crate) max_pending: u64,
}

/// `[scripts]`: where they are, and what one run may use.
#[derive(Clone, Debug)]
pub(crate) struct Scripts {
    /// The folder; whether it exists is not asked here.
    pub(crate) dir: PathBuf,
    /// CPU time of one run.
    pub(crate) cpu_budget: Duration,
    /// Bytes that one run may hold at once.
    pub(crate) memory_budget: u64,
    /// Wall time of one run.
    pub(crate) timeout: Duration,
    /// Runs at once on one worker, branches of `parallel` included.
    pub(crate) max_runs: usize,
}

/// `[admin]`: the door for `rhaiway events` and the like.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    /// The Unix socket.
    pub(crate) socket: PathBuf,
}

/// `[webhooks.NAME]`: one sender of deliveries.
#[derive(Clone, Debug)]
pub(crate) struct Webhook {
    /// `a` to `z`, digits, `_`, `-`, `.`.
    pub(crate) name: Box<str>,
    /// Where it is posted to; `{name}` stands for one part of the path.
    pub(crate) path: Box<str>,
    /// A row of `webhook/schemes.toml`, or `none`.
    pub(crate) scheme: Box<str>,
    /// Empty where none is configured.
    pub(crate) secrets: SecretSet,
    /// How old or early a signature's time may be.
    pub(crate) tolerance: Duration,
    /// Bytes of one delivery's body, at most: its own bound, or the server's.
    pub(crate) max_body: u64,
    /// Wall time of one run; `None`: that of the scripts.
    pub(crate) timeout: Option<Duration>,
    /// Handlers of this webhook that run at once, over all workers.
    pub(crate) concurrency: Option<usize>,
    /// When a failed handler is tried again.
    pub(crate) retry: Backoff,
    /// Whether a delivery id is handled once.
    pub(crate) dedupe: bool,
    /// Events with the same value there are handled one at a time; `None`: all side by side.
    pub(crate) ordered_by: Option<Pointer>,
    /// Who answers, and with it whether anything is stored.
    pub(crate) respond: Respond,
    /// Where it stands in the file, for messages that compare it with something else.
    pub(crate) place: Place,
}

/// `[providers.NAME]`: one third party that scripts call.
#[derive(Clone, Debug)]
pub(crate) struct Provider {
    /// As scripts write it.
    pub(crate) name: Box<str>,
    /// Which API it is.
    pub(crate) kind: ProviderKind,
    /// Where it is; `None`: where its descriptor says.
    pub(crate) base_url: Option<BaseUrl>,
    /// Beginnings of further URLs that a call may name as a whole.
    pub(crate) also: Vec<url::Url>,
    /// Whether its name may lead to an address of a private network.
    pub(crate) private_network: bool,
    /// How it is told who calls.
    pub(crate) credentials: Option<Credentials>,
    /// That every call carries; names in lower case.
    pub(crate) headers: Vec<(Box<str>, Box<str>)>,
    /// The file that names its operations.
    pub(crate) descriptor: Option<DescriptorFile>,
    /// What tells an error that comes with status 200.
    pub(crate) error_when: Option<ErrorWhen>,
    /// How hard it is called.
    pub(crate) resilience: Resilience,
    /// What it may cost.
    pub(crate) spending: Spending,
    /// Bytes of one answer, at most.
    pub(crate) max_response: u64,
}

/// Which API a provider is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProviderKind {
    /// Clerk's Backend API.
    Clerk,
    /// Stripe's API.
    Stripe,
    /// OpenAI's API, or one that speaks like it.
    OpenAi,
    /// Any other.
    Http,
}

impl ProviderKind {
    /// Each with its word in config.
    pub(crate) const ALL: [(Self, &'static str); 4] = [
        (Self::Clerk, "clerk"),
        (Self::Stripe, "stripe"),
        (Self::OpenAi, "openai"),
        (Self::Http, "http"),
    ];

    /// By its word.
    pub(crate) fn of(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == word).map(|(kind, _)| *kind)
    }
}

/// A descriptor of a team's own, as it stands on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DescriptorFile {
    /// For messages.
    pub(crate) path: Box<str>,
    /// All of it.
    pub(crate) text: Arc<str>,
}

/// Where a provider is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum BaseUrl {
    /// As config writes it.
    Known(url::Url),
    /// The URL itself is a secret, and it is one that calls may begin with.
    Secret(Secret),
    /// The variable that should hold it does not.
    Missing(Box<str>),
}

/// What tells an error that comes with status 200.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ErrorWhen {
    /// Where to look.
    pub(crate) pointer: Pointer,
    /// The value there that makes it an error.
    pub(crate) equals: serde_json::Value,
    /// Where the error's code stands.
    pub(crate) code: Option<Pointer>,
    /// Where a sentence for people stands.
    pub(crate) message: Option<Pointer>,
}

/// `[auth.NAME]`: one way to tell callers of routes apart.
#[derive(Clone, Debug)]
pub(crate) struct Auth {
    /// `a` to `z`, digits, `_`, `-`, `.`; never `none`.
    pub(crate) name: Box<str>,
    /// What they present.
    pub(crate) kind: AuthKind,
}

/// What callers present.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum AuthKind {
    /// A token that an issuer has signed.
    Signed(SignedAuth),
    /// One of these tokens.
    Token(SecretSet),
}

/// Tokens of an issuer, and what they must say.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SignedAuth {
    /// Session tokens of Clerk: RS256 only, in its cookie too, `azp` may be absent.
    pub(crate) is_clerk: bool,
    /// Letter by letter.
    pub(crate) issuer: Box<str>,
    /// What verifies them.
    pub(crate) keys: KeySource,
    /// Whom a token must be for; empty: anybody.
    pub(crate) audience: Vec<Box<str>>,
    /// Where a token may have been made; empty: anywhere.
    pub(crate) authorized_parties: Vec<Box<str>>,
    /// By how much the issuer's clock may differ.
    pub(crate) leeway: Duration,
}

/// Where an issuer's keys come from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum KeySource {
    /// They are fetched there.
    Url(Box<str>),
    /// One variable holds one, as PEM.
    Pem(SecretSet),
}

/// `[db.NAME]`: a collection of documents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Collection {
    /// Fields that have an index, with dots between the names; each once, sorted.
    pub(crate) index: Vec<Box<str>>,
}

/// Who answers a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Respond {
    /// 200 once it is committed; handlers run from the inbox.
    WhenStored,
    /// The one matching handler, before the answer (`respond = "script"`).
    ByScript {
        /// Event, effects and answer are one commit, and a duplicate gets the answer again; false (`store = false`): nothing of the event is kept.
        stored: bool,
    },
}
