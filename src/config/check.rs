//! One value at a time: its type, its unit, its bounds. What is wrong is answered with what must stand there; a value that came from the
//! environment is not repeated.

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::{Spanned, Value};

use super::file::{List, Written};
use super::fill::Filled;
use super::read::{Report, quoted};
use crate::frame::{Frame, nearest};
use crate::units::{Kind, parse_duration, parse_size, print_duration, print_size};

/// The report, and the doors through which values come into it.
pub(super) struct Check<'a> {
    pub(super) report: &'a mut Report,
    pub(super) filled: &'a Filled,
}

/// Which key: "`max_body` in `[server]`".
#[derive(Clone, Copy)]
pub(super) struct Key<'a> {
    pub(super) table: &'a str,
    pub(super) name: &'a str,
}

impl Check<'_> {
    pub(super) fn duration(
        &mut self,
        key: Key<'_>,
        written: Option<&Written>,
        bounds: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let written = written?;
        let (least, most) = (print_duration(*bounds.start()), print_duration(*bounds.end()));
        let must = format!("a duration from {least} to {most}");
        let duration = self.unit(key, written, Kind::Duration, parse_duration, &must)?;
        if !bounds.contains(&duration) {
            return self.reject(
                key,
                written.span(),
                &must,
                format!("this is {}", print_duration(duration)),
            );
        }
        Some(duration)
    }

    pub(super) fn size(
        &mut self,
        key: Key<'_>,
        written: Option<&Written>,
        bounds: RangeInclusive<u64>,
    ) -> Option<u64> {
        let written = written?;
        let must =
            format!("a size from {} to {}", print_size(*bounds.start()), print_size(*bounds.end()));
        let size = self.unit(key, written, Kind::Size, parse_size, &must)?;
        if !bounds.contains(&size) {
            return self.reject(
                key,
                written.span(),
                &must,
                format!("this is {}", print_size(size)),
            );
        }
        Some(size)
    }

    fn unit<T, E: Display>(
        &mut self,
        key: Key<'_>,
        written: &Written,
        kind: Kind,
        parse: impl Fn(&str) -> Result<T, E>,
        must: &str,
    ) -> Option<T> {
        let read = match written.get_ref() {
            Value::String(text) => parse(text),
            // A number without quotes gets the answer that one in quotes gets: which unit?
            Value::Integer(number) => parse(&number.to_string()),
            other => {
                return self.reject(
                    key,
                    written.span(),
                    must,
                    format!("{}; write {kind}", this_is(other)),
                );
            }
        };
        match read {
            Ok(value) => Some(value),
            Err(error) => self.reject(key, written.span(), must, error.to_string()),
        }
    }

    pub(super) fn whole(
        &mut self,
        key: Key<'_>,
        written: Option<&Written>,
        bounds: RangeInclusive<u64>,
    ) -> Option<u64> {
        let written = written?;
        let must = format!("a whole number from {} to {}", bounds.start(), bounds.end());
        let number = match written.get_ref() {
            Value::Integer(number) => *number,
            Value::String(text) if self.filled.origin(&written.span()).is_some() => {
                match text.trim().parse::<i64>() {
                    Ok(number) => number,
                    Err(_) => return self.reject(key, written.span(), &must, String::new()),
                }
            }
            Value::String(text) if text.parse::<i64>().is_ok() => {
                let label = "this is text; write it without quotes".to_owned();
                return self.reject(key, written.span(), &must, label);
            }
            other => return self.reject(key, written.span(), &must, this_is(other)),
        };
        match u64::try_from(number) {
            Ok(number) if bounds.contains(&number) => Some(number),
            _ => self.reject(key, written.span(), &must, format!("this is {number}")),
        }
    }

    pub(super) fn flag(&mut self, key: Key<'_>, written: Option<&Written>) -> Option<bool> {
        let written = written?;
        match written.get_ref() {
            Value::Boolean(flag) => Some(*flag),
            Value::String(text)
                if self.filled.origin(&written.span()).is_some() && text == "true" =>
            {
                Some(true)
            }
            Value::String(text)
                if self.filled.origin(&written.span()).is_some() && text == "false" =>
            {
                Some(false)
            }
            other => {
                let label = match other.as_str() {
                    Some("true" | "false") => "this is text; write it without quotes".to_owned(),
                    _ => this_is(other),
                };
                self.reject(key, written.span(), "true or false", label)
            }
        }
    }

    pub(super) fn text<'w>(
        &mut self,
        key: Key<'_>,
        written: Option<&'w Written>,
        must: &str,
    ) -> Option<(&'w str, Range<usize>)> {
        let written = written?;
        match written.get_ref() {
            Value::String(text) => Some((text, written.span())),
            other => self.reject(key, written.span(), must, this_is(other)),
        }
    }

    pub(super) fn texts<'w>(
        &mut self,
        key: Key<'_>,
        written: Option<&'w List>,
        must: &str,
    ) -> Option<Vec<(&'w str, Range<usize>)>> {
        let items = written?.get_ref();
        Some(items.iter().filter_map(|item| self.text(key, Some(item), must)).collect())
    }

    /// One word of a few.
    pub(super) fn choice<'k>(
        &mut self,
        key: Key<'_>,
        written: Option<&Written>,
        known: &[&'k str],
    ) -> Option<&'k str> {
        let listed: Vec<String> = known.iter().map(|word| format!("`\"{word}\"`")).collect();
        let must = match listed.as_slice() {
            [one] => one.clone(),
            [one, two] => format!("{one} or {two}"),
            many => format!("one of {}", many.join(", ")),
        };
        let (text, span) = self.text(key, written, &must)?;
        let found = known.iter().find(|word| **word == text);
        match found {
            Some(word) => Some(word),
            None => {
                let label = nearest(text, known.iter().copied()).map_or_else(
                    || format!("this is `{}`", quoted(text)),
                    |word| format!("did you mean `{word}`?"),
                );
                self.reject(key, span, &must, label)
            }
        }
    }

    /// Notes that a value is wrong. What is said under it gives way where the value came from the environment.
    pub(super) fn reject<T>(
        &mut self,
        key: Key<'_>,
        span: Range<usize>,
        must: &str,
        label: impl Into<String>,
    ) -> Option<T> {
        let label = match self.filled.origin(&span) {
            Some(origin) => format!("this is filled from {origin}; its value is not shown"),
            None => label.into(),
        };
        let place = self.report.place(span, label);
        let title = format!("`{}` in {} must be {must}", key.name, key.table);
        self.report.problems.push(Frame::error("E0102", title).at(place));
        None
    }

    /// Notes that two keys do not go together, the second of which may be what the first was written for.
    pub(super) fn contradiction(
        &mut self,
        title: String,
        (span, label): (Range<usize>, &str),
        (other, other_label): (Range<usize>, &str),
    ) {
        let frame = Frame::error("E0108", title)
            .at(self.report.place(span, label))
            .also(self.report.place(other, other_label));
        self.report.problems.push(frame);
    }

    /// Notes that production does not allow something.
    pub(super) fn not_in_production(
        &mut self,
        title: String,
        span: Range<usize>,
        label: &str,
        help: &str,
    ) {
        let frame = Frame::error("E0109", title).at(self.report.place(span, label)).help(help);
        self.report.problems.push(frame);
    }
}

/// The span of what may be absent.
pub(super) fn span_of<T>(written: Option<&Spanned<T>>) -> Option<Range<usize>> {
    written.map(Spanned::span)
}

fn this_is(value: &Value) -> String {
    let what = match value {
        Value::String(_) => "text",
        Value::Integer(_) | Value::Float(_) => "a number",
        Value::Boolean(true) => "`true`",
        Value::Boolean(false) => "`false`",
        Value::Datetime(_) => "a date or time",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    };
    format!("this is {what}")
}
