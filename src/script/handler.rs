//! What a script offers, as plain data that may cross threads: its sources and the list of its handlers. The functions themselves stay
//! with each worker's own copy (`compiled.rs`); a handler is found there by its index.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use ring::digest;

use super::imports::Imports;
pub(crate) use super::lint::{Emits, Emitted, Query};
pub(crate) use super::parts::Parts;
use super::providers::ProviderNames;
use super::source;
use crate::backoff::Backoff;
use crate::schedule::Schedule;
use crate::units::Rate;

/// Source texts by path below the scripts folder, such as `lib/money.rhai`.
pub(crate) type Sources = BTreeMap<Arc<str>, Arc<str>>;

/// One script that passed the loader.
#[derive(Debug)]
pub(crate) struct Script {
    /// `clerk` for `scripts/clerk.rhai`.
    pub(crate) name: Arc<str>,
    /// As the reader would type it: `scripts/clerk.rhai`.
    pub(crate) path: Arc<str>,
    /// Its text.
    pub(crate) source: Arc<str>,
    /// Tells its text, with that of its modules, from that of any other version.
    pub(crate) version: Arc<str>,
    /// Every module that it may import, computed names included.
    pub(crate) modules: Arc<Sources>,
    /// Which of them: when one of these changes, the script is loaded anew.
    pub(crate) imports: Imports,
    /// What config gives to scripts, with which it was loaded.
    pub(crate) ambient: Arc<Ambient>,
    /// In the order of registration.
    pub(crate) handlers: Vec<Handler>,
    /// The searches for documents that are written out in it.
    pub(crate) queries: Vec<Query>,
    /// What it and the modules that it may import emit.
    pub(crate) emits: Emits,
    /// What of an event it looks at.
    pub(crate) reads: Reads,
    /// Whether it may call a provider: without a name of one in its text or its modules', it cannot.
    pub(crate) calls: bool,
    /// Runs of it, on any worker, that allocated without bound.
    pub(crate) runaways: AtomicU32,
    /// Bytes that its runs, on any worker, have left behind.
    pub(crate) leaked: AtomicU64,
}

impl Script {
    /// Counts what a run has left behind.
    pub(crate) fn has_leaked(&self, bytes: u64) {
        if bytes > 0 {
            self.leaked.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

/// Letters of a version: two of a script's are told apart unless its author tries to make them alike.
const VERSION_LETTERS: usize = 10;

/// A short digest of what runs: the script's text and the modules that it may import.
pub(super) fn version(source: &str, modules: &Sources) -> Arc<str> {
    let mut digest = digest::Context::new(&digest::SHA256);
    let texts = modules.iter().flat_map(|(path, text)| [&**path, &**text]);
    for text in std::iter::once(source).chain(texts) {
        digest.update(&(text.len() as u64).to_be_bytes());
        digest.update(text.as_bytes());
    }
    let hex: String = digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    hex[..VERSION_LETTERS].into()
}

/// `[vars]` of config.
pub(crate) type Vars = BTreeMap<Box<str>, serde_json::Value>;

/// What config gives to every script; where it changes, all are loaded anew.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Ambient {
    /// What `vars` gives.
    pub(crate) vars: Vars,
    /// Which providers can be called, and what each offers by name.
    pub(crate) providers: Arc<ProviderNames>,
}

/// Which parts of an event a script names; the others are not filled in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reads {
    /// `event.payload`.
    pub(crate) payload: bool,
    /// `event.headers`.
    pub(crate) headers: bool,
    /// `event.text`.
    pub(crate) text: bool,
}

/// One registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Handler {
    /// When it runs.
    pub(crate) trigger: Trigger,
    /// How it runs.
    pub(crate) options: Options,
    /// What it can look at in its event; `None`: perhaps all of it.
    pub(crate) parts: Option<Arc<Parts>>,
    /// Line and column of the registration, from 1.
    pub(crate) line: usize,
    /// In characters.
    pub(crate) column: usize,
}

/// What a handler waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// Events of a webhook whose type matches one of the patterns; the first that matches names the job.
    Webhook {
        /// Its name in config.
        webhook: Box<str>,
        /// At least one; `*` where the registration names none.
        patterns: Vec<Arc<str>>,
    },
    /// Requests.
    Route {
        /// Of the request.
        method: Method,
        /// With its `{name}` parts, as registered.
        path: Box<str>,
    },
    /// What scripts emit under a topic that matches.
    Topic {
        /// `*` stands for any run of characters.
        pattern: Arc<str>,
    },
    /// Times.
    Timer(Timer),
    /// Dead letters, each once: the compensation of what came before.
    Death {
        /// A webhook's name or a topic; `*` stands for any run of characters.
        of: Arc<str>,
    },
}

/// When an `every` runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Timer {
    /// As registered, its time zone included where it names one.
    pub(crate) expression: Arc<str>,
    /// How many of the script had the same expression before it.
    pub(crate) position: u32,
    /// What the expression means.
    pub(crate) schedule: Schedule,
}

impl Timer {
    /// Where its events come from, in a script of this name.
    pub(crate) fn source(&self, script: &str) -> String {
        source::timer(script, &self.expression, self.position)
    }
}

/// Methods that a route can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Method {
    /// Answers HEAD too.
    Get,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// PATCH.
    Patch,
    /// DELETE.
    Delete,
}

impl Method {
    /// In the order in which `Allow` lists them.
    pub(crate) const ALL: [Self; 5] = [Self::Get, Self::Post, Self::Put, Self::Patch, Self::Delete];

    /// As in a request line.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// The function that registers it.
    pub(crate) const fn function(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
            Self::Put => "put",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }
}

/// What a route says that anybody may call.
pub(crate) const OPEN: &str = "none";

/// The options of a registration; what is `None` comes from config.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Who may call a route; `none` says that anybody may.
    pub(crate) auth: Option<Box<str>>,
    /// Wall time of one run.
    pub(crate) timeout: Option<Duration>,
    /// How often one caller may ask a route; all of them hold.
    pub(crate) rate_limit: Option<Arc<[Rate]>>,
    /// Bytes of a route's request.
    pub(crate) max_body: Option<u64>,
    /// Of a webhook's handler.
    pub(crate) retry: Option<Backoff>,
    /// Runs of this handler at once, over all workers.
    pub(crate) concurrency: Option<usize>,
    /// `false`: no cross-origin answers for this route, whatever `[cors]` says.
    pub(crate) cors: Option<bool>,
    /// The header, in lower case, whose value makes a repeated request of a route get the first answer.
    pub(crate) idempotency: Option<Box<str>>,
}

/// Whether the whole of an event's type matches; `*` stands for any run of characters, and case counts.
pub(crate) fn matches(pattern: &str, kind: &str) -> bool {
    pattern == kind
        || (pattern.contains('*')
            && wildmatch::WildMatchPattern::<'*', '\0'>::new(pattern).matches(kind))
}

/// The first of the patterns that matches.
pub(crate) fn first_match<'a>(patterns: &'a [Arc<str>], kind: &str) -> Option<&'a Arc<str>> {
    patterns.iter().find(|pattern| matches(pattern, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_3_the_whole_type_must_match_and_case_counts() {
        let check = |pattern, kind, expected| {
            assert_eq!(matches(pattern, kind), expected, "{pattern} {kind}")
        };
        check("user.created", "user.created", true);
        check("user.created", "user.created.again", false);
        check("user.created", "User.created", false);
        check("user.*", "user.created", true);
        check("user.*", "user.", true);
        check("*.created", "user.created", true);
        check("*", "", true);
        check("", "", true);
        check("user.*", "superuser.created", false);
        check("a*b*c", "a--b--c", true);
        check("user.?reated", "user.created", false);
        check("user.created", "user.*", false);
    }
}
