//! A delivery through the front door: verified, stored once, handled once, visible to a route.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rusqlite::Connection as Database;

use crate::support::{
    Connection, Project, Response, Rhaiway, SECRET, Signed, clerk_event, eventually, render,
    request, signed, signed_at,
};

/// Users by id, and a count of the handler's runs.
const USERS: &str = r#"
webhook("clerk", ["user.created", "user.updated"], |event| {
    db.users.put(event.data.id, #{ name: event.data.first_name, updated_at: event.data.updated_at }, #{ if_newer: "updated_at" });
    db.counts.increment("runs", "n", 1);
});
webhook("clerk", "user.deleted", |event| db.users.delete(event.data.id, #{ tombstone: true }));
get("/users/{id}", #{ auth: "none" }, |req| db.users.get(req.params.id) ?? status(404));
get("/runs", #{ auth: "none" }, |req| #{ n: db.counts.get("runs")?.n ?? 0 });
"#;

#[test]
fn w2_a_duplicate_delivery_is_acknowledged_and_not_handled_again() {
    let project = Project::new(USERS);
    let rhaiway = project.start();
    let delivery = signed("msg_1", clerk_event("user.created", "u1", 1));
    for _ in 0..3 {
        let answer = rhaiway.deliver(&delivery);
        assert_eq!((answer.status, answer.text()), (200, r#"{"received":true}"#));
    }
    eventually("the user is there", || (rhaiway.get("/users/u1").status == 200).then_some(()));
    let other = signed("msg_2", clerk_event("user.created", "u2", 1));
    rhaiway.deliver(&other);
    eventually("the second user is there", || {
        (rhaiway.get("/users/u2").status == 200).then_some(())
    });
    assert_eq!(rhaiway.get("/runs").json()["n"], 2);
}

#[test]
fn an_update_that_arrives_after_the_deletion_does_not_bring_a_user_back() {
    let project = Project::new(USERS);
    let rhaiway = project.start();
    rhaiway.deliver(&signed("msg_1", clerk_event("user.created", "u1", 10)));
    eventually("the user is there", || (rhaiway.get("/users/u1").status == 200).then_some(()));
    rhaiway.deliver(&signed("msg_2", clerk_event("user.deleted", "u1", 0)));
    eventually("the user is gone", || (rhaiway.get("/users/u1").status == 404).then_some(()));
    rhaiway.deliver(&signed("msg_3", clerk_event("user.updated", "u1", 9)));
    eventually("the late update was handled", || {
        (rhaiway.get("/runs").json()["n"] == 2).then_some(())
    });
    assert_eq!(rhaiway.get("/users/u1").status, 404);
}

const PATH: &str = "/api/webhooks/clerk";
/// Another secret, as rotation needs.
const PREVIOUS: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
/// Stores what comes, and does nothing with it.
const NOTHING: &str = r#"webhook("clerk", |event| 1);"#;

fn now() -> i64 {
    signed("x", "").timestamp.parse().unwrap()
}

fn post(rhaiway: &Rhaiway, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, String) {
    let answer = rhaiway.post(path, headers, body);
    let code = if answer.status == 200 { String::new() } else { answer.code() };
    (answer.status, code)
}

fn with(delivery: &Signed, timestamp: &str, signature: &str) -> Vec<(String, String)> {
    let headers =
        [("svix-id", &*delivery.id), ("svix-timestamp", timestamp), ("svix-signature", signature)];
    headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

/// The answer to these headers instead of those that its sender made.
fn answer_to(rhaiway: &Rhaiway, delivery: &Signed, headers: &[(String, String)]) -> (u16, String) {
    let headers: Vec<(&str, &str)> =
        headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    post(rhaiway, PATH, &headers, &delivery.body)
}

fn refused() -> (u16, String) {
    (401, "INVALID_SIGNATURE".to_owned())
}

#[test]
fn w1_timestamps_beyond_the_tolerance_in_either_direction_or_of_another_kind_are_refused() {
    let project = Project::with_more("tolerance = \"1m\"", NOTHING);
    let rhaiway = project.start();
    let body = clerk_event("user.created", "u1", 1);
    let at = |id: &str, at| rhaiway.deliver(&signed_at(SECRET, id, at, &*body)).status;
    // Its clock and this one's tick apart by a second at most while it answers.
    for (n, (offset, status)) in
        [(-55, 200), (55, 200), (-62, 401), (65, 401), (-1_000_000, 401)].into_iter().enumerate()
    {
        assert_eq!(at(&format!("msg_{n}"), now() + offset), status, "{offset}");
    }
    assert_eq!(at("negative", -now()), 401);
    assert_eq!(at("milliseconds", now() * 1000), 401);
    rhaiway.wait_for_log("milliseconds");
    let delivery = signed("msg_9", &*body);
    for wrong in ["", "1e9", "99999999999999999999", "+1", "0x5", "now"] {
        let headers = with(&delivery, wrong, &delivery.signature);
        assert_eq!(answer_to(&rhaiway, &delivery, &headers), refused(), "{wrong:?}");
    }
    assert_eq!(project.stored().len(), 2);
}

#[test]
fn w3_the_same_id_with_another_body_is_acknowledged_stored_once_and_told_of() {
    let project = Project::new(NOTHING);
    let rhaiway = project.start();
    rhaiway.deliver(&signed("msg_1", clerk_event("user.created", "first", 1)));
    let other = rhaiway.deliver(&signed("msg_1", clerk_event("user.created", "CANARY-second", 1)));
    assert_eq!((other.status, other.text()), (200, r#"{"received":true}"#));
    let event = project.wait_for_state("msg_1", "done");
    assert!(event["body"].as_str().unwrap().contains("first"));
    assert_eq!(project.stored().len(), 1);
    rhaiway.wait_for_log("came again with another body");
    assert!(!rhaiway.log().join("\n").contains("CANARY"), "a payload is in the log");
}

#[test]
fn w4_the_same_id_on_many_connections_at_once_is_one_event_and_every_sender_hears_200() {
    let script = r#"
        webhook("clerk", |event| db.counts.increment("runs", "n", 1));
        get("/runs", #{ auth: "none" }, |req| db.counts.get("runs") ?? #{ n: 0 });
    "#;
    let project = Project::new(script);
    let rhaiway = project.start();
    let delivery = signed("msg_1", clerk_event("user.created", "u1", 1));
    let statuses: Vec<u16> = thread::scope(|scope| {
        let send = || rhaiway.deliver(&delivery).status;
        let senders: Vec<_> = (0..30).map(|_| scope.spawn(send)).collect();
        senders.into_iter().map(|sender| sender.join().unwrap()).collect()
    });
    assert_eq!(statuses, [200; 30]);
    project.wait_for_state("msg_1", "done");
    assert_eq!(project.stored().len(), 1);
    assert_eq!(rhaiway.get("/runs").json()["n"], 1);
}

#[test]
fn w5_a_duplicate_that_arrives_before_the_first_is_committed_is_answered_only_after_it() {
    let project = Project::new(NOTHING);
    let rhaiway = project.start();
    let other = database(&project);
    other.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let committing = AtomicBool::new(false);
    let delivery = signed("msg_1", clerk_event("user.created", "u1", 1));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut connection = Connection::open(rhaiway.address());
                let request = render("POST", PATH, &delivery.headers(), &delivery.body);
                connection.send(&request).unwrap();
                let answer = connection.read().unwrap();
                assert_eq!((answer.status, committing.load(Ordering::SeqCst)), (200, true));
            });
        }
        // While the lock is held nothing can be committed, so nobody may have heard anything when it is given back.
        thread::sleep(std::time::Duration::from_millis(100));
        committing.store(true, Ordering::SeqCst);
        other.execute_batch("COMMIT").unwrap();
    });
    project.wait_for_state("msg_1", "done");
    assert_eq!(project.stored().len(), 1);
}

/// The request as stored: how an event came.
pub(crate) fn stored_request(project: &Project, delivery_id: &str) -> serde_json::Value {
    let question = "SELECT request FROM payloads JOIN events USING (seq) WHERE delivery_id = ?1";
    let request: String =
        database(project).query_row(question, [delivery_id], |row| row.get(0)).unwrap();
    serde_json::from_str(&request).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "another program than Rhaiway opens its file here")]
fn database(project: &Project) -> Database {
    Database::open(project.at("data/rhaiway.db")).unwrap()
}

#[test]
fn w7_what_is_signed_with_the_previous_secret_is_accepted_and_its_record_names_which() {
    let secrets = r#"
[webhooks.both]
path = "/both"
scheme = "svix"
secret_env = ["CLERK_WEBHOOK_SECRET", "PREVIOUS_SECRET"]
"#;
    let project = Project::with_more(secrets, NOTHING);
    let mut command = project.command(&["run"]);
    command.env("PREVIOUS_SECRET", PREVIOUS);
    let rhaiway = project.start_as(command);
    let body = clerk_event("user.created", "u1", 1);
    let third = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    for (id, secret, status) in [("new", SECRET, 200), ("old", PREVIOUS, 200), ("no", third, 401)] {
        let delivery = signed_at(secret, id, now(), &*body);
        let answer = rhaiway.post("/both", &delivery.headers(), &delivery.body);
        assert_eq!(answer.status, status, "{id}");
    }
    assert_eq!(stored_request(&project, "new")["secret"], "CLERK_WEBHOOK_SECRET");
    assert_eq!(stored_request(&project, "old")["secret"], "PREVIOUS_SECRET");
    let log = rhaiway.log().join("\n");
    for secret in [SECRET, PREVIOUS] {
        assert!(!log.contains(&secret["whsec_".len()..]), "a secret is in the log");
    }
}

#[test]
fn w8_a_webhook_without_a_usable_secret_is_not_configured_and_says_which_variable() {
    let values = [
        ("UNSET", None),
        ("EMPTY", Some("")),
        ("BLANKS", Some("  ")),
        ("QUOTED", Some("\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"")),
        ("NEWLINE", Some("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")),
        ("NOT_BASE64", Some("whsec_!!!!CANARY!!!!")),
        ("API_KEY", Some("sk_test_CANARY4eC39HqLyjWDarjtT1zdp7dc")),
    ];
    let more: String = values
        .iter()
        .map(|(name, _)| {
            let path = name.to_lowercase();
            format!("[webhooks.{path}]\npath = \"/{path}\"\nscheme = \"svix\"\nsecret_env = \"{name}\"\n")
        })
        .collect();
    let project = Project::with_more(&more, NOTHING);
    let set = |mut command: Command| {
        values.iter().filter_map(|(name, value)| Some((name, (*value)?))).for_each(
            |(name, value)| {
                command.env(name, value);
            },
        );
        command
    };
    let rhaiway = project.start_as(set(project.command(&["run"])));
    let body = clerk_event("user.created", "u1", 1);
    for (name, _) in values {
        // An empty key would make this signature.
        for secret in [SECRET, "whsec_", "whsec_AAAA"] {
            let Ok(signer) = svix::webhooks::Webhook::new(secret) else { continue };
            let timestamp = now();
            let signature = signer.sign("msg_1", timestamp, body.as_bytes()).unwrap();
            let timestamp = timestamp.to_string();
            let headers = [
                ("svix-id", "msg_1"),
                ("svix-timestamp", &*timestamp),
                ("svix-signature", &*signature),
            ];
            let found =
                post(&rhaiway, &format!("/{}", name.to_lowercase()), &headers, body.as_bytes());
            assert_eq!(found, (500, "CONFIGURATION_ERROR".to_owned()), "{name} {secret}");
        }
    }
    rhaiway.deliver(&signed("msg_1", &*body));
    project.wait_for_state("msg_1", "done");
    let checked = set(project.command(&["check"])).output().unwrap();
    let said = String::from_utf8_lossy(&checked.stdout) + String::from_utf8_lossy(&checked.stderr);
    for (name, _) in values {
        assert!(said.contains(name), "{name} is not in {said}");
    }
    assert!(said.contains("sk_test_"), "the prefix says what it is: {said}");
    let log = rhaiway.log().join("\n");
    assert!(!log.contains("CANARY") && !said.contains("CANARY"), "a secret is shown");
}

#[test]
fn w9_signatures_that_are_not_exactly_right_are_refused() {
    let project = Project::new(NOTHING);
    let rhaiway = project.start();
    let delivery = signed("msg_1", clerk_event("user.created", "u1", 1));
    let (version, digest) = delivery.signature.split_once(',').unwrap();
    let first = if digest.starts_with('A') { "B" } else { "A" };
    let hex = "0".repeat(64);
    let wrong = [
        format!("{version},{first}{}", &digest[1..]),
        format!("{version},{}", &digest[..digest.len() - 4]),
        format!("{version},{}", digest.to_uppercase()),
        format!("{version},{hex}"),
        format!("v2,{digest}"),
        format!("v1a,{digest}"),
        digest.to_owned(),
        format!("{version},"),
        ",".to_owned(),
        String::new(),
        format!("{version};{digest}"),
    ];
    for signature in &wrong {
        let headers = with(&delivery, &delivery.timestamp, signature);
        assert_eq!(answer_to(&rhaiway, &delivery, &headers), refused(), "{signature}");
    }
    let several = format!("v9,AAAA {} {}", wrong[0], delivery.signature);
    let headers = with(&delivery, &delivery.timestamp, &several);
    assert_eq!(answer_to(&rhaiway, &delivery, &headers).0, 200, "one of several is enough");
    for missing in 0..3 {
        let mut headers = with(&delivery, &delivery.timestamp, &delivery.signature);
        headers.remove(missing);
        assert_eq!(answer_to(&rhaiway, &delivery, &headers), refused(), "without {missing}");
    }
    let answer = rhaiway.post(PATH, &[], &delivery.body);
    let expected = r#"{"error":"Invalid webhook signature","code":"INVALID_SIGNATURE"}"#;
    let json: serde_json::Value = serde_json::from_str(expected).unwrap();
    assert_eq!((answer.status, answer.json()), (401, json));
    assert_eq!(project.stored().len(), 1);
}

#[test]
fn w10_a_body_that_a_proxy_wrote_anew_is_refused_and_the_log_has_the_hint() {
    let project = Project::new(NOTHING);
    let rhaiway = project.start();
    let mut delivery = signed("msg_1", clerk_event("user.created", "CANARY", 1));
    let value: serde_json::Value = serde_json::from_slice(&delivery.body).unwrap();
    delivery.body = serde_json::to_vec_pretty(&value).unwrap();
    assert_eq!(rhaiway.deliver(&delivery).status, 401);
    let line = rhaiway.wait_for_log("was refused");
    assert!(line.contains("changed on the way"), "{line}");
    assert!(!line.contains("CANARY"), "a payload is in the log");
}

#[test]
fn standard_webhooks_headers_are_accepted_by_their_own_scheme_and_by_svix() {
    let config = r#"
[webhooks.standard]
path = "/standard"
scheme = "standard-webhooks"
secret_env = "CLERK_WEBHOOK_SECRET"
"#;
    let project = Project::with_more(config, NOTHING);
    let rhaiway = project.start();
    let headers = |delivery: &Signed| {
        let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
        let values = [&delivery.id, &delivery.timestamp, &delivery.signature];
        names.into_iter().zip(values.map(String::clone)).collect::<Vec<_>>()
    };
    for path in [PATH, "/standard"] {
        for _ in 0..2 {
            let delivery = signed("msg_1", clerk_event("user.created", "u1", 1));
            let headers = headers(&delivery);
            let headers: Vec<(&str, &str)> =
                headers.iter().map(|(name, value)| (*name, &**value)).collect();
            assert_eq!(post(&rhaiway, path, &headers, &delivery.body), (200, String::new()));
            assert_eq!(post(&rhaiway, path, &headers, b"{}"), refused());
        }
    }
    assert_eq!(project.stored().len(), 2, "once a webhook");
}

#[test]
fn w34_a_webhook_s_path_that_something_else_serves_is_refused_with_both_places() {
    let route = format!(r#"post("{PATH}", #{{ auth: "none" }}, |req| 1);"#);
    let health = "[webhooks.health]\npath = \"/healthz\"\nscheme = \"svix\"\nsecret_env = \"X\"";
    let twice =
        format!("[webhooks.twice]\npath = \"{PATH}\"\nscheme = \"svix\"\nsecret_env = \"X\"");
    let cases = [
        (Project::new(&route), vec!["main.rhai", "config.toml", PATH]),
        (Project::with_more(health, NOTHING), vec!["/healthz", "config.toml"]),
        (Project::with_more(&twice, NOTHING), vec![PATH, "config.toml", "clerk", "twice"]),
    ];
    for (project, words) in cases {
        for command in ["check", "run"] {
            let output = project.run(&[command]);
            let said =
                String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
            assert_eq!(output.status.code(), Some(1), "{command}: {said}");
            for word in &words {
                assert!(said.contains(word), "{command}: {word} is not in {said}");
            }
        }
    }
}

/// A delivery that must be refused for now, in the words of the contract.
fn check_unavailable(answer: &Response) {
    assert_eq!((answer.status, &*answer.code()), (503, "SERVICE_UNAVAILABLE"), "{}", answer.text());
    let retry_after: u32 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!(retry_after > 0);
}

fn deliver_n(rhaiway: &Rhaiway, n: usize) -> Response {
    rhaiway.deliver(&signed(&format!("msg_{n}"), clerk_event("user.created", &"x".repeat(5000), 1)))
}

/// Delivers until it is refused; how many were not.
fn deliver_until_refused(rhaiway: &Rhaiway, from: usize) -> usize {
    for n in from..from + 10_000 {
        let answer = deliver_n(rhaiway, n);
        if answer.status != 200 {
            check_unavailable(&answer);
            return n;
        }
    }
    panic!("the disk is never full")
}

/// Delivers one until it is accepted again.
fn deliver_in_the_end(rhaiway: &Rhaiway, n: usize) {
    eventually("it is accepted again", || (deliver_n(rhaiway, n).status == 200).then_some(()));
    eventually("it is ready again", || (rhaiway.get("/readyz").status == 200).then_some(()));
}

fn check_all_stored(project: &Project, up_to: usize) {
    let states = project.states();
    let lost: Vec<usize> =
        (0..=up_to).filter(|n| !states.contains_key(&format!("msg_{n}"))).collect();
    assert!(lost.is_empty(), "{lost:?}");
}

#[test]
fn w15_a_full_disk_is_503_until_there_is_space_and_nothing_acknowledged_is_lost() {
    let project = Project::new(NOTHING);
    // A limit of files' sizes stands for a small disk: nothing can be written beyond it, and it can be lifted from outside.
    let mut command = Command::new("sh");
    let run = project.command(&["run"]);
    command.args(["-c", "trap '' XFSZ; ulimit -S -f 1200; exec \"$0\" run"]);
    command.arg(run.get_program()).current_dir(project.path()).env("CLERK_WEBHOOK_SECRET", SECRET);
    let rhaiway = project.start_as(command);
    let first_refused = deliver_until_refused(&rhaiway, 0);
    assert!(first_refused > 3, "{first_refused}");
    eventually("it is not ready", || (rhaiway.get("/readyz").status == 503).then_some(()));
    assert_eq!(rhaiway.get("/healthz").status, 200);
    let lifted = Command::new("prlimit")
        .args(["--pid", &rhaiway.pid().to_string(), "--fsize=unlimited:"])
        .status();
    assert!(lifted.expect("prlimit runs").success());
    deliver_in_the_end(&rhaiway, first_refused);
    check_all_stored(&project, first_refused);
    rhaiway.kill();
    let rhaiway = project.start();
    check_all_stored(&project, first_refused);
    for n in 0..=first_refused {
        project.wait_for_state(&format!("msg_{n}"), "done");
    }
    rhaiway.stop();
}

#[test]
fn w16_a_database_that_another_process_locks_is_503_and_recovers() {
    let project = Project::new(NOTHING);
    let rhaiway = project.start();
    assert_eq!(deliver_n(&rhaiway, 0).status, 200);
    project.wait_for_state("msg_0", "done");
    let other = database(&project);
    other.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    check_unavailable(&deliver_n(&rhaiway, 1));
    eventually("it is not ready", || (rhaiway.get("/readyz").status == 503).then_some(()));
    check_unavailable(&deliver_n(&rhaiway, 2));
    other.execute_batch("COMMIT").unwrap();
    deliver_in_the_end(&rhaiway, 1);
    project.wait_for_state("msg_1", "done");
    assert!(!project.states().contains_key("msg_2"), "what was refused is not there");
}

/// `rhaiway run` refuses to start with these words, and changes nothing.
fn check_refuses(project: &Project, words: &[&str]) {
    let before = std::fs::read(project.at("data/rhaiway.db")).unwrap();
    let output = project.run(&["run"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for word in words {
        assert!(said.contains(word), "{word} is not in {said}");
    }
    assert!(std::fs::read(project.at("data/rhaiway.db")).unwrap() == before, "it was changed");
}

#[test]
fn w17_a_corrupt_database_is_refused_with_what_to_do() {
    let project = Project::new(NOTHING);
    project.start().stop();
    let mut bytes = std::fs::read(project.at("data/rhaiway.db")).unwrap();
    bytes[..64].fill(b'x');
    project.write("data/rhaiway.db", &bytes);
    check_refuses(&project, &["data/rhaiway.db", "corrupt", "move"]);
}

#[test]
fn w18_a_schema_that_is_newer_than_the_binary_is_refused() {
    let project = Project::new(NOTHING);
    project.start().stop();
    database(&project).pragma_update(None, "user_version", 99).unwrap();
    check_refuses(&project, &["schema 99", "newer version"]);
}

#[test]
fn w19_a_data_folder_that_is_removed_while_running_is_noticed_and_nothing_is_acknowledged_into_it()
{
    let project = Project::new(NOTHING);
    let rhaiway = project.start();
    assert_eq!(deliver_n(&rhaiway, 0).status, 200);
    std::fs::remove_dir_all(project.at("data")).unwrap();
    check_unavailable(&deliver_n(&rhaiway, 1));
    eventually("it is not ready", || (rhaiway.get("/readyz").status == 503).then_some(()));
    assert!(!project.at("data/rhaiway.db").exists(), "it came back empty");
    assert_eq!(rhaiway.get("/healthz").status, 200);
}

#[test]
fn w19_a_wal_that_is_deleted_while_running_is_noticed_and_what_was_acknowledged_is_there_after_a_restart()
 {
    let project = Project::new(NOTHING);
    let rhaiway = project.start();
    for n in 0..5 {
        assert_eq!(deliver_n(&rhaiway, n).status, 200);
    }
    std::fs::remove_file(project.at("data/rhaiway.db-wal")).unwrap();
    check_unavailable(&deliver_n(&rhaiway, 5));
    rhaiway.kill();
    let _rhaiway = project.start();
    check_all_stored(&project, 4);
}

#[test]
fn w20_a_second_process_on_the_same_file_is_refused_and_told_who_has_it() {
    let project = Project::new(NOTHING);
    let rhaiway = project.start();
    let output = project.run(&["run"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("process {}", rhaiway.pid())), "{said}");
    assert_eq!(deliver_n(&rhaiway, 0).status, 200, "the first goes on");
    let address: SocketAddr = rhaiway.address();
    assert_eq!(request(address, "GET", "/readyz", &[], b"").status, 200);
}
