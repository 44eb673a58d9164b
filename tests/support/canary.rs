//! X9: the secret of every test's webhook is a canary. It is looked for in every answer, every line of a log, every output of a command and
//! every file that an instance has written, of every test that goes through this support.

use std::fs;
use std::path::Path;

use super::SECRET;

/// Fails where the secret is in these bytes.
pub(crate) fn no_secret(what: &str, bytes: &[u8]) {
    no_canary(what, bytes, SECRET);
}

/// The same for a secret of the test's own.
pub(crate) fn no_canary(what: &str, bytes: &[u8], canary: &str) {
    let is_in = bytes.windows(canary.len()).any(|part| part == canary.as_bytes());
    // A second panic would end all tests at once.
    assert!(
        !is_in || std::thread::panicking(),
        "{what} holds a secret: {}",
        String::from_utf8_lossy(bytes)
    );
}

/// Fails where the secret is in a file below this folder: database, log of the database, whatever an instance keeps.
pub(crate) fn no_canary_below(folder: &Path, canary: &str) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            no_canary_below(&path, canary);
        } else if path.is_file() {
            let bytes = fs::read(&path).unwrap_or_default();
            no_canary(&path.display().to_string(), &bytes, canary);
        }
    }
}
