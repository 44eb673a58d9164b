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
use crate::clock::{self, Millis};
use crate::id::EventId;
use crate::payload;
use crate::provider::{Caller, Circumstances, Provider};
use crate::script::api::event;
use crate::script::effects::Draft;
use crate::script::host_call::{
    After, AttemptEnd, CallEnd, Emission, Given, HostCall, HostError, HostReply, When,
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
    pub(super) providers: Vec<Arc<Provider>>,
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
        calling: Calling,
        journal: Rc<Journal>,
    ) -> Self {
        let (draft, ended, over) = (RefCell::default(), RefCell::default(), RefCell::default());
        Self { reader, draft, retention, given, is_attempt, ended, calling, over, journal }
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
            Err(HostCall::Provider(call)) => self.call(&call).await,
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
        | HostCall::Read(_)
        | HostCall::Digest(_) => None,
    }
}
