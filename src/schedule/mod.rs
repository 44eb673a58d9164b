//! When `every` runs: an interval, or a cron expression in a time zone. Pure: it reads no clock, and the zones' rules are those that
//! were built into the binary, so that two machines never disagree.
//!
//! When clocks are changed, an expression runs neither twice nor never. One that names hours runs when the wall clock *first reaches or
//! passes* an occurrence: one whose local time is skipped (spring) runs at the end of the gap, one whose local time comes twice (autumn)
//! runs the first time only, and several that fall into one gap are one run. An expression that runs in every hour of the day means no
//! single hour: it follows real time, skips what the clock skips, and runs in both passes of an hour that comes twice.

use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan};
use thiserror::Error;

use crate::clock::Millis;
use crate::frame::nearest;
use crate::units::{self, UnitError};

use cron::Cron;
use field::{Fault, Field};

mod cron;
mod field;
#[cfg(test)]
mod tests;

/// Shorter intervals are loops, not schedules: each run is an event with its commits.
const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// A year that has a leap day. Beyond it an interval that counts from the last run drifts from what anybody remembers.
const INTERVAL_MAX: Duration = Duration::from_secs(366 * 86_400);
/// Lists of all minutes fit; an error repeats no more than this.
const EXPRESSION_BYTES_MAX: usize = 256;
/// The longest name of a zone has 32; no more of an unknown one is repeated.
const ZONE_CHARACTERS_MAX: usize = 64;

/// When something runs, again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Schedule(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Interval(Duration),
    Cron(Cron, TimeZone),
}

impl Schedule {
    /// Reads `5m`, `30 9 * * MON-FRI` or `@daily`; `zone` is an IANA name, and UTC where there is none.
    pub(crate) fn parse(expression: &str, zone: Option<&str>) -> Result<Self, ScheduleError> {
        if expression.len() > EXPRESSION_BYTES_MAX {
            return Err(ScheduleError::ExpressionTooLong);
        }
        let expression = expression.trim();
        if !is_cron(expression) {
            let interval = read_interval(expression)?;
            return match zone {
                Some(_) => Err(ScheduleError::ZoneOfInterval),
                None => Ok(Self(Kind::Interval(interval))),
            };
        }
        let cron = cron::parse(expression)?;
        let zone = zone.map_or(Ok(TimeZone::UTC), find_zone)?;
        Ok(Self(Kind::Cron(cron, zone)))
    }

    /// The first time strictly after `after`: for an interval that much later. `None` at the end of time.
    pub(crate) fn next_after(&self, after: Millis) -> Option<Millis> {
        let next = match &self.0 {
            Kind::Interval(interval) => after.plus(*interval),
            Kind::Cron(cron, zone) => {
                let after = timestamp(after)?;
                let next = if cron.is_hourly() {
                    next_in_real_time(cron, zone, after)
                } else {
                    next_by_wall_clock(cron, zone, after)
                };
                Millis(next?.as_millisecond())
            }
        };
        (next > after).then_some(next)
    }
}

/// Why there is no such schedule, and what to write.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum ScheduleError {
    /// One word that is no duration.
    #[error("{0}; a cron expression has five fields, such as `30 9 * * MON-FRI`")]
    Interval(UnitError),
    /// An interval below the least.
    #[error("an interval of less than {} is too short", units::print_duration(INTERVAL_MIN))]
    TooShort,
    /// An interval above the most.
    #[error(
        "an interval of more than {} is too long; a cron expression can name a date",
        units::print_duration(INTERVAL_MAX)
    )]
    TooLong,
    /// `tz` beside an interval.
    #[error(
        "an interval has no time zone; leave `tz` out, or write a cron expression such as `30 9 * * *`"
    )]
    ZoneOfInterval,
    /// More text than any schedule needs.
    #[error("a schedule has at most {EXPRESSION_BYTES_MAX} bytes")]
    ExpressionTooLong,
    /// `@reboot`, `@every 5m`.
    #[error(
        "the nicknames are `@hourly`, `@daily`, `@weekly`, `@monthly` and `@yearly`; an interval is written as `5m`"
    )]
    Nickname,
    /// Neither five nor six.
    #[error(
        "a cron expression has five fields (minute hour day-of-month month day-of-week), and here are {count}"
    )]
    Fields {
        /// How many there are.
        count: usize,
    },
    /// With seconds, as other dialects have them.
    #[error(
        "a cron expression has five fields (minute hour day-of-month month day-of-week), and here are six: leave the seconds out; what runs more often than each minute is an interval, such as `10s`"
    )]
    SixFields,
    /// A part of a field that cannot be read.
    #[error("the field {} holds `{item}`, {fault}; {field}", field.name)]
    Field {
        /// Which of the five.
        field: &'static Field,
        /// The part of its list that is at fault.
        item: String,
        /// What is wrong with it.
        fault: Fault,
    },
    /// All fields can be read, but together they name no date.
    #[error("no year has such a date: day-of-month `{day}` never comes in month `{month}`")]
    NoSuchDay {
        /// The field as written.
        day: String,
        /// The field as written.
        month: String,
    },
    /// A name that the database does not have.
    #[error("`{name}` is no time zone{}; write an IANA name such as `Europe/Berlin`", did_you_mean(nearest.as_deref()))]
    Zone {
        /// What was written, or its beginning.
        name: String,
        /// The known name that is most like it.
        nearest: Option<String>,
    },
}

fn did_you_mean(name: Option<&str>) -> String {
    name.map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default()
}

/// A cron expression rather than an interval, right or wrong.
fn is_cron(expression: &str) -> bool {
    expression.starts_with('@')
        || expression.contains('*')
        || expression.split_whitespace().count() > 2
}

fn read_interval(text: &str) -> Result<Duration, ScheduleError> {
    let interval = units::parse_duration(text).map_err(ScheduleError::Interval)?;
    if interval < INTERVAL_MIN {
        return Err(ScheduleError::TooShort);
    }
    if interval > INTERVAL_MAX {
        return Err(ScheduleError::TooLong);
    }
    Ok(interval)
}

fn find_zone(name: &str) -> Result<TimeZone, ScheduleError> {
    let database = TimeZoneDatabase::bundled();
    let is_known = database.available().any(|known| known.as_str().eq_ignore_ascii_case(name));
    let found = is_known.then(|| database.get(name).ok()).flatten();
    found.ok_or_else(|| ScheduleError::Zone {
        name: name.chars().take(ZONE_CHARACTERS_MAX).collect(),
        nearest: nearest_zone(&database, name),
    })
}

/// `Europe/Berlin` for `Berlin` and `Europe/Berln`.
fn nearest_zone(database: &TimeZoneDatabase, name: &str) -> Option<String> {
    let name = name.trim().replace(' ', "_");
    let known: Vec<_> = database.available().collect();
    // The signs of `Etc/GMT+2` and its kin are the other way round than anybody expects.
    let known =
        || known.iter().map(|name| name.as_str()).filter(|name| !name.starts_with("Etc/GMT"));
    let city = |name: &'_ str| name.rsplit('/').next().unwrap_or(name).to_owned();
    let cities: Vec<String> = known().map(city).collect();
    let by_city = || {
        let nearest = nearest(&city(&name), cities.iter().map(String::as_str))?;
        known().find(|known| city(known) == nearest)
    };
    let found =
        if name.contains('/') { nearest(&name, known()).or_else(by_city) } else { by_city() };
    found.map(str::to_owned)
}

/// The time as jiff has it. What lies before its years is as good as their beginning.
fn timestamp(Millis(millis): Millis) -> Option<Timestamp> {
    Timestamp::from_millisecond(millis.max(Timestamp::MIN.as_millisecond())).ok()
}

/// For expressions that name hours.
fn next_by_wall_clock(cron: &Cron, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
    let mut from = next_minute(zone.to_datetime(after))?;
    // In the second pass of an hour the wall clock shows what it has shown before: those occurrences are passed over.
    loop {
        let local = cron.first_from(from)?;
        let at = first_reached(zone, local)?;
        if at > after {
            return Some(at);
        }
        from = next_minute(local)?;
    }
}

/// When the wall clock first shows or passes this local time.
fn first_reached(zone: &TimeZone, local: DateTime) -> Option<Timestamp> {
    match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(local).ok(),
        AmbiguousOffset::Fold { before, .. } => before.to_timestamp(local).ok(),
        AmbiguousOffset::Gap { after, .. } => {
            // Seen from the offset that holds after the gap, the time lies before the change that made the gap.
            let ahead = after.to_timestamp(local).ok()?;
            zone.following(ahead).next().map(|change| change.timestamp())
        }
    }
}

/// For expressions that run in every hour of the day: from one change of the zone's offset to the next.
fn next_in_real_time(cron: &Cron, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
    let mut offset = zone.to_offset(after);
    let mut from = next_minute(offset.to_datetime(after))?;
    let mut changes = zone.following(after);
    loop {
        let at = offset.to_timestamp(cron.first_from(from)?).ok()?;
        match changes.next() {
            Some(change) if at >= change.timestamp() => {
                offset = change.offset();
                from = offset.to_datetime(change.timestamp());
            }
            _ => return Some(at),
        }
    }
}

/// The first whole minute after this time.
fn next_minute(time: DateTime) -> Option<DateTime> {
    time.date().at(time.hour(), time.minute(), 0, 0).checked_add(1.minute()).ok()
}
