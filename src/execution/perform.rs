//! Does what a script asked, for real: documents through the store, waits through the clock. Writes are kept in the run's draft until its commit.
//!
//! Branches of `parallel` share the draft, so it is borrowed for moments and never across a wait: what was true before one may have changed after it.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;

use super::journal::Journal;
use super::opening::{Begun, Opening};
use super::pipe::Taken;
use super::streams::Streams;
use crate::clock::{self, Millis};
use crate::id::EventId;
use crate::payload;
use crate::provider::{Caller, Circumstances, Provider};
use crate::script::api::event;
use crate::script::api::respond::Answer;
use crate::script::effects::Draft;
use crate::script::host_call::{
    After, AttemptEnd, CallEnd, Emission, Form, Given, HostCall, HostError, HostReply, When,
};
use crate::script::run::{Perform, Performed};
use crate::script::source;
use crate::store::filter::Filter;
use crate::store::order::{Order, Rank};
use crate::store::{DocumentKey, Effects, Find, NewEvent, Reader, StoreError};

/// What a run needs to call providers.
pub(super) struct Calling {
    pub(super) caller: Rc<Caller>,
    /// Those of the run's generation.
    pub(super) providers: Arc<[Arc<Provider>]>,
    pub(super) circumstances: Circumstances,
    /// Set before the first call that may have an effect outside.
    pub(super) has_acted: Rc<Cell<bool>>,
}

/// The live performer of one run.
pub(super) struct Live {
    reader: Rc<dyn Reader>,
    draft: RefCell<Draft>,
    /// How long a tombstone holds.
    retention: Duration,
    /// For the events that it emits.
    given: Rc<Given>,
    /// Whether the run is an attempt, which its handler may end.
    is_attempt: bool,
    ended: RefCell<Option<AttemptEnd>>,
    /// Where its stream begins; `None` where its result cannot be one.
    opening: Option<Rc<Opening>>,
    pub(super) streams: Streams,
    pub(super) calling: Calling,
    over: RefCell<Option<CallEnd>>,
    /// What it asks of providers.
    pub(super) journal: Rc<Journal>,
}

impl Live {
    pub(super) fn new(
        reader: Rc<dyn Reader>,
        retention: Duration,
        given: Rc<Given>,
        is_attempt: bool,
        opening: Option<Rc<Opening>>,
        calling: Calling,
        journal: Rc<Journal>,
    ) -> Self {
        let (draft, ended, over) = (RefCell::default(), RefCell::default(), RefCell::default());
        let streams = Streams::default();
        Self {
            reader,
            draft,
            retention,
            given,
            is_attempt,
            ended,
            opening,
            streams,
            calling,
            over,
            journal,
        }
    }

    /// How the handler ended its attempt, if it did.
    pub(super) fn ended(&self) -> Option<AttemptEnd> {
        self.ended.take()
    }

    /// How a call ended it, if one did.
    pub(super) fn over(&self) -> Option<CallEnd> {
        self.over.take()
    }

    /// Ends the attempt by a call; the first of several counts.
    pub(super) fn end_by_call(&self, end: CallEnd) -> HostReply {
        self.over.borrow_mut().get_or_insert(end);
        HostReply::Over
    }

    pub(super) fn into_effects(self) -> Effects {
        self.draft.into_inner().into_effects()
    }

    fn emit(&self, draft: &mut Draft, emission: Emission) -> Result<(), HostError> {
        let now = clock::now();
        let due_at = match emission.when {
            When::Now => None,
            When::After(delay) => Some(now.plus(delay)),
            When::At(at) => Some(at).filter(|at| *at > now),
        };
        let event = NewEvent {
            id: EventId(clock::uuid()),
            webhook: source::topic(&emission.topic),
            delivery_id: emission.id,
            order_key: emission.key,
            kind: emission.topic.as_ref().into(),
            received_at: now,
            request: event::origin(&self.given.subject, &self.given.script),
            body: emission.payload.0.into_string().into(),
            replay_of: None,
        };
        draft.emit(event, due_at, emission.pending)
    }

    fn end_attempt(&self, end: AttemptEnd) -> HostReply {
        if !self.is_attempt {
            let message = "only the handler of an event has attempts; a route answers, for example with `throw status(503)`";
            return HostReply::Failed(HostError {
                code: "INVALID_ARGUMENT",
                message: message.into(),
            });
        }
        self.ended.borrow_mut().get_or_insert(end);
        HostReply::Unit
    }

    /// From here on the draft is a new one: what is written while it streams is committed at its end.
    fn begin_stream(&self, head: Answer) -> Performed<'_> {
        let Some(opening) = &self.opening else {
            return Performed::Now(no_stream(self.is_attempt));
        };
        let effects = self.draft.take().into_effects();
        Performed::Later(Box::pin(async move {
            opening.begin(Begun { head, effects, pieces: None }).await;
            HostReply::Unit
        }))
    }

    /// Nobody reads the stream any more. What has begun something outside comes to its end all the same, within the time and CPU that are left.
    fn abandoned(&self) -> HostReply {
        if self.calling.has_acted.get() { HostReply::Bool(false) } else { HostReply::Ended }
    }

    /// The run is not asked again: who agrees has all that it wants of it.
    fn pass_stream(&self, number: u32) -> Performed<'_> {
        let Some(opening) = &self.opening else {
            return Performed::Now(no_stream(self.is_attempt));
        };
        let Some(streaming) = self.streams.take(number) else {
            return Performed::Now(HostReply::Ended);
        };
        let content_type = streaming.content_type().unwrap_or("application/octet-stream");
        let headers = vec![("content-type".into(), content_type.into())];
        let head = Answer { headers, ..Answer::empty(200) };
        let pieces = Some(streaming.into_pieces());
        let effects = self.draft.take().into_effects();
        Performed::Later(Box::pin(async move {
            opening.begin(Begun { head, effects, pieces }).await;
            HostReply::Unit
        }))
    }

    fn write(&self, bytes: Vec<u8>, form: Form) -> Performed<'_> {
        let Some(inlet) = self.opening.as_ref().and_then(|opening| opening.inlet()) else {
            return Performed::Now(HostReply::Ended);
        };
        match inlet.try_write(&bytes, form) {
            Taken::Yes => Performed::Now(HostReply::Unit),
            Taken::Abandoned => Performed::Now(self.abandoned()),
            Taken::Full => Performed::Later(Box::pin(async move {
                if inlet.write(&bytes, form).await { HostReply::Unit } else { self.abandoned() }
            })),
        }
    }

    fn later(&self, call: HostCall) -> Performed<'_> {
        Performed::Later(Box::pin(async move {
            self.in_time(call).await.unwrap_or_else(|error| failed(&error))
        }))
    }

    /// What the draft alone can answer.
    fn at_once(&self, call: HostCall) -> Result<HostReply, HostCall> {
        let mut draft = self.draft.borrow_mut();
        Ok(match call {
            HostCall::Get(key) => HostReply::Document(draft.get(&key)),
            HostCall::Insert { key, body, ttl } => {
                match draft.insert(&key, body, expires_at(ttl)) {
                    Ok(()) => HostReply::Unit,
                    Err(error) => HostReply::Failed(error),
                }
            }
            HostCall::Put { key, body, if_newer: None, ttl } => {
                draft.put(&key, body, expires_at(ttl));
                HostReply::Bool(true)
            }
            HostCall::Put { key, body, if_newer: Some(field), ttl } => {
                HostReply::Bool(draft.put_if_newer(&key, body, field, expires_at(ttl)))
            }
            HostCall::Patch { key, changes } => HostReply::Bool(draft.patch(&key, &changes)),
            HostCall::Delete { key, tombstone } => {
                let until = tombstone.then(|| clock::now().plus(self.retention));
                draft.delete(&key, until);
                HostReply::Unit
            }
            HostCall::Increment { key, field, by } => {
                draft.increment(&key, field, by);
                HostReply::Unit
            }
            HostCall::Emit(emission) => match self.emit(&mut draft, emission) {
                Ok(()) => HostReply::Unit,
                Err(error) => HostReply::Failed(error),
            },
            HostCall::EndAttempt(end) => self.end_attempt(end),
            HostCall::Health(name) => self.health(&name),
            call @ (HostCall::Provider(_)
            | HostCall::Sleep(_)
            | HostCall::Find { .. }
            | HostCall::Count { .. }
            | HostCall::Cancel { .. }
            | HostCall::ReadStream { .. }
            | HostCall::PassStream(_)
            | HostCall::BeginStream(_)
            | HostCall::Write { .. }
            | HostCall::Read(_)
            | HostCall::Digest(_)) => return Err(call),
        })
    }

    async fn in_time(&self, call: HostCall) -> Result<HostReply, StoreError> {
        if let Some(key) = looks_at(&call) {
            self.learn(key).await?;
        }
        match self.at_once(call) {
            Ok(reply) => Ok(reply),
            Err(HostCall::Sleep(duration)) => {
                tokio::time::sleep(duration).await;
                Ok(HostReply::Unit)
            }
            Err(HostCall::Find { collection, filter, order, after, limit }) => {
                let after = match self.rank(&collection, order.as_ref(), after).await? {
                    Ok(after) => after,
                    Err(error) => return Ok(HostReply::Failed(error)),
                };
                self.find(&collection, Find { filter, order, after, limit }).await
            }
            Err(HostCall::Count { collection, filter }) => self.count(&collection, filter).await,
            Err(HostCall::Cancel { topic, key }) => self.cancel(&topic, key).await,
            // Apart, so that what waits for something smaller does not hold room for a call.
            Err(HostCall::Provider(call)) => Box::pin(self.call(&call)).await,
            Err(HostCall::Read(payloads)) => {
                Ok(read(payload::read_all(payloads).await.map(HostReply::Bytes)))
            }
            Err(HostCall::Digest(payload)) => {
                Ok(read(payload.sha256().await.map(HostReply::Digest)))
            }
            Err(_answered_at_once) => Ok(HostReply::Unit),
        }
    }

    async fn learn(&self, key: &DocumentKey) -> Result<(), StoreError> {
        if self.must_learn(key) {
            let read = self.reader.get(key).await?;
            // Another branch may have learned or written it meanwhile, and the run sees that.
            if self.must_learn(key) {
                self.draft.borrow_mut().learn(key, read);
            }
        }
        Ok(())
    }

    async fn cancel(&self, topic: &str, key: Box<str>) -> Result<HostReply, StoreError> {
        let webhook = source::topic(topic);
        let by_itself = self.draft.borrow().waits(&webhook, &key);
        let stored = match by_itself {
            Some(waits) => waits,
            None => self.reader.waits(&webhook, &key).await?,
        };
        let mut draft = self.draft.borrow_mut();
        // Another branch may have emitted under the key meanwhile, and the run sees that.
        let waits = draft.waits(&webhook, &key).unwrap_or(stored);
        Ok(match draft.cancel(webhook, key, waits) {
            Ok(()) => HostReply::Bool(waits),
            Err(error) => HostReply::Failed(error),
        })
    }

    /// Where `after` stands. The document that an id names is only looked at where its field decides; the run does not rely on it.
    async fn rank(
        &self,
        collection: &Arc<str>,
        order: Option<&Order>,
        after: Option<After>,
    ) -> Result<Result<Option<Rank>, HostError>, StoreError> {
        let id = match after {
            None => return Ok(Ok(None)),
            Some(After::Rank(rank)) => return Ok(Ok(Some(rank))),
            Some(After::Id(id)) if order.is_none() => return Ok(Ok(Some(Rank::of_id(&id)))),
            Some(After::Id(id)) => id,
        };
        let key = DocumentKey { collection: Arc::clone(collection), id: id.into() };
        self.learn(&key).await?;
        Ok(match self.draft.borrow().rank(&key, order) {
            Some(rank) => Ok(Some(rank)),
            None => Err(after_is_gone(&key)),
        })
    }

    fn must_learn(&self, key: &DocumentKey) -> bool {
        self.draft.borrow().must_learn(key)
    }

    async fn find(&self, collection: &str, find: Find) -> Result<HostReply, StoreError> {
        let written = self.draft.borrow().written(collection);
        for key in &written {
            self.learn(key).await?;
        }
        let asked = Find { limit: find.limit + written.len(), ..find.clone() };
        let found = self.reader.find(collection, asked).await?;
        Ok(HostReply::Documents(self.draft.borrow().overlay(&written, &find, found)))
    }

    async fn count(&self, collection: &str, filter: Filter) -> Result<HostReply, StoreError> {
        let mut stored = Vec::new();
        let written = self.draft.borrow().written(collection);
        for key in written {
            self.learn(&key).await?;
            let read = self.reader.get(&key).await?;
            stored.push((key, read));
        }
        let count = self.reader.count(collection, filter.clone()).await?;
        Ok(HostReply::Count(self.draft.borrow().recount(&filter, count, &stored)))
    }
}

impl Perform for Live {
    /// A store that answers reads at once, as SQLite does, makes most calls cost no future and no timer.
    fn perform(&self, call: HostCall) -> Performed<'_> {
        let call = match call {
            HostCall::BeginStream(head) => return self.begin_stream(*head),
            HostCall::Write { bytes, form } => return self.write(bytes, form),
            HostCall::PassStream(number) => return self.pass_stream(number),
            HostCall::ReadStream { stream, part } => {
                return Performed::Later(Box::pin(self.streams.read(stream, part)));
            }
            call => call,
        };
        if let Some(key) = looks_at(&call)
            && self.must_learn(key)
        {
            match self.reader.get(key).now_or_never() {
                Some(Ok(read)) => self.draft.borrow_mut().learn(key, read),
                Some(Err(error)) => return Performed::Now(failed(&error)),
                None => return self.later(call),
            }
        }
        match self.at_once(call) {
            Ok(reply) => Performed::Now(reply),
            Err(call) => self.later(call),
        }
    }

    fn held_bytes(&self) -> usize {
        self.draft.borrow().bytes()
    }
}

/// Where a result cannot be a stream.
fn no_stream(is_event: bool) -> HostReply {
    let message = if is_event {
        "the handler of an event cannot give a stream: nobody would read it; only a route can"
    } else {
        "a route with `idempotency` cannot give a stream: its answers are kept, to be given again"
    };
    HostReply::Failed(HostError { code: "INVALID_ARGUMENT", message: message.into() })
}

fn expires_at(ttl: Option<Duration>) -> Option<Millis> {
    ttl.map(|ttl| clock::now().plus(ttl))
}

fn after_is_gone(DocumentKey { collection, id }: &DocumentKey) -> HostError {
    let message = format!(
        "`after`: {collection}/{id} is gone, so nobody knows where it stood; give the document as it was read instead of its id"
    );
    HostError { code: "NOT_FOUND", message: message.into() }
}

/// A spool file that cannot be read is a disk's fault, and none of the script's.
fn read(result: io::Result<HostReply>) -> HostReply {
    result.unwrap_or_else(|error| {
        tracing::error!("a spool file cannot be read: {error}");
        let message = format!("the bytes could not be read: {error}").into();
        HostReply::Failed(HostError { code: "SERVICE_UNAVAILABLE", message })
    })
}

fn failed(error: &StoreError) -> HostReply {
    HostReply::Failed(HostError { code: "SERVICE_UNAVAILABLE", message: error.to_string().into() })
}

/// The document that must be known before the call can be done.
fn looks_at(call: &HostCall) -> Option<&DocumentKey> {
    match call {
        HostCall::Get(key)
        | HostCall::Insert { key, .. }
        | HostCall::Patch { key, .. }
        | HostCall::Put { key, if_newer: Some(_), .. } => Some(key),
        HostCall::Provider(_)
        | HostCall::Health(_)
        | HostCall::Sleep(_)
        | HostCall::Put { if_newer: None, .. }
        | HostCall::Delete { .. }
        | HostCall::Increment { .. }
        | HostCall::Find { .. }
        | HostCall::Count { .. }
        | HostCall::Emit(_)
        | HostCall::Cancel { .. }
        | HostCall::EndAttempt(_)
        | HostCall::ReadStream { .. }
        | HostCall::PassStream(_)
        | HostCall::BeginStream(_)
        | HostCall::Write { .. }
        | HostCall::Read(_)
        | HostCall::Digest(_) => None,
    }
}
