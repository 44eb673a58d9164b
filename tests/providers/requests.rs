//! V23, S13, S39: what a script may ask for. What is refused is refused before a byte is sent.

use super::{PATIENT, TOLD, answers, calling, config, failed, routes};
use crate::support::upstream::{Upstream, json};
use crate::support::{Project, Rhaiway, eventually};

fn asking(upstream: &Upstream, also: &str) -> (Project, Rhaiway) {
    let more = format!("{PATIENT}\n{also}");
    let script = format!(
        "post(\"/ask\", #{{ auth: \"none\" }}, |req| {{ try {{ return #{{ got: x.get(req.json.path, #{{ headers: req.json.headers }}) }}; }} catch (err) {{ return {TOLD}; }} }});"
    );
    let project =
        Project::with_config(&config(1, "development", &[("x", &upstream.url(), &more)]), &script);
    let rhaiway = project.start();
    (project, rhaiway)
}

fn ask(rhaiway: &Rhaiway, path: &str, headers: &serde_json::Value) -> serde_json::Value {
    let body = serde_json::json!({ "path": path, "headers": headers }).to_string();
    rhaiway.post("/ask", &[("content-type", "application/json")], body.as_bytes()).json()
}

#[test]
fn v23_what_says_who_calls_or_leads_elsewhere_is_refused_and_nothing_is_sent() {
    let upstream = Upstream::always(answers(&json("{\"n\":1}")));
    let (_project, rhaiway) = asking(&upstream, "");
    let none = serde_json::json!({});
    let base = upstream.url();
    for header in [
        "Authorization",
        "authorization",
        "Proxy-Authorization",
        "Cookie",
        "Host",
        "HOST",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "TE",
        "Trailer",
        "Upgrade",
        "Expect",
        "Accept-Encoding",
    ] {
        let told = ask(&rhaiway, "/thing", &serde_json::json!({ header: "1" }));
        failed(&told, "INVALID_REQUEST", "nothing was sent");
    }
    for path in [
        "https://good.com.evil.com/",
        "https://good.com@evil.com/",
        "//evil.example/",
        "/\\evil.example",
        "\\\\evil.example",
        "http://127.0.0.1/",
        "file:///etc/passwd",
        "/../x",
        "/a/%2e%2E/x",
        "/x#y",
        "/x\r\nhost: evil",
        &format!("{base}.evil.example/"),
        &base.replace("localhost", "localhost@evil.example"),
        &base.replace("localhost", "me:word@localhost"),
        &base.replace("http:", "https:"),
    ] {
        failed(&ask(&rhaiway, path, &none), "INVALID_REQUEST", "");
    }
    assert_eq!(upstream.connections(), 0);
    assert_eq!(ask(&rhaiway, &format!("{base}/v1?a=1"), &none)["got"]["n"], 1);
    assert_eq!(upstream.requests()[0].path, "/v1?a=1");
}

#[test]
fn v23_a_whole_url_may_lead_where_config_says_so_too() {
    let upstream = Upstream::always(answers(&json("{\"n\":1}")));
    let other = Upstream::always(answers(&json("{\"n\":2}")));
    let (_project, rhaiway) = asking(&upstream, &format!("also = [\"{}/hooks/\"]", other.url()));
    let none = serde_json::json!({});
    assert_eq!(ask(&rhaiway, &format!("{}/hooks/1", other.url()), &none)["got"]["n"], 2);
    for path in ["/other", "/hooks/../other", "/hooksy"] {
        failed(&ask(&rhaiway, &format!("{}{path}", other.url()), &none), "INVALID_REQUEST", "");
    }
    assert_eq!(other.requests().len(), 1);
}

#[test]
fn s13_what_cannot_be_json_is_an_error_before_anything_is_sent() {
    let upstream = Upstream::always(answers(&json("{\"n\":1}")));
    let rows = [
        ("deep", "let a = []; for i in 0..300 { a = [a]; } x.post(\"/\", #{ json: a })", "127"),
        ("function", "x.post(\"/\", #{ json: #{ a: |y| y } })", "a function cannot be JSON"),
        (
            "itself",
            "let a = #{}; a.f = || a; x.post(\"/\", #{ json: a })",
            "a function cannot be JSON",
        ),
        ("provider", "x.post(\"/\", #{ json: x })", "cannot be"),
        ("number", "x.post(\"/\", #{ json: 0.0 / 0.0 })", "NaN cannot be JSON"),
        ("query", "x.get(\"/\", #{ query: #{ a: |y| y } })", "a function cannot be JSON"),
        ("two", "x.post(\"/\", #{ json: 1, body: \"2\" })", "do not go together"),
        ("option", "x.post(\"/\", #{ jsn: 1 })", "jsn"),
    ];
    let script: String = rows
        .iter()
        .map(|(name, body, _)| {
            format!("get(\"/{name}\", #{{ auth: \"none\" }}, |req| {{ {body} }});\n")
        })
        .collect();
    let project = Project::with_config(
        &config(1, "development", &[("x", &upstream.url(), PATIENT)]),
        &script,
    );
    let rhaiway = project.start();
    for (name, _, part) in rows {
        let answer = rhaiway.get(&format!("/{name}"));
        assert_eq!((answer.status, answer.code().as_str()), (500, "SCRIPT_ERROR"), "{name}");
        let id = answer.json()["id"].as_str().expect("an id").to_owned();
        eventually(&format!("{name} is in the log with {part:?}"), || {
            rhaiway.log().iter().any(|line| line.contains(&id) && line.contains(part)).then_some(())
        });
    }
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn s39_a_call_while_a_script_loads_is_refused_with_its_line_and_the_old_version_goes_on() {
    let upstream = Upstream::always(answers(&json("{\"n\":1}")));
    let (project, rhaiway) = calling(&upstream, PATIENT);
    project
        .write("scripts/main.rhai", format!("{}\nlet early = 1;\nx.get(\"/thing\");", routes(&[])));
    let said = rhaiway.wait_for_log("cannot run while");
    assert!(said.contains("main.rhai:3"), "{said}");
    assert_eq!(upstream.connections(), 0);
    assert_eq!(rhaiway.get("/x/bare").json()["n"], 1);
    let (stdout, stderr) = project.expect(1, &["check"]);
    assert!(format!("{stdout}{stderr}").contains("main.rhai:3"), "{stdout}{stderr}");
}
