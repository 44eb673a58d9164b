//! What goes over the admin socket, and what `--json` prints: one shape for both. Times are RFC 3339 in UTC with milliseconds.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::store;

/// An event in a list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Event {
    /// `evt_…`.
    pub(crate) id: String,
    /// Its webhook's name in config.
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
    /// Of the job that stands worst.
    pub(crate) error: Option<String>,
}

/// An event alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct EventDetail {
    /// What a list says of it.
    #[serde(flatten)]
    pub(crate) event: Event,
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

/// An attempt that did not succeed at once.
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
    /// Why it failed.
    pub(crate) error: Option<String>,
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
            error: summary.error.as_deref().map(str::to_owned),
        }
    }
}

impl From<&store::EventDetail> for EventDetail {
    fn from(detail: &store::EventDetail) -> Self {
        let id = detail.summary.id;
        let (mut headers, mut body, mut body_base64) = (None, None, None);
        if let Some((request, bytes)) = &detail.payload {
            headers = serde_json::from_str(request)
                .ok()
                .map(|mut request: Value| request["headers"].take());
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
            error: attempt.error.as_deref().map(str::to_owned),
        };
        Self {
            event: Event::from(&detail.summary),
            headers,
            body,
            body_base64,
            jobs: detail.jobs.iter().map(job).collect(),
            tries: detail.attempts.iter().map(attempt).collect(),
        }
    }
}
