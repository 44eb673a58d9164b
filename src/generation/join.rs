//! Who wants which path, and whose handler is for which webhook. What contradicts itself is told with both places, all of it at once; nothing is
//! joined then.

use std::collections::BTreeMap;
use std::sync::Arc;

use matchit::{InsertError, Router};

use super::{Endpoint, HandlerRef};
use crate::auth::Auth;
use crate::config::{Environment, Respond};
use crate::frame::{Frame, Place, nearest};
use crate::script::handler::{Handler, Method, OPEN, Script, Trigger, matches};
use crate::script::refusal;
use crate::webhook::Webhook;

/// Served on the main listener, whatever config and scripts say.
const BUILT_IN_PATHS: [&str; 2] = ["/healthz", "/readyz"];

/// Every path there is, or all that is wrong.
pub(super) fn join(
    environment: Environment,
    webhooks: &[Arc<Webhook>],
    auth: &[Arc<Auth>],
    scripts: &[Arc<Script>],
) -> Result<Router<Endpoint>, Vec<Frame>> {
    let mut paths = Paths::default();
    for (index, webhook) in webhooks.iter().enumerate() {
        paths.add_webhook(index, webhook);
    }
    for (script, loaded) in scripts.iter().enumerate() {
        for (handler, registered) in loaded.handlers.iter().enumerate() {
            let at = HandlerRef { script, handler };
            match &registered.trigger {
                Trigger::Route { method, path } => {
                    paths.add_route(*method, path, at, place(loaded, registered));
                    let route = format!("{} {path}", method.word());
                    let wrong =
                        callers(environment, auth, &route, registered.options.auth.as_deref());
                    paths.frames.extend(wrong.map(|frame| frame.at(place(loaded, registered))));
                }
                Trigger::Webhook { webhook, patterns } => {
                    let wrong = unmatched(webhooks, webhook, patterns);
                    paths.frames.extend(wrong.map(|frame| frame.at(place(loaded, registered))));
                }
                Trigger::Topic { .. } | Trigger::Timer(_) | Trigger::Death { .. } => {}
            }
        }
    }
    let by_script =
        webhooks.iter().filter(|webhook| matches!(webhook.respond, Respond::ByScript { .. }));
    paths.frames.extend(by_script.flat_map(|webhook| two_answers(webhook, scripts)));
    paths.into_router()
}

/// The paths so far, with those who want each, and what is wrong.
#[derive(Default)]
struct Paths {
    by_path: BTreeMap<Box<str>, (Endpoint, Vec<Claim>)>,
    frames: Vec<Frame>,
}

/// Who wants a path.
#[derive(Clone)]
struct Claim {
    /// As in a sentence: "webhook `clerk`", "GET /users".
    what: String,
    /// Of a route; a webhook wants the whole path.
    method: Option<Method>,
    place: Place,
}

impl Paths {
    fn add_webhook(&mut self, index: usize, webhook: &Webhook) {
        let what = format!("webhook `{}`", webhook.name);
        let claim = Claim { what, method: None, place: webhook.place.clone() };
        if let Some(endpoint) = self.claim(&webhook.path, claim) {
            endpoint.webhook = Some(index);
        }
    }

    fn add_route(&mut self, method: Method, path: &str, at: HandlerRef, place: Place) {
        let what = format!("{} {path}", method.word());
        if let Some(endpoint) = self.claim(path, Claim { what, method: Some(method), place }) {
            endpoint.routes.insert(method, at);
        }
    }

    /// The endpoint, unless somebody has it: Rhaiway itself, a webhook, or a route of the same method.
    fn claim(&mut self, path: &str, claim: Claim) -> Option<&mut Endpoint> {
        if BUILT_IN_PATHS.contains(&path) {
            let title =
                format!("`{path}` is served by Rhaiway itself, and {} wants it", claim.what);
            self.frames
                .push(Frame::error("E0231", title).at(claim.place).help("take another path"));
            return None;
        }
        let (endpoint, claims) = self.by_path.entry(path.into()).or_default();
        let other = claims.iter().find(|other| {
            other.method.is_none() || claim.method.is_none() || other.method == claim.method
        });
        if let Some(other) = other {
            self.frames.push(clash(format!("`{path}` is wanted twice"), &claim, other));
            return None;
        }
        claims.push(claim);
        Some(endpoint)
    }

    fn into_router(mut self) -> Result<Router<Endpoint>, Vec<Frame>> {
        let mut router = Router::new();
        for (path, (endpoint, claims)) in &self.by_path {
            // Nobody is in an entry whose first claim was refused, and then nothing is joined.
            let Some(claim) = claims.first() else { continue };
            if let Err(error) = router.insert(&**path, endpoint.clone()) {
                self.frames.push(self.unroutable(path, claim, &error));
            }
        }
        if self.frames.is_empty() { Ok(router) } else { Err(self.frames) }
    }

    fn unroutable(&self, path: &str, claim: &Claim, error: &InsertError) -> Frame {
        let other = match error {
            InsertError::Conflict { with } => self.by_path.get_key_value(with.as_str()),
            _ => None,
        };
        if let Some((other_path, (_, claims))) = other
            && let Some(other) = claims.first()
        {
            let title = format!("`{path}` and `{other_path}` are the same path but for a name");
            return clash(title, claim, other)
                .help("or give the parameter one name in both, where their methods differ");
        }
        Frame::error("E0231", format!("the path of {} cannot be served: {error}", claim.what))
            .at(claim.place.clone())
            .help("a parameter is written `{name}` and is one segment or its end; `{*rest}` takes all that follows")
    }
}

/// Two who cannot both be served.
fn clash(title: String, claim: &Claim, other: &Claim) -> Frame {
    let label = |claim: &Claim| Place { label: claim.what.clone(), ..claim.place.clone() };
    Frame::error("E0231", title)
        .at(label(claim))
        .also(label(other))
        .help("give one of them another path")
}

/// The registration in its script.
fn place(script: &Script, handler: &Handler) -> Place {
    refusal::place(refusal::site(&script.path, &script.source), handler)
}

/// A route that asks for a caller must never be open to all, and in production one that is open says so.
fn callers(
    environment: Environment,
    known: &[Arc<Auth>],
    route: &str,
    auth: Option<&str>,
) -> Option<Frame> {
    match auth {
        Some(OPEN) => None,
        Some(way) if known.iter().any(|auth| *auth.name == *way) => None,
        Some(way) => Some(unknown_auth(known, route, way)),
        None if environment == Environment::Production => {
            let title = format!("{route} does not say who may call it");
            let help = "in production a route says so: `#{ auth: \"none\" }` lets anybody call it";
            Some(Frame::error("E0236", title).help(help))
        }
        None => None,
    }
}

fn unknown_auth(known: &[Arc<Auth>], route: &str, way: &str) -> Frame {
    let names = || known.iter().map(|auth| &*auth.name);
    let title = format!("{route}: config.toml has no [auth.{}]", way.escape_debug());
    let frame = Frame::error("E0235", title);
    let frame = match nearest(way, names().chain([OPEN])) {
        Some(near) => frame.help(format!("did you mean `{near}`?")),
        None => frame.help(format!(
            "add that table to config.toml; `auth: \"{OPEN}\"` lets anybody call it"
        )),
    };
    match names().collect::<Vec<_>>() {
        none if none.is_empty() => frame.note("it declares none"),
        known => frame.note(format!("it declares {}", known.join(", "))),
    }
}

/// Why events can never reach a handler, if they cannot.
fn unmatched(webhooks: &[Arc<Webhook>], name: &str, patterns: &[Arc<str>]) -> Option<Frame> {
    let Some(webhook) = webhooks.iter().find(|webhook| *webhook.name == *name) else {
        return Some(unknown_webhook(webhooks, name));
    };
    let pattern = patterns.iter().find(|pattern| &***pattern != "*")?;
    (!webhook.has_types()).then(|| {
        let title =
            format!("events of webhook `{name}` have no type, so `{pattern}` never matches");
        Frame::error("E0234", title).help("leave the pattern out, or write \"*\"")
    })
}

fn unknown_webhook(webhooks: &[Arc<Webhook>], name: &str) -> Frame {
    let known = || webhooks.iter().map(|webhook| &*webhook.name);
    let frame = Frame::error("E0233", format!("config.toml has no webhook `{name}`"));
    let frame = match nearest(name, known()) {
        Some(near) => frame.help(format!("did you mean `{near}`?")),
        None => frame.help(format!("add a table [webhooks.{name}] to config.toml")),
    };
    match known().collect::<Vec<_>>() {
        none if none.is_empty() => frame.note("it declares none"),
        known => frame.note(format!("it declares {}", known.join(", "))),
    }
}

/// With `respond = "script"` exactly one handler may answer an event: each that could answer one of an earlier handler too.
fn two_answers(webhook: &Webhook, scripts: &[Arc<Script>]) -> Vec<Frame> {
    let handlers = scripts.iter().flat_map(|script| {
        script.handlers.iter().filter_map(move |handler| match &handler.trigger {
            Trigger::Webhook { webhook: name, patterns } if **name == *webhook.name => {
                Some((patterns, place(script, handler)))
            }
            Trigger::Webhook { .. }
            | Trigger::Route { .. }
            | Trigger::Topic { .. }
            | Trigger::Timer(_)
            | Trigger::Death { .. } => None,
        })
    });
    let mut frames = Vec::new();
    let mut earlier: Vec<(&Vec<Arc<str>>, Place)> = Vec::new();
    for (patterns, place) in handlers {
        if let Some((_, other)) = earlier.iter().find(|(others, _)| overlap(patterns, others)) {
            let name = &webhook.name;
            let title = format!("two handlers would answer the same event of webhook `{name}`");
            let help = "with `respond = \"script\"` exactly one handler may match; make their patterns differ";
            let frame = Frame::error("E0232", title).at(place.clone()).also(other.clone());
            frames.push(frame.help(help));
        }
        earlier.push((patterns, place));
    }
    frames
}

/// Whether one type could match a pattern of each.
fn overlap(left: &[Arc<str>], right: &[Arc<str>]) -> bool {
    left.iter().any(|left| right.iter().any(|right| meet(left, right)))
}

/// Where both have a star, the longer beginning and the longer end make a type for both, with all that stands between put between.
fn meet(left: &str, right: &str) -> bool {
    let (Some((left_start, left_rest)), Some((right_start, right_rest))) =
        (left.split_once('*'), right.split_once('*'))
    else {
        return matches(left, right) || matches(right, left);
    };
    let end = |rest: &str| rest.rfind('*').map_or(0, |star| star + 1);
    let (left_end, right_end) = (&left_rest[end(left_rest)..], &right_rest[end(right_rest)..]);
    (left_start.starts_with(right_start) || right_start.starts_with(left_start))
        && (left_end.ends_with(right_end) || right_end.ends_with(left_end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_overlap_where_one_type_could_match_both() {
        let check = |left: &str, right: &str, expected: bool| {
            assert_eq!(meet(left, right), expected, "{left} {right}");
            assert_eq!(meet(right, left), expected, "{right} {left}");
        };
        check("user.created", "user.created", true);
        check("user.created", "user.deleted", false);
        check("*", "", true);
        check("*", "user.*", true);
        check("user.*", "user.created", true);
        check("user.*", "session.*", false);
        check("user.*", "*.created", true);
        check("user.*", "user.session.*", true);
        check("*.created", "*.deleted", false);
        check("a*b*c", "a*x*c", true);
        check("a*b", "a*c", false);
    }
}
