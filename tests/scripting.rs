//! The names that scripts see, through routes: every result, every part of `req`, every function of `db`, time and chance, logs, the pure modules.

use std::collections::BTreeSet;

use crate::support::{Project, check_rows, request};

#[test]
fn a_handler_s_result_is_its_answer() {
    let script = r##"
        get("/map", #{ auth: "none" }, |req| #{ a: 1, b: [true, (), "x", 1.5] });
        get("/array", #{ auth: "none" }, |req| [1, #{ b: 2 }]);
        get("/string", #{ auth: "none" }, |req| "text ä");
        get("/number", #{ auth: "none" }, |req| 5);
        get("/bool", #{ auth: "none" }, |req| false);
        get("/unit", #{ auth: "none" }, |req| ());
        get("/blob", #{ auth: "none" }, |req| hex::decode_blob("00ff"));
        get("/status", #{ auth: "none" }, |req| status(418));
        get("/status-body", #{ auth: "none" }, |req| status(422, #{ error: "no" }));
        get("/status-text", #{ auth: "none" }, |req| status(404, "none"));
        get("/response", #{ auth: "none" }, |req| response(#{ status: 201, headers: #{ "X-One": 1, "set-cookie": ["a=1", "b=2"] }, body: [1] }));
        get("/type", #{ auth: "none" }, |req| response(#{ headers: #{ "content-type": "text/csv" }, body: "a,b" }));
        get("/html", #{ auth: "none" }, |req| html("<p>hi</p>"));
        get("/redirect", #{ auth: "none" }, |req| redirect("/map?x=1"));
        get("/away", #{ auth: "none" }, |req| redirect("https://example.com/a"));
        get("/thrown", #{ auth: "none" }, |req| { db.t.put("x", #{}); throw status(409, #{ error: "taken" }); });
        get("/inside", #{ auth: "none" }, |req| deep(3));
        get("/effects", #{ auth: "none" }, |req| #{ there: db.t.get("x") != () });
        fn deep(n) { if n == 0 { throw status(403) } deep(n - 1) }
    "##;
    let project = Project::new(script);
    let rhaiway = project.start();
    let json = Some("application/json");
    let text = Some("text/plain; charset=utf-8");
    for (path, status, kind, body) in [
        ("/map", 200, json, r#"{"a":1,"b":[true,null,"x",1.5]}"#),
        ("/array", 200, json, r#"[1,{"b":2}]"#),
        ("/string", 200, text, "text ä"),
        ("/number", 200, json, "5"),
        ("/bool", 200, json, "false"),
        ("/unit", 204, None, ""),
        ("/status", 418, None, ""),
        ("/status-body", 422, json, r#"{"error":"no"}"#),
        ("/status-text", 404, text, "none"),
        ("/response", 201, json, "[1]"),
        ("/type", 200, Some("text/csv"), "a,b"),
        ("/html", 200, Some("text/html; charset=utf-8"), "<p>hi</p>"),
        ("/redirect", 302, None, ""),
        ("/thrown", 409, json, r#"{"error":"taken"}"#),
        ("/inside", 403, None, ""),
        ("/effects", 200, json, r#"{"there":false}"#),
    ] {
        let answer = rhaiway.get(path);
        assert_eq!((answer.status, answer.text()), (status, body), "{path}");
        assert_eq!(answer.header("content-type"), kind, "{path}");
    }
    let blob = rhaiway.get("/blob");
    assert_eq!(
        (blob.header("content-type"), &*blob.body),
        (Some("application/octet-stream"), &[0, 255][..])
    );
    let response = rhaiway.get("/response");
    assert_eq!(response.header("x-one"), Some("1"));
    let cookies = response
        .headers
        .iter()
        .filter(|(name, _)| name == "set-cookie")
        .map(|(_, value)| value.as_str());
    assert_eq!(cookies.collect::<Vec<_>>(), ["a=1", "b=2"]);
    assert_eq!(rhaiway.get("/redirect").header("location"), Some("/map?x=1"));
    assert_eq!(rhaiway.get("/away").header("location"), Some("https://example.com/a"));
}

#[test]
fn a_request_has_its_parts() {
    let script = r##"
        let open = #{ auth: "none" };
        post("/all/{name}/{*rest}", open, |req| #{
            method: req.method, path: req.path, params: req.params, query: req.query, agent: req.headers["x-agent"],
            text: req.text, bytes: req.bytes.len, ip: req.remote_ip, id: req.id, auth: req.auth,
        });
        post("/json", open, |req| #{ a: req.json.a, again: req.json.a, none: req.json.b?.c });
        post("/form", open, |req| req.form);
        post("/text", open, |req| req.text);
        post("/caught", open, |req| try_json(req));
        fn try_json(req) { try { return req.json; } catch (err) { return err.code; } }
        put("/m", open, |req| req.method);
        patch("/m", open, |req| req.method);
        delete("/m", open, |req| req.method);
        get("/m", open, |req| req.method);
        post("/small", #{ auth: "none", max_body: "10B" }, |req| 1);
        get("/unknown", open, |req| req.nothing);
    "##;
    let project = Project::new(script);
    let rhaiway = project.start();
    let headers = [("x-agent", "one"), ("x-agent", "two"), ("x-request-id", "my-id")];
    let answer =
        rhaiway.post("/all/J%C3%BCrgen%2Fx/a/b?q=1&q=2&r=a+b%21", &headers, "grüße".as_bytes());
    let all = answer.json();
    assert_eq!(all["method"], "POST");
    assert_eq!(all["path"], "/all/J%C3%BCrgen%2Fx/a/b");
    assert_eq!(all["params"], serde_json::json!({ "name": "Jürgen/x", "rest": "a/b" }));
    assert_eq!(all["query"], serde_json::json!({ "q": ["1", "2"], "r": "a b!" }));
    assert_eq!(all["agent"], "one, two");
    assert_eq!((&all["text"], &all["bytes"]), (&"grüße".into(), &7.into()));
    assert_eq!((&all["ip"], &all["id"]), (&"127.0.0.1".into(), &"my-id".into()));
    assert_eq!(all["auth"], serde_json::Value::Null);
    assert_eq!(answer.header("x-request-id"), Some("my-id"));

    for (path, body, status, part) in [
        ("/json", "{\"a\":[1]}", 200, "{\"a\":[1],\"again\":[1],\"none\":null}"),
        ("/json", "{\"a\":", 400, "INVALID_PAYLOAD"),
        ("/json", "", 400, "INVALID_PAYLOAD"),
        ("/json", "{\"a\":18446744073709551615}", 200, "\"18446744073709551615\""),
        ("/caught", "no", 200, "INVALID_PAYLOAD"),
        ("/form", "a=1&b=x+y&a=2", 200, "{\"a\":[\"1\",\"2\"],\"b\":\"x y\"}"),
        ("/form", "a=%zz", 400, "INVALID_PAYLOAD"),
        ("/small", "01234567890", 413, "PAYLOAD_TOO_LARGE"),
        ("/small", "0123456789", 200, "1"),
    ] {
        let answer = rhaiway.post(path, &[], body.as_bytes());
        assert!(
            answer.status == status && answer.text().contains(part),
            "{path} {body}: {} {}",
            answer.status,
            answer.text()
        );
    }
    assert_eq!(rhaiway.post("/text", &[], &[0xff]).code(), "INVALID_PAYLOAD");
    for method in ["GET", "PUT", "PATCH", "DELETE"] {
        assert_eq!(request(rhaiway.address(), method, "/m", &[], b"").text(), method);
    }
    assert_eq!(rhaiway.get("/unknown").code(), "SCRIPT_ERROR");
}

#[test]
fn a_token_is_held_against_the_time_of_the_run() {
    check_rows(
        "",
        &[
            (
                "jwt::verify(jwt::sign(#{ exp: now() / 1000 + 60 }, \"k\"), \"k\").exp > 0",
                200,
                "true",
            ),
            (
                "try { jwt::verify(jwt::sign(#{ exp: now() / 1000 - 60 }, \"k\"), \"k\"); } catch (err) { return err.code; }",
                200,
                "TOKEN_EXPIRED",
            ),
        ],
    );
}

#[test]
fn documents_are_read_and_written() {
    check_rows(
        "",
        &[
            ("db.a.get(\"none\") == ()", 200, "true"),
            ("db.a.put(\"1\", #{ x: 1, y: #{ z: 2 }, gone: 1 })", 200, "true"),
            ("db.a.get(\"1\")", 200, r#"{"gone":1,"id":"1","x":1,"y":{"z":2}}"#),
            ("db.a.get(1).id", 200, "1"),
            ("db.a.insert(\"1\", #{})", 500, "CONFLICT"),
            ("try { db.a.insert(\"1\", #{}); } catch (err) { return err.code; }", 200, "CONFLICT"),
            ("db.a.insert(\"2\", #{ x: 5, tag: \"b\" })", 204, ""),
            ("db.a.patch(\"1\", #{ w: 3, gone: () })", 200, "true"),
            ("db.a.get(\"1\")", 200, r#""w":3"#),
            ("db.a.get(\"1\").gone == ()", 200, "true"),
            ("db.a.patch(\"new\", #{ x: 9 }); db.a.get(\"new\").x", 200, "9"),
            ("db.a.increment(\"1\", \"x\", 2); db.a.get(\"1\").x", 200, "3"),
            ("db.a.increment(\"counter\", \"n\", 1.5); db.a.get(\"counter\").n", 200, "1.5"),
            ("db.a.increment(\"1\", \"x\", \"2\")", 500, "adds a number"),
            (
                "db.a.put(\"1\", #{ x: 0, at: 5 }); db.a.put(\"1\", #{ x: 1, at: 4 }, #{ if_newer: \"at\" })",
                200,
                "false",
            ),
            ("db.a.put(\"1\", #{ x: 1, at: 6 }, #{ if_newer: \"at\" })", 200, "true"),
            ("db.a.put(\"1\", #{}, #{ if_never: \"at\" })", 500, "unknown option `if_never`"),
            ("db.a.put(\"1\", #{}, #{ if_newer: 5 })", 500, "names a field"),
            ("db.a.delete(\"new\"); db.a.get(\"new\") == ()", 200, "true"),
            (
                "db.a.delete(\"t\", #{ tombstone: true }); db.a.put(\"t\", #{ at: 1 }, #{ if_newer: \"at\" })",
                200,
                "false",
            ),
            ("db.a.patch(\"t\", #{ a: 1 })", 200, "false"),
            ("db.a.insert(\"t\", #{ a: 1 }); db.a.get(\"t\").a", 200, "1"),
            ("db.a.delete(\"t\", #{ tomb: true })", 500, "unknown option `tomb`"),
            ("db.a.put((), #{})", 500, "so the value that should hold it is missing"),
            ("db.a.put(\"\", #{})", 500, "1 to 512 bytes"),
            ("db.a.put(\"x\", #{ f: |x| x })", 500, "`f`: a function cannot be JSON"),
            ("db[\"\"].get(1)", 500, "1 to 512 characters"),
            ("db[\"odd name\"].put(1, #{}); db[\"odd name\"].get(1)", 200, "{\"id\":\"1\"}"),
        ],
    );
}

#[test]
fn documents_are_found_by_filters_in_pages() {
    check_rows(
        "",
        &[
            (
                "for i in 0..1005 { let id = i.to_string(); id = sub_string(\"0000\", id.len) + id; db.n.put(id, #{ n: i, even: i % 2 == 0, tag: if i < 5 { \"low\" } else { \"high\" }, \"in\": #{ side: i } }); } 1",
                200,
                "1",
            ),
            ("db.n.list().len", 200, "100"),
            ("db.n.list(#{ limit: 1000 }).len", 200, "1000"),
            ("db.n.list(#{ limit: 1001 })", 500, "from 1 to 1000"),
            ("db.n.list(#{ limit: 0 })", 500, "from 1 to 1000"),
            ("db.n.list(#{ lmit: 1 })", 500, "unknown option `lmit`"),
            ("db.n.list(#{ limit: 2, after: \"1001\" }).map(|d| d.id)", 200, "[\"1002\",\"1003\"]"),
            ("db.n.list(#{ after: true })", 500, "id of the last document"),
            ("db.n.find(#{ tag: \"low\" }).len", 200, "5"),
            (
                "db.n.find(#{ tag: [\"low\", \"none\"] }, #{ limit: 3 }).map(|d| d.n)",
                200,
                "[0,1,2]",
            ),
            ("db.n.find(#{ n: #{ gte: 10, lt: 12 } }).map(|d| d.n)", 200, "[10,11]"),
            ("db.n.find(#{ \"in.side\": 7 })[0].n", 200, "7"),
            ("db.n.find(#{ even: true, tag: \"low\" }).len", 200, "3"),
            ("db.n.find(#{ n: #{ like: 1 } })", 500, "`like` is no operator"),
            ("db.n.find(#{ n: () }).len", 200, "0"),
            ("db.n.count()", 200, "1005"),
            ("db.n.count(#{ tag: \"low\" })", 200, "5"),
            ("db.none.count()", 200, "0"),
            (
                "db.n.put(\"z\", #{ tag: \"low\" }); [db.n.count(#{ tag: \"low\" }), db.n.find(#{ tag: \"low\" }).len]",
                200,
                "[6,6]",
            ),
        ],
    );
}

#[test]
fn time_and_chance_belong_to_the_run() {
    check_rows(
        "",
        &[
            ("[uuid(), uuid()].len", 200, "2"),
            ("uuid() == uuid()", 200, "false"),
            ("uuid().len", 200, "36"),
            ("let a = now(); sleep(\"5ms\"); now() - a >= 5", 200, "true"),
            ("now() > 1700000000000", 200, "true"),
            ("time::format(0)", 200, "1970-01-01"),
            ("time::parse(time::format(86400000))", 200, "86400000"),
        ],
    );
    let project = Project::new("get(\"/u\", #{ auth: \"none\" }, |req| uuid());");
    let rhaiway = project.start();
    let ids: BTreeSet<_> = (0..5).map(|_| rhaiway.get("/u").text().to_owned()).collect();
    assert_eq!(ids.len(), 5, "two requests share no uuid");
}

#[test]
fn vars_and_logs_carry_what_they_should_and_no_secret() {
    let more =
        "\n[vars]\nsupport_email = \"help@example.com\"\nlimit = 5\nnested = { list = [1, 2] }\n";
    let project = Project::with_more(
        more,
        r##"
        get("/vars", #{ auth: "none" }, |req| [vars.support_email, vars.limit + 1, vars.nested.list[1]]);
        get("/missing", #{ auth: "none" }, |req| vars.suport_email);
        get("/log", #{ auth: "none" }, |req| {
            log.info("a line", #{ order: 42 });
            log.warn("a warning");
            log.error(#{ oddly: "text" });
            log.trace("nobody sees it");
            print("printed");
            let long = ""; long.pad(100000, 'x');
            log.info(long);
            1
        });
        "##,
    );
    let rhaiway = project.start();
    assert_eq!(rhaiway.get("/vars").text(), "[\"help@example.com\",6,2]");
    let missing = rhaiway.get("/missing");
    assert_eq!(missing.status, 500);
    assert!(
        crate::support::logged(&rhaiway, &missing).contains("support_email"),
        "it names those that exist"
    );
    let id = rhaiway.get("/log").header("x-request-id").unwrap().to_owned();
    for (part, level) in
        [("a line", "INFO"), ("a warning", "WARN"), ("oddly", "ERROR"), ("printed", "INFO")]
    {
        let line = rhaiway.wait_for_log(part);
        assert!(line.contains(&id) && line.contains(level) && line.contains("\"main\""), "{line}");
    }
    assert!(rhaiway.wait_for_log("a line").contains("42"));
    let log = rhaiway.log();
    assert!(log.iter().all(|line| line.len() < 20_000 && !line.contains("nobody sees it")));
    assert!(log.iter().all(|line| !line.contains(crate::support::SECRET)));
}

#[test]
fn pure_modules_and_what_values_can_do() {
    check_rows(
        "fn f(x) { x + 1 }",
        &[
            ("json::parse(\"{\\\"a\\\":[1]}\").a[0]", 200, "1"),
            ("json::stringify(#{ a: 1 })", 200, "{\"a\":1}"),
            ("json::parse(\"{\")", 500, "not JSON"),
            ("base64::decode(base64::encode(\"hé\"))", 200, "hé"),
            ("hex::encode(\"ab\")", 200, "6162"),
            ("hash::sha256(\"abc\")", 200, "ba7816bf8f01cfea"),
            ("hmac::sha256(\"key\", \"text\").len", 200, "64"),
            ("hmac::equal(\"a\", \"a\")", 200, "true"),
            ("html::escape(\"<a href='x'>\")", 200, "&lt;a"),
            ("url::encode(\"a b/ä\")", 200, "a%20b%2F%C3%A4"),
            ("url::query(#{ a: 1, b: \"x y\" })", 200, "a=1&b=x"),
            ("[[1, 2].get(1), [1].get(5) == ()]", 200, "[2,true]"),
            ("[1, \"b\", true].join(\",\")", 200, "1,b,true"),
            ("#{ a: 1, b: 1 } + #{ b: 2 }", 200, "{\"a\":1,\"b\":2}"),
            ("[1, 2, 3].map(f)", 200, "[2,3,4]"),
            ("[1, 2, 3].find(|x| x > 1)", 200, "2"),
            ("[3, 1, 2].reduce(|sum, x| sum + x, 0)", 200, "6"),
            ("#{}.missing ?? \"none\"", 200, "none"),
            ("req.headers.nothing?.x ?? \"none\"", 200, "none"),
            ("\"5\".parse_int() + 1", 200, "6"),
        ],
    );
}

#[test]
fn a_script_s_own_names_win_with_a_warning_and_scripts_share_nothing() {
    let project = Project::new(
        "const NAME = \"main\";
         fn who() { global::NAME }
         get(\"/own\", #{ auth: \"none\" }, |req| { let db = #{ users: 5 }; db.users });
         get(\"/main\", #{ auth: \"none\" }, |req| who());",
    );
    project.write(
        "scripts/other.rhai",
        "const NAME = \"other\"; fn who() { global::NAME } get(\"/other\", #{ auth: \"none\" }, |req| who());",
    );
    let checked = project.run(&["check"]);
    assert_eq!(checked.status.code(), Some(0));
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&checked.stdout),
        String::from_utf8_lossy(&checked.stderr)
    );
    assert!(said.contains("warning") && said.contains("db"), "{said}");
    let rhaiway = project.start();
    assert_eq!(rhaiway.get("/own").text(), "5");
    assert_eq!(rhaiway.get("/main").text(), "main");
    assert_eq!(rhaiway.get("/other").text(), "other");
}

#[test]
fn event_parts_are_there_where_the_script_names_them() {
    let project = Project::new(
        r##"
        webhook("clerk", "named", |event| db.seen.put("named", #{
            kind: event.type, data: event.data.id, whole: event.payload.type, agent: event.headers["x-agent"], length: event.text.len,
            webhook: event.webhook, attempt: event.attempt, last: event.last_attempt, replayed: event.replayed, at: event.received_at,
            id: event.id, query: event.query,
        }));
        get("/seen", #{ auth: "none" }, |req| db.seen.get("named"));
        "##,
    );
    project.write(
        "scripts/plain.rhai",
        "webhook(\"clerk\", |event| db.seen.put(\"keys\", #{ k: event.keys() })); get(\"/k\", #{ auth: \"none\" }, |req| db.seen.get(\"keys\")?.k);",
    );
    let rhaiway = project.start();
    let delivery = crate::support::signed("msg_1", r#"{"type":"named","data":{"id":"u1"}}"#);
    let mut headers = delivery.headers();
    headers.push(("x-agent", "svix"));
    assert_eq!(rhaiway.post("/api/webhooks/clerk?a=1", &headers, &delivery.body).status, 200);
    let seen = crate::support::eventually("it was handled", || {
        let answer = rhaiway.get("/seen");
        (answer.status == 200).then(|| answer.json())
    });
    assert_eq!(
        (&seen["kind"], &seen["data"], &seen["whole"]),
        (&"named".into(), &"u1".into(), &"named".into())
    );
    assert_eq!((&seen["agent"], &seen["length"]), (&"svix".into(), &35.into()));
    assert_eq!(
        (&seen["attempt"], &seen["last"], &seen["replayed"]),
        (&1.into(), &false.into(), &false.into())
    );
    assert_eq!(seen["query"], serde_json::json!({ "a": "1" }));
    assert!(seen["at"].as_i64().unwrap() > 1_700_000_000_000);
    let keys = crate::support::eventually("the other was handled", || {
        let answer = rhaiway.get("/k");
        (answer.status == 200).then(|| answer.text().to_owned())
    });
    assert!(
        !keys.contains("payload") && !keys.contains("headers") && !keys.contains("text"),
        "{keys}"
    );
}
