//! The counting allocator: how many bytes the run whose slice is on this thread holds, net. It makes `memory_budget` real, since Rhai
//! can bound single values only. It counts live 24-byte blocks as well: each array and map of Rhai has one, so their number bounds how
//! deep values can nest. A run that passes four times its budget between two hooks is suspended for good, from inside `alloc`.
//!
//! It counts for one account a thread, and only between `enter` and the end of its guard.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Counts, and hands on to the system's allocator.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The size of the box that Rhai keeps each array and map in (measured for rhai 1.27 on 64-bit targets).
const CONTAINER_BYTES: usize = 24;
/// A container for each of so many bytes of the budget: see DESIGN in ARCHITECTURE.md, "Memory".
const BYTES_PER_CONTAINER: usize = 320;
/// How far past its budget a run may get between two hooks before it is suspended for good.
const RUNAWAY_FACTOR: isize = 4;

/// Values within this are shallow: some 400 levels at most.
const SMALL_BYTES: isize = 16 << 10;

thread_local! {
    static ACCOUNT: Account = const { Account::idle() };
}

struct Account {
    /// Net bytes; frees of what another account paid for may take it below zero.
    bytes: Cell<isize>,
    containers: Cell<isize>,
    /// `isize::MAX` while nothing is counted.
    runaway_at: Cell<isize>,
    budget: Cell<isize>,
    /// Whether a hook has seen more than `SMALL_BYTES`.
    grew: Cell<bool>,
    /// Called at `runaway_at`; does not return.
    runaway: Cell<Option<fn()>>,
}

impl Account {
    const fn idle() -> Self {
        Self {
            bytes: Cell::new(0),
            containers: Cell::new(0),
            runaway_at: Cell::new(isize::MAX),
            budget: Cell::new(isize::MAX),
            grew: Cell::new(false),
            runaway: Cell::new(None),
        }
    }

    fn take(&self, size: usize) {
        let size_signed = size.cast_signed();
        if self.bytes.get().saturating_add(size_signed) > self.runaway_at.get() {
            self.run_away();
        }
        self.bytes.set(self.bytes.get().wrapping_add(size_signed));
        if size == CONTAINER_BYTES {
            self.containers.set(self.containers.get().wrapping_add(1));
        }
    }

    fn give(&self, size: usize) {
        self.bytes.set(self.bytes.get().wrapping_sub(size.cast_signed()));
        if size == CONTAINER_BYTES {
            self.containers.set(self.containers.get().wrapping_sub(1));
        }
    }

    #[cold]
    fn run_away(&self) {
        self.runaway_at.set(isize::MAX);
        if let Some(runaway) = self.runaway.take() {
            runaway();
        }
    }
}

#[expect(
    unsafe_code,
    reason = "GlobalAlloc is an unsafe trait; every call is handed to the system's allocator unchanged"
)]
// SAFETY: `System` keeps GlobalAlloc's contract, and nothing here changes a layout or a pointer. `take` may switch to another
// stack and never come back; then nothing was allocated yet.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ACCOUNT.with(|account| account.take(layout.size()));
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ACCOUNT.with(|account| account.take(layout.size()));
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ACCOUNT.with(|account| account.give(layout.size()));
        // SAFETY: the caller's promise, handed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ACCOUNT.with(|account| {
            account.take(size);
            account.give(layout.size());
        });
        // SAFETY: the caller's promise, handed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// What one run holds, kept while it is not on the thread.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Balance {
    bytes: isize,
    containers: isize,
}

impl Balance {
    /// Bytes still held, as far as they were this account's own.
    pub(crate) fn bytes(self) -> u64 {
        u64::try_from(self.bytes).unwrap_or(0)
    }
}

/// Counts for `balance` until the guard is dropped. `runaway` is called where the run would pass four times `budget` bytes, and must not
/// return to the caller.
pub(crate) fn enter(balance: &mut Balance, budget: u64, runaway: fn()) -> Entered<'_> {
    let budget = isize::try_from(budget).unwrap_or(isize::MAX);
    ACCOUNT.with(|account| {
        account.bytes.set(balance.bytes);
        account.containers.set(balance.containers);
        account.budget.set(budget);
        account.grew.set(false);
        account.runaway.set(Some(runaway));
        account.runaway_at.set(budget.saturating_mul(RUNAWAY_FACTOR));
    });
    Entered { balance }
}

/// While it lives, this thread's allocations are charged to one balance.
pub(crate) struct Entered<'a> {
    balance: &'a mut Balance,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        ACCOUNT.with(|account| {
            account.runaway_at.set(isize::MAX);
            account.runaway.set(None);
            account.budget.set(isize::MAX);
            self.balance.bytes = account.bytes.get();
            self.balance.containers = account.containers.get();
        });
    }
}

/// Whether the run on this thread holds more than its budget, or more arrays and maps than its budget allows. `elsewhere`: bytes that it
/// holds outside its account, such as writes that wait for its commit.
pub(crate) fn is_over_budget(elsewhere: usize) -> bool {
    ACCOUNT.with(|account| {
        let budget = account.budget.get();
        if account.bytes.get() > SMALL_BYTES {
            account.grew.set(true);
        }
        account.bytes.get().saturating_add(elsewhere.cast_signed()) > budget
            || account.containers.get() > budget / BYTES_PER_CONTAINER.cast_signed()
    })
}

/// Whether the run on this thread held more than a little since `enter`: less cannot be nested so deep that dropping or printing it needs
/// much stack (a level costs 40 bytes of heap at least, and up to 350 of stack).
pub(crate) fn has_grown() -> bool {
    ACCOUNT.with(|account| account.grew.get())
}

/// How many bytes the run on this thread may still allocate; `usize::MAX` outside a run.
pub(crate) fn room() -> usize {
    ACCOUNT.with(|account| match account.budget.get() {
        isize::MAX => usize::MAX,
        budget => usize::try_from(budget.saturating_sub(account.bytes.get())).unwrap_or(0),
    })
}

/// Does something whose memory is not the run's: what it allocates is freed elsewhere, what it frees was allocated elsewhere. It is never
/// suspended for good, so it may hold a lock of the program, as logging does.
pub(crate) fn uncharged<T>(act: impl FnOnce() -> T) -> T {
    let before = Standing::now();
    let result = act();
    before.restore(true);
    result
}

/// Builds plain data that leaves the run, where nothing but that data stays allocated and nothing of the run is freed: it is not charged. An
/// error stays in the run and is.
pub(crate) fn handed_out<T, E>(build: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let before = Standing::now();
    let result = build();
    before.restore(result.is_ok());
    result
}

/// An account as it stood.
struct Standing {
    bytes: isize,
    containers: isize,
    runaway_at: isize,
}

impl Standing {
    /// As it stands; from here on nothing is suspended.
    fn now() -> Self {
        ACCOUNT.with(|account| Self {
            bytes: account.bytes.get(),
            containers: account.containers.get(),
            runaway_at: account.runaway_at.replace(isize::MAX),
        })
    }

    fn restore(self, uncharged: bool) {
        ACCOUNT.with(|account| {
            account.runaway_at.set(self.runaway_at);
            if uncharged {
                account.bytes.set(self.bytes);
                account.containers.set(self.containers);
            }
        });
    }
}

/// Bytes of address space that the process uses; `None` where the system does not tell.
pub(crate) fn address_space_used() -> Option<u64> {
    /// What `statm` counts in (proc_pid_statm(5)); larger pages only make it coarser.
    const PAGE_BYTES: u64 = 4096;
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(pages.split(' ').next()?.parse::<u64>().ok()? * PAGE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn never() {
        panic!("a run ran away");
    }

    #[test]
    fn what_a_run_holds_is_charged_to_it_and_comes_back() {
        let mut balance = Balance::default();
        let entered = enter(&mut balance, 1 << 20, never);
        let held: Vec<u8> = Vec::with_capacity(1000);
        assert_eq!(room(), (1 << 20) - 1000);
        drop(entered);
        assert_eq!(balance.bytes(), 1000);
        assert_eq!(room(), usize::MAX);

        let entered = enter(&mut balance, 1 << 20, never);
        drop(held);
        assert_eq!(room(), 1 << 20);
        drop(entered);
        assert_eq!(balance.bytes(), 0);
    }

    #[test]
    fn more_bytes_or_more_containers_than_the_budget_are_noticed() {
        let mut balance = Balance::default();
        let entered = enter(&mut balance, 64 << 10, never);
        assert!(!is_over_budget(0));
        assert!(is_over_budget(64 << 10 | 1));
        let boxes: Vec<Box<[u64; 3]>> = (0..300).map(|n| Box::new([n; 3])).collect();
        assert!(is_over_budget(0), "300 boxes of 24 bytes are more than 65,536 / 320");
        drop(boxes);
        assert!(!is_over_budget(0));
        drop(entered);
    }

    #[test]
    fn what_leaves_as_plain_data_is_not_charged_and_an_error_is() {
        let mut balance = Balance::default();
        let entered = enter(&mut balance, 1 << 20, never);
        let sent = handed_out(|| Ok::<_, Vec<u8>>(vec![1_u8; 500])).unwrap();
        assert_eq!(room(), 1 << 20);
        let failed = handed_out(|| Err::<u8, _>(vec![1_u8; 500])).unwrap_err();
        assert_eq!(room(), (1 << 20) - 500);
        uncharged(|| drop(sent));
        drop(failed);
        assert_eq!(room(), 1 << 20);
        drop(entered);
        assert_eq!(balance.bytes(), 0);
    }

    #[test]
    fn s22_eight_gigabytes_never_reach_the_system() {
        thread_local! { static ASKED: Cell<bool> = const { Cell::new(false) } }
        fn noted() {
            ASKED.set(true);
            std::panic::resume_unwind(Box::new(()));
        }
        let mut balance = Balance::default();
        let entered = enter(&mut balance, 32 << 20, noted);
        let layout = Layout::from_size_align(8 << 30, 8).unwrap();
        let stopped =
            std::panic::catch_unwind(|| ACCOUNT.with(|account| account.take(layout.size())));
        assert!(stopped.is_err() && ASKED.get());
        drop(entered);
        assert_eq!(balance.bytes(), 0, "nothing was counted, for nothing was allocated");
    }
}
