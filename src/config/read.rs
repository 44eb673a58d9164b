//! From a file to configuration as written: bytes, text, TOML, filled from the environment, structs. Everything that is wrong is
//! collected, not only the first thing: what cannot be used is taken out and the rest is read again.

use std::fs;
use std::io::{ErrorKind, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use thiserror::Error;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::file::{self, File, TABLES};
use super::secret::mask;
use crate::frame::{Frame, Place, nearest};
use crate::units::print_size;

/// A configuration is written by people: what is larger is not one.
const BYTES_MAX: u64 = 1 << 20;
/// After so many problems more help nobody.
const PROBLEMS_MAX: usize = 50;
/// One mistake in the syntax makes others that are none.
const SYNTAX_PROBLEMS_MAX: usize = 5;

/// What is found on the way from text to meaning.
pub(super) struct Report {
    pub(super) path: String,
    /// The text as frames show it: where a secret's value stands in it, there are stars.
    pub(super) source: Arc<str>,
    pub(super) problems: Vec<Frame>,
    /// What works but deserves a word.
    pub(super) notes: Vec<Frame>,
    /// Tables out of which something was taken: nothing is missed in them.
    pub(super) torn: Vec<Vec<String>>,
}

impl Report {
    pub(super) fn new(path: &Path, text: &str) -> Self {
        Self {
            path: path.display().to_string(),
            source: mask(text).into(),
            problems: Vec::new(),
            notes: Vec::new(),
            torn: Vec::new(),
        }
    }

    /// A place in this file.
    pub(super) fn place(&self, span: Range<usize>, label: impl Into<String>) -> Place {
        let source = Arc::clone(&self.source);
        Place { path: self.path.clone(), source, span, label: label.into() }
    }

    /// Hides a value in every frame from now on. The length stays, so that places do.
    pub(super) fn hide(&mut self, span: Range<usize>) {
        let mut text = self.source.to_string();
        let Some(value) = text.get(span.clone()) else { return };
        let stars =
            value.bytes().map(|byte| if byte == b'\n' { '\n' } else { '*' }).collect::<String>();
        text.replace_range(span, &stars);
        self.source = text.into();
    }

    /// All problems, in the order of the file; there is at least one.
    pub(super) fn into_problems(mut self) -> Vec<Frame> {
        let path = self.path;
        self.problems.sort_by_key(|frame| {
            frame.place.as_ref().map(|place| (place.path != path, place.span.start))
        });
        let more = self.problems.len().saturating_sub(PROBLEMS_MAX);
        self.problems.truncate(PROBLEMS_MAX);
        if let (1.., Some(last)) = (more, self.problems.last_mut()) {
            last.notes.push(format!("{more} more problems are not shown"));
        }
        self.problems
    }
}

/// Why there is no text.
#[derive(Debug, Error)]
pub(super) enum Unreadable {
    #[error("there is no such file")]
    Missing,
    #[error("it is a link to `{0}`, which does not exist")]
    Dangling(String),
    #[error("it is a folder")]
    Folder,
    #[error("it is not a regular file")]
    NotAFile,
    #[error("you may not read it")]
    Forbidden,
    #[error("it is larger than {}", print_size(*.0))]
    TooLarge(u64),
    #[error("it is not UTF-8 from byte {valid} on")]
    NotUnicode {
        /// Bytes before the first that is wrong.
        valid: usize,
        /// The text with U+FFFD for what is wrong.
        lossy: String,
    },
    #[error("{0}")]
    Other(std::io::Error),
}

impl Unreadable {
    /// For people. Shows no line: it may be one of a file of variables.
    pub(super) fn frame(&self, path: &Path) -> Frame {
        let shown = path.display();
        let frame = Frame::error("E0104", format!("`{shown}` cannot be read: {self}"));
        match self {
            Self::Missing | Self::Dangling(_) => {
                frame.help("name another file with `--config PATH`")
            }
            Self::Folder => frame.help(format!(
                "name the file itself: `--config {}`",
                path.join("config.toml").display()
            )),
            Self::NotUnicode { .. } => frame.help("save it as UTF-8"),
            Self::NotAFile | Self::Forbidden | Self::TooLarge(_) | Self::Other(_) => frame,
        }
    }

    /// For people, with the line where there is one.
    pub(super) fn frame_with_line(&self, path: &Path) -> Frame {
        let frame = self.frame(path);
        let Self::NotUnicode { valid, lossy } = self else { return frame };
        let wrong = *valid..valid + char::REPLACEMENT_CHARACTER.len_utf8();
        frame.at(Report::new(path, lossy).place(wrong, "here"))
    }
}

/// The text of a file that people write, without a byte order mark.
pub(super) fn read_text(path: &Path) -> Result<String, Unreadable> {
    read_bounded(path, BYTES_MAX)
}

/// The text of a regular file, without a byte order mark. Nothing else is opened: a pipe would be waited for.
pub(super) fn read_bounded(path: &Path, bytes_max: u64) -> Result<String, Unreadable> {
    let metadata = fs::metadata(path).map_err(|error| match fs::read_link(path) {
        Ok(target) if error.kind() == ErrorKind::NotFound => {
            Unreadable::Dangling(target.display().to_string())
        }
        _ => Unreadable::from(error),
    })?;
    if metadata.is_dir() {
        return Err(Unreadable::Folder);
    }
    if !metadata.is_file() {
        return Err(Unreadable::NotAFile);
    }
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(Unreadable::TooLarge(bytes_max));
    }
    let mut text = String::from_utf8(bytes).map_err(|error| Unreadable::NotUnicode {
        valid: error.utf8_error().valid_up_to(),
        lossy: String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })?;
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    Ok(text)
}

impl From<std::io::Error> for Unreadable {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound => Self::Missing,
            ErrorKind::PermissionDenied => Self::Forbidden,
            _ => Self::Other(error),
        }
    }
}

/// The TOML of a text; what is no TOML becomes problems.
pub(super) fn parse<'a>(text: &'a str, report: &mut Report) -> Option<Spanned<DeTable<'a>>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Some(table);
    }
    for error in errors.iter().take(SYNTAX_PROBLEMS_MAX) {
        let span = error.span().unwrap_or(text.len()..text.len());
        let label = error.message().trim_end_matches(", expected nothing");
        let frame = Frame::error("E0103", "this is not TOML");
        report.problems.push(match bare_value(text, span.start) {
            Some(value) => frame
                .at(report.place(value, label))
                .help("text stands in quotes: `name = \"text\"`"),
            None => frame.at(report.place(span, label)),
        });
    }
    None
}

/// `timeout = 5 minutes`: the value that would be fine with quotes, if the fault at this offset is inside one.
fn bare_value(text: &str, offset: usize) -> Option<Range<usize>> {
    let offset = text.floor_char_boundary(offset);
    let start = text[..offset].rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[start..].lines().next().unwrap_or("");
    let (before, after) = line.split_once('=')?;
    let value = after.trim();
    let from = start + before.len() + 1 + after.find(value).unwrap_or(0);
    let is_bare = !value.is_empty() && !value.contains(['"', '\'', '[', '{', '#']);
    (is_bare && from <= offset).then(|| from..from + value.len())
}

/// As written, without what is unknown or has no place to go: that becomes problems.
pub(super) fn read_file(mut table: Spanned<DeTable<'_>>, report: &mut Report) -> File {
    let mut lists = Vec::new();
    lists_for_tables(table.get_ref(), &mut Vec::new(), &mut lists);
    for span in lists {
        let taken = take_out(table.get_mut(), &span);
        report.problems.push(explain(report, "a list, expected a map", span, taken.as_deref()));
    }
    loop {
        let error = match File::deserialize(Deserializer::from(table.clone())) {
            Ok(file) => return file,
            Err(error) => error,
        };
        let span = error.span().unwrap_or(0..0);
        let taken = take_out(table.get_mut(), &span);
        report.problems.push(explain(report, error.message(), span, taken.as_deref()));
        let Some(path) = taken else { return File::default() };
        report.torn.push(path[..path.len().saturating_sub(1)].to_vec());
        if report.problems.len() > PROBLEMS_MAX {
            return File::default();
        }
    }
}

/// Lists where tables belong: serde would take their values for those of the fields, one by one.
fn lists_for_tables(table: &DeTable<'_>, path: &mut Vec<String>, found: &mut Vec<Range<usize>>) {
    for (key, value) in table {
        path.push(key.get_ref().to_string());
        match value.get_ref() {
            DeValue::Array(_) if file::keys(path).is_some() => found.push(value.span()),
            DeValue::Table(inner) => lists_for_tables(inner, path, found),
            _ => {}
        }
        path.pop();
    }
}

/// What serde said, in our words.
fn explain(report: &Report, message: &str, span: Range<usize>, path: Option<&[String]>) -> Frame {
    let (table, key) = match path {
        Some([table @ .., key]) => (table, key.as_str()),
        Some([]) | None => return Frame::error("E0102", message).at(report.place(span, "")),
    };
    if message.starts_with("unknown field")
        && let Some(keys) = file::keys(table)
    {
        return unknown_key(report, span, table, key, keys);
    }
    // "invalid type: integer `5`, expected a sequence": what was written is not repeated, it may come from the environment.
    let expected = match message.rsplit_once(", expected ") {
        Some((_, "a sequence")) => "this must be a list, as in `[\"a\", \"b\"]`".to_owned(),
        Some((_, rest)) if rest.starts_with("struct ") || rest == "a map" => match table {
            [] if key == "webhooks" => "this must be a table, as in `[webhooks.NAME]`".to_owned(),
            [] => format!("this must be a table, as in `[{}]`", quoted(key)),
            _ => "this must be a table, as in `{ key = \"value\" }`".to_owned(),
        },
        Some((_, "a string")) => "this must be text in quotes".to_owned(),
        Some((_, rest)) => format!("this must be {rest}"),
        None => message.to_owned(),
    };
    Frame::error("E0102", format!("`{}` in {} has the wrong type", quoted(key), table_name(table)))
        .at(report.place(span, expected))
}

fn unknown_key(
    report: &Report,
    span: Range<usize>,
    table: &[String],
    key: &str,
    keys: &'static [&'static str],
) -> Frame {
    let what = if table.is_empty() { "table" } else { "key" };
    let label = nearest(key, keys.iter().copied())
        .map_or_else(String::new, |known| format!("did you mean `{known}`?"));
    let frame =
        Frame::error("E0101", format!("{} has no {what} `{}`", table_name(table), quoted(key)));
    let frame = frame.at(report.place(span, label)).help(format!(
        "{} has: {}",
        table_name(table),
        keys.join(", ")
    ));
    let elsewhere: Vec<&str> = TABLES
        .iter()
        .filter(|(path, _)| {
            let path: Vec<String> = path.iter().map(|part| (*part).to_owned()).collect();
            path.len() != table.len() || path.first() != table.first()
        })
        .filter(|(path, _)| {
            let path: Vec<String> = path.iter().map(|part| (*part).to_owned()).collect();
            file::keys(&path).is_some_and(|keys| keys.contains(&key))
        })
        .map(|(_, shown)| *shown)
        .collect();
    if elsewhere.is_empty() {
        frame
    } else {
        frame.help(format!("`{key}` belongs to {}", elsewhere.join(", ")))
    }
}

/// `[server]`, `[webhooks.clerk]`, `retry of [webhooks.clerk]`.
pub(super) fn table_name(path: &[String]) -> String {
    match path {
        [] => "the file".to_owned(),
        [tables, name, rest @ ..]
            if ["webhooks", "providers"].contains(&tables.as_str()) && !rest.is_empty() =>
        {
            format!("{} of [{tables}.{}]", rest.join("."), quoted(name))
        }
        path => format!("[{}]", quoted(&path.join("."))),
    }
}

/// A name that somebody wrote, cut to what a message can hold.
pub(super) fn quoted(name: &str) -> String {
    const CHARACTERS_MAX: usize = 60;
    if name.chars().count() <= CHARACTERS_MAX {
        return name.to_owned();
    }
    let start: String = name.chars().take(CHARACTERS_MAX).collect();
    format!("{start}…")
}

/// Takes out the key or the value that stands at a span, and says where it was.
pub(super) fn take_out(table: &mut DeTable<'_>, span: &Range<usize>) -> Option<Vec<String>> {
    let exact = table.keys().find(|key| key.span() == *span).map(|key| key.get_ref().to_string());
    if let Some(key) = exact {
        table.remove(key.as_str());
        return Some(vec![key]);
    }
    let mut found = None;
    for (key, value) in table.iter_mut() {
        let whole = value.span();
        let inner = take_out_of(value.get_mut(), span);
        if let Some(mut path) = inner {
            path.insert(0, key.get_ref().to_string());
            return Some(path);
        }
        if found.is_none() && whole.start <= span.start && span.end <= whole.end {
            found = Some(key.get_ref().to_string());
        }
    }
    let key = found?;
    table.remove(key.as_str());
    Some(vec![key])
}

fn take_out_of(value: &mut DeValue<'_>, span: &Range<usize>) -> Option<Vec<String>> {
    match value {
        DeValue::Table(table) => take_out(table, span),
        DeValue::Array(items) => items.iter_mut().find_map(|item| match item.get_mut() {
            DeValue::Table(table) => take_out(table, span),
            _ => None,
        }),
        _ => None,
    }
}
