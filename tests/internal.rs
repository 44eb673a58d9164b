//! What begins inside: `emit`, `on`, `cancel`, and how handlers end their attempts: `retry_later`, `give_up`, `on_dead`.

use serde_json::{Value, json};

use crate::support::{Project, Rhaiway, clerk_event, eventually, signed};

/// Routes that emit and cancel what they are told to, and show documents.
const ROUTES: &str = r#"
post("/emit", #{ auth: "none" }, |req| {
    for told in req.json { emit(told.topic, told.payload, told.options ?? #{}); }
});
post("/cancel/{topic}/{key}", #{ auth: "none" }, |req| #{ cancelled: cancel(req.params.topic, req.params.key) });
get("/seen", #{ auth: "none" }, |req| db.seen.list());
"#;

fn project(script: &str) -> Project {
    Project::new(&format!("{ROUTES}{script}"))
}

fn emit(rhaiway: &Rhaiway, emits: &Value) {
    let answer = rhaiway.post("/emit", &[], emits.to_string().as_bytes());
    assert_eq!(answer.status, 204, "{}", answer.text());
}

fn cancel(rhaiway: &Rhaiway, topic: &str, key: &str) -> Value {
    rhaiway.post(&format!("/cancel/{topic}/{key}"), &[], b"").json()["cancelled"].clone()
}

fn seen(rhaiway: &Rhaiway) -> Value {
    rhaiway.get("/seen").json()
}

fn seen_are(rhaiway: &Rhaiway, expected: &Value) {
    eventually(&format!("{expected} is seen"), || (seen(rhaiway) == *expected).then_some(()));
}

fn deliver(rhaiway: &Rhaiway, id: &str) {
    let answer = rhaiway.deliver(&signed(id, clerk_event("user.created", id, 1)));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Events of a topic, newest first.
fn of_topic(project: &Project, topic: &str) -> Vec<Value> {
    let source = format!("on:{topic}");
    project.stored().into_iter().filter(|event| event["webhook"] == *source).collect()
}

#[test]
fn what_a_handler_emits_is_handled_by_every_on_that_matches() {
    let script = r#"
        webhook("clerk", |event| emit("user.new", #{ id: event.data.id, name: "Ada" }));
        on("user.new", |event| db.seen.put("exact", #{ data: event.data, type: event.type, webhook: event.webhook, attempt: event.attempt }));
        on("user.*", |event| db.seen.put("star", #{ data: event.data.id }));
        on("other", |event| db.seen.put("other", #{}));
    "#;
    let project = project(script);
    let rhaiway = project.start();
    deliver(&rhaiway, "msg_1");
    seen_are(
        &rhaiway,
        &json!([
            { "id": "exact", "data": { "id": "msg_1", "name": "Ada" }, "type": "user.new", "webhook": "on:user.new", "attempt": 1 },
            { "id": "star", "data": "msg_1" },
        ]),
    );
    let event = &of_topic(&project, "user.new")[0];
    assert_eq!((&event["type"], &event["state"]), (&json!("user.new"), &json!("done")));
}

#[test]
fn rule_8_what_is_thrown_away_has_emitted_nothing() {
    let script = r#"
        webhook("clerk", |event| { emit("t", 1); throw "no"; });
        get("/thrown", #{ auth: "none" }, |req| { emit("t", 2); throw status(400); });
        get("/returned", #{ auth: "none" }, |req| { emit("t", 3); status(400) });
        on("t", |event| db.seen.put(`${event.data}`, #{}));
    "#;
    let project = project(script);
    let rhaiway = project.start();
    deliver(&rhaiway, "msg_1");
    project.wait_for_state("msg_1", "retrying");
    assert_eq!(rhaiway.get("/thrown").status, 400);
    assert_eq!(rhaiway.get("/returned").status, 400);
    seen_are(&rhaiway, &json!([{ "id": "3" }]));
    assert_eq!(of_topic(&project, "t").len(), 1);
}

#[test]
fn an_emitted_event_that_nobody_handles_is_ignored_and_says_so() {
    let project = project("");
    let rhaiway = project.start();
    emit(&rhaiway, &json!([{ "topic": "nobody", "payload": null }]));
    eventually("it is ignored", || {
        of_topic(&project, "nobody").first().filter(|event| event["state"] == "ignored").map(|_| ())
    });
}

#[test]
fn an_emitted_id_makes_one_event_however_often_it_is_emitted() {
    let project = project(r#"on("t", |event| db.seen.increment("n", "n", 1));"#);
    let rhaiway = project.start();
    let once = json!({ "topic": "t", "payload": 1, "options": { "id": "order_1" } });
    emit(&rhaiway, &json!([once, once]));
    emit(&rhaiway, &json!([once]));
    emit(
        &rhaiway,
        &json!([{ "topic": "t", "payload": 1, "options": { "id": "order_1", "delay": "1h" } }]),
    );
    emit(&rhaiway, &json!([{ "topic": "t", "payload": 1, "options": { "id": "order_2" } }]));
    seen_are(&rhaiway, &json!([{ "id": "n", "n": 2 }]));
    assert_eq!(of_topic(&project, "t").len(), 2);
    assert_eq!(project.admin("/v1/status")["scheduled"], 0);
}

#[test]
fn a_delayed_event_comes_when_it_is_due_also_after_kill_9() {
    let project = project(r#"on("t", |event| db.seen.put(event.data, #{}));"#);
    let rhaiway = project.start();
    emit(
        &rhaiway,
        &json!([
            { "topic": "t", "payload": "later", "options": { "delay": "1s" } },
            { "topic": "t", "payload": "much later", "options": { "delay": "1h" } },
            { "topic": "t", "payload": "at", "options": { "at": 1000 } },
        ]),
    );
    seen_are(&rhaiway, &json!([{ "id": "at" }]));
    rhaiway.kill();
    let rhaiway = project.start();
    seen_are(&rhaiway, &json!([{ "id": "at" }, { "id": "later" }]));
    assert_eq!(project.admin("/v1/status")["scheduled"], 1);
}

#[test]
fn a_key_orders_what_is_emitted_as_ordered_by_does() {
    let script = r#"
        on("t", |event| {
            sleep("2ms");
            let seen = db.seen.get(event.data.key) ?? #{ list: [] };
            seen.list.push(event.data.n);
            db.seen.put(event.data.key, seen);
        });
    "#;
    let project = project(script);
    let rhaiway = project.start();
    let emits: Vec<Value> = (0..40)
        .map(|n| {
            let key = if n % 2 == 0 { "a" } else { "b" };
            json!({ "topic": "t", "payload": { "key": key, "n": n }, "options": { "key": key } })
        })
        .collect();
    emit(&rhaiway, &json!(emits));
    let list = |first: u32| (first..40).step_by(2).collect::<Vec<u32>>();
    seen_are(&rhaiway, &json!([{ "id": "a", "list": list(0) }, { "id": "b", "list": list(1) }]));
}

#[test]
fn pending_replace_makes_one_event_of_many_and_keep_lets_the_first_stand() {
    let project = project(r#"on("*", |event| db.seen.put(event.type, #{ n: event.data }));"#);
    let rhaiway = project.start();
    for n in 0..20 {
        let options = |pending: &str| json!({ "key": "k", "delay": "400ms", "pending": pending });
        emit(
            &rhaiway,
            &json!([
                { "topic": "replaced", "payload": n, "options": options("replace") },
                { "topic": "kept", "payload": n, "options": options("keep") },
            ]),
        );
    }
    assert_eq!(project.admin("/v1/status")["scheduled"], 2);
    seen_are(&rhaiway, &json!([{ "id": "kept", "n": 0 }, { "id": "replaced", "n": 19 }]));
    assert_eq!(of_topic(&project, "replaced").len(), 1);
    assert_eq!(of_topic(&project, "kept").len(), 1);
}

#[test]
fn cancel_takes_back_what_has_not_started_and_says_whether_there_was_any() {
    let script = r#"
        on("t", |event| {
            if event.data == "first" { retry_later("1h", "until told"); }
            db.seen.put(event.data, #{});
        });
    "#;
    let project = project(script);
    let rhaiway = project.start();
    let keyed =
        |payload: &str| json!({ "topic": "t", "payload": payload, "options": { "key": "k" } });
    assert_eq!(cancel(&rhaiway, "t", "k"), json!(false));
    emit(&rhaiway, &json!([keyed("first"), keyed("second")]));
    eventually("the first has begun", || {
        of_topic(&project, "t").iter().any(|event| event["state"] == "retrying").then_some(())
    });
    emit(
        &rhaiway,
        &json!([{ "topic": "t", "payload": "third", "options": { "key": "k", "delay": "1h" } }]),
    );
    assert_eq!(cancel(&rhaiway, "t", "other"), json!(false));
    assert_eq!(cancel(&rhaiway, "t", "k"), json!(true));
    assert_eq!(cancel(&rhaiway, "t", "k"), json!(false), "what has begun is not taken back");
    let states: Vec<(Value, Value)> = of_topic(&project, "t")
        .iter()
        .map(|event| (event["state"].clone(), event["error"].clone()))
        .collect();
    assert_eq!(
        states,
        [(json!("ignored"), json!("cancelled")), (json!("retrying"), json!("until told"))]
    );
    assert_eq!(project.admin("/v1/status")["scheduled"], 0);
}

#[test]
fn bad_options_of_emit_are_errors_that_say_what_may_stand_there() {
    let script = r#"
        get("/try/{n}", #{ auth: "none" }, |req| {
            let tries = [
                || emit("t", 1, #{ dealy: "1s" }),
                || emit("t", 1, #{ delay: 5 }),
                || emit("t", 1, #{ delay: "5" }),
                || emit("t", 1, #{ delay: "1s", at: 5 }),
                || emit("t", 1, #{ at: "tomorrow" }),
                || emit("t", 1, #{ pending: "replace" }),
                || emit("t", 1, #{ key: "k", pending: "drop" }),
                || emit("t", 1, #{ key: "" }),
                || emit("", 1),
                || emit("a*", 1),
                || emit("t", || 1),
                || { for i in 0..1001 { emit("t", i); } },
            ];
            try { tries[parse_int(req.params.n)].call(); } catch (error) { return `${error}`; }
        });
    "#;
    let project = project(script);
    let rhaiway = project.start();
    let expected = [
        "delay, at, id, key, pending",
        "a duration such as",
        "unit",
        "leave one out",
        "milliseconds",
        "name one",
        "\"add\", \"keep\" or \"replace\"",
        "1 to 256 bytes",
        "1 to 256 bytes",
        "`*`",
        "function",
        "at most 1000",
    ];
    for (n, part) in expected.iter().enumerate() {
        let answer = rhaiway.get(&format!("/try/{n}"));
        let said = answer.text();
        assert!(said.contains(part), "{n}: {said}");
    }
}

#[test]
fn retry_later_uses_no_attempt_and_cannot_be_caught() {
    let script = r#"
        webhook("clerk", |event| {
            db.seen.put("never", #{});
            if db.flags.get("go") == () {
                try { retry_later("20ms", "the report is not ready"); } catch { }
                log.info("unreachable");
            }
            db.seen.put("done", #{ attempt: event.attempt });
        });
        put("/go", #{ auth: "none" }, |req| { db.flags.put("go", #{}); });
    "#;
    let project = project(script);
    let rhaiway = project.start();
    deliver(&rhaiway, "msg_1");
    let event = project.wait_for_state("msg_1", "retrying");
    assert_eq!(event["jobs"][0]["attempt"], 0);
    assert_eq!(event["error"], "the report is not ready");
    assert!(event["tries"].as_array().unwrap().is_empty(), "{event}");
    assert_eq!(seen(&rhaiway), json!([]), "its effects are discarded");
    let put = crate::support::request(rhaiway.address(), "PUT", "/go", &[], b"");
    assert!(put.status < 300);
    project.wait_for_state("msg_1", "done");
    assert_eq!(seen(&rhaiway)[0], json!({ "id": "done", "attempt": 1 }));
    assert_eq!(rhaiway.count_log("unreachable"), 0);
}

#[test]
fn give_up_makes_a_dead_letter_at_once_with_its_reason() {
    let script = r#"
        webhook("clerk", |event| {
            db.seen.put("never", #{});
            try { give_up("the account is closed"); } catch { }
        });
    "#;
    let project = project(script);
    let rhaiway = project.start();
    deliver(&rhaiway, "msg_1");
    let event = project.wait_for_state("msg_1", "dead");
    assert_eq!(event["error"], "the account is closed");
    assert_eq!(event["jobs"][0]["attempt"], 1);
    assert_eq!(seen(&rhaiway), json!([]));
}

#[test]
fn a_route_has_no_attempt_to_end() {
    let script = r#"
        get("/later", #{ auth: "none" }, |req| {
            try { retry_later("1s", "no"); } catch (error) { return error.message; }
        });
    "#;
    let project = project(script);
    let rhaiway = project.start();
    let answer = rhaiway.get("/later");
    let said = answer.text();
    assert!(said.contains("only the handler of an event has attempts"), "{said}");
}

#[test]
fn last_attempt_is_true_for_the_attempt_whose_failure_is_the_end() {
    let script = r#"
        webhook("clerk", #{ retry: #{ max: 2, base: "5ms", cap: "5ms" } }, |event| {
            if !event.last_attempt { throw "again"; }
            db.seen.put("last", #{ attempt: event.attempt });
        });
    "#;
    let project = project(script);
    let rhaiway = project.start();
    deliver(&rhaiway, "msg_1");
    project.wait_for_state("msg_1", "done");
    assert_eq!(seen(&rhaiway), json!([{ "id": "last", "attempt": 3 }]));
}

const MOURNING: &str = r#"
    webhook("clerk", #{ retry: #{ max: 1, base: "5ms", cap: "5ms" } }, |event| { throw "it broke"; });
    on("t", |event| give_up("never mind"));
    on_dead("clerk", |event, error| {
        if db.hold.get("hold") != () { throw "held"; }
        db.seen.increment("clerk", "times", 1);
        db.seen.patch("clerk", #{ user: event.data.id, error: error.message, script: error.script, attempts: error.attempts });
    });
    on_dead("t", |event, error| { db.seen.put("t", #{ data: event.data, error: error.message }); throw "and again"; });
    put("/hold", #{ auth: "none" }, |req| { db.hold.put("hold", #{}); });
    delete("/hold", #{ auth: "none" }, |req| { db.hold.delete("hold"); });
"#;

#[test]
fn on_dead_runs_once_for_a_dead_letter_of_its_webhook_or_topic() {
    let project = project(&MOURNING.replace("throw \"and again\";", ""));
    let rhaiway = project.start();
    deliver(&rhaiway, "msg_1");
    emit(&rhaiway, &json!([{ "topic": "t", "payload": 7 }]));
    eventually("both are mourned", || {
        (seen(&rhaiway).as_array().unwrap().len() == 2).then_some(())
    });
    let shown = seen(&rhaiway);
    assert_eq!(shown[1], json!({ "id": "t", "data": 7, "error": "never mind" }));
    let clerk = &shown[0];
    assert_eq!(
        (&clerk["times"], &clerk["user"], &clerk["attempts"]),
        (&json!(1), &json!("msg_1"), &json!(2))
    );
    assert!(clerk["error"].as_str().unwrap().contains("it broke"), "{clerk}");
    let event = project.event_of("msg_1");
    let jobs: Vec<(&Value, &Value)> = event["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| (&job["pattern"], &job["state"]))
        .collect();
    assert_eq!(jobs, [(&json!("*"), &json!("dead")), (&json!("clerk"), &json!("done"))]);
    assert_eq!(event["state"], "dead", "a dead letter stays one");
}

#[test]
fn on_dead_survives_kill_9_between_the_death_and_its_answer() {
    let project = project(MOURNING);
    let rhaiway = project.start();
    assert!(crate::support::request(rhaiway.address(), "PUT", "/hold", &[], b"").status < 300);
    deliver(&rhaiway, "msg_1");
    eventually("its answer fails", || {
        let event = project.event_of("msg_1");
        let jobs = event["jobs"].as_array().unwrap();
        jobs.iter().any(|job| job["state"] == "retrying").then_some(())
    });
    rhaiway.kill();
    let rhaiway = project.start();
    assert!(crate::support::request(rhaiway.address(), "DELETE", "/hold", &[], b"").status < 300);
    project.write("scripts/main.rhai", format!("{ROUTES}{MOURNING}\n// saved"));
    eventually("it is mourned", || (seen(&rhaiway)[0]["times"] == 1).then_some(()));
}

#[test]
fn an_on_dead_that_fails_is_a_dead_letter_that_nobody_answers() {
    let script =
        MOURNING.replace("on_dead(\"t\", |event", "on_dead(\"t\", #{ retry: #{ max: 0 } }, |event");
    let project = project(&script);
    let rhaiway = project.start();
    emit(&rhaiway, &json!([{ "topic": "t", "payload": 7 }]));
    let jobs = eventually("both jobs are dead", || {
        let event = of_topic(&project, "t").into_iter().next()?;
        let event = project.admin(&format!("/v1/events/{}", event["id"].as_str()?));
        let jobs = event["jobs"].as_array()?.clone();
        (jobs.len() == 2 && jobs.iter().all(|job| job["state"] == "dead")).then_some(jobs)
    });
    assert_eq!(jobs.len(), 2);
    assert_eq!(seen(&rhaiway), json!([]));
}

#[test]
fn the_same_topic_twice_in_one_script_is_a_load_error_and_so_is_a_wrong_number_of_parameters() {
    let check = |script: &str, part: &str| {
        let project = Project::new(script);
        let (stdout, stderr) = project.expect(1, &["check"]);
        assert!(format!("{stdout}{stderr}").contains(part), "{script}\n{stdout}{stderr}");
    };
    check(r#"on("t", |event| 1); on("t", |event| 2);"#, "registered twice");
    check(r#"on_dead("t", |e, x| 1); on_dead("t", |e, x| 2);"#, "registered twice");
    check(r#"on_dead("t", |event| 1);"#, "write `|event, error| …`");
    check(r#"on("t", || 1);"#, "write `|event| …`");
    check(r#"every("5 minutes", |event| 1);"#, "every(");
    check(r#"every("5m", #{ tz: "Europe/Berlin" }, |event| 1);"#, "every(");
    check(r#"every("0 3 * * *", #{ tz: "Europe/Berlni" }, |event| 1);"#, "Europe/Berlin");
    check(r#"every("5m", #{ concurrency: 3 }, |event| 1);"#, "tz, timeout, retry");
}
