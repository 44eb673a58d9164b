//! `stream(|out| …)`: what a script writes goes to the client as it is written, no faster than the client reads, and never looks whole where it is not.

use std::io::Read as _;

use serde_json::json;

use crate::support::{
    Connection, Project, Rhaiway, eventually, read_until, render, request, signed,
};

fn start(script: &str) -> (Project, Rhaiway) {
    let project = Project::new(script);
    let rhaiway = project.start();
    (project, rhaiway)
}

/// A connection that has asked for a path.
fn ask(rhaiway: &Rhaiway, path: &str) -> Connection {
    let mut connection = Connection::open(rhaiway.address());
    connection.send(&render("GET", path, &[], b"")).unwrap();
    connection
}

#[test]
fn a_stream_is_written_as_it_goes_and_says_what_it_is() {
    let (_project, rhaiway) = start(
        r#"
        get("/events", #{ auth: "none" }, |req| stream(|out| {
            out.event(#{ event: "first", data: #{ a: [1, ()] }, id: 7, retry: "2s" });
            out.event(#{ data: "two\nlines" });
        }));
        get("/text", #{ auth: "none" }, |req| stream(|out| { out.send("a"); out.send("b"); }));
        get("/bytes", #{ auth: "none" }, |req| stream(|out| out.send(blob(3, 7))));
        get("/csv", #{ auth: "none" }, |req| stream(#{ status: 201, content_type: "text/csv", headers: #{ "x-a": "1" } }, |out| out.send("a,b\n")));
        get("/nothing", #{ auth: "none" }, |req| stream(|out| ()));
        "#,
    );
    let check = |path: &str, status: u16, content_type: &str, body: &[u8]| {
        let answer = rhaiway.get(path);
        let found = (answer.status, answer.header("content-type"), &*answer.body);
        assert_eq!(found, (status, Some(content_type), body), "{path}");
        assert!(answer.header("x-request-id").is_some());
        answer
    };
    let events =
        b"data: {\"a\":[1,null]}\nevent: first\nid: 7\nretry: 2000\n\ndata: two\ndata: lines\n\n";
    let answer = check("/events", 200, "text/event-stream", events);
    assert_eq!(answer.header("cache-control"), Some("no-cache"));
    assert_eq!(answer.header("x-accel-buffering"), Some("no"));
    check("/text", 200, "text/plain; charset=utf-8", b"ab");
    check("/bytes", 200, "application/octet-stream", &[7; 3]);
    let answer = check("/csv", 201, "text/csv", b"a,b\n");
    assert_eq!((answer.header("x-a"), answer.header("cache-control")), (Some("1"), None));
    check("/nothing", 200, "text/plain; charset=utf-8", b"");
}

#[test]
fn a_piece_is_with_the_client_while_the_script_still_waits() {
    let (_project, rhaiway) = start(
        r#"
        get("/go/{id}", #{ auth: "none" }, |req| { db.gates.put(req.params.id, #{}); });
        get("/slow", #{ auth: "none" }, |req| stream(|out| {
            out.event(#{ data: "one" });
            while db.gates.list().is_empty() { sleep("5ms"); }
            out.event(#{ data: "two" });
        }));
        "#,
    );
    let connection = ask(&rhaiway, "/slow");
    let first = read_until(connection.stream(), "data: one");
    assert!(!first.contains("two"), "{first}");
    assert_eq!(rhaiway.get("/go/1").status, 200);
    let rest = read_until(connection.stream(), "\r\n0\r\n\r\n");
    assert!(rest.contains("data: two"), "{rest}");
}

#[test]
fn rule_10_what_the_handler_wrote_is_committed_before_the_first_byte_and_the_rest_before_the_end() {
    let (_project, rhaiway) = start(
        r#"
        get("/things/{id}", #{ auth: "none" }, |req| db.things.get(req.params.id) ?? status(404));
        get("/stream", #{ auth: "none" }, |req| {
            db.things.put("before", #{});
            stream(|out| {
                out.send("begun\n");
                db.things.put("during", #{ sees: db.things.get("before")?.id });
                while db.things.get("go") == () { sleep("5ms"); }
            })
        });
        get("/go", #{ auth: "none" }, |req| { db.things.put("go", #{}); });
        "#,
    );
    let connection = ask(&rhaiway, "/stream");
    read_until(connection.stream(), "begun");
    assert_eq!(rhaiway.get("/things/before").status, 200);
    assert_eq!(rhaiway.get("/things/during").status, 404);
    drop(connection);
}

#[test]
fn what_is_written_while_it_streams_is_there_when_it_ends() {
    let (_project, rhaiway) = start(
        r#"
        get("/things/{id}", #{ auth: "none" }, |req| db.things.get(req.params.id) ?? status(404));
        get("/stream", #{ auth: "none" }, |req| stream(|out| {
            out.send("x");
            db.things.put("during", #{ n: 1 });
            emit("streamed", #{ n: 2 });
        }));
        on("streamed", |event| db.things.put("emitted", event.data));
        "#,
    );
    assert_eq!(rhaiway.get("/stream").text(), "x");
    assert_eq!(rhaiway.get("/things/during").json(), json!({ "id": "during", "n": 1 }));
    eventually("its event is handled", || {
        (rhaiway.get("/things/emitted").status == 200).then_some(())
    });
}

#[test]
fn rule_9_a_conflict_before_the_stream_begins_runs_the_handler_again() {
    let (_project, rhaiway) = start(
        r#"
        get("/n", #{ auth: "none" }, |req| db.things.get("n"));
        get("/add", #{ auth: "none" }, |req| {
            let n = db.things.get("n")?.n ?? 0;
            sleep("50ms");
            db.things.put("n", #{ n: n + 1 });
            stream(|out| out.send(`${n + 1}`))
        });
        "#,
    );
    let mut said: Vec<String> = std::thread::scope(|scope| {
        let asking: Vec<_> =
            (0..4).map(|_| scope.spawn(|| rhaiway.get("/add").text().to_owned())).collect();
        asking.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    said.sort();
    assert_eq!(said, ["1", "2", "3", "4"]);
    assert_eq!(rhaiway.get("/n").json()["n"], 4);
}

#[test]
fn a_conflict_of_what_was_written_while_it_streamed_is_told_and_not_run_again() {
    let (_project, rhaiway) = start(
        r#"
        put("/doc", #{ auth: "none" }, |req| { db.things.put("doc", req.json); });
        get("/doc", #{ auth: "none" }, |req| db.things.get("doc"));
        get("/stream", #{ auth: "none" }, |req| stream(|out| {
            let seen = db.things.get("doc");
            out.event(#{ data: "read" });
            while db.things.count() == 1 { sleep("5ms"); }
            db.things.put("doc", #{ by: "stream" });
        }));
        put("/go", #{ auth: "none" }, |req| { db.things.put("go", #{}); });
        "#,
    );
    let put = |path: &str, body: &[u8]| request(rhaiway.address(), "PUT", path, &[], body);
    put("/doc", b"{\"by\":\"first\"}");
    let mut connection = ask(&rhaiway, "/stream");
    let answer = std::thread::scope(|scope| {
        let reading = scope.spawn(move || connection.read().unwrap());
        eventually("it has read, and what it read changes", || {
            put("/doc", b"{\"by\":\"other\"}");
            put("/go", b"");
            reading.is_finished().then_some(())
        });
        reading.join().unwrap()
    });
    assert!(answer.text().ends_with("event: error\ndata: {\"error\":\"The request conflicts with another\",\"code\":\"CONFLICT\"}\n\n"), "{}", answer.text());
    assert_eq!(rhaiway.get("/doc").json()["by"], "other");
    rhaiway.wait_for_log("wrote while it streamed is lost");
}

#[test]
fn an_error_before_the_first_byte_is_an_answer_and_after_it_an_event_or_a_cut() {
    let (_project, rhaiway) = start(
        r#"
        get("/before", #{ auth: "none" }, |req| stream(|out| throw status(418)));
        get("/limited", #{ auth: "none" }, |req| stream(|out| throw #{ code: "RATE_LIMIT_EXCEEDED", message: "no" }));
        get("/events", #{ auth: "none" }, |req| stream(|out| { out.event(#{ data: 1 }); db.things.put("x", #{}); throw "canary"; }));
        get("/named", #{ auth: "none" }, |req| stream(#{ content_type: "text/event-stream; charset=utf-8" }, |out| { out.send(": hi\n\n"); throw "canary"; }));
        get("/text", #{ auth: "none" }, |req| stream(|out| { out.send("half"); throw "canary"; }));
        get("/loops", #{ auth: "none" }, |req| stream(|out| { out.event(#{ data: 1 }); loop {} }));
        get("/x", #{ auth: "none" }, |req| db.things.get("x") ?? status(404));
        "#,
    );
    assert_eq!(rhaiway.get("/before").status, 418);
    assert_eq!(rhaiway.get("/limited").status, 429);
    let id = [("x-request-id", "r-1")];
    let events = request(rhaiway.address(), "GET", "/events", &id, b"");
    assert_eq!(
        events.text(),
        "data: 1\n\nevent: error\ndata: {\"error\":\"Internal error\",\"code\":\"SCRIPT_ERROR\",\"id\":\"r-1\"}\n\n"
    );
    rhaiway.wait_for_log("canary");
    assert_eq!(rhaiway.get("/x").status, 404, "what it wrote is discarded");
    let named = rhaiway.get("/named");
    assert!(named.text().starts_with(": hi\n\nevent: error\n"), "{}", named.text());
    assert!(rhaiway.get("/loops").text().contains("SCRIPT_LIMIT"));

    let mut cut = ask(&rhaiway, "/text");
    assert!(cut.read().is_err(), "a stream that broke must not look whole");
}

#[test]
fn only_a_route_that_keeps_no_answer_can_stream() {
    let project = Project::new(
        r#"
        webhook("clerk", "*", #{ retry: #{ max: 0 } }, |event| stream(|out| out.send("x")));
        post("/once", #{ auth: "none", idempotency: "idempotency-key" }, |req| stream(|out| out.send("x")));
        "#,
    );
    let rhaiway = project.start();
    assert_eq!(request(rhaiway.address(), "POST", "/once", &[], b"").status, 500);
    let line = rhaiway.wait_for_log("`idempotency` cannot give a stream");
    assert!(line.contains("scripts/main.rhai:3:"), "{line}");
    assert_eq!(rhaiway.deliver(&signed("msg_1", "{\"type\":\"x\",\"data\":{}}")).status, 200);
    project.wait_for_state("msg_1", "dead");
    rhaiway.wait_for_log("cannot give a stream: nobody would read it");
}

#[test]
fn head_commits_and_does_not_write_the_stream() {
    let (_project, rhaiway) = start(
        r#"
        get("/stream", #{ auth: "none" }, |req| {
            db.things.put("before", #{});
            stream(#{ content_type: "text/csv" }, |out| { log.info("it was written"); out.send("x"); })
        });
        get("/things", #{ auth: "none" }, |req| db.things.list().len());
        "#,
    );
    let head = request(rhaiway.address(), "HEAD", "/stream", &[], b"");
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/csv")));
    assert_eq!(rhaiway.get("/things").text(), "1");
    assert_eq!(rhaiway.count_log("it was written"), 0);
}

#[test]
fn h26_a_script_waits_for_a_client_that_does_not_read_and_little_is_kept_for_it() {
    let (_project, rhaiway) = start(
        r#"
        get("/endless", #{ auth: "none", concurrency: 1 }, |req| stream(|out| {
            let piece = "";
            piece.pad(16 * 1024, 'x');
            let n = 0;
            loop { out.send(piece); n += 1; if n % 64 == 0 { log.info(`sent ${n / 64} MiB`); } }
        }));
        "#,
    );
    let connection = ask(&rhaiway, "/endless");
    read_until(connection.stream(), "xxxx");
    rhaiway.wait_for_log("sent 1 MiB");
    // It comes to rest when the buffers of both sockets are full, and goes on when they are not.
    let mut before = 0;
    let rests = || {
        let sent = rhaiway.count_log("MiB");
        let rests = sent == before;
        before = sent;
        rests.then_some(sent)
    };
    let rested = eventually_slowly(rests);
    assert!(rested < 20, "{rested} MiB went to a client that did not read");
    let mut buffer = vec![0; 1 << 20];
    for _mebibyte in 0..rested + 4 {
        (&mut connection.stream()).read_exact(&mut buffer).unwrap();
    }
    rhaiway.wait_for_log(&format!("sent {} MiB", rested + 1));
    drop(connection);
    // Its place is free again.
    eventually("the run has ended", || {
        let again = ask(&rhaiway, "/endless");
        let mut start = [0; 15];
        (&mut again.stream()).read_exact(&mut start).unwrap();
        start.ends_with(b"200 OK").then_some(())
    });
}

/// Looks each 200 ms, until it says something.
fn eventually_slowly<T>(mut look: impl FnMut() -> Option<T>) -> T {
    for _look in 0..300 {
        std::thread::sleep(std::time::Duration::from_millis(200));
        if let Some(seen) = look() {
            return seen;
        }
    }
    panic!("it never came to rest")
}

#[test]
fn h27_a_client_that_leaves_ends_the_stream() {
    let (_project, rhaiway) = start(
        r#"
        get("/waits", #{ auth: "none", concurrency: 1 }, |req| stream(|out| {
            out.event(#{ data: "begun" });
            sleep("50s");
        }));
        "#,
    );
    let connection = ask(&rhaiway, "/waits");
    read_until(connection.stream(), "begun");
    assert_eq!(rhaiway.get("/waits").status, 503, "its place is taken as long as it streams");
    drop(connection);
    eventually("the run has ended", || {
        let again = ask(&rhaiway, "/waits");
        let mut start = [0; 15];
        (&mut again.stream()).read_exact(&mut start).unwrap();
        start.ends_with(b"200 OK").then_some(())
    });
}

#[test]
fn a_save_does_not_touch_a_stream_that_runs_and_a_stop_gives_it_the_grace() {
    const SCRIPT: &str = r#"
        get("/slow", #{ auth: "none" }, |req| stream(|out| {
            out.event(#{ data: "begun" });
            while db.gates.list().is_empty() { sleep("5ms"); }
            out.event(#{ data: "old" });
            sleep("300ms");
            out.event(#{ data: "ended" });
        }));
        get("/go", #{ auth: "none" }, |req| { db.gates.put("go", #{}); });
    "#;
    let (project, rhaiway) = start(SCRIPT);
    let mut connection = ask(&rhaiway, "/slow");
    read_until(connection.stream(), "begun");
    let before = rhaiway.generation(&project);
    project.write("scripts/main.rhai", SCRIPT.replace("\"old\"", "\"new\""));
    eventually("it is reloaded", || (rhaiway.generation(&project) > before).then_some(()));
    assert_eq!(rhaiway.get("/go").status, 200);
    read_until(connection.stream(), "data: old");
    rhaiway.signal("TERM");
    read_until(connection.stream(), "data: ended");
    assert!(connection.is_closed() || connection.is_closed());
    assert_eq!(rhaiway.wait(), Some(0));
}

#[test]
fn what_a_stream_cannot_be_made_of_is_named() {
    let rows = [
        ("stream(#{ stauts: 1 }, |out| ())", 500, "unknown option `stauts`"),
        ("stream(#{ status: 204 }, |out| ())", 500, "no body to stream"),
        ("stream(|out| out.send(#{ a: 1 }))", 500, "`send` takes a string or a blob, not a map"),
        ("stream(|out| out.send(()))", 500, "is the field missing?"),
        ("stream(|out| out.event(#{ dat: 1 }))", 500, "unknown field `dat`"),
        ("stream(|| 1)", 500, "write `|out| …`"),
        ("#{ a: stream(|out| ()) }", 500, "the result cannot be answered"),
        ("status(200, stream(|out| ()))", 500, "the result cannot be answered"),
        ("let x = \"a\"; stream(|out| { out.send(x); x = \"b\"; out.send(x); })", 200, "ab"),
        ("stream(|out| { parallel([1, 2], |n| out.send(\"x\")); })", 200, "xx"),
        ("stream(|out| { out.send(twice(\"a\")); })", 200, "aa"),
    ];
    crate::support::check_rows("fn twice(x) { x + x }", &rows);
}

/// Documents of the export, and what each of them brings.
const ORDERS: usize = 50_000;
const PAGE: usize = 1_000;

/// KiB of memory that a process has had resident at most.
fn peak_kib(rhaiway: &Rhaiway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", rhaiway.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn the_example_exports_50_mb_in_constant_memory() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/export");
    let config = std::fs::read_to_string(folder.join("config.toml")).unwrap();
    // The writing of so many orders at once is the test's own doing.
    let config =
        format!("[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n{config}cpu_budget = \"20s\"\n");
    let project = Project::with_config(&config, "");
    project.write("export.rhai", std::fs::read(folder.join("export.rhai")).unwrap());
    project.write(
        "seed.rhai",
        format!(
            r#"post("/seed/{{page}}", #{{ auth: "none" }}, |req| {{
                let note = "";
                note.pad(980, 'x');
                for n in 0..{PAGE} {{
                    let id = `${{req.params.page}}-${{n}}`;
                    db.orders.put(id, #{{ created_at: n, customer: "a \"b\", c", total: 1.5, note: note }});
                }}
            }});"#
        ),
    );
    let rhaiway = project.start();
    for page in 0..ORDERS / PAGE {
        let path = format!("/seed/{page}");
        assert_eq!(request(rhaiway.address(), "POST", &path, &[], b"").status, 204);
    }
    let before = peak_kib(&rhaiway);
    let mut connection = ask(&rhaiway, "/orders.csv");
    let answer = connection.read().unwrap();
    assert_eq!(answer.header("content-type"), Some("text/csv; charset=utf-8"));
    assert!(answer.body.len() > 50_000_000, "{}", answer.body.len());
    let lines = answer.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
    assert_eq!(lines, ORDERS + 1);
    let grown = peak_kib(&rhaiway).saturating_sub(before);
    assert!(grown < 16 << 10, "it took {grown} KiB more than before");
}
