//! `"${NAME}"` and `"${NAME:-default}"` in the texts of config.toml, filled from the environment, so that one file serves every
//! stage. `$${` is a plain `${`. Names of secret variables are left alone; what came from the environment is never repeated in a message.

use std::borrow::Cow;
use std::ops::Range;

use thiserror::Error;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Variable;
use super::env::{Source, Variables, is_variable_name};
use super::read::{Report, take_out};
use super::secret::is_value;
use crate::frame::Frame;

/// What the environment gave to this file.
#[derive(Default)]
pub(super) struct Filled {
    /// Values that are no longer what is written, and what they were made of.
    values: Vec<(Range<usize>, String)>,
    /// Every variable that was asked for.
    pub(super) variables: Vec<Variable>,
}

impl Filled {
    /// Where a value came from, if not from the file: "`PORT` (`.env`)".
    pub(super) fn origin(&self, span: &Range<usize>) -> Option<&str> {
        let found = self.values.iter().find(|(filled, _)| filled == span);
        found.map(|(_, origin)| origin.as_str())
    }
}

/// Fills all texts of the table; what cannot be filled becomes a problem and is taken out.
pub(super) fn fill(
    table: &mut Spanned<DeTable<'_>>,
    environment: &Variables,
    development: bool,
    report: &mut Report,
) -> Filled {
    let mut walk = Walk { environment, development, filled: Filled::default(), failed: Vec::new() };
    walk.table(table.get_mut(), &mut Vec::new(), report);
    for (span, error) in walk.failed {
        report.problems.push(explain(report, environment, span.clone(), &error));
        if let Some(mut path) = take_out(table.get_mut(), &span) {
            path.pop();
            report.torn.push(path);
        }
    }
    walk.filled
}

/// Why a text cannot be filled.
#[derive(Debug, PartialEq, Eq, Error)]
pub(super) enum FillError {
    #[error("`${{` has no `}}`")]
    Unclosed,
    #[error("`{0}` is not the name of a variable")]
    BadName(String),
    #[error("`${{` cannot stand inside a default")]
    Nested,
    #[error("`{0}` is not set")]
    Unset(String),
    #[error("`{0}` is not UTF-8")]
    NotUnicode(String),
}

/// The text with its variables filled in; the same one where there are none. `find` gives a variable's value.
pub(super) fn expand<'a>(
    text: &str,
    mut find: impl FnMut(&str, bool) -> Result<Option<&'a str>, FillError>,
) -> Result<Option<String>, FillError> {
    let Some(mut start) = text.find("${") else { return Ok(None) };
    let mut rest = text;
    let mut filled = String::new();
    loop {
        let (before, from) = rest.split_at(start);
        let after = &from[2..];
        if let Some(before) = before.strip_suffix('$') {
            filled.push_str(before);
            filled.push_str("${");
            rest = after;
        } else {
            filled.push_str(before);
            let (inside, after) = after.split_once('}').ok_or(FillError::Unclosed)?;
            let (name, default) = match inside.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (inside, None),
            };
            if !is_variable_name(name) {
                return Err(FillError::BadName(name.chars().take(60).collect()));
            }
            if default.is_some_and(|default| default.contains("${")) {
                return Err(FillError::Nested);
            }
            // As in a shell: the default also stands for an empty value.
            let value = find(name, default.is_none())?
                .filter(|value| default.is_none() || !value.is_empty());
            match value.or(default) {
                Some(value) => filled.push_str(value),
                None => return Err(FillError::Unset(name.to_owned())),
            }
            rest = after;
        }
        match rest.find("${") {
            Some(next) => start = next,
            None => break,
        }
    }
    filled.push_str(rest);
    Ok(Some(filled))
}

struct Walk<'a> {
    environment: &'a Variables,
    development: bool,
    filled: Filled,
    failed: Vec<(Range<usize>, FillError)>,
}

impl Walk<'_> {
    fn table(&mut self, table: &mut DeTable<'_>, path: &mut Vec<String>, report: &mut Report) {
        for (key, value) in table.iter_mut() {
            path.push(key.get_ref().to_string());
            if names_variables(path) {
                hide_values(value, report);
            } else {
                self.value(value, path, report);
            }
            path.pop();
        }
    }

    fn value(
        &mut self,
        value: &mut Spanned<DeValue<'_>>,
        path: &mut Vec<String>,
        report: &mut Report,
    ) {
        let span = value.span();
        match value.get_mut() {
            DeValue::String(text) => match self.text(text, path, &span) {
                Ok(Some(filled)) => *text = Cow::Owned(filled),
                Ok(None) => hide_password(text, span, report),
                Err(error) => self.failed.push((span, error)),
            },
            DeValue::Array(items) => {
                for item in items.iter_mut() {
                    self.value(item, path, report);
                }
            }
            DeValue::Table(table) => self.table(table, path, report),
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {}
        }
    }

    fn text(
        &mut self,
        text: &str,
        path: &[String],
        span: &Range<usize>,
    ) -> Result<Option<String>, FillError> {
        let (environment, development) = (self.environment, self.development);
        let mut asked: Vec<(String, bool, Option<Source>)> = Vec::new();
        let filled = expand(text, |name, required| {
            let found = environment.find(name, development);
            asked.push((name.to_owned(), required, found.map(|(_, source)| source)));
            match found {
                Some((None, _)) => Err(FillError::NotUnicode(name.to_owned())),
                Some((Some(value), _)) => Ok(Some(value)),
                None => Ok(None),
            }
        });
        let mut origins = Vec::new();
        for (name, required, source) in asked {
            origins.push(match source {
                Some(source) => format!("`{name}` ({source})"),
                None => format!("the default for `{name}`"),
            });
            let purpose = format!("`{}`", path.join("."));
            self.filled.variables.push(Variable {
                name: name.into(),
                purpose,
                required,
                source,
                unusable: None,
            });
        }
        if let Ok(Some(_)) = &filled {
            self.filled.values.push((span.clone(), origins.join(", ")));
        }
        filled
    }
}

/// Whether a key takes the name of a variable.
fn names_variables(path: &[String]) -> bool {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    matches!(
        path.as_slice(),
        ["storage", "url_env"]
            | ["webhooks", _, "secret_env"]
            | ["auth", _, "jwt_key_env" | "token_env"]
    )
}

/// Where a variable's name belongs and something else stands, that may be the secret itself: no frame shows it.
fn hide_values(value: &Spanned<DeValue<'_>>, report: &mut Report) {
    match value.get_ref() {
        DeValue::String(text) if text.contains("${") => {}
        DeValue::String(text) if is_value(text) || !is_variable_name(text) => {
            report.hide(value.span());
        }
        DeValue::Array(items) => items.iter().for_each(|item| hide_values(item, report)),
        _ => {}
    }
}

/// A URL with a password in it, such as `postgres://user:password@host`.
fn hide_password(text: &str, span: Range<usize>, report: &mut Report) {
    let has = text.split_once("://").is_some_and(|(_, rest)| {
        rest.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@'))
    });
    if has {
        report.hide(span);
    }
}

fn explain(
    report: &Report,
    environment: &Variables,
    span: Range<usize>,
    error: &FillError,
) -> Frame {
    let mut frame = Frame::error("E0105", error.to_string());
    let marked = match error {
        FillError::Unset(name) | FillError::NotUnicode(name) | FillError::BadName(name) => {
            format!("${{{name}")
        }
        FillError::Unclosed | FillError::Nested => "${".to_owned(),
    };
    let found = report.source.get(span.clone()).and_then(|text| text.find(&marked));
    let at =
        found.map_or(span.clone(), |start| span.start + start..span.start + start + marked.len());
    frame = frame.at(report.place(at, ""));
    match error {
        FillError::Unset(name) => {
            if environment.in_dev_vars(name) {
                frame = frame.note(format!(
                    "`.dev.vars` has `{name}`, but production does not read that file"
                ));
            }
            frame.help(format!("set it, or give a default: `${{{name}:-default}}`"))
        }
        FillError::NotUnicode(_) => frame,
        FillError::Unclosed | FillError::BadName(_) | FillError::Nested => {
            frame.help("write `${NAME}` or `${NAME:-default}`; `$${` is a plain `${`")
        }
    }
}
