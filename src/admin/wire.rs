//! What goes over the admin socket, and what `--json` prints: one shape for both. Times are RFC 3339 in UTC with milliseconds.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::Millis;
use crate::id::EventId;
use crate::store;

/// The header of a list that is not at its end: the last event that was looked at. The same question with it as `after` goes on; a page may be empty
/// although more follow, since one answer looks at a bounded number of events.
pub(crate) const NEXT: &str = "rhaiway-next";

/// An event in a list; `/v1/events` answers with a list of them, and perhaps with `NEXT`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Event {
    /// `evt_…`.
    pub(crate) id: String,
    /// Its webhook's name in config; `on:TOPIC` for what a script emitted, `every:SCRIPT/SCHEDULE` for a timer.
    pub(crate) webhook: String,
    /// The provider's own id.
    pub(crate) delivery_id: Option<String>,
    /// Its type, `""` where the scheme has none.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// The word of the worst of its jobs.
    pub(crate) state: String,
    /// When it was verified.
    pub(crate) received_at: String,
    /// Attempts used, over all its jobs.
    pub(crate) attempts: u32,
    /// Outbound calls that the last runs of its jobs asked for: so many does a replay from the beginning make.
    #[serde(default)]
    pub(crate) outbound_calls: u32,
    /// Of the job that stands worst.
    pub(crate) error: Option<String>,
}

/// An event alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct EventDetail {
    /// What a list says of it.
    #[serde(flatten)]
    pub(crate) event: Event,
    /// The run that emitted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) emitted_by: Option<EmittedBy>,
    /// The event that it repeats on somebody's request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) replay_of: Option<String>,
    /// Absent, like the body, once retention took the payload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) headers: Option<Value>,
    /// As text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) body: Option<String>,
    /// Instead of `body` where that is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) body_base64: Option<String>,
    /// In the order of their numbers; none before its first dispatch.
    pub(crate) jobs: Vec<Job>,
    /// The attempts that are kept, the oldest first.
    pub(crate) tries: Vec<Attempt>,
    /// Outbound calls, by job and in the order in which they began, without what they said and were told.
    #[serde(default)]
    pub(crate) calls: Vec<Call>,
    /// Those that are not among them.
    #[serde(default)]
    pub(crate) calls_left_out: u64,
}

/// Out of which run an event came.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct EmittedBy {
    /// The event that was handled, or the request (`req_…`, or what its client called it) that a route answered.
    pub(crate) from: String,
    /// The script that ran.
    pub(crate) script: String,
}

/// A job of an event.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    /// `job_…`.
    pub(crate) id: String,
    /// The script's name; empty where nobody handles the type.
    pub(crate) script: String,
    /// The pattern that matched; absent where the script has not loaded yet.
    pub(crate) pattern: Option<String>,
    /// Its word.
    pub(crate) state: String,
    /// Attempts used.
    pub(crate) attempt: u32,
    /// When its next attempt is due.
    pub(crate) due_at: Option<String>,
    /// Why it failed, is ignored or dead.
    pub(crate) error: Option<String>,
}

/// An attempt that did not succeed at once, or that logged something.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Attempt {
    /// Its job's id.
    pub(crate) job: String,
    /// Its number, from 1.
    pub(crate) attempt: u32,
    /// Its start.
    pub(crate) started_at: String,
    /// Its end.
    pub(crate) ended_at: String,
    /// The generation of scripts that ran.
    pub(crate) generation: u64,
    /// A short digest of the script that ran, with its modules; other text has another one.
    #[serde(default)]
    pub(crate) version: Option<String>,
    /// Why it failed.
    pub(crate) error: Option<String>,
    /// What its handler logged, as far as there was room.
    #[serde(default)]
    pub(crate) log: Vec<LogLine>,
    /// Lines that had none.
    #[serde(default)]
    pub(crate) log_dropped: u64,
}

/// An outbound call of a job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Call {
    /// Its job's id.
    pub(crate) job: String,
    /// The attempt that made it.
    pub(crate) attempt: u32,
    /// Its number in the job, from 1.
    pub(crate) number: u32,
    /// As config names it.
    pub(crate) provider: String,
    /// Its name in the provider's descriptor, else verb and path.
    pub(crate) operation: String,
    /// The idempotency key that it carried.
    pub(crate) idempotency_key: Option<String>,
    /// When it began.
    pub(crate) started_at: String,
    /// How long it took, with retries.
    pub(crate) latency_ms: u64,
    /// HTTP requests of it.
    pub(crate) tries: u32,
    /// `intent`, `succeeded`, `refused`, `failed`, `unsent`.
    pub(crate) outcome: String,
    /// Of the last answer.
    pub(crate) status: Option<u16>,
    /// The code of its error.
    pub(crate) error: Option<String>,
    /// Its answer was too large to be kept for a rerun.
    pub(crate) answer_too_large: bool,
}

/// A line of a script's log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LogLine {
    /// When.
    pub(crate) at: String,
    /// `info`, `warn`, `error`, `debug`, `trace`.
    pub(crate) level: String,
    /// What it says.
    pub(crate) message: String,
    /// The map beside it, as the script would print it; `""` where there was none.
    pub(crate) fields: String,
}

/// How the instance is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    /// Of the binary.
    pub(crate) version: String,
    /// Of the process.
    pub(crate) pid: u32,
    /// The generation that serves.
    pub(crate) generation: u64,
    /// How many scripts serve.
    pub(crate) scripts: usize,
    /// Names of those that have never loaded.
    pub(crate) broken_scripts: Vec<String>,
    /// Why config as it is in its files, or what scripts make of it, is not used; none where it is.
    pub(crate) config_problems: Vec<String>,
    /// Keys of config whose change waits for a restart.
    pub(crate) waits_for_restart: Vec<String>,
    /// Events that are not at their end.
    pub(crate) pending: u64,
    /// Events with a dead job.
    pub(crate) dead_letters: u64,
    /// Internal events that are not due yet.
    pub(crate) scheduled: u64,
}

/// What a wish to repeat an event came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Replay {
    /// The event that runs now.
    pub(crate) id: String,
    /// It is the same event, which was a dead letter and has fresh attempts.
    pub(crate) resumed: bool,
}

/// An error, as the main listener says it too.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Problem {
    /// A sentence.
    pub(crate) error: String,
    /// A word in capitals that programs may compare.
    pub(crate) code: String,
}

impl From<&store::EventSummary> for Event {
    fn from(summary: &store::EventSummary) -> Self {
        Self {
            id: summary.id.to_string(),
            webhook: summary.webhook.to_string(),
            delivery_id: summary.delivery_id.as_deref().map(str::to_owned),
            kind: summary.kind.to_string(),
            state: summary.state.to_string(),
            received_at: summary.received_at.to_string(),
            attempts: summary.attempts,
            outbound_calls: summary.calls,
            error: summary.error.as_deref().map(str::to_owned),
        }
    }
}

impl From<&store::EventDetail> for EventDetail {
    fn from(detail: &store::EventDetail) -> Self {
        let id = detail.summary.id;
        let (mut headers, mut body, mut body_base64, mut emitted_by) = (None, None, None, None);
        if let Some((request, bytes)) = &detail.payload {
            let request = serde_json::from_str::<Value>(request).ok();
            emitted_by = request.as_ref().and_then(emitted);
            headers = request.map(|mut request| request["headers"].take());
            match std::str::from_utf8(bytes) {
                Ok(text) => body = Some(text.to_owned()),
                Err(_) => body_base64 = Some(STANDARD.encode(bytes)),
            }
        }
        let job = |job: &store::Job| Job {
            id: id.job(job.n).to_string(),
            script: job.planned.script.to_string(),
            pattern: job.planned.pattern.as_deref().map(str::to_owned),
            state: job.state.to_string(),
            attempt: job.attempt,
            due_at: job.due_at.map(|due_at| due_at.to_string()),
            error: job.error.as_deref().map(str::to_owned),
        };
        let attempt = |attempt: &store::Attempt| Attempt {
            job: id.job(attempt.job).to_string(),
            attempt: attempt.attempt,
            started_at: attempt.started_at.to_string(),
            ended_at: attempt.ended_at.to_string(),
            generation: attempt.generation,
            version: attempt.version.as_deref().map(str::to_owned),
            error: attempt.error.as_deref().map(str::to_owned),
            log: attempt.log.lines.iter().map(LogLine::from).collect(),
            log_dropped: attempt.log.dropped,
        };
        Self {
            event: Event::from(&detail.summary),
            emitted_by,
            replay_of: detail.replay_of.map(|id| id.to_string()),
            headers,
            body,
            body_base64,
            jobs: detail.jobs.iter().map(job).collect(),
            tries: detail.attempts.iter().map(attempt).collect(),
            calls: detail.calls.iter().map(|call| Call::of(id, call)).collect(),
            calls_left_out: detail.calls_left_out,
        }
    }
}

impl Call {
    fn of(id: EventId, call: &store::Call) -> Self {
        Self {
            job: id.job(call.job).to_string(),
            attempt: call.attempt,
            number: call.number.saturating_add(1),
            provider: call.provider.to_string(),
            operation: call.operation.to_string(),
            idempotency_key: call.key.as_deref().map(str::to_owned),
            started_at: call.started_at.to_string(),
            latency_ms: call.latency_ms,
            tries: call.tries,
            outcome: call.outcome.word().to_owned(),
            status: call.status,
            error: call.error.as_deref().map(str::to_owned),
            answer_too_large: call.answer == store::KeptAnswer::TooLarge,
        }
    }
}

impl From<&store::log::LogLine> for LogLine {
    fn from(line: &store::log::LogLine) -> Self {
        Self {
            at: Millis(line.at).to_string(),
            level: line.level.to_string(),
            message: line.message.to_string(),
            fields: line.fields.to_string(),
        }
    }
}

/// What an internal event has in the place of a request (`script/api/event`).
fn emitted(request: &Value) -> Option<EmittedBy> {
    let text = |name: &str| request.get(name).and_then(Value::as_str).map(str::to_owned);
    Some(EmittedBy { from: text("from")?, script: text("script")? })
}
