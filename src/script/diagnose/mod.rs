//! Rhai's errors as frames: a code, the place at fault, and what to do. It names types, functions and limits as script authors know
//! them. Nothing of unbounded length and no made-up name of a closure ever reaches a frame, and no source, however broken, a panic.

use std::ops::Range;
use std::sync::Arc;

use crate::frame::{Frame, Place};

mod compile;
mod names;
mod run;
mod source;
mod text;
mod thrown;
mod trail;

pub(crate) use self::compile::{COMPILE_DEADLINE_PASSED, compile_error};
pub(crate) use self::names::{Exports, Names, Signature, is_anonymous, nearest};
pub(crate) use self::run::{Circumstances, Limits, run_error};
pub(crate) use self::source::{SOURCE_BYTES_MAX, source, too_long};
pub(crate) use self::text::{Text, line_and_column};

/// Characters of any one text that comes from a script or from Rhai: enough for a message, too little for a body.
const TEXT_CHARS_MAX: usize = 200;

/// A script, to point into.
#[derive(Clone, Copy)]
pub(crate) struct Site<'a> {
    /// As the reader would type it.
    pub(crate) path: &'a str,
    /// All of its text.
    pub(crate) source: &'a Arc<str>,
}

impl Site<'_> {
    /// These bytes of it, with a word under them.
    pub(crate) fn place(self, span: Range<usize>, label: impl Into<String>) -> Place {
        Place {
            path: self.path.to_owned(),
            source: Arc::clone(self.source),
            span,
            label: label.into(),
        }
    }

    /// `scripts/clerk.rhai:12:44`.
    pub(crate) fn at(self, offset: usize) -> String {
        let (line, column) = line_and_column(self.source, offset);
        format!("{}:{line}:{column}", self.path)
    }
}

/// A frame of which no line is too long: whatever a script or Rhai put into one.
pub(crate) fn bounded(mut frame: Frame) -> Frame {
    frame.title = line(&frame.title);
    if let Some(place) = &mut frame.place {
        place.label = line(&place.label);
    }
    for text in frame.help.iter_mut().chain(&mut frame.notes) {
        *text = line(text);
    }
    frame
}

/// At most `TEXT_CHARS_MAX` characters of a text, with `…` where there was more.
pub(crate) fn cut(text: &str) -> String {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// One line without control characters, of twice the length of what may be quoted in it.
fn line(text: &str) -> String {
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
