//! What config, webhooks and scripts come to when they are joined: one immutable value that a request or an attempt pins and sees from its
//! start to its end. `check`, start and reload join with the same function, so a clash can never replace a working whole. It does no I/O.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use matchit::Router;

use crate::config::{Config, Environment, Respond};
use crate::frame::{Frame, Place, Severity};
use crate::script::handler::{Handler, Method, Script, Trigger, first_match};
use crate::script::refusal;
use crate::webhook::Webhook;

/// Served on the main listener, whatever config and scripts say.
pub(crate) const BUILT_IN_PATHS: [&str; 2] = ["/healthz", "/readyz"];

/// One version of everything.
pub(crate) struct Generation {
    /// Counts from 1.
    pub(crate) number: u64,
    /// As it was read at the start.
    pub(crate) config: Arc<Config>,
    /// In the order of config.
    pub(crate) webhooks: Vec<Arc<Webhook>>,
    /// By name.
    pub(crate) scripts: Vec<Arc<Script>>,
    /// Scripts whose file is there but has never had a version that works.
    pub(crate) broken: Vec<Arc<str>>,
    paths: Router<Endpoint>,
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

/// A path that was found.
pub(crate) struct Found<'a> {
    /// What is there.
    pub(crate) endpoint: &'a Endpoint,
    /// Names and raw values of its parameters.
    pub(crate) params: Vec<(&'a str, &'a str)>,
}

impl Generation {
    /// Joins; what clashes is told with both places, and nothing is joined then.
    pub(crate) fn join(
        number: u64,
        config: Arc<Config>,
        webhooks: Vec<Arc<Webhook>>,
        scripts: Vec<Arc<Script>>,
        broken: Vec<Arc<str>>,
    ) -> Result<Self, Vec<Frame>> {
        let mut joint = Joint::default();
        for (index, webhook) in webhooks.iter().enumerate() {
            joint.add_webhook(index, webhook);
        }
        for (script, loaded) in scripts.iter().enumerate() {
            for (handler, registered) in loaded.handlers.iter().enumerate() {
                joint.add_handler(&webhooks, HandlerRef { script, handler }, loaded, registered);
            }
        }
        joint.check_answers(&webhooks, &scripts);
        joint.check_auth(config.server.environment, &scripts);
        let paths = joint.router();
        if joint.frames.is_empty() {
            Ok(Self { number, config, webhooks, scripts, broken, paths })
        } else {
            Err(joint.frames)
        }
    }

    /// What a request's path, as it came, leads to. Percent-decoding is the caller's, and only of parameters.
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

    /// The handlers of an event, in the order of scripts and registrations.
    pub(crate) fn matches(&self, webhook: &str, kind: &str) -> Vec<Match> {
        let scripts = self.scripts.iter().enumerate();
        scripts
            .flat_map(|(index, script)| {
                matches_of(script, webhook, kind).map(move |(handler, pattern)| Match {
                    handler: HandlerRef { script: index, handler },
                    pattern,
                })
            })
            .collect()
    }

    /// The handler that a stored job names, if this generation still has it.
    pub(crate) fn resolve(&self, script: &str, webhook: &str, pattern: &str) -> Option<HandlerRef> {
        let index = self.scripts.iter().position(|loaded| &*loaded.name == script)?;
        let has = |handler: &Handler| match &handler.trigger {
            Trigger::Webhook { webhook: name, patterns } => {
                **name == *webhook && patterns.iter().any(|known| &**known == pattern)
            }
            Trigger::Route { .. } => false,
        };
        let handler = self.scripts[index].handlers.iter().position(has)?;
        Some(HandlerRef { script: index, handler })
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
    webhook: &'a str,
    kind: &'a str,
) -> impl Iterator<Item = (usize, Arc<str>)> + 'a {
    script.handlers.iter().enumerate().filter_map(move |(index, handler)| match &handler.trigger {
        Trigger::Webhook { webhook: name, patterns } if **name == *webhook => {
            first_match(patterns, kind).map(|pattern| (index, Arc::clone(pattern)))
        }
        Trigger::Webhook { .. } | Trigger::Route { .. } => None,
    })
}

/// A generation that is being joined.
#[derive(Default)]
struct Joint {
    endpoints: BTreeMap<Box<str>, (Endpoint, Vec<Claim>)>,
    frames: Vec<Frame>,
}

/// Who wants a path, for messages.
#[derive(Clone)]
struct Claim {
    what: String,
    place: Option<Place>,
    shown: String,
}

impl Joint {
    fn add_webhook(&mut self, index: usize, webhook: &Webhook) {
        let claim = Claim {
            what: format!("webhook `{}`", webhook.name),
            place: None,
            shown: webhook.place.to_string(),
        };
        if BUILT_IN_PATHS.contains(&&*webhook.path) {
            self.clash(&webhook.path, &claim, "Rhaiway itself", "built in");
            return;
        }
        let (endpoint, claims) = self.endpoints.entry(webhook.path.as_ref().into()).or_default();
        if endpoint.webhook.is_some() {
            let other = claims[0].clone();
            self.clash(&webhook.path, &claim, &other.what, &other.shown);
        } else {
            endpoint.webhook = Some(index);
            claims.push(claim);
        }
    }

    fn add_handler(
        &mut self,
        webhooks: &[Arc<Webhook>],
        at: HandlerRef,
        script: &Script,
        handler: &Handler,
    ) {
        match &handler.trigger {
            Trigger::Route { method, path } => {
                let claim = claim(script, handler, format!("{} {path}", method.word()));
                self.add_route(*method, path, at, claim);
            }
            Trigger::Webhook { webhook, patterns } => {
                let Some(known) = webhooks.iter().find(|known| *known.name == **webhook) else {
                    self.frames.push(unknown_webhook(webhooks, script, handler, webhook));
                    return;
                };
                if let Some(pattern) = patterns
                    .iter()
                    .find(|pattern| &***pattern != "*")
                    .filter(|_| !known.has_types())
                {
                    self.frames.push(no_types(known, script, handler, pattern));
                }
            }
        }
    }

    fn add_route(&mut self, method: Method, path: &str, at: HandlerRef, claim: Claim) {
        if BUILT_IN_PATHS.contains(&path) {
            self.clash(path, &claim, "Rhaiway itself", "built in");
            return;
        }
        let (endpoint, claims) = self.endpoints.entry(path.into()).or_default();
        let taken = endpoint.webhook.is_some() || endpoint.routes.contains_key(&method);
        if taken {
            let other = claims
                .iter()
                .find(|other| endpoint.webhook.is_some() || other.what.starts_with(method.word()))
                .cloned();
            let other = other.unwrap_or_else(|| claims[0].clone());
            self.clash(path, &claim, &other.what, &other.shown);
        } else {
            endpoint.routes.insert(method, at);
            claims.push(claim);
        }
    }

    /// With `respond = "script"` exactly one handler may answer: two whose patterns can both match are refused.
    fn check_answers(&mut self, webhooks: &[Arc<Webhook>], scripts: &[Arc<Script>]) {
        for webhook in webhooks.iter().filter(|webhook| webhook.respond == Respond::ByScript) {
            let mut handlers = Vec::new();
            for script in scripts {
                for handler in &script.handlers {
                    if let Trigger::Webhook { webhook: name, patterns } = &handler.trigger
                        && **name == *webhook.name
                    {
                        handlers.push((script, handler, patterns));
                    }
                }
            }
            for (index, (script, handler, patterns)) in handlers.iter().enumerate() {
                let earlier =
                    handlers[..index].iter().find(|(_, _, others)| overlap(patterns, others));
                if let Some((other_script, other, _)) = earlier {
                    let claim = claim(script, handler, String::new());
                    let shown = format!("{}:{}:{}", other_script.path, other.line, other.column);
                    self.frames.push(Frame {
                        code: "E0232",
                        title: format!("two handlers would answer the same event of webhook `{}`", webhook.name),
                        place: claim.place,
                        help: vec!["with `respond = \"script\"` exactly one handler may match; make their patterns differ".to_owned()],
                        notes: vec![format!("the other one is at {shown}")],
                        also: Vec::new(),
                        severity: Severity::Error,
                    });
                }
            }
        }
    }

    /// A route that asks for a caller must never be open to all, and in production one that is open says so.
    fn check_auth(&mut self, environment: Environment, scripts: &[Arc<Script>]) {
        for script in scripts {
            for handler in &script.handlers {
                if let Trigger::Route { method, path } = &handler.trigger {
                    let route = format!("{} {path}", method.word());
                    let frame = match handler.options.auth.as_deref() {
                        Some("none") => continue,
                        None if environment == Environment::Development => continue,
                        Some(way) => unknown_way(&route, way),
                        None => says_nothing(&route),
                    };
                    self.frames.push(frame.at(place(script, handler)));
                }
            }
        }
    }

    fn clash(&mut self, path: &str, claim: &Claim, other: &str, shown: &str) {
        let here =
            if claim.place.is_none() { format!(" (at {})", claim.shown) } else { String::new() };
        self.frames.push(Frame {
            code: "E0231",
            title: format!("`{path}` is taken: {}{here} and {other} both want it", claim.what),
            place: claim.place.clone(),
            help: vec!["give one of them another path".to_owned()],
            notes: vec![format!("{other}: {shown}")],
            also: Vec::new(),
            severity: Severity::Error,
        });
    }

    fn router(&mut self) -> Router<Endpoint> {
        let mut router = Router::new();
        for (path, (endpoint, claims)) in std::mem::take(&mut self.endpoints) {
            if let Err(error) = router.insert(&*path, endpoint) {
                let claim = &claims[0];
                self.frames.push(Frame {
                    code: "E0231",
                    title: format!("the path `{path}` of {} cannot be served: {error}", claim.what),
                    place: claim.place.clone(),
                    help: vec!["parameters are written `{name}`, the rest of a path `{*rest}`; two paths may differ in more than their parameters' names only".to_owned()],
                    notes: if claim.place.is_none() { vec![format!("it is at {}", claim.shown)] } else { Vec::new() },
                    also: Vec::new(),
                    severity: Severity::Error,
                });
            }
        }
        router
    }
}

fn claim(script: &Script, handler: &Handler, what: String) -> Claim {
    let shown = format!("{}:{}:{}", script.path, handler.line, handler.column);
    Claim { what, place: Some(place(script, handler)), shown }
}

/// The registration in its script.
fn place(script: &Script, handler: &Handler) -> Place {
    refusal::place(refusal::site(&script.path, &script.source), handler)
}

fn unknown_webhook(
    webhooks: &[Arc<Webhook>],
    script: &Script,
    handler: &Handler,
    name: &str,
) -> Frame {
    let known: Vec<&str> = webhooks.iter().map(|webhook| &*webhook.name).collect();
    let known = if known.is_empty() {
        "it declares none".to_owned()
    } else {
        format!("it declares {}", known.join(", "))
    };
    Frame {
        code: "E0233",
        title: format!("config.toml has no webhook `{name}`"),
        place: Some(place(script, handler)),
        help: vec![format!("add a table [webhooks.{name}] to config.toml; {known}")],
        notes: Vec::new(),
        also: Vec::new(),
        severity: Severity::Error,
    }
}

fn unknown_way(route: &str, way: &str) -> Frame {
    let way = way.escape_debug();
    Frame::error("E0235", format!("{route}: there is no way `{way}` to tell callers apart"))
        .help("`auth: \"none\"` lets anybody call it; this version knows no other")
}

fn says_nothing(route: &str) -> Frame {
    Frame::error("E0236", format!("{route} does not say who may call it"))
        .help("in production a route says so: `#{ auth: \"none\" }` lets anybody call it")
}

fn no_types(webhook: &Webhook, script: &Script, handler: &Handler, pattern: &str) -> Frame {
    Frame {
        code: "E0234",
        title: format!(
            "events of webhook `{}` have no type, so `{pattern}` can never match",
            webhook.name
        ),
        place: Some(place(script, handler)),
        help: vec!["leave the pattern out, or write \"*\"".to_owned()],
        notes: Vec::new(),
        also: Vec::new(),
        severity: Severity::Error,
    }
}

/// Whether some type could match a pattern of each. Two patterns with stars are taken to overlap where their fixed ends agree.
fn overlap(left: &[Arc<str>], right: &[Arc<str>]) -> bool {
    let both = |left: &str, right: &str| {
        use crate::script::handler::matches;
        if !left.contains('*') {
            return matches(right, left);
        }
        if !right.contains('*') {
            return matches(left, right);
        }
        let starts = |pattern: &str| pattern.split('*').next().unwrap_or_default().to_owned();
        let ends = |pattern: &str| pattern.rsplit('*').next().unwrap_or_default().to_owned();
        let agree = |one: &str, other: &str, test: fn(&str, &str) -> bool| {
            test(one, other) || test(other, one)
        };
        agree(&starts(left), &starts(right), |one, other| one.starts_with(other))
            && agree(&ends(left), &ends(right), |one, other| one.ends_with(other))
    };
    left.iter().any(|left| right.iter().any(|right| both(left, right)))
}
