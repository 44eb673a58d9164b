//! The only place that prints: data to stdout, messages to stderr, colour only on a terminal and where NO_COLOR does not forbid it. What comes
//! from outside is made harmless before it reaches a terminal. A closed pipe ends nothing.

use std::io::{self, IsTerminal as _, Write as _};

use crate::config::process_variable;
use crate::frame::Frame;

/// Where this process prints.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    /// Whether messages may be coloured.
    pub(crate) colour: bool,
    /// Whether a person reads stderr as it comes.
    pub(crate) is_terminal: bool,
}

impl Output {
    pub(crate) fn new() -> Self {
        let is_terminal = io::stderr().is_terminal();
        let forbidden = process_variable("NO_COLOR").is_some_and(|value| !value.is_empty())
            || process_variable("TERM").is_some_and(|term| term == "dumb");
        Self { colour: is_terminal && !forbidden, is_terminal }
    }

    /// A line of data.
    pub(crate) fn data(&self, line: &str) {
        _ = writeln!(io::stdout().lock(), "{line}");
    }

    /// A message.
    pub(crate) fn say(&self, text: &str) {
        _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// What went wrong, in one sentence.
    pub(crate) fn error(&self, text: &str) {
        let word = if self.colour { "\u{1b}[1;31merror\u{1b}[0m" } else { "error" };
        self.say(&format!("{word}: {text}"));
    }

    /// Problems with their places.
    pub(crate) fn frames(&self, frames: &[Frame]) {
        for frame in frames {
            self.say(&format!("{}\n", frame.render(self.colour)));
        }
    }

    /// Rows under a heading, in columns as wide as they need.
    pub(crate) fn table(&self, heading: &[&str], rows: &[Vec<String>]) {
        let width = |column: usize| {
            let cells =
                rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([heading[column].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..heading.len()).map(width).collect();
        let line = |cells: &[String]| {
            let padded: Vec<String> =
                cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            padded.join("  ").trim_end().to_owned()
        };
        self.data(&line(&heading.iter().map(ToString::to_string).collect::<Vec<_>>()));
        for row in rows {
            self.data(&line(row));
        }
    }
}

/// Text of somebody else, for a terminal: control characters escaped, cut to `length` characters.
pub(crate) fn harmless(text: &str, length: usize) -> String {
    let mut safe = String::new();
    for letter in text.chars() {
        if safe.chars().count() >= length {
            safe.push('…');
            break;
        }
        if letter.is_control() || is_invisible(letter) {
            safe.extend(letter.escape_unicode());
        } else {
            safe.push(letter);
        }
    }
    safe
}

/// Characters that move others or hide: bidirectional controls, zero-width ones (Unicode TR 36).
fn is_invisible(letter: char) -> bool {
    matches!(letter, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_cannot_control_a_terminal() {
        assert_eq!(harmless("user.created", 80), "user.created");
        assert_eq!(harmless("a\u{1b}[2J\nb", 80), "a\\u{1b}[2J\\u{a}b");
        assert_eq!(harmless("a\u{202e}b", 80), "a\\u{202e}b");
        assert_eq!(harmless("abcdef", 3), "abc…");
    }
}
