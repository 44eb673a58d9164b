//! V24 to V26: server-sent events as they may come, read by a script.

use std::time::Duration;

use serde_json::{Value, json as value};

use super::{ONE_TRY, PATIENT, Table, config, failed, get};
use crate::support::Project;
use crate::support::Rhaiway;
use crate::support::upstream::{Step, Upstream, answer, chunk, chunked_head};

/// `/NAME` reads a stream of that provider to its end and tells what it has seen.
fn reading(upstreams: Vec<(&str, Upstream, &str)>) -> (Vec<Upstream>, Project, Rhaiway) {
    let urls: Vec<String> = upstreams.iter().map(|(_, upstream, _)| upstream.url()).collect();
    let tables: Vec<Table<'_>> =
        upstreams.iter().zip(&urls).map(|((name, _, more), url)| (*name, &**url, *more)).collect();
    let route = |(name, ..): &(&str, Upstream, &str)| {
        format!(
            "get(\"/{name}\", #{{ auth: \"none\" }}, |req| {{
                let seen = [];
                try {{
                    for chunk in {name}.get(\"/thing\", #{{ stream: true }}) {{ seen.push(chunk); }}
                }} catch (err) {{
                    return #{{ seen: seen, code: err.code, message: err.message }};
                }}
                #{{ seen: seen }}
            }});\n"
        )
    };
    let script: String = upstreams.iter().map(route).collect();
    let project = Project::with_config(&config(1, "development", &tables), &script);
    let rhaiway = project.start();
    let upstreams = upstreams.into_iter().map(|(_, upstream, _)| upstream).collect();
    (upstreams, project, rhaiway)
}

fn whole(events: &[u8]) -> Upstream {
    let headers = [("content-type", "text/event-stream")];
    Upstream::always(vec![Step::Read, Step::Send(answer("200 OK", &headers, events))])
}

/// Byte by byte: each is a read of its own.
fn dripped(events: &[u8]) -> Upstream {
    let headers = [("content-type", "text/event-stream")];
    let bytes = answer("200 OK", &headers, events);
    let head = bytes.len() - events.len();
    Upstream::always(vec![
        Step::Read,
        Step::Send(bytes[..head].to_vec()),
        Step::Drip(bytes[head..].to_vec(), Duration::from_millis(1)),
    ])
}

/// Then it goes on without an end.
fn open(events: &[u8], then: Step) -> Upstream {
    let head = [chunked_head("text/event-stream"), chunk(events)].concat();
    Upstream::always(vec![Step::Read, Step::Send(head), then])
}

#[test]
fn v24_every_form_that_the_standard_allows_is_read_however_it_is_cut() {
    let events = "\u{feff}: a comment\n\ndata: 1\n\ndata:2\r\n\r\ndata: 3\r\rid: 7\nretry: 10\nevent: named\ndata: \"é\"\n\ndata: [\ndata: 5\ndata: ]\n\nevent: without data\n\nunknown: field\ndata\n\ndata: 6\n\n";
    let expected = value!([1, 2, 3, "é", [5], "", 6]);
    let (_upstreams, _project, rhaiway) = reading(vec![
        ("whole", whole(events.as_bytes()), PATIENT),
        ("dripped", dripped(events.as_bytes()), PATIENT),
    ]);
    assert_eq!(get(&rhaiway, "/whole"), value!({ "seen": expected }));
    assert_eq!(get(&rhaiway, "/dripped"), value!({ "seen": expected }));
}

#[test]
fn v25_an_event_without_measure_and_a_cut_one_are_errors() {
    let cut_event = b"data: 1\n\ndata: {\"a\":";
    let cut_character = b"data: 1\n\ndata: \"\xc3";
    let broken = Upstream::always(vec![
        Step::Read,
        Step::Send([chunked_head("text/event-stream"), chunk(b"data: 1\n\n")].concat()),
        Step::Reset,
    ]);
    let large = open(b"data: 1\n\ndata: ", Step::Endless(chunk(&[b'x'; 4096])));
    let (_upstreams, _project, rhaiway) = reading(vec![
        ("cut_event", whole(cut_event), PATIENT),
        ("cut_character", whole(cut_character), PATIENT),
        ("broken", broken, PATIENT),
        ("large", large, PATIENT),
    ]);
    for (name, part) in [
        ("cut_event", "in the middle of an event"),
        ("cut_character", "in the middle of an event"),
        ("broken", "its stream broke off"),
        ("large", "more than 1 MiB"),
    ] {
        let told = get(&rhaiway, &format!("/{name}"));
        failed(&told, "SERVICE_UNAVAILABLE", part);
        assert_eq!(told["seen"], value!([1]), "{name}");
    }
}

#[test]
fn v26_where_a_stream_ends_and_what_in_it_is_not_for_scripts() {
    let row = |events: &str| whole(events.as_bytes());
    let (_upstreams, _project, rhaiway) = reading(vec![
        ("no_done", row("data: 1\n\n"), PATIENT),
        ("twice", row("data: 1\n\ndata: [DONE]\n\ndata: [DONE]\n\n"), PATIENT),
        ("after", row("data: 1\n\ndata: [DONE]\n\ndata: 2\n\n"), PATIENT),
        ("empty", row("data: {\"choices\":[]}\n\ndata: 1\n\ndata: [DONE]\n\n"), PATIENT),
        (
            "error",
            row("data: 1\n\ndata: {\"error\":{\"message\":\"overloaded\"}}\n\ndata: 2\n\n"),
            PATIENT,
        ),
        // It says that it is done, and leaves the connection open.
        ("open", open(b"data: 1\n\ndata: [DONE]\n\n", Step::Hang), PATIENT),
    ]);
    for name in ["no_done", "twice", "after", "empty", "open"] {
        assert_eq!(get(&rhaiway, &format!("/{name}")), value!({ "seen": [1] }), "{name}");
    }
    let told: Value = get(&rhaiway, "/error");
    failed(&told, "SERVICE_UNAVAILABLE", "overloaded");
    assert_eq!(told["seen"], value!([1]));
}

#[test]
fn v26_signs_of_life_give_a_stream_no_more_time_than_its_call_may_take() {
    let upstream = open(b"data: 1\n\n", Step::Endless(chunk(b": still here\n\n")));
    let url = upstream.url();
    let script = "get(\"/x\", #{ auth: \"none\" }, |req| {
        let seen = [];
        try {
            for chunk in x.get(\"/\", #{ stream: true, timeout: \"500ms\" }) { seen.push(chunk); }
        } catch (err) { return #{ seen: seen, code: err.code, message: err.message }; }
    });";
    let more = format!("{ONE_TRY}\nmax_response = \"1GiB\"");
    let project = Project::with_config(&config(1, "development", &[("x", &url, &more)]), script);
    let rhaiway = project.start();
    let told = get(&rhaiway, "/x");
    failed(&told, "TIMEOUT", "longer than the call may");
    assert_eq!(told["seen"], value!([1]));
}
