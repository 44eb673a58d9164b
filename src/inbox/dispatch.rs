//! The one dispatcher: recovery after a stop, retries when they are due, and what workers could not take. It claims in memory, hands out
//! a bounded number of jobs to the workers in turn, and reads the store in pages, so that a million waiting events cost no memory.

use std::collections::{HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::attempt::Job;
use super::{Inbox, Notes, plan};
use crate::clock;
use crate::generation::Generation;
use crate::store::{Committed, JobKey, Opened, Seq, Store, StoreError, StoredEvent, Undispatched};

/// What one worker may have in hand from here.
const HANDED_PER_WORKER: usize = 64;
/// Rows of one look into the store.
const PAGE: usize = 256;
/// The longest sleep: whatever was missed is found then.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// After an error of the store.
const PAUSE: Duration = Duration::from_secs(1);

/// What is handed to a worker: the first dispatch of an event, or the next attempt of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Handed {
    /// Its first dispatch: all of its jobs.
    Event(Seq),
    /// The next attempt of one job.
    Job(JobKey),
}

/// With it, whether the claim is to be stored before the attempt (after an unclean stop).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Assignment {
    handed: Handed,
    store_claim: bool,
}

/// How workers get theirs.
pub(crate) type Assignments = mpsc::Receiver<Assignment>;

/// The workers' ends of the channels.
pub(crate) fn channels(workers: usize) -> (Vec<mpsc::Sender<Assignment>>, Vec<Assignments>) {
    (0..workers).map(|_| mpsc::channel(HANDED_PER_WORKER)).unzip()
}

/// The dispatcher's state.
pub(crate) struct Dispatcher {
    store: Arc<dyn Store>,
    notes: Arc<Notes>,
    workers: Vec<mpsc::Sender<Assignment>>,
    next_worker: usize,
    in_hand: HashSet<Handed>,
    overflow: VecDeque<Undispatched>,
    /// Events that were there at the start: up to here they have been read, and where they end.
    recovered: Seq,
    opened: Opened,
}

impl Dispatcher {
    /// One for the whole process, before the first event is accepted; `workers` are the ends of `channels`.
    pub(crate) fn new(
        store: &Arc<dyn Store>,
        notes: &Arc<Notes>,
        workers: Vec<mpsc::Sender<Assignment>>,
    ) -> Self {
        let opened = store.opened();
        Self {
            store: Arc::clone(store),
            notes: Arc::clone(notes),
            workers,
            next_worker: 0,
            in_hand: HashSet::new(),
            overflow: VecDeque::new(),
            recovered: opened.low_water,
            opened,
        }
    }

    /// Until the runtime stops.
    pub(crate) async fn run(mut self) {
        while !self.notes.is_stopping() {
            // Ask to be woken before looking: what is told while we look wakes us again at once.
            let pause = match self.look().await {
                Ok(pause) => pause,
                Err(error) => {
                    tracing::error!("waiting jobs cannot be read: {error}");
                    PAUSE
                }
            };
            _ = tokio::time::timeout(pause, self.notes.told()).await;
        }
    }

    /// Hands out what can be handed out; how long it may take until there is more.
    async fn look(&mut self) -> Result<Duration, StoreError> {
        self.hear();
        let now = clock::now();
        if self.room() > 0 {
            for due in self.store.due(now, PAGE).await? {
                let claimed = self.notes.lists().claimed.contains(&due.key.event);
                let handed = Handed::Job(due.key);
                if !claimed && !self.in_hand.contains(&handed) && !self.hand(handed, due.key.event)
                {
                    break;
                }
            }
        }
        while self.room() > 0 {
            let Some(waiting) = self.overflow.pop_front() else { break };
            if !self.hand(Handed::Event(waiting.event), waiting.event) {
                self.overflow.push_front(waiting);
                break;
            }
        }
        while self.room() > 0 && self.recovered < self.opened.last {
            self.recover().await?;
        }
        if self.room() == 0 {
            return Ok(LOOK_AGAIN);
        }
        let next = self.store.next_due(now).await?;
        Ok(next.map_or(LOOK_AGAIN, |next| now.until(next).min(LOOK_AGAIN)))
    }

    /// Takes in what workers have told. Claims are taken out here only, so that nothing changes them between reading jobs and handing them out.
    fn hear(&mut self) {
        let mut lists = self.notes.lists();
        for handed in lists.ended.drain(..) {
            self.in_hand.remove(&handed);
        }
        for event in std::mem::take(&mut lists.released) {
            lists.claimed.remove(&event);
        }
        self.overflow.append(&mut lists.overflow);
    }

    /// The next page of what an earlier process accepted and did not get to.
    async fn recover(&mut self) -> Result<(), StoreError> {
        let page = self
            .store
            .undispatched(self.recovered, self.opened.last, self.room().min(PAGE))
            .await?;
        if page.is_empty() {
            self.recovered = self.opened.last;
        }
        for waiting in page {
            if !self.hand(Handed::Event(waiting.event), waiting.event) {
                break;
            }
            self.recovered = waiting.event;
        }
        Ok(())
    }

    fn room(&self) -> usize {
        (self.workers.len() * HANDED_PER_WORKER).saturating_sub(self.in_hand.len())
    }

    /// False when no worker can take it.
    fn hand(&mut self, handed: Handed, event: Seq) -> bool {
        let assignment =
            Assignment { handed, store_claim: self.opened.unclean && event <= self.opened.last };
        for _ in 0..self.workers.len() {
            self.next_worker = (self.next_worker + 1) % self.workers.len();
            if self.workers[self.next_worker].try_send(assignment).is_ok() {
                self.in_hand.insert(handed);
                return true;
            }
        }
        false
    }
}

/// A worker's side: does what it is handed, several at once.
pub(crate) async fn work(
    inbox: Rc<Inbox>,
    pin: impl Fn() -> Rc<Arc<Generation>>,
    mut assignments: Assignments,
) {
    while let Some(assignment) = assignments.recv().await {
        let (inbox, generation) = (Rc::clone(&inbox), pin());
        tokio::task::spawn_local(async move {
            inbox.in_hand.set(inbox.in_hand.get() + 1);
            inbox.assigned(&generation, assignment).await;
            inbox.in_hand.set(inbox.in_hand.get() - 1);
            inbox.notes.ended(assignment.handed);
        });
    }
}

impl Inbox {
    async fn assigned(&self, generation: &Generation, assignment: Assignment) {
        let (Handed::Event(seq) | Handed::Job(JobKey { event: seq, .. })) = assignment.handed;
        let stored = loop {
            match self.executor.store.load(seq).await {
                Ok(Some(stored)) => break stored,
                Ok(None) => return,
                Err(_) if self.notes.is_stopping() => return,
                Err(error) => {
                    tracing::error!("an event cannot be loaded yet: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        };
        for mut job in jobs_of(generation, assignment.handed, stored) {
            if assignment.store_claim && !self.store_claim(&mut job).await {
                continue;
            }
            self.attempt(generation, job).await;
        }
    }

    /// After an unclean stop an attempt is written down before it starts.
    async fn store_claim(&self, job: &mut Job) -> bool {
        if plan::is_nobody(&job.planned) || job.planned.pattern.is_none() {
            return true;
        }
        let attempt = job.used.saturating_add(1);
        loop {
            match self.executor.store.claim(job.key, job.plan.clone(), attempt).await {
                Ok(Committed::Yes) => {
                    (job.used, job.claimed) = (attempt, true);
                    return true;
                }
                Ok(Committed::Conflict | Committed::Stale) => return false,
                Err(_) if self.notes.is_stopping() => return false,
                Err(error) => {
                    tracing::error!("a claim cannot be stored yet: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

fn jobs_of(generation: &Generation, handed: Handed, stored: StoredEvent) -> Vec<Job> {
    let StoredEvent { seq, event, jobs } = stored;
    let event = Rc::new(event);
    match handed {
        Handed::Event(_) if jobs.is_empty() => {
            let plan = plan::of(generation, &event.webhook, &event.kind);
            (0..plan.len()).map(|n| Job::first(seq, &event, n, &plan)).collect()
        }
        Handed::Event(_) => Vec::new(),
        Handed::Job(key) => {
            let waiting = jobs.iter().filter(|job| job.n == key.n && !job.state.is_final());
            waiting.map(|job| Job::again(seq, &event, job)).collect()
        }
    }
}
