//! Which events a replay is about, found before the first of them is replayed: what comes meanwhile, its own repetitions among it, is never taken in.

use super::super::narrow::Narrow;
use super::Arguments;
use crate::admin::client::Client;
use crate::admin::query::{IDS_MAX, LIMIT_MAX, go_on_after};
use crate::admin::wire;
use crate::clock::Millis;
use crate::id::EventId;
use crate::store::{EventOrder, EventQuery, JobState};

/// Events of one replay: 16 MB of ids here. Who has more replays a month at a time.
const FOUND_MAX: usize = 1_000_000;

/// What was asked for.
pub(super) enum Which {
    /// These, sorted, each once.
    These(Vec<EventId>),
    /// Those that match. They have come before the command began: its repetitions match too, and a command that goes on must not repeat them.
    Matching(Narrow),
}

/// What a replay will do.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// To be replayed, the oldest first.
    pub(super) ids: Vec<EventId>,
    /// Of these, dead letters.
    pub(super) dead: usize,
    /// Of these, those that begin anew.
    pub(super) anew: usize,
    /// Outbound calls that those which begin anew will repeat, as far as their first runs tell.
    pub(super) calls: u64,
    /// That match and have not ended, so that there is nothing to replay yet.
    pub(super) unfinished: usize,
}

/// More match than one replay takes.
#[derive(Debug, thiserror::Error)]
#[error("more than {FOUND_MAX} events match; narrow it down by `--since` and `--until`")]
struct TooMany;

impl Which {
    pub(super) fn of(arguments: &Arguments, now: Millis) -> Self {
        if arguments.ids.is_empty() {
            return Self::Matching(arguments.narrow.clone().until(now));
        }
        let mut ids = arguments.ids.clone();
        ids.sort_unstable();
        ids.dedup();
        Self::These(ids)
    }
}

/// Finds them. Of events named by their ids none is left out: what cannot be replayed is to be said of each.
pub(super) async fn find(
    client: &Client,
    which: &Which,
    after: Option<EventId>,
) -> anyhow::Result<Found> {
    let mut found = Found::default();
    match which {
        Which::These(ids) => {
            found.ids =
                ids.iter().copied().filter(|id| after.is_none_or(|after| *id > after)).collect();
            for ids in found.ids.clone().chunks(IDS_MAX) {
                for event in client.these(ids).await? {
                    found.count(&event);
                }
            }
        }
        Which::Matching(narrow) => {
            let order = EventOrder::OldestFirst;
            let mut query = EventQuery { order, limit: LIMIT_MAX, after, ..narrow.query() };
            loop {
                let page = client.events(&query).await?;
                for event in &page.events {
                    if found.count(event) {
                        found.ids.extend(event.id.parse::<EventId>());
                    }
                }
                if found.ids.len() > FOUND_MAX {
                    return Err(TooMany.into());
                }
                if page.next.is_none() {
                    break;
                }
                go_on_after(&mut query, page.next);
            }
        }
    }
    Ok(found)
}

impl Found {
    /// Whether there is something to replay.
    fn count(&mut self, event: &wire::Event) -> bool {
        match JobState::from_word(&event.state) {
            Some(JobState::Dead) => self.dead += 1,
            Some(JobState::Done | JobState::Ignored) => {
                self.anew += 1;
                self.calls += u64::from(event.outbound_calls);
            }
            _ => {
                self.unfinished += 1;
                return false;
            }
        }
        true
    }
}

/// What will be done, before it is.
pub(super) fn announcement(found: &Found) -> String {
    let Found { ids, dead, anew, calls, .. } = found;
    let mut lines = vec![format!("{} to replay{}", events(ids.len()), left_out(found))];
    if *dead > 0 {
        lines.push(format!("  {dead} dead: they go on with fresh attempts"));
    }
    if *anew > 0 {
        lines.push(format!("  {anew} ended: each begins anew, as another event"));
        lines.push(repeated(*calls));
    }
    lines.join("\n")
}

/// What those that begin anew repeat. Nothing is reused, and each call carries a key of its own.
fn repeated(calls: u64) -> String {
    match calls {
        0 => "  they made no outbound call; what else their handlers did is done again".to_owned(),
        1 => "  1 outbound call is made again, and whatever else their handlers did".to_owned(),
        _ => {
            format!("  {calls} outbound calls are made again, and whatever else their handlers did")
        }
    }
}

/// What is passed over.
pub(super) fn left_out(found: &Found) -> String {
    match found.unfinished {
        0 => String::new(),
        unfinished => format!(" ({unfinished} more that match have not ended)"),
    }
}

/// "1 event", "2 events".
pub(super) fn events(count: usize) -> String {
    format!("{count} event{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_it_will_do() {
        let ids = vec![EventId(uuid::Uuid::nil()); 3];
        let found = Found { ids, dead: 1, anew: 2, calls: 5, unfinished: 4 };
        insta::assert_snapshot!(announcement(&found), @r"
        3 events to replay (4 more that match have not ended)
          1 dead: they go on with fresh attempts
          2 ended: each begins anew, as another event
          5 outbound calls are made again, and whatever else their handlers did
        ");
        let one = Found { ids: vec![EventId(uuid::Uuid::nil())], dead: 1, ..Found::default() };
        insta::assert_snapshot!(announcement(&one), @r"
        1 event to replay
          1 dead: they go on with fresh attempts
        ");
    }
}
