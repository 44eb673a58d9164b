//! `parallel`: what runs at once, on copies of what; how branches end, together and alone; and that a rerun sees the same.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use rhai::{Dynamic, FnPtr};

use super::{Worker, block_on, nothing, outcome};
use crate::script::compiled::Compiled;
use crate::script::host_call::{HostCall, HostReply};
use crate::script::run::{End, Input, Perform, Performed};

/// Runs `body` as a handler, with room for as many coroutines.
fn ends_with(stacks: usize, functions: &str, body: &str) -> End {
    let worker = Worker::with(super::MEMORY, stacks);
    let compiled = worker.script(&format!("{functions}\nget(\"/\", |v| {{ {body} }});"));
    let end = worker.end(&compiled, 0, nothing);
    assert_eq!(end.leaked, 0, "{body}");
    end
}

/// With plenty of room and with none for a branch, the same must come of it.
fn check(body: &str, expected: &str) {
    for stacks in [100, 2, 1] {
        let outcome = outcome(&ends_with(stacks, "", body));
        assert_eq!(outcome, expected, "{stacks} stacks: {body}");
    }
}

fn check_thrown(body: &str, part: &str) {
    for stacks in [100, 1] {
        let outcome = outcome(&ends_with(stacks, "", body));
        let thrown = outcome.starts_with("thrown") && outcome.contains(part);
        assert!(thrown, "{stacks} stacks: {outcome}: {body}");
    }
}

/// Answers each `sleep` after its time, and counts how many wait.
#[derive(Default)]
struct Waits {
    now: Cell<usize>,
    most: Cell<usize>,
    done: RefCell<Vec<u128>>,
}

impl Perform for Waits {
    fn perform(&self, call: HostCall) -> Performed<'_> {
        let HostCall::Sleep(time) = call else { return Performed::Now(HostReply::Unit) };
        self.now.set(self.now.get() + 1);
        self.most.set(self.most.get().max(self.now.get()));
        Performed::Later(Box::pin(async move {
            tokio::time::sleep(time).await;
            self.now.set(self.now.get() - 1);
            self.done.borrow_mut().push(time.as_millis());
            HostReply::Unit
        }))
    }

    fn held_bytes(&self) -> usize {
        0
    }
}

fn waits_of(worker: &Worker, compiled: &Rc<Compiled>, handler: usize) -> (String, Waits) {
    let waits = Waits::default();
    let input = Input::Made(nothing);
    let end = block_on(worker.run_with(compiled, handler, input, &waits));
    worker.still_works(compiled);
    (outcome(&end), waits)
}

#[test]
fn results_stand_in_the_order_of_the_list_whichever_ends_first() {
    check("parallel([])", "200 []");
    check("parallel([], |x| x)", "200 []");
    check("parallel([|| 1])", "200 [1]");
    check("parallel([|| { sleep(\"20ms\"); 1 }, || 2, || { sleep(\"1ms\"); 3 }])", "200 [1,2,3]");
    check("parallel([3, 1, 2], |n| { sleep(`${n * 5}ms`); n * 10 })", "200 [30,10,20]");
    check("let ids = [1, 2]; ids.parallel(|n| n + 1)", "200 [2,3]");
}

#[test]
fn branches_wait_at_the_same_time_and_as_many_as_the_limit_says() {
    let worker = Worker::with(super::MEMORY, 200);
    let compiled = worker.script(
        "fn many(n) { let list = []; for i in 0..n { list.push(i); } list }
         get(\"/two\", |v| parallel([|| { sleep(\"30ms\"); 1 }, || { sleep(\"5ms\"); 2 }]));
         get(\"/default\", |v| parallel(many(100), |i| sleep(\"1ms\")).len);
         get(\"/three\", |v| parallel(many(10), |i| sleep(\"1ms\"), #{ limit: 3 }).len);
         get(\"/most\", |v| parallel(many(100), |i| sleep(\"1ms\"), #{ limit: 64 }).len);
         get(\"/nested\", |v| parallel(many(10), |i| parallel(many(10), |k| sleep(\"1ms\"))).len);
         get(\"/deep\", |v| deep(40));
         fn deep(n) { if n == 0 { sleep(\"1ms\"); return 0; } parallel([n - 1, n - 1], |n| { sleep(\"1ms\"); if n % 8 == 0 { deep(n) } else { 0 } }).len }",
    );
    let (two, waits) = waits_of(&worker, &compiled, 0);
    assert_eq!((&*two, waits.most.get()), ("200 [1,2]", 2));
    assert_eq!(*waits.done.borrow(), [5, 30]);
    for (handler, expected, most) in [(1, "200 100", 16), (2, "200 10", 3), (3, "200 100", 64)] {
        let (outcome, waits) = waits_of(&worker, &compiled, handler);
        assert_eq!((&*outcome, waits.most.get()), (expected, most));
    }
    // Ten that wait for others, so 54 that work, or fewer.
    let (nested, waits) = waits_of(&worker, &compiled, 4);
    assert_eq!(nested, "200 10");
    assert!((30..=64).contains(&waits.most.get()), "{}", waits.most.get());
    assert_eq!(waits_of(&worker, &compiled, 5).0, "200 2");
}

#[test]
fn without_a_place_for_a_branch_they_run_one_after_the_other() {
    for stacks in [1, 2] {
        let worker = Worker::with(super::MEMORY, stacks);
        let compiled = worker.script(
            "get(\"/\", |v| parallel([1, 2, 3], |i| parallel([1, 2], |k| { sleep(\"1ms\"); i * k })));",
        );
        let (outcome, waits) = waits_of(&worker, &compiled, 0);
        assert_eq!(outcome, "200 [[1,2],[2,4],[3,6]]");
        assert_eq!(waits.most.get(), 1);
    }
}

#[test]
fn nested_to_the_end_of_calls_it_ends_as_recursion_does() {
    let functions = "fn f(n) { parallel([n, n], |n| f(n + 1)) }";
    for stacks in [100, 1] {
        assert_eq!(outcome(&ends_with(stacks, functions, "f(0)")), "Stack");
    }
}

#[test]
fn rule_17_all_run_to_their_end_and_the_first_error_in_the_order_of_the_list_is_thrown() {
    check(
        "try { parallel([|| 1, || { sleep(\"20ms\"); throw #{ code: \"A\" } }, || throw #{ code: \"B\" }]) } catch (err) { return err.code; }",
        "200 A",
    );
    check_thrown(
        "let x = #{};\nparallel([|| 1,\n|| { sleep(\"5ms\"); x.a.b },\n|| throw \"later\"])",
        "scripts/test.rhai:4:",
    );
    check("parallel([|| { throw status(404, \"none\") }, || 1])", "thrown answer 404");
    let worker = Worker::with(super::MEMORY, 10);
    let compiled = worker.script(
        "get(\"/\", |v| parallel([|| throw \"at once\", || sleep(\"3ms\"), || sleep(\"9ms\")]));",
    );
    let (outcome, waits) = waits_of(&worker, &compiled, 0);
    assert!(outcome.contains("at once"), "{outcome}");
    assert_eq!(*waits.done.borrow(), [3, 9], "the others were not stopped");
}

#[test]
fn a_closure_works_on_copies_of_what_it_captures() {
    check(
        "let n = 1; parallel([|| { n += 1; sleep(\"1ms\"); n += 1; n }, || { n += 10; n }]) + [n]",
        "200 [3,11,1]",
    );
    check(
        "let m = #{ a: [1] }; let r = parallel([1, 2], |i| { m.a.push(i); sleep(\"1ms\"); m.a.len }); r + [m.a.len]",
        "200 [2,2,1]",
    );
    // A cell inside an array, a map, a closure.
    check(
        "let n = 1; let add = || { n += 1; n }; let tools = #{ list: [add] };
         let r = parallel([1, 2], |i| { let f = tools.list[0]; f.call(); f.call() }); r + [n]",
        "200 [2,2,1]",
    );
    check(
        "let list = [[1], [2]]; parallel(list, |x| { x.push(9); x.len }) + list",
        "200 [2,2,[1],[2]]",
    );
    check("let total = 0; parallel([1, 2, 3], |x| total += x); total", "200 0");
    check("const N = 5; parallel([|| N, || N + 1])", "200 [5,6]");
}

#[test]
fn what_cannot_be_copied_is_an_error_that_says_so() {
    let deep = "let m = [1]; for i in 0..128 { m = [m]; }";
    check_thrown(&format!("{deep} parallel([1, 2], |i| m.len)"), "deeper than 127");
    check_thrown(&format!("{deep} parallel([m, m], |m| m.len)"), "deeper than 127");
    let closures = "fn wrap(f) { || f.call() } let f = || 1; for i in 0..130 { f = wrap(f); }";
    let (functions, body) = closures.split_once("} ").map_or(("", ""), |(f, b)| (f, b));
    let functions = format!("{functions}}}");
    let outcome = outcome(&ends_with(10, &functions, &format!("{body} parallel([f, f])")));
    assert!(outcome.contains("deeper than 127"), "{outcome}");
}

#[test]
fn a_cycle_of_closures_cannot_be_copied_and_is_a_leak_of_its_own() {
    let worker = Worker::with(super::MEMORY, 3);
    let compiled = worker.script(
        "get(\"/\", |v| { let x = #{}; let f = || x; x.f = f; try { parallel([1, 2], |i| x.len) } catch (err) { return err.message; } });",
    );
    let end = worker.end(&compiled, 0, nothing);
    assert!(outcome(&end).contains("holds itself"), "{}", outcome(&end));
    assert!((1..4096).contains(&end.leaked), "{}", end.leaked);
}

#[test]
fn functions_and_imports_are_those_that_the_closure_s_author_sees() {
    let worker = Worker::with(super::MEMORY, 10);
    let compiled = worker.script_with(
        "import \"lib/a\" as a;
         fn twice(x) { x * 2 }
         const N = 7;
         get(\"/0\", |v| parallel([1, 2], |x| twice(x) + a::one() + N));
         get(\"/1\", |v| { import \"lib/b\" as b; parallel([|| b::two(), || a::both()]) });
         get(\"/2\", |v| inside(3));
         fn inside(x) { parallel([|| global::N + x, || twice(x)]) }",
        &[
            ("lib/a.rhai", "fn one() { 1 } fn both() { parallel([|| mine(), || { sleep(\"1ms\"); mine() + 1 }]) } private fn mine() { 40 }"),
            ("lib/b.rhai", "fn two() { 2 }"),
        ],
    );
    for (handler, expected) in [(0, "200 [10,12]"), (1, "200 [2,[40,41]]"), (2, "200 [10,6]")] {
        assert_eq!(outcome(&worker.end(&compiled, handler, nothing)), expected);
    }
}

#[test]
fn what_is_given_wrong_is_an_error_that_says_what_to_write() {
    for (body, part) in [
        ("parallel([|| 1, 2, || 3])", "at index 1 stands an integer"),
        ("parallel([()])", "at index 0 stands ()"),
        ("parallel([|| 1, |x| x])", "the one at index 1 has parameters"),
        ("parallel([1, 2], || 1)", "write `|item| …`"),
        ("parallel([1, 2], |a, b| 1)", "write `|item| …`"),
        ("parallel([1], |x| x, #{ limit: 0 })", "from 1 to 64"),
        ("parallel([1], |x| x, #{ limit: 65 })", "from 1 to 64"),
        ("parallel([1], |x| x, #{ limit: \"2\" })", "from 1 to 64"),
        ("parallel([1], |x| x, #{ limits: 2 })", "unknown option `limits`"),
        (
            "let a = []; a.pad(100001, 1); parallel(a, |x| x)",
            "at most 100000 items; this one has 100001",
        ),
        ("parallel([1, 2], |x| Fn(\"missing_one\").call(x))", "missing_one"),
        ("let ids = [1, 2]; ids.parallel(|n| n + ids.len)", "uses `ids` while it is being used"),
    ] {
        check_thrown(body, part);
    }
}

#[test]
fn an_endless_branch_ends_the_whole_run_and_nothing_can_catch_it() {
    for stacks in [10, 1] {
        let mut worker = Worker::with(super::MEMORY, stacks);
        worker.limits.cpu = Duration::from_millis(30);
        for body in [
            "parallel([|| sleep(\"10s\"), || { loop {} }])",
            "parallel([|| { loop {} }, || { loop {} }, || { loop {} }])",
            "try { parallel([1, 2], |i| { try { loop {} } catch {} }) } catch { return 1; } return 2;",
            "parallel([1, 2], |i| parallel([1, 2], |k| { loop { sleep(\"0ms\"); let x = 0; while x < 1000 { x += 1; } } }))",
        ] {
            if stacks == 1 && body.contains("10s") {
                continue;
            }
            let compiled = worker.script(&format!("get(\"/\", |v| {{ {body} }});"));
            let end = worker.end(&compiled, 0, nothing);
            assert_eq!(outcome(&end), "Cpu", "{body}");
            assert_eq!(end.leaked, 0, "{body}");
        }
    }
}

#[test]
fn others_on_the_worker_get_their_turn_however_many_branches_a_run_has() {
    let mut worker = Worker::with(super::MEMORY, 100);
    worker.limits.cpu = Duration::from_millis(200);
    let compiled = worker.script(
        "get(\"/\", |v| { let list = []; list.pad(64, 1); parallel(list, |i| { loop {} }, #{ limit: 64 }) });",
    );
    let turns = Cell::new(0);
    block_on(async {
        let run = worker.run(&compiled, 0, Input::Made(nothing));
        let others = async {
            loop {
                turns.set(turns.get() + 1);
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            end = run => assert_eq!(outcome(&end), "Cpu"),
            () = others => {}
        }
    });
    // Half a millisecond each makes 400. A slice for each branch in a row would leave the others six.
    assert!(turns.get() > 20, "{}", turns.get());
}

#[test]
fn branches_that_work_take_turns() {
    // Each works for many turns; were one kept out until another is through, it would begin after the first has ended.
    let spins = "|i| { let a = now(); let x = 0; while x < 60000 { x += 1; } [a, now()] }";
    let body = format!(
        "let spans = parallel([1, 2, 3, 4], {spins}); let first = spans.map(|s| s[1]).reduce(|a, b| min(a, b), spans[0][1]); spans.all(|s| s[0] < first)"
    );
    assert_eq!(outcome(&ends_with(10, "", &body)), "200 true");
}

#[test]
fn memory_is_counted_for_all_branches_together() {
    // They hold it until the last of them has its own.
    let body = |times: usize, wait: &str| {
        format!(
            "let list = []; list.pad({times}, 1); parallel(list, |i| {{ let s = \"\"; s.pad(6000000, 'x'); sleep(\"{wait}\"); s.len }}).len"
        )
    };
    assert_eq!(outcome(&ends_with(100, "", &body(4, "1ms"))), "200 4");
    assert_eq!(outcome(&ends_with(100, "", &body(8, "20s"))), "Memory");
    assert_eq!(outcome(&ends_with(1, "", &body(8, "1ms"))), "200 8", "one by one they fit");
    // Each copies what it captures.
    let copies = "let s = []; s.pad(100000, 1); let list = []; list.pad(60, 1); parallel(list, |i| { sleep(\"20s\"); s.len }, #{ limit: 60 }).len";
    assert_eq!(outcome(&ends_with(100, "", copies)), "Memory");
}

#[test]
fn a_run_ends_at_its_time_out_whatever_its_branches_wait_for() {
    let mut worker = Worker::with(super::MEMORY, 10);
    worker.limits.timeout = Duration::from_millis(40);
    for body in [
        "parallel([|| sleep(\"10s\"), || 1])",
        "parallel([1, 2], |i| parallel([1, 2], |k| { try { sleep(\"10s\") } catch { } }))",
    ] {
        let compiled = worker.script(&format!("get(\"/\", |v| {{ {body} }});"));
        let end = block_on(worker.run(&compiled, 0, Input::Made(nothing)));
        assert_eq!((&*outcome(&end), end.leaked), ("Timeout", 0), "{body}");
    }
}

#[expect(
    deprecated,
    reason = "rhai marks what may change with its next version as deprecated; tests need it to plant natives"
)]
fn native(function: fn()) -> Dynamic {
    let made = FnPtr::from_fn("native", move |_context, _arguments| {
        function();
        Ok(Dynamic::UNIT)
    });
    made.unwrap().into()
}

#[test]
fn a_branch_that_panics_or_runs_away_ends_the_run_and_its_stacks_serve_the_next() {
    let panics = || native(|| panic!("a native function panics"));
    let runs_away = || {
        native(|| {
            let mut held = Vec::new();
            loop {
                held.push(vec![0_u8; 1 << 20]);
            }
        })
    };
    let worker = Worker::with(super::MEMORY, 6);
    let compiled = worker.script(
        "get(\"/\", |v| { try { return parallel([|| sleep(\"10s\"), || { sleep(\"1ms\"); v.call() }, || parallel([|| sleep(\"10s\"), || sleep(\"10s\")])]); } catch { return 1; } });",
    );
    assert_eq!(outcome(&worker.end(&compiled, 0, panics)), "panicked");
    let end = worker.end(&compiled, 0, runs_away);
    assert_eq!(outcome(&end), "runaway");
    assert!(end.leaked > 100 << 20, "{}", end.leaked);
    // All six places are free again.
    let compiled =
        worker.script("get(\"/\", |v| parallel([1, 2, 3, 4, 5], |i| sleep(\"1ms\")).len);");
    let (outcome, waits) = waits_of(&worker, &compiled, 0);
    assert_eq!((&*outcome, waits.most.get()), ("200 5", 5));
}

thread_local! {
    static HELD: RefCell<Rc<()>> = RefCell::new(Rc::new(()));
}

#[derive(Clone)]
struct Held(#[expect(dead_code, reason = "it is counted, never read")] Rc<()>);

#[test]
fn s11_a_run_that_is_cancelled_drops_its_branches_on_their_own_stacks() {
    let held = || Dynamic::from(Held(HELD.with_borrow(Rc::clone)));
    let worker = Worker::with(super::MEMORY, 8);
    let compiled = worker.script(
        "fn deep(v) { let m = [v]; for i in 0..3000 { m = [take(m)]; } m }
         get(\"/0\", |v| parallel([1, 2, 3], |i| { let m = deep(v); sleep(\"10s\"); m.len }));
         get(\"/1\", |v| parallel([1, 2], |i| parallel([1, 2], |k| { let m = deep(v); loop { try { sleep(\"10s\"); } catch { } } m.len })));
         get(\"/2\", |v| parallel([|| deep(v), || { sleep(\"10s\"); 1 }]));",
    );
    for handler in 0..3 {
        block_on(async {
            let run = worker.run(&compiled, handler, Input::Made(held));
            let waited = tokio::time::timeout(Duration::from_millis(100), run).await;
            assert!(waited.is_err(), "it waits");
        });
        assert_eq!(HELD.with_borrow(Rc::strong_count), 1);
        worker.still_works(&compiled);
    }
}

#[test]
fn rule_13_uuids_follow_from_the_place_of_a_branch_and_not_from_its_timing() {
    let body = |wait: &str, limit: usize| {
        format!(
            "let a = uuid();
             let b = parallel([3, 2, 1], |i| {{ {wait} [uuid(), uuid()] + parallel([|| uuid(), || {{ {wait} uuid() }}]) }}, #{{ limit: {limit} }});
             let c = parallel([|| uuid(), || uuid()]);
             [a, b, c, uuid()]"
        )
    };
    let first = outcome(&ends_with(100, "", &body("", 16)));
    for (stacks, wait, limit) in [
        (100, "sleep(`${i}ms`);", 16),
        (1, "", 16),
        (2, "sleep(`${i}ms`);", 16),
        (100, "", 1),
        (4, "", 2),
    ] {
        assert_eq!(outcome(&ends_with(stacks, "", &body(wait, limit))), first, "{stacks} {wait}");
    }
    let mut ids: Vec<&str> = first.split('"').filter(|part| part.len() == 36).collect();
    assert_eq!(ids.len(), 2 + 12 + 2);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 16, "no two are the same: {first}");
}

#[test]
fn s42_a_hundred_thousand_items_a_bounded_number_at_once() {
    let list = "let list = []; for i in 0..100000 { list.push(i); }";
    let sum = format!("{list} let sum = 0; for x in parallel(list, |i| i + 1) {{ sum += x; }} sum");
    assert_eq!(outcome(&ends_with(100, "", &sum)), "200 5000050000");
    assert_eq!(outcome(&ends_with(1, "", &sum)), "200 5000050000");
    let throws = format!(
        "{list} try {{ parallel(list, |i| {{ if i > 700 {{ throw i; }} i }}) }} catch (err) {{ return err; }}"
    );
    assert_eq!(outcome(&ends_with(100, "", &throws)), "200 701");
    let worker = Worker::with(super::MEMORY, 200);
    let compiled = worker.script(&format!(
        "get(\"/\", |v| {{ {list} list.truncate(3000); parallel(list, |i| {{ sleep(\"0ms\"); i }}).len }});"
    ));
    let (outcome, waits) = waits_of(&worker, &compiled, 0);
    assert_eq!((&*outcome, waits.most.get()), ("200 3000", 16));
}
