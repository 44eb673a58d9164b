//! `parallel` through the front door: what runs at once, what of it is committed, how it ends; and how many runs a worker has at once.

use std::collections::BTreeSet;

use crate::support::{
    Connection, Project, Response, Rhaiway, check_rows, clerk_event, eventually, logged, signed,
};

fn config(scripts: &str) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[scripts]\n{scripts}\n[webhooks.clerk]\npath = \"/api/webhooks/clerk\"\nscheme = \"svix\"\nsecret_env = \"CLERK_WEBHOOK_SECRET\"\n"
    )
}

fn asking(rhaiway: &Rhaiway, path: &str) -> Connection {
    let mut connection = Connection::open(rhaiway.address());
    connection.send(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).unwrap();
    connection
}

fn refused_for_now(answer: &Response) -> bool {
    answer.status == 503
        && answer.code() == "SERVICE_UNAVAILABLE"
        && answer.header("retry-after").is_some()
}

/// Each branch writes a document and waits until it sees the other's; one after the other they would wait for ever.
const MEET: &str = r#"
fn meet(mine, other) {
    db.met.put(mine, #{ at: now() });
    while db.met.get(other) == () { sleep("1ms"); }
    mine
}
"#;

#[test]
fn two_branches_run_at_the_same_time_and_see_what_the_other_writes() {
    check_rows(
        MEET,
        &[
            ("parallel([|| meet(\"a\", \"b\"), || meet(\"b\", \"a\")])", 200, "[\"a\",\"b\"]"),
            ("db.met.list().map(|d| d.id)", 200, "[\"a\",\"b\"]"),
            (
                "parallel([\"c\", \"d\"], |x| meet(x, if x == \"c\" { \"d\" } else { \"c\" }))",
                200,
                "[\"c\",\"d\"]",
            ),
            (
                "parallel([\"e\", \"f\"], |x| parallel([|| meet(x + 1, x + 2), || meet(x + 2, x + 1)]))",
                200,
                "[[\"e1\",\"e2\"],[\"f1\",\"f2\"]]",
            ),
            ("db.met.count()", 200, "8"),
            (
                "parallel([1, 2, 3], |i| { db.n.increment(\"n\", \"n\", i); db.n.get(\"n\").n }); db.n.get(\"n\").n",
                200,
                "6",
            ),
            ("for i in 0..30 { db.f.put(`d${i}`, #{ k: i % 2 }); } 1", 200, "1"),
            (
                "parallel([|| db.f.find(#{ k: 1 }).len, || { db.f.put(\"x\", #{ k: 1 }); db.f.count(#{ k: 1 }) }, || db.f.find(#{ k: 0 }).len])",
                200,
                "16,15]",
            ),
        ],
    );
}

#[test]
fn rule_17_what_branches_write_is_committed_together_or_not_at_all() {
    check_rows(
        "fn write(id) { sleep(\"1ms\"); db.w.put(id, #{}); id }",
        &[
            (
                "parallel([|| write(\"a\"), || { throw \"no\" }, || write(\"b\")])",
                500,
                "main.rhai:",
            ),
            ("db.w.count()", 200, "0"),
            (
                "try { parallel([|| write(\"a\"), || { throw \"no\" }, || write(\"b\")]); } catch (err) { } db.w.count()",
                200,
                "2",
            ),
            ("db.w.list().map(|d| d.id)", 200, "[\"a\",\"b\"]"),
            (
                "parallel([|| write(\"c\"), || { loop {} }])",
                503,
                "the CPU budget of 250ms is used up at scripts/main.rhai:6",
            ),
            ("parallel([|| write(\"d\"), || { throw status(409, \"taken\") }])", 409, "taken"),
            ("db.w.count()", 200, "2"),
        ],
    );
}

#[test]
fn what_is_wrong_with_a_call_of_parallel_is_told_in_the_log() {
    check_rows(
        "",
        &[
            ("parallel([|| 1, 5])", 500, "at index 1 stands an integer"),
            ("parallel([|x| x, || 1])", 500, "the one at index 0 has parameters"),
            ("parallel([1, 2], |x| x, #{ limit: 65 })", 500, "`limit` is a number from 1 to 64"),
            (
                "let m = [1]; for i in 0..200 { m = [m]; } parallel([1], |x| m.len)",
                500,
                "deeper than 127",
            ),
            ("parallel([1, 2], |x| {\n x.a.b\n })", 500, "main.rhai:"),
        ],
    );
}

#[test]
fn s42_a_hundred_thousand_items_end_within_the_budgets() {
    let script = r#"
        fn many() { let list = []; for i in 0..100000 { list.push(i); } list }
        get("/sum", #{ auth: "none" }, |req| { let sum = 0; for x in parallel(many(), |i| i + 1) { sum += x; } sum });
        get("/throws", #{ auth: "none" }, |req| { try { parallel(many(), |i| { if i > 700 { throw i; } }) } catch (err) { return err; } });
        get("/more", #{ auth: "none" }, |req| { let list = many(); list.push(1); parallel(list, |i| i) });
    "#;
    // CPU time is wall time to a machine that others use.
    let project = Project::with_config(&config("cpu_budget = \"20s\""), script);
    let rhaiway = project.start();
    assert_eq!(rhaiway.get("/sum").text(), "5000050000");
    assert_eq!(rhaiway.get("/throws").text(), "701");
    let more = rhaiway.get("/more");
    assert_eq!(more.status, 500);
    assert!(logged(&rhaiway, &more).contains("at most 100000 items; this one has 100001"));
}

#[test]
fn rule_13_a_rerun_after_a_conflict_gives_each_branch_the_same_uuids() {
    let script = r#"
        get("/slow", #{ auth: "none" }, |req| {
            let seen = db.t.get("x");
            let ids = parallel([30, 1, 10], |ms| { if seen == () { sleep(`${ms}ms`); } uuid() });
            log.info("ids " + ids.join(" "));
            while db.bumps.count() == 0 { sleep("1ms"); }
            db.t.put("x", #{ by: "slow" });
            ids
        });
        get("/bump", #{ auth: "none" }, |req| { db.t.put("x", #{ by: "bump" }); db.bumps.put("1", #{}); 1 });
    "#;
    let project = Project::with_config(&config(""), script);
    let rhaiway = project.start();
    let mut slow = asking(&rhaiway, "/slow");
    rhaiway.wait_for_log("ids ");
    assert_eq!(rhaiway.get("/bump").text(), "1");
    let answer = slow.read().unwrap();
    assert_eq!(answer.status, 200);
    let lines: Vec<String> =
        rhaiway.log().into_iter().filter(|line| line.contains("ids ")).collect();
    assert_eq!(lines.len(), 2, "it ran twice: {lines:?}");
    let ids: BTreeSet<String> = answer
        .json()
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 3);
    assert!(lines.iter().all(|line| ids.iter().all(|id| line.contains(id))), "{lines:?}");
}

#[test]
fn a_client_that_leaves_takes_all_branches_with_it() {
    let script = r#"
        get("/wait", #{ auth: "none" }, |req| parallel([1, 2], |i| { log.info(`begins ${i}`); sleep("50s"); i }));
        get("/short", #{ auth: "none" }, |req| 42);
    "#;
    let project = Project::with_config(&config("max_runs = 3"), script);
    let rhaiway = project.start();
    let waiting = asking(&rhaiway, "/wait");
    rhaiway.wait_for_log("begins 1");
    rhaiway.wait_for_log("begins 2");
    assert!(refused_for_now(&rhaiway.get("/short")), "the run and its branches have all places");
    drop(waiting);
    eventually("the places are free again", || (rhaiway.get("/short").status == 200).then_some(()));
}

#[test]
fn beyond_max_runs_jobs_wait_in_line_and_routes_are_refused_at_once() {
    let script = r#"
        get("/hold", #{ auth: "none" }, |req| { log.info("held"); sleep("50s"); 1 });
        get("/short", #{ auth: "none" }, |req| 42);
        webhook("clerk", |event| {
            parallel([|| log.info("a " + event.data.id), || log.info("b " + event.data.id)]);
            log.info("handled " + event.data.id);
        });
    "#;
    let project = Project::with_config(&config("max_runs = 1"), script);
    let rhaiway = project.start();
    let holding = asking(&rhaiway, "/hold");
    rhaiway.wait_for_log("held");
    assert!(refused_for_now(&rhaiway.get("/short")));
    let ids: Vec<String> = (1..=5).map(|n| format!("user_{n}")).collect();
    for id in &ids {
        let delivery = signed(&format!("msg_{id}"), clerk_event("user.created", id, 1));
        assert_eq!(rhaiway.deliver(&delivery).status, 200, "what comes in is stored all the same");
    }
    assert!(project.states().values().all(|state| state == "pending"), "{:?}", project.states());
    drop(holding);
    eventually("all are done", || {
        let states = project.states();
        (states.len() == 5 && states.values().all(|state| state == "done")).then_some(())
    });
    let handled: Vec<String> = rhaiway
        .log()
        .iter()
        .filter_map(|line| Some(line.split_once("handled ")?.1.split('"').next()?.to_owned()))
        .collect();
    assert_eq!(handled, ids, "in the order in which they came");
    let event = project.event_of("msg_user_3");
    assert_eq!(event["attempts"], 1, "waiting used no attempt: {event}");
}

#[test]
fn s14_a_script_whose_runs_leave_memory_behind_is_stopped_until_it_is_saved_again() {
    let leaks = |extra: &str| {
        format!(
            "get(\"/leak\", #{{ auth: \"none\" }}, |req| {{ for i in 0..10000 {{ let x = #{{}}; let f = || x; x.f = f; }} 1 }});
             get(\"/parallel\", #{{ auth: \"none\" }}, |req| parallel([1, 2], |i| {{ for i in 0..10000 {{ let x = #{{}}; let f = || x; x.f = f; }} 1 }}));
             {extra}"
        )
    };
    let project = Project::with_config(&config("cpu_budget = \"20s\""), &leaks(""));
    project.write("scripts/other.rhai", "get(\"/other\", #{ auth: \"none\" }, |req| 42);");
    let rhaiway = project.start();
    assert_eq!(rhaiway.get("/leak").text(), "1", "the run itself succeeds");
    let line: serde_json::Value =
        serde_json::from_str(&rhaiway.wait_for_log("bytes behind")).unwrap();
    let bytes = line["bytes"].as_u64().or_else(|| line["fields"]["bytes"].as_u64()).unwrap();
    assert!((4_000_000..9_000_000).contains(&bytes), "{line}");
    assert!(line.to_string().contains("\"main\""), "{line}");
    assert_eq!(rhaiway.get("/parallel").text(), "[1,1]", "branches count as well");
    let stopped = eventually("it is stopped", || {
        let answer = rhaiway.get("/leak");
        (answer.status != 200).then_some(answer)
    });
    assert_eq!((stopped.status, stopped.code()), (503, "SCRIPT_LIMIT".to_owned()));
    assert!(logged(&rhaiway, &stopped).contains("stopped until it is saved again"));
    assert_eq!(rhaiway.count_log("they come back with a restart"), 1, "an operator is told once");
    assert_eq!(rhaiway.get("/other").text(), "42", "no other script is");
    project.write("scripts/main.rhai", leaks("// saved again"));
    eventually("it runs again", || (rhaiway.get("/leak").status == 200).then_some(()));
}
