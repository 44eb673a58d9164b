//! Stackful coroutines: scripts write straight-line code, and a call that waits suspends it and frees the worker. With `memory.rs` the
//! only `unsafe` of the program: stacks, and reaching the running coroutine from a native function.
//!
//! Promises: a panic inside ends that run only; a stack is as deep as `Stacks` says, its deep part goes back to the system after use; what
//! is dropped half-way ends on its own stack. Nothing resumes a coroutine from inside another.

use std::cell::{Cell, RefCell};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};

use corosensei::stack::{Stack, StackPointer};
use corosensei::{CoroutineResult, Yielder};

use super::host_call::{HostCall, HostReply};
use super::parallel::Branches;
use super::places::{Place, Places};
use crate::memory;

/// Below this a run ends; natives between two hooks need less than it.
pub(crate) const RESERVE_BYTES: usize = 1 << 20;
/// So much of a stack stays resident after a run; a usual handler needs about 24 KiB.
const WARM_BYTES: usize = 64 << 10;
/// Read, write and execute are forbidden here, so that an overflow never reaches a neighbour.
const GUARD_BYTES: usize = 64 << 10;
/// What memory is mapped in; larger pages only make the looks coarser.
const PAGE_BYTES: usize = 4096;
/// Free stacks that `trim` leaves mapped; making one anew costs 6 µs and its page faults.
const FREE_STACKS_KEPT: usize = 64;
/// Rhai's recursion within one operation needs this much stack for each byte of `memory_budget` (measured, with a margin of 2).
const STACK_PER_BUDGET: u64 = if cfg!(debug_assertions) { 16 } else { 4 };
/// And never less than this: 28 nested calls around a recursive one need 4.9 MiB in release, 25.7 in debug builds.
const STACK_BYTES_MIN: u64 = if cfg!(debug_assertions) { 64 << 20 } else { 16 << 20 };

/// Why a coroutine gave its thread back before its end.
#[derive(Debug)]
pub(crate) enum Suspend {
    /// Its time slice is over.
    Slice,
    /// It asks for something.
    Call(HostCall),
    /// It has closures that are to run side by side, and waits for all of them.
    Branches(Branches),
    /// It allocates without bound; it must never be resumed.
    Runaway,
}

/// What became of one resume.
#[derive(Debug)]
pub(crate) enum Step<R> {
    /// It has used its slice and wants another.
    Slice,
    /// It asks, and waits for the answer.
    Call(HostCall),
    /// It has closures to run, and waits for them.
    Branches(Branches),
    /// It allocated without bound and is never resumed; its stack is lost.
    Runaway,
    /// It came to its end.
    Done(R),
    /// A native function panicked. The stack is fit for the next run.
    Panicked,
}

/// The stacks of one worker, reused.
pub(crate) struct Stacks {
    bytes: usize,
    free: RefCell<Vec<Mapped>>,
    places: Rc<Places>,
}

impl Stacks {
    /// Stacks as deep as runs of `memory_budget` bytes need; at most `max` at once.
    pub(crate) fn new(memory_budget: u64, max: usize) -> Rc<Self> {
        Rc::new(Self {
            bytes: stack_bytes(memory_budget),
            free: RefCell::default(),
            places: Places::new(max),
        })
    }

    /// A place for a coroutine at once, or none.
    pub(crate) fn enter_now(&self) -> Option<Place> {
        self.places.enter_now()
    }

    /// A place for a coroutine, in the order of asking.
    pub(crate) async fn enter(&self) -> Place {
        self.places.enter().await
    }

    fn take(&self) -> io::Result<Mapped> {
        let free = self.free.borrow_mut().pop();
        free.map_or_else(|| Mapped::new(self.bytes), Ok)
    }

    /// Unmaps half of what lay free, so that a burst's stacks go back to the system within a minute. To be called every few seconds.
    pub(crate) fn trim(&self) {
        let mut free = self.free.borrow_mut();
        let kept = (free.len() / 2).max(FREE_STACKS_KEPT);
        free.truncate(kept);
    }

    /// `deep`: whether the run may have gone past the warm part.
    fn give_back(&self, stack: Mapped, deep: bool) {
        if deep {
            stack.cool();
        }
        self.free.borrow_mut().push(stack);
    }
}

/// How deep the stack of a run is that may hold `memory_budget` bytes.
pub(crate) fn stack_bytes(memory_budget: u64) -> usize {
    let bytes = memory_budget.saturating_mul(STACK_PER_BUDGET).max(STACK_BYTES_MIN);
    usize::try_from(bytes).unwrap_or(usize::MAX).next_multiple_of(GUARD_BYTES)
}

/// How many more stacks fit into the process's limit on address space; `None` without such a limit.
pub(crate) fn stacks_that_fit(memory_budget: u64) -> Option<u64> {
    let left = address_space()?
        .saturating_sub(memory::address_space_used()?)
        .saturating_sub(ADDRESS_SPACE_LEFT);
    Some(left / (stack_bytes(memory_budget) + GUARD_BYTES) as u64)
}

/// Address space that stays free for everything but stacks, where it is limited: an allocation that fails ends the process, a stack that
/// cannot be had ends no more than a run.
const ADDRESS_SPACE_LEFT: u64 = 256 << 20;
/// Mappings that the process needs beside its stacks: threads, files, large allocations.
const OTHER_MAPPINGS: usize = 4096;
/// Linux allows so many mappings a process unless `vm.max_map_count` says otherwise; a stack takes two.
const MAPPINGS_MAX: usize = 65_530;

/// Stacks of all workers that are mapped now.
static MAPPED: AtomicUsize = AtomicUsize::new(0);

/// Whether the process can have another stack of so many bytes and stay well.
fn may_map(bytes: usize) -> bool {
    if MAPPED.load(Ordering::Relaxed) >= (MAPPINGS_MAX - OTHER_MAPPINGS) / 2 {
        return false;
    }
    match (address_space(), memory::address_space_used()) {
        (Some(limit), Some(used)) => used + bytes as u64 + ADDRESS_SPACE_LEFT <= limit,
        _ => true,
    }
}

/// The process's limit on address space; `None` without one.
#[expect(unsafe_code, reason = "getrlimit has no safe form in libc")]
fn address_space() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the answer.
    let failed = unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut limit) } != 0;
    (!failed && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// One stack: reserved, committed by use, with a guard below.
struct Mapped {
    /// The highest address.
    base: StackPointer,
    /// Guard included.
    mapped_bytes: usize,
}

#[expect(
    unsafe_code,
    reason = "mmap, mprotect, madvise, mincore and munmap on memory that this type alone owns"
)]
impl Mapped {
    fn new(bytes: usize) -> io::Result<Self> {
        let mapped_bytes = bytes.checked_add(GUARD_BYTES).ok_or(io::ErrorKind::OutOfMemory)?;
        if !may_map(mapped_bytes) {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), mapped_bytes, libc::PROT_NONE, flags, -1, 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        MAPPED.fetch_add(1, Ordering::Relaxed);
        let base = (start as usize).checked_add(mapped_bytes).and_then(StackPointer::new);
        let stack = Self { base: base.ok_or(io::ErrorKind::OutOfMemory)?, mapped_bytes };
        let usable = (start as usize + GUARD_BYTES) as *mut libc::c_void;
        // SAFETY: the range lies within the mapping made above.
        if unsafe { libc::mprotect(usable, bytes, libc::PROT_READ | libc::PROT_WRITE) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // With huge pages each run would have 2 MiB resident and take 5 ms to start.
        #[cfg(target_os = "linux")]
        // SAFETY: as above; advice changes no content.
        unsafe {
            libc::madvise(usable, bytes, libc::MADV_NOHUGEPAGE);
        }
        Ok(stack)
    }

    fn start(&self) -> usize {
        self.base.get() - self.mapped_bytes
    }

    /// Gives the deep part back to the system if a run got that far: it has then touched the page below the warm part.
    fn cool(&self) {
        let warm = self.base.get() - WARM_BYTES;
        let mut resident = 0_u8;
        // SAFETY: the page lies within this mapping, and `resident` has room for the one byte that one page takes.
        let asked = unsafe {
            libc::mincore(
                (warm - PAGE_BYTES) as *mut libc::c_void,
                PAGE_BYTES,
                (&raw mut resident).cast(),
            )
        };
        if asked == 0 && resident & 1 == 0 {
            return;
        }
        let usable = self.start() + GUARD_BYTES;
        // SAFETY: the range lies within this mapping, and no coroutine is on it.
        unsafe { libc::madvise(usable as *mut libc::c_void, warm - usable, libc::MADV_DONTNEED) };
    }
}

#[expect(unsafe_code, reason = "unmaps what `new` mapped")]
impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: this type alone owns the mapping, and no coroutine is on it any more.
        unsafe { libc::munmap(self.start() as *mut libc::c_void, self.mapped_bytes) };
        MAPPED.fetch_sub(1, Ordering::Relaxed);
    }
}

#[expect(unsafe_code, reason = "Stack is an unsafe trait")]
// SAFETY: `base` is page-aligned and the highest address; the lowest GUARD_BYTES are a guard that no access passes, and the
// rest, at least STACK_BYTES_MIN, is readable and writable.
unsafe impl Stack for Mapped {
    fn base(&self) -> StackPointer {
        self.base
    }

    fn limit(&self) -> StackPointer {
        StackPointer::new(self.start()).unwrap_or(StackPointer::MIN)
    }
}

type Inner<R> = corosensei::Coroutine<HostReply, Suspend, R, Mapped>;

/// One run's coroutine. Dropped half-way it is unwound on its own stack.
pub(crate) struct Coroutine<R> {
    stacks: Rc<Stacks>,
    /// `None` once it has run away and was abandoned, or was unwound.
    inner: Option<Inner<R>>,
    /// Given back when the stack is. `None` for what stands outside the count.
    place: Option<Place>,
    /// Where natives find the way back, while it is suspended.
    running: Running,
    /// Whether it may have used more of its stack than stays warm.
    deep: bool,
}

/// The coroutine that runs on this thread, as its native functions see it.
#[derive(Clone, Copy)]
struct Running {
    /// Null outside a coroutine and while one is being unwound.
    yielder: *const Yielder<HostReply, Suspend>,
    /// The lowest address that a run may use; 0 outside.
    limit: usize,
    /// Below this a run is deep.
    warm: usize,
}

const NOTHING_RUNS: Running = Running { yielder: std::ptr::null(), limit: 0, warm: 0 };

thread_local! {
    static RUNNING: Cell<Running> = const { Cell::new(NOTHING_RUNS) };
    /// Whether a hook has found the running coroutine below the warm part of its stack.
    static DEEP: Cell<bool> = const { Cell::new(false) };
}

impl<R: 'static> Coroutine<R> {
    /// Prepares `body` on a stack of `stacks`, in one of its places; it starts with the first `resume`, whose reply is ignored. Fails where no
    /// stack can be had.
    pub(crate) fn new(
        stacks: &Rc<Stacks>,
        place: Place,
        body: impl FnOnce() -> R + 'static,
    ) -> io::Result<Self> {
        Self::with(stacks, Some(place), body)
    }

    /// The same beside the places: for the set-up phase of a script, which is never suspended, so that there is one at a time.
    pub(crate) fn aside(
        stacks: &Rc<Stacks>,
        body: impl FnOnce() -> R + 'static,
    ) -> io::Result<Self> {
        Self::with(stacks, None, body)
    }

    fn with(
        stacks: &Rc<Stacks>,
        place: Option<Place>,
        body: impl FnOnce() -> R + 'static,
    ) -> io::Result<Self> {
        let stack = stacks.take()?;
        let limit = stack.start() + GUARD_BYTES;
        let warm = stack.base.get() - WARM_BYTES / 2;
        let inner = Inner::with_stack(stack, move |yielder, _start| {
            RUNNING.with(|running| running.set(Running { yielder, ..running.get() }));
            body()
        });
        let running = Running { limit, warm, ..NOTHING_RUNS };
        Ok(Self { stacks: Rc::clone(stacks), inner: Some(inner), place, running, deep: false })
    }

    /// Goes on until it suspends or ends. After `Done`, `Runaway` and `Panicked` there is nothing to resume.
    pub(crate) fn resume(&mut self, reply: HostReply) -> Step<R> {
        let Some(inner) = self.inner.as_mut().filter(|inner| !inner.done()) else {
            return Step::Panicked;
        };
        let outer = RUNNING.with(|running| running.replace(self.running));
        let result = catch_unwind(AssertUnwindSafe(|| inner.resume(reply)));
        self.running = RUNNING.with(|running| running.replace(outer));
        self.deep |= DEEP.replace(false) || memory::has_grown();
        match result {
            Ok(CoroutineResult::Yield(Suspend::Slice)) => Step::Slice,
            Ok(CoroutineResult::Yield(Suspend::Call(call))) => Step::Call(call),
            Ok(CoroutineResult::Yield(Suspend::Branches(branches))) => Step::Branches(branches),
            Ok(CoroutineResult::Yield(Suspend::Runaway)) => {
                self.abandon();
                Step::Runaway
            }
            Ok(CoroutineResult::Return(result)) => Step::Done(result),
            Err(_panic) => {
                self.deep = true;
                Step::Panicked
            }
        }
    }

    /// What ran away is never resumed, so what stands on its stack is lost, and the stack with it.
    #[expect(
        clippy::mem_forget,
        reason = "it stands inside an allocation: unwinding it would allocate again"
    )]
    fn abandon(&mut self) {
        if let Some(inner) = self.inner.take() {
            std::mem::forget(inner);
            self.place = None;
        }
    }
}

impl<R> Coroutine<R> {
    /// Ends it where it stands, on its own stack; one that has ended gives its stack back.
    pub(crate) fn unwind(&mut self) {
        let Some(mut inner) = self.inner.take() else { return };
        let was_cut = !inner.done();
        let outer = RUNNING
            .with(|running| running.replace(Running { limit: self.running.limit, ..NOTHING_RUNS }));
        let unwound = catch_unwind(AssertUnwindSafe(|| inner.force_unwind()));
        RUNNING.with(|running| running.set(outer));
        // Where both are kept is no matter of the run.
        memory::uncharged(|| {
            if unwound.is_ok() || inner.done() {
                self.stacks.give_back(inner.into_stack(), self.deep || was_cut);
            }
            self.place = None;
        });
    }
}

impl<R> Drop for Coroutine<R> {
    fn drop(&mut self) {
        self.unwind();
    }
}

/// Gives the thread back, and waits for the answer. Outside a coroutine, and while one is being unwound, the answer is `Ended`.
#[expect(
    unsafe_code,
    reason = "the yielder of the running coroutine is reached through a thread-local"
)]
pub(crate) fn suspend(suspend: Suspend) -> HostReply {
    let Running { yielder, .. } = RUNNING.with(Cell::get);
    if yielder.is_null() {
        return HostReply::Ended;
    }
    // SAFETY: the yielder lives at the base of the coroutine's stack until its body returns; the thread-local names it only while that
    // coroutine runs on this thread, for `resume` puts the outer one back.
    unsafe { &*yielder }.suspend(suspend)
}

/// For the allocator: stops the running coroutine at this point, for good.
pub(crate) fn suspend_for_good() {
    suspend(Suspend::Runaway);
}

/// Bytes of stack that the running coroutine has left; plenty outside one.
pub(crate) fn stack_left() -> usize {
    let here = 0_u8;
    let (Running { limit, warm, .. }, here) = (RUNNING.get(), &raw const here as usize);
    if limit == 0 {
        return usize::MAX;
    }
    if here < warm {
        DEEP.set(true);
    }
    here.saturating_sub(limit)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn stacks() -> Rc<Stacks> {
        Stacks::new(1 << 20, 4)
    }

    fn new<R: 'static>(
        stacks: &Rc<Stacks>,
        body: impl FnOnce() -> R + 'static,
    ) -> Option<Coroutine<R>> {
        Some(Coroutine::new(stacks, stacks.enter_now()?, body).unwrap())
    }

    fn ask() -> HostReply {
        suspend(Suspend::Call(HostCall::Sleep(Duration::from_millis(1))))
    }

    #[test]
    fn a_body_suspends_where_it_stands_and_goes_on_with_the_answer() {
        let mut coroutine = new(&stacks(), || (ask(), ask())).unwrap();
        assert!(matches!(coroutine.resume(HostReply::Unit), Step::Call(_)));
        assert!(matches!(coroutine.resume(HostReply::Bool(true)), Step::Call(_)));
        let Step::Done(answers) = coroutine.resume(HostReply::Count(7)) else {
            panic!("it should be done")
        };
        assert_eq!(answers, (HostReply::Bool(true), HostReply::Count(7)));
    }

    #[test]
    fn two_coroutines_take_turns_on_one_thread() {
        let stacks = stacks();
        let mut first = new(&stacks, ask).unwrap();
        let mut second = new(&stacks, ask).unwrap();
        assert!(matches!(first.resume(HostReply::Unit), Step::Call(_)));
        assert!(matches!(second.resume(HostReply::Unit), Step::Call(_)));
        assert!(matches!(first.resume(HostReply::Count(1)), Step::Done(HostReply::Count(1))));
        assert!(matches!(second.resume(HostReply::Count(2)), Step::Done(HostReply::Count(2))));
    }

    #[test]
    fn s23_a_panic_ends_its_own_run_and_the_stack_serves_the_next() {
        let stacks = Stacks::new(1 << 20, 1);
        let mut coroutine = new(&stacks, || -> u8 { panic!("a native function panics") }).unwrap();
        assert!(matches!(coroutine.resume(HostReply::Unit), Step::Panicked));
        drop(coroutine);
        let mut next = new(&stacks, || 42).unwrap();
        assert!(matches!(next.resume(HostReply::Unit), Step::Done(42)));
    }

    #[test]
    fn what_is_dropped_half_way_is_unwound_and_hears_that_it_is_over() {
        struct Noted(Rc<Cell<bool>>);
        impl Drop for Noted {
            fn drop(&mut self) {
                self.0.set(suspend(Suspend::Slice) == HostReply::Ended);
            }
        }
        let noted = Rc::new(Cell::new(false));
        let held = Noted(Rc::clone(&noted));
        let stacks = Stacks::new(1 << 20, 1);
        let mut coroutine = new(&stacks, move || {
            let _held = held;
            ask()
        })
        .unwrap();
        assert!(matches!(coroutine.resume(HostReply::Unit), Step::Call(_)));
        assert!(new(&stacks, || ()).is_none(), "the only place is taken");
        drop(coroutine);
        assert!(noted.get());
        assert!(new(&stacks, || ()).is_some());
    }

    #[test]
    fn a_stack_is_deep_and_knows_how_much_is_left() {
        fn dig(levels: usize) -> usize {
            let frame = [u8::from(levels == 1); 1024];
            if levels == 0 {
                stack_left()
            } else {
                dig(levels - 1) + usize::from(std::hint::black_box(frame)[7] == 255 && levels == 1)
            }
        }
        let mut coroutine = new(&stacks(), || (stack_left(), dig(8 << 10))).unwrap();
        let Step::Done((before, after)) = coroutine.resume(HostReply::Unit) else {
            panic!("it should be done")
        };
        assert!(before > usize::try_from(STACK_BYTES_MIN).unwrap() - (64 << 10));
        assert!(before - after > 8 << 20);
        assert_eq!(stack_left(), usize::MAX);
    }
}
