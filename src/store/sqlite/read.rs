//! Reads. One document is read on the worker that asks, at once; whatever may scan runs on a few threads of its own, so that a worker
//! is never held up by it.

use std::cell::RefCell;
use std::future::ready;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rusqlite::{Connection, OptionalExtension as _};
use tokio::sync::{mpsc, oneshot};

use super::{OpenError, Shared, answers, calls, connect, emits, search, send};
use crate::clock::{self, Millis};
use crate::store::filter::Filter;
use crate::store::{
    Answer, AnswerKey, Document, DocumentKey, Find, JobKey, Json, Known, LocalAnswer, Read, Reader,
    Recalled, StoreError, Version,
};

/// Two, so that one long scan does not hold up every other read.
const THREADS: usize = 2;
/// Reads that wait, at most; above it those who ask wait for a place.
const QUEUE: usize = 1024;

type Work = Box<dyn FnOnce(&mut Source) + Send>;

/// A connection that is opened when it is needed, and anew after an error.
pub(super) struct Source {
    shared: Arc<Shared>,
    connection: Option<Connection>,
}

impl Source {
    pub(super) fn open(shared: Arc<Shared>) -> rusqlite::Result<Self> {
        let connection = Some(connect::reader(shared.paths.database())?);
        Ok(Self { shared, connection })
    }

    /// Each statement sees all that was committed before it began.
    fn read<T>(
        &mut self,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        if self.shared.is_closed() {
            return Err(StoreError::Closed);
        }
        let answer = match self.connection.take() {
            Some(connection) => Ok(connection),
            None => connect::reader(self.shared.paths.database()),
        }
        .and_then(|connection| question(self.connection.insert(connection)));
        answer.map_err(|error| {
            self.connection = None;
            StoreError::Unavailable(error.to_string().into())
        })
    }
}

/// The threads for scans, and the way to them.
#[derive(Clone)]
pub(super) struct Pool {
    queue: mpsc::Sender<Work>,
}

impl Pool {
    /// The threads end when nobody can ask any more.
    pub(super) fn start(shared: &Arc<Shared>) -> Result<Self, OpenError> {
        let (queue, work) = mpsc::channel(QUEUE);
        let work = Arc::new(Mutex::new(work));
        for number in 1..=THREADS {
            let source = Source::open(Arc::clone(shared))
                .map_err(|error| OpenError::from_sqlite(shared.paths.database(), error))?;
            let work = Arc::clone(&work);
            thread::Builder::new()
                .name(format!("store-read-{number}"))
                .spawn(move || serve(&work, source))
                .map_err(OpenError::Thread)?;
        }
        Ok(Self { queue })
    }

    pub(super) fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Answer<T> {
        let (reply, answer) = oneshot::channel();
        let work = move |source: &mut Source| {
            // Whoever asked may be gone: then the scan is not made, or its result is dropped.
            if !reply.is_closed() {
                let _: Result<(), _> = reply.send(source.read(question));
            }
        };
        send(&self.queue, Box::new(work), answer)
    }
}

fn serve(queue: &Mutex<mpsc::Receiver<Work>>, mut source: Source) {
    loop {
        // Whichever thread is free waits for the next piece while it holds the lock; nobody else takes it.
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(work) = next else { return };
        work(&mut source);
    }
}

/// A worker's own: `get`, `known` and `calls` on its connection, the others on the pool's.
pub(super) struct SqliteReader {
    source: RefCell<Source>,
    pool: Pool,
}

impl SqliteReader {
    pub(super) fn open(shared: Arc<Shared>, pool: Pool) -> rusqlite::Result<Self> {
        Ok(Self { source: RefCell::new(Source::open(shared)?), pool })
    }

    fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.source.borrow().shared)
    }
}

impl Reader for SqliteReader {
    fn get(&self, key: &DocumentKey) -> LocalAnswer<'_, Read> {
        let read = self.source.borrow_mut().read(|connection| get(connection, key));
        Box::pin(ready(read))
    }

    fn known(&self, key: &AnswerKey) -> LocalAnswer<'_, Option<Known>> {
        let known = self.source.borrow_mut().read(|connection| answers::known(connection, key));
        Box::pin(ready(known))
    }

    fn calls(&self, job: JobKey) -> LocalAnswer<'_, Recalled> {
        let calls = self.source.borrow_mut().read(|connection| calls::of_job(connection, job));
        Box::pin(ready(calls))
    }

    fn find(&self, collection: &str, find: Find) -> LocalAnswer<'_, Vec<Document>> {
        let (collection, shared) = (Box::<str>::from(collection), self.shared());
        self.pool.ask(move |connection| {
            let found = search::find(connection, &collection, &find, clock::now())?;
            shared.scans.note_find(&collection, &find, found.scanned);
            Ok(found.result)
        })
    }

    fn waits(&self, webhook: &str, key: &str) -> LocalAnswer<'_, bool> {
        let (webhook, key): (Box<str>, Box<str>) = (webhook.into(), key.into());
        self.pool.ask(move |connection| emits::waits(connection, &webhook, &key))
    }

    fn count(&self, collection: &str, filter: Filter) -> LocalAnswer<'_, u64> {
        let (collection, shared) = (Box::<str>::from(collection), self.shared());
        self.pool.ask(move |connection| {
            let found = search::count(connection, &collection, &filter, clock::now())?;
            shared.scans.note_count(&collection, &filter, found.scanned);
            Ok(found.result)
        })
    }
}

fn get(connection: &Connection, key: &DocumentKey) -> rusqlite::Result<Read> {
    let found = connection
        .prepare_cached(
            "SELECT version, expires_at, body FROM documents WHERE collection = ?1 AND id = ?2",
        )?
        .query_row([&*key.collection, &*key.id], |row| {
            let version = Version(u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0));
            let expires_at = row.get::<_, Option<i64>>(1)?.map(Millis);
            if expires_at.is_some_and(|until| until <= clock::now()) {
                return Ok(Read::Absent);
            }
            Ok(match row.get(2)? {
                Some(body) => Read::Found { body: Json(body), version, expires_at },
                None => Read::Tombstone(version),
            })
        })
        .optional()?;
    Ok(found.unwrap_or(Read::Absent))
}
