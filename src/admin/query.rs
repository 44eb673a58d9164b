//! What may be asked of `/v1/events`, and how it is read: each parameter is checked, and a refusal says what may stand there.

use std::fmt::Write as _;

use crate::clock::Millis;
use crate::id::EventId;
use crate::store::{EventOrder, EventQuery, JobState};

/// Events of one answer, at most.
pub(crate) const LIMIT_MAX: usize = 1000;
/// And where nobody says.
const LIMIT: usize = 50;
/// Bytes of what is looked for in payloads, and of a pattern.
pub(crate) const TEXT_BYTES_MAX: usize = 1024;
/// Events that are asked for by their ids in one question; their list fits a request's head.
pub(crate) const IDS_MAX: usize = 100;

/// What somebody asks for.
#[derive(Debug)]
pub(super) enum Wanted {
    /// Those that match.
    Matching(EventQuery),
    /// These, as far as they are there.
    These(Vec<EventId>),
}

/// `webhook=&type=&state=&since=&until=&text=&after=&order=&limit=`, or `id=` as often as there are ids. `after` is the last event of the page
/// before, in whichever order.
pub(super) fn read(query: &str) -> Result<Wanted, String> {
    let mut wanted = EventQuery { limit: LIMIT, ..EventQuery::default() };
    let mut after = None;
    let (mut ids, mut others) = (Vec::new(), false);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let name = &*name;
        others |= name != "id";
        match name {
            "id" => ids.push(id(name, &value)?),
            "webhook" => wanted.webhook = Some(short(name, &value)?),
            "type" => wanted.kind = Some(short(name, &value)?),
            "state" => {
                let state = JobState::from_word(&value);
                wanted.state =
                    Some(state.ok_or_else(|| format!("`state` is one of {}", states()))?);
            }
            "since" => wanted.since = Some(time(name, &value)?),
            "until" => wanted.until = Some(time(name, &value)?),
            "text" if value.is_empty() => return Err("`text` has at least one letter".to_owned()),
            "text" => wanted.text = Some(short(name, &value)?),
            "after" => after = Some(id(name, &value)?),
            "order" => {
                wanted.order = match &*value {
                    "newest" => EventOrder::NewestFirst,
                    "oldest" => EventOrder::OldestFirst,
                    _ => return Err("`order` is `newest` or `oldest`".to_owned()),
                }
            }
            "limit" => {
                let limit = value.parse::<usize>().ok().filter(|limit| *limit > 0);
                wanted.limit = limit.ok_or("`limit` is a number from 1 on")?.min(LIMIT_MAX);
            }
            _ => return Err(format!("unknown parameter `{}`", name.escape_debug())),
        }
    }
    if ids.is_empty() {
        go_on_after(&mut wanted, after);
        return Ok(Wanted::Matching(wanted));
    }
    if others || ids.len() > IDS_MAX {
        return Err(format!("`id` stands alone, and {IDS_MAX} times at most"));
    }
    Ok(Wanted::These(ids))
}

/// The page that follows the one that ended with `after`.
pub(crate) fn go_on_after(query: &mut EventQuery, after: Option<EventId>) {
    match query.order {
        EventOrder::NewestFirst => query.before = after,
        EventOrder::OldestFirst => query.after = after,
    }
}

/// The same as the text that `read` reads; what ends with the page stands in `after`.
pub(crate) fn write(query: &EventQuery) -> String {
    let mut text = form_urlencoded::Serializer::new(String::new());
    let mut add = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            text.append_pair(name, value);
        }
    };
    let shown = |time: Option<Millis>| time.map(|time| time.to_string());
    add("webhook", query.webhook.as_deref());
    add("type", query.kind.as_deref());
    add("state", query.state.map(JobState::word));
    add("since", shown(query.since).as_deref());
    add("until", shown(query.until).as_deref());
    add("text", query.text.as_deref());
    let (order, after) = match query.order {
        EventOrder::NewestFirst => ("newest", query.before),
        EventOrder::OldestFirst => ("oldest", query.after),
    };
    add("order", Some(order));
    add("after", after.map(|id| id.to_string()).as_deref());
    add("limit", Some(&query.limit.to_string()));
    text.finish()
}

/// The text that asks for these.
pub(crate) fn write_ids(ids: &[EventId]) -> String {
    let mut text = String::new();
    for id in ids {
        let separator = if text.is_empty() { "" } else { "&" };
        // Writing to a String cannot fail.
        _ = write!(text, "{separator}id={id}");
    }
    text
}

/// The words of the states, for messages.
pub(crate) fn states() -> String {
    JobState::ALL.map(JobState::word).join(", ")
}

fn id(name: &str, value: &str) -> Result<EventId, String> {
    value.parse().map_err(|error| format!("`{name}`: {error}"))
}

fn short(name: &str, value: &str) -> Result<Box<str>, String> {
    if value.len() <= TEXT_BYTES_MAX {
        Ok(value.into())
    } else {
        Err(format!("`{name}` has at most {TEXT_BYTES_MAX} bytes"))
    }
}

fn time(name: &str, value: &str) -> Result<Millis, String> {
    let time = value.parse::<jiff::Timestamp>();
    time.map(|time| Millis(time.as_millisecond()))
        .map_err(|_| format!("`{name}` is a time such as `2026-01-31T12:00:00Z`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(query: &str) -> String {
        read(query).unwrap_err()
    }

    #[test]
    fn what_is_written_is_read_as_the_same() {
        let id: EventId = "evt_01h455vb4pex5vsknk084sn02q".parse().unwrap();
        for order in [EventOrder::NewestFirst, EventOrder::OldestFirst] {
            let mut query = EventQuery {
                webhook: Some("on:a&b".into()),
                kind: Some("user.*".into()),
                state: Some(JobState::Dead),
                since: Some(Millis(1_000)),
                until: Some(Millis(2_001)),
                text: Some("é = 1".into()),
                order,
                limit: 7,
                ..EventQuery::default()
            };
            go_on_after(&mut query, Some(id));
            let Wanted::Matching(again) = read(&write(&query)).unwrap() else { panic!("a list") };
            assert_eq!(format!("{again:?}"), format!("{query:?}"));
        }
        let Wanted::These(ids) = read(&write_ids(&[id, id])).unwrap() else { panic!("two ids") };
        assert_eq!(ids, [id, id]);
    }

    #[test]
    fn x4_what_cannot_be_meant_is_refused_with_what_may_stand_there() {
        assert_eq!(refused("state=lost"), format!("`state` is one of {}", states()));
        assert!(refused("since=yesterday").contains("2026-01-31T12:00:00Z"));
        assert!(refused("until=2026-13-01T00:00:00Z").contains("`until`"));
        assert_eq!(refused("order=up"), "`order` is `newest` or `oldest`");
        assert_eq!(refused("text="), "`text` has at least one letter");
        assert_eq!(refused(&format!("text={}", "x".repeat(1025))), "`text` has at most 1024 bytes");
        assert_eq!(refused(&format!("type={}", "*".repeat(1025))), "`type` has at most 1024 bytes");
        for limit in ["-1", "0", "abc", "", "1e3"] {
            assert_eq!(refused(&format!("limit={limit}")), "`limit` is a number from 1 on");
        }
        assert!(refused("after=x").starts_with("`after`: not an event id"));
        let one = "id=evt_01h455vb4pex5vsknk084sn02q";
        assert!(refused(&format!("{one}&limit=1")).contains("stands alone"));
        assert!(refused(&[one; 101].join("&")).contains("100 times"));
    }

    #[test]
    fn x4_a_limit_that_is_too_high_is_the_highest() {
        let Wanted::Matching(query) = read("limit=1000000000").unwrap() else { panic!("a list") };
        assert_eq!(query.limit, LIMIT_MAX);
    }
}
