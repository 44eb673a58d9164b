//! What the system allows this process: open files above all, for each connection is one; and what is not to be had of it, its memory on a disk.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that are open beside connections: database, sockets, watches, clients.
const OTHER_FILES: u64 = 128;
/// Connections at most, however many files may be open.
const CONNECTIONS_MAX: u64 = 20_000;
/// Fewer is too few to serve well.
const OPEN_FILES_MIN: u64 = 1024;

/// Raises the soft limit on open files to the hard one, as far as we can use it.
pub(crate) fn raise_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.unwrap_or(u64::MAX).min(CONNECTIONS_MAX + OTHER_FILES);
    if current.is_some_and(|current| current < wanted) {
        _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
    }
}

/// Lets no crash write the memory of this process to a disk: all secrets are in it.
pub(crate) fn forbid_core_dumps() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Core);
    _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum });
}

/// How many connections may be open at once.
pub(crate) fn connections() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(files.saturating_sub(OTHER_FILES).clamp(16, CONNECTIONS_MAX)).unwrap_or(16)
}

/// What to say where the limit is too low.
pub(crate) fn too_few_open_files() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum.filter(|files| *files < OPEN_FILES_MIN)
}
