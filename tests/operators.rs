//! What operators meet: bad configuration, taken ports, signals, poor environments, logs that nobody reads, and what the log may never hold.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Child, Command, Stdio};

use crate::support::{
    Connection, Project, Rhaiway, SECRET, admin, clerk_event, eventually, request, signed,
};

const ROUTE: &str = "get(\"/\", #{ auth: \"none\" }, |req| \"here\");\n";

/// `rhaiway run` that does not start: exit code 1, and stderr.
fn refused(project: &Project) -> String {
    project.expect(1, &["run"]).1
}

#[test]
fn o1_a_config_that_cannot_be_meant_is_told_with_its_place_and_the_line() {
    let check = |config: &[u8], place: &str, parts: &[&str]| {
        let project = Project::new("");
        project.write("config.toml", config);
        let stderr = refused(&project);
        assert!(stderr.contains(&format!("config.toml{place}")), "{place}:\n{stderr}");
        for part in parts {
            assert!(stderr.contains(part), "{part}:\n{stderr}");
        }
        assert!(!project.at("data").exists());
    };
    check(b"[server]\nlistne = \"127.0.0.1:0\"\n", ":2:1", &["listne", "did you mean `listen`?"]);
    check(b"[server]\nworkers = \"two\"\n", ":2:11", &["workers"]);
    check(b"[scripts]\ntimeout = \"5 minutes\"\n", ":2:", &["5 minutes", "5m"]);
    check(b"[scripts]\ntimeout = \"-1s\"\n", ":2:", &["-1s"]);
    check(b"[scripts]\ntimeout = \"0\"\n", ":2:", &["0"]);
    check(b"[scripts]\ntimeout = 30\n", ":2:11", &["30s"]);
    check(b"[storage]\nretention = \"1e9d\"\n", ":2:", &["1e9d"]);
    check(b"[server]\n[server]\n", ":2:", &["server"]);
    check(b"[server]\n\tlistne = 1\n", ":2:2", &["listne"]);
    check(b"\xef\xbb\xbf[server]\nlistne = 1\n", ":2:1", &["listne"]);
    check(b"[server]\r\nlistne = 1\r\n", ":2:1", &["listne"]);
    check(b"[server]\nlisten = \"\xff\"\n", "", &["UTF-8"]);
    check(&vec![b'#'; 10 << 20], "", &["MiB"]);
}

#[test]
fn o2_a_config_that_is_missing_a_folder_or_a_dangling_link_is_named_with_the_cause() {
    let check = |prepare: &dyn Fn(&Project), parts: &[&str]| {
        let project = Project::new("");
        project.remove("config.toml");
        prepare(&project);
        let stderr = refused(&project);
        for part in ["config.toml"].iter().chain(parts) {
            assert!(stderr.contains(part), "{part}:\n{stderr}");
        }
    };
    check(&|_| {}, &[]);
    check(&|project| fs::create_dir(project.at("config.toml")).unwrap(), &["folder"]);
    check(&|project| symlink("nowhere", project.at("config.toml")).unwrap(), &[]);
}

#[test]
fn o3_a_port_in_use_and_an_address_that_is_not_ours_are_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let check = |listen: &str, parts: &[&str]| {
        let project = Project::with_config(&format!("[server]\nlisten = \"{listen}\"\n"), "");
        let stderr = refused(&project);
        for part in parts {
            assert!(stderr.contains(part), "{part}:\n{stderr}");
        }
    };
    let address = taken.local_addr().unwrap().to_string();
    check(&address, &[&address, "in use"]);
    check("192.0.2.1:8080", &["192.0.2.1", "not an address of this machine"]);
}

#[test]
fn o4_the_data_folder_is_made_for_its_owner_alone_and_one_that_cannot_be_is_named() {
    let project = Project::new(ROUTE);
    let rhaiway = project.start();
    let mode = |name: &str| fs::metadata(project.at(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("data"), mode("data/rhaiway.sock")), (0o700, 0o600));
    rhaiway.stop();
    assert!(!project.at("data/rhaiway.sock").exists());

    let project = Project::new(ROUTE);
    project.write("data", "a file where the folder should be");
    let stderr = refused(&project);
    assert!(stderr.contains("data"), "{stderr}");
}

#[test]
fn o9_links_pipes_and_odd_names_are_skipped_with_a_word_and_block_nothing() {
    let project = Project::new(ROUTE);
    symlink("/etc/passwd", project.at("scripts/out.rhai")).unwrap();
    symlink("loop.rhai", project.at("scripts/loop.rhai")).unwrap();
    assert!(
        Command::new("mkfifo").arg(project.at("scripts/pipe.rhai")).status().unwrap().success()
    );
    project.write("scripts/two\nlines.rhai", "x");
    let odd: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"scripts/\xff.rhai");
    fs::write(project.path().join(odd), "x").unwrap();
    let rhaiway = project.start();
    assert_eq!(rhaiway.get("/").text(), "here");
    let skipped: Vec<String> =
        rhaiway.log().into_iter().filter(|line| line.contains("not loaded: ")).collect();
    assert_eq!(skipped.len(), 5, "{skipped:#?}");
    for part in ["out.rhai", "loop.rhai", "pipe.rhai", "two\\\\nlines.rhai", "not UTF-8"] {
        assert!(skipped.iter().any(|line| line.contains(part)), "{part}: {skipped:#?}");
    }
}

/// A project whose route takes longer than any test's patience.
fn busy() -> (Project, Rhaiway, Connection) {
    let project = Project::new(
        "get(\"/slow\", #{ auth: \"none\" }, |req| { log.info(\"begun\"); sleep(\"50s\"); \"late\" });\nget(\"/\", #{ auth: \"none\" }, |req| \"here\");",
    );
    let rhaiway = project.start();
    let mut connection = Connection::open(rhaiway.address());
    connection.send(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").expect("it is sent");
    rhaiway.wait_for_log("begun");
    (project, rhaiway, connection)
}

#[test]
fn o11_the_first_signal_drains_and_the_second_ends_at_once() {
    for signal in ["TERM", "INT"] {
        let (_project, rhaiway, _running) = busy();
        rhaiway.signal(signal);
        rhaiway.wait_for_log("stopping");
        rhaiway.signal(signal);
        rhaiway.wait_for_log("ended at once by a second signal");
        assert_eq!(rhaiway.wait(), Some(1));
    }
}

#[test]
fn o11_signals_that_mean_nothing_here_change_nothing() {
    let project = Project::new(ROUTE);
    let rhaiway = project.start();
    for signal in ["PIPE", "USR1", "USR2", "HUP"] {
        rhaiway.signal(signal);
        assert_eq!(rhaiway.get("/").text(), "here", "after SIG{signal}");
    }
    rhaiway.stop();
}

#[test]
fn o12_an_empty_environment_is_enough() {
    let project = Project::new(ROUTE);
    let mut command = project.command(&["run"]);
    command.env_clear();
    let rhaiway = project.start_as(command);
    assert_eq!(rhaiway.get("/").text(), "here");
    assert_eq!(rhaiway.get("/readyz").status, 200);
    assert!(rhaiway.count_log("CLERK_WEBHOOK_SECRET") > 0, "the missing secret is named");
    rhaiway.stop();
}

/// Whether this user may make a namespace of processes.
fn may_unshare() -> bool {
    let tried = Command::new("unshare").args(["-pf", "--mount-proc", "true"]).output();
    tried.is_ok_and(|tried| tried.status.success())
}

#[test]
fn o12_as_process_1_it_stops_on_sigterm() {
    if !may_unshare() {
        return;
    }
    let project = Project::new(ROUTE);
    let mut command = Command::new("unshare");
    command.args(["-pf", "--mount-proc", env!("CARGO_BIN_EXE_rhaiway"), "run"]);
    command.current_dir(project.path()).stdin(Stdio::null()).env("CLERK_WEBHOOK_SECRET", SECRET);
    let rhaiway = project.start_as(command);
    assert_eq!(rhaiway.get("/").text(), "here");
    assert_eq!(rhaiway.status(&project)["pid"], 1);
    // Its number outside: the only child of `unshare`.
    let children = format!("/proc/{0}/task/{0}/children", rhaiway.pid());
    let inside = fs::read_to_string(children).unwrap();
    let killed = Command::new("kill").args(["-s", "TERM", inside.trim()]).status().unwrap();
    assert!(killed.success());
    rhaiway.wait_for_log("\"stopped\"");
    assert_eq!(rhaiway.wait(), Some(0));
}

#[test]
fn o13_it_runs_where_nothing_but_the_data_folder_can_be_written() {
    if !may_unshare() {
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let config = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[storage]\nurl = \"sqlite:{0}/rhaiway.db\"\n[admin]\nsocket = \"{0}/rhaiway.sock\"\n",
        data.path().display()
    );
    let project = Project::with_config(&config, ROUTE);
    // root writes anywhere, so the folder is mounted again, read-only, in a namespace of its own.
    let script = format!(
        "mount --bind \"$PWD\" \"$PWD\" && mount -o remount,bind,ro \"$PWD\" && cd \"$PWD\" && ! touch x 2>/dev/null && exec {} run",
        env!("CARGO_BIN_EXE_rhaiway")
    );
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script]).current_dir(project.path()).stdin(Stdio::null());
    let rhaiway = project.start_as(command);
    assert_eq!(rhaiway.get("/").text(), "here");
    rhaiway.stop();
    assert!(data.path().join("rhaiway.db").exists() && !project.at("data").exists());
}

/// A child that is killed when its test ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// A free port, for an instance whose log cannot say which one it took.
fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("its address").port()
}

#[test]
fn o14_it_goes_on_serving_when_its_log_is_a_closed_pipe_a_full_disk_or_never_read() {
    let check = |what: &str, stderr: &dyn Fn() -> Stdio, close: bool| {
        let port = free_port();
        // Every request logs a line, more than a pipe and the queue take together.
        let project = Project::with_config(
            &format!("[server]\nlisten = \"127.0.0.1:{port}\"\nworkers = 1\n"),
            "get(\"/\", #{ auth: \"none\" }, |req| { for n in 0..100 { log.info(\"line\", #{ text: \"0123456789012345678901234567890123456789\" }); } \"here\" });",
        );
        let mut child = Killed(
            project
                .command(&["run"])
                .stdout(Stdio::null())
                .stderr(stderr())
                .spawn()
                .expect("it starts"),
        );
        if close {
            drop(child.0.stderr.take());
        }
        let address = format!("127.0.0.1:{port}").parse().unwrap();
        eventually(what, || std::net::TcpStream::connect(address).ok());
        for _ in 0..150 {
            assert_eq!(request(address, "GET", "/", &[], b"").status, 200, "{what}");
        }
        let killed = Command::new("kill").args(["-s", "TERM", &child.0.id().to_string()]).status();
        assert!(killed.unwrap().success());
        let ended = eventually("it ends", || child.0.try_wait().unwrap());
        assert_eq!(ended.code(), Some(0), "{what}");
        child
    };
    check("a closed pipe", &Stdio::piped, true);
    check(
        "a full disk",
        &|| fs::File::options().write(true).open("/dev/full").unwrap().into(),
        false,
    );
    check("nobody reads", &Stdio::piped, false);
}

#[test]
fn o15_without_a_number_in_config_there_is_a_worker_for_each_core() {
    let config = |workers: &str| format!("[server]\nlisten = \"127.0.0.1:0\"\n{workers}\n");
    let threads = |rhaiway: &Rhaiway| {
        let tasks = fs::read_dir(format!("/proc/{}/task", rhaiway.pid())).unwrap();
        let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
        let names = tasks.filter_map(|task| name(task.ok()?));
        names.filter(|name| name.starts_with("rhaiway-worker")).count()
    };
    let project = Project::with_config(&config(""), ROUTE);
    let mut command = Command::new("taskset");
    command.args(["-c", "0", env!("CARGO_BIN_EXE_rhaiway"), "run"]);
    command.current_dir(project.path()).stdin(Stdio::null());
    assert_eq!(threads(&project.start_as(command)), 1);
    let project = Project::with_config(&config("workers = 3"), ROUTE);
    assert_eq!(threads(&project.start()), 3);
}

#[test]
fn o16_too_few_open_files_are_said_and_survived() {
    let project = Project::new(ROUTE);
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n 64; exec {} run", env!("CARGO_BIN_EXE_rhaiway"))]);
    command.current_dir(project.path()).stdin(Stdio::null()).env("CLERK_WEBHOOK_SECRET", SECRET);
    let rhaiway = project.start_as(command);
    let line = rhaiway.wait_for_log("ulimit -n");
    assert!(line.contains("only 64 files") && line.contains("too low"), "{line}");
    let held: Vec<Connection> = (0..100).map(|_| Connection::open(rhaiway.address())).collect();
    drop(held);
    eventually("it answers again", || {
        let mut connection = Connection::open(rhaiway.address());
        connection.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").ok()?;
        connection.read().ok().filter(|answer| answer.status == 200)
    });
    rhaiway.stop();
}

#[test]
fn o16_an_address_space_that_is_limited_is_said_in_runs() {
    let project = Project::new(ROUTE);
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("ulimit -v 16000000; exec {} run", env!("CARGO_BIN_EXE_rhaiway"))]);
    command.current_dir(project.path()).stdin(Stdio::null()).env("CLERK_WEBHOOK_SECRET", SECRET);
    let rhaiway = project.start_as(command);
    let line = rhaiway.wait_for_log("ulimit -v");
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert!(line["runs"].as_u64().is_some_and(|runs| (1..1000).contains(&runs)), "{line}");
    assert_eq!(rhaiway.get("/").text(), "here");
}

#[test]
fn x9_at_no_level_does_the_log_hold_a_secret_or_a_body() {
    let canary = "canary-4f1d9c";
    let project = Project::new(
        "webhook(\"clerk\", \"*\", |event| { db.users.put(event.data.id, #{ n: 1 }); throw \"after\" });\nget(\"/\", #{ auth: \"none\" }, |req| req.headers[\"authorization\"]);",
    );
    project.write(".dev.vars", format!("OTHER_SECRET={canary}-dev\n"));
    let mut command = project.command(&["run"]);
    command.env("RUST_LOG", "trace").env("ANOTHER_SECRET", format!("{canary}-process"));
    let rhaiway = project.start_as(command);
    let authorization = format!("Bearer {canary}-header");
    let answer = request(
        rhaiway.address(),
        "GET",
        &format!("/?token={canary}-query"),
        &[("authorization", &authorization)],
        b"",
    );
    assert_eq!(answer.text(), authorization, "the script sees it");
    let body = clerk_event("user.created", &format!("{canary}-body"), 1);
    let mut delivery = signed("msg_1", body);
    assert_eq!(rhaiway.deliver(&delivery).status, 200);
    delivery.signature = format!("v1,{canary}-signature");
    assert_eq!(rhaiway.deliver(&delivery).status, 401);
    assert_eq!(admin(&project, "/v1/status").status, 200);
    project.write("scripts/main.rhai", "let x = ;");
    rhaiway.wait_for_log("still serves");
    rhaiway.signal("TERM");
    rhaiway.wait_for_log("\"stopped\"");
    let log = rhaiway.log();
    let secret = SECRET.trim_start_matches("whsec_");
    for line in &log {
        assert!(!line.contains(canary) && !line.contains(secret), "{line}");
        serde_json::from_str::<serde_json::Value>(line).expect("each line is JSON");
    }
    assert!(log.len() > 5);
}

#[test]
fn w8_a_secret_that_cannot_be_one_is_said_at_the_start_without_its_value() {
    let project = Project::new(ROUTE);
    let mut command = project.command(&["run"]);
    command.env("CLERK_WEBHOOK_SECRET", "whsec_canary!!!");
    let rhaiway = project.start_as(command);
    let line = rhaiway.wait_for_log("E0110");
    assert!(line.contains("webhook `clerk`"), "{line}");
    assert_eq!(rhaiway.count_log("canary"), 0);
    let answer = rhaiway.deliver(&signed("msg_1", clerk_event("user.created", "u1", 1)));
    assert_eq!((answer.status, answer.code().as_str()), (500, "CONFIGURATION_ERROR"));
}

#[test]
fn a_level_that_is_not_understood_is_said_and_the_log_goes_on_as_usual() {
    let project = Project::new(ROUTE);
    let mut command = project.command(&["run"]);
    command.env("RUST_LOG", "rhaiway=lots");
    let rhaiway = project.start_as(command);
    rhaiway.wait_for_log("RUST_LOG is not understood");
}

/// Runs a command in a terminal of 80 columns until it has shown `until`; what it showed.
fn in_terminal(project: &Project, environment: &[(&str, &str)], until: &str) -> String {
    let run = format!("stty cols 80 rows 24; exec {} run", env!("CARGO_BIN_EXE_rhaiway"));
    let mut command = Command::new("script");
    command.args(["-qec", &run, "/dev/null"]).current_dir(project.path());
    command.env_clear().env("TERM", "xterm-256color").env("PATH", "/usr/bin:/bin");
    for (name, value) in environment {
        command.env(name, value);
    }
    let mut child = Killed(
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("script, of util-linux, runs"),
    );
    let mut output = child.0.stdout.take().expect("it is piped");
    let (mut shown, mut bytes) = (String::new(), [0; 4096]);
    while !shown.contains(until) {
        let read = output.read(&mut bytes).expect("it can be read");
        assert!(read > 0, "it ended:\n{shown}");
        shown.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    // Ctrl-C: were `script` killed, its child would take the hang-up for a wish to reload and live on.
    let mut keys = child.0.stdin.take().expect("it is piped");
    std::io::Write::write_all(&mut keys, b"\x03").expect("it is typed");
    eventually("it ends", || child.0.try_wait().expect("its state is known"));
    shown
}

#[test]
fn on_a_terminal_the_log_is_text_and_the_first_screen_fits_80_columns() {
    let project = Project::new(ROUTE);
    let shown = in_terminal(&project, &[("CLERK_WEBHOOK_SECRET", SECRET)], "rhaiway events");
    assert!(shown.contains("/api/webhooks/clerk  webhook clerk"), "{shown}");
    assert!(shown.contains("send clerk user.created"), "{shown}");
    assert!(!shown.contains("{\"") && !shown.contains(SECRET));

    let project = Project::new(ROUTE);
    let shown = in_terminal(&project, &[("NO_COLOR", "1")], "send clerk user.created");
    assert!(shown.contains("Not set: CLERK_WEBHOOK_SECRET"), "{shown}");
    assert!(shown.contains(">> .dev.vars"), "{shown}");
    assert!(!shown.contains('\u{1b}'), "NO_COLOR: {shown:?}");
    for line in shown.lines().filter(|line| !line.contains(" send ")) {
        assert!(line.trim_end().chars().count() <= 80, "{line}");
    }
}

#[test]
fn on_a_terminal_a_broken_script_is_shown_with_its_line() {
    let project = Project::new("let x = ;\n");
    let shown = in_terminal(&project, &[("CLERK_WEBHOOK_SECRET", SECRET)], "rhaiway events");
    assert!(shown.contains("let x = ;") && shown.contains("scripts/main.rhai:1:9"), "{shown}");
    assert!(shown.contains("\u{1b}["), "a terminal has colours");
    assert!(shown.contains("Serve nothing until they load: main"), "{shown}");
}

#[test]
fn x4_the_admin_socket_refuses_what_cannot_be_meant_and_stays_up() {
    let project = Project::new(ROUTE);
    let _rhaiway = project.start();
    let check = |path: &str, status: u16| {
        assert_eq!(admin(&project, path).status, status, "{}", &path[..path.len().min(60)])
    };
    check("/v1/events", 200);
    check("/v1/events?limit=1000000000", 200);
    check("/v1/events?limit=-1", 400);
    check("/v1/events?limit=abc", 400);
    check("/v1/events?after=x", 400);
    check("/v1/events?state=lost", 400);
    check("/v1/events?nope=1", 400);
    check("/v1/events/../../etc/passwd", 404);
    check("/v1/events/'%20OR%201=1--", 404);
    check("/v1/events/evt_01m86rw3cqf3xtbrevswdrrcjb", 404);
    check("/", 404);
    let long = admin(&project, &format!("/v1/events?webhook={}", "x".repeat(1 << 20))).status;
    assert!([414, 431].contains(&long), "{long}");
    check("/v1/status", 200);
}
