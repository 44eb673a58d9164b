//! `rhaiway events` and `rhaiway replay`, as an operator uses them: what is listed, shown and followed, what is replayed, and what is said before and after.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Project, Rhaiway, SECRET, admin, clerk_event, eventually, signed};

/// A handler that fails while a document says so, counts what it has handled, and notes whether its event is a replay.
const SCRIPT: &str = r#"
webhook("clerk", "user.*", #{ retry: #{ max: 0 } }, |event| {
    log.info("handling", #{ user: event.data.id, attempt: event.attempt });
    if db.state.get("broken") != () { throw "it is broken"; }
    db.seen.increment(event.data.id, if event.replayed { "again" } else { "first" }, 1);
});
post("/broken", #{ auth: "none" }, |req| { db.state.put("broken", #{}); });
post("/mended", #{ auth: "none" }, |req| { db.state.delete("broken"); });
get("/seen/{id}", #{ auth: "none" }, |req| db.seen.get(req.params.id) ?? #{});
"#;

fn project() -> Project {
    Project::new(SCRIPT)
}

fn deliver(rhaiway: &Rhaiway, id: &str) {
    deliver_as(rhaiway, id, "user.created");
}

fn deliver_as(rhaiway: &Rhaiway, id: &str, kind: &str) {
    let answer = rhaiway.deliver(&signed(id, clerk_event(kind, id, 1)));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn post(rhaiway: &Rhaiway, path: &str) {
    let answer = rhaiway.post(path, &[], b"");
    assert!(answer.status < 300, "{path}: {}", answer.text());
}

fn id_of(project: &Project, delivery: &str) -> String {
    project.event_of(delivery)["id"].as_str().expect("an id").to_owned()
}

fn seen(rhaiway: &Rhaiway, id: &str) -> Value {
    let mut seen = rhaiway.get(&format!("/seen/{id}")).json();
    seen.as_object_mut().expect("an object").remove("id");
    seen
}

/// `rhaiway replay … --yes --json`: exit code, what became of each, what was said.
fn replay(project: &Project, arguments: &[&str]) -> (Option<i32>, Vec<Value>, String) {
    let output = project.run(&[&["replay", "--yes", "--json"], arguments].concat());
    let lines = String::from_utf8(output.stdout).expect("text");
    let lines = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    (output.status.code(), lines, String::from_utf8(output.stderr).expect("text"))
}

#[test]
fn w28_replay_resumes_a_dead_letter_and_begins_a_done_event_anew() {
    let project = project();
    let rhaiway = project.start();
    deliver(&rhaiway, "done");
    project.wait_for_state("done", "done");
    post(&rhaiway, "/broken");
    deliver(&rhaiway, "dead");
    project.wait_for_state("dead", "dead");
    post(&rhaiway, "/mended");
    let (dead, done) = (id_of(&project, "dead"), id_of(&project, "done"));

    let (code, lines, said) = replay(&project, &[&dead, &done]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("1 dead") && said.contains("1 ended"), "{said}");
    assert!(said.contains("2 of 2: 1 resumed, 1 anew, 0 refused"), "{said}");
    let of = |id: &str| lines.iter().find(|line| line["event"] == id).expect("a line").clone();
    assert_eq!((&of(&dead)["outcome"], &of(&dead)["id"]), (&json!("resumed"), &json!(dead)));
    assert_eq!(of(&done)["outcome"], "anew");
    let copy = of(&done)["id"].as_str().unwrap().to_owned();
    assert_ne!(copy, done);

    project.wait_for_state("dead", "done");
    eventually("the copy is done", || {
        (project.admin(&format!("/v1/events/{copy}"))["state"] == "done").then_some(())
    });
    assert_eq!(seen(&rhaiway, "dead"), json!({ "first": 1 }), "it goes on as the same event");
    assert_eq!(seen(&rhaiway, "done"), json!({ "first": 1, "again": 1 }));
    assert_eq!(project.admin(&format!("/v1/events/{copy}"))["replay_of"], json!(done));
    let (shown, _) = project.expect(0, &["events", &copy]);
    assert!(shown.contains(&format!("a replay of {done}")), "{shown}");
}

#[test]
fn w28_twice_at_once_is_one_conflict_that_is_said_and_an_unknown_event_is_404() {
    let script = r#"
        webhook("clerk", |event| { if event.replayed { sleep("30s"); } });
    "#;
    let project = Project::new(script);
    let rhaiway = project.start();
    deliver(&rhaiway, "msg_1");
    project.wait_for_state("msg_1", "done");
    let (id, unknown) = (id_of(&project, "msg_1"), "evt_01h455vb4pex5vsknk084sn02q");
    let start = || {
        let mut command = project.command(&["replay", "--yes", "--json", &id]);
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts")
    };
    let outcome = |child: Child| {
        let output = child.wait_with_output().expect("it ends");
        let line: Value = serde_json::from_slice(&output.stdout).expect("one line");
        (output.status.code(), line["outcome"].clone(), line["code"].clone())
    };
    let both = [start(), start()];
    let mut ends = both.map(outcome);
    ends.sort_by_key(|(code, ..)| *code);
    assert_eq!(ends[0], (Some(0), json!("anew"), Value::Null));
    assert_eq!(ends[1], (Some(1), json!("refused"), json!("CONFLICT")));

    let (code, lines, _) = replay(&project, &[unknown]);
    assert_eq!((code, &lines[0]["code"]), (Some(1), &json!("NOT_FOUND")));
    rhaiway.kill();
}

#[test]
fn rule_19_many_are_replayed_the_oldest_first_and_the_refused_stop_nothing() {
    let project = project();
    let rhaiway = project.start();
    post(&rhaiway, "/broken");
    for n in 0..5 {
        deliver(&rhaiway, &format!("msg_{n}"));
        project.wait_for_state(&format!("msg_{n}"), "dead");
    }
    deliver_as(&rhaiway, "other", "session.created");
    project.wait_for_state("other", "ignored");
    post(&rhaiway, "/mended");

    let (code, lines, said) =
        replay(&project, &["--state", "dead", "--type", "user.*", "--rate", "1000/s"]);
    assert_eq!(code, Some(0), "{said}");
    let expected: Vec<String> = (0..5).map(|n| id_of(&project, &format!("msg_{n}"))).collect();
    let order: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(order, expected, "the oldest first");
    for n in 0..5 {
        project.wait_for_state(&format!("msg_{n}"), "done");
    }

    // What the first one began anew matches too, and came after the command began.
    let (code, lines, _) = replay(&project, &["--text", "msg_1", "--webhook", "clerk"]);
    assert_eq!((code, lines.len()), (Some(0), 1));
    let (code, lines, said) =
        replay(&project, &["--after", &expected[3], "--type", "user.created", "--until", "0ms"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(lines[0]["event"], json!(expected[4]), "only what stands after it");
    let unknown = "evt_01h455vb4pex5vsknk084sn02q";
    let (code, lines, said) = replay(&project, &[unknown, &expected[0]]);
    assert_eq!((code, lines.len()), (Some(1), 2), "{said}");
    assert!(said.contains("1 refused"), "{said}");
}

#[test]
fn a_replay_needs_a_yes_a_filter_and_a_running_instance() {
    let project = project();
    let rhaiway = project.start();
    deliver(&rhaiway, "msg_1");
    project.wait_for_state("msg_1", "done");
    let (_, said) = project.expect(2, &["replay"]);
    assert!(said.contains("say which events"), "{said}");
    let (_, said) = project.expect(2, &["replay", "--type", "user.*", "--since", "1h"]);
    assert!(said.contains("1 event to replay"), "{said}");
    assert!(said.contains("rhaiway replay --type 'user.*' --since 20"), "{said}");
    assert!(said.contains("--until 20") && said.contains("--yes"), "what to type: {said}");
    assert_eq!(seen(&rhaiway, "msg_1"), json!({ "first": 1 }));
    let (_, said) = project.expect(0, &["replay", "--state", "dead"]);
    assert!(said.contains("nothing to replay"), "{said}");
    for wrong in [["--rate", "10"], ["--since", "yesterday"], ["--state", "lost"], ["--text", ""]] {
        project.expect(2, &[&["replay", "--yes"], &wrong[..]].concat());
    }
    project.expect(2, &["replay", "evt_01h455vb4pex5vsknk084sn02q", "--state", "dead"]);
    rhaiway.stop();
    let (_, said) = project.expect(1, &["replay", "--yes", "--state", "done"]);
    assert!(said.contains("no running instance answers") && said.contains("rhaiway run"), "{said}");
}

/// A command in a terminal of 80 columns, and what it shows.
struct Terminal {
    child: Child,
    shown: Receiver<String>,
    so_far: String,
}

impl Terminal {
    fn start(project: &Project, command: &str) -> Self {
        let run = format!("stty cols 80 rows 24; exec {} {command}", env!("CARGO_BIN_EXE_rhaiway"));
        let mut command = Command::new("script");
        command.args(["-qec", &run, "/dev/null"]).current_dir(project.path());
        command.env_clear().env("TERM", "xterm").env("PATH", "/usr/bin:/bin");
        command.env("NO_COLOR", "1").env("CLERK_WEBHOOK_SECRET", SECRET);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("script, of util-linux, runs");
        let mut output = child.stdout.take().expect("it is piped");
        let (send, shown) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = output.read(&mut bytes) {
                _ = send.send(String::from_utf8_lossy(&bytes[..read]).into_owned());
            }
        });
        Self { child, shown, so_far: String::new() }
    }

    fn wait_for(&mut self, text: &str) {
        while !self.so_far.contains(text) {
            let more = self.shown.recv_timeout(Duration::from_secs(30));
            self.so_far += &more.unwrap_or_else(|_| panic!("no {text:?} in:\n{}", self.so_far));
        }
    }

    fn type_in(&mut self, keys: &str) {
        let stdin = self.child.stdin.as_mut().expect("it is piped");
        stdin.write_all(keys.as_bytes()).expect("it is typed");
    }

    fn end(mut self) -> (Option<i32>, String) {
        let status = eventually("it ends", || self.child.try_wait().expect("its state is known"));
        while let Ok(more) = self.shown.recv_timeout(Duration::from_secs(5)) {
            self.so_far += &more;
        }
        (status.code(), std::mem::take(&mut self.so_far))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[test]
fn rule_19_on_a_terminal_it_asks_before_it_replays_and_no_is_what_it_assumes() {
    let project = project();
    let rhaiway = project.start();
    deliver(&rhaiway, "msg_1");
    project.wait_for_state("msg_1", "done");
    for (answer, code, times) in
        [("\n", 1, json!({ "first": 1 })), ("y\n", 0, json!({ "first": 1, "again": 1 }))]
    {
        let mut terminal = Terminal::start(&project, "replay --webhook clerk");
        terminal.wait_for("Replay 1 event? [y/N]");
        assert!(terminal.so_far.contains("1 ended"), "{}", terminal.so_far);
        terminal.type_in(answer);
        let (ended, shown) = terminal.end();
        assert_eq!(ended, Some(code), "{shown}");
        eventually("it is handled so often", || (seen(&rhaiway, "msg_1") == times).then_some(()));
    }
}

#[test]
fn a_replay_that_is_stopped_says_how_it_goes_on_and_repeats_nothing() {
    let project = project();
    let rhaiway = project.start();
    for n in 0..4 {
        deliver(&rhaiway, &format!("msg_{n}"));
        project.wait_for_state(&format!("msg_{n}"), "done");
    }
    let mut terminal = Terminal::start(&project, "replay --webhook clerk --yes --rate 1/m");
    terminal.wait_for(&id_of(&project, "msg_0"));
    terminal.type_in("\x03");
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("1 of 4"), "{shown}");
    let (_, command) = shown.split_once("to go on: rhaiway ").expect("it says how");
    assert!(command.contains(&format!("--after {}", id_of(&project, "msg_0"))), "{command}");
    let command = command.split_whitespace().map(|word| if word == "1/m" { "100/s" } else { word });
    let command: Vec<&str> = command.collect();
    let (stdout, said) = project.expect(0, &command);
    assert_eq!(stdout.lines().count(), 3, "{stdout}{said}");
    for n in 0..4 {
        let id = format!("msg_{n}");
        let twice = json!({ "first": 1, "again": 1 });
        eventually("each has run twice", || (seen(&rhaiway, &id) == twice).then_some(()));
    }
}

#[test]
fn w27_the_next_attempt_runs_the_new_version_and_the_record_says_which() {
    let plain = |text: &str| {
        let end = if text == "old" { "throw \"no\";" } else { "" };
        format!("webhook(\"clerk\", |event| {{ log.info(\"{text}\"); {end} }});")
    };
    let project = Project::new(&plain("old"));
    let rhaiway = project.start();
    deliver(&rhaiway, "msg_1");
    project.wait_for_state("msg_1", "retrying");
    project.write("scripts/main.rhai", plain("new"));
    let event = project.wait_for_state("msg_1", "done");
    let tries = event["tries"].as_array().unwrap();
    let (first, last) = (&tries[0], &tries[tries.len() - 1]);
    assert_ne!(first["version"], last["version"], "{event}");
    assert_eq!(first["version"].as_str().unwrap().len(), 10);
    assert!(first["generation"].as_u64() < last["generation"].as_u64(), "{event}");
    assert_eq!(
        (&first["log"][0]["message"], &last["log"][0]["message"]),
        (&json!("old"), &json!("new"))
    );
    let (shown, _) = project.expect(0, &["events", event["id"].as_str().unwrap()]);
    for part in [first, last] {
        assert!(
            shown.contains(&format!("version {}", part["version"].as_str().unwrap())),
            "{shown}"
        );
    }
    assert!(shown.contains("info  old") && shown.contains("info  new"), "{shown}");
    drop(rhaiway);
}

#[test]
fn what_handlers_log_is_shown_with_their_attempts_branches_and_answers_included() {
    let config = r#"
[server]
listen = "127.0.0.1:0"
[webhooks.clerk]
path = "/api/webhooks/clerk"
scheme = "svix"
secret_env = "CLERK_WEBHOOK_SECRET"
[webhooks.answers]
path = "/answers"
scheme = "none"
respond = "script"
"#;
    let script = r#"
        webhook("clerk", "user.created", |event| {
            parallel([|| log.warn("in a branch", #{ n: 1 }), || log.info("in another")]);
            for n in 0..70 { log.info(`line ${n}`); }
            emit("told", #{});
        });
        webhook("clerk", "user.updated", |event| {});
        webhook("answers", |event| { log.info("answering"); status(202) });
        on("told", |event| {});
    "#;
    let project = Project::with_config(config, script);
    let rhaiway = project.start();
    deliver(&rhaiway, "loud");
    deliver_as(&rhaiway, "silent", "user.updated");
    assert_eq!(
        rhaiway.post("/answers", &[("content-type", "application/json")], b"{}").status,
        202
    );
    let loud = project.wait_for_state("loud", "done");
    let log = loud["tries"][0]["log"].as_array().expect("its lines");
    let said: Vec<&str> = log.iter().map(|line| line["message"].as_str().unwrap()).collect();
    assert!(said.contains(&"in a branch") && said.contains(&"in another"), "{said:?}");
    let branch = log.iter().find(|line| line["message"] == "in a branch").unwrap();
    assert_eq!((&branch["level"], &branch["fields"]), (&json!("warn"), &json!("#{\"n\": 1}")));
    assert_eq!((log.len(), &loud["tries"][0]["log_dropped"]), (64, &json!(8)));
    assert_eq!(project.wait_for_state("silent", "done")["tries"], json!([]));
    let (shown, _) = project.expect(0, &["events", loud["id"].as_str().unwrap()]);
    assert!(
        shown.contains("… and 8 more lines") && shown.contains("a delivery to webhook `clerk`"),
        "{shown}"
    );

    let answered = project.events(&["--webhook", "answers"]);
    let answered = project.events(&[answered[0]["id"].as_str().unwrap()]);
    assert_eq!(answered[0]["tries"][0]["log"][0]["message"], "answering");
    let told = eventually("it is emitted", || project.events(&["--webhook", "on:told"]).pop());
    let told = &project.events(&[told["id"].as_str().unwrap()])[0];
    assert_eq!(told["emitted_by"], json!({ "from": loud["id"], "script": "main" }));
    let (shown, _) = project.expect(0, &["events", told["id"].as_str().unwrap()]);
    let from = format!("emitted by `main` in {}", loud["id"].as_str().unwrap());
    assert!(shown.contains(&from), "{shown}");
}

#[test]
fn x4_events_are_narrowed_by_type_time_and_text_with_and_without_an_instance() {
    let project = project();
    let rhaiway = project.start();
    deliver(&rhaiway, "ada");
    deliver_as(&rhaiway, "grace", "user.updated");
    deliver_as(&rhaiway, "other", "session.created");
    project.wait_for_state("ada", "done");
    project.wait_for_state("grace", "done");
    project.wait_for_state("other", "ignored");
    let check = || {
        let ids = |arguments: &[&str]| -> Vec<String> {
            let events = project.events(arguments);
            events.iter().map(|event| event["delivery_id"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(ids(&["--type", "user.*"]), ["grace", "ada"]);
        assert_eq!(ids(&["--type", "user.created", "--state", "done"]), ["ada"]);
        assert_eq!(ids(&["--text", "grace@example.com"]), ["grace"]);
        assert_eq!(ids(&["--text", "nobody"]), [""; 0]);
        assert_eq!(ids(&["--since", "1h"]).len(), 3);
        assert_eq!(ids(&["--since", "1h", "--until", "30m"]).len(), 0);
        assert_eq!(ids(&["--until", "2020-01-01"]).len(), 0);
        assert_eq!(ids(&["--since", "2020-01-01T00:00:00+02:00", "--limit", "1"]), ["other"]);
    };
    check();
    let check_status = |path: &str, status: u16| {
        assert_eq!(admin(&project, path).status, status, "{}", &path[..path.len().min(60)])
    };
    check_status("/v1/events?order=oldest&type=user.*&since=2020-01-01T00:00:00Z&text=a", 200);
    check_status("/v1/events?since=yesterday", 400);
    check_status("/v1/events?order=up", 400);
    check_status("/v1/events?text=", 400);
    check_status(&format!("/v1/events?text={}", "x".repeat(2000)), 400);
    let oldest = project.admin("/v1/events?order=oldest&limit=1");
    assert_eq!(oldest[0]["delivery_id"], "ada");
    rhaiway.stop();
    check();
}

#[test]
fn a_list_on_a_terminal_of_80_columns_fits_it_and_its_ids_can_be_pasted() {
    let project = project();
    let rhaiway = project.start();
    post(&rhaiway, "/broken");
    deliver_as(&rhaiway, "msg_1", "user.with.a.very.long.type.that.goes.on.and.on");
    project.wait_for_state("msg_1", "dead");
    let (code, shown) = Terminal::start(&project, "events").end();
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains(&id_of(&project, "msg_1")) && shown.contains("dead"), "{shown}");
    for line in shown.lines() {
        assert!(line.trim_end().chars().count() <= 80, "{line}");
    }
}

#[test]
fn follow_shows_new_events_and_what_becomes_of_them_and_waits_for_an_instance_that_stops() {
    let project = project();
    let rhaiway = project.start();
    deliver(&rhaiway, "msg_0");
    project.wait_for_state("msg_0", "done");
    let mut command = project.command(&["events", "--follow", "--json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (send, lines) = channel();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    std::thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            _ = send.send(serde_json::from_str::<Value>(&line).expect("JSON"));
        }
    });
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let (tell, said) = channel();
    std::thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            _ = tell.send(line);
        }
    });
    let mut child = Followed(child);
    let mut log = Vec::new();
    let mut wait_for = |delivery: &str, state: &str| loop {
        let line: Value = lines
            .recv_timeout(Duration::from_secs(30))
            .unwrap_or_else(|_| panic!("no {delivery} {state} in {log:?}"));
        let is_it = line["delivery_id"] == delivery && line["state"] == state;
        log.push(line);
        if is_it {
            return log.clone();
        }
    };
    wait_for("msg_0", "done");
    post(&rhaiway, "/broken");
    deliver(&rhaiway, "msg_1");
    wait_for("msg_1", "dead");
    post(&rhaiway, "/mended");
    replay(&project, &[&id_of(&project, "msg_1")]);
    wait_for("msg_1", "done");

    rhaiway.stop();
    let away = said.recv_timeout(Duration::from_secs(30)).expect("it says that it waits");
    assert!(away.contains("waiting"), "{away}");
    let rhaiway = project.start();
    deliver(&rhaiway, "msg_2");
    let log = wait_for("msg_2", "done");
    let back = said.recv_timeout(Duration::from_secs(30)).expect("it says that it is back");
    assert!(back.contains("answers again"), "{back}");
    let shown = |id: &str, state: &str| {
        log.iter().filter(|line| line["delivery_id"] == id && line["state"] == state).count()
    };
    assert_eq!((shown("msg_0", "done"), shown("msg_1", "dead"), shown("msg_1", "done")), (1, 1, 1));
    let interrupted = Command::new("kill").args(["-INT", &child.0.id().to_string()]).status();
    assert!(interrupted.unwrap().success());
    let ended = eventually("it ends", || child.0.try_wait().unwrap());
    assert_eq!(ended.code(), Some(0));
}

/// Ends with its test.
struct Followed(Child);

impl Drop for Followed {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

#[cfg(debug_assertions)]
#[test]
fn w31_what_retention_takes_while_it_is_read_and_replayed_is_whole_or_gone() {
    use crate::support::Clock;

    let project = project();
    let clock = Clock::new(&project);
    let rhaiway = clock.start(&project);
    for n in 0..20 {
        let id = format!("msg_{n}");
        let answer = rhaiway.deliver(&clock.signed(&id, clerk_event("user.created", &id, 1)));
        assert_eq!(answer.status, 200);
        project.wait_for_state(&id, "done");
    }
    let ids: Vec<String> = (0..20).map(|n| id_of(&project, &format!("msg_{n}"))).collect();
    clock.advance(Duration::from_secs(40 * 86_400));
    eventually("retention has taken every one of them", || {
        let mut gone = 0;
        for id in &ids {
            let answer = admin(&project, &format!("/v1/events/{id}"));
            match answer.status {
                404 => gone += 1,
                200 => {
                    let event = answer.json();
                    assert_eq!(event["headers"].is_object(), event["body"].is_string(), "{event}");
                    assert!(event["jobs"][0]["state"] == "done", "{event}");
                }
                status => panic!("{status}"),
            }
        }
        (gone == ids.len()).then_some(())
    });
    let (code, lines, _) = replay(&project, &[&ids[0]]);
    assert_eq!(code, Some(1));
    assert!(["NOT_FOUND", "GONE"].contains(&lines[0]["code"].as_str().unwrap()), "{lines:?}");
    assert_eq!(rhaiway.get("/readyz").status, 200);
}
