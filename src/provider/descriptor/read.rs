//! From a text to a descriptor as written. Everything that is wrong is told, each with its place: what cannot be used is taken out and the
//! rest is read again, as with config.toml.

use std::ops::Range;
use std::sync::Arc;

use serde::Deserialize;
use toml::de::{DeTable, Deserializer};

use super::Descriptor;
use super::build::build;
use super::file::File;
use crate::config::{quoted, take_out};
use crate::frame::{Frame, Place, nearest};

/// After so many problems more help nobody.
const PROBLEMS_MAX: usize = 50;

/// What is found on the way.
pub(super) struct Report {
    path: String,
    source: Arc<str>,
    pub(super) problems: Vec<Frame>,
}

impl Report {
    /// Whether something was taken out of there: nothing is missed in it.
    pub(super) fn is_torn(&self, span: &Range<usize>) -> bool {
        let inside = |frame: &Frame| {
            frame.place.as_ref().is_some_and(|place| span.contains(&place.span.start))
        };
        self.problems.iter().any(inside)
    }

    /// Something that is wrong there.
    pub(super) fn problem(
        &mut self,
        code: &'static str,
        title: impl Into<String>,
        span: Range<usize>,
        label: impl Into<String>,
    ) -> &mut Frame {
        let (path, source) = (self.path.clone(), Arc::clone(&self.source));
        let place = Place { path, source, span, label: label.into() };
        self.problems.push(Frame::error(code, title).at(place));
        self.problems.last_mut().expect("it was pushed just now")
    }
}

/// The descriptor in a text; what it leaves open is as in `base`.
pub(super) fn read(
    path: &str,
    text: &str,
    base: Option<&Descriptor>,
) -> Result<Descriptor, Vec<Frame>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut report = Report { path: path.to_owned(), source: text.into(), problems: Vec::new() };
    let descriptor = parse(text, &mut report).map(|file| build(file, base, &mut report));
    let mut problems = report.problems;
    match descriptor {
        Some(descriptor) if problems.is_empty() => Ok(descriptor),
        _ => {
            problems.sort_by_key(|frame| frame.place.as_ref().map(|place| place.span.start));
            problems.truncate(PROBLEMS_MAX);
            Err(problems)
        }
    }
}

fn parse(text: &str, report: &mut Report) -> Option<File> {
    let (mut table, errors) = DeTable::parse_recoverable(text);
    if let Some(error) = errors.first() {
        let span = error.span().unwrap_or(text.len()..text.len());
        report.problem("E0103", "this is not TOML", span, error.message());
        return None;
    }
    loop {
        let error = match File::deserialize(Deserializer::from(table.clone())) {
            Ok(file) => return Some(file),
            Err(error) => error,
        };
        let span = error.span().unwrap_or(0..0);
        let taken = take_out(table.get_mut(), &span);
        explain(report, error.message(), span, taken.as_deref().unwrap_or_default());
        if taken.is_none() || report.problems.len() > PROBLEMS_MAX {
            return None;
        }
    }
}

/// What serde said, in our words.
fn explain(report: &mut Report, message: &str, span: Range<usize>, way: &[String]) {
    let (key, table) = way.split_last().map_or(("", way), |(key, table)| (key.as_str(), table));
    let table = match table {
        [] => "the file".to_owned(),
        [operations, name, ..] if operations == "operations" => format!("`{}`", quoted(name)),
        table => format!("[{}]", quoted(&table.join("."))),
    };
    if let Some((_, known)) = message.split_once(", expected ").filter(|_| is_unknown(message)) {
        let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
        let label = nearest(key, known.iter().copied())
            .map_or_else(String::new, |known| format!("did you mean `{known}`?"));
        let title = format!("{table} has no key `{}`", quoted(key));
        let frame = report.problem("E0101", title, span, label);
        frame.help.push(format!("{table} has: {}", known.join(", ")));
        return;
    }
    let label = match message.rsplit_once(", expected ") {
        Some((_, "a sequence")) => "this must be a list, as in `[\"a\", \"b\"]`".to_owned(),
        Some((_, "a string")) => "this must be text in quotes".to_owned(),
        Some((_, rest)) if rest.starts_with("struct ") || rest == "a map" => {
            "this must be a table, as in `{ key = \"value\" }`".to_owned()
        }
        Some((_, rest)) => format!("this must be {rest}"),
        None => message.to_owned(),
    };
    let title = format!("`{}` in {table} has the wrong type", quoted(key));
    report.problem("E0102", title, span, label);
}

fn is_unknown(message: &str) -> bool {
    message.starts_with("unknown field")
}
