//! V1, V3, V4, V16, V17: connections that cannot be made, break, hang or were closed.

use std::net::TcpListener;
use std::time::Duration;

use super::{ONE_TRY, PATIENT, TWO_TRIES, answers, calling, failed, get, post, start, timed};
use crate::support::upstream::{Step, Unanswering, Upstream, json, of_length};

/// A port at which nobody listens.
fn closed() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn v1_who_cannot_be_reached_or_breaks_off_is_unavailable() {
    let on_connect = Upstream::always(vec![Step::Reset]);
    let after_request = Upstream::always(vec![Step::Read, Step::Reset]);
    let in_body =
        Upstream::always(vec![Step::Read, Step::Send(of_length(100, "{\"a\":")), Step::Reset]);
    let (_project, rhaiway) = start(&[
        ("unknown", "http://no-such-name.invalid", PATIENT),
        ("closed", &closed(), PATIENT),
        ("on_connect", &on_connect.url(), PATIENT),
        ("after_request", &after_request.url(), PATIENT),
        ("in_body", &in_body.url(), PATIENT),
    ]);
    let check = |name: &str, part: &str| {
        let told = post(&rhaiway, &format!("/{name}/post"));
        failed(&told, "SERVICE_UNAVAILABLE", part);
        assert!(told["message"].as_str().unwrap().starts_with(&format!("{name} POST /thing: ")));
        let bare = rhaiway.get(&format!("/{name}/bare"));
        assert_eq!((bare.status, bare.code().as_str()), (503, "SERVICE_UNAVAILABLE"));
    };
    check("unknown", "it cannot be reached: ");
    check("closed", "it cannot be reached: Connection refused");
    check("on_connect", "the connection broke: ");
    check("after_request", "the connection broke: ");
    check("in_body", "the connection broke: ");
}

#[test]
fn v1_only_what_may_be_done_twice_is_tried_again() {
    let broken = || Upstream::always(vec![Step::Read, Step::Reset]);
    let (of_get, of_post) = (broken(), broken());
    let (_project, rhaiway) =
        start(&[("a", &of_get.url(), TWO_TRIES), ("b", &of_post.url(), TWO_TRIES)]);
    failed(&get(&rhaiway, "/a/get"), "SERVICE_UNAVAILABLE", "the connection broke");
    assert!(of_get.requests().len() >= 2, "{}", of_get.requests().len());
    failed(&post(&rhaiway, "/b/post"), "SERVICE_UNAVAILABLE", "the connection broke");
    assert_eq!(of_post.requests().len(), 1);
}

#[test]
fn v1_a_connection_that_is_never_made_ends_at_the_connect_time_out() {
    let nobody = Unanswering::start();
    let url = format!("http://{}", nobody.address());
    let (_project, rhaiway) = start(&[("x", &url, PATIENT)]);
    let (told, took) = timed(|| get(&rhaiway, "/x/get"));
    failed(&told, "TIMEOUT", "it cannot be reached");
    assert!((10..30).contains(&took.as_secs()), "{took:?}");
}

#[test]
fn v3_a_call_that_hangs_ends_at_its_time_out_and_its_connection_is_not_used_again() {
    let hangs = |steps: Vec<Step>| {
        Upstream::start(move |number| match number {
            0 => [steps.clone(), vec![Step::Hang]].concat(),
            _ => answers(&json("{\"n\":1}")),
        })
    };
    let before_headers = hangs(vec![Step::Read]);
    let in_headers = hangs(vec![Step::Read, Step::Send(b"HTTP/1.1 200 OK\r\ncontent-le".to_vec())]);
    let in_body = hangs(vec![Step::Read, Step::Send(of_length(100, "{\"a\":"))]);
    let nobody = Unanswering::start();
    let silent = hangs(Vec::new());
    let (_project, rhaiway) = start(&[
        ("tcp", &format!("http://{}", nobody.address()), ONE_TRY),
        ("tls", &silent.url().replace("http:", "https:"), ONE_TRY),
        ("before_headers", &before_headers.url(), ONE_TRY),
        ("in_headers", &in_headers.url(), ONE_TRY),
        ("in_body", &in_body.url(), ONE_TRY),
    ]);
    for name in ["tcp", "tls", "before_headers", "in_headers", "in_body"] {
        let (told, took) = timed(|| get(&rhaiway, &format!("/{name}/get")));
        failed(&told, "TIMEOUT", "");
        assert!(took >= Duration::from_millis(500), "{name}: {took:?}");
        // The machine may be slow; ten times as long it is not.
        assert!(took < Duration::from_secs(5), "{name}: {took:?}");
    }
    for (name, upstream) in
        [("before_headers", before_headers), ("in_headers", in_headers), ("in_body", in_body)]
    {
        assert_eq!(get(&rhaiway, &format!("/{name}/get"))["got"]["n"], 1, "{name}");
        assert_eq!(upstream.connections(), 2, "{name}");
    }
}

#[test]
fn v4_a_body_that_drips_is_ended_by_the_time_for_all_of_it() {
    let dripping = Upstream::always(vec![
        Step::Read,
        Step::Send(of_length(1000, "{")),
        Step::Drip(vec![b' '; 999], Duration::from_millis(50)),
    ]);
    let (_project, rhaiway) = calling(&dripping, ONE_TRY);
    let (told, took) = timed(|| get(&rhaiway, "/x/get"));
    failed(&told, "TIMEOUT", "it did not answer within 500ms");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn v16_a_connection_closed_while_it_was_idle_is_replaced_for_what_may_be_done_twice() {
    // It answers once and closes when it is asked again, as a server does whose patience ends at that moment.
    let closing = || {
        Upstream::start(|number| match number {
            0 => vec![Step::Read, Step::Send(json("{\"n\":0}")), Step::Read],
            _ => answers(&json("{\"n\":1}")),
        })
    };
    let (of_get, of_post) = (closing(), closing());
    let (_project, rhaiway) =
        start(&[("a", &of_get.url(), PATIENT), ("b", &of_post.url(), PATIENT)]);
    assert_eq!(get(&rhaiway, "/a/get")["got"]["n"], 0);
    assert_eq!(get(&rhaiway, "/a/get")["got"]["n"], 1);
    assert_eq!((of_get.connections(), of_get.requests().len()), (2, 3));
    assert_eq!(get(&rhaiway, "/b/get")["got"]["n"], 0);
    failed(&post(&rhaiway, "/b/post"), "SERVICE_UNAVAILABLE", "the connection broke");
    assert_eq!((of_post.connections(), of_post.requests().len()), (1, 2));
}

#[test]
fn v17_what_comes_before_the_answer_is_passed_over_and_an_old_server_is_read_to_its_end() {
    let early = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
    let early =
        Upstream::always(vec![Step::Read, Step::Send([&early[..], &json("{\"n\":1}")].concat())]);
    let old = b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n{\"n\":2}".to_vec();
    let old = Upstream::always(vec![Step::Read, Step::Send(old)]);
    let (_project, rhaiway) = start(&[("a", &early.url(), PATIENT), ("b", &old.url(), PATIENT)]);
    assert_eq!(get(&rhaiway, "/a/get")["got"]["n"], 1);
    assert_eq!(get(&rhaiway, "/b/get")["got"]["n"], 2);
}
