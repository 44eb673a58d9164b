//! Scripts that are hostile or unlucky, through the front door: each costs its own request, and the process goes on.

use std::process::Command;

use crate::support::{Connection, Project, Rhaiway, check_rows, eventually, logged};

fn config(server: &str, scripts: &str) -> String {
    format!("[server]\nlisten = \"127.0.0.1:0\"\n{server}\n[scripts]\n{scripts}\n")
}

fn asking(rhaiway: &Rhaiway, path: &str) -> Connection {
    let mut connection = Connection::open(rhaiway.address());
    connection.send(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).unwrap();
    connection
}

/// Whether its answer is still to come.
fn waits(connection: &Connection) -> bool {
    let stream = connection.stream();
    stream.set_nonblocking(true).unwrap();
    let nothing = stream.peek(&mut [0]).is_err();
    stream.set_nonblocking(false).unwrap();
    nothing
}

const ENDLESS: &str = r#"
get("/loop", #{ auth: "none" }, |req| { loop { } });
get("/caught", #{ auth: "none" }, |req| { loop { try { throw 1 } catch { } } });
get("/inside", #{ auth: "none" }, |req| { try { loop { } } catch { } 1 });
get("/sleep", #{ auth: "none" }, |req| { sleep("10s"); 1 });
get("/short", #{ auth: "none" }, |req| 40 + 2);
"#;

#[test]
fn s1_s24_h29_one_worker_answers_others_while_a_script_loops_or_sleeps() {
    let project = Project::with_config(&config("workers = 1", "cpu_budget = \"1500ms\""), ENDLESS);
    let rhaiway = project.start();
    let sleeping = asking(&rhaiway, "/sleep");
    let mut looping =
        [asking(&rhaiway, "/loop"), asking(&rhaiway, "/caught"), asking(&rhaiway, "/inside")];
    assert_eq!(rhaiway.get("/short").text(), "42");
    assert_eq!(rhaiway.get("/healthz").status, 200);
    assert!(looping.iter().all(waits), "they are at it");
    for connection in &mut looping {
        let answer = connection.read().unwrap();
        assert_eq!((answer.status, answer.code()), (503, "SCRIPT_LIMIT".to_owned()));
        assert_eq!(answer.json()["id"].as_str(), answer.header("x-request-id"));
        assert!(answer.header("retry-after").is_some());
        let said = logged(&rhaiway, &answer);
        assert!(said.contains("1500ms") || said.contains("1.5s"), "{said}");
    }
    assert_eq!(rhaiway.get("/short").text(), "42");
    assert!(waits(&sleeping));
}

#[test]
fn h29_health_is_answered_while_every_worker_runs_a_script_at_its_budget() {
    let project = Project::with_config(&config("workers = 2", "cpu_budget = \"1s\""), ENDLESS);
    let rhaiway = project.start();
    let looping: Vec<_> = (0..6).map(|_| asking(&rhaiway, "/loop")).collect();
    for _ in 0..4 {
        assert_eq!(rhaiway.get("/healthz").status, 200);
    }
    assert!(looping.iter().any(waits));
}

fn resident_kib(rhaiway: &Rhaiway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", rhaiway.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn s2_s4_s18_memory_comes_back_after_bombs() {
    let bombs = [
        "let m = []; loop { m = [take(m)]; }",
        "let m = 1; loop { m = Fn(\"g\").curry(take(m)); }",
        "let s = \"x\"; loop { s += s; }",
        "let a = [1]; loop { a += a; }",
        "let a = []; a.pad(2000000000, 1); a.len",
        "let b = blob(2000000000); b.len",
        "let m = #{}; let i = 0; loop { i += 1; m[`k${i}`] = `value ${i}`; }",
    ];
    let routes: String = bombs
        .iter()
        .enumerate()
        .map(|(n, bomb)| format!("get(\"/{n}\", #{{ auth: \"none\" }}, |req| {{ {bomb} }});\n"))
        .collect();
    let script = format!("{ENDLESS}\nfn g(x) {{ x }}\n{routes}");
    let project = Project::with_config(&config("workers = 1", "cpu_budget = \"2s\""), &script);
    let rhaiway = project.start();
    assert_eq!(rhaiway.get("/short").text(), "42");
    // The system's allocator keeps what was freed, for the next run; so what counts is that further bombs take no more.
    let round = || {
        for (n, bomb) in bombs.iter().enumerate() {
            let answer = rhaiway.get(&format!("/{n}"));
            let told = (answer.status, answer.code());
            assert_eq!(told, (503, "SCRIPT_LIMIT".to_owned()), "{bomb}");
            assert_eq!(rhaiway.get("/short").text(), "42");
        }
        resident_kib(&rhaiway)
    };
    let first = round();
    let last = [round(), round()][1];
    // A bomb that kept what it held would add 32 MiB for each of these 14 runs; the allocator's own waste is less than two budgets.
    assert!(last < first + (64 << 10), "{first} KiB after the first round, {last} after the third");
}

#[test]
fn s24_s25_s26_functions_that_would_stop_the_worker_or_end_as_success_are_errors() {
    check_rows(
        "",
        &[
            ("sleep(10)", 500, "250ms"),
            ("sleep(0.5)", 500, "250ms"),
            ("sleep(\"10\")", 500, "sleep"),
            ("sleep(\"2m\")", 500, "60s at most"),
            ("exit(3)", 500, "`exit` does not exist"),
            ("exit()", 500, "`exit` does not exist"),
            ("Fn(\"exit\").call()", 500, "`exit` does not exist"),
            ("Fn(\"eval\").call(\"1\")", 500, "eval"),
            ("timestamp()", 500, "now()"),
            ("rand()", 500, "now()"),
        ],
    );
}

#[test]
fn s40_s41_h19_results_that_cannot_be_answered_are_script_errors_that_name_the_fault() {
    check_rows(
        "",
        &[
            ("|x| x", 500, "function"),
            ("#{ a: #{ b: |x| x } }", 500, "`a.b`: a function cannot be JSON"),
            ("[1, 0.0 / 0.0]", 500, "`[1]`: NaN cannot be JSON"),
            ("0.0 / 0.0", 500, "NaN cannot be JSON"),
            ("1..5", 500, "range"),
            ("req", 500, "cannot be"),
            ("db.users", 500, "cannot be"),
            ("status(99)", 500, "from 200 to 599, not 99"),
            ("status(1000)", 500, "not 1000"),
            ("status(\"200\")", 500, "200"),
            ("status(101)", 500, "not 101"),
            ("status(-1)", 500, "not -1"),
            ("throw status(99)", 500, "not 99"),
            (
                "response(#{ headers: #{ \"x-a\": \"a\\r\\nb: c\" } })",
                500,
                "character that HTTP forbids",
            ),
            (
                "response(#{ headers: #{ \"x-a\": \"a\\x00\" } })",
                500,
                "character that HTTP forbids",
            ),
            ("response(#{ headers: #{ \"x a\": \"b\" } })", 500, "cannot be the name of a header"),
            ("response(#{ headers: #{ \"\": \"b\" } })", 500, "cannot be the name of a header"),
            ("response(#{ headers: #{ \"Content-Length\": \"5\" } })", 500, "server's own"),
            (
                "response(#{ headers: #{ \"transfer-encoding\": \"chunked\" } })",
                500,
                "server's own",
            ),
            ("response(#{ headers: #{ Connection: \"close\" } })", 500, "server's own"),
            ("response(#{ headers: #{ \"X-Request-Id\": \"x\" } })", 500, "server's own"),
            ("response(#{ headers: #{ \"x-a\": () } })", 500, "must be a string or a number"),
            ("response(#{ headers: #{ \"x-a\": #{} } })", 500, "must be a string or a number"),
            ("response(#{ headers: 5 })", 500, "`headers` of a response is a map"),
            ("response(#{ state: 5 })", 500, "unknown field `state`"),
            ("redirect(\"//evil.example\")", 500, "redirect"),
            ("redirect(\"/\\\\evil.example\")", 500, "redirect"),
            ("redirect(\"javascript:alert(1)\")", 500, "redirect"),
            ("redirect(\"/a\\r\\nset-cookie: x\")", 500, "redirect"),
            ("throw #{ code: \"NOT_FOUND\", message: \"nothing\" }", 500, "nothing"),
            ("throw \"a text\"", 500, "a text"),
            ("throw ()", 500, "main.rhai"),
        ],
    );
}

const PROVIDER: &str = "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[providers.api]\nkind = \"http\"\nbase_url = \"http://127.0.0.1:9\"\n";

#[test]
fn s13_a_value_without_an_end_is_no_part_of_a_provider_s_call() {
    let project = Project::with_config(
        PROVIDER,
        r#"
        fn endless() { let x = #{}; let f = || x; x.f = f; x }
        fn told(ask) { try { return ask.call(); } catch (err) { return if type_of(err) == "map" { `${err.code} ${err.message}` } else { err }; } }
        get("/{how}", #{ auth: "none" }, |req| {
            let x = endless();
            let deep = []; for n in 0..300 { deep = [deep]; }
            switch req.params.how {
                "json" => told(|| api.post("/", #{ json: x })),
                "form" => told(|| api.post("/", #{ form: x })),
                "query" => told(|| api.get("/", #{ query: x })),
                "multipart" => told(|| api.post("/", #{ multipart: x })),
                "deep" => told(|| api.post("/", #{ json: deep })),
            }
        });
        "#,
    );
    let rhaiway = project.start();
    for (how, begins) in [
        ("json", "INVALID_"),
        ("form", "INVALID_"),
        ("query", "INVALID_"),
        ("multipart", "`multipart`: `f` is "),
        ("deep", "INVALID_"),
    ] {
        let answer = rhaiway.get(&format!("/{how}"));
        let told = answer.text();
        assert!(told.starts_with(begins), "{how}: {told}");
        assert!(told.len() < 1_000, "{how}: {} bytes", told.len());
    }
}

#[test]
fn s39_a_top_level_that_calls_a_provider_is_refused_with_its_line_and_the_old_version_goes_on() {
    let good = "get(\"/\", #{ auth: \"none\" }, |req| \"good\");";
    let project = Project::with_config(PROVIDER, good);
    let rhaiway = project.start();
    for (number, line) in
        ["api.get(\"/\");", "let a = api.post(\"/\", #{ json: 1 });", "api.is_healthy();"]
            .iter()
            .enumerate()
    {
        project.write("scripts/main.rhai", format!("\n{line}\n{good}"));
        let told = eventually(line, || {
            let told: Vec<String> =
                rhaiway.log().into_iter().filter(|line| line.contains("still serves")).collect();
            (told.len() == number + 1).then(|| told[number].clone())
        });
        assert!(told.contains("main.rhai:2:"), "{told}");
        assert_eq!(rhaiway.get("/").text(), "good");
    }
}

/// Sources that must not load, each with a part of what is said.
fn refused() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let handler = |body: &str| format!("get(\"/x\", |req| {{ {body} }});").into_bytes();
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        ("s10", text("let m = []; for i in 0..300 { m = [m]; } const C = m;"), "deeper than 127"),
        ("s26", handler("eval(\"1\")"), "eval"),
        ("s27_absolute", text("import \"/etc/passwd\" as p;"), "/etc/passwd"),
        ("s27_parent", text("import \"../secret\" as p;"), "../secret"),
        ("s27_link", text("import \"lib/link\" as p;"), "lib/link"),
        ("s28_sleep", text("fn sleep(x) { x }"), "sleep"),
        ("s28_replace", text("fn replace(a, b, c) { a }"), "replace"),
        ("s28_to_json", text("fn to_json(x) { x }"), "to_json"),
        ("s33", text(&format!("// {}", "x".repeat(64 << 10))), "65"),
        ("s35", text(&"x".repeat(256 << 10)), "262"),
        ("s36_depth", handler(&"(".repeat(20_000)), "s36_depth.rhai"),
        (
            "s36_count",
            text(&(0..501).map(|n| format!("fn f{n}() {{ 1 }}\n")).collect::<String>()),
            "500",
        ),
        ("s38_nul", b"// a\0b".to_vec(), "4"),
        ("s38_utf8", b"// a\xff".to_vec(), "4"),
        ("s39_loop", text("let a = 1;\nloop { }"), "runs for too long"),
        ("s39_sleep", text("let a = 1;\nsleep(\"1s\");"), "cannot run while"),
        ("s39_now", text("const T = now();"), "cannot run while"),
        ("s39_uuid", text("const T = uuid();"), "cannot run while"),
        ("s39_db", text("db.users.put(1, #{});"), "cannot run while"),
        ("option", text("get(\"/o\", #{ timeot: \"1s\" }, |req| 1);"), "timeot"),
        ("option_kind", text("get(\"/o\", #{ timeout: 5 }, |req| 1);"), "duration"),
        ("strict", handler("mispelt + 1"), "mispelt"),
        ("shared", text("let count = 0; get(\"/s\", |req| { count += 1; count });"), "count"),
        ("twice", text("get(\"/t\", |req| 1); get(\"/t\", |req| 2);"), "twice"),
        ("parameters", text("get(\"/p\", || 1);"), "parameters"),
    ]
}

#[test]
fn s10_s26_to_s28_s33_to_s39_what_must_not_load_is_refused_with_its_reason() {
    let project = Project::new(ENDLESS);
    for (name, source, _) in refused() {
        project.write(&format!("scripts/{name}.rhai"), source);
    }
    project.write("outside.rhai", "fn f() { 1 }");
    std::fs::create_dir_all(project.at("scripts/lib")).unwrap();
    std::os::unix::fs::symlink(project.at("outside.rhai"), project.at("scripts/lib/link.rhai"))
        .unwrap();
    let checked = project.run(&["check", "--json"]);
    assert_eq!(checked.status.code(), Some(1));
    let said = String::from_utf8(checked.stdout).unwrap();
    for (name, _, part) in refused() {
        let file = format!("scripts/{name}.rhai");
        let found = said.lines().any(|line| line.contains(&file) && line.contains(part));
        assert!(found, "{name}: {part:?} is not in:\n{}", of_file(&said, &file));
    }
    let rhaiway = project.start();
    assert_eq!(rhaiway.get("/short").text(), "42", "the good script serves beside the broken ones");
    assert_eq!(rhaiway.get("/o").status, 404);
}

fn of_file(said: &str, file: &str) -> String {
    said.lines().filter(|line| line.contains(file)).collect::<Vec<_>>().join("\n")
}

#[test]
fn s27_computed_imports_resolve_inside_the_loaded_set_only() {
    let rows = [
        ("let n = \"lib/\" + \"money\"; import n as m; m::twice(21)", 200, "42"),
        ("let n = \"/etc/passwd\"; import n as m; 1", 500, "/etc/passwd"),
        ("let n = \"../outside\"; import n as m; 1", 500, "../outside"),
        ("let n = \"lib/../../outside\"; import n as m; 1", 500, "outside"),
        ("import \"lib/money\" as m; m::rate()", 200, "3"),
        ("import \"lib/money\" as m; m::RATE", 200, "3"),
        ("import \"lib/money\" as m; Fn(\"m::secret\").call()", 500, "secret"),
    ];
    let project = Project::new(&crate::support::routes("", &rows));
    project.write(
        "scripts/lib/money.rhai",
        "export const RATE = 3; fn twice(x) { x * 2 } fn rate() { secret() } private fn secret() { 3 }",
    );
    project.write("outside.rhai", "fn f() { 1 }");
    crate::support::check_rows_of(&project.start(), &rows);
}

#[test]
fn s38_a_byte_order_mark_and_windows_lines_are_fine() {
    let project = Project::new(
        "\u{feff}get(\"/a\", #{ auth: \"none\" }, |req| {\r\n    let x = 1;\r\n    x.missing_function()\r\n});\r\n",
    );
    let rhaiway = project.start();
    let answer = rhaiway.get("/a");
    assert_eq!(answer.status, 500);
    assert!(logged(&rhaiway, &answer).contains("main.rhai:3:"), "{}", logged(&rhaiway, &answer));
}

#[test]
fn s44_under_a_limit_of_address_space_runs_without_a_stack_are_refused_and_nothing_ends() {
    let project = Project::with_config(&config("workers = 1", "memory_budget = \"1MiB\""), ENDLESS);
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -v 3000000; exec \"$0\" run", env!("CARGO_BIN_EXE_rhaiway")])
        .current_dir(project.path());
    let rhaiway = project.start_as(command);
    rhaiway.wait_for_log("runs of scripts fit at once");
    // Stacks of 64 MiB in debug, 16 MiB in release builds.
    let mut asked: Vec<_> = (0..200).map(|_| asking(&rhaiway, "/sleep")).collect();
    let refused = eventually("some are refused", || asked.iter().position(|one| !waits(one)));
    let answer = asked[refused].read().unwrap();
    assert_eq!((answer.status, answer.code()), (503, "SERVICE_UNAVAILABLE".to_owned()));
    assert!(answer.header("retry-after").is_some());
    assert!(asked.iter().any(waits), "and some run");
    drop(asked);
    eventually("runs fit again", || (rhaiway.get("/short").status == 200).then_some(()));
}
