//! Clocks that are moved under a running instance: time that passes, and a wall clock that somebody sets.

use std::time::Duration;

use crate::support::{Clock, Project, Rhaiway, clerk_event, eventually};

const DAY: Duration = Duration::from_secs(86_400);
const HOUR_MS: i64 = 3_600_000;

const SCRIPT: &str = r#"
webhook("clerk", "*", |event| db.seen.increment(event.data.id, "n", 1));
get("/now", #{ auth: "none" }, |req| now());
get("/seen", #{ auth: "none" }, |req| db.seen.list());
"#;

fn now_ms(rhaiway: &Rhaiway) -> i64 {
    rhaiway.get("/now").json().as_i64().expect("a number")
}

#[test]
fn a_test_moves_the_clock_that_scripts_and_signatures_see() {
    let project = Project::new(SCRIPT);
    let clock = Clock::new(&project);
    let rhaiway = clock.start(&project);
    let is_about = |expected: i64| {
        let found = now_ms(&rhaiway) / 1000;
        assert!((found - expected).abs() <= 60, "{found} and not {expected}");
    };
    let start = clock.now();
    is_about(start);
    clock.advance(7 * DAY);
    is_about(start + 7 * 86_400);
    clock.jump(-2 * HOUR_MS);
    is_about(start + 7 * 86_400 - 2 * 3_600);
    let delivery = clock.signed("msg_1", clerk_event("user.created", "user_1", 1));
    assert_eq!(rhaiway.deliver(&delivery).status, 200);
    clock.advance(DAY);
    assert_eq!(rhaiway.deliver(&delivery).status, 401, "its signature is a day old");
}

#[test]
fn o17_what_waits_takes_notice_when_the_clock_has_moved() {
    let project = Project::new(SCRIPT);
    let clock = Clock::new(&project);
    let rhaiway = clock.start(&project);
    let delivery = clock.signed("msg_1", clerk_event("user.created", "user_1", 1));
    assert_eq!(rhaiway.deliver(&delivery).status, 200);
    project.wait_for_state("msg_1", "done");
    // Retention has looked at the start and sleeps for a minute.
    clock.advance(31 * DAY);
    eventually("it is gone", || project.stored().is_empty().then_some(()));
    assert_eq!(rhaiway.get("/seen").json()[0]["n"], 1);
}

#[test]
fn time_that_passed_while_nothing_ran_has_passed() {
    let project = Project::new(SCRIPT);
    let clock = Clock::new(&project);
    let rhaiway = clock.start(&project);
    let delivery = clock.signed("msg_1", clerk_event("user.created", "user_1", 1));
    assert_eq!(rhaiway.deliver(&delivery).status, 200);
    project.wait_for_state("msg_1", "done");
    rhaiway.kill();
    clock.advance_unseen(31 * DAY);
    let rhaiway = clock.start(&project);
    eventually("it is gone", || project.stored().is_empty().then_some(()));
    assert!((now_ms(&rhaiway) / 1000 - clock.now()).abs() <= 60);
}

#[test]
fn rule_4_an_id_is_known_for_a_week_though_its_payload_goes_sooner_and_then_it_is_new() {
    let project = Project::with_more("\n[storage]\nretention = \"1d\"", SCRIPT);
    let clock = Clock::new(&project);
    let rhaiway = clock.start(&project);
    let deliver = || {
        let delivery = clock.signed("msg_1", clerk_event("user.created", "user_1", 1));
        assert_eq!(rhaiway.deliver(&delivery).status, 200);
    };
    let handled = || rhaiway.get("/seen").json()[0]["n"].clone();
    deliver();
    project.wait_for_state("msg_1", "done");
    clock.advance(2 * DAY);
    let body_is_gone = || project.event_of("msg_1").get("body").is_none().then_some(());
    eventually("its payload is gone", body_is_gone);
    clock.advance(4 * DAY);
    deliver();
    assert_eq!((project.stored().len(), handled()), (1, 1.into()), "it is known");
    clock.advance(2 * DAY);
    eventually("its id is gone", || project.stored().is_empty().then_some(()));
    deliver();
    eventually("it is new", || (handled() == 2).then_some(()));
}
