//! A backlog: a start among very many events that wait, and what those who deliver hear while the inbox is full. `RHAIWAY_BACKLOG` asks for another
//! number than the ordinary one, such as the million that `storage.max_pending` allows.

use std::fs;
use std::time::{Duration, Instant};

use rusqlite::Connection as Database;

use crate::support::{Project, Rhaiway, clerk_event, eventually, signed};

const BACKLOG: u64 = 20_000;
/// What every start is measured against.
const FEW: u64 = 1_000;
const START_MAX: Duration = Duration::from_secs(10);
/// More than a start among few; the million takes no more than the twenty thousand.
const MORE_MEMORY_MAX_KIB: u64 = 48 * 1024;

const HELD: &str = r#"webhook("clerk", |event| { sleep("50s"); });"#;
const COUNTS: &str = r#"
webhook("clerk", |event| db.seen.increment("all", "n", 1));
get("/seen", #{ auth: "none" }, |req| #{ n: db.seen.get("all")?.n ?? 0 });
"#;

fn backlog() -> u64 {
    let asked = std::env::var_os("RHAIWAY_BACKLOG");
    asked.map_or(BACKLOG, |number| number.to_str().unwrap().parse().unwrap())
}

fn config(max_pending: u64) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 2\n[storage]\nmax_pending = {max_pending}\n\
         [webhooks.clerk]\npath = \"/api/webhooks/clerk\"\nscheme = \"svix\"\nsecret_env = \"CLERK_WEBHOOK_SECRET\"\n"
    )
}

/// A project in which so many events wait; all are as the first, but for their ids.
fn waiting(events: u64) -> Project {
    let project = Project::with_config(&config(events + 1), HELD);
    let rhaiway = project.start();
    deliver(&rhaiway, "msg_1", 200);
    rhaiway.kill();
    let mut database = Database::open(project.at("data/rhaiway.db")).unwrap();
    let transaction = database.transaction().unwrap();
    let more = format!(
        "WITH RECURSIVE more(seq) AS (VALUES (2) UNION ALL SELECT seq + 1 FROM more WHERE seq < {events})"
    );
    for insert in [
        "INSERT INTO events (seq, id, webhook, delivery_id, kind, received_at)
         SELECT more.seq, randomblob(16), webhook, 'msg_' || more.seq, kind, received_at FROM more, events WHERE events.seq = 1",
        "INSERT INTO payloads (seq, request, body) SELECT more.seq, request, body FROM more, payloads WHERE payloads.seq = 1",
    ] {
        transaction.execute(&format!("{more} {insert}"), []).unwrap();
    }
    transaction.commit().unwrap();
    project
}

fn deliver(rhaiway: &Rhaiway, id: &str, status: u16) {
    let answer = rhaiway.deliver(&signed(id, clerk_event("user.created", "user_1", 1)));
    assert_eq!(answer.status, status, "{id}: {}", answer.text());
    assert_eq!(answer.header("retry-after").is_some(), status == 503);
}

/// Starts it, and says what that took: time, and memory once it works.
fn start(project: &Project) -> (Rhaiway, Duration, u64) {
    let begun = Instant::now();
    let rhaiway = project.start();
    let took = begun.elapsed();
    eventually("it is at work on what waits", || {
        let running = project.admin("/v1/status")["pending"].as_u64();
        running.is_some().then_some(())
    });
    let status = fs::read_to_string(format!("/proc/{}/status", rhaiway.pid())).unwrap();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let most = most.trim().trim_end_matches(" kB").parse().unwrap();
    (rhaiway, took, most)
}

#[test]
fn w23_a_start_among_very_many_events_is_quick_and_small_and_a_full_inbox_drops_nothing() {
    let (_, few_took, few_memory) = start(&waiting(FEW));
    let events = backlog();
    let project = waiting(events);
    let (rhaiway, took, memory) = start(&project);
    println!("{FEW}: {few_took:?}, {few_memory} KiB; {events}: {took:?}, {memory} KiB");
    assert!(took < START_MAX, "{took:?} among {events}, {few_took:?} among {FEW}");
    assert!(memory < few_memory + MORE_MEMORY_MAX_KIB, "{memory} KiB and {few_memory} KiB");

    deliver(&rhaiway, "msg_last", 200);
    deliver(&rhaiway, "msg_refused", 503);
    // One that is known needs no place.
    deliver(&rhaiway, "msg_2", 200);
    let pending = || project.admin("/v1/status")["pending"].clone();
    assert_eq!(pending(), events + 1);
    rhaiway.kill();

    project.write("scripts/main.rhai", COUNTS);
    let rhaiway = project.start();
    // The wait is for each thousand, so that it is as patient with a million.
    let handled = || rhaiway.get("/seen").json()["n"].as_u64().unwrap();
    for thousand in 1..=events / 1_000 {
        eventually("a thousand more are handled", || (handled() >= thousand * 1_000).then_some(()));
    }
    eventually("all are handled", || (pending() == 0).then_some(()));
    assert_eq!(handled(), events + 1);
    deliver(&rhaiway, "msg_refused", 200);
}
