//! V13, V28: a third party that repeats our key to us, and a URL that holds one. No script, answer, log or record ever has it.

use super::{PATIENT, TOLD, Table, answers, config, failed, get, routes};
use crate::support::upstream::{Step, Upstream, answer, redirect};
use crate::support::{Project, clerk_event, event, eventually, no_canary, no_canary_below, signed};

/// It looks different in JSON, in a URL and in base64.
const KEY: &str = "canary+key/of\"providers77";

const HANDLER: &str = r#"
webhook("clerk", "*", #{ retry: #{ max: 0 } }, |event| {
    let answer = echoed.request("GET", "/thing");
    log.warn("it said", #{ headers: answer.headers, body: answer.body });
    quoted.get("/thing");
});
"#;

#[test]
fn v13_a_key_that_is_echoed_is_nowhere_in_answer_log_and_database() {
    let in_json = serde_json::Value::from(KEY).to_string();
    let in_url: String = KEY.replace('+', "%2B").replace('/', "%2F").replace('"', "%22");
    let json = [("content-type", "application/json")];
    let header = [("content-type", "application/json"), ("x-echo", KEY)];
    let events = [("content-type", "text/event-stream")];
    let of = |bytes: Vec<u8>| Upstream::always(answers(&bytes));
    let upstreams = [
        (
            "quoted",
            of(answer("400 Bad Request", &json, format!("{{\"key\":{in_json}}}").as_bytes())),
        ),
        ("echoed", of(answer("200 OK", &header, format!("[{in_json}]").as_bytes()))),
        ("away", of(redirect("302 Found", &format!("http://elsewhere.example/?key={in_url}")))),
        ("garbled", of(answer("200 OK", &json, KEY.as_bytes()))),
        // Two hundred bytes are shown, and here they end within the key.
        ("cut", of(answer("500 Oops", &[], format!("{}{KEY}", "x".repeat(190)).as_bytes()))),
        (
            "streamed",
            of(answer("403 Forbidden", &json, format!("{{\"key\":{in_json}}}").as_bytes())),
        ),
        (
            "events",
            of(answer(
                "200 OK",
                &events,
                format!("data: {in_json}\n\ndata: {{\"error\":{{\"message\":{in_json}}}}}\n\n")
                    .as_bytes(),
            )),
        ),
        ("lost", Upstream::always(vec![Step::Read, Step::Send(KEY.as_bytes().to_vec())])),
    ];
    let urls: Vec<String> = upstreams.iter().map(|(_, upstream)| upstream.url()).collect();
    let keyed = format!("{PATIENT}\nauth = {{ bearer_env = \"PROVIDER_KEY\" }}");
    let tables: Vec<Table<'_>> =
        upstreams.iter().zip(&urls).map(|((name, _), url)| (*name, &**url, &*keyed)).collect();
    let names: Vec<&str> = upstreams.iter().map(|(name, _)| *name).collect();
    let streamed = format!(
        "get(\"/stream\", #{{ auth: \"none\" }}, |req| {{ try {{ return streamed.get(\"/thing\", #{{ stream: true }}); }} catch (err) {{ return {TOLD}; }} }});"
    );
    let read = format!(
        "get(\"/read\", #{{ auth: \"none\" }}, |req| {{ let seen = []; try {{ for chunk in events.get(\"/thing\", #{{ stream: true }}) {{ seen.push(chunk); }} }} catch (err) {{ return #{{ seen: seen, err: {TOLD} }}; }} }});
         get(\"/pass\", #{{ auth: \"none\" }}, |req| events.get(\"/thing\", #{{ stream: true }}));\n"
    );
    let script = format!("{}{read}{streamed}{HANDLER}", routes(&names));
    let project = Project::with_config(&config(1, "development", &tables), &script);
    let mut command = project.command(&["run"]);
    command.env("PROVIDER_KEY", KEY).env("RUST_LOG", "debug");
    let rhaiway = project.start_as(command);

    let mut heard = Vec::new();
    for name in &names {
        for way in ["get", "whole", "bare"] {
            let answer = rhaiway.get(&format!("/{name}/{way}"));
            heard.extend_from_slice(format!("{:?}", answer.headers).as_bytes());
            heard.extend_from_slice(&answer.body);
        }
    }
    for path in ["/stream", "/read", "/pass"] {
        let answer = rhaiway.get(path);
        assert_eq!(answer.status, 200, "{path}");
        heard.extend_from_slice(&answer.body);
    }
    assert_eq!(get(&rhaiway, "/read")["seen"][0], "[secret]");
    assert!(get(&rhaiway, "/read")["err"]["message"].as_str().unwrap().ends_with(": [secret]"));
    assert!(upstreams.iter().all(|(_, upstream)| {
        let asked = upstream.requests();
        asked[0].header("authorization") == Some(&format!("Bearer {KEY}"))
    }));
    failed(&get(&rhaiway, "/quoted/get"), "INVALID_REQUEST", "it answered 400");
    assert_eq!(get(&rhaiway, "/quoted/get")["body"]["key"], "[secret]");
    assert_eq!(get(&rhaiway, "/echoed/whole")["headers"]["x-echo"], "[secret]");

    let body = clerk_event("user.created", "user_1", 1);
    assert_eq!(rhaiway.deliver(&signed("msg_1", body)).status, 200);
    eventually("it is dead", || event(&project, "msg_1").filter(|event| event["state"] == "dead"));
    rhaiway.wait_for_log("it said");
    let log = rhaiway.log().join("\n");
    rhaiway.stop();
    let escaped = &in_json[1..in_json.len() - 1];
    for key in [KEY, escaped, &in_url, "canary+key"] {
        no_canary("an answer", &heard, key);
        no_canary("the log", log.as_bytes(), key);
        no_canary_below(&project.at("data"), key);
    }
}

#[test]
fn v28_a_base_url_is_kept_as_documented_or_refused_and_never_shown_with_a_password() {
    let check = |url: &str, code: i32, part: &str| {
        let project = Project::with_config(&config(1, "development", &[("x", url, "")]), "");
        let (stdout, stderr) = project.expect(code, &["check"]);
        let all = format!("{stdout}{stderr}");
        assert!(all.contains(part), "{url}: {all}");
        assert!(!all.contains("hunter2"), "{all}");
    };
    check("https://me:hunter2@api.example.com", 1, "no user and no password");
    check("https://hunter2@api.example.com", 1, "no user and no password");
    check("https://api.example.com/v1?key=hunter2", 1, "no `?` and no `#`");
    check("https://api.example.com/#hunter2", 1, "no `?` and no `#`");
    check("api.example.com", 1, "it begins with `https://`");
    check("ftp://api.example.com", 1, "it begins with `https://`");
    check("https://", 1, "it begins with `https://`");
    check("https://api.example.com/v1/", 0, "");
}

#[test]
fn v28_a_url_that_is_a_secret_is_never_shown_and_a_wrong_one_is_not_configured() {
    let table = |more: &str| {
        format!(
            "{}\n[providers.x]\nkind = \"http\"\nbase_url_env = \"HOOK\"\n{more}\n",
            config(1, "development", &[])
        )
    };
    let upstream = Upstream::always(vec![Step::Read, Step::Reset]);
    let project = Project::with_config(&table(PATIENT), &routes(&["x"]));
    let mut command = project.command(&["run"]);
    let hook = format!("{}/hooks/canary-hook-77", upstream.url());
    command.env("HOOK", &hook).env("RUST_LOG", "debug");
    let rhaiway = project.start_as(command);
    failed(&get(&rhaiway, "/x/get"), "SERVICE_UNAVAILABLE", "the connection broke");
    assert_eq!(upstream.requests()[0].path, "/hooks/canary-hook-77/thing");
    no_canary("the log", rhaiway.log().join("\n").as_bytes(), "canary-hook-77");
    rhaiway.stop();

    let project = Project::with_config(&table(PATIENT), &routes(&["x"]));
    let mut command = project.command(&["run"]);
    command.env("HOOK", "https://me:hunter2@api.example.com");
    let rhaiway = project.start_as(command);
    failed(&get(&rhaiway, "/x/get"), "CONFIGURATION_ERROR", "HOOK is not set");
    let bare = rhaiway.get("/x/bare");
    assert_eq!((bare.status, bare.code().as_str()), (500, "CONFIGURATION_ERROR"));
    no_canary("the log", rhaiway.log().join("\n").as_bytes(), "hunter2");
}
