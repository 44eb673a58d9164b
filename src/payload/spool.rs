//! Files for what is too large to wait in memory. Each has no name once it is made, so it is gone with the last handle to it, also when the
//! process is killed. How many there are and what they hold is bounded for the whole process.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};

use super::{CHUNK_BYTES, MEMORY_BYTES_MAX, Payload, blocking};
use crate::clock;

/// Bytes of all files together: ten bodies of the largest `max_body` there may be, and little beside what a database may grow to.
const BYTES_MAX: u64 = 10 << 30;

/// Where spool files are made, and what there is of them.
#[derive(Debug)]
pub(crate) struct Spool {
    folder: PathBuf,
    /// What the name of a file begins with, for the moment in which it has one.
    prefix: String,
    /// Each holds a descriptor, and connections need theirs.
    files_max: u64,
    files: AtomicU64,
    bytes: AtomicU64,
}

/// Why something cannot be spooled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolError {
    /// By the system.
    #[error("no spool file in {}: {error}", folder.display())]
    File {
        /// Beside the database.
        folder: PathBuf,
        /// Such as that the disk is full.
        error: io::Error,
    },
    /// So many files, or `BYTES_MAX`.
    #[error("{0} large bodies, or 10GiB of them, are in work already")]
    Full(u64),
}

impl Spool {
    /// In the folder of the database, under its name; so many files at most. What a crash has left there is removed: whoever calls holds the
    /// database's lock.
    pub(crate) fn beside(database: &Path, files_max: u64) -> Arc<Self> {
        let folder = database.parent().filter(|folder| !folder.as_os_str().is_empty());
        let name = database.file_name().unwrap_or_default().to_string_lossy();
        let spool = Self::in_folder(folder.unwrap_or(Path::new(".")), &name, files_max);
        spool.sweep();
        spool
    }

    /// In this folder; the names of its files begin with `name`.
    pub(super) fn in_folder(folder: &Path, name: &str, files_max: u64) -> Arc<Self> {
        Arc::new(Self {
            folder: folder.to_owned(),
            prefix: format!("{name}-spool-"),
            files_max,
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        })
    }

    /// Files that a crash has left in the moment between their making and their removal.
    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(&self.prefix) {
                // One that cannot be removed is empty, and harms nobody.
                _ = fs::remove_file(entry.path());
            }
        }
    }

    /// A file without a name, for its owner alone.
    fn create(self: &Arc<Self>) -> Result<Spooled, SpoolError> {
        if self.files.fetch_add(1, Ordering::Relaxed) >= self.files_max {
            self.files.fetch_sub(1, Ordering::Relaxed);
            return Err(SpoolError::Full(self.files_max));
        }
        match self.open() {
            Ok(file) => {
                Ok(Spooled { file: Some(file), spool: Arc::clone(self), bytes: AtomicU64::new(0) })
            }
            Err(error) => {
                self.files.fetch_sub(1, Ordering::Relaxed);
                Err(self.failed(error))
            }
        }
    }

    fn open(&self) -> io::Result<File> {
        let path = self.folder.join(format!("{}{}", self.prefix, clock::uuid().simple()));
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        fs::remove_file(&path)?;
        Ok(file)
    }

    fn failed(&self, error: io::Error) -> SpoolError {
        SpoolError::File { folder: self.folder.clone(), error }
    }
}

/// A file on disk that nobody else can reach.
#[derive(Debug)]
pub(crate) struct Spooled {
    /// There until it is dropped.
    file: Option<File>,
    spool: Arc<Spool>,
    /// Written so far.
    bytes: AtomicU64,
}

impl Spooled {
    /// Blocks.
    pub(super) fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        self.file()?.read_exact_at(&mut bytes, range.start)?;
        Ok(bytes.into())
    }

    /// Blocks.
    fn append(&self, bytes: &[u8]) -> Result<(), SpoolError> {
        let length = bytes.len() as u64;
        if self.spool.bytes.fetch_add(length, Ordering::Relaxed) + length > BYTES_MAX {
            self.spool.bytes.fetch_sub(length, Ordering::Relaxed);
            return Err(SpoolError::Full(self.spool.files_max));
        }
        let start = self.bytes.fetch_add(length, Ordering::Relaxed);
        let written = self.file().and_then(|file| file.write_all_at(bytes, start));
        written.map_err(|error| self.spool.failed(error))
    }

    fn file(&self) -> io::Result<&File> {
        self.file.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// A large file is given back to the disk block by block, which no worker has the time for.
impl Drop for Spooled {
    fn drop(&mut self) {
        let file = self.file.take();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            drop(runtime.spawn_blocking(move || drop(file)));
        }
        self.spool.files.fetch_sub(1, Ordering::Relaxed);
        self.spool.bytes.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

/// Bytes as they come: in memory until they are too many, then in a file.
pub(crate) struct Spooling {
    spool: Arc<Spool>,
    file: Option<Arc<Spooled>>,
    /// What is not written yet.
    waiting: BytesMut,
    length: u64,
}

impl Spooling {
    /// Nothing has come yet.
    pub(crate) fn new(spool: &Arc<Spool>) -> Self {
        Self { spool: Arc::clone(spool), file: None, waiting: BytesMut::new(), length: 0 }
    }

    /// The next bytes. Who waits for this reads no faster than the disk writes.
    pub(crate) async fn push(&mut self, bytes: &Bytes) -> Result<(), SpoolError> {
        self.waiting.extend_from_slice(bytes);
        self.length += bytes.len() as u64;
        let held = if self.file.is_some() { CHUNK_BYTES } else { MEMORY_BYTES_MAX };
        if self.waiting.len() as u64 > held { self.write().await } else { Ok(()) }
    }

    /// All that has come.
    pub(crate) async fn finish(mut self) -> Result<Payload, SpoolError> {
        if self.file.is_some() && !self.waiting.is_empty() {
            self.write().await?;
        }
        Ok(match self.file {
            Some(file) => Payload::of_file(file, self.length),
            None => Payload::from(self.waiting.freeze()),
        })
    }

    async fn write(&mut self) -> Result<(), SpoolError> {
        let (spool, file) = (Arc::clone(&self.spool), self.file.take());
        let mut waiting = std::mem::take(&mut self.waiting);
        let written = blocking(move || {
            Ok(file.map_or_else(|| spool.create().map(Arc::new), Ok).and_then(|file| {
                file.append(&waiting)?;
                waiting.clear();
                Ok((file, waiting))
            }))
        })
        .await;
        let (file, waiting) = written.map_err(|error| self.spool.failed(error))??;
        (self.file, self.waiting) = (Some(file), waiting);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_spool_file_has_no_name_and_is_counted_until_its_last_handle_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::in_folder(folder.path(), "test.db", 10);
        let mut spooling = Spooling::new(&spool);
        spooling.push(&vec![7; 100_000].into()).await.unwrap();
        let payload = spooling.finish().await.unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let part = payload.slice(1..2);
        drop(payload);
        assert_eq!(spool.files.load(Ordering::Relaxed), 1);
        assert_eq!(spool.bytes.load(Ordering::Relaxed), 100_000);
        assert_eq!(part.read().await.unwrap(), [7].as_slice());
        drop(part);
        assert_eq!(spool.files.load(Ordering::Relaxed), 0);
        assert_eq!(spool.bytes.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn past_its_bounds_and_without_its_folder_nothing_is_spooled_and_nothing_stays_counted() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::in_folder(folder.path(), "test.db", 10);
        let large = Bytes::from(vec![7; 100_000]);
        spool.files.store(10, Ordering::Relaxed);
        let refused = Spooling::new(&spool).push(&large).await;
        assert!(matches!(refused, Err(SpoolError::Full(10))), "{refused:?}");
        spool.files.store(9, Ordering::Relaxed);
        assert!(Spooling::new(&spool).push(&large).await.is_ok());
        spool.files.store(0, Ordering::Relaxed);
        spool.bytes.store(BYTES_MAX - 99_999, Ordering::Relaxed);
        let refused = Spooling::new(&spool).push(&large).await;
        assert!(matches!(refused, Err(SpoolError::Full(10))), "{refused:?}");
        spool.bytes.store(0, Ordering::Relaxed);
        folder.close().unwrap();
        let refused = Spooling::new(&spool).push(&large).await;
        assert!(matches!(refused, Err(SpoolError::File { .. })), "{refused:?}");
        assert_eq!(spool.files.load(Ordering::Relaxed), 0);
        assert_eq!(spool.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_a_crash_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["rhaiway.db", "rhaiway.db-wal", "rhaiway.db-spool-1", "other.db-spool-1"];
        for name in names {
            fs::write(folder.path().join(name), "").unwrap();
        }
        Spool::beside(&folder.path().join("rhaiway.db"), 10);
        let left = names.map(|name| folder.path().join(name).exists());
        assert_eq!(left, [true, true, false, true]);
    }
}
