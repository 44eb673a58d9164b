//! A cron expression of five fields and the calendar days and minutes that it names. It knows wall clocks only: what a time zone makes
//! of them is for the module above. Read as crontab(5) of Vixie's cron has it, and refused where that would run at no time or at
//! another one than the writer meant.

use jiff::ToSpan;
use jiff::civil::{Date, DateTime};

use super::ScheduleError;
use super::field::{DAY, HOUR, MINUTE, MONTH, Set, WEEKDAY};

/// What the five fields say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cron {
    minutes: Set,
    hours: Set,
    days: Set,
    months: Set,
    weekdays: Set,
    /// Both days are restricted: one of them is enough.
    either_day: bool,
}

/// Reads an expression of five fields, or a nickname such as `@daily`.
pub(super) fn parse(expression: &str) -> Result<Cron, ScheduleError> {
    let expression = match expression.strip_prefix('@') {
        Some(nickname) => nicknamed(nickname).ok_or(ScheduleError::Nickname)?,
        None => expression,
    };
    let fields: Vec<&str> = expression.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = fields[..] else {
        return Err(match fields.len() {
            6 => ScheduleError::SixFields,
            count => ScheduleError::Fields { count },
        });
    };
    let cron = Cron {
        minutes: MINUTE.read(minute)?,
        hours: HOUR.read(hour)?,
        days: DAY.read(day)?,
        months: MONTH.read(month)?,
        weekdays: WEEKDAY.read(weekday)?,
        either_day: !day.contains('*') && !weekday.contains('*'),
    };
    if !cron.either_day && !cron.has_a_day() {
        return Err(ScheduleError::NoSuchDay { day: day.to_owned(), month: month.to_owned() });
    }
    Ok(cron)
}

fn nicknamed(name: &str) -> Option<&'static str> {
    Some(match name {
        "hourly" => "0 * * * *",
        "daily" | "midnight" => "0 0 * * *",
        "weekly" => "0 0 * * 0",
        "monthly" => "0 0 1 * *",
        "yearly" | "annually" => "0 0 1 1 *",
        _ => return None,
    })
}

/// How far ahead a day is looked for. The rarest one that an expression can name is 29 February on a Sunday (`0 0 29 2 */7`): every
/// 28 years, and after 40 across a century that has no leap day.
const YEARS_AHEAD: i16 = 40;

impl Cron {
    /// Whether it runs in each hour of the day, so that no single hour is meant.
    pub(super) fn is_hourly(&self) -> bool {
        HOUR.numbers().all(|hour| self.hours.has(hour))
    }

    /// The first minute at or after `from` that matches; its seconds are 0.
    pub(super) fn first_from(&self, from: DateTime) -> Option<DateTime> {
        let mut date = from.date();
        let mut time = (from.hour(), from.minute());
        if from.second() > 0 || from.subsec_nanosecond() > 0 {
            let next = from.checked_add(1.minute()).ok()?;
            (date, time) = (next.date(), (next.hour(), next.minute()));
        }
        let last_year = date.year().saturating_add(YEARS_AHEAD);
        while date.year() <= last_year {
            if !self.months.has(date.month()) {
                date = date.last_of_month().tomorrow().ok()?;
            } else if self.has_day(date)
                && let Some((hour, minute)) = self.time_from(time)
            {
                return Some(date.at(hour, minute, 0, 0));
            } else {
                date = date.tomorrow().ok()?;
            }
            time = (0, 0);
        }
        None
    }

    fn has_day(&self, date: Date) -> bool {
        let day = self.days.has(date.day());
        let weekday = self.weekdays.has(date.weekday().to_sunday_zero_offset());
        if self.either_day { day || weekday } else { day && weekday }
    }

    /// The first hour and minute of a day at or after the given ones.
    fn time_from(&self, (hour, minute): (i8, i8)) -> Option<(i8, i8)> {
        if self.hours.has(hour)
            && let Some(minute) = self.minutes.first_from(minute)
        {
            return Some((hour, minute));
        }
        Some((self.hours.first_from(hour + 1)?, self.minutes.first_from(0)?))
    }

    /// Whether any year has one of the days in one of the months.
    fn has_a_day(&self) -> bool {
        // A leap year, so that 29 February is one.
        let longest = |month| Date::new(2024, month, 1).map_or(0, Date::days_in_month);
        let first = self.days.first_from(1).unwrap_or(i8::MAX);
        MONTH.numbers().any(|month| self.months.has(month) && first <= longest(month))
    }
}
