//! One coroutine of a run, driven slice by slice: the handler's own, or a branch of `parallel`. And what all of a run have in common: one CPU budget,
//! one account of memory, one deadline, one ending. It decides when a script stops, and nothing else.
//!
//! A run has one turn each time its future is polled, however many branches it has, so that they keep nobody else waiting.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Ending;
use super::branches;
use super::compiled::Compiled;
use super::coroutine::{self, Coroutine, Stacks, Step};
use super::current::{self, Phase};
use super::host_call::{Given, HostCall, HostReply};
use super::run::{Limits, Perform, Performed};
use crate::frame::Frame;
use crate::{clock, memory};

/// How long a run may keep its worker before the others get their turn.
const TURN: Duration = Duration::from_micros(500);

/// What the coroutines of one run share.
pub(super) struct Common<'a> {
    pub(super) stacks: &'a Rc<Stacks>,
    pub(super) compiled: Rc<Compiled>,
    pub(super) limits: Limits,
    perform: &'a dyn Perform,
    /// Of the run, or once it writes a stream, of its next piece.
    deadline: Cell<Instant>,
    writes_stream: Cell<bool>,
    cpu: Cell<Duration>,
    balance: Cell<memory::Balance>,
    /// Sticky: once set, every hook and every host call of the run obeys it.
    ending: Cell<Option<Ending>>,
    /// Where a branch was when it ended the run.
    frame: Cell<Option<Box<Frame>>>,
    fault: Cell<Option<Fault>>,
    /// Live branches, of all its calls of `parallel`.
    pub(super) branches: Cell<usize>,
    /// When this turn is over; `None` before its first slice.
    turn_ends: Cell<Option<Instant>>,
    turn_is_over: Cell<bool>,
    /// Given out to those who wait for a turn, and taken back from those who had it.
    tickets: Cell<u64>,
    served: Cell<u64>,
}

/// What no coroutine comes back from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It allocated without bound between two hooks.
    Runaway,
    /// A native function panicked.
    Panicked,
}

impl<'a> Common<'a> {
    pub(super) fn new(
        stacks: &'a Rc<Stacks>,
        compiled: Rc<Compiled>,
        perform: &'a dyn Perform,
        limits: Limits,
        started: Instant,
    ) -> Self {
        Self {
            stacks,
            compiled,
            limits,
            perform,
            deadline: Cell::new(started + limits.timeout),
            writes_stream: Cell::new(false),
            cpu: Cell::new(Duration::ZERO),
            balance: Cell::default(),
            ending: Cell::new(None),
            frame: Cell::new(None),
            fault: Cell::new(None),
            branches: Cell::new(0),
            turn_ends: Cell::new(None),
            turn_is_over: Cell::new(false),
            tickets: Cell::new(0),
            served: Cell::new(0),
        }
    }

    /// To be called when the run is polled.
    pub(super) fn begin_turn(&self) {
        self.turn_ends.set(None);
        self.turn_is_over.set(false);
    }

    pub(super) fn ending(&self) -> Option<Ending> {
        self.ending.get()
    }

    /// Ends the run, unless it has been ended.
    pub(super) fn end(&self, ending: Ending, frame: Option<Box<Frame>>) {
        if self.ending.get().is_none() {
            self.ending.set(Some(ending));
        }
        if let Some(first) = self.frame.take().or(frame) {
            self.frame.set(Some(first));
        }
    }

    pub(super) fn frame_of_branch(&self) -> Option<Box<Frame>> {
        self.frame.take()
    }

    /// Bytes that are still held when all its coroutines are gone. A panic's own traces cannot be told from what the script left.
    pub(super) fn left_behind(&self) -> u64 {
        match self.fault.get() {
            Some(Fault::Panicked) => 0,
            Some(Fault::Runaway) | None => self.balance.get().bytes(),
        }
    }

    /// Waits for the next turn where this one is over. Who has waited longest comes first, so that no branch keeps the others out; once the run
    /// is over nobody stands in line, for some who did are gone.
    async fn turn(&self) {
        if !self.turn_is_over.get() && self.tickets.get() == self.served.get() {
            return;
        }
        let ticket = self.tickets.replace(self.tickets.get() + 1);
        loop {
            tokio::task::yield_now().await;
            if self.ending.get().is_some() {
                return;
            }
            if !self.turn_is_over.get() && self.served.get() == ticket {
                return self.served.set(ticket + 1);
            }
        }
    }

    fn spent(&self, now: Instant) -> Option<Ending> {
        if self.cpu.get() > self.limits.cpu {
            return Some(Ending::Cpu);
        }
        (now >= self.deadline.get()).then_some(self.late())
    }

    fn late(&self) -> Ending {
        if self.writes_stream.get() { Ending::Idle } else { Ending::Timeout }
    }

    /// A stream has begun, or a piece of it went on its way: time and CPU count from here, however long the whole of it is. What goes on for
    /// hours and gives its client something all the time is what streams are for.
    fn begin_anew(&self) {
        self.writes_stream.set(true);
        self.deadline.set(clock::instant() + self.limits.idle);
        self.cpu.set(Duration::ZERO);
    }
}

/// What a run leaves behind is its script's, also of one that nobody waits for any more. A runaway is counted as such.
impl Drop for Common<'_> {
    fn drop(&mut self) {
        if self.fault.get().is_none() {
            self.compiled.script.has_leaked(self.left_behind());
        }
    }
}

/// A coroutine between two slices.
pub(super) struct Strand<'a, R> {
    common: &'a Common<'a>,
    coroutine: Coroutine<R>,
    /// What it goes by; it is with the coroutine during a slice.
    given: Option<Rc<Given>>,
    /// How many calls of `parallel` stand around it, each with a branch on the way here.
    depth: usize,
}

impl<'a, R: 'static> Strand<'a, R> {
    pub(super) fn new(
        common: &'a Common<'a>,
        coroutine: Coroutine<R>,
        given: Option<Rc<Given>>,
        depth: usize,
    ) -> Self {
        Self { common, coroutine, given, depth }
    }

    /// Until it comes to its end, which it does soon once the run has been ended.
    pub(super) async fn drive(&mut self) -> Result<R, Fault> {
        let mut reply = HostReply::Unit;
        loop {
            self.common.turn().await;
            let step = self.slice(reply);
            reply = match step {
                Step::Done(result) => return Ok(result),
                Step::Panicked => return Err(self.failed(Fault::Panicked)),
                Step::Runaway => return Err(self.failed(Fault::Runaway)),
                Step::Slice | Step::Call(_) | Step::Branches(_)
                    if self.common.ending().is_some() =>
                {
                    HostReply::Ended
                }
                // Its turn is over.
                Step::Slice => HostReply::Unit,
                Step::Call(call) => self.answer(call).await,
                Step::Branches(branches) => {
                    branches::run(self.common, branches, self.depth + 1).await?
                }
            };
        }
    }

    /// One slice: everything that natives and the allocator look for is in place exactly as long as it lasts.
    fn slice(&mut self, reply: HostReply) -> Step<R> {
        let common = self.common;
        let started = clock::instant();
        let ends = common.turn_ends.get().unwrap_or_else(|| started + TURN);
        common.turn_ends.set(Some(ends));
        let running = current::enter(current::Slice {
            phase: Phase::Handler,
            ending: common.ending.get(),
            ends,
            held_elsewhere: common.perform.held_bytes(),
            given: self.given.take(),
        });
        let mut balance = common.balance.get();
        let charged =
            memory::enter(&mut balance, common.limits.memory, coroutine::suspend_for_good);
        let step = self.coroutine.resume(reply);
        drop(charged);
        common.balance.set(balance);
        self.given = running.given();
        let ended = running.ending();
        drop(running);
        let now = clock::instant();
        common.cpu.set(common.cpu.get() + now.saturating_duration_since(started));
        common.turn_is_over.set(now >= ends);
        let goes_on = matches!(step, Step::Slice | Step::Call(_) | Step::Branches(_));
        let ended = ended.or_else(|| if goes_on { common.spent(now) } else { None });
        if let Some(ending) = ended {
            common.end(ending, None);
        }
        step
    }

    async fn answer(&self, call: HostCall) -> HostReply {
        let streams = matches!(call, HostCall::BeginStream(_) | HostCall::Write { .. });
        let reply = match self.common.perform.perform(call) {
            Performed::Now(reply) => reply,
            Performed::Later(later) => {
                let deadline = self.common.deadline.get();
                match tokio::time::timeout_at(deadline.into(), later).await {
                    Ok(reply) => reply,
                    Err(_elapsed) => {
                        self.common.end(self.common.late(), None);
                        HostReply::Ended
                    }
                }
            }
        };
        if streams && reply == HostReply::Unit {
            self.common.begin_anew();
        }
        reply
    }

    fn failed(&self, fault: Fault) -> Fault {
        self.common.fault.set(Some(fault));
        fault
    }
}

/// What nobody waits for any more is unwound, and whatever stops the unwinding finds that the run has ended.
impl<R> Drop for Strand<'_, R> {
    fn drop(&mut self) {
        let common = self.common;
        let mut balance = common.balance.get();
        let charged =
            memory::enter(&mut balance, common.limits.memory, coroutine::suspend_for_good);
        let running = current::enter(current::Slice {
            phase: Phase::Handler,
            ending: common.ending.get().or(Some(Ending::Cancelled)),
            ends: common.deadline.get(),
            held_elsewhere: 0,
            given: self.given.take(),
        });
        self.coroutine.unwind();
        drop(running);
        drop(charged);
        common.balance.set(balance);
    }
}
