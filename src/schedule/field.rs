//! The fields of a cron expression: which numbers each may hold, and how lists, ranges, steps and names become sets of numbers. What
//! cannot be read is refused with the field, the item and what may stand there.

use std::fmt;

use super::ScheduleError;

/// One of the five: what it is called and what may stand in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Field {
    /// As crontab(5) calls it.
    pub(super) name: &'static str,
    least: i8,
    most: i8,
    /// Other ways to write the numbers, from the smallest on.
    names: &'static [&'static str],
}

pub(super) const MINUTE: Field = Field { name: "minute", least: 0, most: 59, names: &[] };
pub(super) const HOUR: Field = Field { name: "hour", least: 0, most: 23, names: &[] };
pub(super) const DAY: Field = Field { name: "day-of-month", least: 1, most: 31, names: &[] };
pub(super) const MONTH: Field = Field {
    name: "month",
    least: 1,
    most: 12,
    names: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
};
/// Sunday may be written 0 or 7; a set holds it as 0.
pub(super) const WEEKDAY: Field = Field {
    name: "day-of-week",
    least: 0,
    most: 7,
    names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
};

/// Why an item of a field is refused, beside what may stand there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is neither a number of the field nor one of its names.
    Value,
    /// A range ends before it begins.
    Backwards,
    /// A step that is no number, is zero, or is wider than the field.
    Step,
    /// A step without a range to go through.
    StepOfOne,
    /// A letter or mark that only other dialects of cron know.
    Dialect,
}

/// Numbers from 0 to 63, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Set(u64);

impl Set {
    pub(super) fn has(self, number: i8) -> bool {
        (0..64).contains(&number) && self.0 >> number & 1 == 1
    }

    /// The smallest number in it that is not below the given one.
    pub(super) fn first_from(self, number: i8) -> Option<i8> {
        (number..64).find(|number| self.has(*number))
    }

    fn insert(&mut self, number: i8) {
        self.0 |= 1 << number;
    }
}

impl Field {
    /// Every number that it may hold.
    pub(super) fn numbers(&self) -> impl Iterator<Item = i8> {
        self.least..=self.most
    }

    /// A list of items: `*`, `5`, `1-5`, each range with or without `/2`.
    pub(super) fn read(&'static self, text: &str) -> Result<Set, ScheduleError> {
        let mut set = Set::default();
        for item in text.split(',') {
            self.read_item(item, &mut set).map_err(|fault| ScheduleError::Field {
                field: self,
                item: item.to_owned(),
                fault,
            })?;
        }
        Ok(set)
    }

    fn read_item(&self, item: &str, set: &mut Set) -> Result<(), Fault> {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(self.step(step)?)),
            None => (item, None),
        };
        let (first, last) = match range.split_once('-') {
            // A second Sunday would count as a step of its own.
            None if range == "*" => (self.least, self.most - i8::from(self.is_weekday())),
            None if step.is_some() => {
                self.number(range)?;
                return Err(Fault::StepOfOne);
            }
            None => (self.number(range)?, self.number(range)?),
            Some((first, last)) => (self.number(first)?, self.last(last)?),
        };
        if first > last {
            return Err(Fault::Backwards);
        }
        for number in (first..=last).step_by(step.unwrap_or(1)) {
            set.insert(if self.is_weekday() { number % 7 } else { number });
        }
        Ok(())
    }

    /// The end of a range: a week may end with its Sunday.
    fn last(&self, text: &str) -> Result<i8, Fault> {
        let number = self.number(text)?;
        Ok(if self.is_weekday() && text.eq_ignore_ascii_case("SUN") { 7 } else { number })
    }

    fn number(&self, text: &str) -> Result<i8, Fault> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let number = match named.and_then(|position| i8::try_from(position).ok()) {
            Some(position) => Some(self.least + position),
            None if is_digits(text) => text.parse().ok(),
            None => None,
        };
        match number {
            Some(number) if self.numbers().any(|known| known == number) => Ok(number),
            _ if is_dialect(text) => Err(Fault::Dialect),
            _ => Err(Fault::Value),
        }
    }

    fn step(&self, text: &str) -> Result<usize, Fault> {
        let widest = usize::try_from(self.most).unwrap_or(0);
        match text.parse() {
            Ok(step) if is_digits(text) && (1..=widest).contains(&step) => Ok(step),
            _ => Err(Fault::Step),
        }
    }

    fn is_weekday(&self) -> bool {
        self.name == WEEKDAY.name
    }
}

/// Without the sign that `parse` would take.
fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `?`, `L`, `15W`, `5L`, `5#2`: of Quartz and its kin.
fn is_dialect(text: &str) -> bool {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    matches!(rest, "?" | "L" | "W" | "LW") || rest.starts_with('#')
}

/// "hour takes numbers from 0 to 23, ranges (`9-17`), …": what may stand there.
impl fmt::Display for Field {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, least, most, names } = self;
        write!(formatter, "{name} takes `*`, numbers from {least} to {most}")?;
        if let (Some(first), Some(last)) = (names.first(), names.last()) {
            write!(formatter, ", names from `{first}` to `{last}`")?;
        }
        if self.is_weekday() {
            write!(formatter, " (0, 7 and `SUN` are Sunday)")?;
        }
        write!(formatter, ", ranges (`1-5`), steps (`*/2`, `1-5/2`) and lists of these (`1,3,5`)")
    }
}

/// What is wrong with an item, and what to write where that can be said.
impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Value => "which it cannot mean",
            Self::Backwards => "a range that ends before it begins; write it as two, such as `22-23,0-5`",
            Self::Step => "whose step is no whole number from 1 up to the width of the field; what repeats across hours or days is an interval, such as `90m`",
            Self::StepOfOne => "a step without a range; write where it ends, such as `5-59/15`",
            Self::Dialect => "which only other dialects of cron know",
        })
    }
}
