//! V5 to V9: bodies that are too short, too long, far too long, not what they say they are, or not there.

use std::fs;

use serde_json::json as value;

use super::{PATIENT, Table, answers, calling, failed, get, start};
use crate::support::Rhaiway;
use crate::support::upstream::{
    Step, Upstream, answer, chunk, chunked_head, gzip_of_zeros, json, of_length,
};

#[test]
fn v5_half_an_answer_is_never_a_result() {
    let short = Upstream::always(vec![Step::Read, Step::Send(of_length(100, "{\"whole\":1}"))]);
    let open = [chunked_head("application/json"), chunk(b"{\"whole\":1}")].concat();
    let open = Upstream::always(vec![Step::Read, Step::Send(open)]);
    let (_project, rhaiway) = start(&[("a", &short.url(), PATIENT), ("b", &open.url(), PATIENT)]);
    for path in ["/a/get", "/b/get"] {
        failed(&get(&rhaiway, path), "SERVICE_UNAVAILABLE", "the connection broke");
    }
}

#[test]
fn v6_bytes_behind_an_answer_are_never_the_next_one_s() {
    let behind = |more: Vec<u8>| {
        Upstream::start(move |number| match number {
            0 => {
                vec![Step::Read, Step::Send([json("{\"n\":0}"), more.clone()].concat()), Step::Hang]
            }
            _ => answers(&json("{\"n\":1}")),
        })
    };
    let longer = behind(b"{\"n\":9}".to_vec());
    let two = behind(json("{\"n\":9}"));
    let after_chunks = Upstream::start(|number| match number {
        0 => {
            let whole =
                [chunked_head("application/json"), chunk(b"{\"n\":0}"), chunk(b"")].concat();
            vec![Step::Read, Step::Send([whole, json("{\"n\":9}")].concat()), Step::Hang]
        }
        _ => answers(&json("{\"n\":1}")),
    });
    let upstreams = [("longer", longer), ("two", two), ("after_chunks", after_chunks)];
    let urls: Vec<String> = upstreams.iter().map(|(_, upstream)| upstream.url()).collect();
    let tables: Vec<Table<'_>> =
        upstreams.iter().zip(&urls).map(|((name, _), url)| (*name, &**url, PATIENT)).collect();
    let (_project, rhaiway) = start(&tables);
    for (name, upstream) in &upstreams {
        let path = format!("/{name}/get");
        assert_eq!(get(&rhaiway, &path)["got"]["n"], 0, "{name}");
        assert_eq!(get(&rhaiway, &path)["got"]["n"], 1, "{name}");
        assert_eq!(upstream.connections(), 2, "{name}");
    }
}

/// The most memory that the process has ever had.
fn peak_kib(rhaiway: &Rhaiway) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", rhaiway.pid())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

#[test]
fn v7_an_answer_without_measure_ends_at_the_limit_and_memory_stays_flat() {
    const LIMITED: &str = "retry = { max = 0 }\nmax_response = \"1MiB\"";
    let announced = of_length(100 << 20, "[");
    let announced =
        Upstream::always(vec![Step::Read, Step::Send(announced), Step::Endless(vec![b' '; 65536])]);
    let endless = Upstream::always(vec![
        Step::Read,
        Step::Send(chunked_head("application/json")),
        Step::Endless(chunk(&[b' '; 65536])),
    ]);
    let old = b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n".to_vec();
    let old = Upstream::always(vec![Step::Read, Step::Send(old), Step::Endless(vec![b' '; 65536])]);
    let headers = Upstream::always(vec![
        Step::Read,
        Step::Send(b"HTTP/1.1 200 OK\r\n".to_vec()),
        Step::Endless(b"x-more: and more\r\n".repeat(1000)),
    ]);
    let (_project, rhaiway) = start(&[
        ("announced", &announced.url(), LIMITED),
        ("endless", &endless.url(), LIMITED),
        ("old", &old.url(), LIMITED),
        ("headers", &headers.url(), LIMITED),
    ]);
    let before = peak_kib(&rhaiway);
    for _round in 0..5 {
        for name in ["announced", "endless", "old"] {
            let told = get(&rhaiway, &format!("/{name}/get"));
            failed(&told, "RESPONSE_TOO_LARGE", "more than 1MiB (`max_response`)");
            assert_eq!(told["status"], 200, "{name}");
        }
        failed(&get(&rhaiway, "/headers/get"), "SERVICE_UNAVAILABLE", "");
    }
    let grown = peak_kib(&rhaiway).saturating_sub(before);
    // A run's stack and an answer at its limit; one of these bodies alone would be 100 MiB.
    assert!(grown < 40 << 10, "{grown} KiB");
    let bare = rhaiway.get("/endless/bare");
    assert_eq!((bare.status, bare.code().as_str()), (500, "SCRIPT_ERROR"));
}

#[test]
fn v7_compression_is_not_asked_for_and_a_bomb_is_not_inflated() {
    let headers = [("content-type", "application/json"), ("content-encoding", "gzip")];
    let bomb = answer("200 OK", &headers, &gzip_of_zeros(100 << 20));
    let upstream = Upstream::always(answers(&bomb));
    let (_project, rhaiway) = calling(&upstream, PATIENT);
    let before = peak_kib(&rhaiway);
    failed(&get(&rhaiway, "/x/get"), "SERVICE_UNAVAILABLE", "its answer is compressed");
    assert!(peak_kib(&rhaiway).saturating_sub(before) < 20 << 10);
    assert_eq!(upstream.requests()[0].header("accept-encoding"), Some("identity"));
}

#[test]
fn v8_a_body_is_what_it_says_or_an_error_that_shows_its_beginning() {
    let of = |kind: &str, body: &[u8]| {
        Upstream::always(answers(&answer("200 OK", &[("content-type", kind)], body)))
    };
    let long = format!("{{\"a\": \"{}", "é".repeat(200));
    let rows = [
        ("broken", of("application/json", b"{\"a\":")),
        ("long", of("application/json", long.as_bytes())),
        ("page", of("application/json", b"<html>no</html>")),
        ("empty", of("application/json", b"")),
        ("html", of("text/html", b"<p>yes")),
        ("plain", of("text/plain", b"{\"a\":1}")),
        ("mark", of("application/json", b"\xef\xbb\xbf{\"a\":1}")),
    ];
    let urls: Vec<String> = rows.iter().map(|(_, upstream)| upstream.url()).collect();
    let tables: Vec<Table<'_>> =
        rows.iter().zip(&urls).map(|((name, _), url)| (*name, &**url, PATIENT)).collect();
    let (_project, rhaiway) = start(&tables);
    for (name, shown) in [
        ("broken", "its answer (200) is not JSON, though it says so: {\\\"a\\\":"),
        ("page", "its answer (200) is not JSON, though it says so: <html>no</html>"),
        ("long", "its answer (200) is not JSON"),
    ] {
        let told = get(&rhaiway, &format!("/{name}/get"));
        failed(&told, "SERVICE_UNAVAILABLE", shown);
        assert_eq!(told["status"], 200, "{name}");
        let message = told["message"].as_str().unwrap();
        assert!(message.len() < 400, "{} bytes", message.len());
    }
    let got = |name: &str| get(&rhaiway, &format!("/{name}/get"))["got"].clone();
    assert_eq!(got("empty"), value!(null));
    assert_eq!(got("html"), value!("<p>yes"));
    assert_eq!(got("plain"), value!("{\"a\":1}"));
    assert_eq!(got("mark"), value!({ "a": 1 }));
}

#[test]
fn v9_an_answer_without_content_is_nothing_whatever_comes_behind_it() {
    let bare = |status: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
            .into_bytes()
    };
    let upstream = Upstream::start(move |number| {
        let first = match number {
            0 => bare("204 No Content", ""),
            1 => bare("204 No Content", "{\"a\":1}"),
            2 => bare("304 Not Modified", ""),
            3 => bare("304 Not Modified", "{\"a\":1}"),
            _ => json("{\"n\":1}"),
        };
        vec![Step::Read, Step::Send(first)]
    });
    let (_project, rhaiway) = calling(&upstream, PATIENT);
    for _answer in 0..4 {
        assert_eq!(get(&rhaiway, "/x/get"), value!({ "got": null }));
    }
    assert_eq!(get(&rhaiway, "/x/get")["got"]["n"], 1);
}
