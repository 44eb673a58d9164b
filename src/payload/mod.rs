//! Bytes that may be many: in memory, or in a spool file on disk. A `Payload` is a handle: a clone or a slice shares what it is of, and each
//! can be read as often as somebody likes, since a call may be tried again.
//!
//! Files are read on threads that may block, never on a worker.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use ring::digest::{Context, SHA256};

mod spool;

pub(crate) use self::spool::{Spool, SpoolError, Spooled, Spooling};

/// What is larger waits on disk: most requests of an API are not, and so cost no file.
pub(crate) const MEMORY_BYTES_MAX: u64 = 64 << 10;
/// One step of reading: a thousandth of a second of a slow disk, and few enough steps that handing them over costs nothing.
const CHUNK_BYTES: u64 = 256 << 10;

/// A handle to bytes that do not change.
#[derive(Clone)]
pub(crate) struct Payload(Place);

#[derive(Clone)]
enum Place {
    Memory(Bytes),
    Disk { file: Arc<Spooled>, range: Range<u64> },
}

impl Payload {
    /// Of a file as a whole.
    fn of_file(file: Arc<Spooled>, length: u64) -> Self {
        Self(Place::Disk { file, range: 0..length })
    }

    /// In bytes.
    pub(crate) fn len(&self) -> u64 {
        match &self.0 {
            Place::Memory(bytes) => bytes.len() as u64,
            Place::Disk { range, .. } => range.end - range.start,
        }
    }

    /// The bytes, where nothing has to be read.
    pub(crate) fn in_memory(&self) -> Option<&Bytes> {
        match &self.0 {
            Place::Memory(bytes) => Some(bytes),
            Place::Disk { .. } => None,
        }
    }

    /// A part of it; what reaches past its end is cut.
    pub(crate) fn slice(&self, part: Range<u64>) -> Self {
        let end = part.end.min(self.len());
        let start = part.start.min(end);
        Self(match &self.0 {
            Place::Memory(bytes) => {
                // Both are at most the length, which is one of memory.
                let at = |offset: u64| usize::try_from(offset).unwrap_or(bytes.len());
                Place::Memory(bytes.slice(at(start)..at(end)))
            }
            Place::Disk { file, range } => Place::Disk {
                file: Arc::clone(file),
                range: range.start + start..range.start + end,
            },
        })
    }

    /// All of it, in memory.
    pub(crate) async fn read(&self) -> io::Result<Bytes> {
        match &self.0 {
            Place::Memory(bytes) => Ok(bytes.clone()),
            Place::Disk { file, range } => read(file, range.clone()).await,
        }
    }

    /// The next bytes from `offset` on; none at the end.
    pub(crate) async fn read_from(&self, offset: u64) -> io::Result<Bytes> {
        let end = self.len().min(offset.saturating_add(CHUNK_BYTES));
        self.slice(offset..end).read().await
    }

    /// From its beginning to its end. Each stream reads anew.
    pub(crate) fn chunks(&self) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
        futures_util::stream::try_unfold((self.clone(), 0), |(payload, offset)| async move {
            let bytes = payload.read_from(offset).await?;
            let next = (payload, offset + bytes.len() as u64);
            Ok((!bytes.is_empty()).then_some((bytes, next)))
        })
    }

    /// What a digest comes to when these bytes follow. Many bytes in memory are worth a thread too: at half a gigabyte a second they would hold a
    /// worker up.
    pub(crate) async fn digest(&self, mut digest: Context) -> io::Result<Context> {
        if self.len() <= MEMORY_BYTES_MAX
            && let Some(bytes) = self.in_memory()
        {
            digest.update(bytes);
            return Ok(digest);
        }
        let place = self.0.clone();
        blocking(move || {
            match place {
                Place::Memory(bytes) => digest.update(&bytes),
                Place::Disk { file, range } => {
                    let mut start = range.start;
                    while start < range.end {
                        let end = range.end.min(start + CHUNK_BYTES);
                        digest.update(&file.read(start..end)?);
                        start = end;
                    }
                }
            }
            Ok(digest)
        })
        .await
    }

    /// SHA-256 of it.
    pub(crate) async fn sha256(&self) -> io::Result<[u8; 32]> {
        let digest = self.digest(Context::new(&SHA256)).await?.finish();
        Ok(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

/// Several, each as a whole, in one go.
pub(crate) async fn read_all(payloads: Vec<Payload>) -> io::Result<Vec<Bytes>> {
    if payloads.iter().all(|payload| payload.in_memory().is_some()) {
        return Ok(payloads.iter().filter_map(|payload| payload.in_memory().cloned()).collect());
    }
    blocking(move || {
        let read = |payload: Payload| match payload.0 {
            Place::Memory(bytes) => Ok(bytes),
            Place::Disk { file, range } => file.read(range),
        };
        payloads.into_iter().map(read).collect()
    })
    .await
}

async fn read(file: &Arc<Spooled>, range: Range<u64>) -> io::Result<Bytes> {
    if range.is_empty() {
        return Ok(Bytes::new());
    }
    let file = Arc::clone(file);
    blocking(move || file.read(range)).await
}

/// Does what may wait for a disk where nobody else waits for it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|gone| Err(io::Error::other(gone)))
}

impl<T: Into<Bytes>> From<T> for Payload {
    fn from(bytes: T) -> Self {
        Self(Place::Memory(bytes.into()))
    }
}

/// The same bytes in memory, or the same part of the same file.
impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Place::Memory(bytes), Place::Memory(others)) => bytes == others,
            (Place::Disk { file, range }, Place::Disk { file: other, range: others }) => {
                Arc::ptr_eq(file, other) && range == others
            }
            (Place::Memory(_) | Place::Disk { .. }, _) => false,
        }
    }
}

impl Eq for Payload {}

/// How many and where; never the bytes, which are somebody's.
impl fmt::Debug for Payload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.in_memory().is_some() { "in memory" } else { "on disk" };
        write!(formatter, "{} bytes {place}", self.len())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt as _;

    use super::*;

    async fn spooled(bytes: &[u8]) -> Payload {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::in_folder(folder.path(), "test", 10);
        let mut spooling = Spooling::new(&spool);
        for chunk in bytes.chunks(100_000) {
            spooling.push(&Bytes::copy_from_slice(chunk)).await.unwrap();
        }
        spooling.finish().await.unwrap()
    }

    fn counted(length: usize) -> Vec<u8> {
        (0..length).map(|index| (index % 251).to_le_bytes()[0]).collect()
    }

    #[tokio::test]
    async fn a_payload_reads_the_same_wherever_it_is_and_however_often() {
        for length in [0, 1, 65_536, 65_537, 1_000_003] {
            let bytes = counted(length);
            let payload = spooled(&bytes).await;
            assert_eq!(payload.in_memory().is_some(), length <= 65_536, "{length}");
            for _time in 0..2 {
                let chunks: Vec<Bytes> = payload.chunks().try_collect().await.unwrap();
                assert_eq!(chunks.concat(), bytes, "{length}");
                assert_eq!(payload.read().await.unwrap(), bytes, "{length}");
            }
            let same = Payload::from(bytes.clone());
            assert_eq!(payload.sha256().await.unwrap(), same.sha256().await.unwrap(), "{length}");
        }
    }

    #[tokio::test]
    async fn a_slice_of_a_slice_is_a_part_of_the_whole_and_ends_where_that_ends() {
        let bytes = counted(200_000);
        for payload in [spooled(&bytes).await, Payload::from(bytes.clone())] {
            let inner = payload.slice(1_000..150_000).slice(10..70_010);
            assert_eq!(inner.read().await.unwrap(), bytes[1_010..71_010]);
            assert_eq!(payload.slice(199_990..u64::MAX).len(), 10);
            assert_eq!(payload.slice(300_000..400_000).len(), 0);
            let several = vec![payload.slice(0..2), inner.slice(0..3), Payload::from("x")];
            let read = read_all(several).await.unwrap();
            assert_eq!(read.concat(), [&bytes[..2], &bytes[1_010..1_013], b"x"].concat());
        }
    }
}
