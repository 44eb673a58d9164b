//! The command that does the same, or goes on, as it can be pasted into a shell.

use super::Arguments;
use super::find::Which;
use crate::id::EventId;

/// `rhaiway replay …`; `after` is the last event that need not be replayed any more.
pub(super) fn command(
    which: &Which,
    arguments: &Arguments,
    after: Option<EventId>,
    yes: bool,
) -> String {
    let mut words = vec!["rhaiway".to_owned(), "replay".to_owned()];
    match which {
        Which::These(ids) => words.extend(
            ids.iter().filter(|id| after.is_none_or(|after| **id > after)).map(ToString::to_string),
        ),
        Which::Matching(narrow) => {
            words.extend(narrow.arguments());
            words.extend(
                after.into_iter().flat_map(|after| ["--after".to_owned(), after.to_string()]),
            );
        }
    }
    words.extend(["--rate".to_owned(), arguments.rate.to_string()]);
    words.extend(yes.then(|| "--yes".to_owned()));
    words.extend(arguments.json.then(|| "--json".to_owned()));
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// As a POSIX shell reads it as one word.
fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@%+=,".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_each_word_as_it_was_meant() {
        assert_eq!(quoted("2026-01-31T12:00:00.000Z"), "2026-01-31T12:00:00.000Z");
        assert_eq!(quoted("user.*"), "'user.*'");
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(quoted(""), "''");
    }
}
