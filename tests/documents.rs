//! Documents through the front door: what runs out, orders and pages, every document of a `for`, indexes that config declares, and what is said of
//! searches without one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::support::{Project, Rhaiway, clerk_event, eventually, signed};

/// A body that says what to do with documents of `things`; the answer is what came of it.
const DO: &str = r#"
post("/do", #{ auth: "none" }, |req| {
    let ask = req.json;
    try {
        return switch ask.what {
            "put" => db.things.put(ask.id, ask.body, ask.options ?? #{}),
            "insert" => db.things.insert(ask.id, ask.body, ask.options ?? #{}),
            "patch" => db.things.patch(ask.id, ask.body),
            "increment" => db.things.increment(ask.id, "n", 1),
            "delete" => db.things.delete(ask.id),
            "get" => #{ found: db.things.get(ask.id) },
            "find" => db.things.find(ask.filter, ask.options ?? #{}),
            "list" => db.things.list(ask.options ?? #{}),
            "count" => db.things.count(ask.filter ?? #{}),
            "all" => every(db.things.all(ask.filter ?? #{}, ask.options ?? #{})),
        };
    } catch (err) {
        return #{ error: err };
    }
});
fn every(documents) {
    let ids = [];
    for document in documents { ids.push(document.id); }
    ids
}
"#;

fn ask(rhaiway: &Rhaiway, what: &Value) -> Value {
    let answer =
        rhaiway.post("/do", &[("content-type", "application/json")], what.to_string().as_bytes());
    assert!(answer.status < 300, "{what}: {} {}", answer.status, answer.text());
    serde_json::from_str(answer.text()).unwrap_or(Value::Null)
}

fn put(rhaiway: &Rhaiway, id: &str, body: &Value) {
    ask(rhaiway, &json!({ "what": "put", "id": id, "body": body }));
}

fn ids(found: &Value) -> Vec<&str> {
    found.as_array().unwrap().iter().map(|document| document["id"].as_str().unwrap()).collect()
}

fn error(answer: &Value) -> String {
    let error = &answer["error"];
    error["message"].as_str().or(error.as_str()).unwrap_or_default().to_owned()
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

#[test]
fn a_document_with_a_ttl_is_there_until_then_and_absent_in_every_read_from_then_on() {
    let project = Project::new(DO);
    let rhaiway = project.start();
    put(&rhaiway, "stays", &json!({ "n": 1 }));
    let before = now();
    let short = json!({ "what": "insert", "id": "goes", "body": { "n": 2 }, "options": { "ttl": "700ms" } });
    ask(&rhaiway, &short);
    let get = json!({ "what": "get", "id": "goes" });
    let seen = ask(&rhaiway, &get);
    if now() - before < Duration::from_millis(700) {
        assert_eq!(seen["found"]["n"], 2);
    }
    // A patch and an increment keep the time.
    ask(&rhaiway, &json!({ "what": "patch", "id": "goes", "body": { "x": 1 } }));
    ask(&rhaiway, &json!({ "what": "increment", "id": "stays" }));
    eventually("it has run out", || ask(&rhaiway, &get)["found"].is_null().then_some(()));
    assert!(now() - before >= Duration::from_millis(700), "not before its time");
    for what in ["find", "list", "all"] {
        let found = ask(&rhaiway, &json!({ "what": what, "filter": {} }));
        let shown = found.to_string();
        assert!(shown.contains("stays") && !shown.contains("goes"), "{what}: {shown}");
    }
    assert_eq!(ask(&rhaiway, &json!({ "what": "count" })), json!(1));
    // It can be inserted anew, and a put without ttl clears what a put with one said.
    assert_eq!(
        error(&ask(
            &rhaiway,
            &json!({ "what": "insert", "id": "goes", "body": {}, "options": { "ttl": "1h" } })
        )),
        ""
    );
    put(&rhaiway, "goes", &json!({}));
    let newer = json!({ "what": "put", "id": "goes", "body": { "at": 1 }, "options": { "ttl": "1ms", "if_newer": "at" } });
    assert_eq!(ask(&rhaiway, &newer), json!(true), "ttl and if_newer together");
    eventually("that has run out too", || ask(&rhaiway, &get)["found"].is_null().then_some(()));
}

#[test]
fn a_run_sees_its_own_ttl() {
    let script = r#"
        get("/run", #{ auth: "none" }, |req| {
            db.things.put("a", #{ n: 1 }, #{ ttl: "100ms" });
            let before = [db.things.get("a")?.n, db.things.count(), db.things.find(#{ n: 1 }).len()];
            sleep("150ms");
            let after = [db.things.get("a")?.n, db.things.count(), db.things.find(#{ n: 1 }).len()];
            db.things.insert("a", #{ n: 2 });
            [before, after, [db.things.get("a").n]]
        });"#;
    let rhaiway_of = Project::new(script);
    let rhaiway = rhaiway_of.start();
    assert_eq!(rhaiway.get("/run").json(), json!([[1, 1, 1], [null, 0, 0], [2]]));
}

#[test]
fn options_of_documents_that_mean_nothing_say_what_would() {
    let project = Project::new(DO);
    let rhaiway = project.start();
    let check = |what: &str, options: Value, part: &str| {
        let asked =
            json!({ "what": what, "id": "a", "body": {}, "filter": {}, "options": options });
        let said = error(&ask(&rhaiway, &asked));
        assert!(said.contains(part), "{options}: {said}");
    };
    let range = "`ttl` is a duration from 1ms to 3650d, such as \"1h\"";
    check("put", json!({ "ttl": "0s" }), range);
    check("put", json!({ "ttl": "3651d" }), range);
    check("put", json!({ "ttl": 60 }), "write `60s`");
    check("put", json!({ "ttl": [] }), range);
    check("insert", json!({ "if_newer": "at" }), "`insert` knows ttl");
    check("put", json!({ "tll": "1h" }), "`put` knows if_newer, ttl");
    check("find", json!({ "order_by": 5 }), "`order_by` names a field");
    check("find", json!({ "order_by": "a..b" }), "`order_by` names a field");
    check("find", json!({ "after": {} }), "`after` is the id of the last document seen");
    check("find", json!({ "limit": 1001 }), "`limit` is a number from 1 to 1000");
    check("list", json!({ "order": "a" }), "`find` and `list` know limit, after, order_by");
    check("all", json!({ "limit": 5 }), "`all` know after, order_by");
}

#[test]
fn documents_come_in_the_order_asked_for_and_go_on_after_an_id_or_a_document() {
    let project = Project::new(DO);
    let rhaiway = project.start();
    for (id, at) in
        [("a", json!(3)), ("b", json!(1)), ("c", json!("x")), ("d", json!(3)), ("e", Value::Null)]
    {
        put(&rhaiway, id, &json!({ "at": { "ms": at } }));
    }
    let find = |options: Value| {
        ask(&rhaiway, &json!({ "what": "find", "filter": {}, "options": options }))
    };
    assert_eq!(ids(&find(json!({ "order_by": "at.ms" }))), ["e", "b", "a", "d", "c"]);
    assert_eq!(ids(&find(json!({ "order_by": "-at.ms" }))), ["c", "d", "a", "b", "e"]);
    assert_eq!(ids(&find(json!({ "order_by": "-at.ms", "after": "" })))[0], "c", "the first page");
    let first = find(json!({ "order_by": "-at.ms", "limit": 2 }));
    let last = first[1].clone();
    assert_eq!(last["id"], "d");
    assert_eq!(ids(&find(json!({ "order_by": "-at.ms", "after": "d" }))), ["a", "b", "e"]);
    // What was read is enough, whatever has become of it.
    put(&rhaiway, "d", &json!({ "at": { "ms": 0 } }));
    assert_eq!(ids(&find(json!({ "order_by": "-at.ms", "after": last }))), ["a", "b", "d", "e"]);
    ask(&rhaiway, &json!({ "what": "delete", "id": "d" }));
    assert_eq!(ids(&find(json!({ "order_by": "-at.ms", "after": last }))), ["a", "b", "e"]);
    let gone = find(json!({ "order_by": "-at.ms", "after": "d" }));
    assert_eq!(gone["error"]["code"], "NOT_FOUND");
    assert!(error(&gone).contains("things/d is gone"), "{gone}");
    assert_eq!(ids(&find(json!({ "after": "d" }))), ["e"], "ids alone have an order without it");
    assert_eq!(ids(&find(json!({ "after": last }))), ["e"]);
}

#[test]
fn all_gives_every_document_once_page_by_page_with_what_the_run_itself_has_written() {
    let script = r#"
        post("/fill", #{ auth: "none" }, |req| {
            for n in 0..350 { db.things.put(`${1000 + n}`, #{ at: n % 7, n: n }); }
        });
        get("/all", #{ auth: "none" }, |req| {
            let seen = #{};
            let times = 0;
            db.things.put("0999", #{ at: 3, own: true });
            db.things.delete("1000");
            for thing in db.things.all(#{ n: #{ ne: 5 } }) {
                seen[thing.id] = true;
                times += 1;
                // Before us and behind us: only the first is met.
                if thing.id == "1100" { db.things.put("2000", #{}); db.things.put("0001", #{}); }
            }
            #{ times: times, seen: seen.len(), own: seen["0999"], deleted: seen["1000"], met: seen["2000"], missed: seen["0001"] }
        });
        get("/left", #{ auth: "none" }, |req| {
            for thing in db.things.all(#{}, #{ order_by: "-n" }) { return thing.n; }
        });
        get("/thrown", #{ auth: "none" }, |req| {
            try { for thing in db.things.all(#{}, #{ order_by: "n", after: "nobody" }) { log.info(thing.id); } } catch (err) { return err.code; }
        });
        get("/endless", #{ auth: "none", timeout: "300ms" }, |req| {
            try { for thing in db.things.all(#{}) { sleep("50ms"); } } catch { }
            "went on"
        });"#;
    let project = Project::new(script);
    let rhaiway = project.start();
    assert_eq!(rhaiway.post("/fill", &[], b"").status, 204);
    let expected = json!({ "times": 350, "seen": 350, "own": true, "deleted": null, "met": true, "missed": null });
    assert_eq!(rhaiway.get("/all").json(), expected);
    assert_eq!(rhaiway.get("/left").json(), json!(349));
    assert_eq!(rhaiway.get("/thrown").text(), "NOT_FOUND");
    assert_eq!(rhaiway.get("/endless").status, 503, "a limit is not caught");
}

#[test]
fn all_gives_no_document_twice_though_the_loop_itself_moves_it_forward() {
    let script = r#"
        post("/fill", #{ auth: "none" }, |req| {
            for n in 0..250 { db.things.put(`${1000 + n}`, #{ at: n }); }
        });
        get("/moved", #{ auth: "none" }, |req| {
            let times = 0;
            for thing in db.things.all(#{}, #{ order_by: "at" }) {
                db.things.patch(thing.id, #{ at: thing.at + 1000 });
                times += 1;
            }
            times
        });"#;
    let project = Project::with_more("[scripts]\ncpu_budget = \"10s\"", script);
    let rhaiway = project.start();
    assert_eq!(rhaiway.post("/fill", &[], b"").status, 204);
    assert_eq!(rhaiway.get("/moved").json(), json!(250));
}

#[test]
fn w29_fifty_handlers_that_patch_one_document_at_once_all_leave_their_change() {
    let script = r#"
        webhook("clerk", "*", |event| {
            let n = db.counts.get("all")?.n ?? 0;
            sleep("5ms");
            db.counts.patch("all", #{ n: n + 1 });
        });
        get("/counts", #{ auth: "none" }, |req| db.counts.get("all") ?? #{ n: 0 });"#;
    let retry = r#"retry = { max = 500, base = "10ms", cap = "50ms" }"#;
    let project = Project::with_more(retry, script);
    let rhaiway = project.start();
    std::thread::scope(|scope| {
        for n in 0..50 {
            let rhaiway = &rhaiway;
            scope.spawn(move || {
                let delivery = signed(&format!("msg_{n}"), clerk_event("patch", "a", 1));
                assert_eq!(rhaiway.deliver(&delivery).status, 200);
            });
        }
    });
    eventually("all fifty are there", || (rhaiway.get("/counts").json()["n"] == 50).then_some(()));
    eventually("and all are done", || {
        let states = project.states();
        (states.len() == 50 && states.values().all(|state| state == "done")).then_some(())
    });
    assert_eq!(rhaiway.get("/counts").json()["n"], 50);
}

/// Fills `things` with so many documents, a thousand a request.
const FILL: &str = r#"
post("/fill", #{ auth: "none" }, |req| {
    for n in 0..1000 {
        let number = req.json.from + n;
        db.things.put(`${1000000 + number}`, #{ n: number, group: number % 100, name: `name ${number % 1000}` });
    }
});
"#;
const WIDE: &str = "[scripts]\ncpu_budget = \"10s\"\n";

fn fill(rhaiway: &Rhaiway, thousands: usize) {
    for thousand in 0..thousands {
        let body = json!({ "from": thousand * 1000 }).to_string();
        let answer =
            rhaiway.post("/fill", &[("content-type", "application/json")], body.as_bytes());
        assert_eq!(answer.status, 204, "{}", answer.text());
    }
}

fn found_of(rhaiway: &Rhaiway) -> Value {
    let questions = [
        json!({ "what": "find", "filter": { "group": 7 }, "options": { "limit": 3 } }),
        json!({ "what": "find", "filter": { "group": [3, 4], "name": { "gte": "name 1", "lt": "name 2" } }, "options": { "limit": 5 } }),
        json!({ "what": "find", "filter": { "n": { "gte": 150, "lt": 153 } }, "options": { "order_by": "-n" } }),
        json!({ "what": "count", "filter": { "group": 99 } }),
        json!({ "what": "find", "filter": {}, "options": { "order_by": "-group", "limit": 3 } }),
    ];
    questions.iter().map(|question| ask(rhaiway, question)).collect()
}

#[test]
fn an_index_is_built_and_dropped_while_all_goes_on_and_survives_kill_9() {
    let script = format!("{DO}{FILL}");
    let project = Project::with_more(WIDE, &script);
    let rhaiway = project.start();
    fill(&rhaiway, 12);
    let plain = found_of(&rhaiway);
    assert_eq!(plain[3], json!(120));
    rhaiway.kill();
    let config = std::fs::read_to_string(project.at("config.toml")).unwrap();
    project.write("config.toml", format!("{config}\n[db.things]\nindex = [\"group\", \"n\"]\n"));
    // Killed somewhere on the way, again and again: each start goes on.
    for _ in 0..3 {
        let rhaiway = project.start();
        assert_eq!(found_of(&rhaiway), plain, "while it is built");
        rhaiway.kill();
    }
    // They are built in the order of their names, so when the last is ready all are.
    project.write(
        "config.toml",
        format!("{config}\n[db.things]\nindex = [\"group\", \"n\", \"name\"]\n"),
    );
    let rhaiway = project.start();
    put(&rhaiway, "1000007", &json!({ "n": 7, "group": 7, "name": "name 7" }));
    rhaiway.wait_for_log("the index of `db.things` by `name` is ready");
    assert_eq!(found_of(&rhaiway), plain);
    rhaiway.stop();
    project.write("config.toml", config);
    let rhaiway = project.start();
    rhaiway.wait_for_log("the index of `db.things` by `group` is gone");
    rhaiway.wait_for_log("the index of `db.things` by `n` is gone");
    assert_eq!(found_of(&rhaiway), plain);
}

#[test]
fn check_names_a_search_without_an_index_in_a_big_collection_and_the_line_that_helps() {
    let search = r#"get("/open", #{ auth: "none" }, |req| db.things.find(#{ name: req.query.name, group: 5 }));"#;
    let script = format!("{DO}{FILL}\n{search}");
    let project = Project::with_more(WIDE, &script);
    let (_, said) = project.expect(0, &["check"]);
    assert!(!said.contains("E0237"), "there is no database:\n{said}");
    let rhaiway = project.start();
    fill(&rhaiway, 10);
    let (_, said) = project.expect(0, &["check"]);
    assert!(!said.contains("E0237"), "10,000 are not more than 10,000:\n{said}");
    put(&rhaiway, "one more", &json!({}));
    let (_, said) = project.expect(0, &["check"]);
    assert!(said.contains("warning[E0237]: `db.things.find` reads every document"), "{said}");
    assert!(
        said.contains("by name, group, which no index has")
            && said.contains("db.things.find(#{ name:"),
        "{said}"
    );
    assert!(said.contains("write `[db.things] index = [\"name\"]` in config.toml"), "{said}");
    let (stdout, _) = project.expect(0, &["check", "--json"]);
    assert_eq!(stdout.matches("E0237").count(), 1, "{stdout}");
    rhaiway.stop();
    let (_, said) = project.expect(0, &["check"]);
    assert!(said.contains("E0237"), "without a process beside it too:\n{said}");
    let config = std::fs::read_to_string(project.at("config.toml")).unwrap();
    project.write("config.toml", format!("{config}\n[db.things]\nindex = [\"name\"]\n"));
    let (_, said) = project.expect(0, &["check"]);
    assert!(!said.contains("E0237"), "{said}");
}

#[test]
fn a_search_that_goes_past_many_documents_is_told_once_a_kind() {
    let project = Project::with_more(WIDE, &format!("{DO}{FILL}"));
    let rhaiway = project.start();
    fill(&rhaiway, 11);
    let count = |filter: Value| ask(&rhaiway, &json!({ "what": "count", "filter": filter }));
    assert_eq!(count(json!({ "group": 7 })), json!(110));
    let line = rhaiway.wait_for_log("went past 11000 documents");
    assert!(
        line.contains("db.things") && line.contains("group") && line.contains("WARN"),
        "{line}"
    );
    assert_eq!(count(json!({ "group": 8 })), json!(110));
    assert_eq!(count(json!({ "name": "name 8" })), json!(11));
    assert_eq!(count(json!({})), json!(11_000));
    rhaiway.wait_for_log("by name went past");
    assert_eq!(rhaiway.count_log("went past"), 2);
}
