//! Rhai's errors as frames: a code, the place at fault, and what to do. It names types, functions and limits as script authors know
//! them. Nothing of unbounded length and no made-up name of a closure ever reaches a frame, and no source, however broken, a panic.

use std::ops::Range;
use std::sync::Arc;

use crate::frame::{Frame, Place, Severity};

mod compile;
mod names;
mod run;
mod source;
mod text;

pub(crate) use self::compile::{COMPILE_DEADLINE_PASSED, compile_error};
pub(crate) use self::names::{Exports, Names, Param, Signature, is_anonymous, kind_of, nearest};
pub(crate) use self::run::{Circumstances, Ending, Limits, Missing, run_error};
pub(crate) use self::source::{SOURCE_BYTES_MAX, source};
pub(crate) use self::text::{Text, line_and_column};

/// Characters of any one text that comes from a script or from Rhai: enough for a message, too little for a body.
const TEXT_CHARS_MAX: usize = 200;

/// A script, to point into.
#[derive(Clone, Copy)]
pub(crate) struct Site<'a> {
    pub(crate) path: &'a str,
    pub(crate) source: &'a Arc<str>,
}

impl Site<'_> {
    /// These bytes of it, with a word under them.
    pub(crate) fn place(self, span: Range<usize>, label: impl Into<String>) -> Place {
        Place {
            path: self.path.to_owned(),
            source: Arc::clone(self.source),
            span,
            label: clean(&label.into()),
        }
    }

    /// `scripts/clerk.rhai:12:44`.
    pub(crate) fn at(self, offset: usize) -> String {
        let (line, column) = line_and_column(self.source, offset);
        format!("{}:{line}:{column}", self.path)
    }
}

/// A frame of what stops something.
pub(crate) fn error(code: &'static str, title: impl Into<String>, place: Option<Place>) -> Frame {
    let title = clean(&title.into());
    Frame { severity: Severity::Error, code, title, place, help: Vec::new(), notes: Vec::new() }
}

/// A frame of what works and is likely not meant.
pub(crate) fn warning(code: &'static str, title: impl Into<String>, place: Place) -> Frame {
    Frame { severity: Severity::Warning, ..error(code, title, Some(place)) }
}

impl Frame {
    /// Adds a `help:` line.
    pub(crate) fn help(mut self, text: impl Into<String>) -> Self {
        self.help.push(clean(&text.into()));
        self
    }

    /// Adds a `note:` line.
    pub(crate) fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(clean(&text.into()));
        self
    }
}

/// At most `TEXT_CHARS_MAX` characters of a text, with `…` where there was more.
pub(crate) fn cut(text: &str) -> String {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// One line without control characters, of twice the length of what may be quoted in it.
fn clean(text: &str) -> String {
    let mut line: String = text
        .chars()
        .take(2 * TEXT_CHARS_MAX)
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect();
    if line.len() < text.len() {
        line.push('…');
    }
    line
}

/// `a`, `an`: for the types that scripts know.
pub(crate) fn with_article(kind: &str) -> String {
    match kind.chars().next() {
        Some('(') => "`()`".to_owned(),
        Some('a' | 'e' | 'i' | 'o' | 'u' | 'A' | 'E' | 'I' | 'O') => format!("an {kind}"),
        _ => format!("a {kind}"),
    }
}

/// `1 argument`, `2 arguments`.
pub(crate) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
pub(super) mod tests;
