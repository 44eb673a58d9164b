//! From an accepted event to the end of its jobs. The worker that accepted an event keeps its bytes and runs its jobs at once; what it
//! cannot take, what waits for a retry and what a crash left over goes through the one dispatcher. Claims live in memory: an event belongs
//! to the worker that accepted it or to the dispatcher, never to both, and after a crash to nobody.
//!
//! A job goes pending → (running) → done, ignored, retrying or dead; retrying → the same again; dead → pending when its delivery comes once more.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use crate::execution::Executor;
use crate::generation::{HandlerRef, Pinned};
use crate::script::handler::Handler;
use crate::store::{NewEvent, Seq};

mod attempt;
pub(crate) mod dispatch;
mod gate;
mod notes;
mod plan;

pub(crate) use self::gate::{Closed, Gates, Pass};
pub(crate) use self::notes::Notes;

use self::attempt::Job;

/// Events that one worker has in hand at once, each with its body; further ones go to the dispatcher. 64 connections keep some 100 busy.
const IN_HAND_MAX: usize = 1024;

/// One worker's part of the inbox.
pub(crate) struct Inbox {
    executor: Rc<Executor>,
    gates: Arc<Gates>,
    notes: Arc<Notes>,
    in_hand: Cell<usize>,
}

impl Inbox {
    /// For one worker; `gates` and `notes` are those of the whole process.
    pub(crate) fn new(executor: &Rc<Executor>, gates: &Arc<Gates>, notes: &Arc<Notes>) -> Rc<Self> {
        Rc::new(Self {
            executor: Rc::clone(executor),
            gates: Arc::clone(gates),
            notes: Arc::clone(notes),
            in_hand: Cell::new(0),
        })
    }

    /// Takes over an event that was committed just now: runs its jobs here, or leaves them to the dispatcher.
    pub(crate) fn accepted(self: &Rc<Self>, generation: &Pinned, seq: Seq, event: NewEvent) {
        if self.in_hand.get() >= IN_HAND_MAX || self.notes.is_stopping() {
            self.notes.overflow(seq, &event.webhook);
            return;
        }
        let (inbox, generation) = (Rc::clone(self), Rc::clone(generation));
        self.in_hand.set(self.in_hand.get() + 1);
        tokio::task::spawn_local(async move {
            inbox.first_attempts(generation, seq, event).await;
            inbox.in_hand.set(inbox.in_hand.get() - 1);
        });
    }

    /// A place for a run of a route's handler, where its registration bounds them.
    pub(crate) fn enter_handler(
        &self,
        script: &str,
        at: HandlerRef,
        handler: &Handler,
    ) -> Result<Option<Pass>, Closed> {
        match handler.options.concurrency {
            None => Ok(None),
            limit => self.gates.enter(&format!("{script}/{}", at.handler), limit),
        }
    }

    /// A place for a run that answers a delivery, where config bounds them.
    pub(crate) fn enter_webhook(
        &self,
        webhook: &str,
        limit: Option<usize>,
    ) -> Result<Option<Pass>, Closed> {
        self.gates.enter(webhook, limit)
    }

    /// A dead event that came again: its jobs are due.
    pub(crate) fn revived(&self) {
        self.notes.wake();
    }

    /// Events in hand.
    pub(crate) fn in_hand(&self) -> usize {
        self.in_hand.get()
    }

    async fn first_attempts(self: &Rc<Self>, generation: Pinned, seq: Seq, event: NewEvent) {
        let plan = plan::of(&generation, &event.webhook, &event.kind);
        let event = Rc::new(event);
        let mut jobs = (0..plan.len()).map(|n| Job::first(seq, &event, n, &plan));
        if plan.len() == 1 {
            if let Some(job) = jobs.next() {
                self.attempt(&generation, job).await;
            }
            return;
        }
        // Its first job to end writes the rows of all; until the last one ends the dispatcher must leave them alone.
        self.notes.claim(seq);
        let tasks: Vec<_> = jobs
            .map(|job| {
                let (inbox, generation) = (Rc::clone(self), Rc::clone(&generation));
                tokio::task::spawn_local(async move { inbox.attempt(&generation, job).await })
            })
            .collect();
        for task in tasks {
            _ = task.await;
        }
        self.notes.release(seq);
    }
}
