//! From a path to a connection that may be trusted: folder, lock, file, header, schema, and after an unclean stop a check. Every refusal
//! says what to do. A file that is there is never replaced, and none is made beside one that cannot be read.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode};

use super::connect::{self, beside};
use super::migrate::{self, Found, KNOWN};

/// After an unclean stop a file up to this size is read whole by `PRAGMA quick_check`: a few tenths of a second. Above it the file's
/// size, header, schema and what recovery reads must do.
const CHECKED_WHOLE_BYTES: u64 = 32 * 1024 * 1024;
/// "SQLite format 3" and a NUL, then fields; "The Database Header" in SQLite's file format.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
const HEADER_BYTES: usize = 100;

/// Why there is no store, and what to do. The path is the file's or folder's that is at fault.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// Something else is where the folder should be.
    #[error("`{}` is not a folder, so the database cannot be in it; set `storage.url` to a path in a folder", .0.display())]
    NotAFolder(PathBuf),
    /// A folder or a device is where the file should be.
    #[error("`{}` is not a file, so it cannot be the database; set `storage.url` to a file's path", .0.display())]
    NotAFile(PathBuf),
    /// No right, a read-only file system, no space.
    #[error("`{}` cannot be written: {}; make it writable for this user, or set `storage.url` to another path", .0.display(), .1)]
    NotWritable(PathBuf, #[source] io::Error),
    /// No right, a link to nowhere, a disk error.
    #[error("`{}` cannot be read: {}", .0.display(), .1)]
    NotReadable(PathBuf, #[source] io::Error),
    /// For looking only: there is nothing to look at.
    #[error("there is no database at `{}` yet; `rhaiway run` makes it", .0.display())]
    Missing(PathBuf),
    /// Another process holds the lock; its pid where the lock file tells.
    #[error("{} has the database `{}` open; stop it, or give this one its own `storage.url`", Holder(*.1), .0.display())]
    InUse(PathBuf, Option<u32>),
    /// It cannot be trusted, and is left as it is; what is wrong.
    #[error(
        "the database `{path}` is corrupt ({}); nothing was changed. Restore a backup, or move `{path}`, `{path}-wal` and `{path}-shm` away together and start with an empty one",
        .1,
        path = .0.display()
    )]
    Corrupt(PathBuf, Box<str>),
    /// A database that this program did not make.
    #[error("`{}` is another program's database; set `storage.url` to a path of its own", .0.display())]
    Foreign(PathBuf),
    /// A newer `rhaiway` was here; its schema.
    #[error(
        "the database `{}` has schema {}, and this `rhaiway` knows only up to {KNOWN}; start the newer version again, or restore the backup from before it",
        .0.display(), .1
    )]
    Newer(PathBuf, i64),
    /// For looking only: it would have to be changed first; its schema.
    #[error("the database `{}` has schema {} and must become {KNOWN} first; start `rhaiway run` once", .0.display(), .1)]
    Older(PathBuf, i64),
    /// SQLite's own lock, held by something that is no `rhaiway`.
    #[error("another process keeps the database `{}` locked; end what reads or backs it up, then start again", .0.display())]
    Locked(PathBuf),
    /// Anything else that SQLite says.
    #[error("the database `{}` cannot be opened: {}", .0.display(), .1)]
    Other(PathBuf, #[source] rusqlite::Error),
    /// The machine gave none.
    #[error("no thread for the database: {0}")]
    Thread(io::Error),
}

/// The one that holds the lock, as the start of a sentence.
struct Holder(Option<u32>);

impl std::fmt::Display for Holder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(pid) => write!(formatter, "process {pid}"),
            None => formatter.write_str("another process"),
        }
    }
}

impl OpenError {
    /// What SQLite's error means for a file at `path`.
    pub(super) fn from_sqlite(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Corrupt(path, source.to_string().into())
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked(path),
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                Self::NotWritable(path, ErrorKind::PermissionDenied.into())
            }
            _ => Self::Other(path, source),
        }
    }
}

/// The lock and the writer's connection, at the newest schema.
pub(super) struct Opened {
    pub(super) lock: File,
    pub(super) connection: Connection,
}

/// Opens for writing; makes folder and file where there is nothing.
pub(super) fn open(path: &Path) -> Result<Opened, OpenError> {
    make_folder(path)?;
    let lock = take_lock(path)?;
    if !exists(path)? {
        create(path)?;
    }
    check_file(path)?;
    let connection = connect::writer(path).map_err(|error| OpenError::from_sqlite(path, error))?;
    check(path, &connection, true)?;
    Ok(Opened { lock, connection })
}

/// Opens for reading, beside a process that writes or without one. Changes nothing.
pub(super) fn open_read_only(path: &Path) -> Result<Connection, OpenError> {
    if !exists(path)? {
        return Err(OpenError::Missing(path.to_owned()));
    }
    check_header(path)?;
    let connection = connect::reader(path).map_err(|error| OpenError::from_sqlite(path, error))?;
    check(path, &connection, false)?;
    Ok(connection)
}

fn make_folder(path: &Path) -> Result<(), OpenError> {
    let folder = folder_of(path);
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| match source.kind() {
        ErrorKind::AlreadyExists | ErrorKind::NotADirectory => {
            OpenError::NotAFolder(folder.to_owned())
        }
        _ => OpenError::NotWritable(folder.to_owned(), source),
    })
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// Held as long as the file is open, and given up by the kernel however the process ends.
fn take_lock(path: &Path) -> Result<File, OpenError> {
    let lock_path = beside(path, ".lock");
    let opened = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&lock_path);
    let mut lock = opened.map_err(|source| {
        let at_fault = if lock_path.exists() { &lock_path } else { folder_of(path) };
        OpenError::NotWritable(at_fault.to_owned(), source)
    })?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            let mut text = String::new();
            let pid = lock.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(OpenError::InUse(path.to_owned(), pid));
        }
        Err(fs::TryLockError::Error(source)) => {
            return Err(OpenError::NotWritable(lock_path, source));
        }
    }
    let written = lock
        .set_len(0)
        .and_then(|()| lock.rewind())
        .and_then(|()| writeln!(lock, "{}", std::process::id()));
    written.map_err(|source| OpenError::NotWritable(lock_path, source))?;
    Ok(lock)
}

fn exists(path: &Path) -> Result<bool, OpenError> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(true),
        Ok(_) => Err(OpenError::NotAFile(path.to_owned())),
        Err(source) if source.kind() == ErrorKind::NotFound => {
            // A dangling link is not nothing, and a WAL without its database is what is left of one.
            let orphan = beside(path, "-wal");
            if path.is_symlink() {
                Err(OpenError::NotReadable(path.to_owned(), source))
            } else if fs::metadata(&orphan).is_ok_and(|metadata| metadata.len() > 0) {
                let detail = format!("`{}` is there without it", orphan.display()).into();
                Err(OpenError::Corrupt(path.to_owned(), detail))
            } else {
                Ok(false)
            }
        }
        Err(source) if source.kind() == ErrorKind::NotADirectory => {
            Err(OpenError::NotAFolder(folder_of(path).to_owned()))
        }
        Err(source) => Err(OpenError::NotReadable(path.to_owned(), source)),
    }
}

/// Made whole under another name and then renamed: a file under the right name that is empty or cut is never our doing.
fn create(path: &Path) -> Result<(), OpenError> {
    let draft = beside(path, ".new");
    let not_writable = |source| OpenError::NotWritable(folder_of(path).to_owned(), source);
    for leftover in [&draft, &beside(path, ".new-journal")] {
        match fs::remove_file(leftover) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                return Err(not_writable(source));
            }
            _ => {}
        }
    }
    File::options().write(true).create_new(true).mode(0o600).open(&draft).map_err(not_writable)?;
    let filled = connect::plain(&draft).and_then(|connection| migrate::migrate(&connection, 0));
    filled.map_err(|error| OpenError::from_sqlite(path, error))?;
    fs::rename(&draft, path)
        .and_then(|()| File::open(folder_of(path))?.sync_all())
        .map_err(not_writable)
}

fn check_file(path: &Path) -> Result<(), OpenError> {
    // SQLite would fall back to reading where it may not write.
    File::options()
        .write(true)
        .open(path)
        .map_err(|source| OpenError::NotWritable(path.to_owned(), source))?;
    check_header(path)
}

/// What can be told from 100 bytes: that it is a database, and that it is not cut.
fn check_header(path: &Path) -> Result<(), OpenError> {
    let not_readable = |source| OpenError::NotReadable(path.to_owned(), source);
    let corrupt = |detail: &str| OpenError::Corrupt(path.to_owned(), detail.into());
    let mut file = File::open(path).map_err(not_readable)?;
    let mut header = [0; HEADER_BYTES];
    match file.read_exact(&mut header) {
        Err(source) if source.kind() == ErrorKind::UnexpectedEof => {
            return Err(corrupt("it is too short"));
        }
        read => read.map_err(not_readable)?,
    }
    if !header.starts_with(MAGIC) {
        return Err(corrupt("it does not begin like a database"));
    }
    let page_bytes = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65536,
        bytes => u64::from(bytes),
    };
    let pages = u32::from_be_bytes([header[28], header[29], header[30], header[31]]);
    let length = file.metadata().map_err(not_readable)?.len();
    // While a WAL waits to be written back, the first page may be ahead of the file.
    let wal = fs::metadata(beside(path, "-wal")).is_ok_and(|metadata| metadata.len() > 0);
    if !wal && length < u64::from(pages) * page_bytes {
        return Err(corrupt("its end is missing"));
    }
    Ok(())
}

/// Schema and, after an unclean stop, content. `writable`: bring an older schema to the newest.
fn check(path: &Path, connection: &Connection, writable: bool) -> Result<(), OpenError> {
    let sqlite = |error| OpenError::from_sqlite(path, error);
    let path = path.to_owned();
    match migrate::inspect(connection).map_err(sqlite)? {
        // Ours are made whole (`create`); one without tables has lost them.
        Found::Empty => return Err(OpenError::Corrupt(path, "it has no tables".into())),
        Found::Foreign => return Err(OpenError::Foreign(path)),
        Found::Ours { version } if version > KNOWN => {
            return Err(OpenError::Newer(path, version));
        }
        Found::Ours { version } if version < KNOWN && !writable => {
            return Err(OpenError::Older(path, version));
        }
        Found::Ours { version } => {
            if writable {
                check_content(&path, connection)?;
                migrate::migrate(connection, version).map_err(sqlite)?;
            }
        }
    }
    Ok(())
}

fn check_content(path: &Path, connection: &Connection) -> Result<(), OpenError> {
    let sqlite = |error| OpenError::from_sqlite(path, error);
    let small = fs::metadata(path).is_ok_and(|metadata| metadata.len() <= CHECKED_WHOLE_BYTES);
    if !small || super::ledger::meta(connection, "unclean").map_err(sqlite)? == 0 {
        return Ok(());
    }
    let found: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(sqlite)?;
    if found == "ok" {
        return Ok(());
    }
    Err(OpenError::Corrupt(path.to_owned(), found.into()))
}
