//! Saving config.toml, `.env` or a secret's file changes what is served, whole or not at all; what is broken leaves what works, and no request is
//! lost by it.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::{
    Connection, Project, Rhaiway, SECRET, Signed, clerk_event, eventually, render, signed,
    signed_at,
};
use crate::webhooks::stored_request;

const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const THIRD: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
const ROUTE: &str = "get(\"/\", #{ auth: \"none\" }, |req| \"here\");\n";
const SERVER: &str = "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 2\n";

/// The config of these tests: the server, lines for `[webhooks.clerk]`, and further tables.
fn config(server: &str, webhook: &str, more: &str) -> String {
    format!(
        "{SERVER}{server}\n[webhooks.clerk]\npath = \"/api/webhooks/clerk\"\nscheme = \"svix\"\n{webhook}\n{more}\n"
    )
}

const CURRENT: &str = "secret_env = \"CURRENT\"";

/// A project whose secret stands in `.env`.
fn project(script: &str) -> Project {
    let project = Project::with_config(&config("", CURRENT, ""), script);
    project.write(".env", format!("CURRENT={SECRET}\n"));
    project
}

fn now() -> i64 {
    signed("x", "").timestamp.parse().unwrap()
}

fn delivery(secret: &str, id: &str) -> Signed {
    signed_at(secret, id, now(), clerk_event("user.created", id, 1))
}

/// A delivery whose head is known to be read and whose body is yet to be sent.
fn begun(rhaiway: &Rhaiway, signed: &Signed) -> (Connection, Vec<u8>) {
    let headers = [signed.headers(), vec![("expect", "100-continue")]].concat();
    let bytes = render("POST", "/api/webhooks/clerk", &headers, &signed.body);
    let head = bytes.len() - signed.body.len();
    let mut connection = Connection::open(rhaiway.address());
    connection.send(&bytes[..head]).unwrap();
    assert_eq!(connection.read().unwrap().status, 100);
    (connection, signed.body.clone())
}

/// Sets a mark when it goes, by a panic too, so that threads that look at it end.
struct Raised<'a>(&'a AtomicBool);

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Writes beside it and renames, so that nobody ever finds half of it.
fn replace(project: &Project, name: &str, text: impl AsRef<[u8]>) {
    let draft = format!("{name}.draft");
    project.write(&draft, text);
    fs::rename(project.at(&draft), project.at(name)).unwrap();
}

/// Changes something and waits until a generation after that serves.
fn reloaded(rhaiway: &Rhaiway, project: &Project, change: impl FnOnce()) {
    let before = rhaiway.generation(project);
    change();
    eventually("a new generation serves", || (rhaiway.generation(project) > before).then_some(()));
}

/// Waits until the log has one more line with `part` than before, by what is done.
fn told(rhaiway: &Rhaiway, part: &str, change: impl FnOnce()) -> String {
    let before = rhaiway.count_log(part);
    change();
    eventually(&format!("{part:?} is told"), || {
        let lines: Vec<_> = rhaiway.log().into_iter().filter(|line| line.contains(part)).collect();
        lines.get(before).cloned()
    })
}

/// Waits until the loader has looked after this moment: a script of its own appears.
fn settle(project: &Project, rhaiway: &Rhaiway, mark: &str) {
    let script = format!("get(\"/mark/{mark}\", #{{ auth: \"none\" }}, |req| \"{mark}\");\n");
    project.write("scripts/mark.rhai", script);
    eventually(mark, || (rhaiway.get(&format!("/mark/{mark}")).status == 200).then_some(()));
}

#[test]
fn w7_rule_20_a_secret_rotated_under_load_fails_no_delivery_and_a_removed_one_is_refused_at_once() {
    const SENDERS: usize = 4;
    let secrets = [SECRET, OTHER, THIRD];
    let project = project("webhook(\"clerk\", |event| 1);");
    let both = config("", "secret_env = [\"CURRENT\", \"PREVIOUS\"]", "");
    let rhaiway = project.start();
    let (stop, signing) = (AtomicBool::new(false), AtomicUsize::new(0));
    let posted: [AtomicUsize; SENDERS] = Default::default();
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let _stopped_in_the_end = Raised(&stop);
        for (sender, posted) in posted.iter().enumerate() {
            let (rhaiway, stop, signing, failed) = (&rhaiway, &stop, &signing, &failed);
            scope.spawn(move || {
                let mut connection = Connection::open(rhaiway.address());
                while !stop.load(Ordering::Relaxed) {
                    let n = posted.load(Ordering::Relaxed);
                    let signed =
                        delivery(secrets[signing.load(Ordering::SeqCst)], &format!("{sender}-{n}"));
                    let bytes =
                        render("POST", "/api/webhooks/clerk", &signed.headers(), &signed.body);
                    connection.send(&bytes).unwrap();
                    let status = connection.read().unwrap().status;
                    if status != 200 {
                        failed.lock().unwrap().push(status);
                    }
                    posted.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        // Every sender has had an answer to something that it began after this.
        let each_posts = || {
            let before: Vec<_> =
                posted.iter().map(|posted| posted.load(Ordering::SeqCst)).collect();
            eventually("each sender goes on", || {
                let far = |(posted, before): (&AtomicUsize, &usize)| {
                    posted.load(Ordering::SeqCst) > before + 5
                };
                posted.iter().zip(&before).all(far).then_some(())
            });
        };
        each_posts();
        // First config names two variables, the second of which is not set; from then on only `.env` changes.
        reloaded(&rhaiway, &project, || project.write("config.toml", &both));
        for new in 1..secrets.len() {
            each_posts();
            let (new_secret, old_secret) = (secrets[new], secrets[new - 1]);
            let rotating = format!("CURRENT={new_secret}\nPREVIOUS={old_secret}\n");
            reloaded(&rhaiway, &project, || project.write(".env", rotating));
            each_posts();
            signing.store(new, Ordering::SeqCst);
            each_posts();
            reloaded(&rhaiway, &project, || {
                project.write(".env", format!("CURRENT={new_secret}\n"))
            });
            let refused = rhaiway.deliver(&delivery(old_secret, "old")).status;
            assert_eq!(refused, 401, "a secret that was removed is refused at once");
            each_posts();
        }
    });
    assert_eq!(*failed.lock().unwrap(), Vec::<u16>::new());
    let log = rhaiway.log().join("\n");
    assert!(log.contains("reloaded config (webhooks.clerk.secret_env)"), "{log}");
    for secret in secrets {
        assert!(!log.contains(secret.trim_start_matches("whsec_")), "a secret is in the log");
    }
}

#[test]
fn w7_the_record_names_the_secret_that_matched_also_after_a_change_of_config() {
    let project = project("webhook(\"clerk\", |event| 1);");
    project.write(".env", format!("CURRENT={SECRET}\nNEXT={OTHER}\n"));
    let rhaiway = project.start();
    assert_eq!(rhaiway.deliver(&delivery(OTHER, "too-early")).status, 401);
    reloaded(&rhaiway, &project, || {
        project.write("config.toml", config("", "secret_env = [\"NEXT\", \"CURRENT\"]", ""));
    });
    for (secret, id, status) in [(OTHER, "next", 200), (SECRET, "current", 200), (THIRD, "no", 401)]
    {
        assert_eq!(rhaiway.deliver(&delivery(secret, id)).status, status, "{id}");
    }
    assert_eq!(stored_request(&project, "next")["secret"], "NEXT");
    assert_eq!(stored_request(&project, "current")["secret"], "CURRENT");
}

#[test]
fn w7_a_delivery_in_flight_is_judged_by_the_generation_in_which_it_began() {
    let project = project("webhook(\"clerk\", |event| 1);");
    let rhaiway = project.start();
    let (mut old, old_body) = begun(&rhaiway, &delivery(SECRET, "old"));
    let (mut new, new_body) = begun(&rhaiway, &delivery(OTHER, "new"));
    reloaded(&rhaiway, &project, || project.write(".env", format!("CURRENT={OTHER}\n")));
    assert_eq!(rhaiway.deliver(&delivery(SECRET, "later")).status, 401);
    assert_eq!(rhaiway.deliver(&delivery(OTHER, "later")).status, 200);
    old.send(&old_body).unwrap();
    new.send(&new_body).unwrap();
    assert_eq!(old.read().unwrap().status, 200, "it began when its secret counted");
    assert_eq!(new.read().unwrap().status, 401, "it began before its secret counted");
    // The next request on the same connection sees what is new.
    let signed = delivery(OTHER, "same-connection");
    old.send(&render("POST", "/api/webhooks/clerk", &signed.headers(), &signed.body)).unwrap();
    assert_eq!(old.read().unwrap().status, 200);
}

#[test]
fn rule_7_a_run_keeps_the_config_with_which_it_began() {
    let script = "get(\"/\", #{ auth: \"none\" }, |req| { log.info(\"begun\"); let before = vars.word; sleep(\"1500ms\"); before + vars.word });";
    let project = project(script);
    let vars = |word: &str| config("", CURRENT, &format!("[vars]\nword = \"{word}\""));
    project.write("config.toml", vars("a"));
    let rhaiway = project.start();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| rhaiway.get("/").text().to_owned());
        rhaiway.wait_for_log("begun");
        reloaded(&rhaiway, &project, || project.write("config.toml", vars("b")));
        assert_eq!(running.join().unwrap(), "aa");
    });
    assert_eq!(rhaiway.get("/").text(), "bb");
    let line: serde_json::Value =
        serde_json::from_str(&rhaiway.wait_for_log("\"config\"")).unwrap();
    assert_eq!(
        (line["config"].as_str(), line["changed"].as_str()),
        (Some("vars.word"), Some("main"))
    );
}

#[test]
fn rule_20_a_variable_that_goes_leaves_its_webhook_unconfigured_and_says_so() {
    let project = project(ROUTE);
    let rhaiway = project.start();
    told(&rhaiway, "`CURRENT` is not set", || fs::remove_file(project.at(".env")).unwrap());
    let answer = rhaiway.deliver(&delivery(SECRET, "1"));
    assert_eq!((answer.status, answer.code().as_str()), (500, "CONFIGURATION_ERROR"));
    assert_eq!(rhaiway.get("/").text(), "here");
    reloaded(&rhaiway, &project, || project.write(".dev.vars", format!("CURRENT={OTHER}\n")));
    assert_eq!(rhaiway.deliver(&delivery(OTHER, "2")).status, 200);
    // A secret that cannot be one is told when it appears, and never shown.
    let line = told(&rhaiway, "E0110", || project.write(".dev.vars", "CURRENT='canary '\n"));
    assert!(line.contains("blanks around it") && !line.contains("canary"), "{line}");
}

#[test]
fn o1_each_kind_of_broken_config_leaves_the_old_one_serving_and_is_told_once_with_its_place() {
    let project = project(ROUTE);
    let rhaiway = project.start();
    let whole = config("", CURRENT, "");
    let check = |text: &[u8], parts: &[&str]| {
        let line = told(&rhaiway, "not reloaded; the configuration of generation", || {
            project.write("config.toml", text);
        });
        for part in ["\"level\":\"ERROR\"", "config.toml"].iter().chain(parts) {
            assert!(line.contains(part), "{part}: {line}");
        }
        assert_eq!(rhaiway.get("/").text(), "here");
        assert_eq!(rhaiway.deliver(&delivery(SECRET, "msg")).status, 200);
        assert_eq!(rhaiway.generation(&project), 1);
    };
    let after = |line: &str| format!("{whole}{line}\n");
    check(after("[sever]\nx = 1").as_bytes(), &["E0101", "sever", "server"]);
    check(after("[scripts]\ntimeout = \"5 minutes\"").as_bytes(), &["E0102", "timeout"]);
    check(after("[scripts]\ntimeout = \"-1s\"").as_bytes(), &["E0102", "timeout"]);
    check(after("[scripts]\ntimeout = \"0\"").as_bytes(), &["E0102", "timeout"]);
    check(after("[storage]\nretention = \"1e9d\"").as_bytes(), &["E0102", "retention"]);
    check(after("[server]").as_bytes(), &["E0103"]);
    check(after("\t[cors]\n\toriginz = []").as_bytes(), &["E0101", "origins"]);
    check(after("[vars]\nx = \"${NOT_SET_ANYWHERE}\"").as_bytes(), &["E0105", "NOT_SET_ANYWHERE"]);
    check(b"\xef\xbb\xbf[sever]\r\n", &["E0101", "config.toml:1:"]);
    check(b"[server]\nlisten = \"\xff\"\n", &["E0104", "UTF-8"]);
    check(&vec![b'#'; 10 << 20], &["E0104", "1MiB"]);
    check(b"", &["E0114", "empty"]);
    let problems = rhaiway.status(&project)["config_problems"].clone();
    assert_eq!(problems.as_array().unwrap().len(), 1, "{problems}");

    // Looking again does not tell it again; mended, it says so, and nothing is new.
    let before = rhaiway.count_log("E0114");
    settle(&project, &rhaiway, "once");
    settle(&project, &rhaiway, "twice");
    assert_eq!(rhaiway.count_log("E0114"), before);
    let generation = rhaiway.generation(&project);
    told(&rhaiway, "can be used again", || project.write("config.toml", &whole));
    assert_eq!(rhaiway.generation(&project), generation);
    assert_eq!(rhaiway.status(&project)["config_problems"], serde_json::json!([]));

    // A broken line among the variables is told by its number.
    let line = told(&rhaiway, "E0106", || project.write(".env", "CURRENT=canary\nbroken canary\n"));
    assert!(line.contains(".env:2") && !line.contains("canary"), "{line}");
    assert_eq!(rhaiway.deliver(&delivery(SECRET, "msg")).status, 200);
    told(&rhaiway, "can be used again", || project.write(".env", format!("CURRENT={SECRET}\n")));
}

#[test]
fn o2_o9_config_that_goes_or_is_no_file_while_it_runs_leaves_the_old_one_until_it_is_repaired() {
    let project = project(ROUTE);
    let rhaiway = project.start();
    let path = project.at("config.toml");
    let whole = fs::read(&path).unwrap();
    let check = |name: &str, prepare: &dyn Fn(), part: &str| {
        let at = project.at(name);
        let content = fs::read(&at).unwrap();
        let line = told(&rhaiway, part, || {
            fs::remove_file(&at).unwrap();
            prepare();
        });
        assert!(line.contains(name) && line.contains("still serves"), "{line}");
        assert_eq!(rhaiway.deliver(&delivery(SECRET, "msg")).status, 200);
        told(&rhaiway, "can be used again", || {
            _ = fs::remove_file(&at);
            _ = fs::remove_dir(&at);
            fs::write(&at, content).unwrap();
        });
    };
    let pipe = |path: &std::path::Path| {
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    let env = project.at(".env");
    check("config.toml", &|| {}, "there is no such file");
    check("config.toml", &|| fs::create_dir(&path).unwrap(), "it is a folder");
    check("config.toml", &|| symlink("nowhere", &path).unwrap(), "which does not exist");
    check("config.toml", &|| symlink("config.toml", &path).unwrap(), "symbolic links");
    check("config.toml", &|| pipe(&path), "it is not a regular file");
    check("config.toml", &|| symlink("/dev/zero", &path).unwrap(), "it is not a regular file");
    check(".env", &|| pipe(&env), "it is not a regular file");
    check(".env", &|| symlink("nowhere", &env).unwrap(), "which does not exist");
    check(".env", &|| fs::write(&env, b"A=\xff\n").unwrap(), "it is not UTF-8");
    assert_eq!(fs::read(&path).unwrap(), whole);
    assert_eq!(rhaiway.generation(&project), 1);
}

#[test]
fn o3_what_cannot_change_waits_for_a_restart_and_is_named_once_with_both_values() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let project = project("get(\"/\", #{ auth: \"none\" }, |req| vars.word);");
    let with = |listen: &str, word: &str| {
        config(
            "",
            CURRENT,
            &format!("[vars]\nword = \"{word}\"\n[scripts]\nmemory_budget = \"64MiB\""),
        )
        .replace("127.0.0.1:0", listen)
    };
    project.write(
        "config.toml",
        with("127.0.0.1:0", "one").replace("[scripts]\nmemory_budget = \"64MiB\"", ""),
    );
    let rhaiway = project.start();
    // The rest of that version counts at once.
    reloaded(&rhaiway, &project, || project.write("config.toml", with(&taken, "two")));
    assert_eq!(rhaiway.get("/").text(), "two");
    let line: serde_json::Value =
        serde_json::from_str(&rhaiway.wait_for_log("`server.listen` waits for a restart")).unwrap();
    assert_eq!(line["level"], "WARN");
    assert_eq!(
        (line["running"].as_str(), line["written"].as_str()),
        (Some("127.0.0.1:0"), Some(&*taken))
    );
    rhaiway.wait_for_log("`scripts.memory_budget` waits for a restart");
    let waiting = || rhaiway.status(&project)["waits_for_restart"].clone();
    assert_eq!(waiting(), serde_json::json!(["server.listen", "scripts.memory_budget"]));
    // It is not told again with the next version.
    reloaded(&rhaiway, &project, || project.write("config.toml", with(&taken, "three")));
    assert_eq!(rhaiway.count_log("waits for a restart"), 2);
    reloaded(&rhaiway, &project, || project.write("config.toml", with("127.0.0.1:0", "four")));
    rhaiway.wait_for_log("`server.listen` is as it runs again");
    assert_eq!(waiting(), serde_json::json!(["scripts.memory_budget"]));
    rhaiway.stop();
    let rhaiway = project.start();
    assert_eq!(rhaiway.status(&project)["waits_for_restart"], serde_json::json!([]));
}

#[test]
fn o3_a_value_that_came_from_the_environment_is_not_told_when_it_waits() {
    let project = project(ROUTE);
    project.write(".env", format!("CURRENT={SECRET}\nDATABASE=sqlite:data/rhaiway.db\n"));
    project.write("config.toml", config("", CURRENT, "[storage]\nurl_env = \"DATABASE\""));
    let rhaiway = project.start();
    let line = told(&rhaiway, "`storage.url` waits for a restart", || {
        project.write(".env", format!("CURRENT={SECRET}\nDATABASE=sqlite:data/canary.db\n"));
    });
    assert!(line.contains("is not shown") && !line.contains("canary"), "{line}");
    assert!(!project.at("data/canary.db").exists());
}

#[test]
fn o5_what_editors_leave_beside_config_is_no_change() {
    let project = project(ROUTE);
    let rhaiway = project.start();
    for name in [".config.toml.swp", "config.toml~", "#config.toml#", "4913", ".env~", ".env.swp"] {
        project.write(name, "this is not TOML )");
    }
    settle(&project, &rhaiway, "after");
    let log = rhaiway.log().join("\n");
    assert!(!log.contains("\"ERROR\""), "{log}");
    assert_eq!(rhaiway.generation(&project), 2, "the mark alone");
}

#[test]
fn o6_however_an_editor_saves_config_the_whole_of_it_is_read_or_nothing() {
    let word = |word: &str| config("", CURRENT, &format!("[vars]\nword = \"{word}\""));
    let project = project("get(\"/\", #{ auth: \"none\" }, |req| vars.word);");
    project.write("config.toml", word("0"));
    let rhaiway = project.start();
    let path = project.at("config.toml");
    let wait_for = |word: &str| {
        eventually(word, || (rhaiway.get("/").text() == word).then_some(()));
    };

    replace(&project, "config.toml", word("renamed"));
    wait_for("renamed");

    fs::rename(&path, project.at("config.toml~")).unwrap();
    fs::write(&path, word("moved")).unwrap();
    wait_for("moved");

    let whole = word("halves");
    let (first, second) = whole.split_at(whole.len() / 2);
    let mut file = fs::File::create(&path).unwrap();
    std::io::Write::write_all(&mut file, first.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(50)); // the case itself: an editor that takes this long between two writes
    std::io::Write::write_all(&mut file, second.as_bytes()).unwrap();
    drop(file);
    wait_for("halves");

    // Touched, or a comment added: nothing that serves is new.
    let before = rhaiway.generation(&project);
    fs::write(&path, &whole).unwrap();
    settle(&project, &rhaiway, "touched");
    fs::write(&path, format!("# a comment\n{whole}")).unwrap();
    project.write(".env", format!("# a comment\nCURRENT={SECRET}\nUNRELATED=1\n"));
    settle(&project, &rhaiway, "commented");
    assert_eq!(rhaiway.generation(&project), before + 2, "the marks alone");
    assert_eq!(rhaiway.count_log("\"ERROR\""), 0);
}

#[test]
fn o7_a_thousand_saves_of_config_are_few_generations_and_the_last_state_wins() {
    let word = |n: usize| config("", CURRENT, &format!("[vars]\nword = \"{n}\""));
    let project = project("get(\"/\", #{ auth: \"none\" }, |req| vars.word);");
    project.write("config.toml", word(0));
    let rhaiway = project.start();
    for n in 1..=1000 {
        replace(&project, "config.toml", word(n));
    }
    eventually("the last one", || (rhaiway.get("/").text() == "1000").then_some(()));
    let generations = rhaiway.generation(&project);
    assert!((2..=50).contains(&generations), "{generations} generations");
    assert_eq!(rhaiway.count_log("\"ERROR\""), 0);
}

#[test]
fn o8_a_webhook_that_is_removed_answers_404_ends_what_began_and_its_jobs_are_ignored_with_the_reason()
 {
    let slow = "retry = { base = \"1h\", cap = \"1h\" }";
    let project = Project::with_config(
        &config("", &format!("{CURRENT}\n{slow}"), ""),
        "webhook(\"clerk\", |event| { throw \"not yet\" });",
    );
    project.write(".env", format!("CURRENT={SECRET}\n"));
    let rhaiway = project.start();
    assert_eq!(rhaiway.deliver(&delivery(SECRET, "waits")).status, 200);
    project.wait_for_state("waits", "retrying");
    let (mut running, body) = begun(&rhaiway, &delivery(SECRET, "begun"));
    // The script names the webhook still: the whole old generation goes on.
    let line = told(&rhaiway, "E0233", || project.write("config.toml", SERVER));
    assert!(line.contains("main.rhai:1") && line.contains("generation 1 still serves"), "{line}");
    assert_eq!(rhaiway.deliver(&delivery(SECRET, "still")).status, 200);
    reloaded(&rhaiway, &project, || project.write("scripts/main.rhai", ROUTE));
    assert_eq!(rhaiway.deliver(&delivery(SECRET, "late")).status, 404);
    running.send(&body).unwrap();
    assert_eq!(running.read().unwrap().status, 200);
    let event = project.wait_for_state("waits", "ignored");
    assert!(event["jobs"][0]["error"].as_str().unwrap().contains("any more"), "{event}");
}

#[test]
fn o10_config_that_contradicts_the_scripts_keeps_the_whole_old_generation_and_shows_both_places() {
    let project = project(&format!("{ROUTE}webhook(\"clerk\", |event| 1);"));
    let rhaiway = project.start();
    let clash = config("max_body = \"1KiB\"", CURRENT, "").replace("/api/webhooks/clerk", "/{x}");
    let clash = clash.replace("/{x}", "/");
    let line = told(&rhaiway, "E0231", || project.write("config.toml", &clash));
    assert!(line.contains("config.toml") && line.contains("main.rhai"), "{line}");
    assert!(line.contains("generation 1 still serves"), "{line}");
    assert_eq!(rhaiway.deliver(&delivery(SECRET, "1")).status, 200);
    assert!(
        rhaiway.status(&project)["config_problems"][0].as_str().unwrap().contains("wanted twice")
    );
    // Nothing of it counts, and a script that is fine waits too.
    assert_eq!(rhaiway.post("/api/webhooks/clerk", &[], &[b'x'; 2000]).status, 401);
    project.write("scripts/fine.rhai", "get(\"/fine\", #{ auth: \"none\" }, |req| 1);");
    rhaiway.signal("HUP");
    reloaded(&rhaiway, &project, || {
        project.write("config.toml", config("max_body = \"1KiB\"", CURRENT, ""));
    });
    assert_eq!(rhaiway.post("/api/webhooks/clerk", &[], &[b'x'; 2000]).status, 413);
    eventually("the other script serves", || (rhaiway.get("/fine").status == 200).then_some(()));
    assert_eq!(rhaiway.count_log("E0231"), 1);
}

#[test]
fn o11_sighup_looks_at_config_too() {
    let project = project("get(\"/\", #{ auth: \"none\" }, |req| vars.word);");
    let word = |word: &str| config("", CURRENT, &format!("[vars]\nword = \"{word}\""));
    project.write("config.toml", word("one"));
    let rhaiway = project.start();
    for n in 0..5 {
        let before = rhaiway.generation(&project);
        for _ in 0..20 {
            rhaiway.signal("HUP");
        }
        assert_eq!(rhaiway.generation(&project), before, "nothing has changed");
        project.write("config.toml", word(&n.to_string()));
        rhaiway.signal("HUP");
        eventually("it is read", || (rhaiway.get("/").text() == n.to_string()).then_some(()));
    }
    rhaiway.stop();
}

#[test]
fn what_config_says_of_requests_runs_and_stops_counts_for_what_comes_after() {
    let project = project(
        r#"
        get("/word", #{ auth: "none" }, |req| vars.word);
        get("/ip", #{ auth: "none" }, |req| req.remote_ip);
        get("/sleep", #{ auth: "none" }, |req| { sleep("300ms"); "slept" });
        get("/spin", #{ auth: "none" }, |req| { let n = 0; for i in 0..1000000 { n += i; } "spun" });
        webhook("clerk", |event| { if event.type == "user.created" { sleep("50s"); } });
        "#,
    );
    let word = "[vars]\nword = \"x\"\n";
    project.write("config.toml", config("", CURRENT, word));
    let rhaiway = project.start();
    let set = |server: &str, more: &str| {
        reloaded(&rhaiway, &project, || {
            project.write("config.toml", config(server, CURRENT, &format!("{word}{more}")));
        });
    };
    let forwarded = [("x-forwarded-for", "203.0.113.9"), ("origin", "https://app.example.com")];
    let ask = |path: &str| crate::support::request(rhaiway.address(), "GET", path, &forwarded, b"");
    let allowed = "access-control-allow-origin";

    assert_eq!((ask("/ip").text(), ask("/ip").header(allowed)), ("127.0.0.1", None));
    set("trusted_proxies = [\"127.0.0.1\"]", "[cors]\norigins = [\"https://app.example.com\"]");
    let answer = ask("/ip");
    assert_eq!(answer.text(), "203.0.113.9");
    assert_eq!(answer.header(allowed), Some("https://app.example.com"));

    assert_eq!(ask("/sleep").text(), "slept");
    set("", "[scripts]\ntimeout = \"50ms\"");
    assert_eq!(ask("/sleep").status, 503);
    set("", "[scripts]\ncpu_budget = \"1ms\"");
    assert_eq!((ask("/sleep").text(), ask("/spin").status), ("slept", 503));

    set("read_timeout = \"50ms\"", "");
    let (mut slow, _body) = begun(&rhaiway, &delivery(SECRET, "slow"));
    assert_eq!(slow.read().unwrap().status, 408);

    set("", "[storage]\nmax_pending = 1");
    assert_eq!(rhaiway.deliver(&delivery(SECRET, "first")).status, 200);
    assert_eq!(rhaiway.deliver(&delivery(SECRET, "second")).status, 503);
    set("", "[storage]\nmax_pending = 2");
    assert_eq!(rhaiway.deliver(&delivery(SECRET, "second")).status, 200);

    // Another folder of scripts; one that is not there is a slip.
    let line = told(&rhaiway, "E0114", || {
        let more = format!("{word}[scripts]\ndir = \"other\"");
        project.write("config.toml", config("", CURRENT, &more));
    });
    assert!(line.contains("which is no folder"), "{line}");
    assert_eq!(ask("/word").text(), "x");
    reloaded(&rhaiway, &project, || {
        project.write("other/main.rhai", "get(\"/word\", #{ auth: \"none\" }, |req| \"other\");");
    });
    assert_eq!((ask("/word").text(), ask("/ip").status), ("other", 404));
    // It is watched from here on.
    project.write("other/main.rhai", "get(\"/word\", #{ auth: \"none\" }, |req| \"saved\");");
    eventually("a save there counts", || (ask("/word").text() == "saved").then_some(()));

    set("shutdown_grace = \"0s\"", "[scripts]\ndir = \"other\"");
    rhaiway.signal("TERM");
    rhaiway.wait_for_log("what runs may end within 0");
    assert_eq!(rhaiway.wait(), Some(0));
}

#[test]
fn production_is_taken_up_while_it_runs_only_where_a_start_would_be_let() {
    let project = project("get(\"/\", |req| \"here\");");
    let rhaiway = project.start();
    let production = "environment = \"production\"";
    let line = told(&rhaiway, "E0236", || {
        project.write("config.toml", config(production, CURRENT, ""));
    });
    assert!(line.contains("generation 1 still serves"), "{line}");
    assert_eq!(rhaiway.get("/").text(), "here");
    reloaded(&rhaiway, &project, || project.write("scripts/main.rhai", ROUTE));
    assert_eq!(rhaiway.deliver(&delivery(SECRET, "1")).status, 200);
    let line = told(&rhaiway, "E0109", || {
        project.write("config.toml", config(production, CURRENT, "[cors]\norigins = [\"*\"]"));
    });
    assert!(line.contains("still serves"), "{line}");
    assert_eq!(rhaiway.get("/").text(), "here");
}

/// Starts with a variable of the process that names a secret's file, and without the secret itself.
fn start_with(project: &Project, variables: &[(&str, &str)]) -> Rhaiway {
    let mut command = project.command(&["run"]);
    command.env_remove("CLERK_WEBHOOK_SECRET");
    command.envs(variables.iter().copied());
    project.start_as(command)
}

#[test]
fn a_secret_in_a_file_of_its_own_is_read_again_when_that_changes_and_kept_when_it_breaks() {
    let project = project(ROUTE);
    project.write(".env", format!("CURRENT={THIRD}\n"));
    project.write("secrets/current", format!("{SECRET}\n"));
    let file = project.at("secrets/current");
    let rhaiway = start_with(&project, &[("CURRENT_FILE", "secrets/current")]);
    let check = |secret: &str, status: u16| {
        assert_eq!(rhaiway.deliver(&delivery(secret, "msg")).status, status);
    };
    check(SECRET, 200);
    check(THIRD, 401);
    reloaded(&rhaiway, &project, || replace(&project, "secrets/current", format!("{OTHER}\r\n")));
    check(SECRET, 401);
    check(OTHER, 200);
    let broken = |prepare: &dyn Fn(), why: &str| {
        let line = told(&rhaiway, why, prepare);
        assert!(line.contains("`CURRENT_FILE` names `secrets/current`"), "{line}");
        assert!(line.contains("E0113") && line.contains("still serves"), "{line}");
        check(OTHER, 200);
        _ = fs::remove_file(&file);
        _ = fs::remove_dir(&file);
    };
    broken(&|| fs::remove_file(&file).unwrap(), "there is no such file");
    broken(&|| fs::write(&file, "\n").unwrap(), "it is empty");
    broken(&|| fs::create_dir(&file).unwrap(), "it is a folder");
    broken(
        &|| assert!(Command::new("mkfifo").arg(&file).status().unwrap().success()),
        "it is not a regular file",
    );
    broken(&|| fs::write(&file, vec![b'x'; (64 << 10) + 1]).unwrap(), "it is larger than 64KiB");
    broken(&|| fs::write(&file, b"canary\xff").unwrap(), "it is not UTF-8");
    told(&rhaiway, "can be used again", || fs::write(&file, OTHER).unwrap());
    check(OTHER, 200);
    let log = rhaiway.log().join("\n");
    let shown = |secret: &str| log.contains(secret.trim_start_matches("whsec_"));
    assert!(!log.contains("canary") && ![SECRET, OTHER, THIRD].into_iter().any(shown));
    assert_eq!(rhaiway.generation(&project), 2);
}

#[test]
fn a_mounted_secret_that_is_swapped_by_a_link_to_its_folder_is_read_again() {
    let project = project(ROUTE);
    project.write("mount/..1/current", SECRET);
    project.write("mount/..2/current", OTHER);
    symlink("..1", project.at("mount/..data")).unwrap();
    symlink("..data/current", project.at("mount/current")).unwrap();
    let rhaiway = start_with(&project, &[("CURRENT_FILE", "mount/current")]);
    assert_eq!(rhaiway.deliver(&delivery(SECRET, "1")).status, 200);
    reloaded(&rhaiway, &project, || {
        symlink("..2", project.at("mount/..new")).unwrap();
        fs::rename(project.at("mount/..new"), project.at("mount/..data")).unwrap();
    });
    assert_eq!(rhaiway.deliver(&delivery(OTHER, "2")).status, 200);
    assert_eq!(rhaiway.deliver(&delivery(SECRET, "3")).status, 401);
}

#[test]
fn a_variable_is_taken_from_the_process_then_its_file_then_the_credentials_then_env_then_dev_vars()
{
    let project = project(ROUTE);
    let [process, file, upper, lower, dot_env, dev_vars] = [10, 11, 12, 13, 14, 15].map(|byte| {
        use base64::Engine as _;
        format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode([byte; 24]))
    });
    project.write("secret", &file);
    project.write("credentials/current", &lower);
    project.write(".env", format!("CURRENT={dot_env}\n"));
    project.write(".dev.vars", format!("CURRENT={dev_vars}\n"));
    let folder = project.at("credentials").display().to_string();
    let all =
        [("CURRENT", &*process), ("CURRENT_FILE", "secret"), ("CREDENTIALS_DIRECTORY", &*folder)];
    let check = |variables: &[(&str, &str)], secret: &str| {
        let rhaiway = start_with(&project, variables);
        assert_eq!(rhaiway.deliver(&delivery(secret, "msg")).status, 200, "{variables:?}");
        rhaiway
    };
    let rhaiway = check(&all, &process);
    let line = rhaiway.wait_for_log("`CURRENT` and `CURRENT_FILE` are both set: `CURRENT` counts");
    assert!(line.contains("\"level\":\"WARN\"") && line.contains("E0113"), "{line}");
    drop(rhaiway);
    drop(check(&all[1..], &file));
    let rhaiway = check(&all[2..], &lower);
    // The name itself counts more than that in lower case, and one that comes while it runs is noticed.
    reloaded(&rhaiway, &project, || project.write("credentials/CURRENT", &upper));
    assert_eq!(rhaiway.deliver(&delivery(&upper, "msg")).status, 200);
    drop(rhaiway);
    let rhaiway = check(&[], &dot_env);
    reloaded(&rhaiway, &project, || project.remove(".env"));
    assert_eq!(rhaiway.deliver(&delivery(&dev_vars, "msg")).status, 200);
}

#[test]
fn a_secrets_file_that_cannot_be_read_is_all_that_is_said_of_its_variable_at_the_start() {
    let project = project(ROUTE);
    let check = |config: String, name: &str| {
        project.write("config.toml", config);
        let mut command = project.command(&["check"]);
        let output = command.env(format!("{name}_FILE"), "nowhere").output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        let title = format!("`{name}_FILE` names `nowhere`, which cannot be read");
        assert!(stderr.contains(&title), "{stderr}");
        assert!(stderr.contains("1 error") && !stderr.contains("is not set"), "{stderr}");
    };
    check(config("", CURRENT, ""), "CURRENT");
    check(config("", CURRENT, "[storage]\nurl_env = \"DATABASE_URL\""), "DATABASE_URL");
    check(config("", CURRENT, "[vars]\nx = \"${GREETING}\""), "GREETING");
    project.write("open", SECRET);
    fs::set_permissions(project.at("open"), std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .unwrap();
    project.write("config.toml", config("", CURRENT, ""));
    let output = project.command(&["check"]).env("CURRENT_FILE", "open").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("every user of this machine may read `open`"), "{stderr}");
    fs::set_permissions(project.at("open"), std::os::unix::fs::PermissionsExt::from_mode(0o400))
        .unwrap();
    let output = project.command(&["check"]).env("CURRENT_FILE", "open").output().unwrap();
    assert!(!String::from_utf8(output.stderr).unwrap().contains("E0113"));
}
