//! From an accepted event to the end of its jobs, through the front door: which jobs an event gets, attempts and dead letters, what commits and
//! what does not, and what operators see of it.

use std::thread;

use serde_json::{Value, json};

use crate::support::{Project, Rhaiway, clerk_event, eventually, signed};

/// Fast retries, so that dead letters come soon.
const FAST: &str = r#"retry = { max = 2, base = "10ms" }"#;
/// No test waits for these.
const SLOW: &str = r#"retry = { max = 2, base = "1h" }"#;
/// Shows any document.
const SHOW: &str = r#"
get("/counts", #{ auth: "none" }, |req| db.counts.list());
get("/counts/{id}", #{ auth: "none" }, |req| db.counts.get(req.params.id) ?? status(404));
"#;

fn deliver(rhaiway: &Rhaiway, id: &str, kind: &str) {
    let answer = rhaiway.deliver(&signed(id, clerk_event(kind, id, 1)));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Delivers all of them at once, each on a connection of its own.
fn deliver_at_once(rhaiway: &Rhaiway, ids: impl Iterator<Item = String>, kind: &str) {
    thread::scope(|scope| {
        for id in ids {
            scope.spawn(move || deliver(rhaiway, &id, kind));
        }
    });
}

fn all_are(project: &Project, count: usize, state: &str) {
    eventually(&format!("{count} are {state}"), || {
        let states = project.states();
        (states.len() == count && states.values().all(|now| now == state)).then_some(())
    });
}

fn shown(rhaiway: &Rhaiway, id: &str) -> Value {
    rhaiway.get(&format!("/counts/{id}")).json()
}

/// Script, pattern and state of each job.
fn jobs(event: &Value) -> Vec<String> {
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let job = |job: &Value| {
        format!("{} {} {}", word(&job["script"]), word(&job["pattern"]), word(&job["state"]))
    };
    event["jobs"].as_array().unwrap().iter().map(job).collect()
}

fn error(event: &Value) -> String {
    event["error"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn rule_1_every_matching_handler_in_every_script_is_a_job_of_its_own() {
    let script = r#"
        webhook("clerk", "user.created", |event| db.counts.increment("exact", "n", 1));
        webhook("clerk", ["nothing", "user.*", "*"], |event| db.counts.increment("list", "n", 1));
        webhook("clerk", "User.created", |event| db.counts.increment("case", "n", 1));
        webhook("clerk", "user", |event| db.counts.increment("part", "n", 1));
    "#;
    let project = Project::with_more(FAST, &format!("{script}{SHOW}"));
    let other =
        r#"webhook("clerk", |event| { db.counts.increment("other", "n", 1); throw "no"; });"#;
    project.write("scripts/other.rhai", other);
    let rhaiway = project.start();
    deliver(&rhaiway, "msg_1", "user.created");
    let event = project.wait_for_state("msg_1", "dead");
    let expected = ["main user.created done", "main user.* done", "other * dead"];
    assert_eq!(jobs(&event), expected);
    let attempts: Vec<&Value> =
        event["jobs"].as_array().unwrap().iter().map(|job| &job["attempt"]).collect();
    assert_eq!(attempts, [1, 1, 3]);
    let counts = rhaiway.get("/counts").json();
    assert_eq!(counts, json!([{ "id": "exact", "n": 1 }, { "id": "list", "n": 1 }]));
}

#[test]
fn rule_1_the_same_pattern_twice_in_one_script_is_a_load_error() {
    let script = r#"
        webhook("clerk", "user.created", |event| 1);
        webhook("clerk", ["user.deleted", "user.created"], |event| 2);
    "#;
    let project = Project::new(script);
    let checked = project.run(&["check"]);
    let said = String::from_utf8_lossy(&checked.stderr) + String::from_utf8_lossy(&checked.stdout);
    assert_eq!(checked.status.code(), Some(1), "{said}");
    assert!(said.contains("registered twice") && said.contains("main.rhai"), "{said}");
}

#[test]
fn w26_events_without_a_handler_are_stored_as_ignored() {
    let project = Project::new(r#"webhook("clerk", "user.created", |event| 1);"#);
    let rhaiway = project.start();
    deliver(&rhaiway, "msg_1", "session.created");
    let event = project.wait_for_state("msg_1", "ignored");
    assert_eq!(error(&event), "no handler for this type");
    assert_eq!(project.events(&["--state", "ignored"]).len(), 1);
    assert!(project.events(&["--state", "done"]).is_empty());
}

#[test]
fn rule_2_w26_events_for_a_script_that_is_broken_from_the_start_wait_and_are_done_once_it_is_mended()
 {
    let project = Project::new(r#"webhook("clerk", "user.created", |event| { db.counts.incr"#);
    project.write("scripts/other.rhai", SHOW);
    let rhaiway = project.start();
    deliver(&rhaiway, "msg_1", "user.created");
    deliver(&rhaiway, "msg_2", "user.created");
    deliver(&rhaiway, "msg_3", "session.created");
    for id in ["msg_1", "msg_2", "msg_3"] {
        eventually("it has its placeholder", || {
            (jobs(&project.event_of(id)) == ["main - pending"]).then_some(())
        });
    }
    let mended = r#"
        webhook("clerk", "user.created", |event| db.counts.increment(event.data.id, "exact", 1));
        webhook("clerk", "user.*", |event| db.counts.increment(event.data.id, "star", 1));
    "#;
    project.write("scripts/main.rhai", mended);
    for id in ["msg_1", "msg_2"] {
        let event = project.wait_for_state(id, "done");
        assert_eq!(jobs(&event), ["main user.created done", "main user.* done"]);
        assert_eq!(shown(&rhaiway, id), json!({ "id": id, "exact": 1, "star": 1 }));
    }
    let event = project.wait_for_state("msg_3", "ignored");
    assert!(error(&event).contains("no handler for this type"), "{event}");
}

#[test]
fn a_script_that_is_deleted_while_it_is_broken_lets_its_events_go() {
    let project = Project::new("webhook(");
    project.write("scripts/other.rhai", SHOW);
    let rhaiway = project.start();
    deliver(&rhaiway, "msg_1", "user.created");
    project.wait_for_state("msg_1", "pending");
    std::fs::remove_file(project.at("scripts/main.rhai")).unwrap();
    let event = project.wait_for_state("msg_1", "ignored");
    assert!(error(&event).contains("`main` is gone"), "{event}");
}

#[test]
fn rule_5_a_handler_that_keeps_failing_is_tried_as_configured_and_then_a_dead_letter() {
    let script = "\nwebhook(\"clerk\", \"user.created\", |event| {\n    throw `attempt ${event.attempt}`;\n});\n";
    let last = r#"webhook("clerk", "user.updated", |event| {
        if !event.last_attempt { throw "not yet"; }
        db.counts.put("last", #{ attempt: event.attempt });
    });"#;
    let project = Project::with_more(FAST, &format!("{script}{last}{SHOW}"));
    let rhaiway = project.start();
    deliver(&rhaiway, "msg_1", "user.created");
    deliver(&rhaiway, "msg_2", "user.updated");
    let event = project.wait_for_state("msg_1", "dead");
    assert_eq!(event["attempts"], 3);
    let tries: Vec<String> = event["tries"].as_array().unwrap().iter().map(error).collect();
    assert_eq!(tries.len(), 3);
    for (attempt, error) in (1..).zip(&tries) {
        assert!(error.contains(&format!("attempt {attempt}")), "{error}");
        assert!(error.contains("scripts/main.rhai:3:5"), "{error}");
    }
    assert_eq!(error(&event), tries[2]);
    rhaiway.wait_for_log("dead letter");

    let event = project.wait_for_state("msg_2", "done");
    assert_eq!((&event["attempts"], event["error"].is_null()), (&json!(3), true));
    assert_eq!(shown(&rhaiway, "last"), json!({ "id": "last", "attempt": 3 }));
}

#[test]
fn options_of_a_registration_win_over_those_of_config() {
    let config = format!("{SLOW}\ntimeout = \"1h\"");
    let script = r#"
        const OPTIONS = #{ retry: #{ max: 1, base: "10ms" }, timeout: "50ms" };
        webhook("clerk", "user.created", OPTIONS, |event| sleep("20s"));
    "#;
    let project = Project::with_more(&config, script);
    let rhaiway = project.start();
    deliver(&rhaiway, "msg_1", "user.created");
    let event = project.wait_for_state("msg_1", "dead");
    assert_eq!(event["attempts"], 2);
    assert!(error(&event).contains("50ms"), "{event}");
}

/// No two of these runs were under way at once: each slept 2 ms from the time it noted.
fn check_one_at_a_time(config: &str, options: &str) {
    const EVENTS: usize = 150;
    let script = format!(
        r#"webhook("clerk", "user.created", #{{ {options} }}, |event| {{
            let at = now();
            sleep("2ms");
            db.runs.put(event.data.id, #{{ at: at }});
        }});
        get("/runs", #{{ auth: "none" }}, |req| db.runs.list(#{{ limit: 1000 }}));"#
    );
    let project = Project::with_more(config, &script);
    let rhaiway = project.start();
    thread::scope(|scope| {
        for sender in 0..5 {
            let rhaiway = &rhaiway;
            scope.spawn(move || {
                for n in (sender..EVENTS).step_by(5) {
                    deliver(rhaiway, &format!("msg_{n}"), "user.created");
                }
            });
        }
    });
    all_are(&project, EVENTS, "done");
    let runs = rhaiway.get("/runs").json();
    let mut starts: Vec<i64> =
        runs.as_array().unwrap().iter().map(|run| run["at"].as_i64().unwrap()).collect();
    assert_eq!(starts.len(), EVENTS);
    starts.sort_unstable();
    let together = starts.windows(2).filter(|pair| pair[1] - pair[0] < 1).count();
    assert_eq!(together, 0, "{starts:?}");
    // Nobody waited for anything but his turn.
    let waited: Vec<Value> =
        project.stored().into_iter().filter(|event| event["attempts"] != 1).collect();
    assert!(waited.is_empty(), "{waited:?}");
}

#[test]
fn a_webhook_with_concurrency_1_never_runs_two_handlers_at_once_and_keeps_busy() {
    check_one_at_a_time("concurrency = 1", "");
}

#[test]
fn a_registration_with_concurrency_1_never_runs_two_at_once_whatever_config_allows() {
    check_one_at_a_time("concurrency = 50", "concurrency: 1");
}

#[test]
fn a_webhook_whose_gate_is_closed_holds_up_no_other() {
    let config = r#"
concurrency = 1
[webhooks.other]
path = "/other"
scheme = "svix"
secret_env = "CLERK_WEBHOOK_SECRET"
retry = { max = 9, base = "10ms" }
"#;
    let script = r#"
        webhook("clerk", |event| sleep("50s"));
        webhook("other", |event| if event.attempt < 3 { throw "again" });
    "#;
    let project = Project::with_more(config, script);
    let rhaiway = project.start();
    for n in 0..300 {
        deliver(&rhaiway, &format!("slow_{n}"), "user.created");
    }
    for n in 0..20 {
        let delivery = signed(&format!("fast_{n}"), clerk_event("user.created", "u", 1));
        assert_eq!(rhaiway.post("/other", &delivery.headers(), &delivery.body).status, 200);
    }
    eventually("the others are done", || {
        let states = project.states();
        let fast = states.iter().filter(|(id, _)| id.starts_with("fast"));
        fast.clone().all(|(_, state)| state == "done").then_some(())
    });
    assert!(
        project.states().iter().all(|(id, state)| id.starts_with("fast") || state == "pending")
    );
}

#[test]
fn rule_5_w27_a_saved_fix_makes_waiting_jobs_due_at_once_and_the_record_says_which_version_ran() {
    let project = Project::with_more(SLOW, r#"webhook("clerk", |event| event.data.nothing.x);"#);
    let rhaiway = project.start();
    deliver(&rhaiway, "msg_1", "user.created");
    let event = project.wait_for_state("msg_1", "retrying");
    assert_eq!(event["tries"][0]["generation"], 1);
    project.write("scripts/main.rhai", r#"webhook("clerk", |event| 1);"#);
    let event = project.wait_for_state("msg_1", "done");
    assert_eq!(event["tries"][1]["generation"], 2);
    assert_eq!(event["attempts"], 2);
}

#[test]
fn rule_5_w27_a_fix_that_is_saved_while_the_old_version_still_runs_makes_its_job_due_at_once_too() {
    let slow = r#"webhook("clerk", |event| { log.info("begun"); sleep("1500ms"); throw "old"; });"#;
    let project = Project::with_more(SLOW, slow);
    let rhaiway = project.start();
    deliver(&rhaiway, "msg_1", "user.created");
    rhaiway.wait_for_log("begun");
    project.write("scripts/main.rhai", r#"webhook("clerk", |event| 1);"#);
    rhaiway.wait_for_log("reloaded");
    assert_eq!(project.states()["msg_1"], "pending", "the old version is still at it");
    let event = project.wait_for_state("msg_1", "done");
    assert_eq!(event["attempts"], 2);
}

#[test]
fn rule_7_w26_a_job_whose_handler_is_gone_by_its_next_attempt_is_ignored_with_the_reason() {
    let project = Project::with_more(SLOW, r#"webhook("clerk", "user.*", |event| { throw 1; });"#);
    let rhaiway = project.start();
    deliver(&rhaiway, "msg_1", "user.created");
    project.wait_for_state("msg_1", "retrying");
    // The type is handled still, but by another registration.
    project.write("scripts/main.rhai", r#"webhook("clerk", "user.created", |event| 1);"#);
    let event = project.wait_for_state("msg_1", "ignored");
    assert_eq!(error(&event), "`main` has no handler for `user.*` any more");
}

#[test]
fn a_retry_of_one_handler_does_not_wait_for_another_of_its_event_that_still_runs() {
    let script = r#"
        webhook("clerk", "user.created", |event| sleep("50s"));
        webhook("clerk", "user.*", |event| if event.attempt < 3 { throw "again" });
    "#;
    let project = Project::with_more(FAST, script);
    let rhaiway = project.start();
    deliver(&rhaiway, "msg_1", "user.created");
    eventually("the quick one is done, the slow one is not", || {
        let now = jobs(&project.event_of("msg_1"));
        (now == ["main user.created pending", "main user.* done"]).then_some(())
    });
}

#[test]
fn w24_events_that_always_fail_become_dead_letters_and_the_others_go_on() {
    let config = r#"
retry = { max = 1, base = "10ms" }
[scripts]
cpu_budget = "30ms"
memory_budget = "4MiB"
"#;
    let script = r#"
        webhook("clerk", "throw", |event| { throw #{ code: "BAD", message: "it is broken" }; });
        webhook("clerk", "cpu", |event| { loop { try { throw 1; } catch {} } });
        webhook("clerk", "memory", |event| { let text = "0123456789"; loop { text += text; } });
        webhook("clerk", "stack", |event| { fn_(event) });
        fn fn_(x) { fn_(x) }
        webhook("clerk", "answer", |event| { throw status(500); });
        webhook("clerk", "good", |event| db.counts.increment("good", "n", 1));
    "#;
    let project = Project::with_more(config, &format!("{script}{SHOW}"));
    let rhaiway = project.start();
    let bad = ["throw", "cpu", "memory", "stack", "answer"];
    for kind in bad {
        deliver(&rhaiway, &format!("{kind}_1"), kind);
        deliver(&rhaiway, &format!("{kind}_good"), "good");
    }
    let said = ["it is broken", "CPU budget of 30ms", "memory budget of 4MiB", "nested", "500"];
    for (kind, said) in bad.into_iter().zip(said) {
        let event = project.wait_for_state(&format!("{kind}_1"), "dead");
        assert_eq!(event["attempts"], 2, "{kind}");
        assert!(!error(&event).is_empty() && error(&event).contains(said), "{kind}: {event}");
        project.wait_for_state(&format!("{kind}_good"), "done");
    }
    assert_eq!(shown(&rhaiway, "good")["n"], bad.len());
}

#[test]
fn rule_8_a_throw_discards_the_writes_of_its_run_and_a_returned_value_keeps_them() {
    let script = r#"
        webhook("clerk", "throws", |event| { db.counts.put("thrown", #{ n: 1 }); throw "no"; });
        webhook("clerk", "returns", |event| { db.counts.put("returned", #{ n: 1 }); status(400) });
        webhook("clerk", "catches", |event| {
            try { db.counts.put("caught", #{ n: 1 }); throw "no"; } catch {}
        });
        webhook("clerk", "reads", |event| {
            db.counts.put("own", #{ n: 1 });
            db.counts.patch("own", #{ m: 2 });
            db.counts.increment("own", "n", 4);
            let seen = db.counts.get("own");
            let listed = db.counts.find(#{ n: 5 }).len();
            db.counts.delete("own");
            db.counts.put("seen", #{ n: seen.n, m: seen.m, listed: listed, gone: db.counts.get("own") == () });
        });
    "#;
    let project = Project::with_more(FAST, &format!("{script}{SHOW}"));
    let rhaiway = project.start();
    deliver(&rhaiway, "msg_1", "throws");
    project.wait_for_state("msg_1", "dead");
    for (id, kind) in [("msg_2", "returns"), ("msg_3", "catches"), ("msg_4", "reads")] {
        deliver(&rhaiway, id, kind);
        project.wait_for_state(id, "done");
    }
    let expected = json!([
        { "id": "caught", "n": 1 },
        { "id": "returned", "n": 1 },
        { "id": "seen", "n": 5, "m": 2, "listed": 1, "gone": true },
    ]);
    assert_eq!(rhaiway.get("/counts").json(), expected);
}

#[test]
fn rule_9_w29_handlers_that_race_for_one_document_end_with_every_change_and_no_attempt_lost() {
    let script = r#"
        webhook("clerk", "get-put", |event| {
            let all = db.counts.get("get-put") ?? #{ ids: [] };
            sleep("20ms");
            all.ids.push(event.data.id);
            db.counts.put("get-put", all);
        });
        webhook("clerk", "patch", |event| {
            let n = db.counts.get("patch")?.n ?? 0;
            sleep("20ms");
            db.counts.patch("patch", #{ n: n + 1 });
        });
        webhook("clerk", "increment", |event| {
            db.counts.increment("increment", "n", 1);
            sleep("20ms");
        });
    "#;
    let project = Project::with_more(FAST, &format!("{script}{SHOW}"));
    let rhaiway = project.start();
    let ids =
        |kind: &str, count| (0..count).map(move |n| format!("{kind}_{n}")).collect::<Vec<_>>();
    deliver_at_once(&rhaiway, ids("get-put", 8).into_iter(), "get-put");
    deliver_at_once(&rhaiway, ids("patch", 8).into_iter(), "patch");
    deliver_at_once(&rhaiway, ids("increment", 50).into_iter(), "increment");
    all_are(&project, 66, "done");
    let mut found: Vec<String> =
        serde_json::from_value(shown(&rhaiway, "get-put")["ids"].clone()).unwrap();
    found.sort_unstable();
    assert_eq!(found, ids("get-put", 8));
    assert_eq!(shown(&rhaiway, "patch")["n"], 8);
    assert_eq!(shown(&rhaiway, "increment")["n"], 50);
    assert!(project.stored().iter().all(|event| event["attempts"] == 1));
}

#[test]
fn what_comes_late_gives_way_and_what_is_buried_stays_so_until_it_is_put_plainly() {
    let script = r#"
        webhook("clerk", "newer", |event| {
            let wrote = db.counts.put("a", #{ at: event.data.updated_at }, #{ if_newer: "at" });
            db.counts.put("wrote", #{ was: wrote });
        });
        webhook("clerk", "bury", |event| db.counts.delete("a", #{ tombstone: true }));
        webhook("clerk", "insert", |event| {
            try { db.counts.insert("a", #{ inserted: true }); } catch (err) { db.counts.put("caught", #{ code: err.code }); }
        });
    "#;
    let project = Project::with_more(FAST, &format!("{script}{SHOW}"));
    let rhaiway = project.start();
    let mut sent = 0;
    let mut step = |kind: &str, at: i64| {
        sent += 1;
        let id = format!("msg_{sent}");
        assert_eq!(rhaiway.deliver(&signed(&id, clerk_event(kind, "u", at))).status, 200);
        project.wait_for_state(&id, "done");
        rhaiway.get("/counts/a").status
    };
    let wrote = || shown(&rhaiway, "wrote")["was"].clone();
    step("newer", 5);
    assert_eq!(wrote(), true);
    step("newer", 4);
    assert_eq!((wrote(), shown(&rhaiway, "a")["at"].clone()), (json!(false), json!(5)));
    step("newer", 5);
    assert_eq!(wrote(), true, "what is equal writes");
    assert_eq!(step("bury", 0), 404);
    assert_eq!(step("newer", 9), 404);
    assert_eq!(wrote(), false);
    assert_eq!(step("insert", 0), 200);
    assert_eq!(shown(&rhaiway, "a"), json!({ "id": "a", "inserted": true }));
    step("insert", 0);
    assert_eq!(shown(&rhaiway, "caught")["code"], "CONFLICT");
}

#[test]
fn rule_4_w3_a_dead_letter_that_is_delivered_again_is_pending_once_more_with_fresh_attempts() {
    let script = r#"
        webhook("clerk", |event| {
            if db.counts.get("switch") == () { throw "off"; }
            db.counts.increment("runs", "n", 1);
        });
        post("/switch", #{ auth: "none" }, |req| db.counts.put("switch", #{ on: true }));
    "#;
    let project = Project::with_more(FAST, &format!("{script}{SHOW}"));
    let rhaiway = project.start();
    deliver(&rhaiway, "msg_1", "user.created");
    let event = project.wait_for_state("msg_1", "dead");
    assert_eq!(event["attempts"], 3);
    assert_eq!(rhaiway.post("/switch", &[], b"").status, 200);
    deliver(&rhaiway, "msg_1", "user.created");
    let event = project.wait_for_state("msg_1", "done");
    assert_eq!(event["attempts"], 1);
    deliver(&rhaiway, "msg_1", "user.created");
    deliver(&rhaiway, "msg_2", "user.created");
    project.wait_for_state("msg_2", "done");
    assert_eq!(shown(&rhaiway, "runs")["n"], 2);
}

#[test]
fn events_lists_and_shows_from_the_running_instance_and_from_the_file_without_one() {
    let config = format!(
        "{FAST}\n[webhooks.other]\npath = \"/other\"\nscheme = \"svix\"\nsecret_env = \"CLERK_WEBHOOK_SECRET\"\n{FAST}"
    );
    let script = "webhook(\"clerk\", \"user.created\", |event| 1);\nwebhook(\"other\", |event| { throw \"broken\"; });";
    let project = Project::with_more(&config, script);
    let nothing = project.run(&["events"]);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("there is no database"));
    let rhaiway = project.start();
    assert_eq!(project.run(&["events", "--json"]).stdout, b"", "nothing where there is nothing");
    deliver(&rhaiway, "msg_1", "user.created");
    deliver(&rhaiway, "msg_2", "user.deleted");
    let other = signed("msg_3", clerk_event("user.created", "u", 1));
    rhaiway.post("/other", &other.headers(), &other.body);
    project.wait_for_state("msg_1", "done");
    project.wait_for_state("msg_2", "ignored");
    project.wait_for_state("msg_3", "dead");

    check_events(&project);
    rhaiway.stop();
    check_events(&project);
}

fn check_events(project: &Project) {
    let ids = |arguments: &[&str]| -> Vec<String> {
        let events = project.events(arguments);
        events.iter().map(|event| event["delivery_id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&[]), ["msg_3", "msg_2", "msg_1"], "the newest first");
    assert_eq!(ids(&["--limit", "2"]), ["msg_3", "msg_2"]);
    assert_eq!(ids(&["--state", "dead"]), ["msg_3"]);
    assert_eq!(ids(&["--webhook", "clerk"]), ["msg_2", "msg_1"]);
    assert_eq!(ids(&["--webhook", "clerk", "--state", "done"]), ["msg_1"]);
    assert_eq!(ids(&["--webhook", "nobody"]), [""; 0]);
    let dead = &project.events(&["--limit", "1"])[0];
    let fields: Vec<&str> = dead.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "attempts",
        "delivery_id",
        "error",
        "id",
        "outbound_calls",
        "received_at",
        "state",
        "type",
        "webhook",
    ];
    assert_eq!(fields, expected);
    let id = dead["id"].as_str().unwrap();
    let after = ids(&["--after", id, "--limit", "1"]);
    assert_eq!(after, ["msg_2"], "the next page");

    let shown = &project.events(&[id])[0];
    assert_eq!(shown["headers"]["svix-id"], "msg_3");
    assert!(shown["body"].as_str().unwrap().contains("user.created"));
    assert_eq!(jobs(shown), ["main * dead"]);
    let place = "scripts/main.rhai:2:28";
    assert!(error(shown).contains("broken") && error(shown).contains(place), "{shown}");
    let table = project.run(&["events"]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(table.contains(id) && table.contains("dead") && table.contains("broken"), "{table}");
    let alone = String::from_utf8(project.run(&["events", id]).stdout).unwrap();
    assert!(alone.contains(place) && alone.contains("svix-id: msg_3"), "{alone}");

    let unknown = project.run(&["events", "evt_01h455vb4pex5vsknk084sn02q"]);
    assert_eq!(unknown.status.code(), Some(1));
    for wrong in [&["--state", "broken"], &["--limit", "0"], &["--limit", "x"]] {
        assert_eq!(project.run(&[&["events"], &wrong[..]].concat()).status.code(), Some(2));
    }
}

#[test]
fn rule_2_jobs_are_made_once_and_a_handler_that_comes_later_gets_none_of_what_is_there() {
    let fails = r#"webhook("clerk", ["user.created", "user.*"], |event| { throw "no"; });"#;
    let project = Project::with_more(SLOW, fails);
    let rhaiway = project.start();
    deliver(&rhaiway, "msg_1", "user.created");
    project.wait_for_state("msg_1", "retrying");
    let later = r#"webhook("clerk", "*", |event| db.counts.increment(event.data.id, "later", 1));"#;
    project.write("scripts/other.rhai", format!("{later}{SHOW}"));
    let mended = r#"webhook("clerk", ["user.created", "user.*"], |event| db.counts.increment(event.data.id, "mended", 1));"#;
    project.write("scripts/main.rhai", format!("{mended}{later}"));
    let event = project.wait_for_state("msg_1", "done");
    // A list is one handler, and its job is known by the first pattern that matched.
    assert_eq!(jobs(&event), ["main user.created done"]);
    assert_eq!(shown(&rhaiway, "msg_1"), json!({ "id": "msg_1", "mended": 1 }));
    deliver(&rhaiway, "msg_2", "user.created");
    let event = project.wait_for_state("msg_2", "done");
    assert_eq!(jobs(&event), ["main user.created done", "main * done", "other * done"]);
}

#[test]
fn rule_3_a_star_stands_for_any_characters_and_the_whole_type_must_match() {
    let patterns =
        ["*", "user.*", "*.created", "u*r.c*d", "user", "User.created", "user.created.*"];
    let handlers: String = patterns
        .iter()
        .map(|pattern| format!("webhook(\"clerk\", \"{pattern}\", |event| 1);\n"))
        .collect();
    let project = Project::new(&handlers);
    let rhaiway = project.start();
    let check = |kind: &str, expected: &[&str]| {
        deliver(&rhaiway, kind, kind);
        let event = project.wait_for_state(kind, "done");
        let expected: Vec<String> =
            expected.iter().map(|pattern| format!("main {pattern} done")).collect();
        assert_eq!(jobs(&event), expected, "{kind}");
    };
    check("user.created", &["*", "user.*", "*.created", "u*r.c*d"]);
    check("User.created", &["*", "*.created", "User.created"]);
    check("user", &["*", "user"]);
    check("user.", &["*", "user.*"]);
    check("user.created.twice", &["*", "user.*", "user.created.*"]);
    check("xuser.created", &["*", "*.created"]);
}

#[test]
fn rule_7_a_run_keeps_the_version_that_it_began_with_and_the_next_attempt_uses_the_newest() {
    let version = |number: u32, rest: &str| {
        format!(
            r#"
            const VERSION = {number};
            webhook("clerk", |event| {{
                log.info(`begun ${{event.attempt}}`);
                {rest}
            }});
            fn version() {{ global::VERSION }}
            {SHOW}
            put("/open", #{{ auth: "none" }}, |req| {{ db.gate.put("open", #{{}}); }});
            "#
        )
    };
    let held = r#"
        while db.gate.count() == 0 { sleep("5ms"); }
        log.info(`ended by ${version()}`);
        throw "again";
    "#;
    let project = Project::with_more(FAST, &version(1, held));
    let rhaiway = project.start();
    deliver(&rhaiway, "msg_1", "user.created");
    rhaiway.wait_for_log("begun 1");
    let counts = r#"db.counts.put("version", #{ n: version() });"#;
    project.write("scripts/main.rhai", version(2, counts));
    rhaiway.wait_for_log("reloaded");
    let opened = crate::support::request(rhaiway.address(), "PUT", "/open", &[], b"");
    assert!(opened.status < 300);
    project.wait_for_state("msg_1", "done");
    rhaiway.wait_for_log("ended by 1");
    assert_eq!((rhaiway.count_log("ended by 1"), rhaiway.count_log("ended by 2")), (1, 0));
    assert_eq!(shown(&rhaiway, "version")["n"], 2);
}

#[test]
fn rule_9_a_handler_is_run_again_ten_times_after_conflicts_and_then_an_attempt_is_used() {
    let script = r#"
        webhook("clerk", |event| {
            log.info("begun");
            let seen = db.counts.get("busy")?.n ?? 0;
            let touches = db.touches.count();
            while db.touches.count() == touches { sleep("2ms"); }
            db.counts.put("busy", #{ n: seen });
        });
        post("/touch", #{ auth: "none" }, |req| {
            db.touches.insert(uuid(), #{});
            db.counts.increment("busy", "n", 1);
        });
    "#;
    let project = Project::with_more("retry = { max = 0 }", script);
    let rhaiway = project.start();
    deliver(&rhaiway, "msg_1", "user.created");
    let event = eventually("it is dead", || {
        assert!(rhaiway.post("/touch", &[], b"").status < 300);
        (project.states()["msg_1"] == "dead").then(|| project.event_of("msg_1"))
    });
    assert_eq!((&event["attempts"], rhaiway.count_log("begun")), (&json!(1), 11));
    assert!(error(&event).contains("10 times"), "{event}");
}

#[test]
fn rule_9_what_a_search_did_not_find_is_no_conflict_and_what_was_absent_is() {
    let script = r#"
        webhook("clerk", "find", |event| run(event, || db.counts.find(#{ kind: "x" }).len() + db.counts.list().len() + db.counts.count()));
        webhook("clerk", "absent", |event| run(event, || db.counts.get("absent")));
        webhook("clerk", "patch", |event| run(event, || db.counts.patch("patch", #{ mine: 1 })));
        webhook("clerk", "insert", |event| run(event, || if event.data.updated_at == 1 { try { db.counts.insert("insert", #{ mine: 1 }); } catch { } }));
        webhook("clerk", "put", |event| run(event, || db.counts.put("put", #{ mine: 1 })));
        fn run(event, asks) {
            log.info(`begun ${event.type}`);
            asks.call();
            while db.gate.count(#{ kind: event.type }) == 0 { sleep("2ms"); }
            db.runs.increment(event.type, "n", 1);
        }
        post("/write/{id}", #{ auth: "none" }, |req| {
            db.counts.put(req.params.id, #{ theirs: 1, kind: "x" });
            db.gate.put(req.params.id, #{ kind: req.params.id });
        });
        get("/runs", #{ auth: "none" }, |req| db.runs.list());
    "#;
    let project = Project::with_more(SLOW, &format!("{script}{SHOW}"));
    let rhaiway = project.start();
    for (kind, runs) in [("find", 1), ("absent", 2), ("patch", 2), ("insert", 2), ("put", 1)] {
        deliver(&rhaiway, kind, kind);
        rhaiway.wait_for_log(&format!("begun {kind}"));
        assert!(rhaiway.post(&format!("/write/{kind}"), &[], b"").status < 300);
        let event = project.wait_for_state(kind, "done");
        assert_eq!(rhaiway.count_log(&format!("begun {kind}")), runs, "{kind}");
        assert_eq!(event["attempts"], 1, "{kind}");
    }
    let patched = json!({ "id": "patch", "theirs": 1, "kind": "x", "mine": 1 });
    assert_eq!(shown(&rhaiway, "patch"), patched, "it is merged into what is there");
    let put = json!({ "id": "put", "mine": 1 });
    assert_eq!(shown(&rhaiway, "put"), put, "a put without a look is the last word");
    let runs = rhaiway.get("/runs").json();
    assert!(runs.as_array().unwrap().iter().all(|run| run["n"] == 1), "{runs}");
}

#[test]
fn rule_15_one_deadline_holds_for_all_that_a_run_waits_for() {
    let script = r#"
        webhook("clerk", "twice", #{ timeout: "400ms" }, |event| { db.counts.put("twice", #{}); sleep("300ms"); try { sleep("300ms"); } catch { } });
        webhook("clerk", "beside", #{ timeout: "400ms" }, |event| {
            parallel([|| sleep("300ms"), || sleep("300ms")]);
            db.counts.put("beside", #{});
        });
        get("/twice", #{ auth: "none", timeout: "400ms" }, |req| {
            db.counts.put("route", #{});
            for i in 0..10 { db.counts.get("x"); sleep("60ms"); }
        });
    "#;
    let project = Project::with_more("retry = { max = 0 }", &format!("{script}{SHOW}"));
    let rhaiway = project.start();
    deliver(&rhaiway, "msg_1", "twice");
    deliver(&rhaiway, "msg_2", "beside");
    let event = project.wait_for_state("msg_1", "dead");
    assert!(error(&event).contains("400ms"), "{event}");
    project.wait_for_state("msg_2", "done");
    let answer = rhaiway.get("/twice");
    assert_eq!((answer.status, answer.code().as_str()), (503, "SCRIPT_LIMIT"));
    assert_eq!(rhaiway.get("/counts").json(), json!([{ "id": "beside" }]));
}

#[test]
fn rule_16_what_a_route_does_not_catch_is_its_own_error_and_no_answer_to_its_caller() {
    let script = r#"
        post("/throws/{code}", #{ auth: "none" }, |req| { throw #{ code: req.params.code, message: "canary", status: 404 }; });
        post("/inserts", #{ auth: "none" }, |req| { db.counts.insert("one", #{}); db.counts.insert("one", #{}); });
    "#;
    let project = Project::new(&format!("{script}{SHOW}"));
    let rhaiway = project.start();
    let paths = ["/throws/INVALID_REQUEST", "/throws/NOT_FOUND", "/throws/CONFLICT", "/inserts"];
    for path in paths {
        let answer = rhaiway.post(path, &[], b"");
        assert_eq!((answer.status, answer.code().as_str()), (500, "SCRIPT_ERROR"), "{path}");
        assert!(!answer.text().contains("canary"), "{}", answer.text());
        let said = crate::support::logged(&rhaiway, &answer);
        let part = path.strip_prefix("/throws/").unwrap_or("CONFLICT");
        assert!(said.contains(part), "{path}: {said}");
    }
    assert_eq!(rhaiway.get("/counts").json(), json!([]));
}
