//! From an accepted event to the end of its jobs. The worker that accepted an event keeps its bytes and runs its jobs at once; what it
//! cannot take, what waits for a retry and what a crash left over goes through the one dispatcher. Claims live in memory: an event belongs
//! to the worker that accepted it or to the dispatcher, never to both, and after a crash to nobody.
//!
//! A job goes pending → (running) → done, ignored, retrying or dead; retrying → the same again; dead → pending when its delivery comes once more.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwap;

use crate::execution::Executor;
use crate::failpoint::{self, Point};
use crate::generation::{Generation, HandlerRef, Pinned};
use crate::script::handler::Handler;
use crate::store::{Accepted, After, Answer, Emit, NewEvent, Seq, StoreError};

mod attempt;
pub(crate) mod dispatch;
mod gate;
mod notes;
mod plan;
pub(crate) mod timers;

pub(crate) use self::attempt::WAKE_MAX;
pub(crate) use self::gate::{Closed, Gates, Pass};
pub(crate) use self::notes::Notes;

use self::attempt::Job;

/// Events that one worker has in hand at once; further ones go to the dispatcher. 64 connections keep some 100 busy.
const IN_HAND_MAX: usize = 1024;
/// Bytes of their bodies.
const IN_HAND_BYTES_MAX: usize = 64 << 20;

/// One worker's part of the inbox.
pub(crate) struct Inbox {
    executor: Rc<Executor>,
    gates: Arc<Gates>,
    notes: Arc<Notes>,
    /// What an attempt that begins now begins with.
    current: Arc<ArcSwap<Generation>>,
    in_hand: Cell<usize>,
    in_hand_bytes: Cell<usize>,
}

impl Inbox {
    /// For one worker; `gates`, `notes` and `current` are those of the whole process.
    pub(crate) fn new(
        executor: &Rc<Executor>,
        gates: &Arc<Gates>,
        notes: &Arc<Notes>,
        current: &Arc<ArcSwap<Generation>>,
    ) -> Rc<Self> {
        Rc::new(Self {
            executor: Rc::clone(executor),
            gates: Arc::clone(gates),
            notes: Arc::clone(notes),
            current: Arc::clone(current),
            in_hand: Cell::new(0),
            in_hand_bytes: Cell::new(0),
        })
    }

    /// Commits a verified delivery and takes it over: its jobs begin when this answers. A sender that leaves before the answer changes nothing of that.
    pub(crate) fn accept(self: &Rc<Self>, generation: &Pinned, event: NewEvent) -> Accepting {
        let answer = self.executor.store.accept(event.clone());
        let (inbox, generation) = (Rc::clone(self), Rc::clone(generation));
        Accepting(Some(Delivered { inbox, generation, event, answer }))
    }

    /// Takes over an event that was committed just now: runs its jobs here, or leaves them to the dispatcher.
    fn accepted(self: &Rc<Self>, generation: Pinned, seq: Seq, event: NewEvent) {
        let is_full = self.in_hand.get() >= IN_HAND_MAX
            || self.in_hand_bytes.get() >= IN_HAND_BYTES_MAX
            || self.notes.is_stopping();
        let is_gated =
            generation.bounds(&event.webhook).is_some_and(|bounds| bounds.concurrency.is_some());
        if is_full || (is_gated && !self.gates.has_room(&event.webhook)) {
            self.notes.overflow(seq, &event.webhook);
            return;
        }
        let (inbox, in_hand) = (Rc::clone(self), InHand::new(self, event.body.len()));
        tokio::task::spawn_local(async move {
            inbox.first_attempts(generation, seq, event).await;
            drop(in_hand);
        });
    }

    /// Takes over what a commit leaves to be done: the events that it began, and those whose turn has come.
    pub(crate) fn follow(self: &Rc<Self>, generation: &Pinned, after: After, emits: Vec<Emit>) {
        self.notes.turns(after.turns);
        if after.unblocked {
            self.notes.wake();
        }
        let emitted = emits.into_iter().filter_map(|emit| match emit {
            Emit::Event { event, due_at, .. } => Some((event, due_at)),
            Emit::Cancel { .. } => None,
        });
        for ((event, due_at), accepted) in emitted.zip(after.emitted) {
            match accepted {
                Some(accepted) => self.taken(Rc::clone(generation), accepted, event),
                // The dispatcher makes an event of it when it is due.
                None if due_at.is_some() => self.notes.wake(),
                None => {}
            }
        }
    }

    /// An event is committed; what is to be done with it now.
    fn taken(self: &Rc<Self>, generation: Pinned, accepted: Accepted, event: NewEvent) {
        match accepted {
            Accepted::New(seq) => self.accepted(generation, seq, event),
            Accepted::Behind { .. } | Accepted::Duplicate { .. } | Accepted::Revived(_) => {
                self.notes.taken(accepted, &event.webhook);
            }
        }
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
            limit => self.gates.enter_now(&attempt::handler_gate(script, at), limit),
        }
    }

    /// A place for a run that answers a delivery, where config bounds them.
    pub(crate) fn enter_webhook(
        &self,
        webhook: &str,
        limit: Option<usize>,
    ) -> Result<Option<Pass>, Closed> {
        self.gates.enter_now(webhook, limit)
    }

    /// Events in hand.
    pub(crate) fn in_hand(&self) -> usize {
        self.in_hand.get()
    }

    async fn first_attempts(self: &Rc<Self>, generation: Pinned, seq: Seq, event: NewEvent) {
        let plan = plan::of(&generation, &event.webhook, &event.kind);
        let event = Rc::new(event);
        let jobs: Vec<Job> = (0..plan.len()).map(|n| Job::first(seq, &event, n, &plan)).collect();
        self.attempts(&generation, jobs).await;
    }

    /// One attempt of each, side by side.
    async fn attempts(self: &Rc<Self>, generation: &Pinned, mut jobs: Vec<Job>) {
        if jobs.len() == 1
            && let Some(job) = jobs.pop()
        {
            return self.attempt(generation, job).await;
        }
        // The first of them to end writes the rows of all; the dispatcher must leave each alone until it has ended here.
        self.notes.claim(jobs.iter().map(|job| job.key));
        let start = |job: Job| {
            let (inbox, generation, key) = (Rc::clone(self), Rc::clone(generation), job.key);
            tokio::task::spawn_local(async move {
                inbox.attempt(&generation, job).await;
                inbox.notes.release(key);
            })
        };
        let tasks: Vec<_> = jobs.into_iter().map(start).collect();
        for task in tasks {
            _ = task.await;
        }
    }
}

/// One event in a worker's hands, while it lives.
struct InHand {
    inbox: Rc<Inbox>,
    bytes: usize,
}

impl InHand {
    fn new(inbox: &Rc<Inbox>, bytes: usize) -> Self {
        inbox.in_hand.set(inbox.in_hand.get() + 1);
        inbox.in_hand_bytes.set(inbox.in_hand_bytes.get() + bytes);
        Self { inbox: Rc::clone(inbox), bytes }
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.inbox.in_hand.set(self.inbox.in_hand.get() - 1);
        self.inbox.in_hand_bytes.set(self.inbox.in_hand_bytes.get() - self.bytes);
    }
}

/// A delivery on its way into the store.
pub(crate) struct Accepting(Option<Delivered>);

struct Delivered {
    inbox: Rc<Inbox>,
    generation: Pinned,
    event: NewEvent,
    answer: Answer<Accepted>,
}

impl Delivered {
    fn take_over(self, accepted: Accepted) {
        self.inbox.taken(self.generation, accepted, self.event);
    }
}

impl Future for Accepting {
    type Output = Result<Accepted, StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(delivered) = &mut self.0 else { return Poll::Pending };
        let answer = std::task::ready!(delivered.answer.as_mut().poll(context));
        failpoint::reached(Point::AcceptAnswered);
        if let (Ok(accepted), Some(delivered)) = (&answer, self.0.take()) {
            delivered.take_over(*accepted);
        }
        self.0 = None;
        Poll::Ready(answer)
    }
}

/// Its connection broke before the commit was answered. The event may be there by now, and then it is nobody's but ours.
impl Drop for Accepting {
    fn drop(&mut self) {
        let Some(mut delivered) = self.0.take() else { return };
        if delivered.inbox.notes.is_stopping() {
            return;
        }
        tokio::task::spawn_local(async move {
            if let Ok(accepted) = delivered.answer.as_mut().await {
                delivered.take_over(accepted);
            }
        });
    }
}
