//! Does what a script asked, for real: documents through the store, waits through the clock. Writes are kept in the run's draft until its commit.

use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt as _;

use crate::clock;
use crate::id::EventId;
use crate::script::api::event;
use crate::script::effects::Draft;
use crate::script::host_call::{AttemptEnd, Emission, Given, HostCall, HostError, HostReply, When};
use crate::script::run::{Perform, Performed};
use crate::script::source;
use crate::store::filter::Filter;
use crate::store::{DocumentKey, Effects, Find, NewEvent, Reader, StoreError};

/// The live performer of one run.
pub(super) struct Live {
    reader: Rc<dyn Reader>,
    draft: Draft,
    /// How long a tombstone holds.
    retention: Duration,
    /// For the events that it emits.
    given: Rc<Given>,
    /// Whether the run is an attempt, which its handler may end.
    is_attempt: bool,
    ended: Option<AttemptEnd>,
}

impl Live {
    pub(super) fn new(
        reader: Rc<dyn Reader>,
        retention: Duration,
        given: Rc<Given>,
        is_attempt: bool,
    ) -> Self {
        Self { reader, draft: Draft::default(), retention, given, is_attempt, ended: None }
    }

    /// How the handler ended its attempt, if it did.
    pub(super) fn ended(&mut self) -> Option<AttemptEnd> {
        self.ended.take()
    }

    pub(super) fn into_effects(self) -> Effects {
        self.draft.into_effects()
    }

    fn emit(&mut self, emission: Emission) -> Result<(), HostError> {
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
        self.draft.emit(event, due_at, emission.pending)
    }

    fn end_attempt(&mut self, end: AttemptEnd) -> HostReply {
        if !self.is_attempt {
            let message = "only the handler of an event has attempts; a route answers, for example with `throw status(503)`";
            return HostReply::Failed(HostError {
                code: "INVALID_ARGUMENT",
                message: message.into(),
            });
        }
        self.ended.get_or_insert(end);
        HostReply::Unit
    }

    fn later(&mut self, call: HostCall) -> Performed<'_> {
        Performed::Later(Box::pin(async move {
            self.in_time(call).await.unwrap_or_else(|error| failed(&error))
        }))
    }

    /// What the draft alone can answer.
    fn at_once(&mut self, call: HostCall) -> Result<HostReply, HostCall> {
        Ok(match call {
            HostCall::Get(key) => HostReply::Document(self.draft.get(&key)),
            HostCall::Insert { key, body } => match self.draft.insert(&key, body) {
                Ok(()) => HostReply::Unit,
                Err(error) => HostReply::Failed(error),
            },
            HostCall::Put { key, body, if_newer: None } => {
                self.draft.put(&key, body);
                HostReply::Bool(true)
            }
            HostCall::Put { key, body, if_newer: Some(field) } => {
                HostReply::Bool(self.draft.put_if_newer(&key, body, field))
            }
            HostCall::Patch { key, changes } => HostReply::Bool(self.draft.patch(&key, &changes)),
            HostCall::Delete { key, tombstone } => {
                let until = tombstone.then(|| clock::now().plus(self.retention));
                self.draft.delete(&key, until);
                HostReply::Unit
            }
            HostCall::Increment { key, field, by } => {
                self.draft.increment(&key, field, by);
                HostReply::Unit
            }
            HostCall::Emit(emission) => match self.emit(emission) {
                Ok(()) => HostReply::Unit,
                Err(error) => HostReply::Failed(error),
            },
            HostCall::EndAttempt(end) => self.end_attempt(end),
            call @ (HostCall::Sleep(_)
            | HostCall::Find { .. }
            | HostCall::Count { .. }
            | HostCall::Cancel { .. }) => return Err(call),
        })
    }

    async fn in_time(&mut self, call: HostCall) -> Result<HostReply, StoreError> {
        if let Some(key) = looks_at(&call) {
            self.learn(key).await?;
        }
        match self.at_once(call) {
            Ok(reply) => Ok(reply),
            Err(HostCall::Sleep(duration)) => {
                tokio::time::sleep(duration).await;
                Ok(HostReply::Unit)
            }
            Err(HostCall::Find { collection, filter, after, limit }) => {
                self.find(&collection, filter, after, limit).await
            }
            Err(HostCall::Count { collection, filter }) => self.count(&collection, filter).await,
            Err(HostCall::Cancel { topic, key }) => self.cancel(&topic, key).await,
            Err(_answered_at_once) => Ok(HostReply::Unit),
        }
    }

    async fn learn(&mut self, key: &DocumentKey) -> Result<(), StoreError> {
        if self.draft.must_learn(key) {
            let read = self.reader.get(key).await?;
            self.draft.learn(key, read);
        }
        Ok(())
    }

    async fn cancel(&mut self, topic: &str, key: Box<str>) -> Result<HostReply, StoreError> {
        let webhook = source::topic(topic);
        let waits = match self.draft.waits(&webhook, &key) {
            Some(waits) => waits,
            None => self.reader.waits(&webhook, &key).await?,
        };
        Ok(match self.draft.cancel(webhook, key, waits) {
            Ok(()) => HostReply::Bool(waits),
            Err(error) => HostReply::Failed(error),
        })
    }

    async fn find(
        &mut self,
        collection: &str,
        filter: Filter,
        after: Option<Box<str>>,
        limit: usize,
    ) -> Result<HostReply, StoreError> {
        let written = self.draft.written(collection);
        for key in &written {
            self.learn(key).await?;
        }
        let find =
            Find { filter: filter.clone(), after: after.clone(), limit: limit + written.len() };
        let found = self.reader.find(collection, find).await?;
        Ok(HostReply::Documents(self.draft.overlay(
            collection,
            &filter,
            after.as_deref(),
            limit,
            found,
        )))
    }

    async fn count(&mut self, collection: &str, filter: Filter) -> Result<HostReply, StoreError> {
        let mut stored = Vec::new();
        for key in self.draft.written(collection) {
            self.learn(&key).await?;
            let read = self.reader.get(&key).await?;
            stored.push((key, read));
        }
        let count = self.reader.count(collection, filter.clone()).await?;
        Ok(HostReply::Count(self.draft.recount(&filter, count, &stored)))
    }
}

impl Perform for Live {
    /// A store that answers reads at once, as SQLite does, makes most calls cost no future and no timer.
    fn perform(&mut self, call: HostCall) -> Performed<'_> {
        if let Some(key) = looks_at(&call)
            && self.draft.must_learn(key)
        {
            match self.reader.get(key).now_or_never() {
                Some(Ok(read)) => self.draft.learn(key, read),
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
        self.draft.bytes()
    }
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
        HostCall::Sleep(_)
        | HostCall::Put { if_newer: None, .. }
        | HostCall::Delete { .. }
        | HostCall::Increment { .. }
        | HostCall::Find { .. }
        | HostCall::Count { .. }
        | HostCall::Emit(_)
        | HostCall::Cancel { .. }
        | HostCall::EndAttempt(_) => None,
    }
}
