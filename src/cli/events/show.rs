//! One event with everything that is known of it: where it came from, what became of it, what its handlers logged, what it carries.

use std::fmt::Write as _;

use super::super::Exit;
use super::super::ask::Asked;
use super::super::output::{Output, harmless};
use crate::admin::wire;
use crate::config::Config;
use crate::id::EventId;
use crate::script::source::Source;
use crate::store::CallOutcome;

/// Characters of a line about it.
const LINE: usize = 2_000;
/// And of a line of its body, which is what one looks for.
const BODY_LINE: usize = 100_000;

/// Prints it.
pub(super) async fn show(
    output: &Output,
    config: &Config,
    id: EventId,
    json: bool,
) -> anyhow::Result<Exit> {
    let Some(detail) = Asked::of(config).await?.event(id).await? else {
        anyhow::bail!("there is no event {id}");
    };
    if json {
        output.data(&serde_json::to_string(&detail)?);
        return Ok(Exit::Fine);
    }
    for line in about(&detail) {
        output.data(&line);
    }
    for line in payload(&detail) {
        output.data(&line);
    }
    Ok(Exit::Fine)
}

fn about(detail: &wire::EventDetail) -> Vec<String> {
    let event = &detail.event;
    let mut lines = Vec::new();
    let mut line = |name: &str, value: &str| {
        lines.push(format!("{name:<12}{}", harmless(value, LINE)));
    };
    line("id", &event.id);
    line("webhook", &event.webhook);
    line("from", &from(detail));
    line("type", &event.kind);
    line("state", &event.state);
    line("received", &event.received_at);
    line("delivery", event.delivery_id.as_deref().unwrap_or("(none)"));
    for job in &detail.jobs {
        line("job", &about_job(job));
        for attempt in detail.tries.iter().filter(|attempt| attempt.job == job.id) {
            line("  attempt", &about_attempt(attempt));
            for logged in &attempt.log {
                line("    log", about_line(logged).trim_end());
            }
            if attempt.log_dropped > 0 {
                line("    log", &format!("… and {} more lines", attempt.log_dropped));
            }
        }
        for call in detail.calls.iter().filter(|call| call.job == job.id) {
            line("  call", &about_call(call));
        }
    }
    if detail.calls_left_out > 0 {
        line("  calls", &format!("… and {} more", detail.calls_left_out));
    }
    lines
}

/// Where it came from, in words.
fn from(detail: &wire::EventDetail) -> String {
    let mut text = match (Source::of(&detail.event.webhook), &detail.emitted_by) {
        (Source::Webhook(name), _) => format!("a delivery to webhook `{name}`"),
        (Source::Timer(timer), _) => format!("the timer {timer}"),
        (Source::Topic(_), Some(by)) => format!("emitted by `{}` in {}", by.script, by.from),
        (Source::Topic(_), None) => "emitted by a script".to_owned(),
    };
    if let Some(first) = &detail.replay_of {
        // Writing to a String cannot fail.
        _ = write!(text, "; a replay of {first}");
    }
    text
}

fn about_job(job: &wire::Job) -> String {
    let pattern = job.pattern.as_deref().unwrap_or("-");
    let error = job.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
    let due = job.due_at.as_deref().map(|due| format!(", due {due}")).unwrap_or_default();
    let script = if job.script.is_empty() { "(no handler)" } else { &job.script };
    format!("{} {script} `{pattern}` {}, attempts {}{due}{error}", job.id, job.state, job.attempt)
}

fn about_attempt(attempt: &wire::Attempt) -> String {
    let version = attempt.version.as_deref().map(|version| format!(", version {version}"));
    format!(
        "{} at {}, generation {}{}: {}",
        attempt.attempt,
        attempt.started_at,
        attempt.generation,
        version.unwrap_or_default(),
        attempt.error.as_deref().unwrap_or("fine")
    )
}

/// Columns first, so that calls stand below each other; what went wrong comes last.
fn about_call(call: &wire::Call) -> String {
    let wire::Call { attempt, started_at, latency_ms, provider, operation, .. } = call;
    let time = started_at.get(11..23).unwrap_or(started_at);
    let status = call.status.map_or_else(|| "---".to_owned(), |status| status.to_string());
    let mut text = format!("{attempt:>2} {time} {latency_ms:>6}ms {status} {provider} {operation}");
    // Writing to a String cannot fail.
    if call.tries > 1 {
        _ = write!(text, " x{}", call.tries);
    }
    if call.outcome != CallOutcome::Succeeded.word() {
        _ = write!(text, " {}", call.outcome);
    }
    if let Some(error) = &call.error {
        _ = write!(text, " {error}");
    }
    if call.answer_too_large {
        text.push_str(", its answer too large to be reused");
    }
    text
}

fn about_line(line: &wire::LogLine) -> String {
    let wire::LogLine { at, level, message, fields } = line;
    // The day is that of the attempt.
    let time = at.get(11..23).unwrap_or(at);
    format!("{time} {level:<5} {message} {fields}")
}

fn payload(detail: &wire::EventDetail) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(serde_json::Value::Object(headers)) = &detail.headers {
        lines.extend(["".to_owned(), "headers".to_owned()]);
        lines.extend(headers.iter().map(|(name, value)| {
            let value = harmless(value.as_str().unwrap_or_default(), LINE);
            format!("  {}: {value}", harmless(name, 200))
        }));
    }
    match (&detail.body, &detail.body_base64) {
        (Some(body), _) => {
            lines.extend(["".to_owned(), "body".to_owned()]);
            lines.extend(body.lines().map(|text| format!("  {}", harmless(text, BODY_LINE))));
        }
        (None, Some(base64)) => {
            lines.extend(["".to_owned(), "body (base64)".to_owned(), format!("  {base64}")]);
        }
        (None, None) => {
            lines.extend(["".to_owned(), "the payload is no longer kept".to_owned()]);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_13_calls_stand_below_each_other_within_80_columns() {
        let call = wire::Call {
            job: "job_1".to_owned(),
            attempt: 1,
            number: 1,
            provider: "stripe".to_owned(),
            operation: "checkout.sessions.create".to_owned(),
            idempotency_key: None,
            started_at: "2026-01-31T12:00:00.123Z".to_owned(),
            latency_ms: 340,
            tries: 1,
            outcome: "succeeded".to_owned(),
            status: Some(200),
            error: None,
            answer_too_large: false,
        };
        let lost = wire::Call {
            attempt: 12,
            latency_ms: 60_000,
            tries: 4,
            outcome: "failed".to_owned(),
            operation: "refunds.create".to_owned(),
            status: None,
            error: Some("TIMEOUT".to_owned()),
            ..call.clone()
        };
        let lines =
            [about_call(&call), about_call(&lost)].map(|text| format!("{:<12}{text}", "  call"));
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:?}");
        insta::assert_snapshot!(lines.join("\n"), @r"
          call       1 12:00:00.123    340ms 200 stripe checkout.sessions.create
          call      12 12:00:00.123  60000ms --- stripe refunds.create x4 failed TIMEOUT
        ");
    }
}
