//! kill -9 at any instant: what was acknowledged is there exactly once, is handled, and its effects are there exactly once. Chance is seeded and the
//! seed printed: `RHAIWAY_CRASH_SEED` reruns it, `RHAIWAY_CRASH_ROUNDS` asks for more than the few rounds of an ordinary test run.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Connection, Project, Rhaiway, Signed, eventually, render, signed};

const ROUNDS: usize = 5;
const CONNECTIONS: usize = 4;
const USERS: usize = 7;

/// Two handlers in two scripts. Each counts its runs by event and by user: one with writes that never conflict, one with reads that do.
const MAIN: &str = r#"
webhook("clerk", "count", |event| {
    if event.data.sleeps { sleep("15ms"); }
    db.seen.increment(event.data.id, "counted", 1);
    db.users.increment(event.data.user, "counted", 1);
});
get("/seen", #{ auth: "none" }, |req| page(db.seen, req));
get("/users", #{ auth: "none" }, |req| page(db.users, req));

fn page(collection, req) {
    collection.list(#{ limit: 1000, after: req.query.after ?? "" })
}
"#;
const OTHER: &str = r#"
webhook("clerk", "*", |event| {
    let user = db.puts.get(event.data.user) ?? #{ n: 0 };
    db.puts.put(event.data.user, #{ n: user.n + 1 });
    db.seen.increment(event.data.id, "put", 1);
});
get("/puts", #{ auth: "none" }, |req| db.puts.list(#{ limit: 1000 }));
"#;

/// A delivery of its own, of one of a few users.
fn delivery(n: usize) -> Signed {
    let data = json!({ "id": id(n), "user": format!("user_{}", n % USERS), "sleeps": n.is_multiple_of(3) });
    signed(&id(n), json!({ "type": "count", "data": data }).to_string())
}

fn id(n: usize) -> String {
    format!("msg_{n:06}")
}

/// What senders know: each of their deliveries that was not yet answered 200, to be sent again.
#[derive(Default)]
struct Senders {
    next: AtomicUsize,
    unanswered: std::sync::Mutex<BTreeSet<usize>>,
}

impl Senders {
    /// Sends from several connections until told to stop or the other end goes away: what is left over first, then what is new.
    fn send(&self, address: SocketAddr, stop: &AtomicBool, fresh: bool) {
        let left: Vec<usize> = self.unanswered.lock().unwrap().iter().copied().collect();
        thread::scope(|scope| {
            for sender in 0..CONNECTIONS {
                let mine: Vec<usize> =
                    left.iter().copied().skip(sender).step_by(CONNECTIONS).collect();
                scope.spawn(move || self.send_on_one(address, stop, &mine, fresh));
            }
        });
    }

    fn send_on_one(&self, address: SocketAddr, stop: &AtomicBool, left: &[usize], fresh: bool) {
        let Ok(mut connection) = Connection::try_open(address) else { return };
        let mut left = left.iter().copied();
        while !stop.load(Ordering::Relaxed) {
            let n = match left.next() {
                Some(n) => n,
                None if fresh => self.next.fetch_add(1, Ordering::Relaxed),
                None => return,
            };
            self.unanswered.lock().unwrap().insert(n);
            let delivery = delivery(n);
            let request =
                render("POST", "/api/webhooks/clerk", &delivery.headers(), &delivery.body);
            match connection.send(&request).and_then(|()| connection.read()) {
                Ok(answer) if answer.status == 200 => {
                    self.unanswered.lock().unwrap().remove(&n);
                }
                Ok(answer) => assert_eq!(answer.status, 503, "{}", answer.text()),
                Err(_gone) => return,
            }
        }
    }

    /// Everything that anybody ever sent is acknowledged in the end.
    fn send_the_rest(&self, rhaiway: &Rhaiway) {
        eventually("all is acknowledged", || {
            self.send(rhaiway.address(), &AtomicBool::new(false), false);
            self.unanswered.lock().unwrap().is_empty().then_some(())
        });
    }

    /// Each event once, done, and with each effect once.
    fn check(&self, project: &Project, rhaiway: &Rhaiway) {
        let sent = self.next.load(Ordering::Relaxed);
        let expected: Vec<String> = (0..sent).map(id).collect();
        let events = eventually("every event is done", || {
            let events = all_events(project);
            let done = |event: &Value| event["state"] == "done";
            (events.len() >= sent && events.iter().all(done)).then_some(events)
        });
        let mut stored: Vec<&str> =
            events.iter().map(|event| event["delivery_id"].as_str().unwrap()).collect();
        stored.sort_unstable();
        assert!(stored == expected, "stored {} of {sent}", stored.len());

        let seen = all_documents(rhaiway, "/seen");
        assert_eq!(seen.len(), sent);
        for document in &seen {
            assert_eq!(
                (&document["counted"], &document["put"]),
                (&json!(1), &json!(1)),
                "{document}"
            );
        }
        let mut users = BTreeMap::<String, usize>::new();
        for n in 0..sent {
            *users.entry(format!("user_{}", n % USERS)).or_default() += 1;
        }
        let count = |path: &str, field: &str| -> BTreeMap<String, usize> {
            let documents = all_documents(rhaiway, path);
            let number =
                |document: &Value| usize::try_from(document[field].as_u64().unwrap()).unwrap();
            let id = |document: &Value| document["id"].as_str().unwrap().to_owned();
            documents.iter().map(|document| (id(document), number(document))).collect()
        };
        assert_eq!(count("/users", "counted"), users);
        assert_eq!(count("/puts", "n"), users);
    }
}

fn all_events(project: &Project) -> Vec<Value> {
    let mut events: Vec<Value> = Vec::new();
    loop {
        let after = events.last().map(|event| format!("&after={}", event["id"].as_str().unwrap()));
        let page = project.admin(&format!("/v1/events?limit=1000{}", after.unwrap_or_default()));
        let page = page.as_array().unwrap();
        events.extend(page.iter().cloned());
        if page.len() < 1000 {
            return events;
        }
    }
}

fn all_documents(rhaiway: &Rhaiway, path: &str) -> Vec<Value> {
    let mut documents: Vec<Value> = Vec::new();
    loop {
        let after = documents.last().map(|last| format!("?after={}", last["id"].as_str().unwrap()));
        let answer = rhaiway.get(&format!("{path}{}", after.unwrap_or_default()));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let page: Vec<Value> = serde_json::from_value(answer.json()).expect("a list");
        let is_last = page.len() < 1000;
        documents.extend(page);
        if is_last {
            return documents;
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var_os(variable)?.to_str()?.parse().ok()
}

fn project(more: &str) -> Project {
    let project =
        Project::with_more(&format!("retry = {{ max = 3, base = \"10ms\" }}\n{more}"), MAIN);
    project.write("scripts/other.rhai", OTHER);
    project
}

#[test]
fn w14_kills_at_random_instants_under_load_lose_nothing_that_was_acknowledged_and_repeat_no_effect()
{
    let seed = number("RHAIWAY_CRASH_SEED").unwrap_or_else(|| fastrand::u64(..));
    let rounds = number("RHAIWAY_CRASH_ROUNDS")
        .map_or(ROUNDS, |rounds| usize::try_from(rounds).expect("a number of rounds"));
    println!("RHAIWAY_CRASH_SEED={seed} RHAIWAY_CRASH_ROUNDS={rounds}");
    let mut chance = fastrand::Rng::with_seed(seed);
    let (project, senders) = (project(""), Senders::default());
    for round in 0..rounds {
        let rhaiway = project.start();
        let (address, stop) = (rhaiway.address(), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| senders.send(address, &stop, true));
            // Not a wait for something: the instant of the kill is what chance is for.
            thread::sleep(Duration::from_micros(chance.u64(1_000..250_000)));
            rhaiway.kill();
        });
        println!("round {round}: {} sent", senders.next.load(Ordering::Relaxed));
    }
    let rhaiway = project.start();
    senders.send_the_rest(&rhaiway);
    senders.check(&project, &rhaiway);
}

#[test]
fn h28_a_clean_stop_under_load_loses_nothing_and_leaves_the_rest_in_the_inbox() {
    let (project, senders) = (project(""), Senders::default());
    project.write("config.toml", CLEAN_CONFIG);
    for _ in 0..3 {
        let rhaiway = project.start();
        let (address, stop) = (rhaiway.address(), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| senders.send(address, &stop, true));
            let before = senders.next.load(Ordering::Relaxed);
            eventually("there is load", || {
                (senders.next.load(Ordering::Relaxed) > before + 50).then_some(())
            });
            rhaiway.stop();
            stop.store(true, Ordering::Relaxed);
        });
        let left = senders.unanswered.lock().unwrap().clone();
        let stored: BTreeSet<String> = project
            .events(&["--limit", "1000"])
            .iter()
            .map(|event| event["delivery_id"].as_str().unwrap().to_owned())
            .collect();
        let sent = senders.next.load(Ordering::Relaxed);
        let acknowledged = (0..sent).filter(|n| !left.contains(n));
        let lost: Vec<String> = acknowledged.map(id).filter(|id| !stored.contains(id)).collect();
        assert!(lost.is_empty() || sent > 1000, "{lost:?}");
    }
    let rhaiway = project.start();
    senders.send_the_rest(&rhaiway);
    senders.check(&project, &rhaiway);
}

const CLEAN_CONFIG: &str = r#"
[server]
listen = "127.0.0.1:0"
workers = 2
shutdown_grace = "30ms"

[webhooks.clerk]
path = "/api/webhooks/clerk"
scheme = "svix"
secret_env = "CLERK_WEBHOOK_SECRET"
retry = { max = 0, base = "10ms" }
"#;

/// Logs each run, sleeps where it is told to, then counts.
fn sleeper(sleep: &str) -> String {
    format!(
        r#"
        webhook("clerk", "count", |event| {{
            log.info("begun " + event.data.id);
            sleep("{sleep}");
            db.seen.increment(event.data.id, "n", 1);
        }});
        get("/seen", #{{ auth: "none" }}, |req| db.seen.list(#{{ limit: 1000 }}));
        "#
    )
}

#[test]
fn w12_an_event_whose_handler_sleeps_at_the_kill_is_handled_again_with_its_effect_once() {
    let project = Project::new(&sleeper("50s"));
    let rhaiway = project.start();
    for n in 0..20 {
        assert_eq!(rhaiway.deliver(&delivery(n)).status, 200);
        rhaiway.wait_for_log(&format!("begun {}", id(n)));
    }
    rhaiway.kill();
    project.write("scripts/main.rhai", sleeper("1ms"));
    let rhaiway = project.start();
    for n in 0..20 {
        // The sender heard 200, and sends again all the same.
        assert_eq!(rhaiway.deliver(&delivery(n)).status, 200);
        project.wait_for_state(&id(n), "done");
    }
    let seen = rhaiway.get("/seen").json();
    let expected: Vec<Value> = (0..20).map(|n| json!({ "id": id(n), "n": 1 })).collect();
    assert_eq!(seen, json!(expected));
}

#[test]
fn w24_an_event_that_ends_the_process_each_time_becomes_a_dead_letter() {
    let project = Project::with_more("retry = { max = 2, base = \"10ms\" }", &sleeper("50s"));
    let mut rhaiway = project.start();
    assert_eq!(rhaiway.deliver(&delivery(0)).status, 200);
    // The first run is not claimed: before it nothing pointed to a process that dies. The three attempts that it has follow.
    for _ in 0..4 {
        rhaiway.wait_for_log("begun");
        rhaiway.kill();
        rhaiway = project.start();
    }
    let event = project.wait_for_state(&id(0), "dead");
    assert_eq!(event["attempts"], 3);
    assert_eq!(event["error"], "the process ended each time while this event was handled");
    // It can be mended as any dead letter can.
    project.write("scripts/main.rhai", sleeper("1ms"));
    rhaiway.wait_for_log("reloaded");
    assert_eq!(rhaiway.deliver(&delivery(0)).status, 200);
    project.wait_for_state(&id(0), "done");
}

#[test]
fn a_last_attempt_that_was_claimed_is_run_and_not_taken_for_one_that_ended_the_process() {
    let fails = r#"webhook("clerk", "count", |event| { log.info(`begun ${event.attempt}`); throw "no"; });"#;
    let project = Project::with_more("retry = { max = 1, base = \"1s\" }", fails);
    // By chance the second attempt comes before the kill; then the next event is the one.
    let between = |n: &usize| {
        let rhaiway = project.start();
        assert_eq!(rhaiway.deliver(&delivery(*n)).status, 200);
        let tried = |project: &Project| {
            project.states().get(&id(*n)).is_some_and(|state| state != "pending")
        };
        eventually("it is tried", || tried(&project).then_some(()));
        rhaiway.kill();
        project.events(&["--state", "retrying"]).iter().any(|event| event["delivery_id"] == id(*n))
    };
    let n = (0..20).find(between).expect("one of twenty kills falls between two attempts");
    let rhaiway = project.start();
    rhaiway.wait_for_log("begun 2");
    let event = project.wait_for_state(&id(n), "dead");
    assert_eq!(event["attempts"], 2);
    assert!(event["error"].as_str().unwrap().contains("no"), "{event}");
}

#[test]
fn a_backlog_after_a_kill_waits_at_a_closed_gate_without_using_attempts() {
    const EVENTS: usize = 150;
    let config = "retry = { max = 0, base = \"10ms\" }\nconcurrency = 1";
    let project = Project::with_more(config, &sleeper("50s"));
    let rhaiway = project.start();
    for n in 0..EVENTS {
        assert_eq!(rhaiway.deliver(&delivery(n)).status, 200);
    }
    rhaiway.kill();
    project.write("scripts/main.rhai", sleeper("1ms"));
    let rhaiway = project.start();
    eventually("all are done", || {
        project.states().values().all(|state| state == "done").then_some(())
    });
    assert!(project.stored().iter().all(|event| event["attempts"] == 1));
    assert_eq!(rhaiway.get("/seen").json().as_array().unwrap().len(), EVENTS);
}

#[test]
fn every_handler_of_an_event_that_is_recovered_runs_once() {
    let project = Project::new(&sleeper("50s"));
    let rhaiway = project.start();
    for n in 0..30 {
        assert_eq!(rhaiway.deliver(&delivery(n)).status, 200);
    }
    rhaiway.kill();
    let two = r#"
        webhook("clerk", "count", |event| log.info("first " + event.data.id));
        webhook("clerk", "*", |event| { log.info("second " + event.data.id); sleep("300ms"); log.info("third " + event.data.id); });
    "#;
    project.write("scripts/main.rhai", two);
    let rhaiway = project.start();
    for n in 0..30 {
        project.wait_for_state(&id(n), "done");
    }
    let log = rhaiway.log().join("\n");
    for n in 0..30 {
        for word in ["first", "second", "third"] {
            assert_eq!(log.matches(&format!("{word} {}", id(n))).count(), 1, "{word} {n}");
        }
    }
}

#[test]
fn h3_an_event_whose_sender_breaks_the_connection_before_the_answer_is_handled_all_the_same() {
    let project = Project::new(&sleeper("1ms"));
    let rhaiway = project.start();
    for n in 0..200 {
        let mut connection = Connection::open(rhaiway.address());
        let delivery = delivery(n);
        let request = render("POST", "/api/webhooks/clerk", &delivery.headers(), &delivery.body);
        connection.send(&request).unwrap();
        // Some break before it is read, some while it is committed, some after.
        for _ in 0..n * 200 {
            std::hint::spin_loop();
        }
        connection.reset();
    }
    let delivery = delivery(200);
    assert_eq!(rhaiway.deliver(&delivery).status, 200);
    project.wait_for_state(&id(200), "done");
    eventually("what is stored is done", || {
        project.states().values().all(|state| state == "done").then_some(())
    });
}

#[test]
fn h28_a_handler_that_the_grace_does_not_wait_for_is_in_the_inbox_and_runs_again() {
    let project = Project::with_config(CLEAN_CONFIG, &sleeper("50s"));
    let rhaiway = project.start();
    assert_eq!(rhaiway.deliver(&delivery(0)).status, 200);
    rhaiway.wait_for_log("begun");
    rhaiway.stop();
    let events = project.events(&[]);
    assert_eq!((&events[0]["state"], &events[0]["attempts"]), (&json!("pending"), &json!(0)));
    project.write("scripts/main.rhai", sleeper("1ms"));
    let rhaiway = project.start();
    project.wait_for_state(&id(0), "done");
    assert_eq!(rhaiway.get("/seen").json(), json!([{ "id": id(0), "n": 1 }]));
}
