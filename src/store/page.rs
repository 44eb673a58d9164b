//! Lists of events: what is asked for, and the page that comes back.

use super::{EventSummary, JobState};
use crate::clock::Millis;
use crate::id::EventId;

/// Which events to list, and in which order. All of it must hold of an event.
#[derive(Clone, Debug, Default)]
pub(crate) struct EventQuery {
    /// Of this webhook only, or of this other source.
    pub(crate) webhook: Option<Box<str>>,
    /// Whose whole type matches; `*` stands for any run of characters, as in a registration.
    pub(crate) kind: Option<Box<str>>,
    /// In this state only.
    pub(crate) state: Option<JobState>,
    /// Received then or later.
    pub(crate) since: Option<Millis>,
    /// Received before.
    pub(crate) until: Option<Millis>,
    /// With these bytes somewhere in the payload; not empty.
    pub(crate) text: Option<Box<str>>,
    /// Only events accepted before this one.
    pub(crate) before: Option<EventId>,
    /// Only events accepted after this one.
    pub(crate) after: Option<EventId>,
    /// Which come first.
    pub(crate) order: EventOrder,
    /// So many at most.
    pub(crate) limit: usize,
}

/// By the order of acceptance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum EventOrder {
    /// The last one comes first.
    #[default]
    NewestFirst,
    /// The first one comes first.
    OldestFirst,
}

/// What one question gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EventPage {
    /// Those that match, perhaps none although there are more.
    pub(crate) events: Vec<EventSummary>,
    /// The last event that was looked at, where the next question goes on (`before` or `after`); `None`: there are no more.
    pub(crate) next: Option<EventId>,
}

impl EventQuery {
    /// What a list shows of an event suffices to say whether it is asked for, but for its payload and its place.
    pub(crate) fn matches(&self, event: &EventSummary) -> bool {
        self.matches_row(&event.webhook, &event.kind, event.received_at)
            && self.state.is_none_or(|state| state == event.state)
    }

    /// What can be said without its jobs.
    pub(crate) fn matches_row(&self, webhook: &str, kind: &str, received_at: Millis) -> bool {
        self.webhook.as_deref().is_none_or(|wanted| wanted == webhook)
            && self.kind.as_deref().is_none_or(|pattern| matches(pattern, kind))
            && self.since.is_none_or(|since| received_at >= since)
            && self.until.is_none_or(|until| received_at < until)
    }
}

fn matches(pattern: &str, kind: &str) -> bool {
    wildmatch::WildMatchPattern::<'*', '\0'>::new(pattern).matches(kind)
}
