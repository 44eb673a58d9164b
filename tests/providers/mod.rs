//! Calls of providers against an upstream that misbehaves, through the front door: a route or a handler calls, and what the script hears, what the
//! upstream was sent and what is left in the log are looked at. Each test bears the number of its case.

mod bodies;
mod breaker;
mod connections;
mod limits;
mod operations;
mod places;
mod redirects;
mod requests;
mod secrets;
mod streamed;
mod tls;
mod waiting;

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::upstream::{Step, Upstream};
use crate::support::{Project, Response, Rhaiway};

/// What a route of `routes` tells of an error.
const TOLD: &str = "#{ code: err.code, status: err.status, message: err.message, retry_after: err.retry_after, body: err.body }";

/// A provider of a test: its name, its URL, and further lines of its table.
type Table<'a> = (&'a str, &'a str, &'a str);

/// One try, which is given half a second: long for this machine, short for a test.
const ONE_TRY: &str = "retry = { max = 0 }\ntimeout = \"500ms\"";
/// One try, with time.
const PATIENT: &str = "retry = { max = 0 }";
/// One more try, almost at once.
const TWO_TRIES: &str = "retry = { max = 1, base = \"1ms\" }";

fn config(workers: usize, environment: &str, tables: &[Table<'_>]) -> String {
    let mut config = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = {workers}\nenvironment = \"{environment}\"\n\n[webhooks.clerk]\npath = \"/api/webhooks/clerk\"\nscheme = \"svix\"\nsecret_env = \"CLERK_WEBHOOK_SECRET\"\n"
    );
    for (name, url, more) in tables {
        config.push_str(&format!(
            "\n[providers.{name}]\nkind = \"http\"\nbase_url = \"{url}\"\n{more}\n"
        ));
    }
    config
}

/// For each provider: `/NAME/get` and `/NAME/post` tell what a call came to, `/NAME/whole` is `request`, `/NAME/bare` catches nothing.
fn routes(names: &[&str]) -> String {
    let route = |name: &&str| {
        format!(
            "get(\"/{name}/get\", #{{ auth: \"none\" }}, |req| {{ try {{ return #{{ got: {name}.get(\"/thing\") }}; }} catch (err) {{ return {TOLD}; }} }});
             post(\"/{name}/post\", #{{ auth: \"none\" }}, |req| {{ try {{ return #{{ got: {name}.post(\"/thing\", #{{ json: #{{ a: 1 }} }}) }}; }} catch (err) {{ return {TOLD}; }} }});
             get(\"/{name}/whole\", #{{ auth: \"none\" }}, |req| {name}.request(\"GET\", \"/thing\"));
             get(\"/{name}/bare\", #{{ auth: \"none\" }}, |req| {name}.get(\"/thing\"));\n"
        )
    };
    names.iter().map(route).collect()
}

/// An instance with these providers and their routes.
fn start(tables: &[Table<'_>]) -> (Project, Rhaiway) {
    start_with(1, tables, |_command| {})
}

fn start_with(
    workers: usize,
    tables: &[Table<'_>],
    prepare: impl FnOnce(&mut Command),
) -> (Project, Rhaiway) {
    let names: Vec<&str> = tables.iter().map(|(name, ..)| *name).collect();
    let project = Project::with_config(&config(workers, "development", tables), &routes(&names));
    let mut command = project.command(&["run"]);
    prepare(&mut command);
    let rhaiway = project.start_as(command);
    (project, rhaiway)
}

/// One provider `x` at this upstream.
fn calling(upstream: &Upstream, more: &str) -> (Project, Rhaiway) {
    start(&[("x", &upstream.url(), more)])
}

fn post(rhaiway: &Rhaiway, path: &str) -> Value {
    rhaiway.post(path, &[("content-type", "application/json")], b"{}").json()
}

fn get(rhaiway: &Rhaiway, path: &str) -> Value {
    told(&rhaiway.get(path))
}

fn told(response: &Response) -> Value {
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()
}

/// Fails where a call has not failed with that code and a message that holds `part`.
#[track_caller]
fn failed(told: &Value, code: &str, part: &str) {
    let message = told["message"].as_str().unwrap_or_default();
    assert!(told["code"] == code && message.contains(part), "{code} with {part:?}: {told}");
}

/// How long something takes.
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let started = Instant::now();
    let done = work();
    (done, started.elapsed())
}

/// On every connection one answer after the other, without an end.
fn answers(bytes: &[u8]) -> Vec<Step> {
    (0..100).flat_map(|_| [Step::Read, Step::Send(bytes.to_vec())]).collect()
}
