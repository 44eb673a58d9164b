//! kill -9 at each place that `src/failpoint.rs` names, one after the other: nothing that was acknowledged is lost, no effect happens
//! twice, and what was not acknowledged can be sent again.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Clock, Connection, Project, Rhaiway, Signed, clerk_event, eventually, render, signed,
};

const MONTH: Duration = Duration::from_secs(31 * 86_400);

const SCRIPT: &str = r#"
webhook("clerk", "*", |event| {
    db.seen.increment(event.data.id, "n", 1);
    let known = db.users.get(event.data.id) ?? #{ n: 0 };
    db.users.put(event.data.id, #{ n: known.n + 1 });
});
post("/count", #{ auth: "none" }, |req| db.seen.increment("route", "n", 1));
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

/// The names of the list, so that a place that is new is killed at as well.
fn places() -> Vec<String> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/failpoint.rs");
    let source = fs::read_to_string(source).unwrap();
    let name =
        |line: &str| Some(line.trim().strip_prefix("(\"")?.split_once("\", Point::")?.0.to_owned());
    source.lines().filter_map(name).collect()
}

#[test]
fn w14_a_kill_at_each_place_loses_nothing_that_was_acknowledged_and_repeats_no_effect() {
    let places = places();
    assert!(places.len() >= 20, "{places:?}");
    for place in places {
        println!("{place}");
        match place.split('.').next() {
            Some("accept" | "attempt" | "finish") => kill_while_handling(&place),
            Some("claim") => kill_while_claiming(&place),
            Some("route") => kill_while_answering_a_route(&place),
            Some("retain") => kill_while_deleting(&place),
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
