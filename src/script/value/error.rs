//! What can be wrong with a value, and the way to the part of it that is at fault. The way is put together only once there is an
//! error, as the calls return.

use std::fmt;

use rhai::EvalAltResult;

use crate::script::builtins::ending::{Ending, thrown};

/// A value that cannot be what it was to become, and where in it the reason lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ValueError {
    /// What is wrong with it.
    pub(crate) reason: Reason,
    /// From the innermost out, as it is found.
    steps: Vec<Step>,
}

/// Why a value cannot be converted or compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Reason {
    /// Functions, timestamps, ranges, NaN and infinity.
    #[error("{0} cannot be JSON")]
    NotJson(&'static str),
    /// A type of the host.
    #[error("a value of type `{0}` cannot be JSON")]
    NotJsonType(Box<str>),
    /// Functions, timestamps, types of the host.
    #[error("{0} cannot be compared")]
    NotComparable(&'static str),
    /// More levels than that many.
    #[error("nested deeper than {0}")]
    TooDeep(usize),
    /// More than the caller's limit of bytes.
    #[error("more than {0} bytes of JSON")]
    TooLarge(usize),
    /// Ends the run where one is on.
    #[error("more than the script's memory_budget")]
    Memory,
    /// The script is just changing it.
    #[error("a variable that a call on it still uses cannot be read")]
    InUse,
    /// In the words of the parser, with line and column.
    #[error("not JSON: {0}")]
    Syntax(Box<str>),
}

/// One step from a value to a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(Box<str>),
    Index(usize),
}

/// Longest part of a key that an error repeats; payloads choose their keys.
const KEY_SHOWN_MAX: usize = 64;
/// Bytes of the way that an error shows; behind a longer one nobody would find the reason.
const PATH_SHOWN_MAX: usize = 120;

impl ValueError {
    /// Such as `items[3].callback`; empty for the value as a whole.
    pub(crate) fn path(&self) -> String {
        let mut path = String::new();
        for step in self.steps.iter().rev() {
            match step {
                Step::Index(index) => path.push_str(&format!("[{index}]")),
                Step::Key(key) if is_name(key) && path.is_empty() => path.push_str(key),
                Step::Key(key) if is_name(key) => path.push_str(&format!(".{key}")),
                Step::Key(key) => path.push_str(&format!("[{key:?}]")),
            }
        }
        path
    }

    pub(super) fn under_key(mut self, key: &str) -> Self {
        self.steps.push(Step::Key(shown(key).into()));
        self
    }

    pub(super) fn under_index(mut self, index: usize) -> Self {
        self.steps.push(Step::Index(index));
        self
    }
}

impl From<Reason> for ValueError {
    fn from(reason: Reason) -> Self {
        Self { reason, steps: Vec::new() }
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.steps.is_empty() {
            let path = self.path();
            let start = &path[..path.floor_char_boundary(PATH_SHOWN_MAX)];
            let cut = if start.len() < path.len() { "…" } else { "" };
            write!(formatter, "`{start}{cut}`: ")?;
        }
        self.reason.fmt(formatter)
    }
}

impl std::error::Error for ValueError {}

/// As a script meets it: a lack of memory ends the run, all else may be caught.
impl From<ValueError> for Box<EvalAltResult> {
    fn from(error: ValueError) -> Self {
        match &error.reason {
            Reason::Memory => Ending::Memory.error(),
            Reason::Syntax(_) => thrown("INVALID_JSON", &error.to_string()),
            _ => thrown("INVALID_VALUE", &error.to_string()),
        }
    }
}

/// A key as an error repeats it.
pub(super) fn shown(key: &str) -> String {
    let mut start: String = key.chars().take(KEY_SHOWN_MAX).collect();
    if start.len() < key.len() {
        start.push('…');
    }
    start
}

/// Whether a key can stand after a dot.
fn is_name(key: &str) -> bool {
    let mut characters = key.chars();
    characters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && characters.all(|next| next.is_ascii_alphanumeric() || next == '_')
}
