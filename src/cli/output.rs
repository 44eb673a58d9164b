//! The only place that prints: data to stdout, messages to stderr, colour only on a terminal and where NO_COLOR does not forbid it. What comes
//! from outside is made harmless before it reaches a terminal. A closed pipe ends nothing.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};

use rustix::termios::tcgetwinsize;

use crate::config::process_variable;
use crate::frame::Frame;
use crate::redact;

/// Bytes of an answer that are read; a yes has three.
const ANSWER_BYTES_MAX: u64 = 1024;

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

    /// The same, for what goes on for long: false where nobody reads it any more.
    pub(crate) fn try_data(&self, line: &str) -> bool {
        writeln!(io::stdout().lock(), "{line}").is_ok()
    }

    /// Columns of the terminal that data is shown on; `None`: it goes elsewhere, and may be as wide as it needs.
    pub(crate) fn width(&self) -> Option<usize> {
        let stdout = io::stdout();
        let size = stdout.is_terminal().then(|| tcgetwinsize(&stdout).ok()).flatten()?;
        Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
    }

    /// Whether somebody is there who can be asked.
    pub(crate) fn can_ask(&self) -> bool {
        io::stdin().is_terminal() && self.is_terminal
    }

    /// A question, with no for whatever is not a clear yes.
    pub(crate) fn ask(&self, question: &str) -> bool {
        let mut stderr = io::stderr().lock();
        _ = write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush());
        let mut answer = String::new();
        let read = io::stdin().lock().take(ANSWER_BYTES_MAX).read_line(&mut answer);
        read.is_ok() && ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str())
    }

    /// A message, without the secrets that this process holds.
    pub(crate) fn say(&self, text: &str) {
        let text = redact::current().text(text).into_owned();
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
