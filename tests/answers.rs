//! Answers that are given once: webhooks with `respond = "script"` that are stored, and routes with an idempotency key. What duplicates hear, what
//! a failure leaves, and what a kill does.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rusqlite::Connection as Database;
use serde_json::{Value, json};

use crate::support::{
    Connection, Project, Response, Rhaiway, Signed, clerk_event, eventually, logged, render,
    request, signed,
};

const WEBHOOK: &str = "/api/webhooks/clerk";

/// A handler that waits until the gate is open, and answers with a token that it keeps too; beside it, routes that open the gate and show what
/// is there. `count` asks the store anew each time.
const GATED: &str = r#"
webhook("clerk", "gated", |event| {
    log.info("began " + event.data.id);
    while db.gate.count() == 0 { sleep("5ms"); }
    answered(event)
});
webhook("clerk", "plain", |event| answered(event));
webhook("clerk", "fails", |event| {
    let answer = answered(event);
    if db.gate.count() == 0 { throw "canary"; }
    answer
});
fn answered(event) {
    let token = uuid();
    db.runs.increment(event.data.id, "n", 1);
    db.tokens.put(event.data.id, #{ token: token });
    response(#{ status: 202, headers: #{ "x-two": ["a", "b"] }, body: #{ token: token } })
}
post("/gate", #{ auth: "none" }, |req| db.gate.put("open", #{}));
get("/runs", #{ auth: "none" }, |req| db.runs.list(#{ limit: 1000 }));
get("/tokens", #{ auth: "none" }, |req| db.tokens.list(#{ limit: 1000 }));
"#;

fn project(more: &str, script: &str) -> Project {
    Project::with_more(&format!("respond = \"script\"\n{more}"), script)
}

fn delivery(kind: &str, id: &str) -> Signed {
    signed(id, clerk_event(kind, id, 1))
}

/// Sends a delivery on a connection of its own, and does not wait for the answer.
fn send(rhaiway: &Rhaiway, delivery: &Signed) -> Connection {
    let mut connection = Connection::open(rhaiway.address());
    connection.send(&render("POST", WEBHOOK, &delivery.headers(), &delivery.body)).unwrap();
    connection
}

fn open_gate(rhaiway: &Rhaiway) {
    let opened = rhaiway.post("/gate", &[], b"");
    assert_eq!(opened.status, 200, "{}", opened.text());
}

fn is_replayed(response: &Response) -> bool {
    response.header("idempotent-replayed") == Some("true")
}

/// How often each delivery was handled with success.
fn runs(rhaiway: &Rhaiway) -> Value {
    rhaiway.get("/runs").json()
}

fn once(id: &str) -> Value {
    json!([{ "id": id, "n": 1 }])
}

fn database(project: &Project) -> Database {
    let database = Database::open(project.at("data/rhaiway.db")).unwrap();
    database.busy_timeout(Duration::from_secs(10)).unwrap();
    database
}

#[test]
fn rule_11_event_effects_and_answer_are_there_when_the_answer_is_and_a_duplicate_gets_it_again() {
    let project = project("", GATED);
    let rhaiway = project.start();
    let first = rhaiway.deliver(&delivery("plain", "msg_1"));
    assert_eq!((first.status, is_replayed(&first)), (202, false));
    assert_eq!(runs(&rhaiway), once("msg_1"));
    let event = project.event_of("msg_1");
    assert_eq!((&event["state"], &event["attempts"]), (&json!("done"), &json!(1)));
    assert_eq!(
        (&event["jobs"][0]["script"], &event["jobs"][0]["pattern"]),
        (&json!("main"), &json!("plain"))
    );
    assert_eq!(event["headers"]["svix-id"], "msg_1");
    check_same(&rhaiway.deliver(&delivery("plain", "msg_1")), &first);
    rhaiway.stop();
    let rhaiway = project.start();
    check_same(&rhaiway.deliver(&delivery("plain", "msg_1")), &first);
    assert_eq!((runs(&rhaiway), project.stored().len()), (once("msg_1"), 1));
}

/// A replay is what went out at first, and says that it is one.
fn check_same(again: &Response, first: &Response) {
    assert!(is_replayed(again) && !is_replayed(first), "{again:?}");
    assert_eq!((again.status, &again.body), (first.status, &first.body));
    let of = |response: &Response, name: &str| -> Vec<String> {
        let named = response.headers.iter().filter(|(known, _)| known == name);
        named.map(|(_, value)| value.clone()).collect()
    };
    for name in ["content-type", "x-two"] {
        assert_eq!(of(again, name), of(first, name), "{name}");
    }
    assert_ne!(again.header("x-request-id"), first.header("x-request-id"));
}

#[test]
fn w30_a_failure_answers_500_forgets_the_id_and_leaves_retrying_to_the_sender() {
    let project = project("", GATED);
    let rhaiway = project.start();
    for _ in 0..2 {
        let failed = rhaiway.deliver(&delivery("fails", "msg_1"));
        assert_eq!((failed.status, failed.code().as_str()), (500, "SCRIPT_ERROR"));
        assert!(!failed.text().contains("canary"));
    }
    assert_eq!((runs(&rhaiway), project.stored().len()), (json!([]), 0));
    open_gate(&rhaiway);
    let handled = rhaiway.deliver(&delivery("fails", "msg_1"));
    assert_eq!((handled.status, is_replayed(&handled)), (202, false));
    assert!(is_replayed(&rhaiway.deliver(&delivery("fails", "msg_1"))));
    assert_eq!(runs(&rhaiway), once("msg_1"));
}

#[test]
fn w30_a_second_delivery_during_the_first_waits_and_gets_the_recorded_answer() {
    let project = project("", GATED);
    let rhaiway = project.start();
    let mut first = send(&rhaiway, &delivery("gated", "msg_1"));
    rhaiway.wait_for_log("began msg_1");
    let mut others: Vec<Connection> =
        (0..20).map(|_| send(&rhaiway, &delivery("gated", "msg_1"))).collect();
    // One that leaves holds up nobody.
    others.remove(7).reset();
    drop(others.remove(3));
    open_gate(&rhaiway);
    let first = first.read().unwrap();
    assert_eq!((first.status, is_replayed(&first)), (202, false));
    for other in &mut others {
        check_same(&other.read().unwrap(), &first);
    }
    assert_eq!((rhaiway.count_log("began msg_1"), project.stored().len()), (1, 1));
    assert_eq!(runs(&rhaiway), once("msg_1"));
}

#[test]
fn w30_at_a_limit_the_first_hears_503_and_the_next_in_line_runs() {
    let project = project("timeout = \"1500ms\"", GATED);
    let rhaiway = project.start();
    let mut first = send(&rhaiway, &delivery("gated", "msg_1"));
    rhaiway.wait_for_log("began msg_1");
    let mut second = send(&rhaiway, &delivery("gated", "msg_1"));
    let first = first.read().unwrap();
    assert_eq!((first.status, first.code().as_str()), (503, "SCRIPT_LIMIT"));
    assert!(first.header("retry-after").is_some());
    eventually("the second runs", || (rhaiway.count_log("began msg_1") == 2).then_some(()));
    assert_eq!((runs(&rhaiway), project.stored().len()), (json!([]), 0));
    open_gate(&rhaiway);
    let second = second.read().unwrap();
    assert_eq!((second.status, is_replayed(&second)), (202, false));
    assert_eq!(runs(&rhaiway), once("msg_1"));
}

#[test]
fn rule_11_a_thousand_duplicates_that_race_give_one_run() {
    let project = project("", GATED);
    let rhaiway = project.start();
    let delivery = delivery("gated", "msg_1");
    let mut connections: Vec<Connection> = (0..500).map(|_| send(&rhaiway, &delivery)).collect();
    for connection in &mut connections {
        let again = render("POST", WEBHOOK, &delivery.headers(), &delivery.body);
        connection.send(&again).unwrap();
    }
    rhaiway.wait_for_log("began msg_1");
    open_gate(&rhaiway);
    let answers: Vec<Response> = connections
        .iter_mut()
        .flat_map(|connection| [connection.read().unwrap(), connection.read().unwrap()])
        .collect();
    let (replayed, made): (Vec<_>, Vec<_>) = answers.into_iter().partition(is_replayed);
    assert_eq!((made.len(), replayed.len()), (1, 999));
    for again in &replayed {
        check_same(again, &made[0]);
    }
    assert_eq!((rhaiway.count_log("began msg_1"), project.stored().len()), (1, 1));
    assert_eq!(runs(&rhaiway), once("msg_1"));
}

#[test]
fn w5_a_duplicate_is_answered_only_after_the_commit_of_the_first() {
    let project = project("", GATED);
    let rhaiway = project.start();
    let other = database(&project);
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let committing = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let answer = send(&rhaiway, &delivery("plain", "msg_1")).read().unwrap();
                assert_eq!((answer.status, committing.load(Ordering::SeqCst)), (202, true));
            });
        }
        // While the lock is held nothing can be committed, so nobody may have heard anything when it is given back.
        thread::sleep(Duration::from_millis(100));
        committing.store(true, Ordering::SeqCst);
        other.execute_batch("COMMIT").unwrap();
    });
    assert_eq!(runs(&rhaiway), once("msg_1"));
}

#[test]
fn w3_a_known_id_with_another_body_gets_the_first_answer_and_is_told_of() {
    let project = project("", GATED);
    let rhaiway = project.start();
    let first = rhaiway.deliver(&delivery("plain", "msg_1"));
    let other = signed("msg_1", clerk_event("plain", "CANARY", 2));
    check_same(&rhaiway.deliver(&other), &first);
    rhaiway.wait_for_log("came again with another body");
    assert!(!rhaiway.log().join("\n").contains("CANARY"), "a payload is in the log");
    assert_eq!(runs(&rhaiway), once("msg_1"));
}

#[test]
fn rule_8_what_is_returned_is_kept_whatever_its_status_and_what_is_thrown_is_not() {
    let script = r#"
        webhook("clerk", "returned", |event| { db.runs.increment("returned", "n", 1); status(400, #{ error: "no" }) });
        webhook("clerk", "thrown", |event| { db.runs.increment("thrown", "n", 1); throw status(409, #{ error: "mine" }) });
        webhook("clerk", "nothing", |event| { db.runs.increment("nothing", "n", 1); });
        get("/runs", #{ auth: "none" }, |req| db.runs.list());
    "#;
    let project = project("", script);
    let rhaiway = project.start();
    for replayed in [false, true] {
        let returned = rhaiway.deliver(&delivery("returned", "msg_1"));
        assert_eq!((returned.status, is_replayed(&returned)), (400, replayed));
        assert_eq!(returned.text(), r#"{"error":"no"}"#);
        let thrown = rhaiway.deliver(&delivery("thrown", "msg_2"));
        assert_eq!((thrown.status, is_replayed(&thrown)), (409, false));
        let nothing = rhaiway.deliver(&delivery("nothing", "msg_3"));
        assert_eq!((nothing.status, is_replayed(&nothing), nothing.body.len()), (204, replayed, 0));
    }
    assert_eq!(runs(&rhaiway), json!([{ "id": "nothing", "n": 1 }, { "id": "returned", "n": 1 }]));
    let states = project.states();
    assert_eq!(states.keys().collect::<Vec<_>>(), ["msg_1", "msg_3"]);
}

#[test]
fn rule_11_an_event_that_nobody_handles_is_stored_as_ignored_and_acknowledged() {
    let project = project("", GATED);
    let rhaiway = project.start();
    for _ in 0..2 {
        let answer = rhaiway.deliver(&delivery("unknown", "msg_1"));
        assert_eq!((answer.status, answer.text()), (200, r#"{"received":true}"#));
        project.wait_for_state("msg_1", "ignored");
    }
    assert_eq!(project.stored().len(), 1);
}

#[test]
fn rule_11_an_event_from_before_its_webhook_answered_by_script_is_a_duplicate_like_any_other() {
    let project = Project::new(GATED);
    let rhaiway = project.start();
    rhaiway.deliver(&delivery("plain", "msg_1"));
    project.wait_for_state("msg_1", "done");
    rhaiway.stop();
    let config = std::fs::read_to_string(project.at("config.toml")).unwrap();
    project.write("config.toml", format!("{config}respond = \"script\"\n"));
    let rhaiway = project.start();
    let again = rhaiway.deliver(&delivery("plain", "msg_1"));
    assert_eq!((again.status, again.text()), (200, r#"{"received":true}"#));
    assert_eq!(runs(&rhaiway), once("msg_1"));
}

#[test]
fn w26_an_event_for_a_script_that_is_broken_from_the_start_waits_until_it_is_mended() {
    let project = project("", "webhook(");
    project.write("scripts/other.rhai", r#"get("/alive", #{ auth: "none" }, |req| 1);"#);
    let rhaiway = project.start();
    let answer = rhaiway.deliver(&delivery("plain", "msg_1"));
    assert_eq!((answer.status, answer.text()), (200, r#"{"received":true}"#));
    project.wait_for_state("msg_1", "pending");
    project.write("scripts/main.rhai", GATED);
    project.wait_for_state("msg_1", "done");
    assert_eq!(runs(&rhaiway), once("msg_1"));
}

#[test]
fn rule_11_a_sender_that_leaves_does_not_cancel_what_its_delivery_began() {
    let project = project("", GATED);
    let rhaiway = project.start();
    for (id, breaks) in [("msg_1", true), ("msg_2", false)] {
        let connection = send(&rhaiway, &delivery("gated", id));
        rhaiway.wait_for_log(&format!("began {id}"));
        if breaks { connection.reset() } else { drop(connection) }
    }
    // Both ends are seen before the gate opens: these are answered on connections that came later.
    assert_eq!(rhaiway.get("/runs").status, 200);
    open_gate(&rhaiway);
    for id in ["msg_1", "msg_2"] {
        let again = rhaiway.deliver(&delivery("gated", id));
        assert_eq!((again.status, is_replayed(&again)), (202, true), "{id}");
        assert_eq!(rhaiway.count_log(&format!("began {id}")), 1);
    }
}

#[test]
fn rule_11_a_stop_waits_for_a_run_whose_sender_has_left() {
    let script = r#"
        webhook("clerk", "slow", |event| { log.info("began"); sleep("400ms"); db.runs.put(event.data.id, #{}); });
    "#;
    let project = project("", script);
    let rhaiway = project.start();
    let connection = send(&rhaiway, &delivery("slow", "msg_1"));
    rhaiway.wait_for_log("began");
    connection.reset();
    rhaiway.stop();
    assert_eq!(project.events(&["--state", "done"]).len(), 1);
}

#[test]
fn who_stands_in_line_for_longer_than_two_runs_may_take_is_told_to_come_again() {
    let project = project("timeout = \"300ms\"", GATED);
    let rhaiway = project.start();
    let mut line: Vec<Connection> =
        (0..10).map(|_| send(&rhaiway, &delivery("gated", "msg_1"))).collect();
    let answers: Vec<Response> = line.iter_mut().map(|one| one.read().unwrap()).collect();
    assert!(answers.iter().all(|answer| answer.status == 503));
    let count = |code: &str| answers.iter().filter(|answer| answer.code() == code).count();
    let (ran, gave_up) = (count("SCRIPT_LIMIT"), count("SERVICE_UNAVAILABLE"));
    assert!(ran >= 1 && gave_up >= 1 && ran + gave_up == 10, "{ran} {gave_up}");
    assert!(project.stored().is_empty());
}

#[test]
fn beyond_a_webhook_s_concurrency_a_delivery_is_told_to_come_again() {
    let project = project("concurrency = 1", GATED);
    let rhaiway = project.start();
    let mut first = send(&rhaiway, &delivery("gated", "msg_1"));
    rhaiway.wait_for_log("began msg_1");
    let mut same = send(&rhaiway, &delivery("gated", "msg_1"));
    let other = rhaiway.deliver(&delivery("gated", "msg_2"));
    assert_eq!((other.status, other.code().as_str()), (503, "SERVICE_UNAVAILABLE"));
    assert!(other.header("retry-after").is_some());
    open_gate(&rhaiway);
    assert_eq!(first.read().unwrap().status, 202);
    assert!(is_replayed(&same.read().unwrap()), "who gets a recorded answer needs no place");
    assert_eq!(rhaiway.deliver(&delivery("gated", "msg_2")).status, 202);
}

#[test]
fn without_dedupe_every_delivery_runs_and_commits_with_its_event() {
    let project = project("dedupe = \"off\"", GATED);
    let rhaiway = project.start();
    for _ in 0..3 {
        let answer = rhaiway.deliver(&delivery("plain", "msg_1"));
        assert_eq!((answer.status, is_replayed(&answer)), (202, false));
    }
    assert_eq!(runs(&rhaiway), json!([{ "id": "msg_1", "n": 3 }]));
    let stored = project.stored();
    assert!(stored.len() == 3 && stored.iter().all(|event| event["state"] == "done"));
}

#[test]
fn rule_9_a_delivery_whose_documents_change_again_and_again_is_told_to_come_again() {
    let script = r#"
        webhook("clerk", "busy", |event| {
            let seen = db.users.get("u1")?.n ?? 0;
            let touches = db.touches.count();
            while db.touches.count() == touches && db.still.count() == 0 { sleep("2ms"); }
            db.users.put("u1", #{ n: seen, by: event.data.id });
        });
        post("/touch", #{ auth: "none" }, |req| {
            db.touches.insert(uuid(), #{});
            db.users.increment("u1", "n", 1);
        });
        post("/still", #{ auth: "none" }, |req| db.still.put("still", #{}));
    "#;
    let project = project("", script);
    let rhaiway = project.start();
    let answered = AtomicBool::new(false);
    let refused = thread::scope(|scope| {
        scope.spawn(|| {
            while !answered.load(Ordering::SeqCst) {
                assert_eq!(rhaiway.post("/touch", &[], b"").status, 204);
            }
        });
        let refused = rhaiway.deliver(&delivery("busy", "msg_1"));
        answered.store(true, Ordering::SeqCst);
        refused
    });
    assert_eq!((refused.status, refused.code().as_str()), (503, "SERVICE_UNAVAILABLE"));
    assert!(project.stored().is_empty());
    assert_eq!(rhaiway.post("/still", &[], b"").status, 200);
    assert_eq!(rhaiway.deliver(&delivery("busy", "msg_1")).status, 200);
}

#[test]
fn an_answer_that_is_too_large_to_be_kept_is_the_script_s_error_and_nothing_is_committed() {
    let script = r#"
        webhook("clerk", "large", |event| answered(event.data.updated_at));
        post("/large/{bytes}", #{ auth: "none", idempotency: "idempotency-key" }, |req| answered(parse_int(req.params.bytes)));
        get("/runs", #{ auth: "none" }, |req| db.runs.list());
        fn answered(bytes) {
            db.runs.increment(`${bytes}`, "n", 1);
            let text = "x";
            text.pad(bytes, "x");
            text
        }
    "#;
    let project = project("", script);
    let rhaiway = project.start();
    let limit: i64 = 1 << 20;
    for (bytes, status) in [(limit, 200), (limit + 1, 500)] {
        let id = format!("msg_{bytes}");
        let answer = rhaiway.deliver(&signed(&id, clerk_event("large", &id, bytes)));
        assert_eq!(answer.status, status);
        let path = format!("/large/{bytes}");
        let route = rhaiway.post(&path, &[("idempotency-key", &id)], b"");
        assert_eq!(route.status, status);
        assert_eq!(rhaiway.post(&path, &[], b"").status, 200, "without a key nothing is kept");
        if status == 500 {
            assert_eq!(answer.code(), "SCRIPT_ERROR");
            for answer in [answer, route] {
                let said = logged(&rhaiway, &answer);
                assert!(said.contains("1048577 bytes") && said.contains("1MiB"), "{said}");
            }
        }
    }
    let expected = json!([{ "id": "1048576", "n": 3 }, { "id": "1048577", "n": 1 }]);
    assert_eq!(runs(&rhaiway), expected);
    assert_eq!(project.stored().len(), 1);
}

#[test]
fn rule_6_deliveries_with_one_order_key_are_answered_one_at_a_time_in_the_order_of_arrival() {
    let script = r#"
        webhook("clerk", "gated", |event| {
            log.info("began " + event.id);
            while db.gate.count() == 0 { sleep("5ms"); }
            let place = db.line.count();
            db.line.insert(`${place}`, #{});
            place
        });
        webhook("clerk", "plain", |event| "passes");
        post("/gate", #{ auth: "none" }, |req| db.gate.put("open", #{}));
    "#;
    let config = "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[webhooks.clerk]\npath = \"/api/webhooks/clerk\"\nscheme = \"svix\"\nsecret_env = \"CLERK_WEBHOOK_SECRET\"\nrespond = \"script\"\nordered_by = \"/data/id\"\n";
    let project = Project::with_config(config, script);
    let rhaiway = project.start();
    let of = |id: usize, user: &str, kind: &str| {
        signed(&format!("msg_{id}"), clerk_event(kind, user, 1))
    };
    let mut connections = Vec::new();
    for id in 0..10 {
        connections.push(send(&rhaiway, &of(id, "user_1", "gated")));
        // The one worker answers what came later than this only after it has seen this.
        for _ in 0..2 {
            assert_eq!(rhaiway.get("/healthz").status, 200);
        }
    }
    rhaiway.wait_for_log("began");
    let other = rhaiway.deliver(&of(100, "user_2", "plain"));
    assert_eq!(other.text(), "passes", "other keys do not wait");
    assert_eq!(rhaiway.count_log("began"), 1, "the others of its key do");
    // One that leaves the line holds up nobody.
    connections.remove(4).reset();
    open_gate(&rhaiway);
    for (place, connection) in connections.iter_mut().enumerate() {
        assert_eq!(connection.read().unwrap().text(), place.to_string());
    }
}

#[test]
fn rule_1_two_handlers_that_would_answer_one_event_are_refused_with_both_places() {
    let project = project("", "webhook(\"clerk\", \"user.*\", |event| 1);");
    project.write("scripts/other.rhai", "\nwebhook(\"clerk\", \"user.created\", |event| 2);");
    let (_, said) = project.expect(1, &["check"]);
    for part in ["E0232", "scripts/main.rhai:1:1", "scripts/other.rhai:2:1"] {
        assert!(said.contains(part), "no {part} in {said}");
    }
    project.expect(1, &["run"]);
}

#[test]
fn rule_11_what_needs_events_that_are_kept_contradicts_store_false_and_is_shown_at_both_places() {
    for line in ["retry = { max = 1 }", "dedupe = \"on\"", "ordered_by = \"/data/id\""] {
        let project = project(&format!("store = false\n{line}"), GATED);
        let (_, said) = project.expect(1, &["check"]);
        for part in ["E0108", line, "store = false", "this keeps none"] {
            assert!(said.contains(part), "no {part} in {said}");
        }
    }
}

#[test]
fn rule_11_a_kill_before_the_commit_leaves_nothing_and_the_sender_s_retry_runs_it() {
    let project = project("", GATED);
    let rhaiway = project.start();
    open_gate(&rhaiway);
    let other = database(&project);
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let _sent = send(&rhaiway, &delivery("gated", "msg_1"));
    rhaiway.wait_for_log("began msg_1");
    rhaiway.kill();
    other.execute_batch("COMMIT").unwrap();
    drop(other);
    assert!(project.events(&[]).is_empty());
    let rhaiway = project.start();
    assert_eq!(runs(&rhaiway), json!([]));
    let answer = rhaiway.deliver(&delivery("gated", "msg_1"));
    assert_eq!((answer.status, is_replayed(&answer)), (202, false));
    assert_eq!(runs(&rhaiway), once("msg_1"));
}

#[test]
fn rule_11_a_kill_after_the_commit_leaves_the_answer_for_the_sender_s_retry() {
    let project = project("", GATED);
    let rhaiway = project.start();
    open_gate(&rhaiway);
    // The sender never reads its answer: for it the kill falls between the commit and that.
    let _sent = send(&rhaiway, &delivery("gated", "msg_1"));
    eventually("it is committed", || (runs(&rhaiway) == once("msg_1")).then_some(()));
    let tokens = rhaiway.get("/tokens").json();
    rhaiway.kill();
    let rhaiway = project.start();
    let again = rhaiway.deliver(&delivery("gated", "msg_1"));
    assert_eq!((again.status, is_replayed(&again)), (202, true));
    assert_eq!(again.json()["token"], tokens[0]["token"]);
    assert_eq!(runs(&rhaiway), once("msg_1"));
}

/// What senders have heard, by delivery.
#[derive(Default)]
struct Heard {
    next: AtomicUsize,
    tokens: Mutex<BTreeMap<String, Value>>,
}

impl Heard {
    /// Whoever hears an answer twice hears the same.
    fn hear(&self, id: &str, answer: &Response) {
        assert_eq!(answer.status, 202, "{}", answer.text());
        let token = answer.json()["token"].clone();
        let mut tokens = self.tokens.lock().unwrap();
        assert_eq!(*tokens.entry(id.to_owned()).or_insert(token.clone()), token, "{id}");
    }

    fn send(&self, rhaiway: &Rhaiway, stop: &AtomicBool) {
        let Ok(mut connection) = Connection::try_open(rhaiway.address()) else { return };
        while !stop.load(Ordering::Relaxed) {
            // Every second one goes to an id that another sender has too.
            let id = id(self.next.fetch_add(1, Ordering::Relaxed) / 2);
            let delivery = delivery("plain", &id);
            let request = render("POST", WEBHOOK, &delivery.headers(), &delivery.body);
            match connection.send(&request).and_then(|()| connection.read()) {
                Ok(answer) => self.hear(&id, &answer),
                Err(_gone) => return,
            }
        }
    }
}

fn id(n: usize) -> String {
    format!("msg_{n:05}")
}

#[test]
fn w14_kills_at_random_instants_leave_one_run_and_one_answer_of_each_delivery() {
    let seed = std::env::var("RHAIWAY_CRASH_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("RHAIWAY_CRASH_SEED={seed}");
    let mut chance = fastrand::Rng::with_seed(seed);
    let (project, heard) = (project("", GATED), Heard::default());
    for _ in 0..3 {
        let (rhaiway, stop) = (project.start(), AtomicBool::new(false));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| heard.send(&rhaiway, &stop));
            }
            // Not a wait for something: the instant of the kill is what chance is for.
            thread::sleep(Duration::from_micros(chance.u64(1_000..120_000)));
            rhaiway.signal("KILL");
        });
    }
    let rhaiway = project.start();
    let sent = heard.next.load(Ordering::Relaxed) / 2 + 1;
    for n in 0..sent {
        heard.hear(&id(n), &rhaiway.deliver(&delivery("plain", &id(n))));
    }
    let database = database(&project);
    let mut statement = database
        .prepare("SELECT t.id, t.body, r.body FROM documents t JOIN documents r ON r.id = t.id WHERE t.collection = 'tokens' AND r.collection = 'runs' ORDER BY t.id")
        .unwrap();
    let text = |row: &rusqlite::Row<'_>, column| -> Value {
        serde_json::from_str(&row.get::<_, String>(column).unwrap()).unwrap()
    };
    let kept: BTreeMap<String, Value> = statement
        .query_map([], |row| {
            assert_eq!(text(row, 2), json!({ "n": 1 }), "an effect happened twice");
            Ok((row.get(0)?, text(row, 1)["token"].clone()))
        })
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(kept, *heard.tokens.lock().unwrap());
}

#[test]
fn rule_4_answers_are_kept_as_long_as_ids_and_then_the_delivery_is_new() {
    let config = std::fs::read_to_string(project("", GATED).at("config.toml")).unwrap();
    let project = Project::with_config(&format!("{config}[storage]\nretention = \"1h\"\n"), GATED);
    let rhaiway = project.start();
    let first = rhaiway.deliver(&delivery("plain", "msg_1"));
    rhaiway.stop();
    let age = |days: i64| {
        let database = database(&project);
        let ms = days * 86_400_000;
        for sql in [
            "UPDATE events SET received_at = received_at - ?1",
            "UPDATE answers SET answered_at = answered_at - ?1",
        ] {
            database.execute(sql, [ms]).unwrap();
        }
    };
    let count = |table: &str| -> i64 {
        let sql = format!("SELECT count(*) FROM {table}");
        database(&project).query_row(&sql, [], |row| row.get(0)).unwrap()
    };
    age(6);
    let rhaiway = project.start();
    eventually("its payload is gone", || (count("payloads") == 0).then_some(()));
    check_same(&rhaiway.deliver(&delivery("plain", "msg_1")), &first);
    rhaiway.stop();
    age(2);
    let rhaiway = project.start();
    eventually("its answer is gone", || (count("answers") + count("events") == 0).then_some(()));
    let anew = rhaiway.deliver(&delivery("plain", "msg_1"));
    assert_eq!((anew.status, is_replayed(&anew)), (202, false));
    assert_eq!(runs(&rhaiway), json!([{ "id": "msg_1", "n": 2 }]));
}

/// Routes with an idempotency key. What they do is counted.
const ROUTES: &str = r#"
const ONCE = #{ auth: "none", idempotency: "Idempotency-Key" };
post("/orders/{id}", ONCE, |req| {
    db.runs.increment(req.params.id, "n", 1);
    response(#{ status: 201, headers: #{ "x-two": ["a", "b"] }, body: #{ token: uuid() } })
});
put("/orders/{id}", ONCE, |req| { db.runs.increment(req.params.id, "n", 1); "put" });
post("/throws/{id}", ONCE, |req| {
    db.runs.increment(req.params.id, "n", 1);
    if db.gate.count() == 0 { throw if req.text == "status" { status(418, "no") } else { "no" }; }
    "done"
});
post("/slow/{id}", ONCE, |req| {
    db.runs.increment(req.params.id, "n", 1);
    log.info("began " + req.params.id);
    while db.gate.count() == 0 { sleep("5ms"); }
    "slow"
});
post("/gate", #{ auth: "none" }, |req| db.gate.put("open", #{}));
get("/runs", #{ auth: "none" }, |req| db.runs.list());
"#;

fn ask(rhaiway: &Rhaiway, method: &str, path: &str, key: &str, body: &[u8]) -> Response {
    request(rhaiway.address(), method, path, &[("idempotency-key", key)], body)
}

#[test]
fn a_request_that_is_repeated_with_its_key_gets_the_first_answer_also_after_a_restart() {
    let project = Project::new(ROUTES);
    let rhaiway = project.start();
    let first = ask(&rhaiway, "POST", "/orders/a", "k1", b"{}");
    assert_eq!((first.status, is_replayed(&first)), (201, false));
    check_same(&ask(&rhaiway, "POST", "/orders/a", "k1", b"{}"), &first);
    rhaiway.kill();
    let rhaiway = project.start();
    check_same(&ask(&rhaiway, "POST", "/orders/a", "k1", b"{}"), &first);
    assert_eq!(runs(&rhaiway), once("a"));
    assert!(project.stored().is_empty(), "a request is no event");

    for path in ["/orders/b", "/orders/a?x=1"] {
        let other = ask(&rhaiway, "POST", path, "k1", b"{}");
        assert_eq!((other.status, other.code().as_str()), (422, "IDEMPOTENCY_MISMATCH"), "{path}");
    }
    assert_eq!(ask(&rhaiway, "POST", "/orders/a", "k1", b"{ }").code(), "IDEMPOTENCY_MISMATCH");
    assert_eq!(runs(&rhaiway), once("a"));
    // Another key, none, another method with the same key: each is a request of its own.
    assert!(!is_replayed(&ask(&rhaiway, "POST", "/orders/a", "k2", b"{}")));
    assert!(!is_replayed(&rhaiway.post("/orders/a", &[], b"{}")));
    assert_eq!(ask(&rhaiway, "PUT", "/orders/a", "k1", b"{}").text(), "put");
    assert_eq!(runs(&rhaiway), json!([{ "id": "a", "n": 4 }]));
}

#[test]
fn a_request_whose_key_is_under_way_is_told_so_at_once() {
    let project = Project::new(ROUTES);
    let rhaiway = project.start();
    let mut first = Connection::open(rhaiway.address());
    let bytes = render("POST", "/slow/a", &[("idempotency-key", "k1")], b"1");
    first.send(&bytes).unwrap();
    rhaiway.wait_for_log("began a");
    for body in [b"1", b"2"] {
        let busy = ask(&rhaiway, "POST", "/slow/a", "k1", body);
        assert_eq!((busy.status, busy.code().as_str()), (409, "CONFLICT"));
    }
    open_gate(&rhaiway);
    assert_eq!(first.read().unwrap().text(), "slow");
    assert!(is_replayed(&ask(&rhaiway, "POST", "/slow/a", "k1", b"1")));
    assert_eq!(ask(&rhaiway, "POST", "/slow/a", "k1", b"2").status, 422);
    assert_eq!(runs(&rhaiway), once("a"));
}

#[test]
fn rule_10_a_client_that_leaves_cancels_its_run_and_its_key_is_forgotten() {
    let project = Project::new(ROUTES);
    let rhaiway = project.start();
    let mut leaves = Connection::open(rhaiway.address());
    let bytes = render("POST", "/slow/a", &[("idempotency-key", "k1")], b"");
    leaves.send(&bytes).unwrap();
    rhaiway.wait_for_log("began a");
    drop(leaves);
    let mut second = eventually("its key is free", || {
        let mut second = Connection::open(rhaiway.address());
        second.send(&bytes).unwrap();
        second.stream().set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        let runs = eventually("it runs or is refused", || {
            let runs = rhaiway.count_log("began a") == 2;
            (runs || second.stream().peek(&mut [0]).is_ok()).then_some(runs)
        });
        second.stream().set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        runs.then_some(second)
    });
    open_gate(&rhaiway);
    let answer = second.read().unwrap();
    assert_eq!((answer.text(), is_replayed(&answer)), ("slow", false));
    assert_eq!(runs(&rhaiway), once("a"));
}

#[test]
fn rule_8_a_request_that_failed_or_threw_its_answer_leaves_its_key_free() {
    let project = Project::new(ROUTES);
    let rhaiway = project.start();
    for (key, body, status) in [("k1", "", 500), ("k2", "status", 418), ("k1", "", 500)] {
        assert_eq!(ask(&rhaiway, "POST", "/throws/a", key, body.as_bytes()).status, status);
    }
    assert_eq!(runs(&rhaiway), json!([]));
    open_gate(&rhaiway);
    assert!(!is_replayed(&ask(&rhaiway, "POST", "/throws/a", "k1", b"")));
    assert!(is_replayed(&ask(&rhaiway, "POST", "/throws/a", "k1", b"")));
    assert_eq!(runs(&rhaiway), once("a"));
}

#[test]
fn requests_that_race_with_one_key_run_once_and_hear_one_answer() {
    let project = Project::new(ROUTES);
    let rhaiway = project.start();
    let answers: Vec<Response> = thread::scope(|scope| {
        let ask = || ask(&rhaiway, "POST", "/orders/a", "k1", b"{}");
        let asked: Vec<_> = (0..40).map(|_| scope.spawn(ask)).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    let tokens: Vec<Value> = answers
        .iter()
        .filter(|answer| answer.status != 409)
        .map(|answer| answer.json()["token"].clone())
        .collect();
    assert!(!tokens.is_empty() && tokens.iter().all(|token| *token == tokens[0]));
    assert_eq!(runs(&rhaiway), once("a"));
}

#[test]
fn a_key_that_is_none_is_a_bad_request() {
    let project = Project::new(ROUTES);
    let rhaiway = project.start();
    let long = "k".repeat(256);
    for key in ["", "a b", &long] {
        let refused = ask(&rhaiway, "POST", "/orders/a", key, b"");
        assert_eq!((refused.status, refused.code().as_str()), (400, "BAD_REQUEST"), "{key:?}");
    }
    let twice = [("idempotency-key", "a"), ("idempotency-key", "a")];
    assert_eq!(rhaiway.post("/orders/a", &twice, b"").status, 400);
    assert_eq!(runs(&rhaiway), json!([]));
    assert_eq!(ask(&rhaiway, "POST", "/orders/a", &long[1..], b"").status, 201);
}

#[test]
fn an_idempotency_option_that_names_no_header_is_refused_when_the_script_loads() {
    for (options, part) in [
        ("idempotency: \"a b\"", "the name of a header"),
        ("idempotency: 1", "the name of a header"),
        ("idempotency: \"\"", "the name of a header"),
        ("idempotence: \"x\"", "idempotency"),
    ] {
        let script = format!("post(\"/a\", #{{ auth: \"none\", {options} }}, |req| 1);");
        let (_, said) = Project::new(&script).expect(1, &["check"]);
        assert!(said.contains(part) && said.contains("main.rhai:1:"), "{options}: {said}");
    }
    let webhook = "webhook(\"clerk\", #{ idempotency: \"x\" }, |event| 1);";
    let (_, said) = Project::new(webhook).expect(1, &["check"]);
    assert!(said.contains("unknown option `idempotency`"), "{said}");
}
