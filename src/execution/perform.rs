//! Does what a script asked, for real: documents through the store, waits through the clock. Writes are kept in the run's draft until its commit.
//!
//! Branches of `parallel` share the draft, so it is borrowed for moments and never across a wait: what was true before one may have changed after it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt as _;

use crate::clock;
use crate::script::effects::Draft;
use crate::script::host_call::{HostCall, HostError, HostReply};
use crate::script::run::{Perform, Performed};
use crate::store::filter::Filter;
use crate::store::{DocumentKey, Effects, Find, Reader, StoreError};

/// The live performer of one run.
pub(super) struct Live {
    reader: Rc<dyn Reader>,
    draft: RefCell<Draft>,
    /// How long a tombstone holds.
    retention: Duration,
}

impl Live {
    pub(super) fn new(reader: Rc<dyn Reader>, retention: Duration) -> Self {
        Self { reader, draft: RefCell::default(), retention }
    }

    pub(super) fn into_effects(self) -> Effects {
        self.draft.into_inner().into_effects()
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
            HostCall::Insert { key, body } => match draft.insert(&key, body) {
                Ok(()) => HostReply::Unit,
                Err(error) => HostReply::Failed(error),
            },
            HostCall::Put { key, body, if_newer: None } => {
                draft.put(&key, body);
                HostReply::Bool(true)
            }
            HostCall::Put { key, body, if_newer: Some(field) } => {
                HostReply::Bool(draft.put_if_newer(&key, body, field))
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
            call @ (HostCall::Sleep(_) | HostCall::Find { .. } | HostCall::Count { .. }) => {
                return Err(call);
            }
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
            Err(HostCall::Find { collection, filter, after, limit }) => {
                self.find(&collection, filter, after, limit).await
            }
            Err(HostCall::Count { collection, filter }) => self.count(&collection, filter).await,
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

    fn must_learn(&self, key: &DocumentKey) -> bool {
        self.draft.borrow().must_learn(key)
    }

    async fn find(
        &self,
        collection: &str,
        filter: Filter,
        after: Option<Box<str>>,
        limit: usize,
    ) -> Result<HostReply, StoreError> {
        let written = self.draft.borrow().written(collection);
        for key in &written {
            self.learn(key).await?;
        }
        let find =
            Find { filter: filter.clone(), after: after.clone(), limit: limit + written.len() };
        let found = self.reader.find(collection, find).await?;
        Ok(HostReply::Documents(self.draft.borrow().overlay(
            &written,
            &filter,
            after.as_deref(),
            limit,
            found,
        )))
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
        | HostCall::Count { .. } => None,
    }
}
