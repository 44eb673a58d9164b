//! Configuration through the door that everyone uses: a text and an environment in, a configuration or frames out.

use std::fs;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::catalogue;

const SHIPPED: &str = include_str!("../../config.toml");
const SCHEMES: &[&str] = &["svix", "standard-webhooks", "github", "stripe"];
const HOW: How<'_> = How { development: false, known_schemes: SCHEMES };
const CANARY: &str = "canary-3f9a71c4";

fn load_with(text: &str, variables: &[(Source, &str, &str)]) -> Result<Config, Vec<Frame>> {
    load_text(Path::new("config.toml"), text, &Variables::of(variables), HOW)
}

/// Every frame of a text, as people see them.
fn problems(text: &str, variables: &[(Source, &str, &str)]) -> String {
    match load_with(text, variables) {
        Ok(config) => panic!("this loads: {config:?}"),
        Err(frames) => show(&frames),
    }
}

fn show(frames: &[Frame]) -> String {
    frames.iter().map(|frame| frame.render(false)).collect::<Vec<_>>().join("\n")
}

fn webhook(lines: &str) -> String {
    format!("[webhooks.a]\npath = \"/a\"\nscheme = \"svix\"\nsecret_env = \"A_SECRET\"\n{lines}\n")
}

#[test]
fn a_worker_has_16_000_runs_at_once_or_fewer() {
    let runs = |text: &str| load_with(text, &[]).map(|config| config.scripts.max_runs);
    assert_eq!(runs("").ok(), Some(16_000));
    assert_eq!(runs("[scripts]\nmax_runs = 1").ok(), Some(1));
    for wrong in ["0", "16_001", "-1", "\"5\""] {
        let frames = runs(&format!("[scripts]\nmax_runs = {wrong}")).unwrap_err();
        let said = show(&frames);
        assert!(
            said.contains("`max_runs` in [scripts] must be a whole number from 1 to 16000"),
            "{said}"
        );
    }
}

#[test]
fn the_shipped_file_loads_without_any_environment() {
    let config = load_with(SHIPPED, &[]).map_err(|frames| show(&frames)).unwrap();
    let clerk = &config.webhooks[0];
    assert_eq!(
        (&*clerk.name, &*clerk.path, &*clerk.scheme),
        ("clerk", "/api/webhooks/clerk", "svix")
    );
    assert_eq!(clerk.place.to_string(), "config.toml:47:11");
    assert_eq!(*clerk.secrets.missing, ["CLERK_WEBHOOK_SECRET".into()]);
    insta::assert_snapshot!(show(&config.notes[..1]), @r#"
        warning[E0110]: webhook `clerk` has no secret: `CLERK_WEBHOOK_SECRET` is not set
          --> config.toml:50:14
           |
        50 | secret_env = "CLERK_WEBHOOK_SECRET"     # the variable with the secret; ["NEW", "OLD"] while...
           |              ^^^^^^^^^^^^^^^^^^^^^^
           |
           = help: set it in the environment, or in `.dev.vars` beside the configuration
           = note: until then its deliveries are answered with 500 CONFIGURATION_ERROR
           = docs: rhaiway docs E0110
        "#);
    // Nothing but what each of the others wants to be set.
    let others: Vec<&str> = config.notes[1..].iter().map(|frame| &*frame.title).collect();
    assert_eq!(
        others,
        [
            "webhook `stripe` has no secret: `STRIPE_WEBHOOK_SECRET` is not set",
            "provider `clerk` has no key: `CLERK_SECRET_KEY` is not set",
            "provider `stripe` has no key: `STRIPE_SECRET_KEY` is not set",
            "provider `openai` has no key: `OPENAI_API_KEY` is not set",
        ]
    );
}

#[test]
fn the_shipped_file_says_the_defaults() {
    let shipped = load_with(SHIPPED, &[]).unwrap();
    let empty = load_with("", &[]).unwrap();
    assert_eq!(format!("{:?}", shipped.server), format!("{:?}", empty.server));
    assert_eq!(format!("{:?}", shipped.cors), format!("{:?}", empty.cors));
    assert_eq!(format!("{:?}", shipped.storage), format!("{:?}", empty.storage));
    assert_eq!(format!("{:?}", shipped.scripts), format!("{:?}", empty.scripts));
    assert_eq!(format!("{:?}", shipped.admin), format!("{:?}", empty.admin));
    assert_eq!(shipped.vars["app_url"], "http://localhost:5173");
    let plain = &load_with(&webhook(""), &[]).unwrap().webhooks[0];
    let clerk = &shipped.webhooks[0];
    assert_eq!(
        (
            clerk.tolerance,
            clerk.max_body,
            clerk.timeout,
            clerk.concurrency,
            clerk.retry,
            clerk.dedupe,
            clerk.respond
        ),
        (
            plain.tolerance,
            plain.max_body,
            plain.timeout,
            plain.concurrency,
            plain.retry,
            plain.dedupe,
            plain.respond
        ),
    );
}

#[test]
fn values_are_read_as_meant() {
    let text = r#"
        [server]
        listen = "[::1]:0"
        workers = 3
        public_url = "https://hooks.example.com/"
        trusted_proxies = ["10.0.0.0/8", "::1", "0.0.0.0/0"]
        shutdown_grace = "0s"
        [cors]
        origins = ["http://localhost:5173", "https://[::1]:8443", "*"]
        headers = ["X-Custom"]
        [storage]
        url = "sqlite:///var/lib/rhaiway.db"
        [scripts]
        dir = "../scripts"
        [webhooks.b]
        path = "/b/{tenant}/x"
        scheme = "github"
        secret_env = ["B_NEW", "B_OLD"]
        timeout = "5m"
        ordered_by = "/data/id"
        concurrency = 8
        max_body = "30MiB"
        retry = { base = "2h", cap = "1d" }
        dedupe = "off"
        [webhooks.a]
        path = "/a"
        scheme = "svix"
        secret_env = "A_SECRET"
        respond = "script"
        store = false
        [vars]
        text = "t"
        list = [1, 2.5, true, 2026-01-01, { a = "b" }]
    "#;
    let variables = [
        (Source::DotEnv, "B_OLD", "old"),
        (Source::Process, "B_NEW", "new"),
        (Source::DevVars, "A_SECRET", "a"),
    ];
    let config =
        load_text(Path::new("deploy/config.toml"), text, &Variables::of(&variables), HOW).unwrap();
    assert_eq!(config.server.listen.to_string(), "[::1]:0");
    assert_eq!(config.server.public_url.as_deref(), Some("https://hooks.example.com"));
    assert_eq!(
        config.server.trusted_proxies[1],
        Cidr { address: "::1".parse().unwrap(), prefix: 128 }
    );
    assert_eq!(*config.cors.headers, ["x-custom".into()]);
    assert_eq!(config.storage.path, Path::new("/var/lib/rhaiway.db"));
    assert_eq!(config.scripts.dir, Path::new("deploy/../scripts"));
    assert_eq!(config.admin.socket, Path::new("deploy/data/rhaiway.sock"));
    assert_eq!(config.vars["list"], serde_json::json!([1, 2.5, true, "2026-01-01", { "a": "b" }]));
    let [b, a] = &*config.webhooks else { panic!("the order of the file") };
    assert_eq!(b.secrets.set.iter().map(Secret::expose).collect::<Vec<_>>(), ["new", "old"]);
    assert_eq!((b.retry.max, b.retry.cap), (20, Duration::from_secs(86_400)));
    assert_eq!(
        (b.timeout, b.concurrency, b.max_body, b.dedupe),
        (Some(Duration::from_secs(300)), Some(8), 30 << 20, false)
    );
    assert_eq!(b.ordered_by, Some("/data/id".parse().unwrap()));
    let by_script = |stored| Respond::ByScript { stored };
    assert_eq!((b.respond, a.respond), (Respond::WhenStored, by_script(false)));
    for lines in ["respond = \"script\"", "respond = \"script\"\nstore = true\ndedupe = \"off\""] {
        assert_eq!(load_with(&webhook(lines), &[]).unwrap().webhooks[0].respond, by_script(true));
    }
    assert_eq!(a.place.to_string(), "deploy/config.toml:25:19");
    let listed: Vec<_> = config
        .variables
        .iter()
        .map(|asked| (&*asked.name, &*asked.purpose, asked.required, asked.source))
        .collect();
    assert_eq!(
        listed,
        [
            ("B_NEW", "secret of webhook `b`", true, Some(Source::Process)),
            ("B_OLD", "secret of webhook `b`", false, Some(Source::DotEnv)),
            ("A_SECRET", "secret of webhook `a`", true, Some(Source::DevVars)),
        ]
    );
}

#[test]
fn o1_every_problem_is_reported_with_its_place_and_a_suggestion() {
    let text = "[server]\nlisen = \"127.0.0.1:80\"\ntimeout = \"5s\"\nworkers = 300\nmax_body = 1048576\n\n[srever]\n\n[scripts]\ntimeout = \"5 minutes\"\ncpu_budget = \"-1s\"\nmemory_budget = \"0B\"\n\n[storage]\nretention = \"1e9d\"\nmax_pending = 0\n\n[webhooks.clerk]\npath = \"clerk\"\nscheme = \"svx\"\nretries = 5\nretry = { max = -1, bas = \"5s\" }\n";
    insta::assert_snapshot!(problems(text, &[]), @r#"
        error[E0101]: [server] has no key `lisen`
         --> config.toml:2:1
          |
        2 | lisen = "127.0.0.1:80"
          | ^^^^^ did you mean `listen`?
          |
          = help: [server] has: listen, workers, environment, public_url, max_body, read_timeout, shutdown_grace, trusted_proxies
          = docs: rhaiway docs E0101

        error[E0101]: [server] has no key `timeout`
         --> config.toml:3:1
          |
        3 | timeout = "5s"
          | ^^^^^^^
          |
          = help: [server] has: listen, workers, environment, public_url, max_body, read_timeout, shutdown_grace, trusted_proxies
          = help: `timeout` belongs to [scripts], [webhooks.NAME], [providers.NAME]
          = docs: rhaiway docs E0101

        error[E0102]: `workers` in [server] must be a whole number from 0 to 256
         --> config.toml:4:11
          |
        4 | workers = 300
          |           ^^^ this is 300
          |
          = docs: rhaiway docs E0102

        error[E0102]: `max_body` in [server] must be a size from 1B to 1GiB
         --> config.toml:5:12
          |
        5 | max_body = 1048576
          |            ^^^^^^^ a bare number has no unit (B, KB, MB, GB, TB, KiB, MiB, GiB, TiB); write `1MiB`
          |
          = docs: rhaiway docs E0102

        error[E0101]: the file has no table `srever`
         --> config.toml:7:2
          |
        7 | [srever]
          |  ^^^^^^ did you mean `server`?
          |
          = help: the file has: server, cors, storage, scripts, admin, auth, webhooks, providers, db, vars
          = docs: rhaiway docs E0101

        error[E0102]: `timeout` in [scripts] must be a duration from 1ms to 1d
          --> config.toml:10:11
           |
        10 | timeout = "5 minutes"
           |           ^^^^^^^^^^^ the units are ms, s, m, h, d; write `5m`
           |
           = docs: rhaiway docs E0102

        error[E0102]: `cpu_budget` in [scripts] must be a duration from 1ms to 1m
          --> config.toml:11:14
           |
        11 | cpu_budget = "-1s"
           |              ^^^^^ it cannot be negative; write a duration: a whole number and a unit (ms, s, m, h, d), such as `30s`
           |
           = docs: rhaiway docs E0102

        error[E0102]: `memory_budget` in [scripts] must be a size from 1MiB to 4GiB
          --> config.toml:12:17
           |
        12 | memory_budget = "0B"
           |                 ^^^^ this is 0B
           |
           = docs: rhaiway docs E0102

        error[E0102]: `retention` in [storage] must be a duration from 1m to 3650d
          --> config.toml:15:13
           |
        15 | retention = "1e9d"
           |             ^^^^^^ write a duration: a whole number and a unit (ms, s, m, h, d), such as `30s`
           |
           = docs: rhaiway docs E0102

        error[E0102]: `max_pending` in [storage] must be a whole number from 1 to 1000000000
          --> config.toml:16:15
           |
        16 | max_pending = 0
           |               ^ this is 0
           |
           = docs: rhaiway docs E0102

        error[E0102]: `path` in [webhooks.clerk] must be a path, such as `"/webhooks/clerk"`
          --> config.toml:19:8
           |
        19 | path = "clerk"
           |        ^^^^^^^ it begins with `/`
           |
           = docs: rhaiway docs E0102

        error[E0102]: `scheme` in [webhooks.clerk] must be a signature scheme: svix, standard-webhooks, github, stripe
          --> config.toml:20:10
           |
        20 | scheme = "svx"
           |          ^^^^^ did you mean `svix`?
           |
           = docs: rhaiway docs E0102

        error[E0101]: [webhooks.clerk] has no key `retries`
          --> config.toml:21:1
           |
        21 | retries = 5
           | ^^^^^^^
           |
           = help: [webhooks.clerk] has: path, scheme, secret_env, tolerance, max_body, timeout, concurrency, retry, dedupe, ordered_by, respond, store
           = docs: rhaiway docs E0101

        error[E0102]: `retry.max` in [webhooks.clerk] must be a whole number from 0 to 1000
          --> config.toml:22:17
           |
        22 | retry = { max = -1, bas = "5s" }
           |                 ^^ this is -1
           |
           = docs: rhaiway docs E0102

        error[E0101]: retry of [webhooks.clerk] has no key `bas`
          --> config.toml:22:21
           |
        22 | retry = { max = -1, bas = "5s" }
           |                     ^^^ did you mean `base`?
           |
           = help: retry of [webhooks.clerk] has: max, base, cap
           = docs: rhaiway docs E0101
        "#);
}

#[test]
fn o1_values_of_the_wrong_type_are_named_by_what_they_should_be() {
    let text = "server = 5\n[cors]\norigins = \"*\"\nmethods = [\"get\", 5]\ncredentials = \"true\"\n[scripts]\ntimeout = [1]\ndir = true\n[storage]\nretention = \"\"\nmax_pending = \"5\"\n[[admin]]\nsocket = \"x\"\n[webhooks]\na = []\n[webhooks.b]\nsecret_env = 5\nretry = [5, \"1s\"]\ndedupe = true\nstore = \"no\"\n";
    insta::assert_snapshot!(problems(text, &[]), @r#"
        error[E0102]: `server` in the file has the wrong type
         --> config.toml:1:10
          |
        1 | server = 5
          |          ^ this must be a table, as in `[server]`
          |
          = docs: rhaiway docs E0102

        error[E0102]: `origins` in [cors] has the wrong type
         --> config.toml:3:11
          |
        3 | origins = "*"
          |           ^^^ this must be a list, as in `["a", "b"]`
          |
          = docs: rhaiway docs E0102

        error[E0102]: `methods` in [cors] must be a list of methods: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS
         --> config.toml:4:12
          |
        4 | methods = ["get", 5]
          |            ^^^^^ write `"GET"`
          |
          = docs: rhaiway docs E0102

        error[E0102]: `methods` in [cors] must be a list of methods: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS
         --> config.toml:4:19
          |
        4 | methods = ["get", 5]
          |                   ^ this is a number
          |
          = docs: rhaiway docs E0102

        error[E0102]: `credentials` in [cors] must be true or false
         --> config.toml:5:15
          |
        5 | credentials = "true"
          |               ^^^^^^ this is text; write it without quotes
          |
          = docs: rhaiway docs E0102

        error[E0102]: `timeout` in [scripts] must be a duration from 1ms to 1d
         --> config.toml:7:11
          |
        7 | timeout = [1]
          |           ^^^ this is a list; write a duration: a whole number and a unit (ms, s, m, h, d), such as `30s`
          |
          = docs: rhaiway docs E0102

        error[E0102]: `dir` in [scripts] must be a path, such as `"scripts"`
         --> config.toml:8:7
          |
        8 | dir = true
          |       ^^^^ this is `true`
          |
          = docs: rhaiway docs E0102

        error[E0102]: `retention` in [storage] must be a duration from 1m to 3650d
          --> config.toml:10:13
           |
        10 | retention = ""
           |             ^^ it is empty; write a duration: a whole number and a unit (ms, s, m, h, d), such as `30s`
           |
           = docs: rhaiway docs E0102

        error[E0102]: `max_pending` in [storage] must be a whole number from 1 to 1000000000
          --> config.toml:11:15
           |
        11 | max_pending = "5"
           |               ^^^ this is text; write it without quotes
           |
           = docs: rhaiway docs E0102

        error[E0102]: `admin` in the file has the wrong type
          --> config.toml:12:1
           |
        12 | [[admin]]
           | ^^^^^^^^^ this must be a table, as in `[admin]`
           |
           = docs: rhaiway docs E0102

        error[E0102]: `a` in [webhooks] has the wrong type
          --> config.toml:15:5
           |
        15 | a = []
           |     ^^ this must be a table, as in `{ key = "value" }`
           |
           = docs: rhaiway docs E0102

        error[E0102]: `secret_env` in [webhooks.b] has the wrong type
          --> config.toml:17:14
           |
        17 | secret_env = 5
           |              ^ this must be the name of a variable, or a list of names
           |
           = docs: rhaiway docs E0102

        error[E0102]: `retry` in [webhooks.b] has the wrong type
          --> config.toml:18:9
           |
        18 | retry = [5, "1s"]
           |         ^^^^^^^^^ this must be a table, as in `{ key = "value" }`
           |
           = docs: rhaiway docs E0102

        error[E0102]: `dedupe` in [webhooks.b] must be `"on"` or `"off"`
          --> config.toml:19:10
           |
        19 | dedupe = true
           |          ^^^^ this is `true`
           |
           = docs: rhaiway docs E0102

        error[E0102]: `store` in [webhooks.b] must be true or false
          --> config.toml:20:9
           |
        20 | store = "no"
           |         ^^^^ this is text
           |
           = docs: rhaiway docs E0102
        "#);
}

#[test]
fn o1_what_is_no_toml_shows_where() {
    for (text, line, column, expected) in [
        ("[server]\nlisten = 127.0.0.1:8080\n", 2, 10, "text stands in quotes"),
        ("[server]\nread_timeout = 5 minutes\n", 2, 16, "text stands in quotes"),
        ("[server]\n[server]\n", 2, 2, "duplicate key"),
        ("[server]\nworkers = 1\nworkers = 2\n", 3, 1, "duplicate key"),
        ("[server]\r\n\tlisten = \"x\r\n", 2, 13, "invalid basic string"),
        ("[server\n", 1, 8, "`]`"),
        ("listen\n", 1, 7, "`=`"),
        ("\u{feff}[server]\nx = \n", 2, 5, "string"),
    ] {
        let frames = load_with(text, &[]).unwrap_err();
        let place = frames[0].place.as_ref().unwrap();
        assert_eq!(frames[0].code, "E0103", "{text:?}");
        assert_eq!(place.line_column(), (line, column), "{text:?}\n{}", show(&frames));
        assert!(show(&frames).contains(expected), "{text:?}\n{}", show(&frames));
    }
    insta::assert_snapshot!(problems("[server]\nlisten = 127.0.0.1:8080\nworkers = 1\nworkers = 2\n", &[]), @r#"
        error[E0103]: this is not TOML
         --> config.toml:2:10
          |
        2 | listen = 127.0.0.1:8080
          |          ^^^^^^^^^^^^^^ invalid float
          |
          = help: text stands in quotes: `name = "text"`
          = docs: rhaiway docs E0103

        error[E0103]: this is not TOML
         --> config.toml:4:1
          |
        4 | workers = 2
          | ^^^^^^^ duplicate key
          |
          = docs: rhaiway docs E0103
        "#);
}

#[test]
fn o1_columns_are_right_with_crlf_tabs_and_a_byte_order_mark() {
    for text in ["\u{feff}[server]\r\n\tworkers = 300\r\n", "[server]\n\tworkers = 300\n"] {
        let frames = load_with(text, &[]).unwrap_err();
        assert_eq!(frames[0].to_json()["line"], 2);
        assert_eq!(frames[0].to_json()["column"], 12);
    }
}

#[test]
fn o1_deep_and_long_texts_are_refused_or_read_but_end_nothing() {
    for text in [
        format!("[vars]\na = {}1{}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("[vars]\na = {}", "{a=".repeat(100_000)),
        format!("{} = 1", ["a"; 100_000].join(".")),
        format!("[{}]", ["vars"; 100_000].join(".")),
        format!("{} = 1", "a".repeat(1 << 20)),
        format!("[server]\nlisten = \"{}\"", "x".repeat(1 << 20)),
        (0..20_000).map(|number| format!("k{number} = 1\n")).collect(),
        "\"\"\"".repeat(300_000),
        "[[".repeat(300_000),
    ] {
        let shown = problems(&text, &[]);
        assert!(shown.len() < 60_000, "{}", shown.len());
    }
}

#[test]
fn o2_what_cannot_be_read_names_path_and_cause() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("folder")).unwrap();
    std::os::unix::fs::symlink(path("nowhere"), path("dangling")).unwrap();
    fs::write(path("latin"), b"[server]\n# caf\xe9\n").unwrap();
    fs::write(path("large"), "#".repeat(10_000_000)).unwrap();
    fs::write(path("with_mark"), "\u{feff}[server]\r\nworkers = 2\r\n").unwrap();
    for (name, expected) in [
        ("missing", "there is no such file"),
        ("folder", "it is a folder"),
        ("dangling", "which does not exist"),
        ("latin", "it is not UTF-8 from byte 14 on"),
        ("large", "it is larger than 1MiB"),
    ] {
        let frames = load(&path(name), HOW).unwrap_err();
        let shown = show(&frames);
        assert!(shown.contains(expected) && shown.contains(name), "{shown}");
        assert_eq!(frames[0].code, "E0104");
    }
    let latin = load(&path("latin"), HOW).unwrap_err();
    assert_eq!(latin[0].to_json()["line"], 2);
    assert_eq!(latin[0].to_json()["column"], 6);
    assert_eq!(load(&path("with_mark"), HOW).unwrap().server.workers, 2);
}

#[test]
fn paths_clash_whatever_their_parameters_are_called() {
    let text = "[webhooks.a]\npath = \"/hooks/{x}\"\nscheme = \"svix\"\nsecret_env = \"S\"\n\n[webhooks.b]\npath = \"/hooks/{y}\"\nscheme = \"svix\"\nsecret_env = \"S\"\n\n[webhooks.c]\npath = \"/healthz\"\nscheme = \"svix\"\nsecret_env = \"S\"\n";
    insta::assert_snapshot!(problems(text, &[]), @r#"
        error[E0107]: webhooks `a` and `b` have the same path
         --> config.toml:7:8
          |
        2 | path = "/hooks/{x}"
          |        ------------ first here
        ...
        7 | path = "/hooks/{y}"
          |        ^^^^^^^^^^^^ and here
          |
          = help: give each a path of its own
          = docs: rhaiway docs E0107

        error[E0107]: `/healthz` is a path of our own
          --> config.toml:12:8
           |
        12 | path = "/healthz"
           |        ^^^^^^^^^^
           |
           = note: `/healthz` says that the process is alive, `/readyz` that it can take deliveries
           = docs: rhaiway docs E0107
        "#);
}

#[test]
fn a_webhooks_path_is_one_that_a_request_can_have() {
    for (path, expected) in [
        ("", "it begins with `/`"),
        ("hooks", "it begins with `/`"),
        ("/a?b", "a path has no query"),
        ("/a b", "stands in no path"),
        ("/é", "stands in no path"),
        ("/a//b", "nothing between two slashes"),
        ("//a", "nothing between two slashes"),
        ("/a/../b", "clients resolve"),
        ("/a/{}", "a parameter's name"),
        ("/a/{*rest}", "a parameter's name"),
        ("/a{x}", "for the whole part"),
        ("/{a}/{a}", "stands there twice"),
    ] {
        let text =
            format!("[webhooks.a]\npath = \"{path}\"\nscheme = \"svix\"\nsecret_env = \"S\"\n");
        let shown = problems(&text, &[]);
        assert!(shown.contains(expected), "{path}: {shown}");
    }
    for path in ["/", "/a/", "/a/{b}/c", "/a%20b"] {
        let text =
            format!("[webhooks.a]\npath = \"{path}\"\nscheme = \"svix\"\nsecret_env = \"S\"\n");
        assert_eq!(&*load_with(&text, &[]).unwrap().webhooks[0].path, path);
    }
}

#[test]
fn what_contradicts_itself_is_shown_at_both_places() {
    let all = webhook(
        "respond = \"script\"\nstore = false\nretry = { max = 1 }\ndedupe = \"off\"\nordered_by = \"/id\"",
    );
    insta::assert_snapshot!(problems(&all, &[]), @r#"
        error[E0108]: `retry` in [webhooks.a] does not go with `store = false`
         --> config.toml:7:9
          |
        6 | store = false
          |         ----- this keeps none
        7 | retry = { max = 1 }
          |         ^^^^^^^^^^^ this needs events that are kept
          |
          = docs: rhaiway docs E0108

        error[E0108]: `dedupe` in [webhooks.a] does not go with `store = false`
         --> config.toml:8:10
          |
        6 | store = false
          |         ----- this keeps none
        7 | retry = { max = 1 }
        8 | dedupe = "off"
          |          ^^^^^ this needs events that are kept
          |
          = docs: rhaiway docs E0108

        error[E0108]: `ordered_by` in [webhooks.a] does not go with `store = false`
         --> config.toml:9:14
          |
        6 | store = false
          |         ----- this keeps none
        ...
        9 | ordered_by = "/id"
          |              ^^^^^ this needs events that are kept
          |
          = docs: rhaiway docs E0108
        "#);
    for (lines, expected) in [
        ("store = false", "needs `respond = \"script\"`"),
        ("retry = { base = \"2h\" }", "`cap` is 1h by default"),
        ("retry = { cap = \"1s\" }", "`base` is 5s by default"),
        ("retry = { base = \"2m\", cap = \"1m\" }", "the longest wait"),
        ("respond = \"stored\"", "must be `\"script\"`"),
        ("ordered_by = \"data.id\"", "starts with `/`"),
        ("ordered_by = \"/a~2\"", "is written `~0`"),
        ("ordered_by = 1", "a JSON pointer into the payload"),
        ("dedupe = \"of\"", "did you mean `off`?"),
        ("concurrency = 0", "a whole number from 1 to 100000"),
        ("tolerance = \"0s\"", "a duration from 1s to 1d"),
        ("max_body = \"2GiB\"", "a size from 1B to 1GiB"),
    ] {
        let shown = problems(&webhook(lines), &[]);
        assert!(shown.contains(expected), "{lines}: {shown}");
    }
    let cors = "[cors]\norigins = [\"*\"]\ncredentials = true\n";
    assert!(problems(cors, &[]).contains("browsers refuse both"));
    let storage = "[storage]\nurl = \"sqlite:a.db\"\nurl_env = \"DATABASE_URL\"\n";
    assert!(
        problems(storage, &[(Source::Process, "DATABASE_URL", "sqlite:b.db")])
            .contains("or the other")
    );
}

#[test]
fn values_that_look_right_but_are_not_get_the_right_spelling() {
    for (text, expected) in [
        ("[server]\nlisten = \":8080\"", "\"0.0.0.0:8080\""),
        ("[server]\nlisten = \"8080\"", "\"127.0.0.1:8080\""),
        ("[server]\nlisten = 8080", "this is a number"),
        ("[server]\nlisten = \"localhost:80\"", "a name is no address"),
        ("[server]\nlisten = \"127.0.0.1\"", "there is no port"),
        ("[server]\nlisten = \"127.0.0.1:99999\"", "an address and a port"),
        ("[server]\npublic_url = \"hooks.example.com\"", "a URL without a path"),
        ("[server]\npublic_url = \"https://x/api\"", "a URL without a path"),
        ("[server]\nenvironment = \"prod\"", "did you mean `production`?"),
        ("[server]\ntrusted_proxies = [\"10.0.0.1/8\"]", "write `\"10.0.0.0/8\"`"),
        ("[server]\ntrusted_proxies = [\"10.0.0.0/33\"]", "a number from 0 to 32"),
        ("[server]\ntrusted_proxies = [\"proxy\"]", "this is no address"),
        ("[cors]\norigins = [\"https://a.example/\"]", "write `\"https://a.example\"`"),
        ("[cors]\norigins = [\"a.example\"]", "no path"),
        ("[cors]\nmethods = [\"get\"]", "write `\"GET\"`"),
        ("[cors]\nheaders = [\"a b\"]", "no header name"),
        ("[storage]\nurl = \"postgres://u:p@h/db\"", "this version has SQLite only"),
        ("[storage]\nurl = \"sqlite://data/x.db\"", "write `\"sqlite:data/x.db\"`"),
        ("[storage]\nurl = \"sqlite::memory:\"", "would lose events"),
        ("[storage]\nurl = \"data/x.db\"", "`sqlite:` and a path"),
        ("[vars]\nx = nan", "a finite number"),
        (
            "[webhooks.\"A b\"]\npath = \"/a\"\nscheme = \"svix\"\nsecret_env = \"S\"",
            "cannot be a webhook's name",
        ),
    ] {
        let shown = problems(text, &[]);
        assert!(shown.contains(expected), "{text}: {shown}");
    }
    let long = format!("[admin]\nsocket = \"{}\"", "s".repeat(200));
    assert!(problems(&long, &[]).contains("at most 103 bytes"));
}

#[test]
fn texts_are_filled_from_the_environment() {
    let variables = [
        (Source::Process, "PORT", "9000"),
        (Source::DotEnv, "PORT", "1"),
        (Source::DotEnv, "WORKERS", "4"),
        (Source::DevVars, "ORIGIN", "http://localhost:1"),
        (Source::Process, "EMPTY", ""),
        (Source::Process, "YES", "true"),
    ];
    let text = r#"
        [server]
        listen = "127.0.0.1:${PORT}"
        workers = "${WORKERS}"
        [cors]
        origins = ["${ORIGIN}"]
        credentials = "${YES}"
        [vars]
        default = "${MISSING:-a:-b}"
        empty = "[${EMPTY}]"
        empty_default = "${EMPTY:-x}"
        plain = "$${PORT} $PORT $"
        deep = [{ a = "${PORT}${PORT}" }]
    "#;
    let config = load_with(text, &variables).map_err(|frames| show(&frames)).unwrap();
    assert_eq!((config.server.listen.port(), config.server.workers), (9000, 4));
    assert_eq!(*config.cors.origins, ["http://localhost:1".into()]);
    assert!(config.cors.credentials);
    for (name, expected) in [
        ("default", serde_json::json!("a:-b")),
        ("empty", serde_json::json!("[]")),
        ("empty_default", serde_json::json!("x")),
        ("plain", serde_json::json!("${PORT} $PORT $")),
        ("deep", serde_json::json!([{ "a": "90009000" }])),
    ] {
        assert_eq!(config.vars[name], expected, "{name}");
    }
    let port = config.variables.iter().find(|asked| &*asked.name == "PORT").unwrap();
    assert_eq!((port.source, port.required), (Some(Source::Process), true));
    assert!(
        config
            .variables
            .iter()
            .any(|asked| &*asked.name == "MISSING" && !asked.required && asked.source.is_none())
    );
}

#[test]
fn what_cannot_be_filled_names_the_variable_and_never_its_value() {
    let text = "[server]\npublic_url = \"https://${HOST}\"\nworkers = \"${WORKERS}\"\nread_timeout = \"${WAIT}\"\nlisten = \"${A:-${B}}\"\nmax_body = \"${open\"\n[vars]\na = \"${no name}\"\n";
    let shown =
        problems(text, &[(Source::DotEnv, "WORKERS", CANARY), (Source::Process, "WAIT", CANARY)]);
    assert!(!shown.contains(CANARY));
    insta::assert_snapshot!(shown, @r#"
        error[E0105]: `HOST` is not set
         --> config.toml:2:23
          |
        2 | public_url = "https://${HOST}"
          |                       ^^^^^^
          |
          = help: set it, or give a default: `${HOST:-default}`
          = docs: rhaiway docs E0105

        error[E0102]: `workers` in [server] must be a whole number from 0 to 256
         --> config.toml:3:11
          |
        3 | workers = "${WORKERS}"
          |           ^^^^^^^^^^^^ this is filled from `WORKERS` (`.env`); its value is not shown
          |
          = docs: rhaiway docs E0102

        error[E0102]: `read_timeout` in [server] must be a duration from 10ms to 1h
         --> config.toml:4:16
          |
        4 | read_timeout = "${WAIT}"
          |                ^^^^^^^^^ this is filled from `WAIT` (the process); its value is not shown
          |
          = docs: rhaiway docs E0102

        error[E0105]: `${` cannot stand inside a default
         --> config.toml:5:11
          |
        5 | listen = "${A:-${B}}"
          |           ^^
          |
          = help: write `${NAME}` or `${NAME:-default}`; `$${` is a plain `${`
          = docs: rhaiway docs E0105

        error[E0105]: `${` has no `}`
         --> config.toml:6:13
          |
        6 | max_body = "${open"
          |             ^^
          |
          = help: write `${NAME}` or `${NAME:-default}`; `$${` is a plain `${`
          = docs: rhaiway docs E0105

        error[E0105]: `no name` is not the name of a variable
         --> config.toml:8:6
          |
        8 | a = "${no name}"
          |      ^^^^^^^^^
          |
          = help: write `${NAME}` or `${NAME:-default}`; `$${` is a plain `${`
          = docs: rhaiway docs E0105
        "#);
}

#[test]
fn production_refuses_what_is_only_fit_for_development() {
    let text = "[server]\nenvironment = \"${STAGE}\"\npublic_url = \"http://hooks.example.com\"\n[cors]\norigins = [\"*\"]\n[webhooks.a]\npath = \"/a\"\nscheme = \"none\"\n[webhooks.b]\npath = \"/b\"\nscheme = \"svix\"\nsecret_env = \"B_SECRET\"\n[vars]\nx = \"${ONLY_DEV}\"\n";
    let dev = [(Source::DevVars, "B_SECRET", "x"), (Source::DevVars, "ONLY_DEV", "x")];
    let mut production = vec![(Source::Process, "STAGE", "production")];
    production.extend(dev);
    insta::assert_snapshot!(problems(text, &production), @r#"
        error[E0109]: production needs a `public_url` with `https://`
         --> config.toml:3:14
          |
        3 | public_url = "http://hooks.example.com"
          |              ^^^^^^^^^^^^^^^^^^^^^^^^^^ secrets and payloads would travel in the clear
          |
          = help: the world may reach a proxy by https, and the proxy this server by http
          = docs: rhaiway docs E0109

        error[E0109]: production does not allow `*` in `cors.origins`
         --> config.toml:5:12
          |
        5 | origins = ["*"]
          |            ^^^ any page could call the routes
          |
          = help: name the origins of your own pages
          = docs: rhaiway docs E0109

        error[E0109]: production does not allow webhook `a` without verification
         --> config.toml:8:10
          |
        8 | scheme = "none"
          |          ^^^^^^ anybody could post to it
          |
          = help: name the scheme by which it is signed
          = docs: rhaiway docs E0109

        error[E0109]: `B_SECRET` stands only in `.dev.vars`, which production does not read
          --> config.toml:12:14
           |
        12 | secret_env = "B_SECRET"
           |              ^^^^^^^^^^
           |
           = help: set it in the environment of the process or in `.env`
           = docs: rhaiway docs E0109

        error[E0105]: `ONLY_DEV` is not set
          --> config.toml:14:6
           |
        14 | x = "${ONLY_DEV}"
           |      ^^^^^^^^^^
           |
           = help: set it, or give a default: `${ONLY_DEV:-default}`
           = note: `.dev.vars` has `ONLY_DEV`, but production does not read that file
           = docs: rhaiway docs E0105
        "#);

    let mut development = vec![(Source::Process, "STAGE", "development")];
    development.extend(dev);
    let config = load_with(text, &development).unwrap();
    assert_eq!(config.server.environment, Environment::Development);
    assert_eq!(config.notes.len(), 1, "{}", show(&config.notes));

    let forced = load_text(
        Path::new("config.toml"),
        text,
        &Variables::of(&production),
        How { development: true, ..HOW },
    );
    assert_eq!(forced.unwrap().server.environment, Environment::Development);

    let ignored = "[server]\nenvironment = \"production\"\n";
    let config = load_with(ignored, &dev).unwrap();
    assert!(show(&config.notes).contains("`.dev.vars` is not read in production"));
}

#[test]
fn w8_a_secret_that_cannot_be_one_is_missing_and_the_note_says_why() {
    for (value, expected) in [
        ("", "it is empty"),
        ("  ", "it holds only blanks"),
        ("\"canary-3f9a71c4\"", "there are quotes around it"),
        ("canary-3f9a71c4\n", "there is a line break in it"),
        (" canary-3f9a71c4", "there are blanks around it"),
    ] {
        let config = load_with(&webhook(""), &[(Source::DotEnv, "A_SECRET", value)]).unwrap();
        let shown = show(&config.notes);
        assert!(shown.contains(expected) && shown.contains("`A_SECRET` from `.env`"), "{shown}");
        assert!(!shown.contains(CANARY));
        assert!(config.webhooks[0].secrets.set.is_empty());
        assert_eq!(*config.webhooks[0].secrets.missing, ["A_SECRET".into()]);
        assert!(config.variables[0].unusable.is_some());
    }
}

#[test]
fn w8_an_api_key_in_the_place_of_a_webhook_secret_is_named_by_its_prefix() {
    for (value, kind) in [
        ("sk_test_canary-3f9a71c4", "`sk_…`"),
        ("pk_live_canary-3f9a71c4", "`pk_…`"),
        ("sk-canary-3f9a71c4", "`sk-…`"),
        ("ghp_canary-3f9a71c4", "`ghp_…`"),
        ("xoxb-canary-3f9a71c4", "`xoxb-…`"),
    ] {
        let config = load_with(&webhook(""), &[(Source::Process, "A_SECRET", value)]).unwrap();
        let shown = show(&config.notes);
        assert!(shown.contains(kind) && shown.contains("`A_SECRET` from the process"), "{shown}");
        assert!(!shown.contains(CANARY));
        assert_eq!(config.notes[0].code, "E0111");
    }
}

#[test]
fn w7_a_missing_previous_secret_is_no_news() {
    let text = webhook("").replace("\"A_SECRET\"", "[\"A_SECRET\", \"A_PREVIOUS\"]");
    let config = load_with(&text, &[(Source::Process, "A_SECRET", "x")]).unwrap();
    assert_eq!(config.notes, []);
    assert_eq!(*config.webhooks[0].secrets.missing, ["A_PREVIOUS".into()]);
    let none = load_with(&text, &[]).unwrap();
    assert!(show(&none.notes).contains("`A_SECRET`, `A_PREVIOUS` are not set"));
}

#[test]
fn a_secret_that_somebody_put_into_the_file_is_not_shown() {
    for value in
        ["whsec_canary-3f9a71c4", "sk_live_canary_3f9a71c4", "canary-3f9a71c4==", "sk_3f9a71c4"]
    {
        for list in [format!("\"{value}\""), format!("[\"OK\", \"{value}\"]")] {
            let text = webhook("").replace("\"A_SECRET\"", &list);
            let frames = load_with(&text, &[]).unwrap_err();
            assert_eq!(frames[0].code, "E0111");
            let everywhere = format!("{}{frames:?}{}", show(&frames), frames[0].to_json());
            assert!(!everywhere.contains("3f9a71c4"), "{everywhere}");
        }
    }
    let text = format!("[storage]\nurl = \"postgres://user:{CANARY}@db/x\"\n");
    assert!(!problems(&text, &[]).contains(CANARY));
    let text = "[storage]\nurl_env = \"DATABASE_URL\"\n";
    let url = format!("postgres://user:{CANARY}@db/x");
    assert!(!problems(text, &[(Source::Process, "DATABASE_URL", &url)]).contains(CANARY));
    let text = webhook("").replace("\"A_SECRET\"", "\"${A_SECRET}\"");
    assert!(problems(&text, &[]).contains("write the name alone"));
}

#[test]
fn x9_no_secret_is_in_what_a_configuration_prints() {
    let text = webhook("").replace("\"A_SECRET\"", "[\"A_SECRET\", \"B_SECRET\"]");
    let variables = [
        (Source::Process, "A_SECRET", CANARY),
        (Source::DotEnv, "B_SECRET", CANARY),
        (Source::DotEnv, "C", CANARY),
    ];
    let config = load_with(&text, &variables).unwrap();
    assert_eq!(config.webhooks[0].secrets.set[0].expose(), CANARY);
    let printed = format!("{config:?} {config:#?} {}", show(&config.notes));
    assert!(!printed.contains(CANARY));
    assert!(printed.contains("[secret]"));
}

#[test]
fn the_files_beside_the_configuration_count_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    fs::write(
        &path,
        "[vars]\na = \"${RHAIWAY_TEST_A}\"\nb = \"${RHAIWAY_TEST_B}\"\nhome = \"${PATH}\"\n",
    )
    .unwrap();
    fs::write(
        folder.path().join(".env"),
        "\u{feff}# first\nexport RHAIWAY_TEST_A='from .env'\r\nPATH=ignored\n",
    )
    .unwrap();
    fs::write(
        folder.path().join(".dev.vars"),
        "RHAIWAY_TEST_A=x\nRHAIWAY_TEST_B=\"two\nlines\"   ",
    )
    .unwrap();
    let config = load(&path, HOW).map_err(|frames| show(&frames)).unwrap();
    assert_eq!(config.vars["a"], "from .env");
    assert_eq!(config.vars["b"], "two\nlines");
    assert_ne!(config.vars["home"], "ignored");
    let sources: Vec<_> = config.variables.iter().map(|asked| asked.source.unwrap()).collect();
    assert_eq!(sources, [Source::DotEnv, Source::DevVars, Source::Process]);
}

#[test]
fn a_broken_line_of_variables_is_told_by_its_number_and_not_by_its_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    fs::write(&path, "").unwrap();
    let text = format!(
        "# {CANARY}\nGOOD=1\n\n{CANARY} whsec\nALSO=2\nA SPACE={CANARY}\nOPEN='{CANARY}\nMORE=1\n"
    );
    fs::write(folder.path().join(".env"), text).unwrap();
    let frames = load(&path, HOW).unwrap_err();
    let lines: Vec<_> =
        frames.iter().map(|frame| frame.to_json()["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, [4, 6, 7], "{}", show(&frames));
    assert!(!format!("{frames:?}{}", show(&frames)).contains(CANARY));
    let first = show(&frames[1..2]).replace(&folder.path().display().to_string(), "");
    insta::assert_snapshot!(first, @r"
        error[E0106]: line 6 of `/.env` is not `NAME=value`
         --> /.env:6:1
          |
        6 | …
          | ^ what stands here is not shown
          |
          = help: a value with blanks, quotes, `$` or `#` stands in single quotes: `NAME='a value'`
          = docs: rhaiway docs E0106
        ");

    fs::write(folder.path().join(".env"), b"A=\xff\n").unwrap();
    assert!(show(&load(&path, HOW).unwrap_err()).contains("not UTF-8"));
    fs::remove_file(folder.path().join(".env")).unwrap();
    fs::create_dir(folder.path().join(".env")).unwrap();
    assert!(load(&path, HOW).is_ok());
}

#[test]
fn every_example_of_the_catalogue_gives_its_code() {
    let mut examples = 0;
    // E0121 is about a descriptor, which is no part of the config: `provider/descriptor` holds its page to it.
    let codes = catalogue::codes().filter(|code| code.starts_with("E01") && *code != "E0121");
    for code in codes {
        let page = catalogue::page(code).unwrap();
        let Some((_, rest)) = page.split_once("```toml\n") else { continue };
        let (example, _) = rest.split_once("```").unwrap();
        let frames = load_with(example, &[]).map_or_else(|frames| frames, |config| config.notes);
        assert!(frames.iter().any(|frame| frame.code == code), "{code}: {}", show(&frames));
        examples += 1;
    }
    assert!(examples >= 10);
}

/// The shipped file with some of its bytes changed.
fn mutated() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "\"",
        "'",
        "[",
        "]",
        "{",
        "}",
        "=",
        ".",
        "\n",
        "\r\n",
        "\t",
        "#",
        "${",
        "${PATH}",
        "}",
        "$${",
        ":-",
        "\u{feff}",
        "é",
        "0",
        "-1",
        "1e9",
        "true",
        "whsec_aaaaaaaaaaaa",
        "secret_env",
        "[webhooks.x]\n",
        "[server]\n",
        "retry = 5\n",
        "[[webhooks]]\n",
    ]);
    let edit = (0..SHIPPED.len(), 0..12_usize, pieces);
    prop::collection::vec(edit, 1..8).prop_map(|edits| {
        let mut text = SHIPPED.to_owned();
        for (at, length, piece) in edits {
            let start = text.floor_char_boundary(at);
            let end = text.floor_char_boundary(at + length).max(start);
            text.replace_range(start..end, piece);
        }
        text
    })
}

proptest! {
    #[test]
    fn o1_no_text_brings_the_reader_down(text in "(?s).{0,400}") {
        if let Err(frames) = load_with(&text, &[]) {
            prop_assert!(!frames.is_empty());
            prop_assert!(!show(&frames).is_empty());
        }
    }

    #[test]
    fn o1_no_change_of_the_shipped_file_brings_the_reader_down(text in mutated()) {
        let found = load_with(&text, &[(Source::Process, "PATH", "/bin")]);
        let frames = found.map_or_else(|frames| frames, |config| config.notes);
        for frame in &frames {
            prop_assert!(catalogue::page(frame.code).is_some());
            prop_assert!(frame.render(true).contains(frame.code));
            prop_assert!(frame.to_json()["code"].is_string());
        }
    }
}

#[test]
fn h23_a_range_holds_its_addresses_and_no_others() {
    let check = |range: (&str, u8), address: &str, expected: bool| {
        let cidr = Cidr { address: range.0.parse().unwrap(), prefix: range.1 };
        assert_eq!(cidr.contains(address.parse().unwrap()), expected, "{range:?} {address}");
    };
    check(("10.0.0.0", 8), "10.255.1.2", true);
    check(("10.0.0.0", 8), "11.0.0.1", false);
    check(("10.0.0.0", 8), "::ffff:10.1.2.3", true);
    check(("0.0.0.0", 0), "203.0.113.7", true);
    check(("0.0.0.0", 0), "::1", false);
    check(("192.0.2.1", 32), "192.0.2.1", true);
    check(("192.0.2.1", 32), "192.0.2.0", false);
    check(("2001:db8::", 32), "2001:db8:ffff::1", true);
    check(("2001:db8::", 32), "2001:db9::1", false);
    check(("::", 0), "2001:db8::1", true);
    check(("::1", 128), "::1", true);
}

#[test]
fn a_variable_of_the_process_is_read_and_one_that_is_not_there_is_none() {
    assert!(process_variable("PATH").is_some_and(|path| !path.is_empty()));
    assert_eq!(process_variable("RHAIWAY_NO_SUCH_VARIABLE"), None);
}

#[test]
fn a_collection_s_index_lists_fields_each_once() {
    let config =
        load_with("[db.orders]\nindex = [\"status\", \"customer.id\"]\n[db.\"much else\"]", &[]);
    let config = config.map_err(|frames| show(&frames)).unwrap();
    assert_eq!(config.db["orders"].index, ["customer.id".into(), "status".into()]);
    assert!(config.db["much else"].index.is_empty());
}

#[test]
fn an_index_of_nothing_of_too_much_or_of_one_field_twice_is_refused_with_its_place() {
    let check = |lines: &str, parts: &[&str]| {
        let said = problems(lines, &[]);
        assert!(parts.iter().all(|part| said.contains(part)), "{said}");
    };
    let must = "`index` in [db.a] must be a list of up to 16 fields";
    check(
        "[db.a]\nindex = [\"x\", \"y\", \"x\"]",
        &[must, "config.toml:2:20", "it is named before"],
    );
    check("[db.a]\nindex = [\"x..y\"]", &[must, "this is no field"]);
    check("[db.a]\nindex = [\"\"]", &[must, "this is no field"]);
    check("[db.a]\nindex = [5]", &[must, "this is a number"]);
    check("[db.a]\nindex = \"x\"", &["E0102"]);
    let many: Vec<String> = (0..17).map(|n| format!("\"f{n}\"")).collect();
    check(&format!("[db.a]\nindex = [{}]", many.join(", ")), &[must, "this is one too many"]);
    check("[db.a]\nindexes = [\"x\"]", &["E0101", "index"]);
    check("[db.\"\"]", &["cannot be a collection's name"]);
    check("[db.\"a\\u0007\"]", &["cannot be a collection's name"]);
}
