//! What events are narrowed by on the command line, for `events` and `replay` alike, and how times are written there.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::admin::query::{TEXT_BYTES_MAX, states};
use crate::clock::{self, Millis};
use crate::store::{EventQuery, JobState};
use crate::units;

/// All of it must hold of an event.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Narrow {
    /// Only of this webhook (`on:TOPIC`: what scripts emit)
    #[arg(long, value_name = "NAME", value_parser = short)]
    webhook: Option<String>,
    /// Only of this type; `*` is any run of characters
    #[arg(long = "type", value_name = "PATTERN", value_parser = short)]
    kind: Option<String>,
    /// Only events in this state
    #[arg(long, value_parser = state)]
    pub(super) state: Option<JobState>,
    /// Received then or later: time, date (UTC), or ago (2h)
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Millis>,
    /// Received before: time, date (UTC), or ago (2h)
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Millis>,
    /// Only events with this text somewhere in their payload
    #[arg(long, value_name = "TEXT", value_parser = text)]
    text: Option<String>,
}

impl Narrow {
    /// Whether nothing was said, so that every event is meant.
    pub(super) fn is_nothing(&self) -> bool {
        self.arguments().is_empty()
    }

    /// The same, and none that is received from `end` on.
    pub(super) fn until(self, end: Millis) -> Self {
        Self { until: Some(self.until.map_or(end, |until| until.min(end))), ..self }
    }

    /// The question, its order and its page left open.
    pub(super) fn query(&self) -> EventQuery {
        EventQuery {
            webhook: self.webhook.as_deref().map(Into::into),
            kind: self.kind.as_deref().map(Into::into),
            state: self.state,
            since: self.since,
            until: self.until,
            text: self.text.as_deref().map(Into::into),
            ..EventQuery::default()
        }
    }

    /// As arguments that mean the same at any later time.
    pub(super) fn arguments(&self) -> Vec<String> {
        let shown = |time: Option<Millis>| time.map(|time| time.to_string());
        let options = [
            ("--webhook", self.webhook.clone()),
            ("--type", self.kind.clone()),
            ("--state", self.state.map(|state| state.to_string())),
            ("--since", shown(self.since)),
            ("--until", shown(self.until)),
            ("--text", self.text.clone()),
        ];
        let said = options.into_iter().filter_map(|(name, value)| Some([name.to_owned(), value?]));
        said.flatten().collect()
    }
}

fn state(word: &str) -> Result<JobState, String> {
    JobState::from_word(word).ok_or_else(|| format!("the states are {}", states()))
}

fn short(value: &str) -> Result<String, String> {
    if value.len() <= TEXT_BYTES_MAX {
        Ok(value.to_owned())
    } else {
        Err(format!("it has at most {TEXT_BYTES_MAX} bytes"))
    }
}

fn text(value: &str) -> Result<String, String> {
    if value.is_empty() { Err("it has at least one letter".to_owned()) } else { short(value) }
}

fn time(text: &str) -> Result<Millis, String> {
    time_at(text, clock::now())
}

/// A time as people write it; without an offset it is UTC, as everything that is printed.
fn time_at(text: &str, now: Millis) -> Result<Millis, String> {
    let text = text.trim();
    if let Ok(ago) = units::parse_duration(text) {
        return Ok(Millis(
            now.0.saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)),
        ));
    }
    let in_utc = |time: DateTime| time.to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp());
    text.parse::<Timestamp>()
        .or_else(|_| text.parse::<DateTime>().and_then(in_utc))
        .map(|time| Millis(time.as_millisecond()))
        .map_err(|_| {
            "write a time (`2026-01-31T12:00:00Z`), a date (`2026-01-31`) or how long ago (`2h`)"
                .to_owned()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_a_time_a_date_or_how_long_ago() {
        let now = time_at("2026-01-31T12:00:00Z", Millis(0)).unwrap();
        let check = |text: &str, expected: &str| {
            assert_eq!(time_at(text, now).unwrap().to_string(), expected, "{text}")
        };
        check("2026-01-31T12:00:00+02:00", "2026-01-31T10:00:00.000Z");
        check("2026-01-31T12:00:00.250Z", "2026-01-31T12:00:00.250Z");
        check("2026-01-31", "2026-01-31T00:00:00.000Z");
        check("2026-01-31T10:30", "2026-01-31T10:30:00.000Z");
        check("2026-01-31 10:30:05", "2026-01-31T10:30:05.000Z");
        check("2h", "2026-01-31T10:00:00.000Z");
        check("30d", "2026-01-01T12:00:00.000Z");
        for wrong in ["", "yesterday", "2", "2026-13-01", "-2h", "2026-01-31T25:00:00Z"] {
            assert!(time_at(wrong, now).unwrap_err().contains("how long ago"), "{wrong}");
        }
    }

    #[test]
    fn what_was_said_is_said_again_in_words_that_do_not_change() {
        let narrow = Narrow {
            kind: Some("user.*".to_owned()),
            state: Some(JobState::Dead),
            since: Some(Millis(0)),
            ..Narrow::default()
        };
        let expected =
            ["--type", "user.*", "--state", "dead", "--since", "1970-01-01T00:00:00.000Z"];
        assert_eq!(narrow.arguments(), expected);
        assert!(!narrow.is_nothing() && Narrow::default().is_nothing());
    }
}
