//! V18, V19: calls that are tried again, and a provider that is left alone.

use serde_json::Value;

use super::{Table, answers, calling, failed, get, start_with};
use crate::support::upstream::{Step, Upstream, answer, json};
use crate::support::{Rhaiway, eventually};

const FAILS: &[u8] = b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n";

/// It opens after four calls that have failed.
fn four(open_for: &str) -> String {
    format!(
        "retry = {{ max = 0 }}\nbreaker = {{ min_calls = 4, failure_rate = 0.5, open_for = \"{open_for}\" }}"
    )
}

/// The lines of the log about its calls.
fn said(rhaiway: &Rhaiway, provider: &str) -> Vec<Value> {
    let lines = rhaiway.log();
    let lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["service"] == provider && line["method"] == "GET /thing").collect()
}

#[test]
fn v18_a_success_after_two_failures_is_one_call_with_three_tries() {
    let upstream = Upstream::always(vec![
        Step::Read,
        Step::Send(answer("500 Oops", &[], b"")),
        Step::Read,
        Step::Send(answer("502 Bad Gateway", &[], b"")),
        Step::Read,
        Step::Send(json("{\"n\":1}")),
    ]);
    let (project, rhaiway) = calling(&upstream, "retry = { max = 3, base = \"1ms\" }");
    assert_eq!(get(&rhaiway, "/x/get")["got"]["n"], 1);
    let lines = eventually("it is in the log", || {
        let lines = said(&rhaiway, "x");
        (!lines.is_empty()).then_some(lines)
    });
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!((&lines[0]["attempt"], &lines[0]["success"]), (&3.into(), &true.into()));
    project
        .write("scripts/health.rhai", "get(\"/health\", #{ auth: \"none\" }, |req| x.health());");
    let health = eventually("the route is there", || {
        Some(rhaiway.get("/health")).filter(|answer| answer.status == 200)
    });
    assert_eq!((&health.json()["calls"], &health.json()["success_rate"]), (&1.into(), &1.0.into()));
}

#[test]
fn v18_retries_stop_where_config_says() {
    let upstream = Upstream::always(answers(FAILS));
    let (_project, rhaiway) = calling(&upstream, "retry = { max = 2, base = \"1ms\" }");
    failed(&get(&rhaiway, "/x/get"), "SERVICE_UNAVAILABLE", "it answered 500");
    assert_eq!(upstream.requests().len(), 3);
}

#[test]
fn v18_v19_one_that_always_fails_is_left_alone_by_all_workers() {
    let upstream = Upstream::always(answers(FAILS));
    let settings = four("1h");
    let tables: [Table<'_>; 1] = [("x", &upstream.url(), &settings)];
    let (_project, rhaiway) = start_with(2, &tables, |_command| {});
    for _call in 0..4 {
        failed(&get(&rhaiway, "/x/get"), "SERVICE_UNAVAILABLE", "it answered 500");
    }
    rhaiway.wait_for_log("fails too often: no call goes out for 1h");
    for _call in 0..12 {
        let told = get(&rhaiway, "/x/get");
        failed(&told, "SERVICE_UNAVAILABLE", "it has failed too often just now");
        assert!(told["retry_after"].as_u64().is_some_and(|after| after > 3500), "{told}");
    }
    assert_eq!(upstream.requests().len(), 4);
    assert_eq!(rhaiway.get("/x/bare").status, 503);
}

#[test]
fn v18_after_its_pause_one_call_at_a_time_goes_through_until_two_have_succeeded() {
    // Four failures, then answers that take a while, so that a second one at the same time would be seen.
    let upstream = Upstream::start(|number| match number {
        0 => answers(FAILS).into_iter().take(8).collect(),
        _ => vec![Step::Read, Step::Drip(json("{\"n\":1}"), std::time::Duration::from_millis(4))],
    });
    let (_project, rhaiway) = calling(&upstream, &four("300ms"));
    for _call in 0..4 {
        failed(&get(&rhaiway, "/x/get"), "SERVICE_UNAVAILABLE", "it answered 500");
    }
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..3).map(|_| scope.spawn(|| get(&rhaiway, "/x/get"))).collect();
        eventually("the trial is under way", || (upstream.requests().len() > 4).then_some(()));
        assert_eq!(upstream.requests().len(), 5, "one at a time");
        for call in calls {
            let told = call.join().unwrap();
            assert_eq!(told["got"]["n"], 1, "{told}");
        }
    });
    assert_eq!(upstream.requests().len(), 7);
}
