//! kill -9 at each place that `src/failpoint.rs` names, one after the other: nothing that was acknowledged is lost, no effect happens
//! twice, and what was not acknowledged can be sent again.

use std::fs;
use std::process::Command;
use std::time::Duration;

use rusqlite::Connection as Database;
use serde_json::{Value, json};

use crate::support::{
    Clock, Connection, Project, Response, Rhaiway, Signed, StandIn, clerk_event, eventually,
    render, replay, signed,
};

const MONTH: Duration = Duration::from_secs(31 * 86_400);

const SCRIPT: &str = r#"
webhook("clerk", "*", |event| {
    db.seen.increment(event.data.id, "n", 1);
    let known = db.users.get(event.data.id) ?? #{ n: 0 };
    db.users.put(event.data.id, #{ n: known.n + 1 });
});
post("/count", #{ auth: "none" }, |req| db.seen.increment("route", "n", 1));
post("/once", #{ auth: "none", idempotency: "idempotency-key" }, |req| db.seen.increment("once", "n", 1));
post("/later", #{ auth: "none" }, |req| { emit("later", 1, #{ delay: "20ms" }); });
on("later", |event| db.seen.increment("later", "n", 1));
get("/seen", #{ auth: "none" }, |req| [db.seen.list(), db.users.list()]);
"#;

/// The same handler, kept from its end.
fn sleeping() -> String {
    SCRIPT.replacen("db.seen", r#"log.info("begun"); sleep("50s"); db.seen"#, 1)
}

fn project(script: &str) -> Project {
    Project::with_more("retry = { max = 3, base = \"10ms\" }", script)
}

fn delivery() -> Signed {
    signed("msg_1", clerk_event("user.created", "user_1", 1))
}

fn armed(mut command: Command, failpoint: &str) -> Command {
    command.env("RHAIWAY_FAILPOINT", failpoint);
    command
}

fn run_armed(project: &Project, failpoint: &str) -> Rhaiway {
    project.start_as(armed(project.command(&["run"]), failpoint))
}

/// The status that the sender saw, if the process lived to answer.
fn post(rhaiway: &Rhaiway, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<u16> {
    let mut connection = Connection::try_open(rhaiway.address()).ok()?;
    connection.send(&render("POST", path, headers, body)).ok()?;
    connection.read().ok().map(|answer| answer.status)
}

fn deliver(rhaiway: &Rhaiway) -> Option<u16> {
    let delivery = delivery();
    post(rhaiway, "/api/webhooks/clerk", &delivery.headers(), &delivery.body)
}

/// It was killed and did not end by itself.
fn wait_for_kill(rhaiway: Rhaiway) {
    assert_eq!(rhaiway.wait(), None, "it was to be killed");
}

/// Every event once, done, with each of its effects once.
fn check_done_once(project: &Project, rhaiway: &Rhaiway) {
    project.wait_for_state("msg_1", "done");
    assert_eq!(project.stored().len(), 1);
    let once = json!([{ "id": "user_1", "n": 1 }]);
    assert_eq!(rhaiway.get("/seen").json(), json!([once, once]));
}

/// Killed while an event is accepted or handled.
fn kill_while_handling(place: &str) {
    let project = project(SCRIPT);
    let rhaiway = run_armed(&project, place);
    let acknowledged = deliver(&rhaiway) == Some(200);
    wait_for_kill(rhaiway);
    assert!(!(acknowledged && place.starts_with("accept")), "{place}: it was answered before");
    let rhaiway = project.start();
    if acknowledged {
        // It needs no second delivery.
        check_done_once(&project, &rhaiway);
    }
    assert_eq!(deliver(&rhaiway), Some(200), "{place}");
    check_done_once(&project, &rhaiway);
}

/// Killed around a claim, which only what an unclean stop left over has.
fn kill_while_claiming(place: &str) {
    let project = project(&sleeping());
    let rhaiway = project.start();
    assert_eq!(deliver(&rhaiway), Some(200));
    rhaiway.wait_for_log("begun");
    rhaiway.kill();
    project.write("scripts/main.rhai", SCRIPT);
    wait_for_kill(Rhaiway::spawn(armed(project.command(&["run"]), place)));
    check_done_once(&project, &project.start());
}

/// Killed while a route's effects are committed.
fn kill_while_answering_a_route(place: &str) {
    let project = project(SCRIPT);
    let rhaiway = run_armed(&project, place);
    assert_eq!(post(&rhaiway, "/count", &[], b""), None, "{place}");
    wait_for_kill(rhaiway);
    let seen: Value = project.start().get("/seen").json();
    let committed = place == "route.committed";
    let expected = if committed { json!([{ "id": "route", "n": 1 }]) } else { json!([]) };
    assert_eq!(seen[0], expected, "{place}");
}

/// Killed while an old event is deleted: what is left is deleted later, and nothing else is.
fn kill_while_deleting(place: &str) {
    let project = project(SCRIPT);
    let clock = Clock::new(&project);
    // It has looked once when it started.
    let rhaiway = project.start_as(armed(clock.command(&project), &format!("{place}:2")));
    assert_eq!(deliver(&rhaiway), Some(200));
    check_done_once(&project, &rhaiway);
    clock.advance_unseen(MONTH);
    wait_for_kill(rhaiway);
    let rhaiway = clock.start(&project);
    eventually("it is gone", || project.stored().is_empty().then_some(()));
    let once = json!([{ "id": "user_1", "n": 1 }]);
    assert_eq!(rhaiway.get("/seen").json(), json!([once, once]), "{place}");
}

/// Killed while a request with a key is answered: asked again, it is answered again or handled for the first time.
fn kill_while_answering_a_request_with_a_key(place: &str) {
    let project = project(SCRIPT);
    let rhaiway = run_armed(&project, place);
    let key = [("idempotency-key", "key_1")];
    assert_eq!(post(&rhaiway, "/once", &key, b""), None, "{place}");
    wait_for_kill(rhaiway);
    let rhaiway = project.start();
    let again = rhaiway.post("/once", &key, b"");
    let is_replayed = again.header("idempotent-replayed") == Some("true");
    assert_eq!((again.status, is_replayed), (204, place == "answer.committed"), "{place}");
    assert_eq!(rhaiway.get("/seen").json()[0], json!([{ "id": "once", "n": 1 }]), "{place}");
}

/// Two scripts; one of them fails at the first event of a key while it is told to.
const HELD: &str = r#"
webhook("clerk", |event| {
    if event.data.n == 1 && db.held.get("held") != () { throw "held"; }
    let done = db.main.get("done") ?? #{ list: [] };
    done.list.push(event.data.n);
    db.main.put("done", done);
});
put("/held", #{ auth: "none" }, |req| { db.held.put("held", #{}); });
delete("/held", #{ auth: "none" }, |req| { db.held.delete("held"); });
get("/done", #{ auth: "none" }, |req| [db.main.get("done")?.list, db.other.get("done")?.list]);
"#;
const PASSES: &str = r#"
webhook("clerk", |event| {
    let done = db.other.get("done") ?? #{ list: [] };
    done.list.push(event.data.n);
    db.other.put("done", done);
});
"#;

/// Killed while an event gets its jobs of which one script may begin and the other has to wait.
fn kill_while_planning(place: &str) {
    let more = "ordered_by = \"/data/key\"\nretry = { max = 5, base = \"1h\" }";
    let project = Project::with_more(more, HELD);
    project.write("scripts/other.rhai", PASSES);
    let rhaiway = run_armed(&project, place);
    let ask = |rhaiway: &Rhaiway, method: &str| -> Response {
        crate::support::request(rhaiway.address(), method, "/held", &[], b"")
    };
    let delivery = |n: u32| {
        let body = json!({ "type": "t", "data": { "key": "a", "n": n } }).to_string();
        signed(&format!("msg_{n}"), body)
    };
    assert!(ask(&rhaiway, "PUT").status < 300);
    assert_eq!(rhaiway.deliver(&delivery(1)).status, 200);
    eventually("the first is held by one script and not by the other", || {
        (project.states().get("msg_1")? == "retrying"
            && rhaiway.get("/done").json() == json!([null, [1]]))
        .then_some(())
    });
    // Whether its sender hears of it depends on who is quicker.
    let second = delivery(2);
    _ = post(&rhaiway, "/api/webhooks/clerk", &second.headers(), &second.body);
    wait_for_kill(rhaiway);
    let rhaiway = project.start();
    eventually("the other script goes on", || {
        (rhaiway.get("/done").json() == json!([null, [1, 2]])).then_some(())
    });
    assert!(ask(&rhaiway, "DELETE").status < 300);
    project.write("scripts/main.rhai", format!("{HELD}// mended"));
    eventually("so does the one that was held", || {
        (rhaiway.get("/done").json() == json!([[1, 2], [1, 2]])).then_some(())
    });
}

/// Killed while an event is made of what was emitted for later: it comes once.
fn kill_while_promoting(place: &str) {
    let project = project(SCRIPT);
    let rhaiway = run_armed(&project, place);
    _ = post(&rhaiway, "/later", &[], b"");
    wait_for_kill(rhaiway);
    let rhaiway = project.start();
    eventually("it has come", || {
        (rhaiway.get("/seen").json()[0] == json!([{ "id": "later", "n": 1 }])).then_some(())
    });
    project_is_quiet(&project, 1);
}

/// So many events, all done.
fn project_is_quiet(project: &Project, events: usize) {
    eventually("all is done", || {
        project.stored().iter().all(|event| event["state"] == "done").then_some(())
    });
    assert_eq!(project.stored().len(), events, "{:?}", project.stored());
}

const HOURLY: &str = r#"every("1h", |event| db.seen.increment("hour", "n", 1));"#;

/// Killed while a timer's event is made: what was missed is made up once.
fn kill_while_firing(place: &str) {
    let project = project(&format!("{SCRIPT}{HOURLY}"));
    let clock = Clock::new(&project);
    // The first time it is only seen.
    let rhaiway = project.start_as(armed(clock.command(&project), &format!("{place}:2")));
    eventually("it is seen", || (timers(&project) == 1).then_some(()));
    clock.advance_unseen(Duration::from_secs(3_600));
    wait_for_kill(rhaiway);
    let rhaiway = clock.start(&project);
    eventually("it has run", || {
        (rhaiway.get("/seen").json()[0] == json!([{ "id": "hour", "n": 1 }])).then_some(())
    });
    project_is_quiet(&project, 1);
}

fn timers(project: &Project) -> i64 {
    number(project, "SELECT count(*) FROM timers")
}

fn number(project: &Project, query: &str) -> i64 {
    let database = Database::open(project.at("data/rhaiway.db")).unwrap();
    database.busy_timeout(Duration::from_secs(10)).unwrap();
    database.query_row(query, [], |row| row.get(0)).unwrap()
}

/// Killed while a timer is forgotten that no script has any more.
fn kill_while_forgetting(place: &str) {
    let project = project(&format!("{SCRIPT}{HOURLY}"));
    let rhaiway = project.start();
    eventually("it is seen", || (timers(&project) == 1).then_some(()));
    rhaiway.stop();
    project.write("scripts/main.rhai", SCRIPT);
    wait_for_kill(Rhaiway::spawn(armed(project.command(&["run"]), place)));
    let rhaiway = project.start();
    eventually("it is forgotten", || (timers(&project) == 0).then_some(()));
    assert_eq!(rhaiway.get("/seen").json()[0], json!([]));
}

/// Killed while an event is repeated on request: there is one repetition or none, and who asks again gets one.
fn kill_while_replaying(place: &str) {
    let project = project(SCRIPT);
    let rhaiway = run_armed(&project, place);
    assert_eq!(deliver(&rhaiway), Some(200));
    check_done_once(&project, &rhaiway);
    let event = project.event_of("msg_1")["id"].as_str().unwrap().to_owned();
    assert_eq!(replay(&project, &event), None, "{place}");
    wait_for_kill(rhaiway);
    let rhaiway = project.start();
    if place != "replay.committed" {
        project_is_quiet(&project, 1);
        assert_eq!(replay(&project, &event), Some(202), "{place}");
    }
    eventually("it is repeated", || {
        (rhaiway.get("/seen").json()[0] == json!([{ "id": "user_1", "n": 2 }])).then_some(())
    });
    project_is_quiet(&project, 2);
}

/// Killed while the jobs that a script failed are made due by its fix: they are due with the next save at the latest.
fn kill_while_waking(place: &str) {
    let broken = SCRIPT.replacen("db.seen", "throw \"broken\"; db.seen", 1);
    let project = Project::with_more("retry = { max = 3, base = \"1h\" }", &broken);
    // At the start it is asked for what waited until the script loads.
    let rhaiway = run_armed(&project, &format!("{place}:2"));
    assert_eq!(deliver(&rhaiway), Some(200));
    project.wait_for_state("msg_1", "retrying");
    project.write("scripts/main.rhai", SCRIPT);
    wait_for_kill(rhaiway);
    let rhaiway = project.start();
    project.write("scripts/main.rhai", format!("{SCRIPT}// saved again"));
    check_done_once(&project, &rhaiway);
}

/// Killed while an index is declared or built: it is there in the end, and so is what it is for.
fn kill_while_indexing(place: &str) {
    let find = "get(\"/found\", #{ auth: \"none\" }, |req| db.seen.find(#{ n: 1 }));\n";
    let project = project(&format!("{SCRIPT}{find}"));
    let rhaiway = project.start();
    assert_eq!(deliver(&rhaiway), Some(200));
    check_done_once(&project, &rhaiway);
    rhaiway.stop();
    let config = fs::read_to_string(project.at("config.toml")).unwrap();
    project.write("config.toml", format!("{config}[db.seen]\nindex = [\"n\"]\n"));
    wait_for_kill(Rhaiway::spawn(armed(project.command(&["run"]), place)));
    let rhaiway = project.start();
    let ready = "SELECT count(*) FROM document_indexes WHERE state = 1";
    eventually("the index is ready", || (number(&project, ready) == 1).then_some(()));
    assert_eq!(rhaiway.get("/found").json(), json!([{ "id": "user_1", "n": 1 }]), "{place}");
    check_done_once(&project, &rhaiway);
}

/// Killed around a call: one with a key is sent under the same key again, so that it is done once; of one without, what is on disk decides.
fn kill_while_calling(place: &str) {
    let calls = "stripe.customers.create(#{}); plain.post(\"/v1/products\", #{ form: #{ name: \"chair\" } }); db.seen";
    for time in 1..=2 {
        // One each: an equal delivery has equal keys.
        let stripe = StandIn::start("stripe");
        let url = stripe.url();
        let more = format!(
            "retry = {{ max = 3, base = \"10ms\" }}\n\
         [providers.stripe]\nkind = \"stripe\"\nbase_url = \"{url}\"\napi_key_env = \"STRIPE_KEY\"\n\
         [providers.plain]\nkind = \"http\"\nbase_url = \"{url}\"\nauth = {{ bearer_env = \"STRIPE_KEY\" }}\n"
        );
        let project = Project::with_more(&more, &SCRIPT.replacen("db.seen", calls, 1));
        project.write(".dev.vars", "STRIPE_KEY=sk_test_of_a_kill\n");
        let rhaiway = run_armed(&project, &format!("{place}:{time}"));
        let acknowledged = deliver(&rhaiway) == Some(200);
        wait_for_kill(rhaiway);
        let rhaiway = project.start();
        if !acknowledged {
            assert_eq!(deliver(&rhaiway), Some(200), "{place}:{time}");
        }
        check_done_once(&project, &rhaiway);
        let (customers, products) = made(&stripe);
        assert_eq!(customers, 1, "{place}:{time}");
        // Sent, and its answer not on disk: `http` says `repeat = "safe"`, so it is sent again.
        let is_lost =
            matches!((place, time), ("call.ended", 2) | ("note.begun" | "note.written", 2));
        assert_eq!(products, 1 + usize::from(is_lost), "{place}:{time}");
    }
}

/// Customers and products that the stand-in has.
fn made(stripe: &StandIn) -> (usize, usize) {
    let count = |path: &str| {
        let all = stripe.json(200, "GET", path, &Value::Null);
        all["data"].as_array().unwrap().len()
    };
    (count("/v1/customers?limit=100"), count("/v1/products?limit=100"))
}

/// Every place that the source names, so that one that is new is killed at as well.
fn places() -> Vec<String> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/failpoint.rs");
    let source = fs::read_to_string(source).unwrap();
    let named = |kind: &str| -> Vec<&str> {
        let separator = format!("\", {kind}::");
        let rows = source.split("(\"").filter_map(|row| row.split_once(&*separator));
        rows.map(|(name, _)| name).filter(|name| !name.contains('"')).collect()
    };
    let phases = named("Phase");
    let of_writer = named("Step").into_iter().flat_map(|step| {
        let place = move |phase: &&str| format!("{step}.{phase}");
        phases.iter().map(place).collect::<Vec<String>>()
    });
    named("Point").into_iter().map(str::to_owned).chain(of_writer).collect()
}

#[test]
fn w14_a_kill_at_each_place_loses_nothing_that_was_acknowledged_and_repeats_no_effect() {
    let places = places();
    assert_eq!(places.len(), 8 + 16 * 3, "{places:?}");
    for place in places {
        println!("{place}");
        match place.split('.').next() {
            Some("accept" | "attempt" | "finish") => kill_while_handling(&place),
            Some("call" | "note") => kill_while_calling(&place),
            // Nothing counts what is used of a provider before there are budgets; `store/conformance` has the step.
            Some("use") => {}
            Some("claim") => kill_while_claiming(&place),
            Some("route") => kill_while_answering_a_route(&place),
            Some("answer") => kill_while_answering_a_request_with_a_key(&place),
            Some("plan") => kill_while_planning(&place),
            Some("promote") => kill_while_promoting(&place),
            Some("fire") => kill_while_firing(&place),
            Some("forget") => kill_while_forgetting(&place),
            Some("replay") => kill_while_replaying(&place),
            Some("wake") => kill_while_waking(&place),
            Some("retain") => kill_while_deleting(&place),
            Some("declare" | "index") => kill_while_indexing(&place),
            _ => panic!("{place} is reached by nothing here"),
        }
    }
}

#[test]
fn a_commit_whose_answer_is_lost_is_refused_and_the_next_delivery_is_the_same_event() {
    for place in ["accept.begun", "accept.written", "accept.committed"] {
        let project = project(SCRIPT);
        let rhaiway = run_armed(&project, &format!("{place}=error"));
        assert_eq!(deliver(&rhaiway), Some(503), "{place}");
        assert_eq!(deliver(&rhaiway), Some(200), "{place}");
        // Where it was committed, nobody has it in hand until the next start.
        let rhaiway = if place == "accept.committed" {
            rhaiway.kill();
            project.start()
        } else {
            rhaiway
        };
        check_done_once(&project, &rhaiway);
    }
}

#[test]
fn an_end_that_cannot_be_stored_is_stored_later_and_its_effects_are_there_once() {
    for place in ["finish.begun", "finish.written", "finish.committed"] {
        let project = project(SCRIPT);
        let rhaiway = run_armed(&project, &format!("{place}=error"));
        assert_eq!(deliver(&rhaiway), Some(200), "{place}");
        rhaiway.wait_for_log("the end of an attempt cannot be stored yet");
        check_done_once(&project, &rhaiway);
    }
}

#[test]
fn what_is_held_goes_on_when_it_is_let_go() {
    let project = project(SCRIPT);
    project.write("hold", "");
    let mut command = armed(project.command(&["run"]), "attempt.ended=pause");
    command.env("RHAIWAY_FAILPOINT_HOLD", project.at("hold"));
    let rhaiway = project.start_as(command);
    assert_eq!(deliver(&rhaiway), Some(200));
    eventually("it is held", || {
        (fs::read_to_string(project.at("hold")).ok()? == "attempt.ended").then_some(())
    });
    assert_eq!(project.states()["msg_1"], "pending");
    project.remove("hold");
    check_done_once(&project, &rhaiway);
}

#[test]
fn a_failpoint_that_does_not_exist_is_refused() {
    let project = project(SCRIPT);
    let output = armed(project.command(&["check"]), "accept.nowhere").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("`accept.nowhere` is no failpoint"), "{said}");
}
