//! Payloads as senders send them, and as nobody should: correctly signed, so that all that is left to judge is what they hold. What is accepted
//! is stored byte for byte, and scripts see exactly the values that were sent.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::{
    Connection, Project, Response, Rhaiway, SECRET, Signed, event, events, eventually, request,
    signed,
};

const WEBHOOK: &str = "/api/webhooks/clerk";
const MIB: usize = 1 << 20;

/// Keeps what a handler sees of each delivery, by the delivery's id.
const SEEN: &str = r#"
webhook("clerk", "*", |event| db.seen.put(event.headers["svix-id"], #{
    type: event.type, data: event.data, payload: event.payload, text: event.text, data_is: type_of(event.data),
}));
get("/seen/{id}", #{ auth: "none" }, |req| db.seen.get(req.params.id) ?? status(404));
"#;

fn start() -> (Project, Rhaiway) {
    let project = Project::new(SEEN);
    let rhaiway = project.start();
    (project, rhaiway)
}

fn deliver(rhaiway: &Rhaiway, id: &str, body: impl Into<Vec<u8>>) -> Response {
    rhaiway.deliver(&signed_bytes(id, &body.into()))
}

fn refused(rhaiway: &Rhaiway, body: impl Into<Vec<u8>>) {
    let body = body.into();
    let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
    let response = deliver(rhaiway, "msg_refused", body);
    assert_eq!((response.status, response.code().as_str()), (400, "INVALID_PAYLOAD"), "{shown}");
}

/// Signed by hand: the svix crate signs text only.
fn signed_bytes(id: &str, body: &[u8]) -> Signed {
    let secret = SECRET.strip_prefix("whsec_").expect("its prefix");
    let key = STANDARD.decode(secret).expect("base64");
    let mut delivery = signed(id, "{}");
    let head = format!("{id}.{}.", delivery.timestamp);
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key);
    let signature = ring::hmac::sign(&key, &[head.as_bytes(), body].concat());
    delivery.signature = format!("v1,{}", STANDARD.encode(signature));
    delivery.body = body.to_vec();
    delivery
}

/// What the handler saw of an accepted delivery.
fn seen(rhaiway: &Rhaiway, id: &str, body: impl Into<Vec<u8>>) -> Value {
    let response = deliver(rhaiway, id, body);
    assert_eq!((response.status, response.text()), (200, r#"{"received":true}"#), "{id}");
    eventually(&format!("{id} was handled"), || {
        let response = rhaiway.get(&format!("/seen/{id}"));
        (response.status == 200).then(|| response.json())
    })
}

#[test]
fn p1_p2_what_is_nested_too_deep_is_refused() {
    let (project, rhaiway) = start();
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    refused(&rhaiway, "[".repeat(MIB));
    refused(&rhaiway, "{\"a\":".repeat(MIB / 5));
    refused(&rhaiway, nested(128));
    refused(&rhaiway, format!("{{\"data\":{}}}", nested(127)));
    assert_eq!(deliver(&rhaiway, "msg_127", nested(127)).status, 200);
    assert_eq!(events(&project).len(), 1);
    assert_eq!(event(&project, "msg_127").unwrap()["body"], nested(127));
}

#[test]
fn p3_a_payload_that_is_huge_as_values_is_stored_and_its_job_ends_at_the_memory_budget() {
    let more = "retry = { max = 0 }\n[scripts]\ncpu_budget = \"60s\"";
    let project = Project::with_more(more, SEEN);
    let rhaiway = project.start();
    let count = (MIB - 2) / 7;
    let body = format!("[{}]", vec!["{\"\":1}"; count].join(","));
    assert!(body.len() <= MIB);
    std::thread::scope(|scope| {
        for n in 0..6 {
            let (rhaiway, body) = (&rhaiway, &body);
            scope.spawn(move || {
                let response = deliver(rhaiway, &format!("msg_{n}"), body.as_str());
                assert_eq!(response.status, 200);
            });
        }
    });
    let dead = eventually("they are dead letters", || {
        let events = events(&project);
        events.iter().all(|event| event["state"] == "dead").then_some(events)
    });
    assert_eq!(dead.len(), 6);
    for event in dead {
        let error = event["error"].as_str().unwrap();
        assert!(error.contains("memory budget"), "{error}");
    }
    assert_eq!(event(&project, "msg_0").unwrap()["body"], body);
    assert_eq!(seen(&rhaiway, "msg_small", "{}")["type"], "");
}

#[test]
fn p4_many_keys_in_one_object_are_read() {
    let project = Project::with_more(
        "[scripts]\ncpu_budget = \"60s\"\nmemory_budget = \"256MiB\"",
        r#"
        webhook("clerk", "*", |event| db.seen.put("keys", #{ keys: event.data.len(), last: event.data.k89999 }));
        get("/seen/{id}", #{ auth: "none" }, |req| db.seen.get(req.params.id) ?? status(404));
        "#,
    );
    let rhaiway = project.start();
    let pairs: Vec<String> = (0..90_000).map(|n| format!("\"k{n}\":{}", n % 10)).collect();
    let body = format!("{{\"data\":{{{}}}}}", pairs.join(","));
    assert_eq!(deliver(&rhaiway, "msg_1", body).status, 200);
    let seen = eventually("it was handled", || {
        let response = rhaiway.get("/seen/keys");
        (response.status == 200).then(|| response.json())
    });
    assert_eq!((&seen["keys"], &seen["last"]), (&json!(90_000), &json!(9)));
}

#[test]
fn p5_of_a_name_that_comes_twice_the_last_counts_everywhere() {
    let (project, rhaiway) = start();
    let body = r#"{"type":"first","data":{"a":0},"type":"second","data":{"a":1,"a":2}}"#;
    let seen = seen(&rhaiway, "msg_1", body);
    assert_eq!((&seen["type"], &seen["data"]), (&json!("second"), &json!({ "a": 2 })));
    let stored = event(&project, "msg_1").unwrap();
    assert_eq!((&stored["type"], &stored["body"]), (&json!("second"), &json!(body)));
}

#[test]
fn p6_p8_numbers_keep_every_digit_and_the_stored_bytes_are_those_that_came() {
    let (project, rhaiway) = start();
    let check = |id: &str, number: &str, expected: &str| {
        let body = format!("{{\"data\": {{ \"n\":{number} }}}}\n");
        let response = deliver(&rhaiway, id, body.as_str());
        assert_eq!(response.status, 200, "{number}");
        let text = eventually("it was handled", || {
            let response = rhaiway.get(&format!("/seen/{id}"));
            (response.status == 200).then(|| response.text().to_owned())
        });
        let data = format!("\"data\":{{\"n\":{expected}}}");
        assert!(text.contains(&data), "{number}: {text}");
        assert_eq!(event(&project, id).unwrap()["body"], body);
    };
    check("msg_1", "18446744073709551615", "\"18446744073709551615\"");
    check("msg_2", "123456789012345678901234567890", "\"123456789012345678901234567890\"");
    check("msg_3", "-9223372036854775809", "\"-9223372036854775809\"");
    check("msg_4", "9223372036854775807", "9223372036854775807");
    check("msg_5", "-9223372036854775808", "-9223372036854775808");
    check("msg_6", "0.1", "0.1");
    check("msg_7", "1E2", "100.0");
    check("msg_8", "0", "0");
}

#[test]
fn p8_a_negative_zero_is_a_number() {
    let (project, rhaiway) = start();
    let seen = seen(&rhaiway, "msg_1", r#"{"data":-0}"#);
    assert_eq!(seen["data"].as_f64(), Some(0.0), "{seen}");
    assert_eq!(event(&project, "msg_1").unwrap()["body"], r#"{"data":-0}"#);
}

#[test]
fn p7_p9_p10_p13_what_is_not_json_is_refused() {
    let (project, rhaiway) = start();
    for body in [
        "1e400",
        "-1e400",
        "NaN",
        "Infinity",
        "-Infinity",
        "01",
        "+1",
        ".5",
        "1.",
        "[1,]",
        "{\"a\":1,}",
        "{'a':1}",
        "{a:1}",
        "[1 /* one */]",
        "[1] // one",
        "",
        " \r\n\t ",
        "{} {}",
        "{}x",
        "[1] 2",
        "tru",
        "\"a",
        "\"a\nb\"",
        "\"\\x41\"",
        "\"\\ud800\"",
        "\"\\udc00\\ud800\"",
        "\"\\ud83dx\"",
        "{\"a\"}",
        "[",
        "}",
        "\u{a0}1",
        "\u{feff}\u{feff}1",
    ] {
        refused(&rhaiway, body);
    }
    refused(&rhaiway, b"{\"a\":\"\xff\"}".as_slice());
    refused(&rhaiway, b"{\"a\":\"\xc3\"}".as_slice());
    refused(&rhaiway, b"\"\xed\xa0\x80\"".as_slice());
    refused(&rhaiway, b"\xff\xfe{\0}\0".as_slice());
    assert_eq!(events(&project), [] as [Value; 0]);
    let log = rhaiway.log().join("\n");
    assert!(log.contains("not JSON"), "{log}");
    assert!(!log.contains("/* one */"), "a log holds no payload: {log}");
}

#[test]
fn p11_a_byte_order_mark_is_passed_over_and_covered_by_the_signature() {
    let (project, rhaiway) = start();
    let body = "\u{feff}{\"type\":\"a\",\"data\":1}";
    let handled = seen(&rhaiway, "msg_1", body);
    assert_eq!((&handled["type"], &handled["data"]), (&json!("a"), &json!(1)));
    assert_eq!(event(&project, "msg_1").unwrap()["body"], body);
    let mut delivery = signed("msg_2", body);
    delivery.body.drain(..3);
    assert_eq!(rhaiway.deliver(&delivery).code(), "INVALID_SIGNATURE");
}

#[test]
fn p12_escaped_characters_reach_the_script_and_are_stored_as_they_came() {
    let (project, rhaiway) = start();
    let body = r#"{"data":"a\u0000b\ud83d\ude00\u00e4\/\u001b[31m"}"#;
    let seen = seen(&rhaiway, "msg_1", body);
    assert_eq!(seen["data"], "a\0b😀ä/\u{1b}[31m");
    assert_eq!(event(&project, "msg_1").unwrap()["body"], body);
    let id = events(&project)[0]["id"].as_str().unwrap().to_owned();
    let shown = project.run(&["events", &id]).stdout;
    assert!(!shown.contains(&0) && !shown.contains(&0x1b));
}

#[test]
fn p14_any_json_may_be_the_whole_payload() {
    let project = Project::with_config(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[webhooks.clerk]\npath = \"/hook/{id}\"\nscheme = \"none\"\n",
        r#"
        webhook("clerk", "*", |event| db.seen.put(event.params.id, #{ data: event.data }));
        get("/seen/{id}", #{ auth: "none" }, |req| db.seen.get(req.params.id) ?? status(404));
        "#,
    );
    let rhaiway = project.start();
    let signing = Project::new(SEEN);
    let signing = (signing.start(), signing);
    for (n, payload) in
        ["null", "1", "\"x\"", "[]", "[null]", "true", "{}", "{\"data\":1}"].iter().enumerate()
    {
        let response = rhaiway.post(&format!("/hook/{n}"), &[], payload.as_bytes());
        assert_eq!(response.status, 200, "{payload}");
        let data = eventually("it was handled", || {
            let response = rhaiway.get(&format!("/seen/{n}"));
            (response.status == 200).then(|| response.json()["data"].clone())
        });
        assert_eq!(data, serde_json::from_str::<Value>(payload).unwrap());
        // A scheme that names a part as the data finds nothing there.
        let seen = seen(&signing.0, &format!("msg_{n}"), *payload);
        assert_eq!(seen["payload"], data);
        assert_eq!(seen["data"], data.get("data").cloned().unwrap_or_default());
    }
}

#[test]
fn p15_a_type_is_text_however_it_came_and_matches_no_pattern_by_accident() {
    let project = Project::new(
        r#"
        webhook("clerk", ["user.created", "7", "user.*.x"], |event| db.seen.put(event.headers["svix-id"], #{ by: "named" }));
        get("/seen/{id}", #{ auth: "none" }, |req| db.seen.get(req.params.id) ?? status(404));
        "#,
    );
    let rhaiway = project.start();
    let check = |id: &str, kind: &str, stored: &str, handled: bool| {
        let response = deliver(&rhaiway, id, format!("{{{kind}}}"));
        assert_eq!(response.status, 200, "{kind}");
        let state = if handled { "done" } else { "ignored" };
        let event = eventually("it is settled", || {
            let event = event(&project, id)?;
            (event["state"] == state).then_some(event)
        });
        assert_eq!(event["type"], stored, "{kind}");
    };
    check("msg_1", r#""type":"user.created""#, "user.created", true);
    check("msg_2", r#""type":7"#, "7", true);
    check("msg_3", r#""type":"*""#, "*", false);
    check("msg_4", r#""type":"user.*""#, "user.*", false);
    check("msg_5", r#""type":null"#, "", false);
    check("msg_6", r#""type":["user.created"]"#, "", false);
    check("msg_7", r#""nothing":1"#, "", false);
    check("msg_8", r#""type":"a\nb\u001b[31m""#, "a\nb\u{1b}[31m", false);
    check("msg_9", r#""type":"user.created ""#, "user.created ", false);
    let long = "x".repeat(MIB - 100);
    assert_eq!(deliver(&rhaiway, "msg_long", format!("{{\"type\":\"{long}\"}}")).status, 200);
    let kind = event(&project, "msg_long").unwrap()["type"].as_str().unwrap().to_owned();
    assert!(kind.len() < 2048 && kind.ends_with('…'), "{}", kind.len());
    let table = project.run(&["events"]).stdout;
    assert!(!table.contains(&0x1b), "{}", String::from_utf8_lossy(&table));
}

#[test]
fn p16_a_delivery_id_comes_from_its_header_and_has_a_bound() {
    let (project, rhaiway) = start();
    let long = "x".repeat(10 << 10);
    let delivery = signed(&long, "{\"id\":\"ignored\"}");
    for _ in 0..2 {
        let status = rhaiway.deliver(&delivery).status;
        assert!(matches!(status, 200 | 401), "{status}");
    }
    assert!(events(&project).len() <= 1);
    for event in events(&project) {
        let id = event["delivery_id"].as_str().unwrap_or_default();
        assert!(id.len() <= 1024, "{}", id.len());
    }
    // A delivery without its id header cannot be signed.
    let delivery = signed("msg_1", "{}");
    let headers: Vec<_> =
        delivery.headers().into_iter().filter(|(name, _)| *name != "svix-id").collect();
    assert_eq!(rhaiway.post(WEBHOOK, &headers, b"{}").code(), "INVALID_SIGNATURE");
}

#[test]
fn p17_no_key_hides_a_method_and_every_key_can_be_read() {
    let project = Project::new(
        r#"
        webhook("clerk", "*", |event| {
            let data = event.data;
            db.seen.put("keys", #{
                first: data["default"], second: data["this"], constructor: data["constructor"], proto: data["__proto__"],
                length: data["length"], clone: data["clone"], len: data.len(), keys: data.keys().len(), has: data.contains("clone"),
            });
        });
        get("/seen/{id}", #{ auth: "none" }, |req| db.seen.get(req.params.id) ?? status(404));
        "#,
    );
    let rhaiway = project.start();
    let body = r#"{"data":{"default":1,"this":2,"constructor":3,"__proto__":4,"length":5,"clone":6,"keys":7,"len":8,"contains":9}}"#;
    assert_eq!(deliver(&rhaiway, "msg_1", body).status, 200);
    let seen = eventually("it was handled", || {
        let response = rhaiway.get("/seen/keys");
        (response.status == 200).then(|| response.json())
    });
    let expected = json!({
        "id": "keys", "first": 1, "second": 2, "constructor": 3, "proto": 4, "length": 5, "clone": 6, "len": 9, "keys": 9, "has": true,
    });
    assert_eq!(seen, expected);
}

#[test]
fn p18_a_body_that_is_encoded_is_not_read() {
    let (project, rhaiway) = start();
    let delivery = signed("msg_1", "{}");
    for coding in ["gzip", "br", "deflate", "identity, gzip"] {
        let mut headers = delivery.headers();
        headers.push(("content-encoding", coding));
        let response = rhaiway.post(WEBHOOK, &headers, &delivery.body);
        assert_eq!((response.status, response.code().as_str()), (415, "UNSUPPORTED_MEDIA_TYPE"));
    }
    let head = format!(
        "POST {WEBHOOK} HTTP/1.1\r\nhost: localhost\r\ncontent-encoding: gzip\r\ncontent-length: 10485760\r\n\r\n"
    );
    let mut connection = Connection::open(rhaiway.address());
    connection.send(head.as_bytes()).unwrap();
    assert_eq!(connection.read().unwrap().code(), "PAYLOAD_TOO_LARGE");
    assert_eq!(events(&project), [] as [Value; 0]);
}

#[test]
fn p19_json_is_judged_by_its_bytes_and_not_by_its_label() {
    let (_project, rhaiway) = start();
    for (n, label) in [
        None,
        Some("text/plain"),
        Some("application/json; charset=utf-16"),
        Some("application/x-www-form-urlencoded"),
        Some("image/png"),
    ]
    .into_iter()
    .enumerate()
    {
        let delivery = signed(&format!("msg_{n}"), "{\"data\":{\"a\":\"ä\"}}");
        let mut headers = delivery.headers();
        headers.retain(|(name, _)| *name != "content-type");
        headers.extend(label.map(|label| ("content-type", label)));
        assert_eq!(rhaiway.post(WEBHOOK, &headers, &delivery.body).status, 200, "{label:?}");
        let seen = eventually("it was handled", || {
            let response = rhaiway.get(&format!("/seen/msg_{n}"));
            (response.status == 200).then(|| response.json())
        });
        assert_eq!(seen["data"], json!({ "a": "ä" }), "{label:?}");
        let not_json = signed("msg_no", "a=1");
        let mut headers = not_json.headers();
        headers.retain(|(name, _)| *name != "content-type");
        headers.extend(label.map(|label| ("content-type", label)));
        assert_eq!(rhaiway.post(WEBHOOK, &headers, &not_json.body).code(), "INVALID_PAYLOAD");
    }
}

#[test]
fn p20_p21_a_body_may_have_max_body_bytes_and_not_one_more() {
    let (project, rhaiway) = start();
    let body = |length: usize| format!("\"{}\"", "a".repeat(length - 2));
    assert_eq!(deliver(&rhaiway, "msg_1", body(MIB)).status, 200);
    assert_eq!(event(&project, "msg_1").unwrap()["body"].as_str().unwrap().len(), MIB);
    let long = deliver(&rhaiway, "msg_2", body(MIB + 1));
    assert_eq!((long.status, long.code().as_str()), (413, "PAYLOAD_TOO_LARGE"));

    // Before it is all read: nothing of the body is sent here.
    for length in ["1048577", "10737418240", "9223372036854775807"] {
        let head = format!(
            "POST {WEBHOOK} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n"
        );
        let mut connection = Connection::open(rhaiway.address());
        connection.send(head.as_bytes()).unwrap();
        let response = connection.read().unwrap();
        assert_eq!(
            (response.status, response.header("connection")),
            (413, Some("close")),
            "{length}"
        );
        assert!(response.header("x-request-id").is_some());
        assert!(connection.is_closed());
    }
    // Chunks tell no length: it ends at the first byte too many.
    let head =
        format!("POST {WEBHOOK} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n");
    let mut connection = Connection::open(rhaiway.address());
    connection.send(head.as_bytes()).unwrap();
    let chunk = [b"10000\r\n", &[b'a'; 0x10000][..], b"\r\n"].concat();
    for _ in 0..16 {
        connection.send(&chunk).unwrap();
    }
    connection.send(b"1\r\na\r\n").unwrap();
    assert_eq!(connection.read().unwrap().code(), "PAYLOAD_TOO_LARGE");
    assert_eq!(events(&project).len(), 1);
}

#[test]
fn p20_a_webhook_has_its_own_max_body() {
    let project = Project::with_more("max_body = \"2KiB\"", SEEN);
    let rhaiway = project.start();
    assert_eq!(deliver(&rhaiway, "msg_1", "1".repeat(2048)).status, 200);
    assert_eq!(deliver(&rhaiway, "msg_2", "1".repeat(2049)).status, 413);
}

/// A sender whose bodies may be anything; nothing is verified here.
const ANY: &str = "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[webhooks.any]\npath = \"/any/{id}\"\nscheme = \"none\"\n";

#[test]
fn p22_forms_are_read_with_repeats_as_arrays_and_bad_escapes_refused() {
    let project = Project::with_config(
        ANY,
        r#"
        webhook("any", "*", |event| db.seen.put(event.params.id, #{ form: event.form, data: event.data }));
        get("/seen/{id}", #{ auth: "none" }, |req| db.seen.get(req.params.id) ?? status(404));
        "#,
    );
    let rhaiway = project.start();
    let form = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
    let post = |id: &str, body: &str| {
        request(rhaiway.address(), "POST", &format!("/any/{id}"), &form, body.as_bytes())
    };
    let check = |id: &str, body: &str, expected: Value| {
        assert_eq!(post(id, body).status, 200, "{body}");
        let seen = eventually("it was handled", || {
            let response = rhaiway.get(&format!("/seen/{id}"));
            (response.status == 200).then(|| response.json())
        });
        assert_eq!((&seen["form"], &seen["data"]), (&expected, &expected), "{body}");
    };
    check("1", "a=1&a=2", json!({ "a": ["1", "2"] }));
    check("2", "a=x+y&b=x%20y&c=%C3%A4", json!({ "a": "x y", "b": "x y", "c": "ä" }));
    check("3", "a&b=&=c", json!({ "a": "", "b": "", "": "c" }));
    check("4", "a=1&a=2&a=3", json!({ "a": ["1", "2", "3"] }));
    check("5", "", json!({}));
    for body in ["a=%zz", "a=%", "a=%2", "%=1"] {
        assert_eq!(post("no", body).code(), "INVALID_PAYLOAD", "{body}");
    }
    let pairs = vec!["a=1"; 100_000].join("&");
    assert_eq!(post("no", &pairs).code(), "INVALID_PAYLOAD");
    assert_eq!(rhaiway.get("/seen/no").status, 404);
}

#[test]
fn a_text_is_a_text_where_the_scheme_takes_any_payload() {
    let project = Project::with_config(
        ANY,
        r#"
        webhook("any", "*", |event| db.seen.put(event.params.id, #{ data: event.data, text: event.text, query: event.query }));
        get("/seen/{id}", #{ auth: "none" }, |req| db.seen.get(req.params.id) ?? status(404));
        "#,
    );
    let rhaiway = project.start();
    let text = [("content-type", "text/plain")];
    let response = request(rhaiway.address(), "POST", "/any/1?x=1&x=2", &text, b"{\"a\":1} {");
    assert_eq!(response.status, 200);
    let seen = eventually("it was handled", || {
        let response = rhaiway.get("/seen/1");
        (response.status == 200).then(|| response.json())
    });
    assert_eq!((&seen["data"], &seen["text"]), (&json!("{\"a\":1} {"), &json!("{\"a\":1} {")));
    let json = [("content-type", "application/json")];
    let response = request(rhaiway.address(), "POST", "/any/2", &json, b"{\"a\":1} {");
    assert_eq!(response.code(), "INVALID_PAYLOAD");
}
