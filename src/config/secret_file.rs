//! Variables whose values stand in files of their own: the file that `NAME_FILE` names, as containers hand secrets over, and the folder of
//! systemd's credentials. Only what config asks for is opened, nothing but regular files, and no more is read than a value can have. What
//! cannot be read is told by its path, never by what is in it.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::env::Source;
use super::read::{Unreadable, read_bounded};
use crate::frame::Frame;

/// Bytes of one file: a private key with its certificates has a few thousand.
const BYTES_MAX: u64 = 64 << 10;
/// Entries of the credentials folder that are looked at; a service has a few dozen.
const CREDENTIALS_MAX: usize = 1_000;
/// The right of everybody to read.
const READABLE_BY_ALL: u32 = 0o004;

/// The files of one load, each read when it is first asked for.
#[derive(Default)]
pub(super) struct SecretFiles {
    /// By the name of the variable whose value they hold.
    named: BTreeMap<String, SecretFile>,
    credentials: Credentials,
}

/// The folder that systemd makes for a service (systemd.exec(5), "Credentials").
#[derive(Default)]
struct Credentials {
    folder: Option<PathBuf>,
    files: BTreeMap<String, SecretFile>,
    /// Asked for and not there: they may come.
    missing: RefCell<BTreeSet<PathBuf>>,
}

struct SecretFile {
    path: PathBuf,
    /// As in a sentence: "`NAME_FILE` names", "the credentials folder has".
    known_by: String,
    /// Set once it was asked for.
    read: OnceCell<Result<Content, Box<Frame>>>,
}

struct Content {
    value: SecretString,
    is_open_to_all: bool,
}

impl SecretFiles {
    /// `named`: the path that each `NAME_FILE` of the process gives, by NAME. `credentials`: systemd's folder.
    pub(super) fn new(named: BTreeMap<String, PathBuf>, credentials: Option<PathBuf>) -> Self {
        let named = named.into_iter().map(|(name, path)| {
            let known_by = format!("`{name}_FILE` names");
            (name, SecretFile { path, known_by, read: OnceCell::new() })
        });
        Self { named: named.collect(), credentials: Credentials::list(credentials) }
    }

    /// A variable's value, where a file has it. A file that cannot be read has none, and is a problem.
    pub(super) fn find(&self, name: &str) -> Option<(&SecretString, Source)> {
        if let Some(file) = self.named.get(name) {
            return Some((file.value()?, Source::SecretFile));
        }
        Some((self.credentials.find(name)?.value()?, Source::Credentials))
    }

    /// Whether the process names a file for this variable.
    pub(super) fn names(&self, name: &str) -> bool {
        self.named.contains_key(name)
    }

    /// What was asked for and cannot be read, by the variable's name.
    pub(super) fn problems(&self) -> Vec<(&str, Frame)> {
        let asked = self.all().filter_map(|(name, file)| Some((name, file.read.get()?)));
        asked
            .filter_map(|(name, read)| Some((name.as_str(), Frame::clone(read.as_ref().err()?))))
            .collect()
    }

    /// What works but deserves a word.
    pub(super) fn notes(&self) -> Vec<Frame> {
        let open = |(_, file): (&String, &SecretFile)| {
            let content = file.read.get()?.as_ref().ok()?;
            content.is_open_to_all.then(|| {
                let title =
                    format!("every user of this machine may read `{}`", file.path.display());
                Frame::warning("E0113", title).help("let its owner alone read it: `chmod 400`")
            })
        };
        self.all().filter_map(open).collect()
    }

    /// What a change of would count: each file that was asked for, there or not.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let asked = self.all().filter(|(_, file)| file.read.get().is_some());
        let missing = self.credentials.missing.borrow();
        asked.map(|(_, file)| file.path.clone()).chain(missing.iter().cloned()).collect()
    }

    fn all(&self) -> impl Iterator<Item = (&String, &SecretFile)> {
        self.named.iter().chain(&self.credentials.files)
    }
}

impl Credentials {
    fn list(folder: Option<PathBuf>) -> Self {
        let entries = folder.as_ref().and_then(|folder| fs::read_dir(folder).ok());
        let files = entries.into_iter().flatten().take(CREDENTIALS_MAX).filter_map(|entry| {
            let entry = entry.ok()?;
            let known_by = "the credentials folder has".to_owned();
            let file = SecretFile { path: entry.path(), known_by, read: OnceCell::new() };
            Some((entry.file_name().into_string().ok()?, file))
        });
        Self { files: files.collect(), folder, missing: RefCell::default() }
    }

    /// By the variable's name, or that in lower case, as credentials usually are.
    fn find(&self, name: &str) -> Option<&SecretFile> {
        let folder = self.folder.as_ref()?;
        let names = [name.to_owned(), name.to_lowercase()];
        let found = names.iter().find_map(|name| self.files.get(name));
        if found.is_none() {
            self.missing.borrow_mut().extend(names.map(|name| folder.join(name)));
        }
        found
    }
}

impl SecretFile {
    fn value(&self) -> Option<&SecretString> {
        let read = self.read.get_or_init(|| {
            let unreadable = |why: &str| {
                let shown = self.path.display();
                let title = format!("{} `{shown}`, which cannot be read: {why}", self.known_by);
                Box::new(Frame::error("E0113", title))
            };
            let content = content(&self.path).map_err(|error| unreadable(&error.to_string()))?;
            content.ok_or_else(|| unreadable("it is empty"))
        });
        read.as_ref().ok().map(|content| &content.value)
    }
}

/// Without the line end that editors and `echo` put behind it; `None`: there is nothing in it.
fn content(path: &Path) -> Result<Option<Content>, Unreadable> {
    let text = read_bounded(path, BYTES_MAX)?;
    let value = text.strip_suffix('\n').unwrap_or(&text);
    let value = value.strip_suffix('\r').unwrap_or(value);
    let content =
        Content { value: SecretString::from(value), is_open_to_all: is_open_to_all(path) };
    Ok((!value.is_empty()).then_some(content))
}

#[cfg(unix)]
fn is_open_to_all(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(path).map(|metadata| metadata.permissions().mode());
    mode.is_ok_and(|mode| mode & READABLE_BY_ALL != 0)
}

#[cfg(not(unix))]
fn is_open_to_all(_: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    /// The value that a file with these bytes gives, or what is said.
    fn read(bytes: &[u8]) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, bytes).unwrap();
        let files = SecretFiles::new(BTreeMap::from([("NAME".to_owned(), path)]), None);
        match files.find("NAME") {
            Some((value, Source::SecretFile)) => Ok(value.expose_secret().to_owned()),
            Some((_, source)) => panic!("from {source}"),
            None => Err(files.problems().remove(0).1.one_line()),
        }
    }

    #[test]
    fn a_value_is_the_file_without_its_line_end_and_bounded() {
        let check = |bytes: &[u8], expected: &str| assert_eq!(read(bytes).as_deref(), Ok(expected));
        check(b"value", "value");
        check(b"value\n", "value");
        check(b"value\r\n", "value");
        check(b"value\n\n", "value\n");
        check(b" two words ", " two words ");
        check(b"\xef\xbb\xbfvalue", "value");
        check(&vec![b'x'; 64 << 10], &"x".repeat(64 << 10));
        let refused = |bytes: &[u8], why: &str| {
            let told = read(bytes).unwrap_err();
            assert!(told.starts_with("`NAME_FILE` names `") && told.ends_with(why), "{told}");
        };
        refused(b"", "it is empty");
        refused(b"\r\n", "it is empty");
        refused(&vec![b'x'; (64 << 10) + 1], "it is larger than 64KiB");
        refused(b"canary\xff", "it is not UTF-8 from byte 6 on");
    }

    #[test]
    fn only_what_is_asked_for_is_opened() {
        let gone = |name: &str| (name.to_owned(), PathBuf::from("/nowhere").join(name));
        let files = SecretFiles::new(BTreeMap::from([gone("A"), gone("SSL_CERT")]), None);
        assert!(files.find("OTHER").is_none() && files.problems().is_empty());
        assert!(files.find("A").is_none());
        let told: Vec<_> = files.problems().into_iter().map(|(name, _)| name).collect();
        assert_eq!(told, ["A"]);
        assert_eq!(files.files(), [PathBuf::from("/nowhere/A")]);
    }

    #[test]
    fn a_credential_is_found_by_the_name_or_by_that_in_lower_case_and_one_that_is_missing_may_come()
    {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["TOKEN", "token", "other"] {
            fs::write(at(name), name).unwrap();
        }
        let files = SecretFiles::new(BTreeMap::new(), Some(folder.path().to_owned()));
        let check = |name: &str, expected: Option<&str>| {
            let found = files.find(name);
            assert_eq!(found.map(|(value, _)| value.expose_secret()), expected, "{name}");
            assert!(found.is_none_or(|(_, source)| source == Source::Credentials));
        };
        check("TOKEN", Some("TOKEN"));
        check("OTHER", Some("other"));
        check("MISSING", None);
        let mut watched = files.files();
        watched.sort();
        assert_eq!(watched, ["MISSING", "TOKEN", "missing", "other"].map(at));
    }
}
