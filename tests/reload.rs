//! Saving a file changes what is served, and nothing that is broken ever replaces what works.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::support::{Connection, Project, Rhaiway, clerk_event, eventually, signed};

/// A script with one route that answers a word.
fn says(path: &str, word: &str) -> String {
    format!("get(\"{path}\", #{{ auth: \"none\" }}, |req| \"{word}\");\n")
}

fn wait_for(rhaiway: &Rhaiway, path: &str, word: &str) {
    eventually(&format!("{path} says {word}"), || {
        let answer = rhaiway.get(path);
        (answer.status == 200 && answer.text() == word).then_some(())
    });
}

fn wait_for_status(rhaiway: &Rhaiway, path: &str, status: u16) {
    eventually(&format!("{path} is {status}"), || {
        (rhaiway.get(path).status == status).then_some(())
    });
}

/// Waits until the loader has looked after this moment: a script of its own appears.
fn settle(project: &Project, rhaiway: &Rhaiway, mark: &str) {
    project.write("scripts/mark.rhai", says(&format!("/mark/{mark}"), mark));
    wait_for(rhaiway, &format!("/mark/{mark}"), mark);
}

#[test]
fn saving_twenty_times_under_load_gives_old_or_new_answers_and_never_an_error_or_a_mix() {
    let both = |n: usize| {
        format!(
            "const WORD = \"{n}\";\nimport \"lib/word\" as lib;\nget(\"/\", #{{ auth: \"none\" }}, |req| {{ sleep(\"1ms\"); `${{global::WORD}} ${{lib::word()}}` }});\n"
        )
    };
    let module = |n: usize| format!("fn word() {{ \"{n}\" }}\n");
    let project = Project::new("");
    project.remove("scripts/main.rhai");
    project.write("scripts/lib/word.rhai", module(0));
    project.write("scripts/main.rhai", both(0));
    let rhaiway = project.start();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let hammers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut seen = std::collections::BTreeSet::new();
                    let mut connection = Connection::open(rhaiway.address());
                    let mut last = 0;
                    while !stop.load(Ordering::Relaxed) {
                        connection.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
                        let answer = connection.read().unwrap();
                        assert_eq!(answer.status, 200, "{}", answer.text());
                        let text = answer.text().to_owned();
                        let (script, module) = text.split_once(' ').unwrap();
                        assert_eq!(script, module, "a mix of two generations");
                        let now: usize = script.parse().unwrap();
                        assert!(now >= last, "an old generation came back: {now} after {last}");
                        last = now;
                        seen.insert(now);
                    }
                    seen
                })
            })
            .collect();
        for n in 1..=20 {
            // Both files within the rest that the loader waits for: one reload.
            project.write("scripts/lib/word.rhai", module(n));
            project.write("scripts/main.rhai", both(n));
            wait_for(&rhaiway, "/", &format!("{n} {n}"));
        }
        stop.store(true, Ordering::Relaxed);
        for hammer in hammers {
            assert!(hammer.join().unwrap().len() > 10);
        }
    });
}

#[test]
fn a_broken_version_keeps_the_old_one_serving_and_its_problem_is_told_once() {
    let project = Project::new(&says("/", "good"));
    let rhaiway = project.start();
    let before = rhaiway.generation(&project);
    project.write("scripts/main.rhai", "get(\"/\", |req| { let x = ; });\n");
    let line = rhaiway.wait_for_log("still serves");
    let line: serde_json::Value = serde_json::from_str(&line).expect("one JSON object a line");
    assert_eq!((line["level"].as_str(), line["code"].as_str()), (Some("ERROR"), Some("E0204")));
    assert!(line["message"].as_str().unwrap().ends_with("at scripts/main.rhai:1:26"), "{line}");
    assert_eq!(rhaiway.get("/").text(), "good");
    assert_eq!(rhaiway.generation(&project), before);
    // Further looks do not say it again.
    settle(&project, &rhaiway, "once");
    rhaiway.signal("HUP");
    settle(&project, &rhaiway, "twice");
    assert_eq!(rhaiway.count_log("E0204"), 1);
    project.write("scripts/main.rhai", says("/", "mended"));
    wait_for(&rhaiway, "/", "mended");
}

#[test]
fn s39_a_top_level_that_works_instead_of_registering_is_refused_at_reload_and_the_old_version_goes_on()
 {
    let project = Project::new(&says("/", "good"));
    let rhaiway = project.start();
    for (number, line) in
        ["loop {}", "sleep(\"1s\");", "let t = now();", "let u = uuid();", "db.a.put(\"1\", #{});"]
            .iter()
            .enumerate()
    {
        project.write("scripts/main.rhai", format!("\n{line}\n{}", says("/", "bad")));
        let told = eventually(line, || {
            let told: Vec<String> =
                rhaiway.log().into_iter().filter(|line| line.contains("still serves")).collect();
            (told.len() == number + 1).then(|| told[number].clone())
        });
        assert!(line.starts_with("loop") || told.contains("main.rhai:2:"), "{told}");
        assert_eq!(rhaiway.get("/").text(), "good");
    }
}

#[test]
fn a_warning_does_not_keep_a_script_from_serving() {
    let project = Project::new(&says("/", "one"));
    let rhaiway = project.start();
    project.write("scripts/lib/x.rhai", "fn f() { 1 }");
    project.write("scripts/main.rhai", format!("import \"lib/x\" as x;\n{}", says("/", "two")));
    wait_for(&rhaiway, "/", "two");
    let line = rhaiway.wait_for_log("E0220");
    assert!(line.contains("\"level\":\"WARN\""), "{line}");
}

#[test]
fn o8_deleting_a_file_removes_its_handlers_and_a_call_that_runs_ends_well() {
    let project = Project::new(&says("/", "here"));
    project.write(
        "scripts/slow.rhai",
        "get(\"/slow\", #{ auth: \"none\" }, |req| { log.info(\"begun\"); sleep(\"1500ms\"); \"ended\" });\n",
    );
    let rhaiway = project.start();
    let mut running = Connection::open(rhaiway.address());
    running.send(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    rhaiway.wait_for_log("begun");
    project.remove("scripts/slow.rhai");
    wait_for_status(&rhaiway, "/slow", 404);
    let answer = running.read().unwrap();
    assert_eq!((answer.status, answer.text()), (200, "ended"));
    assert_eq!(rhaiway.get("/").text(), "here");
    assert_eq!(rhaiway.status(&project)["scripts"], 1);
}

#[test]
fn o8_the_scripts_folder_deleted_and_made_again_is_watched_again() {
    let project = Project::new(&says("/", "one"));
    let rhaiway = project.start();
    project.remove("scripts");
    wait_for_status(&rhaiway, "/", 404);
    project.write("scripts/main.rhai", says("/", "two"));
    wait_for(&rhaiway, "/", "two");
    // From here on it is watched, not only looked at every 2 seconds: of ten saves most are served sooner than that.
    let mut quick = 0;
    for n in 0..10 {
        project.write("scripts/main.rhai", says("/", &n.to_string()));
        let saved = Instant::now();
        wait_for(&rhaiway, "/", &n.to_string());
        quick += usize::from(saved.elapsed() < Duration::from_millis(1000));
    }
    assert!(quick >= 5, "{quick} of 10 saves were noticed at once");
}

#[test]
fn o5_what_editors_leave_beside_a_script_is_neither_loaded_nor_reported() {
    let project = Project::new(&says("/", "one"));
    let rhaiway = project.start();
    for name in [".main.rhai.swp", "main.rhai~", "#main.rhai#", "4913", ".DS_Store", ".#main.rhai"]
    {
        project.write(&format!("scripts/{name}"), "this is not Rhai )");
    }
    settle(&project, &rhaiway, "after");
    let log = rhaiway.log().join("\n");
    assert!(!log.contains("\"ERROR\"") && !log.contains("not loaded"), "{log}");
    assert_eq!(rhaiway.status(&project)["scripts"], 2);
}

#[test]
fn o6_however_an_editor_saves_the_whole_file_is_loaded_or_nothing() {
    let project = Project::new(&says("/", "0"));
    let rhaiway = project.start();
    let path = project.at("scripts/main.rhai");

    // A new file renamed over the old one.
    project.write("scripts/main.rhai.new", says("/", "renamed"));
    fs::rename(project.at("scripts/main.rhai.new"), &path).unwrap();
    wait_for(&rhaiway, "/", "renamed");

    // The old one moved away, a new one written, as vim does with `backupcopy=no`.
    fs::rename(&path, project.at("scripts/main.rhai~")).unwrap();
    fs::write(&path, says("/", "moved")).unwrap();
    wait_for(&rhaiway, "/", "moved");

    // Truncated, then written in two halves.
    let whole = says("/", "halves");
    let (first, second) = whole.split_at(whole.len() / 2);
    let mut file = fs::File::create(&path).unwrap();
    std::io::Write::write_all(&mut file, first.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(50)); // the case itself: an editor that takes this long between two writes
    std::io::Write::write_all(&mut file, second.as_bytes()).unwrap();
    drop(file);
    wait_for(&rhaiway, "/", "halves");

    // Only touched: nothing is loaded.
    let before = rhaiway.generation(&project);
    fs::File::options()
        .append(true)
        .open(&path)
        .unwrap()
        .set_modified(std::time::SystemTime::now())
        .unwrap();
    settle(&project, &rhaiway, "touched");
    assert_eq!(rhaiway.generation(&project), before + 1, "the mark alone");
}

#[test]
fn o7_a_thousand_saves_are_few_reloads_and_the_last_state_wins() {
    let project = Project::new(&says("/", "start"));
    let rhaiway = project.start();
    let before = rhaiway.generation(&project);
    for n in 0..1000 {
        project.write("scripts/main.rhai", says("/", &n.to_string()));
    }
    wait_for(&rhaiway, "/", "999");
    let reloads = rhaiway.generation(&project) - before;
    assert!((1..=50).contains(&reloads), "{reloads} reloads");
    assert_eq!(rhaiway.get("/").text(), "999");
}

#[test]
fn o7_five_hundred_files_at_once_are_few_reloads() {
    let project = Project::new(&says("/", "start"));
    let rhaiway = project.start();
    let before = rhaiway.generation(&project);
    for n in 0..500 {
        project.write(&format!("scripts/s{n}.rhai"), says(&format!("/s{n}"), "one"));
    }
    wait_for(&rhaiway, "/s499", "one");
    eventually("all are there", || (rhaiway.status(&project)["scripts"] == 501).then_some(()));
    assert!(rhaiway.generation(&project) - before <= 20);
    assert_eq!(rhaiway.count_log("\"ERROR\""), 0);
}

#[test]
fn a_change_of_a_module_reloads_its_importers_and_nobody_else() {
    let imports = |path: &str, module: &str| {
        format!(
            "import \"lib/{module}\" as x;\nget(\"{path}\", #{{ auth: \"none\" }}, |req| x::word());\n"
        )
    };
    let project = Project::new(&says("/", "alone"));
    project.write("scripts/lib/deep/inner.rhai", "fn word() { \"1\" }");
    project
        .write("scripts/lib/outer.rhai", "import \"lib/deep/inner\" as i; fn word() { i::word() }");
    project.write("scripts/lib/other.rhai", "fn word() { \"other\" }");
    project.write("scripts/direct.rhai", imports("/direct", "deep/inner"));
    project.write("scripts/through.rhai", imports("/through", "outer"));
    project.write("scripts/else.rhai", imports("/else", "other"));
    let rhaiway = project.start();
    assert_eq!(rhaiway.get("/through").text(), "1");
    project.write("scripts/lib/deep/inner.rhai", "fn word() { \"2\" }");
    wait_for(&rhaiway, "/direct", "2");
    wait_for(&rhaiway, "/through", "2");
    let line: serde_json::Value =
        serde_json::from_str(&rhaiway.wait_for_log("\"changed\"")).unwrap();
    assert_eq!(line["changed"], "direct, through");

    // A module that breaks keeps its importers' old versions; mended, they load.
    project.write("scripts/lib/deep/inner.rhai", "fn word( {");
    rhaiway.wait_for_log("still serves");
    assert_eq!(rhaiway.get("/through").text(), "2");
    project.write("scripts/lib/deep/inner.rhai", "fn word() { \"3\" }");
    wait_for(&rhaiway, "/through", "3");
    wait_for(&rhaiway, "/direct", "3");
}

#[test]
fn o10_a_clash_between_two_files_keeps_the_old_generation_and_names_both_places() {
    let project = Project::new(&says("/a", "main"));
    let rhaiway = project.start();
    let before = rhaiway.generation(&project);
    project.write("scripts/other.rhai", format!("\n  {}", says("/a", "other")));
    let line = rhaiway.wait_for_log("E0231");
    assert!(line.contains("scripts/other.rhai") && line.contains("scripts/main.rhai"), "{line}");
    assert!(line.contains("generation 1 still serves"), "{line}");
    assert_eq!(rhaiway.get("/a").text(), "main");
    assert_eq!(rhaiway.generation(&project), before);
    // Looking again does not tell it again, and once it is mended everything loads.
    rhaiway.signal("HUP");
    project.write("scripts/other.rhai", says("/b", "other"));
    wait_for(&rhaiway, "/b", "other");
    assert_eq!(rhaiway.count_log("E0231"), 1);
}

#[test]
fn o10_w34_at_the_start_a_clash_ends_with_1_and_both_places() {
    let check = |first: &str, second: &str, code: &str, parts: &[&str]| {
        let project = Project::with_more(
            "[webhooks.echo]\npath = \"/echo\"\nscheme = \"none\"\nrespond = \"script\"\nstore = false\n",
            first,
        );
        project.write("scripts/other.rhai", second);
        let (_, stderr) = project.expect(1, &["run"]);
        for part in [code, "scripts/main.rhai"].iter().chain(parts) {
            assert!(stderr.contains(part), "{part} is missing:\n{stderr}");
        }
    };
    check(&says("/a", "1"), &says("/a", "2"), "E0231", &["scripts/other.rhai"]);
    check(&says("/a/{x}", "1"), &says("/a/{y}", "2"), "E0231", &["scripts/other.rhai"]);
    check(&says("/echo", "1"), "", "E0231", &["config.toml"]);
    check(&says("/healthz", "1"), "", "E0231", &["Rhaiway itself"]);
    check(
        "webhook(\"echo\", \"a.*\", |event| 1);",
        "webhook(\"echo\", \"*.b\", |event| 2);",
        "E0232",
        &["scripts/other.rhai"],
    );
    check("webhook(\"clerc\", \"*\", |event| 1);", "", "E0233", &["clerk"]);
}

#[test]
fn o11_sighup_reloads_and_a_thousand_of_them_are_few() {
    let project = Project::new(&says("/", "one"));
    let rhaiway = project.start();
    let before = rhaiway.generation(&project);
    let pid = rhaiway.pid().to_string();
    let script = format!("for n in $(seq 1000); do kill -s HUP {pid} || exit 1; done");
    assert!(std::process::Command::new("sh").args(["-c", &script]).status().unwrap().success());
    assert_eq!(rhaiway.get("/").text(), "one");
    assert_eq!(rhaiway.generation(&project), before, "nothing has changed, so nothing is new");
    project.write("scripts/main.rhai", says("/", "two"));
    rhaiway.signal("HUP");
    wait_for(&rhaiway, "/", "two");
    rhaiway.stop();
}

#[test]
fn a_job_that_failed_runs_again_as_soon_as_its_script_is_saved() {
    let project = Project::new("webhook(\"clerk\", \"*\", |event| { throw \"not yet\" });");
    let rhaiway = project.start();
    rhaiway.deliver(&signed("msg_1", clerk_event("user.created", "u1", 1)));
    eventually("it has failed once", || {
        let (stdout, _) = project.expect(0, &["events", "--json", "--state", "retrying"]);
        (!stdout.is_empty()).then_some(())
    });
    project.write(
        "scripts/main.rhai",
        "webhook(\"clerk\", \"*\", |event| db.users.put(event.data.id, #{}));\nget(\"/users/{id}\", #{ auth: \"none\" }, |req| db.users.get(req.params.id) ?? status(404));",
    );
    wait_for_status(&rhaiway, "/users/u1", 200);
}

#[test]
fn a_request_sees_one_generation_from_its_start_to_its_end() {
    let script = |word: &str| {
        format!(
            "const WORD = \"{word}\";\nget(\"/\", #{{ auth: \"none\" }}, |req| {{ log.info(\"begun\"); let before = global::WORD; sleep(\"1500ms\"); before + global::WORD }});\n"
        )
    };
    let project = Project::new(&script("a"));
    let rhaiway = project.start();
    let (told, tells) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| told.send(rhaiway.get("/").text().to_owned()).unwrap());
        rhaiway.wait_for_log("begun");
        project.write("scripts/main.rhai", script("b"));
        eventually("the new generation serves", || {
            (rhaiway.generation(&project) == 2).then_some(())
        });
        assert_eq!(tells.recv().unwrap(), "aa");
    });
    assert_eq!(rhaiway.get("/").text(), "bb");
}
