//! The one door to SQLite: how each kind of connection is set up, and which file a path means while it is open.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, ffi};

/// How long one statement of the writer waits for a lock of another process; the writer's own patience counts these.
const WRITER_WAITS: Duration = Duration::from_millis(50);
/// Readers are not held up by writers; this is for the moments in which another process recovers or resets the WAL.
const READER_WAITS: Duration = Duration::from_millis(20);
/// Every statement there is fits, so each is compiled once a connection.
const STATEMENTS: usize = 128;
/// In pages. The larger, the more often a page that many commits touch is written back once.
const WAL_PAGES: u32 = 8000;
/// The WAL is cut back to this after a burst.
const WAL_BYTES_KEPT: u32 = 64 * 1024 * 1024;

/// For the one thread that writes.
pub(super) fn writer(path: &Path) -> rusqlite::Result<Connection> {
    let connection = door(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.busy_timeout(WRITER_WAITS)?;
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if mode != "wal" {
        // Some network file systems cannot; in every other mode readers and the writer would hold each other up.
        let text = format!("its file system allows journal mode `{mode}` and not `wal`");
        return Err(rusqlite::Error::SqliteFailure(
            ffi::Error::new(ffi::SQLITE_CANTOPEN),
            Some(text),
        ));
    }
    connection.execute_batch(&format!(
        "PRAGMA synchronous = FULL;
         PRAGMA wal_autocheckpoint = {WAL_PAGES};
         PRAGMA journal_size_limit = {WAL_BYTES_KEPT};
         PRAGMA cache_size = -8192;"
    ))?;
    set_up(connection)
}

/// For documents, lists and recovery.
pub(super) fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = door(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(READER_WAITS)?;
    connection.execute_batch("PRAGMA cache_size = -4096;")?;
    set_up(connection)
}

/// For making a file, in the rollback mode that leaves no second file behind.
pub(super) fn plain(path: &Path) -> rusqlite::Result<Connection> {
    let connection = door(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.execute_batch("PRAGMA synchronous = FULL;")?;
    Ok(connection)
}

fn set_up(connection: Connection) -> rusqlite::Result<Connection> {
    // No mmap: an I/O error must be an error and not a signal.
    connection.execute_batch(
        "PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY; PRAGMA foreign_keys = OFF; PRAGMA trusted_schema = OFF;",
    )?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

#[expect(clippy::disallowed_methods, reason = "this is the door")]
fn door(path: &Path, access: OpenFlags) -> rusqlite::Result<Connection> {
    // SQLite takes a name that begins with `file:` for a URI; a path that begins with `./` or `/` never does.
    let path = Path::new(".").join(path);
    // Never CREATE: a file that is gone must not come back empty. Each connection stays with one thread at a time.
    Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)
}

/// The path with `suffix` behind its last name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Which files the paths of database, WAL and its index lead to: device and inode.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Identity([Option<(u64, u64)>; 3]);

impl Identity {
    pub(super) fn of(paths: &Paths) -> Self {
        let place = |path: &PathBuf| {
            fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
        };
        Self(paths.0.each_ref().map(place))
    }

    /// The database itself is the same; WAL or index may not be.
    pub(super) fn same_database(&self, other: &Self) -> bool {
        self.0[0] == other.0[0]
    }
}

/// Database, WAL and its index.
#[derive(Debug)]
pub(super) struct Paths([PathBuf; 3]);

impl Paths {
    pub(super) fn of(path: &Path) -> Self {
        Self([path.to_owned(), beside(path, "-wal"), beside(path, "-shm")])
    }

    pub(super) fn database(&self) -> &Path {
        &self.0[0]
    }

    /// The first that does not lead to the same file any more; the database's where all do.
    pub(super) fn first_difference(&self, before: &Identity, now: &Identity) -> &Path {
        let differs = before.0.iter().zip(&now.0).position(|(before, now)| before != now);
        &self.0[differs.unwrap_or(0)]
    }
}
