//! What became of the posts of `rhaiway send`, and how it reads: a line for one, a summary for several, an object each for `--json`.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::TIMEOUT;

/// What became of it all.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) kind: Box<str>,
    pub(crate) posts: Vec<Post>,
    pub(crate) took: Duration,
    /// Whether the answers had to be 401.
    pub(super) spoilt: bool,
}

/// What became of one post. Serialised, it is the line of `--json`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Post {
    /// The delivery's id; for schemes that have it in the body, what names this post in the output.
    pub(crate) id: Box<str>,
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
    #[serde(rename = "latency_ms", serialize_with = "as_millis")]
    pub(crate) latency: Duration,
}

#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Outcome {
    Answered {
        status: u16,
        request_id: Option<Box<str>>,
        body: Box<str>,
    },
    /// No answer came, and why.
    Failed {
        error: NoAnswer,
    },
}

/// Why no answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NoAnswer {
    #[error("nothing listens there")]
    NotConnected,
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    TimedOut,
    #[error("the connection broke before the answer was complete")]
    Broken,
}

impl Sent {
    /// Whether every answer is the one to expect: 200 and its like, or 401 for a spoilt signature.
    pub(crate) fn is_fine(&self) -> bool {
        self.posts.iter().all(|post| self.is_expected(post))
    }

    fn is_expected(&self, post: &Post) -> bool {
        match &post.outcome {
            Outcome::Answered { status, .. } if self.spoilt => *status == 401,
            Outcome::Answered { status, .. } => (200..300).contains(status),
            Outcome::Failed { .. } => false,
        }
    }
}

/// One line for one post, and for several how often what was answered.
impl fmt::Display for Sent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [post] = &*self.posts {
            return write!(formatter, "{post}");
        }
        let mut counts: Vec<(String, usize)> = Vec::new();
        for post in &self.posts {
            let outcome = post.outcome.in_a_word();
            match counts.iter_mut().find(|(known, _)| *known == outcome) {
                Some((_, count)) => *count += 1,
                None => counts.push((outcome, 1)),
            }
        }
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let counts: Vec<String> =
            counts.into_iter().map(|(outcome, count)| format!("{count} × {outcome}")).collect();
        let mut latencies: Vec<Duration> = self.posts.iter().map(|post| post.latency).collect();
        latencies.sort_unstable();
        let median = latencies.get(latencies.len() / 2).map_or(0.0, millis);
        let slowest = latencies.last().map_or(0.0, millis);
        write!(
            formatter,
            "{} × {} in {:.2} s: {} (median {median:.1} ms, slowest {slowest:.1} ms)",
            self.posts.len(),
            self.kind,
            self.took.as_secs_f64(),
            counts.join(", "),
        )?;
        match self.posts.iter().find(|post| !self.is_expected(post)) {
            Some(post) => write!(formatter, "\nthe first that should not be: {post}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Post {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} in {:.1} ms", self.outcome.in_a_word(), millis(&self.latency))?;
        if let Outcome::Answered { body, .. } = &self.outcome {
            // It may come from anywhere, and it goes to a terminal.
            let body: String =
                body.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
            write!(formatter, "  {body}")?;
        }
        write!(formatter, "  id {}", self.id)?;
        match &self.outcome {
            Outcome::Answered { request_id: Some(request), .. } => {
                write!(formatter, "  request {request}")
            }
            Outcome::Answered { request_id: None, .. } | Outcome::Failed { .. } => Ok(()),
        }
    }
}

impl Outcome {
    fn in_a_word(&self) -> String {
        match self {
            Self::Answered { status, .. } => status.to_string(),
            Self::Failed { error } => error.to_string(),
        }
    }
}

fn millis(duration: &Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn as_millis<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((millis(duration) * 1000.0).round() / 1000.0)
}
