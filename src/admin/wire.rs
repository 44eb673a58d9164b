//! What goes over the admin socket, and what `--json` prints: one shape for both. Times are RFC 3339 in UTC with milliseconds.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::store;

/// An event in a list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) webhook: String,
    pub(crate) delivery_id: Option<String>,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) state: String,
    pub(crate) received_at: String,
    /// Attempts used, over all its jobs.
    pub(crate) attempts: u32,
    pub(crate) error: Option<String>,
}

/// An event alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct EventDetail {
    #[serde(flatten)]
    pub(crate) event: Event,
    /// Absent, like the body, once retention took the payload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) headers: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) body: Option<String>,
    /// Instead of `body` where that is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) body_base64: Option<String>,
    pub(crate) jobs: Vec<Job>,
    pub(crate) tries: Vec<Attempt>,
}

/// A job of an event.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) id: String,
    pub(crate) script: String,
    pub(crate) pattern: Option<String>,
    pub(crate) state: String,
    pub(crate) attempt: u32,
    pub(crate) due_at: Option<String>,
    pub(crate) error: Option<String>,
}

/// An attempt that did not succeed at once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Attempt {
    pub(crate) job: String,
    pub(crate) attempt: u32,
    pub(crate) started_at: String,
    pub(crate) ended_at: String,
    pub(crate) generation: u64,
    pub(crate) error: Option<String>,
}

/// How the instance is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) version: String,
    pub(crate) pid: u32,
    pub(crate) generation: u64,
    pub(crate) scripts: usize,
    pub(crate) broken_scripts: Vec<String>,
    pub(crate) pending: u64,
    pub(crate) dead_letters: u64,
}

/// An error, as the main listener says it too.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Problem {
    pub(crate) error: String,
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
