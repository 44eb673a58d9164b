//! Senders that break HTTP, or only just keep to it: each is answered or cut, nothing that was not verified is stored, and the others are served
//! meanwhile.

use std::io::Write as _;
use std::net::Shutdown;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::support::{
    Connection, Project, Response, Rhaiway, SECRET, Signed, clerk_event, event, events, eventually,
    render, request, signed,
};

const WEBHOOK: &str = "/api/webhooks/clerk";

/// Routes that show what arrived, and a handler that keeps users.
const SCRIPT: &str = r#"
webhook("clerk", "*", |event| db.users.put(event.data.id, #{ name: event.data.first_name }));
get("/users/{id}", #{ auth: "none" }, |req| db.users.get(req.params.id) ?? status(404));
get("/echo/{text}", #{ auth: "none" }, |req| #{ text: req.params.text, path: req.path, ip: req.remote_ip, id: req.id });
post("/echo/{text}", #{ auth: "none" }, |req| req.text);
"#;

fn start() -> (Project, Rhaiway) {
    let project = Project::new(SCRIPT);
    let rhaiway = project.start();
    (project, rhaiway)
}

fn delivery(id: &str) -> Signed {
    signed(id, clerk_event("user.created", id, 1))
}

/// The head of a delivery, with its signature, up to the lines that say how long its body is.
fn head(delivery: &Signed) -> String {
    let mut head = format!("POST {WEBHOOK} HTTP/1.1\r\nhost: localhost\r\n");
    for (name, value) in delivery.headers() {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head
}

/// A signed delivery with other lines about its length.
fn framed(delivery: &Signed, lines: &str) -> Vec<u8> {
    [head(delivery).as_bytes(), lines.as_bytes(), b"\r\n", &delivery.body].concat()
}

fn chunked(body: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", body.len()).as_bytes(), body, b"\r\n0\r\n\r\n"].concat()
}

/// The answer to bytes on a connection of their own; `None` where it is closed without one.
fn answer(rhaiway: &Rhaiway, bytes: &[u8]) -> Option<Response> {
    let mut connection = Connection::open(rhaiway.address());
    // It may be cut before all is sent.
    _ = connection.send(bytes);
    connection.read().ok()
}

/// The status, and whether the connection is closed after it.
fn status(rhaiway: &Rhaiway, bytes: &[u8]) -> (Option<u16>, bool) {
    let mut connection = Connection::open(rhaiway.address());
    _ = connection.send(bytes);
    let status = connection.read().ok().map(|response| response.status);
    _ = connection.stream().shutdown(Shutdown::Write);
    (status, connection.is_closed())
}

/// That it still serves, and has stored nothing.
fn nothing_happened(project: &Project, rhaiway: &Rhaiway) {
    assert_eq!(rhaiway.get("/healthz").status, 200);
    assert_eq!(events(project), [] as [serde_json::Value; 0]);
}

#[test]
fn h1_heads_that_drip_and_connections_that_are_silent_are_closed_and_others_are_served() {
    let (project, rhaiway) = start();
    let address = rhaiway.address();
    let drip = thread::spawn(move || {
        let mut connection = Connection::open(address);
        let bytes = render("GET", &format!("/{}", "a".repeat(100)), &[], b"");
        let cut = bytes.chunks(1).any(|byte| {
            thread::sleep(Duration::from_millis(500));
            connection.send(byte).is_err()
        });
        assert!(cut, "it let somebody take 50 s for a head");
    });
    let mut silent: Vec<Connection> = (0..100).map(|_| Connection::open(address)).collect();
    let mut idle = Connection::open(address);
    idle.send(&render("GET", "/healthz", &[], b"")).unwrap();
    assert_eq!(idle.read().unwrap().status, 200);

    assert_eq!(rhaiway.deliver(&delivery("msg_1")).status, 200);
    for connection in &mut silent {
        assert!(connection.is_closed(), "a silent connection hears nothing before it is closed");
    }
    assert!(idle.is_closed());
    drip.join().unwrap();
    assert_eq!(events(&project).len(), 1);
}

#[test]
fn h2_a_body_that_drips_is_answered_408_and_no_event_is_stored() {
    let project = one_worker("read_timeout = \"500ms\"", SCRIPT);
    let rhaiway = project.start();
    let delivery = delivery("msg_1");
    let bytes = framed(&delivery, &format!("content-length: {}\r\n", delivery.body.len()));
    let body_at = bytes.len() - delivery.body.len();
    let mut connection = Connection::open(rhaiway.address());
    connection.send(&bytes[..body_at]).unwrap();
    let mut sender = connection.stream().try_clone().unwrap();
    let body = bytes[body_at..].to_vec();
    let drip = thread::spawn(move || {
        body.chunks(1)
            .take_while(|byte| {
                thread::sleep(Duration::from_millis(50));
                sender.write_all(byte).is_ok()
            })
            .count()
            < body.len()
    });
    let response = connection.read().unwrap();
    assert_eq!((response.status, response.code().as_str()), (408, "REQUEST_TIMEOUT"));
    assert_eq!(response.header("connection"), Some("close"));
    assert!(connection.is_closed());
    assert!(drip.join().unwrap(), "the sender was cut");
    nothing_happened(&project, &rhaiway);
}

#[test]
fn h3_a_sender_that_closes_its_half_is_answered() {
    let (_project, rhaiway) = start();
    let one = delivery("msg_1");
    for bytes in [
        render("POST", WEBHOOK, &one.headers(), &one.body),
        render("GET", "/echo/x", &[], b""),
        render("GET", "/healthz", &[], b""),
    ] {
        let mut connection = Connection::open(rhaiway.address());
        connection.send(&bytes).unwrap();
        connection.stream().shutdown(Shutdown::Write).unwrap();
        assert_eq!(connection.read().unwrap().status, 200);
        assert!(connection.is_closed());
    }
}

#[test]
fn h3_a_sender_that_closes_at_once_has_delivered_if_it_was_all_there() {
    let (project, rhaiway) = start();
    let (whole, half) = (delivery("msg_whole"), delivery("msg_half"));
    let bytes = render("POST", WEBHOOK, &half.headers(), &half.body);
    Connection::open(rhaiway.address()).send(&bytes[..bytes.len() - 1]).unwrap();
    let bytes = render("POST", WEBHOOK, &whole.headers(), &whole.body);
    Connection::open(rhaiway.address()).send(&bytes).unwrap();
    eventually("the whole one is stored", || event(&project, "msg_whole"));
    assert_eq!(event(&project, "msg_half"), None);
}

#[test]
fn h4_pipelined_requests_are_answered_in_their_order() {
    let (_project, rhaiway) = start();
    let mut connection = Connection::open(rhaiway.address());
    let all: Vec<u8> =
        (0..20).flat_map(|n| render("GET", &format!("/echo/{n}"), &[], b"")).collect();
    connection.send(&all).unwrap();
    for n in 0..20 {
        assert_eq!(connection.read().unwrap().json()["text"], n.to_string());
    }
}

#[test]
fn h5_a_length_that_is_told_twice_or_not_as_http_says_is_refused_and_closes() {
    let (project, rhaiway) = start();
    let delivery = delivery("msg_1");
    let length = delivery.body.len();
    let check = |lines: &str, expected: Option<u16>| {
        let bytes = framed(&delivery, lines);
        assert_eq!(status(&rhaiway, &bytes), (expected, true), "{lines}");
    };
    check(&format!("content-length: {length}\r\ncontent-length: {}\r\n", length - 1), Some(400));
    check(&format!("content-length: +{length}\r\n"), Some(400));
    check(&format!("content-length: 0x{length:x}\r\n"), Some(400));
    check("content-length: \r\n", Some(400));
    check("transfer-encoding: chunked, identity\r\n", Some(400));
    check("transfer-encoding: gzip\r\n", Some(400));
    check("transfer-encoding : chunked\r\n", Some(400));
    check(&format!("content-length : {length}\r\n"), Some(400));
    nothing_happened(&project, &rhaiway);
}

/// What hyper decides: the chunks are the body, and no second request is found behind it, so none can be smuggled.
#[test]
fn h5_where_both_lengths_are_told_the_chunks_count_and_the_connection_closes() {
    let (project, rhaiway) = start();
    let delivery = delivery("msg_1");
    let length = delivery.body.len();
    for lines in [
        format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n"),
        format!("transfer-encoding: chunked\r\ncontent-length: {length}\r\n"),
    ] {
        let smuggled = render("GET", "/healthz", &[], b"");
        let head = [head(&delivery).as_bytes(), lines.as_bytes(), b"\r\n"].concat();
        // Not signed: an empty body, and then what a length would have made part of it.
        let bytes = [head, b"0\r\n\r\n".to_vec(), smuggled].concat();
        assert_eq!(status(&rhaiway, &bytes), (Some(401), true), "{lines}");
    }
    nothing_happened(&project, &rhaiway);
}

#[test]
fn h6_a_head_with_bytes_that_have_no_place_there_is_refused_and_closes() {
    let (project, rhaiway) = start();
    let delivery = delivery("msg_1");
    let length = format!("content-length: {}\r\n", delivery.body.len());
    let check = |line: &str| {
        let bytes = framed(&delivery, &format!("{length}{line}\r\n"));
        assert_eq!(status(&rhaiway, &bytes), (Some(400), true), "{line:?}");
    };
    check("x-a: one\rtwo");
    check("x-a: one\0two");
    check("x-a: one\r\n two");
    check("x-a : one");
    check("x a: one");
    check(": one");
    check("no colon");
    nothing_happened(&project, &rhaiway);
}

/// What hyper decides: it takes a bare LF for the end of a line, as RFC 9112, section 2.2 allows. Nothing in front of it reads lines otherwise.
#[test]
fn h6_a_bare_line_feed_ends_a_line() {
    let (project, rhaiway) = start();
    let bytes = b"GET /healthz HTTP/1.1\nhost: localhost\n\n";
    assert_eq!(answer(&rhaiway, bytes).unwrap().status, 200);
    let bytes = format!("POST {WEBHOOK} HTTP/1.1\nhost: localhost\ncontent-length: 2\n\n{{}}");
    assert_eq!(answer(&rhaiway, bytes.as_bytes()).unwrap().status, 401);
    nothing_happened(&project, &rhaiway);
}

#[test]
fn h7_h8_chunks_that_are_none_store_nothing() {
    let (project, rhaiway) = start();
    let delivery = delivery("msg_1");
    let length = format!("{:x}", delivery.body.len());
    let check = |chunks: &[&[u8]]| {
        let head = format!("{}transfer-encoding: chunked\r\n\r\n", head(&delivery));
        let mut connection = Connection::open(rhaiway.address());
        _ = connection.send(&[head.as_bytes(), &chunks.concat()].concat());
        _ = connection.stream().shutdown(Shutdown::Write);
        let status = connection.read().ok().map(|response| response.status);
        assert!(matches!(status, None | Some(400)), "{status:?}");
        assert!(connection.is_closed());
    };
    let body = delivery.body.as_slice();
    check(&[b"zz\r\n", body, b"\r\n0\r\n\r\n"]);
    check(&[b"-1\r\n", body, b"\r\n0\r\n\r\n"]);
    check(&[b"\r\n", body, b"\r\n0\r\n\r\n"]);
    check(&[b"fffffffffffffffff\r\n", body, b"\r\n0\r\n\r\n"]);
    check(&[length.as_bytes(), b"\r\n", body, b"\r\n"]);
    check(&[length.as_bytes(), b"\r\n", &body[1..], b"\r\n0\r\n\r\n"]);
    // H8: extensions of 1 MiB.
    check(&[length.as_bytes(), b";", &b"x".repeat(1 << 20), b"\r\n", body, b"\r\n0\r\n\r\n"]);
    nothing_happened(&project, &rhaiway);
}

#[test]
fn h9_a_trailer_is_no_header() {
    let (project, rhaiway) = start();
    let (unsigned, good) = (delivery("msg_1"), delivery("msg_2"));
    let chunks = |delivery: &Signed, trailer: &str| {
        let chunks = chunked(&delivery.body);
        [&chunks[..chunks.len() - 2], trailer.as_bytes(), b"\r\n"].concat()
    };
    let id_only = format!(
        "POST {WEBHOOK} HTTP/1.1\r\nhost: localhost\r\nsvix-id: {}\r\nsvix-timestamp: {}\r\ntransfer-encoding: chunked\r\n\r\n",
        unsigned.id, unsigned.timestamp
    );
    let trailer = format!("svix-signature: {}\r\n", unsigned.signature);
    let bytes = [id_only.into_bytes(), chunks(&unsigned, &trailer)].concat();
    assert_eq!(answer(&rhaiway, &bytes).unwrap().status, 401);

    let head = format!("{}transfer-encoding: chunked\r\n\r\n", head(&good));
    let bytes =
        [head.into_bytes(), chunks(&good, "svix-signature: v1,no\r\nx-more: 1\r\n")].concat();
    assert_eq!(answer(&rhaiway, &bytes).unwrap().status, 200);
    let stored = event(&project, "msg_2").unwrap();
    assert_eq!(stored["headers"]["svix-signature"], good.signature.as_str());
    assert_eq!(stored["headers"].get("x-more"), None);
    assert_eq!(event(&project, "msg_1"), None);
}

#[test]
fn h10_a_head_that_is_too_long_is_told_so() {
    let (_project, rhaiway) = start();
    let check = |bytes: &[u8], expected: u16| {
        let answered = answer(&rhaiway, bytes).map(|response| response.status);
        assert_eq!(answered, Some(expected));
    };
    check(&render("GET", "/healthz", &[("x-long", &"a".repeat(64 << 10))], b""), 431);
    check(&render("GET", "/healthz", &[("x-long", &"a".repeat(1 << 20))], b""), 431);
    let many: Vec<String> = (0..200).map(|n| format!("x-{n}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "1")).collect();
    check(&render("GET", "/healthz", &many, b""), 431);
    check(&render("GET", &format!("/{}", "a".repeat(64 << 10)), &[], b""), 414);
    check(&render("GET", &format!("/healthz?{}", "a".repeat(17 << 10)), &[], b""), 414);
    check(&render("GET", "/healthz", &[("x-long", &"a".repeat(60 << 10))], b""), 200);
    check(&render("GET", &format!("/healthz?{}", "a".repeat(15 << 10)), &[], b""), 200);
}

/// Started with so many open files at most.
fn start_with_files(project: &Project, files: u32) -> Rhaiway {
    let mut command = Command::new("sh");
    let line = format!("ulimit -n {files} && exec \"$0\" run");
    command.args(["-c", &line, env!("CARGO_BIN_EXE_rhaiway")]);
    command.current_dir(project.path()).stdin(Stdio::null());
    command.env_remove("RUST_LOG").env("CLERK_WEBHOOK_SECRET", SECRET);
    project.start_as(command)
}

/// With one worker, and more lines in `[server]`.
fn one_worker(more: &str, script: &str) -> Project {
    let config = format!(
        "[webhooks.clerk]\npath = \"{WEBHOOK}\"\nscheme = \"svix\"\nsecret_env = \"CLERK_WEBHOOK_SECRET\"\n\
         [server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n{more}\n"
    );
    Project::with_config(&config, script)
}

#[test]
fn h11_connections_past_the_limit_are_told_so_and_it_recovers() {
    let project = one_worker("", SCRIPT);
    // 128 of them are kept for everything else.
    let rhaiway = start_with_files(&project, 128 + 40);
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..100 {
        let mut connection = Connection::open(rhaiway.address());
        // Only who is refused hears something before it asks.
        connection.stream().set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        if held.len() < 30 {
            connection.send(&render("GET", "/healthz", &[], b"")).unwrap();
            assert_eq!(connection.read().unwrap().status, 200);
            held.push(connection);
            continue;
        }
        let Ok(response) = connection.read() else {
            held.push(connection);
            assert!(held.len() <= 40, "more are accepted than the limit allows");
            continue;
        };
        refused += 1;
        assert_eq!((response.status, response.code().as_str()), (503, "SERVICE_UNAVAILABLE"));
        assert!(response.header("retry-after").is_some());
        assert!(response.header("x-request-id").unwrap().starts_with("req_"));
        assert!(connection.is_closed());
    }
    assert!(refused >= 60, "{refused} were refused, {} are held", held.len());
    drop(held);
    eventually("it serves again", || {
        let mut connection = Connection::open(rhaiway.address());
        connection.send(&render("GET", "/healthz", &[], b"")).ok()?;
        (connection.read().ok()?.status == 200).then_some(())
    });
}

#[test]
fn h11_accepting_survives_that_no_file_descriptor_is_left() {
    let project = one_worker("", SCRIPT);
    let rhaiway = start_with_files(&project, 40);
    let held: Vec<Connection> = (0..100).map(|_| Connection::open(rhaiway.address())).collect();
    rhaiway.wait_for_log("no connection can be accepted for now");
    drop(held);
    eventually("it serves again", || {
        let mut connection = Connection::open(rhaiway.address());
        connection.send(&render("GET", "/healthz", &[], b"")).ok()?;
        (connection.read().ok()?.status == 200).then_some(())
    });
}

#[test]
fn h12_a_body_is_asked_for_only_when_it_will_be_read() {
    let (project, rhaiway) = start();
    let one = delivery("msg_1");
    let mut connection = Connection::open(rhaiway.address());
    let bytes =
        framed(&one, &format!("content-length: {}\r\nexpect: 100-continue\r\n", one.body.len()));
    let (head, body) = bytes.split_at(bytes.len() - one.body.len());
    connection.send(head).unwrap();
    assert_eq!(connection.read().unwrap().status, 100);
    connection.send(body).unwrap();
    assert_eq!(connection.read().unwrap().status, 200);
    assert!(event(&project, "msg_1").is_some());

    let check = |path: &str, lines: &str, expected: (u16, &str)| {
        let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\n{lines}\r\n");
        let response = answer(&rhaiway, head.as_bytes()).unwrap();
        assert_eq!((response.status, response.code().as_str()), expected, "{lines}");
    };
    let large = "content-length: 99999999\r\nexpect: 100-continue\r\n";
    check(WEBHOOK, large, (413, "PAYLOAD_TOO_LARGE"));
    check("/nowhere", large, (404, "NOT_FOUND"));
    check(WEBHOOK, "content-length: 2\r\nexpect: cookies\r\n", (417, "EXPECTATION_FAILED"));
}

#[test]
fn h13_other_forms_of_a_target_choose_by_their_path_or_are_refused() {
    let (_project, rhaiway) = start();
    let check = |line: &str, expected: u16| {
        let bytes = format!("{line}\r\nhost: localhost\r\n\r\n");
        let response = answer(&rhaiway, bytes.as_bytes());
        assert_eq!(response.map(|response| response.status), Some(expected), "{line}");
    };
    check("GET http://evil.example.com/healthz HTTP/1.1", 200);
    check("GET http://evil.example.com/nowhere HTTP/1.1", 404);
    check("GET http://evil.example.com HTTP/1.1", 404);
    check("OPTIONS * HTTP/1.1", 200);
    check("GET * HTTP/1.1", 400);
    check("CONNECT example.com:443 HTTP/1.1", 405);
    check("GET example.com:80 HTTP/1.1", 400);
    check("GET healthz HTTP/1.1", 400);
}

#[test]
fn h14_a_path_is_percent_decoded_once_and_nothing_else_is_done_to_it() {
    let (_project, rhaiway) = start();
    let check = |path: &str, expected: u16| {
        assert_eq!(request(rhaiway.address(), "POST", path, &[], b"{}").status, expected, "{path}")
    };
    check("/api/webhooks/clerk", 401);
    check("/api/%77ebhooks/clerk", 401);
    check("/api/webhooks/clerk?x=1", 401);
    check("//api/webhooks/clerk", 404);
    check("/x/../api/webhooks/clerk", 404);
    check("/x/%2e%2e/api/webhooks/clerk", 404);
    check("/api/webhooks/clerk/", 404);
    check("/API/webhooks/clerk", 404);
    check("/api/%2577ebhooks/clerk", 404);
    check("/api%2Fwebhooks/clerk", 404);
    check("/api/webhooks/clerk%00", 404);
    check("/api/webhooks/clerk%ff", 404);
    check("/api/webhooks/clerk%zz", 404);
    assert_eq!(rhaiway.get("/%68ealthz").status, 200);
}

#[test]
fn h15_an_encoded_slash_stays_in_its_segment() {
    let (_project, rhaiway) = start();
    let check = |path: &str, expected: Option<&str>| {
        let response = rhaiway.get(path);
        let text = (response.status == 200).then(|| response.json()["text"].clone());
        assert_eq!(text, expected.map(Into::into), "{path}");
    };
    check("/echo/a%2Fb", Some("a/b"));
    check("/echo/a%2fb%20%C3%A4", Some("a/b ä"));
    check("/echo/a/b", None);
    check("/echo%2Fa", None);
}

#[test]
fn h16_two_signature_headers_are_no_signature() {
    let (project, rhaiway) = start();
    let delivery = delivery("msg_1");
    for second in [delivery.signature.as_str(), "v1,bm8="] {
        let mut headers = delivery.headers();
        headers.push(("svix-signature", second));
        let response = rhaiway.post(WEBHOOK, &headers, &delivery.body);
        assert_eq!((response.status, response.code().as_str()), (401, "INVALID_SIGNATURE"));
    }
    nothing_happened(&project, &rhaiway);
}

#[test]
fn h17_one_host_is_needed_and_what_must_be_one_is_not_two() {
    let (_project, rhaiway) = start();
    let check = |head: &str, expected: (u16, bool)| {
        let response = answer(&rhaiway, format!("{head}\r\n\r\n").as_bytes()).unwrap();
        let closes = response.header("connection") == Some("close")
            || response.header("connection").is_none() && head.contains("HTTP/1.0");
        assert_eq!((response.status, closes), expected, "{head}");
        assert!(response.header("x-request-id").is_some());
    };
    check("GET /healthz HTTP/1.1", (400, false));
    check("GET /healthz HTTP/1.0", (200, true));
    check("GET /healthz HTTP/1.1\r\nhost: a\r\nhost: a", (400, false));
    for name in ["authorization", "content-type"] {
        let lines = format!("{name}: a\r\n{name}: b");
        check(&format!("GET /healthz HTTP/1.1\r\nhost: a\r\n{lines}"), (400, false));
    }
    let mut connection = Connection::open(rhaiway.address());
    connection.send(b"GET /healthz HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(connection.read().unwrap().status, 200);
    assert!(connection.is_closed());
}

#[test]
fn h18_a_signature_header_without_bounds_is_refused() {
    let (project, rhaiway) = start();
    let delivery = delivery("msg_1");
    let check = |signature: &[u8], expected: u16| {
        let head = head(&delivery).replace(&delivery.signature, "\u{1}");
        let (before, after) = head.split_once('\u{1}').unwrap();
        let length = format!("content-length: {}\r\n\r\n", delivery.body.len());
        let parts =
            [before.as_bytes(), signature, after.as_bytes(), length.as_bytes(), &delivery.body];
        let answered = answer(&rhaiway, &parts.concat()).map(|response| response.status);
        assert_eq!(answered, Some(expected));
    };
    check(&b"v1,".repeat(20_000), 401);
    check(&b"v1,bm8= ".repeat(7_500), 401);
    check(&b"v1,bm8=,".repeat(7_500), 401);
    check("v1,ä".as_bytes(), 401);
    check(b"v1,\xff\xfe", 401);
    check(&b"v1,bm8= ".repeat(10_000), 431);
    nothing_happened(&project, &rhaiway);
}

#[test]
fn h19_headers_that_a_script_must_not_set_are_its_error_and_are_not_sent() {
    let project = Project::new(
        r#"
        fn named(name) { let headers = #{}; headers[name] = "canary"; headers }
        get("/header/{name}", #{ auth: "none" }, |req| response(#{ headers: named(req.params.name), body: "canary" }));
        get("/value", #{ auth: "none" }, |req| response(#{ headers: #{ "x-value": req.query.value }, body: "canary" }));
        get("/redirect", #{ auth: "none" }, |req| redirect(req.query.to));
        "#,
    );
    let rhaiway = project.start();
    let refused = |path: &str| {
        let response = rhaiway.get(path);
        assert_eq!((response.status, response.code().as_str()), (500, "SCRIPT_ERROR"), "{path}");
        assert!(!response.text().contains("canary"));
        assert!(response.headers.iter().all(|(_, value)| !value.contains("canary")), "{path}");
    };
    for name in [
        "a%20b",
        "a%0D%0Ab",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "x-request-id",
        "%C3%A4",
    ] {
        refused(&format!("/header/{name}"));
    }
    for value in ["a%0D%0Ax-evil:%20canary", "a%0Ab", "a%00b", "%0D", "%C3%A4"] {
        refused(&format!("/value?value={value}"));
    }
    for to in
        ["//evil.example.com", "javascript:alert(1)", "/a%0D%0Ax:%20y", "ftp://x", "%5C%5Cevil", ""]
    {
        refused(&format!("/redirect?to={to}"));
    }
    assert_eq!(rhaiway.get("/header/x-plain").header("x-plain"), Some("canary"));
    let to = rhaiway.get("/redirect?to=https%3A%2F%2Fexample.com%2Fa");
    assert_eq!((to.status, to.header("location")), (302, Some("https://example.com/a")));
}

/// With what `[cors]` says.
fn start_with_cors(cors: &str) -> (Project, Rhaiway) {
    let project = one_worker(
        &format!("[cors]\n{cors}"),
        r#"
        get("/open", #{ auth: "none" }, |req| "open");
        post("/open", #{ auth: "none", cors: false }, |req| "posted");
        get("/fails", #{ auth: "none" }, |req| throw "no");
        "#,
    );
    let rhaiway = project.start();
    (project, rhaiway)
}

#[test]
fn h20_only_allowed_origins_may_read_an_answer() {
    let (_project, rhaiway) = start_with_cors(
        "origins = [\"https://app.example.com\"]\nmethods = [\"GET\", \"POST\"]\nheaders = [\"content-type\"]\ncredentials = true",
    );
    let ask = |method: &str, path: &str, origin: Option<&str>, asked: Option<&str>| {
        let mut headers: Vec<(&str, &str)> = Vec::new();
        headers.extend(origin.map(|origin| ("origin", origin)));
        headers.extend(asked.map(|method| ("access-control-request-method", method)));
        request(rhaiway.address(), method, path, &headers, b"")
    };
    let allowed =
        |response: &Response| response.header("access-control-allow-origin").map(str::to_owned);
    let ours = "https://app.example.com";
    let preflight = ask("OPTIONS", "/open", Some(ours), Some("GET"));
    assert_eq!((preflight.status, allowed(&preflight).as_deref()), (204, Some(ours)));
    assert_eq!(preflight.header("vary"), Some("Origin"));
    assert_eq!(preflight.header("access-control-allow-methods"), Some("GET, POST"));
    assert_eq!(preflight.header("access-control-allow-headers"), Some("content-type"));
    assert_eq!(preflight.header("access-control-allow-credentials"), Some("true"));

    for origin in [
        Some("https://evil.example.com"),
        Some("null"),
        Some("https://app.example.com.evil.com"),
        None,
    ] {
        let preflight = ask("OPTIONS", "/open", origin, Some("GET"));
        assert_eq!((preflight.status, allowed(&preflight)), (204, None), "{origin:?}");
        assert_eq!(preflight.header("vary"), Some("Origin"), "{origin:?}");
        assert_eq!(preflight.header("access-control-allow-methods"), None, "{origin:?}");
        let response = ask("GET", "/open", origin, None);
        assert_eq!((response.status, allowed(&response)), (200, None), "{origin:?}");
        assert_eq!(response.header("vary"), Some("Origin"), "{origin:?}");
    }
    let response = ask("GET", "/open", Some(ours), None);
    assert_eq!((response.text(), allowed(&response).as_deref()), ("open", Some(ours)));
    let failed = ask("GET", "/fails", Some(ours), None);
    assert_eq!((failed.status, allowed(&failed).as_deref()), (500, Some(ours)));
    // This one says `cors: false`.
    assert_eq!(allowed(&ask("OPTIONS", "/open", Some(ours), Some("POST"))), None);
    assert_eq!(allowed(&ask("POST", "/open", Some(ours), None)), None);
}

#[test]
fn h20_a_star_is_said_only_without_credentials_and_nothing_where_nothing_is_configured() {
    let (_project, rhaiway) =
        start_with_cors("origins = [\"*\"]\nmethods = [\"GET\"]\nheaders = []");
    let headers = [("origin", "https://any.example.com")];
    let response = request(rhaiway.address(), "GET", "/open", &headers, b"");
    assert_eq!(response.header("access-control-allow-origin"), Some("*"));
    assert_eq!(response.header("access-control-allow-credentials"), None);

    let (_project, rhaiway) = start();
    let preflight = request(rhaiway.address(), "OPTIONS", "/echo/x", &headers, b"");
    assert_eq!(
        (preflight.status, preflight.header("allow")),
        (204, Some("GET, HEAD, POST, OPTIONS"))
    );
    assert_eq!(preflight.header("access-control-allow-origin"), None);
    assert_eq!(preflight.header("vary"), None);
}

#[test]
fn h21_methods_that_are_not_served_are_refused_with_those_that_are() {
    let (_project, rhaiway) = start();
    let check = |method: &str, path: &str, expected: u16, allow: Option<&str>| {
        let response = request(rhaiway.address(), method, path, &[], b"");
        assert_eq!(
            (response.status, response.header("allow")),
            (expected, allow),
            "{method} {path}"
        );
    };
    check("BREW", WEBHOOK, 405, Some("POST"));
    check("post", WEBHOOK, 405, Some("POST"));
    check("GET", WEBHOOK, 405, Some("POST"));
    check("HEAD", WEBHOOK, 405, Some("POST"));
    check("OPTIONS", WEBHOOK, 405, Some("POST"));
    check("PUT", "/echo/x", 405, Some("GET, HEAD, POST, OPTIONS"));
    check("get", "/echo/x", 405, Some("GET, HEAD, POST, OPTIONS"));
    check("TRACE", "/users/1", 405, Some("GET, HEAD, OPTIONS"));
    check("POST", "/healthz", 405, Some("GET, HEAD"));
    check("BREW", "/nowhere", 404, None);
    check(&"A".repeat(1024), WEBHOOK, 400, None);

    let get = request(rhaiway.address(), "GET", "/echo/x", &[("x-request-id", "same")], b"");
    let head = request(rhaiway.address(), "HEAD", "/echo/x", &[("x-request-id", "same")], b"");
    let plain = |response: &Response| {
        let headers = response.headers.iter().filter(|(name, _)| name != "date");
        headers.cloned().collect::<Vec<_>>()
    };
    assert_eq!(plain(&get), plain(&head));
    // A body would be taken for the next answer here.
    let mut connection = Connection::open(rhaiway.address());
    let twice = [render("HEAD", "/echo/x", &[], b""), render("GET", "/echo/x", &[], b"")].concat();
    connection.send(&twice).unwrap();
    assert_eq!(connection.read_answer_to("HEAD").unwrap().status, 200);
    assert_eq!(connection.read().unwrap().json()["text"], "x");
}

#[test]
fn h22_an_id_of_the_client_is_kept_only_where_it_is_plain() {
    let (_project, rhaiway) = start();
    let check = |id: &[u8], kept: bool| {
        let head = b"GET /echo/x HTTP/1.1\r\nhost: localhost\r\nx-request-id: ";
        let response = answer(&rhaiway, &[head, id, b"\r\n\r\n"].concat()).unwrap();
        let answered = response.header("x-request-id").unwrap();
        assert_eq!(answered.as_bytes() == id, kept, "{answered}");
        assert!(kept || answered.starts_with("req_"), "{answered}");
        assert_eq!(response.json()["id"], answered);
    };
    check(b"abc-1_2.3", true);
    check(&[b'a'; 128], true);
    check(&[b'a'; 129], false);
    check(&[b'a'; 10 << 10], false);
    check(b"", false);
    check(b"[31m", false);
    check(b"a b", false);
    check("ä".as_bytes(), false);
    // What no header may hold is refused before it is looked at.
    let escape = b"GET /echo/x HTTP/1.1\r\nhost: localhost\r\nx-request-id: \x1b[31m\r\n\r\n";
    assert_eq!(status(&rhaiway, escape), (Some(400), true));
}

#[test]
fn h23_forwarded_addresses_are_believed_from_trusted_proxies_only() {
    let (_project, rhaiway) = start();
    let project = one_worker("trusted_proxies = [\"127.0.0.1/32\", \"10.0.0.0/8\"]", SCRIPT);
    let trusting = project.start();
    let ip = |rhaiway: &Rhaiway, forwarded: &str| {
        let headers = [("x-forwarded-for", forwarded)];
        let response = request(rhaiway.address(), "GET", "/echo/x", &headers, b"");
        response.json()["ip"].as_str().unwrap().to_owned()
    };
    let many = "203.0.113.1, ".repeat(1000) + "203.0.113.9, 10.0.0.1";
    for forwarded in ["203.0.113.9", "garbage", &many] {
        assert_eq!(ip(&rhaiway, forwarded), "127.0.0.1");
    }
    assert_eq!(ip(&trusting, "203.0.113.9"), "203.0.113.9");
    assert_eq!(ip(&trusting, "6.6.6.6, 203.0.113.9, 10.0.0.7"), "203.0.113.9");
    assert_eq!(ip(&trusting, &many), "203.0.113.9");
    assert_eq!(ip(&trusting, "garbage"), "127.0.0.1");
    assert_eq!(ip(&trusting, "6.6.6.6, garbage, 10.0.0.7"), "10.0.0.7");
    assert_eq!(ip(&trusting, ""), "127.0.0.1");
}

/// A route that says when it begins and takes its time; a job that does the same.
const SLOW: &str = r#"
webhook("clerk", "*", |event| { sleep("500ms"); db.users.put(event.data.id, #{}); });
get("/slow", #{ auth: "none" }, |req| { log.info("slow began"); sleep(req.query.wait); db.done.put(req.id, #{}); "slow" });
get("/users/{id}", #{ auth: "none" }, |req| db.users.get(req.params.id) ?? status(404));
get("/done/{id}", #{ auth: "none" }, |req| db.done.get(req.params.id) ?? status(404));
"#;

fn began(rhaiway: &Rhaiway, count: usize) {
    eventually("the slow runs began", || {
        let lines = rhaiway.log().iter().filter(|line| line.contains("slow began")).count();
        (lines >= count).then_some(())
    });
}

#[test]
fn h28_a_stop_lets_what_runs_end_begins_nothing_and_says_that_it_is_not_ready() {
    let project = Project::new(SLOW);
    let rhaiway = project.start();
    let mut running: Vec<Connection> = (0..100)
        .map(|n| {
            let mut connection = Connection::open(rhaiway.address());
            let id = format!("r{n}");
            connection
                .send(&render("GET", "/slow?wait=3s", &[("x-request-id", &id)], b""))
                .unwrap();
            connection
        })
        .collect();
    began(&rhaiway, 100);
    let mut idle = Connection::open(rhaiway.address());
    idle.send(&render("GET", "/healthz", &[], b"")).unwrap();
    assert_eq!(idle.read().unwrap().status, 200);
    assert_eq!(rhaiway.deliver(&delivery("msg_1")).status, 200);

    rhaiway.signal("TERM");
    eventually("it says that it is not ready", || {
        (rhaiway.get("/readyz").status == 503).then_some(())
    });
    assert_eq!(rhaiway.get("/healthz").status, 200);
    assert!(idle.is_closed());
    let refused = rhaiway.deliver(&delivery("msg_2"));
    assert_eq!((refused.status, refused.code().as_str()), (503, "SERVICE_UNAVAILABLE"));
    assert!(refused.header("retry-after").is_some());
    assert_eq!(refused.header("connection"), Some("close"));

    for connection in &mut running {
        let response = connection.read().unwrap();
        assert_eq!((response.status, response.text()), (200, "slow"));
        assert_eq!(response.header("connection"), Some("close"));
    }
    assert_eq!(rhaiway.wait(), Some(0));

    let rhaiway = project.start();
    assert_eq!(rhaiway.get("/done/r0").status, 200);
    assert_eq!(rhaiway.get("/done/r99").status, 200);
    eventually("the accepted delivery is handled", || {
        (rhaiway.get("/users/msg_1").status == 200).then_some(())
    });
    assert_eq!(event(&project, "msg_2"), None);
}

#[test]
fn h28_what_takes_longer_than_the_grace_is_cut_and_commits_nothing() {
    let project = one_worker("shutdown_grace = \"300ms\"", SLOW);
    let rhaiway = project.start();
    let mut running = Connection::open(rhaiway.address());
    running.send(&render("GET", "/slow?wait=60s", &[("x-request-id", "r1")], b"")).unwrap();
    began(&rhaiway, 1);
    rhaiway.signal("TERM");
    assert!(running.is_closed());
    assert_eq!(rhaiway.wait(), Some(0));
    let rhaiway = project.start();
    assert_eq!(rhaiway.get("/done/r1").status, 404);
}

#[test]
fn h28_a_second_signal_ends_at_once() {
    let project = one_worker("", SLOW);
    let rhaiway = project.start();
    let mut running = Connection::open(rhaiway.address());
    running.send(&render("GET", "/slow?wait=60s", &[], b"")).unwrap();
    began(&rhaiway, 1);
    rhaiway.signal("TERM");
    rhaiway.wait_for_log("stopping");
    eventually("it drains", || (rhaiway.get("/readyz").status == 503).then_some(()));
    let asked = std::time::Instant::now();
    rhaiway.signal("TERM");
    assert_eq!(rhaiway.wait(), Some(1));
    assert!(asked.elapsed() < Duration::from_secs(15), "it waited for its grace of 20 s");
}

#[test]
fn h29_health_is_answered_while_every_worker_runs_a_script_at_its_budget() {
    let project = Project::with_config(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 2\n[scripts]\ncpu_budget = \"60s\"\ntimeout = \"60s\"\n",
        r#"get("/loop", #{ auth: "none" }, |req| { log.info("slow began"); loop {} });"#,
    );
    let rhaiway = project.start();
    let running: Vec<Connection> = (0..6)
        .map(|_| {
            let mut connection = Connection::open(rhaiway.address());
            connection.send(&render("GET", "/loop", &[], b"")).unwrap();
            connection
        })
        .collect();
    began(&rhaiway, 6);
    for _ in 0..10 {
        assert_eq!(rhaiway.get("/healthz").status, 200);
        assert_eq!(rhaiway.get("/readyz").status, 200);
    }
    for connection in running {
        // None has been answered: what was asked later was not kept waiting for it.
        connection.stream().set_nonblocking(true).unwrap();
        let seen = connection.stream().peek(&mut [0]).unwrap_err();
        assert_eq!(seen.kind(), std::io::ErrorKind::WouldBlock);
    }
    rhaiway.kill();
}
