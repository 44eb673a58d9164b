//! `rhaiway events`: lists stored events, or shows one; from the running instance, or without one from its file, read-only.

use std::path::Path;

use anyhow::Context as _;

use super::output::{Output, harmless};
use super::{Exit, block_on, load_config};
use crate::admin::client::{self, AskError};
use crate::admin::server::{LIMIT_MAX, states};
use crate::admin::wire;
use crate::config::Config;
use crate::id::EventId;
use crate::store::sqlite::{ReadOnly, open_read_only};
use crate::store::{EventQuery, JobState};

/// Characters of a cell; longer text is cut.
const CELL: usize = 60;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Show this event, with its headers, body, jobs and attempts
    id: Option<EventId>,
    /// Only events in this state
    #[arg(long, value_parser = state)]
    state: Option<JobState>,
    /// Only events of this webhook
    #[arg(long, value_name = "NAME")]
    webhook: Option<String>,
    /// How many, newest first
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = limit)]
    limit: usize,
    /// Only events older than this one, for the next page
    #[arg(long, value_name = "ID")]
    after: Option<EventId>,
    /// Print JSON: one object, or one a line
    #[arg(long)]
    json: bool,
}

fn state(word: &str) -> Result<JobState, String> {
    JobState::from_word(word).ok_or_else(|| format!("the states are {}", states()))
}

fn limit(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=LIMIT_MAX).contains(number));
    number.ok_or_else(|| format!("a number from 1 to {LIMIT_MAX}"))
}

/// Lists or shows.
pub(super) fn run(output: &Output, config: &Path, arguments: &Arguments) -> anyhow::Result<Exit> {
    let Some(config) = load_config(output, config) else { return Ok(Exit::Failed) };
    match arguments.id {
        Some(id) => show(output, &config, id, arguments.json),
        None => list(output, &config, arguments),
    }
}

fn list(output: &Output, config: &Config, arguments: &Arguments) -> anyhow::Result<Exit> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("limit", &arguments.limit.to_string());
    if let Some(state) = arguments.state {
        query.append_pair("state", state.word());
    }
    if let Some(webhook) = &arguments.webhook {
        query.append_pair("webhook", webhook);
    }
    if let Some(after) = arguments.after {
        query.append_pair("after", &after.to_string());
    }
    let events: Vec<wire::Event> = match block_on(client::get(
        &config.admin.socket,
        &format!("/v1/events?{}", query.finish()),
    ))? {
        Ok(events) => events,
        Err(AskError::NotRunning) => {
            let query = EventQuery {
                webhook: arguments.webhook.as_deref().map(Into::into),
                state: arguments.state,
                before: arguments.after,
                limit: arguments.limit,
            };
            file(config)?.events(&query)?.iter().map(wire::Event::from).collect()
        }
        Err(error) => return Err(error.into()),
    };
    if arguments.json {
        for event in &events {
            output.data(&serde_json::to_string(event)?);
        }
        return Ok(Exit::Fine);
    }
    if events.is_empty() {
        output.say("no events");
        return Ok(Exit::Fine);
    }
    let row = |event: &wire::Event| {
        let error = event.error.as_deref().unwrap_or_default();
        vec![
            event.received_at.clone(),
            event.id.clone(),
            harmless(&event.webhook, CELL),
            harmless(&event.kind, CELL),
            event.state.clone(),
            event.attempts.to_string(),
            harmless(error, CELL),
        ]
    };
    output.table(
        &["RECEIVED", "ID", "WEBHOOK", "TYPE", "STATE", "ATTEMPTS", "ERROR"],
        &events.iter().map(row).collect::<Vec<_>>(),
    );
    Ok(Exit::Fine)
}

fn show(output: &Output, config: &Config, id: EventId, json: bool) -> anyhow::Result<Exit> {
    let detail: wire::EventDetail =
        match block_on(client::get(&config.admin.socket, &format!("/v1/events/{id}")))? {
            Ok(detail) => detail,
            Err(AskError::NotRunning) => match file(config)?.event(id)? {
                Some(detail) => wire::EventDetail::from(&detail),
                None => anyhow::bail!("there is no event {id}"),
            },
            Err(error) => return Err(error).context(format!("event {id}")),
        };
    if json {
        output.data(&serde_json::to_string(&detail)?);
        return Ok(Exit::Fine);
    }
    let wire::EventDetail { event, headers, body, body_base64, jobs, tries } = &detail;
    let line =
        |name: &str, value: &str| output.data(&format!("{name:<12}{}", harmless(value, 2000)));
    line("id", &event.id);
    line("webhook", &event.webhook);
    line("type", &event.kind);
    line("state", &event.state);
    line("received", &event.received_at);
    line("delivery", event.delivery_id.as_deref().unwrap_or("(none)"));
    for job in jobs {
        let pattern = job.pattern.as_deref().unwrap_or("-");
        let error = job.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
        let due = job.due_at.as_deref().map(|due| format!(", due {due}")).unwrap_or_default();
        let script = if job.script.is_empty() { "(no handler)" } else { &job.script };
        line(
            "job",
            &format!(
                "{} {script} `{pattern}` {}, attempts {}{due}{error}",
                job.id, job.state, job.attempt
            ),
        );
    }
    for attempt in tries {
        let error = attempt.error.as_deref().unwrap_or("fine");
        line(
            "attempt",
            &format!(
                "{} of {} at {}, generation {}: {error}",
                attempt.attempt, attempt.job, attempt.started_at, attempt.generation
            ),
        );
    }
    if let Some(serde_json::Value::Object(headers)) = headers {
        output.data("\nheaders");
        for (name, value) in headers {
            output.data(&format!(
                "  {}: {}",
                harmless(name, 200),
                harmless(value.as_str().unwrap_or_default(), 2000)
            ));
        }
    }
    match (body, body_base64) {
        (Some(body), _) => {
            output.data("\nbody");
            for text in body.lines() {
                output.data(&format!("  {}", harmless(text, 100_000)));
            }
        }
        (None, Some(base64)) => output.data(&format!("\nbody (base64)\n  {base64}")),
        (None, None) => output.data("\nthe payload is no longer kept"),
    }
    Ok(Exit::Fine)
}

fn file(config: &Config) -> anyhow::Result<ReadOnly> {
    Ok(open_read_only(&config.storage.path)?)
}
