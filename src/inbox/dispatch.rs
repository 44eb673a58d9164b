//! The one dispatcher: recovery after a stop, retries when they are due, and what workers could not take. It claims in memory, hands out
//! a bounded number of jobs to the workers in turn, and reads the store in pages, so that a million waiting events cost no memory.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::attempt::Job;
use super::{Gates, InHand, Inbox, Notes, plan};
use crate::clock::{self, Millis};
use crate::generation::{Generation, Pinned};
use crate::store::{
    Committed, JobKey, Opened, Seq, Store, StoreError, StoredEvent, Turn, Undispatched,
};

/// What one worker may have in hand from here, beside what stands in line at a gate.
const HANDED_PER_WORKER: usize = 64;
/// Recovery reads no further while so many events wait here for a gate.
const WAITING_MAX: usize = 100_000;
/// Events that one step of recovery looks at, so that no read takes long.
const RECOVERED_AT_ONCE: i64 = 20_000;
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
    /// Its jobs, made and not begun: its turn has come for some of them only.
    Plan(Seq),
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

/// An event without jobs.
#[derive(Clone, Copy)]
struct Waiting {
    event: Seq,
    plan: bool,
}

impl Waiting {
    fn of(found: &Undispatched) -> Self {
        Self { event: found.event, plan: found.plan }
    }

    fn handed(self) -> Handed {
        if self.plan { Handed::Plan(self.event) } else { Handed::Event(self.event) }
    }
}

/// The dispatcher's state.
pub(crate) struct Dispatcher {
    store: Arc<dyn Store>,
    gates: Arc<Gates>,
    notes: Arc<Notes>,
    workers: Vec<mpsc::Sender<Assignment>>,
    next_worker: usize,
    in_hand: HashSet<Handed>,
    /// By webhook: events that have no jobs yet and no worker. Few bytes an event, so that `max_pending` of them are a few megabytes.
    waiting: BTreeMap<Arc<str>, VecDeque<Waiting>>,
    /// Events that were there at the start: up to here they have been read, and where they end.
    recovered: Seq,
    opened: Opened,
}

impl Dispatcher {
    /// One for the whole process, before the first event is accepted; `workers` are the ends of `channels`.
    pub(crate) fn new(
        store: &Arc<dyn Store>,
        gates: &Arc<Gates>,
        notes: &Arc<Notes>,
        workers: Vec<mpsc::Sender<Assignment>>,
    ) -> Self {
        let opened = store.opened();
        Self {
            store: Arc::clone(store),
            gates: Arc::clone(gates),
            notes: Arc::clone(notes),
            workers,
            next_worker: 0,
            in_hand: HashSet::new(),
            waiting: BTreeMap::new(),
            recovered: opened.low_water,
            opened,
        }
    }

    /// Until the runtime stops.
    pub(crate) async fn run(mut self) {
        let mut clocks = clock::Watch::new();
        while !self.notes.is_stopping() {
            // Ask to be woken before looking: what is told while we look wakes us again at once.
            let pause = match self.look().await {
                Ok(pause) => pause,
                Err(error) => {
                    tracing::error!("waiting jobs cannot be read: {error}");
                    PAUSE
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.notes.told() => {}
                () = clocks.moved() => {}
            }
        }
    }

    /// Hands out what can be handed out; how long it may take until there is more.
    async fn look(&mut self) -> Result<Duration, StoreError> {
        self.hear();
        let now = clock::steady();
        if self.room() > 0 {
            // What is in somebody's hands may be due as well, and must not keep the rest off the page.
            let limit = PAGE + self.in_hand.len() + self.notes.lists().claimed.len();
            for due in self.store.due(now, limit).await? {
                if self.room() == 0 {
                    break;
                }
                if !self.is_owned(due.key) && !self.hand(Handed::Job(due.key), due.key.event) {
                    break;
                }
            }
        }
        let emitted_in = self.promote(clock::now()).await?;
        self.hand_waiting();
        while self.room() > 0 && self.recovered < self.opened.last && self.recover().await? {}
        if self.room() == 0 {
            return Ok(LOOK_AGAIN);
        }
        let due_in = self.store.next_due(now).await?.map(|next| now.until(next));
        let next = [due_in, emitted_in].into_iter().flatten().min();
        Ok(next.map_or(LOOK_AGAIN, |next| next.min(LOOK_AGAIN)))
    }

    /// Makes events of what was emitted for a time that has come; how long until the next one does. These times are those of the wall clock.
    async fn promote(&mut self, now: Millis) -> Result<Option<Duration>, StoreError> {
        loop {
            let next = self.store.next_scheduled().await?;
            let is_due = next.is_some_and(|next| next <= now);
            if !is_due || self.waiting_count() >= WAITING_MAX {
                return Ok(next.map(|next| now.until(next)));
            }
            for Turn { event, webhook, plan } in self.store.promote(now, PAGE).await? {
                self.wait(Undispatched { event, webhook, plan });
            }
        }
    }

    fn wait(&mut self, found: Undispatched) {
        let waiting = Waiting::of(&found);
        self.waiting.entry(found.webhook).or_default().push_back(waiting);
    }

    fn waiting_count(&self) -> usize {
        self.waiting.values().map(VecDeque::len).sum()
    }

    /// A worker has it in hand: it was handed out, or it is one of several of an event that a worker began.
    fn is_owned(&self, key: JobKey) -> bool {
        self.in_hand.contains(&Handed::Job(key)) || self.notes.lists().claimed.contains(&key)
    }

    /// A worker has the first dispatch of this event.
    fn is_in_hand(&self, event: Seq) -> bool {
        [Handed::Event(event), Handed::Plan(event)]
            .iter()
            .any(|handed| self.in_hand.contains(handed))
    }

    /// Takes in what workers have told. Claims are taken out here only, so that nothing changes them between reading jobs and handing them out.
    fn hear(&mut self) {
        let mut lists = self.notes.lists();
        for handed in lists.ended.drain(..) {
            self.in_hand.remove(&handed);
        }
        for job in std::mem::take(&mut lists.released) {
            lists.claimed.remove(&job);
        }
        let overflow = std::mem::take(&mut lists.overflow);
        drop(lists);
        overflow.into_iter().for_each(|found| self.wait(found));
    }

    /// One event of each webhook in turn, as long as its gate takes more.
    fn hand_waiting(&mut self) {
        let mut webhooks: Vec<Arc<str>> = self.waiting.keys().cloned().collect();
        while !webhooks.is_empty() {
            webhooks.retain(|webhook| self.hand_one_of(webhook));
        }
        self.waiting.retain(|_, events| !events.is_empty());
    }

    /// False when no further one can be handed out now.
    fn hand_one_of(&mut self, webhook: &Arc<str>) -> bool {
        if self.room() == 0 || !self.gates.has_room(webhook) {
            return false;
        }
        let Some(&waiting) = self.waiting.get(webhook).and_then(VecDeque::front) else {
            return false;
        };
        // A worker that found the gate full has told so, and not yet that it is through with it.
        let handed = waiting.handed();
        if self.is_in_hand(waiting.event) || !self.hand(handed, waiting.event) {
            return false;
        }
        self.waiting.get_mut(webhook).and_then(VecDeque::pop_front).is_some()
    }

    /// The next page of what an earlier process accepted and did not get to. False when it can go no further now.
    async fn recover(&mut self) -> Result<bool, StoreError> {
        if self.waiting_count() >= WAITING_MAX {
            return Ok(false);
        }
        let limit = self.room().min(PAGE);
        // Events that wait for others of their key are passed over, so a page may be far to look for.
        let up_to = Seq(self.recovered.0.saturating_add(RECOVERED_AT_ONCE)).min(self.opened.last);
        let page = self.store.undispatched(self.recovered, up_to, limit).await?;
        let is_last = page.len() < limit;
        for found in page {
            let (event, handed) = (found.event, Waiting::of(&found).handed());
            if self.is_in_hand(event) {
                // Its turn came while this was read, and was told.
            } else if !self.gates.has_room(&found.webhook) {
                self.wait(found);
            } else if !self.hand(handed, event) {
                return Ok(false);
            }
            self.recovered = event;
        }
        if is_last {
            self.recovered = up_to;
        }
        Ok(true)
    }

    fn room(&self) -> usize {
        let most = self.workers.len() * HANDED_PER_WORKER + self.notes.in_line();
        most.saturating_sub(self.in_hand.len())
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
pub(crate) async fn work(inbox: Rc<Inbox>, pin: impl Fn() -> Pinned, mut assignments: Assignments) {
    while let Some(assignment) = assignments.recv().await {
        let ended = Ended { inbox: Rc::clone(&inbox), handed: assignment.handed };
        if inbox.notes.is_stopping() {
            continue;
        }
        let (in_hand, generation) = (InHand::new(&inbox, 0), pin());
        tokio::task::spawn_local(async move {
            ended.inbox.assigned(&generation, assignment).await;
            drop((in_hand, ended));
        });
    }
}

/// Tells the dispatcher that a worker is through with it, however that came.
struct Ended {
    inbox: Rc<Inbox>,
    handed: Handed,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.inbox.notes.ended(self.handed);
    }
}

impl Inbox {
    async fn assigned(self: &Rc<Self>, generation: &Pinned, assignment: Assignment) {
        let (Handed::Event(seq) | Handed::Plan(seq) | Handed::Job(JobKey { event: seq, .. })) =
            assignment.handed;
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
        if let Handed::Plan(seq) = assignment.handed {
            return self.plan(generation, seq, &stored).await;
        }
        let mut jobs = jobs_of(generation, assignment.handed, stored);
        for job in &mut jobs {
            (job.handed, job.store_claim) = (true, assignment.store_claim);
        }
        self.attempts(generation, jobs).await;
    }

    /// Makes the jobs of an event that may begin in part; those that may are due.
    async fn plan(self: &Rc<Self>, generation: &Pinned, seq: Seq, stored: &StoredEvent) {
        let plan = plan::of(generation, &stored.event.webhook, &stored.event.kind);
        loop {
            match self.executor.store.plan(seq, Arc::clone(&plan)).await {
                Ok(Committed::Yes(after)) => {
                    self.follow(generation, after, Vec::new());
                    return self.notes.wake();
                }
                Ok(Committed::Conflict | Committed::Stale) => return,
                Err(_) if self.notes.is_stopping() => return,
                Err(error) => {
                    tracing::error!("the jobs of an event cannot be stored yet: {error}");
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
        Handed::Event(_) | Handed::Plan(_) => Vec::new(),
        Handed::Job(key) => {
            let waiting = jobs.iter().filter(|job| job.n == key.n && !job.state.is_final());
            waiting.map(|job| Job::again(seq, &event, job, &jobs)).collect()
        }
    }
}
