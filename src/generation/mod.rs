//! What config, webhooks and scripts come to when they are joined: one immutable value that a request or an attempt pins and sees from its
//! start to its end. `check`, start and reload join with the same function, so a clash can never replace a working whole. It does no I/O.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use matchit::Router;

use crate::auth::Auth;
use crate::backoff::{Backoff, RETRY};
use crate::config::Config;
use crate::frame::Frame;
use crate::json::Pointer;
use crate::provider::Provider;
use crate::script::handler::{self, Handler, Method, Script, Timer, Trigger, first_match};
use crate::script::source::Source;
use crate::webhook::Webhook;

mod join;
pub(crate) mod topics;

/// One version of everything.
pub(crate) struct Generation {
    /// Counts from 1.
    pub(crate) number: u64,
    /// As it was when this was joined; what cannot change while it runs is as it was at the start.
    pub(crate) config: Arc<Config>,
    /// In the order of config.
    pub(crate) webhooks: Vec<Arc<Webhook>>,
    /// In the order of config.
    pub(crate) providers: Arc<[Arc<Provider>]>,
    /// How callers of routes are told apart, in the order of config.
    pub(crate) auth: Vec<Arc<Auth>>,
    /// By name.
    pub(crate) scripts: Vec<Arc<Script>>,
    /// Scripts whose file is there but has never had a version that works.
    pub(crate) broken: Vec<Arc<str>>,
    paths: Router<Endpoint>,
}

/// What config declares and more than a table of values stands for, in its order.
#[derive(Clone, Default)]
pub(crate) struct Declared {
    /// Who posts.
    pub(crate) webhooks: Vec<Arc<Webhook>>,
    /// How callers of routes are told apart.
    pub(crate) auth: Vec<Arc<Auth>>,
    /// Whom scripts call.
    pub(crate) providers: Arc<[Arc<Provider>]>,
}

/// A generation as one request or attempt holds it: counted within its worker, so that no two workers share a counter.
pub(crate) type Pinned = Rc<Arc<Generation>>;

/// What a path leads to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Endpoint {
    /// Index in `webhooks`.
    pub(crate) webhook: Option<usize>,
    /// By method; a path may have several.
    pub(crate) routes: BTreeMap<Method, HandlerRef>,
}

/// A handler of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HandlerRef {
    /// Index in `scripts`.
    pub(crate) script: usize,
    /// Index in its `handlers`.
    pub(crate) handler: usize,
}

/// A handler that an event is for.
#[derive(Clone, Debug)]
pub(crate) struct Match {
    /// It may have several; this is one of them.
    pub(crate) handler: HandlerRef,
    /// The first of its patterns that matched.
    pub(crate) pattern: Arc<str>,
}

/// What bounds the handling of a source's events, where the handler's registration does not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// When a failed handler is tried again.
    pub(crate) retry: Backoff,
    /// Of one run; `None`: that of the scripts.
    pub(crate) timeout: Option<Duration>,
    /// Handlers at once, over all workers.
    pub(crate) concurrency: Option<usize>,
    /// What `event.data` is; `None`: the whole payload.
    pub(crate) data: Option<&'static Pointer>,
}

/// A path that was found.
pub(crate) struct Found<'a> {
    /// What is there.
    pub(crate) endpoint: &'a Endpoint,
    /// Names and values of its parameters.
    pub(crate) params: Vec<(&'a str, &'a str)>,
}

impl Generation {
    /// Joins; what clashes is told with both places, and nothing is joined then.
    pub(crate) fn join(
        number: u64,
        config: Arc<Config>,
        declared: Declared,
        scripts: Vec<Arc<Script>>,
        broken: Vec<Arc<str>>,
    ) -> Result<Self, Vec<Frame>> {
        let Declared { webhooks, auth, providers } = declared;
        let paths = join::join(config.server.environment, &webhooks, &auth, &scripts)?;
        Ok(Self { number, config, webhooks, auth, providers, scripts, broken, paths })
    }

    /// What a path leads to. It was decoded by the caller, who takes an encoded `/` for part of its segment.
    pub(crate) fn find<'a>(&'a self, path: &'a str) -> Option<Found<'a>> {
        let found = self.paths.at(path).ok()?;
        Some(Found { endpoint: found.value, params: found.params.iter().collect() })
    }

    /// By its name.
    pub(crate) fn script(&self, name: &str) -> Option<&Arc<Script>> {
        self.scripts.iter().find(|script| &*script.name == name)
    }

    /// By its name in config.
    pub(crate) fn webhook(&self, name: &str) -> Option<&Arc<Webhook>> {
        self.webhooks.iter().find(|webhook| *webhook.name == *name)
    }

    /// By its name in config.
    pub(crate) fn auth(&self, name: &str) -> Option<&Arc<Auth>> {
        self.auth.iter().find(|auth| *auth.name == *name)
    }

    /// The handlers of an event, in the order of scripts and registrations.
    pub(crate) fn matches(&self, source: &str, kind: &str) -> Vec<Match> {
        let scripts = self.scripts.iter().enumerate();
        scripts
            .flat_map(|(index, script)| {
                matches_of(script, source, kind).map(move |(handler, pattern)| Match {
                    handler: HandlerRef { script: index, handler },
                    pattern,
                })
            })
            .collect()
    }

    /// The handlers that answer the death of an event, in the same order.
    pub(crate) fn mourners(&self, source: &str) -> Vec<Match> {
        let name = match Source::of(source) {
            Source::Webhook(name) | Source::Topic(name) | Source::Timer(name) => name,
        };
        let scripts = self.scripts.iter().enumerate();
        scripts
            .flat_map(|(index, script)| {
                script.handlers.iter().enumerate().filter_map(move |(handler, registered)| {
                    let Trigger::Death { of } = &registered.trigger else { return None };
                    handler::matches(of, name).then(|| Match {
                        handler: HandlerRef { script: index, handler },
                        pattern: Arc::clone(of),
                    })
                })
            })
            .collect()
    }

    /// The handler that a stored job names, if this generation still has it; `of_death` for one that answers a death.
    pub(crate) fn resolve(
        &self,
        script: &str,
        source: &str,
        pattern: &str,
        of_death: bool,
    ) -> Option<HandlerRef> {
        let index = self.scripts.iter().position(|loaded| &*loaded.name == script)?;
        let has = |handler: &Handler| match (&handler.trigger, Source::of(source)) {
            (Trigger::Death { of }, _) => of_death && **of == *pattern,
            (Trigger::Webhook { webhook, patterns }, Source::Webhook(name)) => {
                !of_death && **webhook == *name && patterns.iter().any(|known| **known == *pattern)
            }
            (Trigger::Topic { pattern: known }, Source::Topic(_)) => {
                !of_death && **known == *pattern
            }
            (Trigger::Timer(timer), Source::Timer(_)) => {
                !of_death && timer.source(script) == source
            }
            _ => false,
        };
        let handler = self.scripts[index].handlers.iter().position(has)?;
        Some(HandlerRef { script: index, handler })
    }

    /// Every timer, with its source.
    pub(crate) fn timers(&self) -> impl Iterator<Item = (Arc<str>, &Timer)> {
        self.scripts.iter().flat_map(|script| {
            script.handlers.iter().filter_map(|handler| match &handler.trigger {
                Trigger::Timer(timer) => Some((timer.source(&script.name).into(), timer)),
                Trigger::Webhook { .. }
                | Trigger::Route { .. }
                | Trigger::Topic { .. }
                | Trigger::Death { .. } => None,
            })
        })
    }

    /// How the events of a source are handled; `None`: it is a webhook that config does not have any more.
    pub(crate) fn bounds(&self, source: &str) -> Option<Bounds> {
        match Source::of(source) {
            Source::Webhook(name) => self.webhook(name).map(|webhook| Bounds {
                retry: webhook.retry,
                timeout: webhook.timeout,
                concurrency: webhook.concurrency,
                data: webhook.data(),
            }),
            Source::Topic(_) | Source::Timer(_) => {
                Some(Bounds { retry: RETRY, timeout: None, concurrency: None, data: None })
            }
        }
    }

    /// What the reference, one of this generation, names.
    pub(crate) fn handler(&self, at: HandlerRef) -> (&Arc<Script>, &Handler) {
        let script = &self.scripts[at.script];
        (script, &script.handlers[at.handler])
    }
}

/// The handlers of one script that an event is for, with the pattern of each.
pub(crate) fn matches_of<'a>(
    script: &'a Script,
    source: &'a str,
    kind: &'a str,
) -> impl Iterator<Item = (usize, Arc<str>)> + 'a {
    let from = Source::of(source);
    script.handlers.iter().enumerate().filter_map(move |(index, handler)| {
        let pattern = match (&handler.trigger, from) {
            (Trigger::Webhook { webhook, patterns }, Source::Webhook(name))
                if **webhook == *name =>
            {
                first_match(patterns, kind)
            }
            (Trigger::Topic { pattern }, Source::Topic(topic)) => {
                handler::matches(pattern, topic).then_some(pattern)
            }
            (Trigger::Timer(timer), Source::Timer(_)) => {
                (timer.source(&script.name) == *source).then_some(&timer.expression)
            }
            _ => None,
        };
        pattern.map(|pattern| (index, Arc::clone(pattern)))
    })
}
