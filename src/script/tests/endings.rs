//! How runs end against their will, and that nothing in a script can keep one from it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use rhai::{Dynamic, FnPtr};

use super::{Worker, block_on, check, check_thrown, ends, nothing, outcome};
use crate::script::run::Input;

const ENDLESS: [&str; 6] = [
    "loop {}",
    "loop { try { throw 1 } catch {} }",
    "try { loop {} } catch {}",
    "let x = [3, 1, 2]; x.sort(|a, b| { loop {} }); 1",
    "let x = [3, 1, 2]; try { x.map(|a| { loop {} }); } catch { return 1; }",
    "`${[1].map(|x| { loop {} })}`",
];

#[test]
fn s1_an_endless_script_ends_at_its_cpu_budget_and_cannot_catch_it() {
    let mut worker = Worker::new();
    worker.limits.cpu = Duration::from_millis(30);
    for body in ENDLESS {
        let compiled = worker.script(&format!("get(\"/\", |v| {{ {body} }});"));
        assert_eq!(outcome(&worker.end(&compiled, 0, nothing)), "Cpu", "{body}");
    }
}

#[test]
fn s1_others_on_the_same_worker_run_meanwhile() {
    let mut worker = Worker::with(super::MEMORY, 2);
    worker.limits.cpu = Duration::from_millis(100);
    let compiled = worker.script("get(\"/\", |v| { loop {} });");
    let order = RefCell::new(Vec::new());
    block_on(async {
        let endless = async {
            let end = worker.run(&compiled, 0, Input::Made(nothing)).await;
            order.borrow_mut().push(outcome(&end));
        };
        let short = async {
            let end = worker.run(&compiled, 1, Input::Made(nothing)).await;
            order.borrow_mut().push(outcome(&end));
        };
        tokio::join!(endless, short);
    });
    assert_eq!(*order.borrow(), ["200 42", "Cpu"]);
}

#[test]
fn a_run_ends_at_its_time_out_while_it_waits_and_while_it_works() {
    let mut worker = Worker::new();
    worker.limits.timeout = Duration::from_millis(30);
    for body in [
        "sleep(\"10s\")",
        "try { sleep(\"10s\") } catch { return 1 }",
        "loop {}",
        "loop { sleep(\"1ms\"); }",
    ] {
        let compiled = worker.script(&format!("get(\"/\", |v| {{ {body} }});"));
        let end = block_on(worker.run(&compiled, 0, Input::Made(nothing)));
        assert_eq!(outcome(&end), "Timeout", "{body}");
    }
}

thread_local! {
    static HELD: RefCell<Rc<()>> = RefCell::new(Rc::new(()));
}

#[derive(Clone)]
struct Held(#[expect(dead_code, reason = "it is counted, never read")] Rc<()>);

/// A value of 60,000 levels with something at its bottom that can be counted.
fn deep_and_held() -> Dynamic {
    let held = HELD.with_borrow(Rc::clone);
    (0..60_000).fold(Dynamic::from(Held(held)), |inner, _| Dynamic::from_array(vec![inner]))
}

#[test]
fn s11_a_run_that_is_cancelled_is_unwound_on_its_own_stack_and_leaves_nothing() {
    let worker = Worker::new();
    let compiled = worker.script(
        "get(\"/\", |v| { sleep(\"10s\"); v.len });
         get(\"/sort\", |v| { let x = [3, 1, 2]; x.sort(|a, b| { sleep(\"10s\"); a - b }); loop { v.len; } });
         get(\"/catch\", |v| { loop { try { sleep(\"10s\"); } catch { } } });",
    );
    for handler in 0..3 {
        block_on(async {
            let run = worker.run(&compiled, handler, Input::Made(deep_and_held));
            let waited = tokio::time::timeout(Duration::from_millis(1), run).await;
            assert!(waited.is_err(), "it waits");
        });
        assert_eq!(HELD.with_borrow(Rc::strong_count), 1);
        worker.still_works(&compiled);
    }
}

#[expect(
    deprecated,
    reason = "rhai marks what may change with its next version as deprecated; tests need it to plant natives"
)]
/// A native function that no one has thought of.
fn native(function: fn()) -> Dynamic {
    let made = FnPtr::from_fn("native", move |_context, _arguments| {
        function();
        Ok(Dynamic::UNIT)
    });
    made.unwrap().into()
}

fn allocates_without_end() -> Dynamic {
    native(|| {
        let mut held = Vec::new();
        loop {
            held.push(vec![0_u8; 1 << 20]);
        }
    })
}

fn asks_for_8_gigabytes() -> Dynamic {
    native(|| _ = std::hint::black_box(Vec::<u8>::with_capacity(8 << 30)))
}

fn panics() -> Dynamic {
    native(|| panic!("a native function panics"))
}

#[test]
fn s21_a_native_function_that_allocates_without_end_is_suspended_for_good() {
    let worker = Worker::with(super::MEMORY, 1);
    let compiled =
        worker.script("get(\"/\", |v| { try { return v.call(); } catch { return 1; } });");
    let end = worker.end(&compiled, 0, allocates_without_end);
    assert_eq!(outcome(&end), "runaway");
    assert!(end.leaked > 100 << 20, "what it held is lost: {}", end.leaked);
}

#[test]
fn s22_eight_gigabytes_asked_for_at_once_are_never_asked_of_the_system() {
    let worker = Worker::new();
    let compiled =
        worker.script("get(\"/\", |v| { try { return v.call(); } catch { return 1; } });");
    assert_eq!(outcome(&worker.end(&compiled, 0, asks_for_8_gigabytes)), "runaway");
}

#[test]
fn s23_a_native_function_that_panics_fails_its_run_only() {
    let worker = Worker::new();
    let compiled =
        worker.script("get(\"/\", |v| { try { return v.call(); } catch { return 1; } });");
    let end = worker.end(&compiled, 0, panics);
    assert_eq!(outcome(&end), "panicked");
    assert_eq!(end.leaked, 0);
}

#[test]
fn s29_recursion_ends_as_such_however_it_is_written() {
    let deep = format!("{}f(x + 1){}", "g(".repeat(28), ")".repeat(28));
    let switches = format!("{}f(x + 1){}", "switch 1 { 1 => ".repeat(28), " }".repeat(28));
    for (functions, body) in [
        ("fn f(x) { f(x + 1) }", "f(0)"),
        ("", "let f = |f| f.call(f); f.call(f)"),
        ("fn f(x) { try { return f(x + 1); } catch { return 1; } }", "f(0)"),
        (&*format!("fn g(x) {{ x }} fn f(x) {{ {deep} }}"), "f(0)"),
        (&*format!("fn f(x) {{ {switches} }}"), "f(0)"),
    ] {
        check(functions, body, "Stack");
    }
}

#[test]
fn s30_changing_what_is_in_use_is_an_error_at_once() {
    for body in [
        "let x = [3, 1]; x.sort(|a, b| { x.push(1); a - b }); 1",
        "let u = #{ xs: [1, 2], p: 1 }; u.xs.filter(|e| e == u.p).len",
    ] {
        let end = ends("", body, nothing);
        let outcome = outcome(&end);
        assert!(outcome.starts_with("200") || outcome.contains("closure"), "{outcome}: {body}");
    }
}

#[test]
fn s32_numbers_past_their_ends_are_errors_with_a_place() {
    for body in [
        "9223372036854775807 + 1",
        "let x = -9223372036854775807 - 1; x / -1",
        "let x = -9223372036854775807 - 1; -x",
        "let x = -9223372036854775807 - 1; x.abs()",
        "2 ** 100000",
        "1 % 0",
        "1 / 0",
        "for x in range(0, 10, 0) { }",
        "9223372036854775807 * 2",
        "1 << 100000; 5 / 0",
    ] {
        check_thrown("", body, "scripts/test.rhai:");
    }
}

#[test]
fn s43_s45_a_suspended_run_takes_little_memory_and_no_huge_pages() {
    const RUNS: usize = 1000;
    // A budget of its own, by which its stacks are known among those of other tests.
    let worker = Worker::with(9 << 20, RUNS);
    let stack_kib = crate::script::coroutine::stack_bytes(9 << 20) / 1024;
    let compiled = worker.script("get(\"/\", |v| { sleep(\"10s\"); 1 });");
    block_on(async {
        let mut runs: Vec<_> =
            (0..RUNS).map(|_| Box::pin(worker.run(&compiled, 0, Input::Made(nothing)))).collect();
        for run in &mut runs {
            assert!(futures_util::poll!(run).is_pending());
        }
        let refused = worker.run(&compiled, 0, Input::Made(nothing)).await;
        assert_eq!(outcome(&refused), "no stack");
        let (stacks, resident_kib, huge) = resident(stack_kib);
        assert_eq!(stacks, RUNS);
        assert!(resident_kib / RUNS <= 32, "{} KiB each", resident_kib / RUNS);
        assert!(!huge, "huge pages are refused");
    });
    worker.still_works(&compiled);
}

/// Of the mappings of that size: how many, their resident KiB, and whether one may have huge pages.
fn resident(size_kib: usize) -> (usize, usize, bool) {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let (mut stacks, mut resident_kib, mut huge, counted) = (0, 0, false, Cell::new(false));
    let number = |line: &str| line.split_whitespace().nth(1).and_then(|n| n.parse::<usize>().ok());
    for line in maps.lines() {
        if line.starts_with("Size:") {
            counted.set(number(line) == Some(size_kib));
            stacks += usize::from(counted.get());
        } else if counted.get() && line.starts_with("Rss:") {
            resident_kib += number(line).unwrap_or(0);
        } else if counted.get() && line.starts_with("VmFlags:") {
            huge |= !line.contains(" nh");
        }
    }
    (stacks, resident_kib, huge)
}

#[test]
fn rule_12_a_call_that_ends_the_attempt_cannot_be_caught() {
    for body in [
        "db.gate.delete(\"a\"); 1",
        "try { db.gate.delete(\"a\"); } catch { return 1 }",
        "parallel([|| db.gate.delete(\"a\"), || sleep(\"10s\")]); 1",
        "[1].map(|x| { try { db.gate.delete(\"a\") } catch {} 1 })",
    ] {
        check("", body, "ByCall");
    }
}
