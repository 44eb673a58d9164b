//! Routes of scripts, and webhooks that their scripts answer: which path and method leads where, what is answered, what is committed before that.

use std::process::Output;
use std::thread;

use serde_json::json;

use crate::support::{
    Connection, Project, Rhaiway, SECRET, clerk_event, events, eventually, render, request, signed,
};

const ONE_WORKER: &str = "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n";

fn start(script: &str) -> (Project, Rhaiway) {
    let project = Project::new(script);
    let rhaiway = project.start();
    (project, rhaiway)
}

#[test]
fn every_method_leads_to_its_own_handler_with_the_parameters_of_the_path() {
    let (_project, rhaiway) = start(
        r#"
        get("/things/{id}", #{ auth: "none" }, |req| #{ by: "get", params: req.params, method: req.method });
        post("/things/{id}", #{ auth: "none" }, |req| #{ by: "post", params: req.params, method: req.method });
        put("/things/{id}", #{ auth: "none" }, |req| #{ by: "put", params: req.params, method: req.method });
        patch("/things/{id}", #{ auth: "none" }, |req| #{ by: "patch", params: req.params, method: req.method });
        delete("/things/{id}", #{ auth: "none" }, |req| #{ by: "delete", params: req.params, method: req.method });
        get("/things/new", #{ auth: "none" }, |req| #{ by: "fixed", params: req.params });
        get("/things/{id}/parts/{part}", #{ auth: "none" }, |req| #{ by: "part", params: req.params });
        get("/files/{*rest}", #{ auth: "none" }, |req| #{ by: "rest", params: req.params });
        get("/", #{ auth: "none" }, |req| #{ by: "root", params: req.params });
        "#,
    );
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
        let answer = request(rhaiway.address(), method, "/things/a%20b", &[], b"").json();
        let expected =
            json!({ "by": method.to_lowercase(), "params": { "id": "a b" }, "method": method });
        assert_eq!(answer, expected);
    }
    let check = |path: &str, by: &str, params: serde_json::Value| {
        let answer = rhaiway.get(path).json();
        assert_eq!((&answer["by"], &answer["params"]), (&json!(by), &params), "{path}");
    };
    check("/", "root", json!({}));
    check("/things/new", "fixed", json!({}));
    check("/things/1/parts/2", "part", json!({ "id": "1", "part": "2" }));
    check("/files/a/b/c", "rest", json!({ "rest": "a/b/c" }));
    check("/files/a%2Fb/%C3%A4", "rest", json!({ "rest": "a/b/ä" }));
    check("/things/%7Bid%7D", "get", json!({ "id": "{id}" }));
    for path in ["/things", "/things/", "/things/1/parts", "/files", "/nowhere"] {
        assert_eq!(rhaiway.get(path).status, 404, "{path}");
    }
}

#[test]
fn a_request_shows_its_script_all_that_came() {
    let (_project, rhaiway) = start(
        r#"post("/all", #{ auth: "none" }, |req| #{
            path: req.path, query: req.query, one: req.headers["x-one"], two: req.headers["x-two"],
            text: req.text, json: req.json, bytes: req.bytes.len(), ip: req.remote_ip, id: req.id,
        });"#,
    );
    let headers = [("x-one", "1"), ("X-Two", "a"), ("x-two", "b"), ("x-request-id", "mine")];
    let path = "/all?a=1&a=2&b=%20";
    let answer = request(rhaiway.address(), "POST", path, &headers, br#"{"n":1}"#);
    let expected = json!({
        "path": "/all", "query": { "a": ["1", "2"], "b": " " }, "one": "1", "two": "a, b", "text": r#"{"n":1}"#,
        "json": { "n": 1 }, "bytes": 7, "ip": "127.0.0.1", "id": "mine",
    });
    assert_eq!(answer.json(), expected);
    assert_eq!(answer.header("x-request-id"), Some("mine"));
    let not_json = request(rhaiway.address(), "POST", "/all", &[], b"{");
    assert_eq!((not_json.status, not_json.code().as_str()), (400, "INVALID_PAYLOAD"));
}

/// One row for each answer of DESIGN's table that a route or a webhook can give by itself.
#[test]
fn errors_have_the_bodies_that_are_promised_and_every_answer_has_its_request_id() {
    let project = Project::with_more(
        "[webhooks.unset]\npath = \"/unset\"\nscheme = \"svix\"\nsecret_env = \"NOBODY_SETS_THIS\"\n[scripts]\ncpu_budget = \"50ms\"",
        r#"
        post("/small", #{ auth: "none", max_body: "1KiB" }, |req| req.bytes.len());
        get("/late", #{ auth: "none", timeout: "50ms" }, |req| sleep("30s"));
        get("/loop", #{ auth: "none" }, |req| { loop {} });
        get("/full", #{ auth: "none" }, |req| { let a = [1]; loop { a += a; } });
        get("/throws", #{ auth: "none" }, |req| throw "canary");
        get("/breaks", #{ auth: "none" }, |req| 1 / (req.params.len()));
        get("/unavailable", #{ auth: "none" }, |req| throw #{ code: "SERVICE_UNAVAILABLE", message: "canary" });
        get("/misconfigured", #{ auth: "none" }, |req| throw #{ code: "CONFIGURATION_ERROR", message: "canary" });
        get("/limited", #{ auth: "none" }, |req| throw #{ code: "RATE_LIMIT_EXCEEDED", message: "canary" });
        get("/teapot", #{ auth: "none" }, |req| throw status(418, #{ error: "mine" }));
        post("/json", #{ auth: "none" }, |req| req.json);
        "#,
    );
    let rhaiway = project.start();
    let id = [("x-request-id", "r-1")];
    let check = |method: &str, path: &str, body: &[u8], status: u16, expected: &str| {
        let answer = request(rhaiway.address(), method, path, &id, body);
        assert_eq!((answer.status, answer.text()), (status, expected), "{method} {path}");
        assert_eq!(answer.header("content-type"), Some("application/json"), "{method} {path}");
        assert_eq!(answer.header("x-request-id"), Some("r-1"), "{method} {path}");
        let retried = matches!(status, 503 | 429);
        assert_eq!(answer.header("retry-after").is_some(), retried, "{method} {path}");
    };
    check(
        "POST",
        "/api/webhooks/clerk",
        b"{}",
        401,
        r#"{"error":"Invalid webhook signature","code":"INVALID_SIGNATURE"}"#,
    );
    check(
        "POST",
        "/unset",
        b"{}",
        500,
        r#"{"error":"Configuration error. Please contact support.","code":"CONFIGURATION_ERROR"}"#,
    );
    check("GET", "/nowhere", b"", 404, r#"{"error":"Not found","code":"NOT_FOUND"}"#);
    check(
        "DELETE",
        "/json",
        b"",
        405,
        r#"{"error":"Method not allowed","code":"METHOD_NOT_ALLOWED"}"#,
    );
    check("POST", "/json", b"{", 400, r#"{"error":"Invalid payload","code":"INVALID_PAYLOAD"}"#);
    check(
        "POST",
        "/small",
        &[b'a'; 1025],
        413,
        r#"{"error":"Payload too large","code":"PAYLOAD_TOO_LARGE"}"#,
    );
    check(
        "GET",
        "/unavailable",
        b"",
        503,
        r#"{"error":"Service temporarily unavailable. Please try again later.","code":"SERVICE_UNAVAILABLE"}"#,
    );
    check(
        "GET",
        "/misconfigured",
        b"",
        500,
        r#"{"error":"Configuration error. Please contact support.","code":"CONFIGURATION_ERROR"}"#,
    );
    check(
        "GET",
        "/limited",
        b"",
        429,
        r#"{"error":"Too many requests. Please wait a moment and try again.","code":"RATE_LIMIT_EXCEEDED","retryAfter":5}"#,
    );
    check(
        "GET",
        "/throws",
        b"",
        500,
        r#"{"error":"Internal error","code":"SCRIPT_ERROR","id":"r-1"}"#,
    );
    check(
        "GET",
        "/breaks",
        b"",
        500,
        r#"{"error":"Internal error","code":"SCRIPT_ERROR","id":"r-1"}"#,
    );
    for path in ["/late", "/loop", "/full"] {
        check(
            "GET",
            path,
            b"",
            503,
            r#"{"error":"The request took too much to answer","code":"SCRIPT_LIMIT","id":"r-1"}"#,
        );
    }
    check("GET", "/teapot", b"", 418, r#"{"error":"mine"}"#);
    assert_eq!(request(rhaiway.address(), "POST", "/small", &id, &[b'a'; 1024]).text(), "1024");

    let log = rhaiway.wait_for_log("a request failed in `main`");
    assert!(log.contains("r-1") && log.contains("scripts/main.rhai:"), "{log}");
    assert!(!rhaiway.log().join("\n").contains(SECRET));
}

#[test]
fn a_handler_answers_with_what_its_value_is() {
    let (_project, rhaiway) = start(
        r#"
        get("/map", #{ auth: "none" }, |req| #{ a: [1, 2.5, "x", ()] });
        get("/array", #{ auth: "none" }, |req| [1]);
        get("/text", #{ auth: "none" }, |req| "hällo");
        get("/unit", #{ auth: "none" }, |req| ());
        get("/html", #{ auth: "none" }, |req| html("<p>"));
        get("/status", #{ auth: "none" }, |req| status(201, #{ made: true }));
        get("/bare", #{ auth: "none" }, |req| status(404));
        get("/response", #{ auth: "none" }, |req| response(#{ status: 202, headers: #{ "x-a": ["1", "2"], "content-type": "text/csv" }, body: "a,b" }));
        get("/redirect", #{ auth: "none" }, |req| redirect("/map"));
        "#,
    );
    let check = |path: &str, status: u16, content_type: Option<&str>, body: &str| {
        let answer = rhaiway.get(path);
        let found = (answer.status, answer.header("content-type"), answer.text());
        assert_eq!(found, (status, content_type, body), "{path}");
    };
    check("/map", 200, Some("application/json"), r#"{"a":[1,2.5,"x",null]}"#);
    check("/array", 200, Some("application/json"), "[1]");
    check("/text", 200, Some("text/plain; charset=utf-8"), "hällo");
    check("/unit", 204, None, "");
    check("/html", 200, Some("text/html; charset=utf-8"), "<p>");
    check("/status", 201, Some("application/json"), r#"{"made":true}"#);
    check("/bare", 404, None, "");
    check("/response", 202, Some("text/csv"), "a,b");
    check("/redirect", 302, None, "");
    let several = rhaiway.get("/response");
    let several =
        several.headers.iter().filter(|(name, _)| name == "x-a").map(|(_, value)| &**value);
    assert_eq!(several.collect::<Vec<_>>(), ["1", "2"]);
}

const DOCUMENTS: &str = r#"
post("/users/{id}", #{ auth: "none" }, |req| { db.users.put(req.params.id, req.json); status(201) });
get("/users/{id}", #{ auth: "none" }, |req| db.users.get(req.params.id) ?? status(404));
post("/refuse/{id}", #{ auth: "none" }, |req| { db.users.put(req.params.id, #{}); status(400) });
post("/throw/{id}", #{ auth: "none" }, |req| { db.users.put(req.params.id, #{}); throw "no" });
post("/throw-status/{id}", #{ auth: "none" }, |req| { db.users.put(req.params.id, #{}); throw status(400) });
post("/add/{id}/{name}", #{ auth: "none" }, |req| {
    let user = db.users.get(req.params.id) ?? #{};
    sleep("50ms");
    user[req.params.name] = true;
    db.users.put(req.params.id, user);
});
"#;

#[test]
fn rule_8_what_is_returned_commits_and_what_is_thrown_does_not() {
    let (_project, rhaiway) = start(DOCUMENTS);
    let post = |path: &str| request(rhaiway.address(), "POST", path, &[], b"{}").status;
    assert_eq!(post("/refuse/returned"), 400);
    assert_eq!(rhaiway.get("/users/returned").status, 200);
    assert_eq!(post("/throw/thrown"), 500);
    assert_eq!(rhaiway.get("/users/thrown").status, 404);
    assert_eq!(post("/throw-status/thrown"), 400);
    assert_eq!(rhaiway.get("/users/thrown").status, 404);
}

#[test]
fn rule_10_effects_are_there_when_the_answer_is() {
    let (_project, rhaiway) = start(DOCUMENTS);
    for n in 0..20 {
        let body = format!("{{\"n\":{n}}}");
        // Each on a connection of its own, so on any worker.
        let made = request(rhaiway.address(), "POST", "/users/u1", &[], body.as_bytes());
        assert_eq!(made.status, 201);
        assert_eq!(rhaiway.get("/users/u1").json(), json!({ "id": "u1", "n": n }));
    }
}

#[test]
fn rule_9_requests_that_change_one_document_at_once_all_succeed() {
    let (_project, rhaiway) = start(DOCUMENTS);
    thread::scope(|scope| {
        for name in ["a", "b", "c", "d"] {
            let rhaiway = &rhaiway;
            scope.spawn(move || {
                let path = format!("/add/u1/{name}");
                assert_eq!(request(rhaiway.address(), "POST", &path, &[], b"").status, 200);
            });
        }
    });
    let user = rhaiway.get("/users/u1").json();
    assert_eq!(user, json!({ "id": "u1", "a": true, "b": true, "c": true, "d": true }));
}

#[test]
fn rule_10_a_client_that_leaves_cancels_its_run() {
    let (_project, rhaiway) = start(
        r#"
        post("/slow", #{ auth: "none", concurrency: 1 }, |req| {
            db.users.put("left", #{});
            if req.query.contains("wait") { log.info("slow began"); sleep("60s"); }
        });
        get("/users/{id}", #{ auth: "none" }, |req| db.users.get(req.params.id) ?? status(404));
        "#,
    );
    let mut leaves = Connection::open(rhaiway.address());
    leaves.send(&render("POST", "/slow?wait=1", &[], b"")).unwrap();
    rhaiway.wait_for_log("slow began");
    let busy = request(rhaiway.address(), "POST", "/slow", &[], b"");
    assert_eq!((busy.status, busy.code().as_str()), (503, "SERVICE_UNAVAILABLE"));
    assert_eq!(rhaiway.get("/users/left").status, 404);
    drop(leaves);
    // Its place is free long before it would have ended.
    eventually("its run was cancelled", || {
        (rhaiway.get("/users/left").status == 404).then_some(())?;
        let status = request(rhaiway.address(), "GET", "/users/left", &[], b"").status;
        assert_eq!(status, 404);
        (request(rhaiway.address(), "POST", "/slow", &[], b"").status == 204).then_some(())
    });
}

/// What `check` says of scripts that do not go together, and that `run` refuses them too.
fn clash(project: &Project) -> String {
    let text = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let checked = project.run(&["check"]);
    assert_eq!(checked.status.code(), Some(1), "{}", text(&checked));
    let started = project.run(&["run"]);
    assert_eq!(started.status.code(), Some(1), "{}", text(&started));
    text(&checked)
}

fn shows(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

#[test]
fn o10_two_scripts_that_claim_one_route_are_refused_with_both_places() {
    let project = Project::new("\nget(\"/a/{id}\", #{ auth: \"none\" }, |req| 1);");
    project
        .write("scripts/other.rhai", "post(\"/a/{id}\", |req| 1);\n\nget(\"/a/{id}\", |req| 2);");
    shows(
        &clash(&project),
        &["E0231", "GET /a/{id}", "scripts/main.rhai:2:1", "scripts/other.rhai:3:1"],
    );
    project.write("scripts/other.rhai", "post(\"/a/{id}\", |req| 1);");
    assert_eq!(project.run(&["check"]).status.code(), Some(0), "other methods may share a path");
}

#[test]
fn o10_paths_that_differ_only_in_their_parameters_are_refused_with_both_places() {
    let project = Project::new("get(\"/a/{id}\", |req| 1);");
    project.write("scripts/other.rhai", "\npost(\"/a/{name}\", |req| 1);");
    shows(&clash(&project), &["E0231", "scripts/main.rhai:1:1", "scripts/other.rhai:2:1"]);
}

#[test]
fn w34_a_route_on_a_path_that_is_taken_is_refused_with_both_places() {
    let project = Project::new("\npost(\"/api/webhooks/clerk\", |req| 1);");
    shows(&clash(&project), &["E0231", "scripts/main.rhai:2:1", "config.toml:", "webhook `clerk`"]);
    let project = Project::new("get(\"/healthz\", |req| 1);");
    shows(&clash(&project), &["E0231", "scripts/main.rhai:1:1", "/healthz"]);
    let project = Project::with_config(
        "[webhooks.clerk]\npath = \"/readyz\"\nscheme = \"none\"\n",
        "webhook(\"clerk\", \"*\", |event| ());",
    );
    shows(&clash(&project), &["config.toml:", "/readyz"]);
}

#[test]
fn o10_a_clash_at_reload_keeps_the_generation_that_serves() {
    let project = Project::new("get(\"/a\", #{ auth: \"none\" }, |req| \"first\");");
    let rhaiway = project.start();
    project.write("scripts/other.rhai", "get(\"/a\", #{ auth: \"none\" }, |req| \"second\");");
    let line = rhaiway.wait_for_log("E0231");
    shows(&line, &["scripts/main.rhai", "scripts/other.rhai"]);
    assert_eq!(rhaiway.get("/a").text(), "first");
    project.write("scripts/other.rhai", "get(\"/b\", #{ auth: \"none\" }, |req| \"second\");");
    eventually("the repaired one serves", || (rhaiway.get("/b").text() == "second").then_some(()));
}

/// A webhook that its script answers; nothing of it is stored.
fn answering(script: &str) -> Project {
    Project::with_config(
        &format!(
            "{ONE_WORKER}[webhooks.clerk]\npath = \"/api/webhooks/clerk\"\nscheme = \"svix\"\nsecret_env = \"CLERK_WEBHOOK_SECRET\"\nrespond = \"script\"\nstore = false\ntimeout = \"100ms\"\n"
        ),
        &format!(
            "{script}\nget(\"/users/{{id}}\", #{{ auth: \"none\" }}, |req| db.users.get(req.params.id) ?? status(404));"
        ),
    )
}

#[test]
fn rule_11_a_webhook_that_its_script_answers_commits_before_the_answer_and_stores_nothing() {
    let project = answering(
        r#"
        webhook("clerk", "user.created", |event| { db.users.put(event.data.id, #{ type: event.type }); status(202, #{ seen: event.data.id, last: event.last_attempt }) });
        webhook("clerk", "user.throws", |event| { db.users.put(event.data.id, #{}); throw "canary" });
        webhook("clerk", "user.waits", |event| { db.users.put(event.data.id, #{}); sleep("30s") });
        webhook("clerk", "user.refused", |event| throw status(403, #{ error: "mine" }));
        "#,
    );
    let rhaiway = project.start();
    let deliver =
        |kind: &str, user: &str| rhaiway.deliver(&signed(user, clerk_event(kind, user, 1)));
    for _ in 0..2 {
        let answer = deliver("user.created", "u1");
        assert_eq!((answer.status, answer.json()), (202, json!({ "seen": "u1", "last": true })));
        assert_eq!(rhaiway.get("/users/u1").json()["type"], "user.created");
    }
    let thrown = deliver("user.throws", "u2");
    assert_eq!((thrown.status, thrown.code().as_str()), (500, "SCRIPT_ERROR"));
    assert!(!thrown.text().contains("canary"));
    let late = deliver("user.waits", "u3");
    assert_eq!((late.status, late.code().as_str()), (503, "SCRIPT_LIMIT"));
    assert!(late.header("retry-after").is_some());
    assert_eq!(deliver("user.refused", "u4").text(), r#"{"error":"mine"}"#);
    let nobody = deliver("user.deleted", "u5");
    assert_eq!((nobody.status, nobody.text()), (200, r#"{"received":true}"#));
    for user in ["u2", "u3"] {
        assert_eq!(rhaiway.get(&format!("/users/{user}")).status, 404);
    }
    let mut forged = signed("msg_1", clerk_event("user.created", "u6", 1));
    forged.signature = "v1,bm8=".to_owned();
    assert_eq!(rhaiway.deliver(&forged).code(), "INVALID_SIGNATURE");
    assert_eq!(rhaiway.get("/users/u6").status, 404);
    assert_eq!(events(&project), [] as [serde_json::Value; 0]);
}

#[test]
fn o10_two_handlers_that_would_answer_one_event_are_refused_with_both_places() {
    let check = |one: &str, other: &str, clashes: bool| {
        let project = answering(&format!("webhook(\"clerk\", {one}, |event| 1);"));
        project.write("scripts/other.rhai", format!("\nwebhook(\"clerk\", {other}, |event| 2);"));
        if clashes {
            let text = clash(&project);
            shows(
                &text,
                &[
                    "E0232",
                    "scripts/main.rhai:1:1",
                    "scripts/other.rhai:2:1",
                    "respond = \"script\"",
                ],
            );
        } else {
            assert_eq!(project.run(&["check"]).status.code(), Some(0), "{one} {other}");
        }
    };
    check("\"*\"", "\"user.created\"", true);
    check("\"user.*\"", "\"*.created\"", true);
    check("[\"a\", \"b\"]", "[\"b\", \"c\"]", true);
    check("\"user.created\"", "\"user.deleted\"", false);
    check("\"user.*\"", "\"session.*\"", false);
}
