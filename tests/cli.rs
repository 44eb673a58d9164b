//! The commands as a person or a script meets them: what they print where, and how they end.

use std::fs;

use crate::support::{Project, SECRET, eventually};

const GOOD: &str = "webhook(\"clerk\", \"*\", |event| db.users.put(event.data.id, #{}));\nget(\"/users/{id}\", #{ auth: \"none\" }, |req| db.users.get(req.params.id) ?? status(404));\n";

/// A webhook whose handler answers, for what only such ones can get wrong.
const ECHO: &str =
    "[webhooks.echo]\npath = \"/echo\"\nscheme = \"none\"\nrespond = \"script\"\nstore = false\n";

/// What `check --json` prints: one object a line.
fn problems(stdout: &str) -> Vec<serde_json::Value> {
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    stdout.lines().map(parse).collect()
}

#[test]
fn a_project_without_faults_is_checked_and_fine() {
    let project = Project::new(GOOD);
    let (stdout, stderr) = project.expect(0, &["check"]);
    assert_eq!(
        (stdout.as_str(), stderr.as_str()),
        ("", "1 script checked, 0 errors, 0 warnings\n")
    );
    let (stdout, _) = project.expect(0, &["check", "--json"]);
    assert_eq!(stdout, "");
    assert!(!project.at("data").exists(), "checking leaves nothing behind");
}

#[test]
fn what_ships_is_checked_and_fine() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = root.join("config.toml");
    let project = Project::new("");
    let mut check = project.command(&["check", "--config", config.to_str().unwrap()]);
    for key in ["CLERK_SECRET_KEY", "STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET", "OPENAI_API_KEY"]
    {
        check.env(key, "whsec_of_a_test_of_what_ships");
    }
    let output = check.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), &*output.stdout), (Some(0), &b""[..]), "{stderr}");
    assert!(stderr.contains("3 scripts checked, 0 errors, 0 warnings"), "{stderr}");
}

#[test]
fn check_finds_each_kind_of_fault_with_its_place() {
    let check = |script: &str, code: &str, place: &str, exit: i32| {
        let project = Project::with_more(ECHO, script);
        let (stdout, stderr) = project.expect(exit, &["check"]);
        assert_eq!(stdout, "");
        assert!(stderr.contains(&format!("[{code}]")), "{code}:\n{stderr}");
        assert!(stderr.contains(place), "{place}:\n{stderr}");
        let (stdout, _) = project.expect(exit, &["check", "--json"]);
        assert!(problems(&stdout).iter().any(|problem| problem["code"] == code), "{stdout}");
    };
    check("let x = ;", "E0204", "scripts/main.rhai:1:9", 1);
    check("get(\"/\", #{ auth: \"none\" }, |req| nope(req));", "E0201", "scripts/main.rhai:1:", 1);
    check("get(\"/\", #{ auth: \"none\" }, |req| nope);", "E0202", "scripts/main.rhai:1:", 1);
    check("import \"lib/none\" as n;", "E0309", "scripts/main.rhai:1:", 1);
    check("webhook(\"clerc\", \"*\", |event| 1);", "E0233", "scripts/main.rhai:1:", 1);
    check("get(\"/echo\", #{ auth: \"none\" }, |req| 1);", "E0231", "scripts/main.rhai:1:", 1);
    check(GOOD, "E0228", "config.toml:10:11", 0);
    check("get(\"/\", #{ auth: \"none\" }, |req| req.json.nope());", "E0216", "main.rhai:1:", 0);
}

#[test]
fn check_names_every_fault_of_every_file_at_once() {
    let project = Project::new("let x = ;");
    project.write("scripts/other.rhai", "let y = nope;");
    project.write("scripts/big.rhai", " ".repeat(70_000));
    std::os::unix::fs::symlink("/etc/passwd", project.at("scripts/out.rhai")).unwrap();
    let (stdout, stderr) = project.expect(1, &["check", "--json"]);
    let found: Vec<(String, String)> = problems(&stdout)
        .iter()
        .map(|problem| {
            let text = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
            (text("code"), text("severity"))
        })
        .collect();
    for wanted in [
        ("E0204", "error"),
        ("E0202", "error"),
        ("E0208", "error"),
        ("E0227", "warning"),
        ("E0228", "warning"),
    ] {
        let wanted = (wanted.0.to_owned(), wanted.1.to_owned());
        assert!(found.contains(&wanted), "{wanted:?} in {found:?}");
    }
    assert_eq!(stderr, "");
}

#[test]
fn each_page_about_a_folder_of_scripts_holds_one_that_brings_its_code() {
    let mut tried = 0;
    for number in 221..=234 {
        let code = format!("E0{number}");
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let Ok(page) = fs::read_to_string(root.join(format!("src/catalogue/{code}.md"))) else {
            continue;
        };
        // Every scheme of today has types, so this one stands beside the code that would say it.
        if code == "E0234" {
            continue;
        }
        let Some((_, example)) = page.split_once("```rhai\n") else { continue };
        let project = Project::with_more(ECHO, example.split("```").next().unwrap());
        let (stdout, _) = project.expect(1, &["check", "--json"]);
        let codes: Vec<String> = problems(&stdout)
            .iter()
            .filter(|problem| problem["severity"] == "error")
            .map(|problem| problem["code"].as_str().unwrap().to_owned())
            .collect();
        assert!(!codes.is_empty() && codes.iter().all(|found| *found == code), "{code}: {codes:?}");
        tried += 1;
    }
    assert_eq!(tried, 7);
}

#[test]
fn check_of_a_broken_config_shows_the_line_and_looks_no_further() {
    let project = Project::with_config("[server]\nlistne = \"x\"\n", "let x = ;");
    let (_, stderr) = project.expect(1, &["check"]);
    assert!(stderr.contains("config.toml:2:1") && !stderr.contains("main.rhai"), "{stderr}");
    let (stdout, _) = project.expect(1, &["check", "--json"]);
    assert_eq!(problems(&stdout)[0]["line"], 2);
}

#[test]
fn o20_a_folder_without_scripts_is_no_fault_and_says_what_to_do() {
    let project = Project::new("");
    project.remove("scripts");
    let (_, stderr) = project.expect(0, &["check"]);
    assert!(stderr.contains("scripts/NAME.rhai"), "{stderr}");
}

#[test]
fn a_config_elsewhere_is_found_and_its_paths_are_relative_to_its_folder() {
    let project = Project::new(GOOD);
    let elsewhere = Project::new("let x = ;");
    let config = project.at("config.toml");
    for arguments in [["--config", "PATH", "check"], ["check", "--config", "PATH"]] {
        let arguments = arguments
            .map(|argument| if argument == "PATH" { config.to_str().unwrap() } else { argument });
        let (_, stderr) = elsewhere.expect(0, &arguments);
        assert!(stderr.starts_with("1 script checked"), "{stderr}");
    }
    let mut command = elsewhere.command(&["run", "--config", config.to_str().unwrap()]);
    command.env_remove("RUST_LOG");
    let rhaiway = elsewhere.start_as(command);
    assert_eq!(rhaiway.get("/users/u1").status, 404);
    assert!(project.at("data/rhaiway.db").exists() && !elsewhere.at("data").exists());
}

#[test]
fn without_a_terminal_nothing_is_coloured() {
    let project = Project::new("let x = ;");
    let (_, stderr) = project.expect(1, &["check"]);
    assert!(!stderr.contains('\u{1b}'));
}

/// A project that listens where `send` will look: on a port that was free just now.
fn with_port() -> Project {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let free = socket.local_addr().expect("its address");
    drop(socket);
    let config = format!(
        "[server]\nlisten = \"{free}\"\nworkers = 1\n[webhooks.clerk]\npath = \"/api/webhooks/clerk\"\nscheme = \"svix\"\nsecret_env = \"CLERK_WEBHOOK_SECRET\"\n[auth.clerk]\nkind = \"clerk\"\nissuer = \"https://clerk.example.com\"\n"
    );
    let script = fs::read_to_string(
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/clerk.rhai"),
    );
    Project::with_config(&config, &script.expect("what ships"))
}

#[test]
fn the_samples_of_clerk_are_sent_and_the_shipped_script_creates_changes_and_removes_the_user() {
    let project = with_port();
    let rhaiway = project.start();
    let (stdout, stderr) = project.expect(0, &["send", "clerk", "user.created"]);
    assert!(stdout.starts_with("200 ") && stdout.contains("{\"received\":true}"), "{stdout}");
    assert_eq!(stderr, "");
    let (stdout, _) = project.expect(0, &["events", "--json", "--limit", "1"]);
    let event: serde_json::Value = serde_json::from_str(stdout.trim()).unwrap();
    let (stdout, _) = project.expect(0, &["events", "--json", event["id"].as_str().unwrap()]);
    let event: serde_json::Value = serde_json::from_str(stdout.trim()).unwrap();
    let body: serde_json::Value = serde_json::from_str(event["body"].as_str().unwrap()).unwrap();
    let user = format!("/api/users/{}", body["data"]["id"].as_str().unwrap());
    let created = eventually("the user is there", || {
        Some(rhaiway.get(&user)).filter(|answer| answer.status == 200)
    });
    project.expect(0, &["send", "clerk", "user.updated"]);
    eventually("it is changed", || (rhaiway.get(&user).body != created.body).then_some(()));
    project.expect(0, &["send", "clerk", "user.deleted"]);
    eventually("it is gone", || (rhaiway.get(&user).status == 404).then_some(()));
}

#[test]
fn send_counts_spoils_signatures_and_says_what_it_does_not_know() {
    let project = with_port();
    let (_, stderr) = project.expect(1, &["send", "clerk", "user.created"]);
    assert!(stderr.contains("nothing listens") && stderr.contains("rhaiway run"), "{stderr}");

    let rhaiway = project.start();
    let (stdout, _) =
        project.expect(0, &["send", "clerk", "user.created", "--count", "20", "--json"]);
    let posts = problems(&stdout);
    assert_eq!(posts.len(), 20);
    assert!(posts.iter().all(|post| post["status"] == 200));
    eventually("all are done", || {
        let (stdout, _) = project.expect(0, &["events", "--json", "--state", "done"]);
        (stdout.lines().count() == 20).then_some(())
    });
    let (stdout, _) = project.expect(0, &["send", "clerk", "user.created", "--bad-signature"]);
    assert!(stdout.starts_with("401 "), "{stdout}");
    rhaiway.wait_for_log("\"WARN\"");

    let (_, stderr) = project.expect(1, &["send", "clark", "user.created"]);
    assert!(stderr.contains("clark") && stderr.contains("`clerk`"), "{stderr}");
    let (_, stderr) = project.expect(1, &["send", "clerk", "user.craeted"]);
    assert!(stderr.contains("user.craeted") && stderr.contains("user.created"), "{stderr}");
    assert!(!stderr.contains(SECRET));
}

#[test]
fn docs_explains_a_code_lists_all_and_refuses_others() {
    let project = Project::new("");
    let (stdout, _) = project.expect(0, &["docs", "e0204"]);
    assert!(stdout.starts_with("# E0204: "), "{stdout}");
    let (stdout, _) = project.expect(0, &["docs"]);
    assert!(stdout.lines().count() > 50 && stdout.lines().is_sorted(), "{stdout}");
    let (_, stderr) = project.expect(1, &["docs", "E9999"]);
    assert!(stderr.contains("E9999") && stderr.contains("`rhaiway docs`"), "{stderr}");
}

#[test]
fn wrong_usage_ends_with_2_and_help_with_0() {
    let project = Project::new("");
    for arguments in [
        &[] as &[&str],
        &["bogus"],
        &["run", "--nope"],
        &["send", "clerk"],
        &["send", "clerk", "user.created", "--count", "0"],
        &["events", "--state", "lost"],
        &["events", "--limit", "0"],
        &["events", "no-id"],
        &["--config"],
    ] {
        let (stdout, stderr) = project.expect(2, arguments);
        assert!(stdout.is_empty() && !stderr.is_empty(), "{arguments:?}");
    }
    let (stdout, _) = project.expect(0, &["--version"]);
    assert_eq!(stdout, concat!("rhaiway ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn every_help_fits_80_columns() {
    let project = Project::new("");
    for command in ["", "run", "check", "send", "events", "replay", "docs"] {
        let arguments: Vec<&str> =
            [command, "--help"].into_iter().filter(|argument| !argument.is_empty()).collect();
        let (stdout, _) = project.expect(0, &arguments);
        for line in stdout.lines() {
            assert!(line.chars().count() <= 80, "{command}: {line}");
        }
    }
}

#[test]
fn the_help_says_what_there_is() {
    let (stdout, _) = Project::new("").expect(0, &["--help"]);
    insta::assert_snapshot!(stdout, @r"
    Webhooks and third-party calls as small Rhai scripts: verified, durable, fast

    Usage: rhaiway [OPTIONS] <COMMAND>

    Commands:
      run     Serve webhooks and routes, headless
      check   Compile every script and find what does not fit together
      send    Post a correctly signed sample event to a webhook of this config
      events  List stored events, show one, or follow them
      replay  Have stored events handled again
      docs    Explain an error code, such as E0201
      help    Print this message or the help of the given subcommand(s)

    Options:
          --config <PATH>  The configuration [default: config.toml]
      -h, --help           Print help
      -V, --version        Print version
    ");
}
