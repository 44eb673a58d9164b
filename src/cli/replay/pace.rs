//! Goes through the events one by one, no faster than it may. What is refused is said and counted and stops nothing; a full or busy store is waited for.

use std::fmt;
use std::future::{Future, pending};
use std::pin::{Pin, pin};
use std::time::Duration;

use serde::Serialize;

use super::super::output::Output;
use super::Arguments;
use crate::admin::client::{AskError, Client};
use crate::admin::wire;
use crate::clock;
use crate::id::EventId;

/// Before an instance is asked again that could not take an event (its inbox is full, its store is busy, it is being started anew).
const WAIT: Duration = Duration::from_millis(500);
/// Between two lines about how far it is.
const PROGRESS: Duration = Duration::from_secs(5);

/// How it ended.
#[derive(Debug, Default)]
pub(super) struct Ended {
    pub(super) counts: Counts,
    /// The last one that need not be replayed any more.
    pub(super) last: Option<EventId>,
    /// By Ctrl-C, before the last one.
    pub(super) is_stopped: bool,
}

/// What became of them.
#[derive(Debug, Default)]
pub(super) struct Counts {
    all: usize,
    resumed: usize,
    anew: usize,
    pub(super) refused: usize,
}

/// What became of one.
#[derive(Debug, Serialize)]
struct Line {
    event: String,
    /// `resumed`, `anew`, `refused`.
    outcome: &'static str,
    /// The event that runs now.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Replays them in this order, until the end or Ctrl-C.
pub(super) async fn replay_all(
    output: &Output,
    client: &Client,
    ids: &[EventId],
    arguments: &Arguments,
) -> Ended {
    let stop = pin!(async {
        if tokio::signal::ctrl_c().await.is_err() {
            pending::<()>().await;
        }
    });
    let mut stop: Stop<'_> = stop;
    let mut ended =
        Ended { counts: Counts { all: ids.len(), ..Counts::default() }, ..Ended::default() };
    let mut next = clock::instant();
    let mut told = next;
    for id in ids {
        tokio::select! {
            biased;
            () = &mut stop => {
                ended.is_stopped = true;
                return ended;
            }
            () = tokio::time::sleep_until(next.into()) => {}
        }
        // After a wait it goes on at its pace, and does not make up for what it has missed.
        next = next.max(clock::instant()) + arguments.rate.gap;
        let Some(line) = replay(output, client, *id, &mut stop).await else {
            ended.is_stopped = true;
            return ended;
        };
        ended.last = Some(*id);
        ended.counts.add(&line);
        tell(output, &line, arguments.json);
        if clock::instant().saturating_duration_since(told) >= PROGRESS {
            told = clock::instant();
            output.say(&format!("{} of {}", ended.counts.done(), ids.len()));
        }
    }
    ended
}

/// Resolves when the command is to end.
type Stop<'a> = Pin<&'a mut dyn Future<Output = ()>>;

/// One of them, for as long as the instance cannot take it; `None`: stopped before it could. A question that is under way is waited for, so that it is known
/// what became of it.
async fn replay(
    output: &Output,
    client: &Client,
    id: EventId,
    stop: &mut Stop<'_>,
) -> Option<Line> {
    let mut is_said = false;
    loop {
        let why = match client.replay(id).await {
            Ok(replay) => return Some(Line::replayed(id, replay)),
            Err(AskError::Refused { status: 503, problem }) => problem.error,
            Err(error @ AskError::NotRunning) => error.to_string(),
            Err(AskError::Refused { problem, .. }) => {
                return Some(Line::refused(id, problem.code, problem.error));
            }
            Err(error) => {
                let error = format!("whether it is replayed is not known: {error}");
                return Some(Line::refused(id, "UNKNOWN".to_owned(), error));
            }
        };
        if !is_said {
            is_said = true;
            output.say(&format!("waiting: {why}"));
        }
        tokio::select! {
            biased;
            () = &mut *stop => return None,
            () = tokio::time::sleep(WAIT) => {}
        }
    }
}

fn tell(output: &Output, line: &Line, json: bool) {
    if json {
        output.data(&serde_json::to_string(line).unwrap_or_default());
        return;
    }
    match (&line.id, &line.error) {
        (_, Some(error)) => output.say(&format!("{}  refused: {error}", line.event)),
        (Some(id), None) if *id != line.event => {
            output.data(&format!("{}  {}  {id}", line.event, line.outcome));
        }
        _ => output.data(&format!("{}  {}", line.event, line.outcome)),
    }
}

impl Line {
    fn replayed(id: EventId, replay: wire::Replay) -> Self {
        let outcome = if replay.resumed { "resumed" } else { "anew" };
        Self { event: id.to_string(), outcome, id: Some(replay.id), code: None, error: None }
    }

    fn refused(id: EventId, code: String, error: String) -> Self {
        let (code, error) = (Some(code), Some(error));
        Self { event: id.to_string(), outcome: "refused", id: None, code, error }
    }
}

impl Counts {
    fn add(&mut self, line: &Line) {
        match line.outcome {
            "resumed" => self.resumed += 1,
            "anew" => self.anew += 1,
            _ => self.refused += 1,
        }
    }

    fn done(&self) -> usize {
        self.resumed + self.anew + self.refused
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { all, resumed, anew, refused } = self;
        write!(
            formatter,
            "{} of {all}: {resumed} resumed, {anew} anew, {refused} refused",
            self.done()
        )
    }
}
