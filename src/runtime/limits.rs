//! What the system allows this process: open files above all, for each connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that are open beside connections: database, sockets, watches, clients.
const OTHER_FILES: u64 = 128;
/// Connections at most, however many files may be open.
const CONNECTIONS_MAX: u64 = 20_000;
/// Spool files at most: so many large bodies at once keep any disk busy.
const SPOOL_FILES_MAX: u64 = 512;
/// Fewer is too few to serve well.
const OPEN_FILES_MIN: u64 = 1024;

/// Raises the soft limit on open files to the hard one, as far as we can use it.
pub(crate) fn raise_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.unwrap_or(u64::MAX).min(CONNECTIONS_MAX + SPOOL_FILES_MAX + OTHER_FILES);
    if current.is_some_and(|current| current < wanted) {
        _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
    }
}

/// How many connections may be open at once.
pub(crate) fn connections() -> usize {
    let files = files().saturating_sub(spool_files());
    usize::try_from(files.clamp(16, CONNECTIONS_MAX)).unwrap_or(16)
}

/// How many bodies may wait on disk at once: each holds a file beside its connection.
pub(crate) fn spool_files() -> u64 {
    (files() / 8).clamp(4, SPOOL_FILES_MAX)
}

/// Files for clients and what they send.
fn files() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX).saturating_sub(OTHER_FILES)
}

/// What to say where the limit is too low.
pub(crate) fn too_few_open_files() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum.filter(|files| *files < OPEN_FILES_MIN)
}
