//! X9: no secret gets out, whoever tries: a script that prints one, throws one and has it in an event. Every other test looks for its own
//! (`support/canary`).

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;

use serde_json::json;

use crate::support::{
    Project, Rhaiway, admin, clerk_event, event, eventually, no_canary, no_canary_below, signed,
};

/// A text that looks different in JSON, in a URL and in base64. Scripts get it in two halves, for what came in is kept as it came.
const CANARY: &str = "canary+front/door\"77é";
const HALVES: [&str; 2] = ["canary+front", "/door\"77é"];

const MORE: &str = r#"
[webhooks.other]
path = "/other"
scheme = "stripe"
secret_env = "OTHER_SECRET"
"#;

const SCRIPT: &str = r#"
webhook("clerk", "*", #{ retry: #{ max: 0 } }, |event| {
    let s = event.data.first + event.data.second;
    print("printed " + s);
    log.warn("logged " + s, #{ deep: [#{ s: s }], coded: base64::encode("user:" + s) });
    throw "thrown " + s;
});
get("/echo", #{ auth: "none" }, |req| {
    let s = req.query.first + req.query.second;
    debug("asked " + s);
    throw #{ code: s, message: "a map with " + s };
});
"#;

fn start(project: &Project) -> Rhaiway {
    let mut command = project.command(&["run"]);
    command.env("OTHER_SECRET", CANARY).env("RUST_LOG", "debug");
    project.start_as(command)
}

fn in_json(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

#[test]
fn x9_a_secret_that_a_script_has_got_hold_of_is_in_no_log_no_answer_and_no_record() {
    let project = Project::with_more(MORE, SCRIPT);
    let rhaiway = start(&project);
    let mut sent: serde_json::Value =
        serde_json::from_str(&clerk_event("user.created", "user_1", 1)).unwrap();
    sent["data"]["first"] = HALVES[0].into();
    sent["data"]["second"] = HALVES[1].into();
    assert_eq!(rhaiway.deliver(&signed("msg_1", sent.to_string())).status, 200);
    let answer = rhaiway.get("/echo?first=canary%2Bfront&second=%2Fdoor%2277%C3%A9");
    assert_eq!(answer.status, 500);
    no_canary("an answer", &answer.body, CANARY);

    for said in ["printed [secret]", "logged [secret]", "asked [secret]", "thrown [secret]"] {
        rhaiway.wait_for_log(said);
    }
    rhaiway.wait_for_log("a map with [secret]");
    let dead = eventually("it is dead", || {
        event(&project, "msg_1").filter(|event| event["state"] == "dead")
    });
    let id = dead["id"].as_str().expect("an id");
    let kept = admin(&project, &format!("/v1/events/{id}"));
    assert!(kept.text().contains("logged [secret]"), "{}", kept.text());
    assert!(kept.text().contains("thrown [secret]"), "{}", kept.text());
    let log = rhaiway.log().join("\n");
    let shown = project.run(&["events", id]);
    rhaiway.stop();
    for secret in [CANARY.to_owned(), in_json(CANARY), in_json(&in_json(CANARY))] {
        no_canary("the log", log.as_bytes(), &secret);
        no_canary("the admin socket", &kept.body, &secret);
        no_canary("`rhaiway events`", &shown.stdout, &secret);
        no_canary_below(&project.at("data"), &secret);
    }
    // What stands before it in base64 is left: five bytes and a part of the next.
    assert!(log.contains("dXNlcjp[secret]"), "{log}");
}

#[test]
fn x9_a_secret_that_was_rotated_away_is_still_taken_out() {
    let project = Project::with_more(MORE, SCRIPT);
    project.write(".env", "OTHER_SECRET=canary+front/one\n");
    let rhaiway = project.start();
    let echo = |second: &str| rhaiway.get(&format!("/echo?first=canary%2Bfront&second=/{second}"));
    assert_eq!(echo("one").status, 500);
    rhaiway.wait_for_log("a map with [secret]");
    let before = rhaiway.count_log("a map with [secret]");
    let generation = rhaiway.generation(&project);
    project.write(".env", "OTHER_SECRET=canary+front/two\n");
    eventually("the new one serves", || (rhaiway.generation(&project) > generation).then_some(()));
    for (n, secret) in ["two", "one"].into_iter().enumerate() {
        assert_eq!(echo(secret).status, 500);
        eventually("it is logged", || {
            (rhaiway.count_log("a map with [secret]") > before + n).then_some(())
        });
    }
    assert_eq!(rhaiway.count_log("canary+front/"), 0);
}

/// A third party that says back how it was asked, as some do in errors; the status is in the path.
fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let status = lines.next().unwrap_or_default();
            let status = status.split(['/', ' ']).nth(2).unwrap_or("200").to_owned();
            let key = lines.find(|line| line.to_ascii_lowercase().starts_with("authorization:"));
            let key = key.unwrap_or_default();
            let body = format!("{{\"message\":\"you sent {key}\"}}");
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nx-asked: {key}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            _ = (&stream).write_all(format!("{head}{body}").as_bytes());
        }
    });
    format!("http://{address}")
}

#[test]
fn x9_a_key_that_a_provider_says_back_reaches_no_script_no_caller_and_no_log() {
    let key = "key-of-a-provider-0123";
    let more = format!(
        "[providers.echo]\nkind = \"http\"\nbase_url = \"{}\"\nauth = {{ bearer_env = \"OTHER_SECRET\" }}\nretry = {{ max = 0 }}\n",
        echo()
    );
    let project = Project::with_more(
        &more,
        r#"
        get("/whole/{status}", #{ auth: "none" }, |req| {
            let answer = echo.request("GET", `/${req.params.status}`);
            [answer.body.message, answer.headers["x-asked"], answer.body.message.contains("0123")]
        });
        get("/thrown/{status}", #{ auth: "none" }, |req| echo.get(`/${req.params.status}`));
        get("/caught/{status}", #{ auth: "none" }, |req| {
            try { return echo.get(`/${req.params.status}`, #{ stream: true }); } catch (err) { log.info(err.message); return err; }
        });
        webhook("clerk", "*", #{ retry: #{ max: 0 } }, |event| echo.post("/400"));
        "#,
    );
    let mut command = project.command(&["run"]);
    command.env("OTHER_SECRET", key).env("RUST_LOG", "debug");
    let rhaiway = project.start_as(command);
    let whole = rhaiway.get("/whole/200").json();
    let told = "you sent authorization: Bearer [secret]";
    assert_eq!(whole, json!([told, "authorization: Bearer [secret]", false]));
    for path in ["/whole/400", "/thrown/400", "/thrown/500", "/caught/400", "/caught/503"] {
        no_canary(path, &rhaiway.get(path).body, key);
    }
    assert_eq!(rhaiway.deliver(&signed("msg_1", clerk_event("a", "user_1", 1))).status, 200);
    let dead = eventually("it is dead", || {
        event(&project, "msg_1").filter(|event| event["state"] == "dead")
    });
    let kept = admin(&project, &format!("/v1/events/{}", dead["id"].as_str().unwrap()));
    assert!(kept.text().contains("[secret]"), "{}", kept.text());
    let log = rhaiway.log().join("\n");
    assert!(log.contains("[secret]"), "{log}");
    rhaiway.stop();
    no_canary("the admin socket", &kept.body, key);
    no_canary("the log", log.as_bytes(), key);
    no_canary_below(&project.at("data"), key);
}

#[cfg(target_os = "linux")]
#[test]
fn x9_a_crash_leaves_no_core_dump() {
    let project = Project::new("");
    let rhaiway = project.start();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", rhaiway.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
}
