//! Everything a script may ask of the outside, and everything it may hear back: two enums of plain data.
//! A script suspends with a `HostCall` and resumes with a `HostReply`; it holds nothing while it waits. Who performs the call
//! (the live runtime, a test, a replay) is the driver's choice.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::call::{CallError, Called, Health, ProviderCall};
use crate::clock::{self, Millis};
use crate::payload::Payload;
use crate::store::filter::Filter;
use crate::store::order::{Order, Rank};
use crate::store::{AttemptLog, DocumentKey, Json, Number, Pending};

/// What a script asks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum HostCall {
    /// Waits.
    Sleep(Duration),
    /// Reads one document.
    Get(DocumentKey),
    /// Throws CONFLICT when the document exists.
    Insert {
        /// Where.
        key: DocumentKey,
        /// The whole document, an object.
        body: Json,
        /// How long it is there; `None`: for ever.
        ttl: Option<Duration>,
    },
    /// Writes whether or not it exists.
    Put {
        /// Where.
        key: DocumentKey,
        /// The whole document, an object.
        body: Json,
        /// The field whose value decides whether it gives way to what is stored.
        if_newer: Option<Box<str>>,
        /// How long it is there; `None`: for ever.
        ttl: Option<Duration>,
    },
    /// Merged at the top level; `null` takes a field away.
    Patch {
        /// Which.
        key: DocumentKey,
        /// An object.
        changes: Json,
    },
    /// Takes it away, if it is there.
    Delete {
        /// Which.
        key: DocumentKey,
        /// Whether its absence is kept, against writes that come late.
        tombstone: bool,
    },
    /// Adds to a number at the top level; never conflicts.
    Increment {
        /// Which.
        key: DocumentKey,
        /// The number's name.
        field: Box<str>,
        /// May be negative.
        by: Number,
    },
    /// Reads documents.
    Find {
        /// Of which collection.
        collection: Arc<str>,
        /// Which of them.
        filter: Filter,
        /// `None`: by their ids.
        order: Option<Order>,
        /// Only what stands after this.
        after: Option<After>,
        /// So many at most.
        limit: usize,
    },
    /// Counts documents.
    Count {
        /// Of which collection.
        collection: Arc<str>,
        /// Which of them.
        filter: Filter,
    },
    /// Begins an internal event with the run's commit.
    Emit(Emission),
    /// Takes back what was emitted and has not started; whether there was any.
    Cancel {
        /// Its topic.
        topic: Arc<str>,
        /// Its key.
        key: Box<str>,
    },
    /// Ends this attempt of an event. The script ends with it.
    EndAttempt(AttemptEnd),
    /// Calls a provider.
    Provider(Box<ProviderCall>),
    /// How the provider of that name is doing.
    Health(Arc<str>),
    /// Reads bytes that are not in memory.
    Read(Vec<Payload>),
    /// SHA-256 of bytes that are many.
    Digest(Payload),
}

/// One `emit`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Emission {
    /// Its topic, which is its type too.
    pub(crate) topic: Arc<str>,
    /// Any JSON value.
    pub(crate) payload: Json,
    /// When it becomes an event.
    pub(crate) when: When,
    /// Of several with the same one, only the first becomes an event.
    pub(crate) id: Option<Box<str>>,
    /// Those with the same one are handled one at a time.
    pub(crate) key: Option<Box<str>>,
    /// What becomes of those of the same key that have not started.
    pub(crate) pending: Pending,
}

/// When an internal event begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// With the commit.
    Now,
    /// So long after it was emitted.
    After(Duration),
    /// At that time, or with the commit where it has passed.
    At(Millis),
}

/// How a handler ends its own attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AttemptEnd {
    /// Again later; it is no failure.
    RetryLater {
        /// How much later.
        delay: Duration,
        /// What it waits for.
        reason: Box<str>,
    },
    /// Never again: a dead letter.
    GiveUp {
        /// Why.
        reason: Box<str>,
    },
}

/// How a call to a provider ends the attempt that makes it. The script cannot catch it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CallEnd {
    /// Again when a gate opens; it is no failure.
    Parked {
        /// By the clock that counts waits (`clock::steady`).
        until: Millis,
        /// Which gate.
        reason: Box<str>,
    },
    /// Whether it was done before is not known, and it must not be done twice: a dead letter.
    Unknown {
        /// Which call.
        reason: Box<str>,
    },
}

/// What a script has seen last.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum After {
    /// The document of this id, wherever it stands now.
    Id(Box<str>),
    /// A document as it was read.
    Rank(Rank),
}

/// What a script hears back.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum HostReply {
    /// Done; there is nothing to tell.
    Unit,
    /// Whether it wrote.
    Bool(bool),
    /// How many.
    Count(u64),
    /// One document with its `id` inside, or none.
    Document(Option<Json>),
    /// Several, each with its `id` inside.
    Documents(Vec<Json>),
    /// To `Read`: each as a whole, in the order of the question.
    Bytes(Vec<Bytes>),
    /// To `Digest`.
    Digest([u8; 32]),
    /// To `parallel`: nothing else can run its closures now, so the next one runs where it is called.
    RunHere,
    /// What a provider answered.
    Called(Box<Called>),
    /// How a provider is doing.
    Health(Box<Health>),
    /// Why a provider did not; thrown into the script as a map, which may catch it.
    CallFailed(Box<CallError>),
    /// Thrown into the script as a map with `code` and `message`; the script may catch it.
    Failed(HostError),
    /// The run is over: the client left, the runtime stops, time is up. Nothing in the script can catch this.
    Ended,
    /// The call itself has ended the attempt, and whoever performs knows how (`CallEnd`). Nothing in the script can catch this.
    Over,
}

/// Sets the seeds of branches apart from whatever else follows from a run's seed.
const PARALLEL: u64 = 0x7061_7261_6c6c_656c;

/// One number of two, so that neighbours have nothing in common (the finalizer of SplitMix64, Steele and others, 2014).
fn mixed(seed: u64, number: u64) -> u64 {
    let mut mixed = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Why a call failed, in the words that scripts see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostError {
    /// In capitals, such as `CONFLICT`.
    pub(crate) code: &'static str,
    /// A sentence for people.
    pub(crate) message: Box<str>,
}

/// What a run, or a branch of one, knows without asking, fixed at its start.
#[derive(Debug)]
pub(crate) struct Given {
    /// The run's own time at its start; `now()` counts on from it.
    pub(crate) started_at: Millis,
    /// When that was on the monotonic clock.
    pub(crate) started: Instant,
    /// `uuid()` follows from it, so that a rerun of a job makes the same ones.
    pub(crate) seed: u64,
    uuids: Cell<u64>,
    parallels: Cell<u64>,
    /// For log lines: the event or request, and the script.
    pub(crate) subject: Rc<str>,
    /// Its name.
    pub(crate) script: Arc<str>,
    /// What it logs, where that is kept; one for a run and all its branches.
    log: Option<Rc<RefCell<AttemptLog>>>,
}

impl Given {
    /// For a run that starts now.
    pub(crate) fn new(seed: u64, subject: String, script: &Arc<str>) -> Self {
        let (started_at, started) = (clock::now(), clock::instant());
        Self {
            started_at,
            started,
            seed,
            uuids: Cell::new(0),
            parallels: Cell::new(0),
            subject: subject.into(),
            script: Arc::clone(script),
            log: None,
        }
    }

    /// The same, and what is logged is kept.
    pub(crate) fn keeping_log(self) -> Self {
        Self { log: Some(Rc::default()), ..self }
    }

    /// Keeps a line, if lines are kept.
    pub(crate) fn note(&self, level: &str, message: &str, fields: &str) {
        if let Some(log) = &self.log {
            log.borrow_mut().push(self.now(), level, message, fields);
        }
    }

    /// What was logged so far. From now on there is nothing of it here.
    pub(crate) fn take_log(&self) -> AttemptLog {
        self.log.as_ref().map(|log| log.take()).unwrap_or_default()
    }

    /// The number of the next call of `parallel`.
    pub(crate) fn next_parallel(&self) -> u64 {
        self.parallels.replace(self.parallels.get() + 1)
    }

    /// What a branch is given: the same, but for chance. That follows from where the branch stands and not from when it runs, so that a rerun
    /// makes the same.
    pub(crate) fn branch(&self, parallel: u64, index: usize) -> Self {
        let place = mixed(mixed(self.seed ^ PARALLEL, parallel), index as u64);
        Self {
            started_at: self.started_at,
            started: self.started,
            seed: place,
            uuids: Cell::new(0),
            parallels: Cell::new(0),
            subject: Rc::clone(&self.subject),
            script: Arc::clone(&self.script),
            log: self.log.clone(),
        }
    }

    /// The run's time.
    pub(crate) fn now(&self) -> Millis {
        self.started_at.plus(clock::instant().saturating_duration_since(self.started))
    }

    /// The next UUIDv4 of this run's own sequence.
    pub(crate) fn uuid(&self) -> uuid::Uuid {
        let count = self.uuids.get();
        self.uuids.set(count + 1);
        let mut chance = fastrand::Rng::with_seed(
            self.seed.wrapping_add(count.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        );
        uuid::Builder::from_random_bytes(chance.u128(..).to_be_bytes()).into_uuid()
    }
}
