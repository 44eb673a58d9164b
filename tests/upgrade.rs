//! Another version of the binary meets what an earlier one left: everything is there, or nothing is touched and it is said what to do.

use std::fs;
use std::process::{Command, Stdio};

use rusqlite::Connection as Database;

use crate::support::{Project, Rhaiway, SECRET, clerk_event, eventually, signed};

/// The schema of the first version, as it was released.
const FIRST_SCHEMA: &str = include_str!("../src/store/sqlite/001.sql");
/// `PRAGMA application_id` of every database of ours.
const APPLICATION_ID: i64 = 0x5268_7779;

const SCRIPT: &str = r#"
webhook("clerk", |event| {
    if event.data.id == "poison" { throw "no" }
    db.users.put(event.data.id, #{ at: event.received_at, attempt: event.attempt });
});
get("/users/{id}", #{ auth: "none" }, |req| db.users.get(req.params.id) ?? status(404));
"#;

/// The id of event `seq`: a UUIDv7 of the year 2023, in the order of acceptance.
fn id(seq: i64) -> Vec<u8> {
    let mut id = vec![0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x00, 0x70, 0x00, 0x80, 0, 0, 0, 0, 0, 0, 0];
    id[15] = u8::try_from(seq).unwrap();
    id
}

/// A database as the first version leaves it: closed in good order, or killed.
fn first_version(project: &Project, unclean: bool) {
    fs::create_dir_all(project.at("data")).unwrap();
    let database = open(project);
    database.execute_batch("PRAGMA journal_mode = WAL").unwrap();
    database.execute_batch(FIRST_SCHEMA).unwrap();
    database
        .execute_batch(&format!(
            "PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1;
             UPDATE meta SET value = 7 WHERE key = 'epoch';
             UPDATE meta SET value = 5 WHERE key = 'last_seq';
             UPDATE meta SET value = {} WHERE key = 'unclean';",
            i64::from(unclean)
        ))
        .unwrap();
    // Done, dead, waiting for its next attempt, running when it ended, and accepted without any job.
    let ids = ["done", "poison", "retrying", "running", "accepted"];
    for (seq, user) in (1..).zip(ids) {
        let body = clerk_event("user.created", user, 1);
        database
            .execute(
                "INSERT INTO events (seq, id, webhook, delivery_id, kind, received_at) VALUES (?1, ?2, 'clerk', ?3, 'user.created', ?4)",
                (seq, id(seq), format!("msg_{user}"), received_at(seq)),
            )
            .unwrap();
        database
            .execute(
                "INSERT INTO payloads (seq, request, body) VALUES (?1, ?2, ?3)",
                (seq, r#"{"headers":{},"query":{},"params":{},"content":"json"}"#, body.as_bytes()),
            )
            .unwrap();
    }
    let never = i64::MAX;
    database
        .execute_batch(&format!(
            "INSERT INTO jobs (event, n, state, attempt, due_at, script, pattern, error) VALUES
             (1, 0, 5, 1, NULL, 'main', '*', NULL), (2, 0, 0, 21, NULL, 'main', '*', 'an old error'),
             (3, 0, 2, 2, 1, 'main', '*', 'an old error'), (4, 0, 3, 1, {never}, 'main', '*', NULL)"
        ))
        .unwrap();
    database
        .execute_batch(
            r#"INSERT INTO attempts (event, n, attempt, started_at, ended_at, generation, error) VALUES (2, 0, 21, 1, 2, 1, 'an old error');
               INSERT INTO documents (collection, id, version, tombstone_until, body) VALUES
               ('users', 'done', 30064771073, NULL, '{"at":1,"attempt":1,"kept":[1,"ö"]}'),
               ('users', 'deleted', 30064771074, 9000000000000, NULL);
               UPDATE meta SET value = 4 WHERE key = 'low_water';"#,
        )
        .unwrap();
}

fn received_at(seq: i64) -> i64 {
    // Not so old that retention would take it.
    let now: i64 = signed("x", "").timestamp.parse().unwrap();
    (now - 3600) * 1000 + seq
}

#[expect(clippy::disallowed_methods, reason = "another program than this Rhaiway makes the file")]
fn open(project: &Project) -> Database {
    Database::open(project.at("data/rhaiway.db")).unwrap()
}

fn version(project: &Project) -> i64 {
    open(project).pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

fn wait_for_user(rhaiway: &Rhaiway, user: &str) -> serde_json::Value {
    eventually(user, || {
        let answer = rhaiway.get(&format!("/users/{user}"));
        (answer.status == 200).then(|| answer.json())
    })
}

#[test]
fn o19_a_database_of_the_first_version_opens_under_this_one_with_all_that_is_in_it() {
    for unclean in [false, true] {
        let project = Project::new(SCRIPT);
        first_version(&project, unclean);
        let rhaiway = project.start();
        // What waited is handled, with the attempts that it had.
        assert_eq!(wait_for_user(&rhaiway, "retrying")["attempt"], 3);
        wait_for_user(&rhaiway, "running");
        assert_eq!(wait_for_user(&rhaiway, "accepted")["attempt"], 1);
        let states = ["done", "poison", "retrying", "running", "accepted"].map(|user| {
            project.wait_for_state(
                &format!("msg_{user}"),
                if user == "poison" { "dead" } else { "done" },
            )
        });
        assert_eq!(states[1]["error"], "an old error");
        assert_eq!(states[1]["tries"].as_array().unwrap().len(), 1);
        // Documents are what they were, and what was deleted stays so.
        let document = wait_for_user(&rhaiway, "done");
        assert_eq!(document["kept"], serde_json::json!([1, "ö"]));
        assert_eq!(rhaiway.get("/users/deleted").status, 404);
        // A delivery id of that time is known, and a new event comes after the old ones.
        rhaiway.deliver(&signed("msg_done", clerk_event("user.created", "done", 1)));
        rhaiway.deliver(&signed("msg_new", clerk_event("user.created", "new", 1)));
        wait_for_user(&rhaiway, "new");
        assert_eq!(wait_for_user(&rhaiway, "done")["kept"], serde_json::json!([1, "ö"]));
        assert_eq!(project.stored().len(), 6);
        rhaiway.stop();
        // The next start finds the newest version, and changes nothing more.
        let newest = version(&project);
        let rhaiway = project.start();
        assert_eq!(project.stored().len(), 6);
        rhaiway.stop();
        assert_eq!(version(&project), newest);
    }
}

#[test]
fn o19_a_database_of_a_newer_version_is_refused_untouched_and_it_is_said_what_to_do() {
    let project = Project::new(SCRIPT);
    project.start().stop();
    let newer = version(&project) + 1;
    open(&project).execute_batch(&format!("PRAGMA user_version = {newer}")).unwrap();
    let before = fs::read(project.at("data/rhaiway.db")).unwrap();
    for arguments in [&["run"][..], &["events"]] {
        let (_, stderr) = project.expect(1, arguments);
        assert!(stderr.contains(&format!("schema {newer}")), "{stderr}");
        assert!(
            stderr.contains("start the newer version again, or restore the backup"),
            "{stderr}"
        );
    }
    assert!(fs::read(project.at("data/rhaiway.db")).unwrap() == before);
}

#[test]
fn o19_a_second_process_over_a_running_one_is_refused_and_the_first_goes_on() {
    let project = Project::new(SCRIPT);
    let rhaiway = project.start();
    let (_, stderr) = project.expect(1, &["run"]);
    assert!(stderr.contains(&format!("process {} has the database", rhaiway.pid())), "{stderr}");
    rhaiway.deliver(&signed("msg_1", clerk_event("user.created", "u1", 1)));
    wait_for_user(&rhaiway, "u1");
    rhaiway.stop();
}

#[test]
fn o19_a_binary_that_is_replaced_under_its_process_harms_nothing() {
    let project = Project::new(SCRIPT);
    let binary = project.at("bin/rhaiway");
    fs::create_dir(project.at("bin")).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_rhaiway"), &binary).unwrap();
    let mut command = Command::new(&binary);
    command.arg("run").current_dir(project.path()).stdin(Stdio::null());
    let rhaiway = project.start_as({
        command.env_remove("RUST_LOG").env("CLERK_WEBHOOK_SECRET", SECRET);
        command
    });
    // As installers do: the new one is renamed over the old one. This one is no program at all.
    project.write("bin/new", "not a program");
    fs::rename(project.at("bin/new"), &binary).unwrap();
    rhaiway.deliver(&signed("msg_1", clerk_event("user.created", "u1", 1)));
    wait_for_user(&rhaiway, "u1");
    project.write("scripts/more.rhai", "get(\"/more\", #{ auth: \"none\" }, |req| \"loaded\");");
    eventually("a script is loaded", || (rhaiway.get("/more").status == 200).then_some(()));
    rhaiway.deliver(&signed("msg_2", clerk_event("user.created", "u2", 1)));
    fs::remove_file(&binary).unwrap();
    wait_for_user(&rhaiway, "u2");
    rhaiway.stop();
    // The next start, by the one that is installed then, has all of it.
    let rhaiway = project.start();
    wait_for_user(&rhaiway, "u1");
    assert_eq!(project.stored().len(), 2);
}
