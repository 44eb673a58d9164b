//! Which variable came from where: the process, then a file of its own, then `.env`, then `.dev.vars`, the earlier one wins. Read once for each
//! load of the configuration, never written. Values are wrapped from here on; a broken line is reported by its number, never by its text.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use secrecy::{ExposeSecret, SecretString};

use super::read::read_text;
use super::secret_file::SecretFiles;
use crate::frame::{Frame, Place};

/// The variables of one load.
#[derive(Default)]
pub(crate) struct Variables {
    process: ByName,
    files: SecretFiles,
    dot_env: ByName,
    dev_vars: ByName,
    dot_env_problems: Vec<Frame>,
    dev_vars_problems: Vec<Frame>,
    /// The names that were looked up.
    asked: RefCell<BTreeSet<String>>,
}

/// Where a variable was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The environment of this process.
    Process,
    /// The file that `NAME_FILE` of this process names.
    SecretFile,
    /// The folder that systemd makes for a service.
    Credentials,
    /// `.env` in the folder of config.toml.
    DotEnv,
    /// `.dev.vars` in the folder of config.toml, in development only.
    DevVars,
}

/// By name. `None` stands for what is not UTF-8.
type ByName = BTreeMap<String, Option<SecretString>>;

impl Variables {
    /// The environment of this process and the two files in `folder`.
    pub(crate) fn read(folder: &Path) -> Self {
        let (dot_env, dot_env_problems) = file(&folder.join(".env"));
        let (dev_vars, dev_vars_problems) = file(&folder.join(".dev.vars"));
        let (process, named, credentials) = process();
        Self {
            process,
            files: SecretFiles::new(named, credentials),
            dot_env,
            dev_vars,
            dot_env_problems,
            dev_vars_problems,
            asked: RefCell::default(),
        }
    }

    /// The variable and where it came from; `.dev.vars` counts in development only. The value is `None` where it is not UTF-8.
    pub(super) fn find(&self, name: &str, development: bool) -> Option<(Option<&str>, Source)> {
        self.asked.borrow_mut().insert(name.to_owned());
        if let Some(value) = self.process.get(name) {
            return Some((value.as_ref().map(SecretString::expose_secret), Source::Process));
        }
        if let Some((value, source)) = self.files.find(name) {
            return Some((Some(value.expose_secret()), source));
        }
        let layers = [(&self.dot_env, Source::DotEnv), (&self.dev_vars, Source::DevVars)];
        let layers =
            layers.into_iter().filter(|(_, source)| development || *source != Source::DevVars);
        layers
            .filter_map(|(variables, source)| Some((variables.get(name)?, source)))
            .map(|(value, source)| (value.as_ref().map(SecretString::expose_secret), source))
            .next()
    }

    /// What is wrong with files of single variables, among those that were asked for, by the variable's name.
    pub(super) fn file_problems(&self) -> Vec<(&str, Frame)> {
        self.files.problems()
    }

    /// What deserves a word about files of single variables.
    pub(super) fn file_notes(&self) -> Vec<Frame> {
        let asked = self.asked.borrow();
        let twice =
            asked.iter().filter(|name| self.process.contains_key(*name) && self.files.names(name));
        let twice = twice.map(|name| {
            let title = format!("`{name}` and `{name}_FILE` are both set: `{name}` counts");
            Frame::warning("E0113", title).help("set one of them; the file is not read")
        });
        twice.chain(self.files.notes()).collect()
    }

    /// The files of single variables that a change of would count.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        self.files.files()
    }

    /// Whether `.dev.vars`, which production does not read, holds this one.
    pub(super) fn in_dev_vars(&self, name: &str) -> bool {
        self.dev_vars.contains_key(name)
    }

    /// Whether there is a `.dev.vars` that says anything.
    pub(super) fn has_dev_vars(&self) -> bool {
        !self.dev_vars.is_empty()
    }

    /// What is wrong with the files that count.
    pub(super) fn problems(&self, development: bool) -> Vec<Frame> {
        let mut problems = self.dot_env_problems.clone();
        if development {
            problems.extend(self.dev_vars_problems.iter().cloned());
        }
        problems
    }

    /// For tests: these variables and nothing else.
    #[cfg(test)]
    pub(crate) fn of(variables: &[(Source, &str, &str)]) -> Self {
        let mut environment = Self::default();
        for (source, name, value) in variables {
            let layer = match source {
                Source::Process => &mut environment.process,
                Source::SecretFile | Source::Credentials => panic!("these are files"),
                Source::DotEnv => &mut environment.dot_env,
                Source::DevVars => &mut environment.dev_vars,
            };
            layer.insert((*name).to_owned(), Some(SecretString::from(*value)));
        }
        environment
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Process => "the process",
            Self::SecretFile => "the file that its `_FILE` variable names",
            Self::Credentials => "the credentials folder",
            Self::DotEnv => "`.env`",
            Self::DevVars => "`.dev.vars`",
        })
    }
}

/// One variable of this process, for what is not configuration: `NO_COLOR`, `TERM`, `RUST_LOG`.
pub(crate) fn process_variable(name: &str) -> Option<String> {
    std::env::var_os(name)?.into_string().ok()
}

/// Letters, digits and `_`, no digit first.
pub(super) fn is_variable_name(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
}

/// Every variable of this process; the paths that those ending in `_FILE` give, by what stands before it; systemd's folder of credentials.
fn process() -> (ByName, BTreeMap<String, PathBuf>, Option<PathBuf>) {
    let (mut variables, mut named, mut credentials) = (ByName::new(), BTreeMap::new(), None);
    for (name, value) in std::env::vars_os() {
        let Ok(name) = OsString::into_string(name) else { continue };
        if let Some(of) = name.strip_suffix("_FILE").filter(|_| !value.is_empty()) {
            named.insert(of.to_owned(), PathBuf::from(&value));
        } else if name == "CREDENTIALS_DIRECTORY" && !value.is_empty() {
            credentials = Some(PathBuf::from(&value));
        }
        variables.insert(name, value.into_string().ok().map(SecretString::from));
    }
    (variables, named, credentials)
}

/// The variables of a file, and its broken lines. A file that is not there has neither; nor has a folder, since `.env` is also what
/// Python's virtual environments are called.
fn file(path: &Path) -> (ByName, Vec<Frame>) {
    if !path.is_file() && (path.is_dir() || path.symlink_metadata().is_err()) {
        return (ByName::new(), Vec::new());
    }
    match read_text(path) {
        Ok(text) => parse(&path.display().to_string(), &text),
        Err(error) => (ByName::new(), vec![error.frame(path)]),
    }
}

/// The variables of a text and its broken lines; what is said twice counts as said last.
fn parse(path: &str, text: &str) -> (ByName, Vec<Frame>) {
    // Blanks at the end of a last line without a line feed would count as broken.
    let text = if text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") };
    let read = Rc::new(Cell::new(0));
    let lines = LineByLine { rest: text.as_bytes(), read: Rc::clone(&read) };
    let mut variables = ByName::new();
    let mut problems = Vec::new();
    for item in dotenvy::Iter::new(lines) {
        match item {
            Ok((name, value)) => {
                variables.insert(name, Some(SecretString::from(value)));
            }
            Err(error) => {
                let spread = match &error {
                    dotenvy::Error::LineParse(broken, _) => broken.lines().count(),
                    _ => 1,
                };
                let last = read.get().min(text.lines().count());
                problems.push(broken_line(path, last.saturating_sub(spread.max(1))));
            }
        }
    }
    (variables, problems)
}

/// Says which line is broken and shows nothing of it: what looks like a name may be a piece of a secret.
fn broken_line(path: &str, index: usize) -> Frame {
    let hidden = "…";
    let source = format!("{}{hidden}\n", "\n".repeat(index));
    let span: Range<usize> = index..index + hidden.len();
    Frame::error("E0106", format!("line {} of `{path}` is not `NAME=value`", index + 1))
        .at(Place {
            path: path.to_owned(),
            source: source.into(),
            span,
            label: "what stands here is not shown".to_owned(),
        })
        .help("a value with blanks, quotes, `$` or `#` stands in single quotes: `NAME='a value'`")
}

/// Hands out one line a call and counts them, so that a broken one can be named: dotenvy tells only its text.
struct LineByLine<'a> {
    rest: &'a [u8],
    read: Rc<Cell<usize>>,
}

impl Read for LineByLine<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let newline = self.rest.iter().position(|byte| *byte == b'\n');
        let line = newline.map_or(self.rest.len(), |newline| newline + 1);
        let (now, rest) = self.rest.split_at(line.min(buffer.len()));
        buffer[..now.len()].copy_from_slice(now);
        self.rest = rest;
        self.read.set(self.read.get() + usize::from(now.ends_with(b"\n")));
        Ok(now.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_file_of_variables_brings_the_reader_down(
            text in "(?s)(.{0,200}|([A-Z]{1,2}=?['\"\\\\ $#{}a-z]{0,6}\r?\n){0,12})",
        ) {
            let (_, problems) = parse(".env", &text);
            for problem in problems {
                let (line, _) = problem.place.as_ref().unwrap().line_column();
                prop_assert!(line <= text.lines().count().max(1));
                prop_assert!(problem.render(false).contains("E0106"));
            }
        }
    }
}
