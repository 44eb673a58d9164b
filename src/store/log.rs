//! What a handler logs during one attempt, bounded, so that it can be read beside the attempt's error when the program's log is long gone. What has no
//! room is cut, and what is cut is counted: nobody takes a part for the whole.

use serde::{Deserialize, Serialize};

use crate::clock::Millis;

/// Lines of one attempt: more than a page, which is what a person reads.
pub(crate) const LINES_MAX: usize = 64;
/// Bytes of their texts together. An event with 21 failed attempts keeps a third of a MiB at most.
pub(crate) const BYTES_MAX: usize = 16 << 10;

/// The lines of one attempt, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AttemptLog {
    /// The first ones.
    pub(crate) lines: Vec<LogLine>,
    /// Later ones that had no room.
    pub(crate) dropped: u64,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogLine {
    /// When, in milliseconds since the epoch.
    pub(crate) at: i64,
    /// `info`, `warn`, `error`, `debug`, `trace`.
    pub(crate) level: Box<str>,
    /// What it says.
    pub(crate) message: Box<str>,
    /// The map that came with it, as the script would print it; `""` where none did.
    pub(crate) fields: Box<str>,
}

impl AttemptLog {
    /// Whether nothing was logged.
    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.dropped == 0
    }

    /// Adds a line, or as much of it as there is room for.
    pub(crate) fn push(&mut self, at: Millis, level: &str, message: &str, fields: &str) {
        let taken: usize =
            self.lines.iter().map(|line| line.message.len() + line.fields.len()).sum();
        let room = BYTES_MAX.saturating_sub(taken);
        if self.lines.len() >= LINES_MAX || room < MARK.len() {
            self.dropped += 1;
            return;
        }
        let message = cut(message, room);
        let fields = if fields.is_empty() { "".into() } else { cut(fields, room - message.len()) };
        self.lines.push(LogLine { at: at.0, level: level.into(), message, fields });
    }
}

/// Stands at the end of what was cut.
const MARK: &str = "…";

fn cut(text: &str, room: usize) -> Box<str> {
    if text.len() <= room {
        return text.into();
    }
    if room < MARK.len() {
        return "".into();
    }
    format!("{}{MARK}", &text[..text.floor_char_boundary(room - MARK.len())]).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(log: &AttemptLog) -> usize {
        log.lines.iter().map(|line| line.message.len() + line.fields.len()).sum()
    }

    #[test]
    fn what_a_handler_logs_is_kept_up_to_64_lines_and_the_rest_is_counted() {
        let mut log = AttemptLog::default();
        assert!(log.is_empty());
        for n in 0..70 {
            log.push(Millis(n), "info", &format!("line {n}"), "");
        }
        assert_eq!((log.lines.len(), log.dropped), (LINES_MAX, 6));
        assert_eq!(&*log.lines[63].message, "line 63");
    }

    #[test]
    fn what_a_handler_logs_has_16_kib_and_what_is_cut_says_so() {
        let mut log = AttemptLog::default();
        log.push(Millis(1), "info", &"é".repeat(5_000), "#{}");
        log.push(Millis(2), "warn", "second", &"x".repeat(20_000));
        log.push(Millis(3), "error", "third", "");
        assert_eq!((log.lines.len(), log.dropped), (2, 1));
        assert_eq!(&*log.lines[0].fields, "#{}");
        assert!(log.lines[1].fields.ends_with("x…"));
        assert!((BYTES_MAX - 3..=BYTES_MAX).contains(&bytes(&log)), "{}", bytes(&log));
    }

    #[test]
    fn a_line_longer_than_the_room_is_cut_between_letters() {
        let mut log = AttemptLog::default();
        log.push(Millis(1), "info", &"é".repeat(10_000), "fields");
        assert!(log.lines[0].message.ends_with("é…") && bytes(&log) <= BYTES_MAX);
        assert_eq!(&*log.lines[0].fields, "");
    }
}
