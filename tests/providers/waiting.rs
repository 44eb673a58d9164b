//! V21, rule 12: waits that a run does not survive, and jobs that wait for a third party without a run.

use std::time::Duration;

use serde_json::{Value, json as value};

use super::{PATIENT, TWO_TRIES, answers, config, failed, get, routes, start, timed};
use crate::support::upstream::{Step, Upstream, answer, json};
use crate::support::{
    Connection, Project, Rhaiway, clerk_event, event, eventually, render, signed,
};

#[test]
fn v21_a_run_that_is_cancelled_while_it_waits_makes_no_further_try() {
    let upstream = Upstream::always(answers(&answer("503 Down", &[("retry-after", "1")], b"")));
    let other = Upstream::always(answers(&answer("503 Down", &[("retry-after", "2")], b"")));
    let (_project, rhaiway) =
        start(&[("x", &upstream.url(), TWO_TRIES), ("other", &other.url(), TWO_TRIES)]);
    let mut connection = Connection::open(rhaiway.address());
    connection.send(&render("GET", "/x/get", &[], b"")).unwrap();
    eventually("the first try is made", || (!upstream.requests().is_empty()).then_some(()));
    drop(connection);
    // One that is not cancelled waits twice as long, and tries again.
    failed(&get(&rhaiway, "/other/get"), "SERVICE_UNAVAILABLE", "it answered 503");
    assert_eq!((other.requests().len(), upstream.requests().len()), (2, 1));
}

const HANDLERS: &str = r#"
webhook("clerk", "limited", #{ retry: #{ max: 0 } }, |event| {
    db.counts.increment("limited", "runs", 1);
    x.get("/thing");
    db.seen.put(event.id, #{ attempt: event.attempt });
});
webhook("clerk", "thrown", #{ retry: #{ max: 0 } }, |event| {
    try { x.get("/thing", #{ wait: false }); } catch (err) { db.seen.put("thrown", #{ code: err.code, after: err.retry_after }); }
});
webhook("clerk", "other", |event| { db.seen.put("other", #{}); });
get("/seen/{id}", #{ auth: "none" }, |req| db.seen.get(req.params.id));
get("/runs", #{ auth: "none" }, |req| db.counts.get("limited")?.runs ?? 0);
"#;

/// Handlers that call `x`. A provider's pauses are measured by a clock that no test moves, so they are real here: long enough for a slow machine.
struct Handling {
    project: Project,
    rhaiway: Rhaiway,
}

fn handling(url: &str, more: &str) -> Handling {
    let script = format!("{}{HANDLERS}", routes(&["x"]));
    let project = Project::with_config(&config(2, "development", &[("x", url, more)]), &script);
    let rhaiway = project.start();
    Handling { project, rhaiway }
}

impl Handling {
    fn deliver(&self, id: &str, kind: &str) {
        let delivery = signed(id, clerk_event(kind, "user_1", 1));
        assert_eq!(self.rhaiway.deliver(&delivery).status, 200);
    }

    fn wait_for(&self, id: &str, state: &str) -> Value {
        eventually(&format!("{id} is {state}"), || {
            event(&self.project, id).filter(|event| event["state"] == state)
        })
    }
}

#[test]
fn rule_12_a_long_wait_for_a_limit_parks_the_job_and_the_others_go_on() {
    let refusal = answer("429 Slow Down", &[("retry-after", "15")], b"");
    let upstream = Upstream::start(move |number| match number {
        0 => vec![Step::Read, Step::Send(refusal.clone())],
        _ => answers(&json("{\"n\":1}")),
    });
    let handling = handling(&upstream.url(), PATIENT);
    handling.deliver("msg_1", "limited");
    let parked = handling.wait_for("msg_1", "parked");
    let reason = parked["jobs"][0]["error"].as_str().unwrap_or_default();
    assert!(reason.contains("x GET /thing: it has asked for a pause"), "{parked}");
    // While it waits: one that asks the same provider waits too and asks nothing, one that does not want to wait is told, one that asks nobody is done.
    handling.deliver("msg_2", "limited");
    handling.deliver("msg_3", "thrown");
    handling.deliver("msg_4", "other");
    handling.wait_for("msg_3", "done");
    handling.wait_for("msg_4", "done");
    handling.wait_for("msg_2", "parked");
    let thrown = handling.rhaiway.get("/seen/thrown").json();
    assert_eq!(thrown["code"], "RATE_LIMIT_EXCEEDED");
    assert!(thrown["after"].as_u64().is_some_and(|after| (1..=15).contains(&after)), "{thrown}");
    let bare = handling.rhaiway.get("/x/bare");
    assert_eq!((bare.status, bare.code().as_str()), (429, "RATE_LIMIT_EXCEEDED"));
    assert!(bare.json()["retryAfter"].as_u64().is_some_and(|after| (1..=15).contains(&after)));
    assert_eq!(upstream.requests().len(), 1);
    assert_eq!(handling.rhaiway.get("/runs").text(), "0", "what the parked runs wrote is gone");

    for id in ["msg_1", "msg_2"] {
        let done = handling.wait_for(id, "done");
        let id = done["id"].as_str().expect("an id");
        assert_eq!(
            handling.rhaiway.get(&format!("/seen/{id}")).json()["attempt"],
            1,
            "no attempt is used"
        );
    }
    assert_eq!((upstream.requests().len(), handling.rhaiway.get("/runs").text()), (3, "2"));
}

#[test]
fn rule_12_an_open_breaker_parks_the_job_until_it_may_be_tried() {
    let upstream = Upstream::start(|number| match number {
        0 => vec![Step::Read, Step::Send(answer("500 Oops", &[], b""))],
        _ => answers(&json("{\"n\":1}")),
    });
    let more =
        format!("{PATIENT}\nbreaker = {{ min_calls = 1, failure_rate = 0.1, open_for = \"8s\" }}");
    let handling = handling(&upstream.url(), &more);
    failed(&get(&handling.rhaiway, "/x/get"), "SERVICE_UNAVAILABLE", "it answered 500");
    handling.deliver("msg_1", "limited");
    handling.wait_for("msg_1", "parked");
    assert_eq!(upstream.requests().len(), 1);
    handling.wait_for("msg_1", "done");
    assert_eq!(upstream.requests().len(), 2);
}

#[test]
fn rule_12_our_own_rate_parks_the_job_too() {
    let upstream = Upstream::always(answers(&json("{\"n\":1}")));
    let handling = handling(&upstream.url(), &format!("{PATIENT}\nrate_limit = \"6/min\""));
    // Ten seconds apart.
    for number in 0..20 {
        let told = get(&handling.rhaiway, "/x/get");
        if told["code"] != value!(null) {
            failed(&told, "RATE_LIMIT_EXCEEDED", "our own `rate_limit`");
            break;
        }
        assert!(number < 19, "the rate does not hold");
    }
    let before = upstream.requests().len();
    handling.deliver("msg_1", "limited");
    handling.wait_for("msg_1", "parked");
    assert_eq!(upstream.requests().len(), before);
    handling.wait_for("msg_1", "done");
}

#[test]
fn rule_12_a_long_pause_of_one_that_fails_parks_the_job_and_is_thrown_in_a_route() {
    let down = answer("503 Down", &[("retry-after", "15")], b"we are down");
    let upstream = Upstream::start(move |number| match number {
        0 => vec![Step::Read, Step::Send(down.clone())],
        _ => answers(&json("{\"n\":1}")),
    });
    let handling = handling(&upstream.url(), TWO_TRIES);
    handling.deliver("msg_1", "limited");
    handling.wait_for("msg_1", "parked");
    let told = get(&handling.rhaiway, "/x/get");
    failed(&told, "SERVICE_UNAVAILABLE", "it has asked for a pause");
    assert_eq!(upstream.requests().len(), 1);
    handling.wait_for("msg_1", "done");

    let down = Upstream::always(answers(&answer("503 Down", &[("retry-after", "30")], b"closed")));
    let (_project, rhaiway) = start(&[("x", &down.url(), TWO_TRIES)]);
    let (told, took) = timed(|| get(&rhaiway, "/x/get"));
    failed(&told, "SERVICE_UNAVAILABLE", "it answered 503: closed");
    assert_eq!((&told["status"], &told["retry_after"]), (&503.into(), &30.into()));
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(down.requests().len(), 1);
}

#[test]
fn rule_12_a_short_wait_for_a_limit_happens_in_place() {
    let refusal = answer("429 Slow Down", &[("retry-after", "1")], b"");
    let upstream = Upstream::start(move |number| match number {
        0 => [vec![Step::Read, Step::Send(refusal.clone())], answers(&json("{\"n\":1}"))].concat(),
        _ => answers(&json("{\"n\":1}")),
    });
    let handling = handling(&upstream.url(), TWO_TRIES);
    handling.deliver("msg_1", "limited");
    eventually("the first try is made", || (!upstream.requests().is_empty()).then_some(()));
    while event(&handling.project, "msg_1").is_none_or(|event| event["state"] != "done") {
        let state = event(&handling.project, "msg_1").map(|event| event["state"].clone());
        assert!(state != Some(value!("parked")), "it waits in place");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(upstream.requests().len(), 2);
}
