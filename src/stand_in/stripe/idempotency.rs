//! Idempotency keys (<https://docs.stripe.com/api/idempotent_requests>): one key, one answer, for a day. The same key with something else is refused,
//! and so is one whose request is still being carried out.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::StatusCode;

use super::super::Moment;
use super::super::answer::Answer;
use super::super::request::Request;
use super::error::Problem;
use crate::clock::Millis;

/// Keys that are remembered; the oldest are forgotten, as after a day.
const KEYS_MAX: usize = 1_000;
/// How long Stripe remembers one at least.
const LIFE: Duration = Duration::from_secs(24 * 3600);
/// Characters of one key.
const KEY_LENGTH_MAX: usize = 255;

/// The keys that were used.
#[derive(Default)]
pub(super) struct Keys(VecDeque<Used>);

struct Used {
    key: String,
    path: String,
    body: Bytes,
    /// The first request's id, which answers that are given again name.
    request_id: String,
    answer: Answer,
    at: Millis,
    /// Until then the first request is under way.
    answered_at: Instant,
}

/// What is known of a key.
pub(super) enum Seen {
    Never,
    Answered(Answer),
    Refused(Problem),
}

impl Keys {
    pub(super) fn look(&mut self, key: &str, request: &Request, moment: &Moment) -> Seen {
        if key.is_empty() || key.len() > KEY_LENGTH_MAX {
            let message = format!("Idempotency keys have 1 to {KEY_LENGTH_MAX} characters.");
            return Seen::Refused(Problem::bad(message, None));
        }
        self.0.retain(|used| used.at.plus(LIFE) > moment.now);
        let Some(used) = self.0.iter().find(|used| used.key == key) else { return Seen::Never };
        if used.path != request.path {
            let message = format!(
                "Keys for idempotent requests can only be used for the same endpoint they were first used for ('{}' vs '{}'). Try using a key other than '{key}' if you meant to execute a different request.",
                request.path, used.path
            );
            return Seen::Refused(Problem::idempotency(StatusCode::BAD_REQUEST, message));
        }
        if used.body != request.body {
            let message = format!(
                "Keys for idempotent requests can only be used with the same parameters they were first used with. Try using a key other than '{key}' if you meant to execute a different request."
            );
            return Seen::Refused(Problem::idempotency(StatusCode::BAD_REQUEST, message));
        }
        if moment.instant < used.answered_at {
            let message = format!(
                "There is currently another in-progress request using this Idempotent Key (that probably means you submitted twice, and the other request is still going through): {key}. Please try again later."
            );
            let problem = Problem::idempotency(StatusCode::CONFLICT, message);
            return Seen::Refused(problem.with_code("idempotency_key_in_use"));
        }
        let answer = used.answer.clone();
        Seen::Answered(
            answer.with("idempotent-replayed", "true").with("original-request", &used.request_id),
        )
    }

    pub(super) fn keep(
        &mut self,
        key: &str,
        request_id: &str,
        request: &Request,
        answer: &Answer,
        moment: &Moment,
    ) {
        if self.0.len() >= KEYS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Used {
            key: key.to_owned(),
            path: request.path.clone(),
            body: request.body.clone(),
            request_id: request_id.to_owned(),
            answer: answer.clone(),
            at: moment.now,
            answered_at: moment.instant + moment.latency,
        });
    }
}
