//! One row per thing that `check` says, and the scripts of the guide, of which it must say nothing.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::frame::Severity;
use crate::script::diagnose::tests::{Bench, told};
use crate::script::diagnose::{Circumstances, line_and_column};
use crate::script::providers::{Takes, Tree};

fn lint(source: &str) -> Vec<Frame> {
    let bench = Bench::new();
    let ast = bench.compile(source).unwrap_or_else(|frame| panic!("{}", told(&frame)));
    check("scripts/a.rhai", &Arc::from(source), &ast, &bench.names)
}

fn all_told(frames: &[Frame]) -> String {
    frames.iter().map(told).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn check_one(source: &str, severity: Severity, code: &str, at: &str, title: &str, help: &str) {
    let frames = lint(source);
    let text = all_told(&frames);
    let found = frames.iter().find(|frame| {
        let place = frame.place.as_ref().expect("every finding has a place");
        let (line, column) = line_and_column(&place.source, place.span.start);
        frame.severity == severity
            && frame.code == code
            && format!("{line}:{column}") == at
            && frame.title.contains(title)
            && (help.is_empty() || frame.help.iter().any(|line| line.contains(help)))
    });
    assert!(found.is_some(), "no {code} at {at} of\n{source}\n{text}");
    assert_eq!(frames.len(), 1, "more than that:\n{text}");
}

#[track_caller]
fn refuse(source: &str, code: &str, at: &str, title: &str, help: &str) {
    check_one(source, Severity::Error, code, at, title, help);
}

#[track_caller]
fn warn(source: &str, code: &str, at: &str, title: &str, help: &str) {
    check_one(source, Severity::Warning, code, at, title, help);
}

#[track_caller]
fn accept(source: &str) {
    let frames = lint(source);
    assert!(frames.is_empty(), "{}", all_told(&frames));
}

#[test]
fn an_unknown_plain_call_is_an_error() {
    refuse(
        "fn f() { charg(1, \"usd\", #{}) }",
        "E0201",
        "1:10",
        "no function `charg`",
        "did you mean `charge`?",
    );
    refuse(
        "charge(1);",
        "E0201",
        "1:1",
        "`charge` does not take 1 argument",
        "charge(int, string, map) -> int",
    );
    refuse(
        "fn save(a, b) {}\nwebhook(\"w\", \"*\", |event| save(event));",
        "E0201",
        "2:27",
        "`save` does not take 1 argument",
        "save(a, b)",
    );
    refuse("let f = |x| x;\nf(1);", "E0201", "2:1", "no function `f`", "`f.call(…)`");
    refuse(
        "let a = json::pars(\"1\");",
        "E0201",
        "1:15",
        "`json` has no function `pars`",
        "`json::parse`",
    );
    refuse(
        "let a = json::parse();",
        "E0201",
        "1:15",
        "`json::parse` does not take 0 arguments",
        "json::parse(",
    );
    refuse(
        "if true { switch 1 { 1 => [#{ a: `${nope()}` }], _ => 2 } }",
        "E0201",
        "1:37",
        "`nope`",
        "",
    );
    accept("fn later() { earlier() }\nfn earlier() { later() }\nlater();");
    accept("let f = |x| x; f.call(1); let g = Fn(\"len\"); g.call(\"a\"); type_of(1); print(1);");
}

#[test]
fn a_call_of_an_import_is_held_against_what_it_offers() {
    let x = "import \"lib/x\" as x;\n";
    accept(&format!("{x}let a = x::field(#{{}}) + x::SHOWN;"));
    refuse(
        &format!("{x}x::feild(1);"),
        "E0201",
        "2:4",
        "`x` has no function `feild`",
        "did you mean `x::field`?",
    );
    refuse(
        &format!("{x}x::field();"),
        "E0201",
        "2:4",
        "`x::field` does not take 0 arguments",
        "x::field(x)",
    );
    refuse(
        &format!("{x}x::secret();"),
        "E0201",
        "2:4",
        "`x` has no function `secret`",
        "`private`",
    );
    refuse(
        &format!("{x}let a = x::HIDDEN;"),
        "E0202",
        "2:12",
        "`x` exports no `HIDDEN`",
        "`export const HIDDEN = …;` in scripts/lib/x.rhai",
    );
    accept("import \"lib/unseen\" as u;\nu::anything(1, 2);");
    warn(x, "E0220", "1:19", "`x` is imported and not used", "take `import \"lib/x\" as x;` out");
    accept(&format!("{x}let f = Fn(\"x::field\");"));
}

#[test]
fn an_unknown_call_after_a_dot_is_a_warning() {
    warn("let a = #{}; a.shout(1);", "E0216", "1:16", "nothing of ours has a function `shout`", "");
    warn("let a = []; a.forEach(|x| x);", "E0216", "1:15", "`forEach`", "did you mean `for_each`?");
    warn("let a = \"\"; a.len(1, 2);", "E0216", "1:15", "`len` of 2 arguments", "len(");
    accept("fn shout(x) { this + x }\nlet a = 1; a.shout(2); a.call(1);");
}

#[test]
fn s28_a_fn_that_would_replace_one_of_ours_is_an_error() {
    refuse(
        "fn sleep(x) {}",
        "E0210",
        "1:4",
        "`fn sleep` with 1 parameter would replace ours",
        "another name",
    );
    refuse("fn replace(a, b, c) {}", "E0210", "1:4", "`fn replace` with 3 parameters", "");
    refuse("fn to_json(x) {}", "E0210", "1:4", "`fn to_json` with 1 parameter", "");
    accept("fn sleep(a, b) {}\nfn to_json() {}");
}

#[test]
fn a_fn_that_would_answer_calls_after_a_dot_is_an_error() {
    let source =
        "fn put(id, doc) { db.put(id, doc) }\nwebhook(\"w\", \"*\", |event| put(\"1\", #{}));";
    refuse(
        source,
        "E0210",
        "1:4",
        "`fn put` would answer `x.put(…)` in place of ours",
        "another name",
    );
    accept("fn put(id, doc) { id }\nput(\"1\", #{});");
}

#[test]
fn a_handler_that_captures_a_variable_is_an_error() {
    let source = "let seen = [];\nwebhook(\"w\", \"*\", |event| seen.push(event));";
    refuse(
        source,
        "E0211",
        "2:27",
        "captures the variable `seen`",
        "handlers run concurrently; use `db`",
    );
    accept("const LIMIT = 3;\nwebhook(\"w\", \"*\", |event| event.n > LIMIT);");
    accept("webhook(\"w\", \"*\", |event| { let seen = []; seen.push(event); log.info(\"x\") });");
}

#[test]
fn the_loader_finds_the_captured_variable_of_a_registered_handler() {
    let source = "fn add(event, n) { n }\nfn register(n) { webhook(\"w\", \"*\", |event| add(event, n)) }\nregister(3);";
    let mut bench = Bench::new();
    let ast = bench.compile(source).unwrap();
    let handlers = bench.set_up(&ast).unwrap();
    let frame = shared_capture("scripts/a.rhai", &Arc::from(source), &ast, &handlers[0]).unwrap();
    insta::assert_snapshot!(told(&frame), @r"
    E0211: the handler captures the variable `n`
      at scripts/a.rhai:2:55 `n` shared by all its runs
      help: handlers run concurrently; use `db`
      help: what never changes is a constant: `const N = …`
    ");
    let source = "const N = 3;\nwebhook(\"w\", \"*\", |event| { log.info(`${N}`); db });";
    let mut bench = Bench::new();
    let ast = bench.compile(source).unwrap();
    let handlers = bench.set_up(&ast).unwrap();
    assert_eq!(shared_capture("scripts/a.rhai", &Arc::from(source), &ast, &handlers[0]), None);
}

#[test]
fn closures_of_a_loop_that_outlive_their_turn_are_an_error() {
    let start = "fn fetch(id) { id }\nlet calls = [];\n";
    refuse(
        &format!("{start}for id in [1, 2] {{ calls.push(|| fetch(id)) }}"),
        "E0212",
        "3:40",
        "sees the last `id`",
        "write `let own = id;`",
    );
    refuse(
        &format!("{start}for (x, i) in [1, 2] {{ calls += || fetch(i); }}"),
        "E0212",
        "3:42",
        "sees the last `i`",
        "",
    );
    for turn in [
        "for id in [1, 2] { push(calls, || fetch(id)) }",
        "for id in [1, 2] { calls = calls + [|| fetch(id)]; }",
        "for id in [1, 2] { let f = || fetch(id); calls.push(f); }",
        "for id in [1, 2] { calls.push(#{ run: || fetch(id) }); }",
        "let id = 0; while id < 3 { id += 1; calls.push(|| fetch(id)); }",
        "let id = 0; loop { id += 1; calls.push(|| fetch(id)); if id > 2 { break; } }",
    ] {
        let at = format!("3:{}", turn.find("fetch(id)").unwrap() + "fetch(".len() + 1);
        refuse(&format!("{start}{turn}"), "E0212", &at, "sees the last `id`", "write `let own");
    }
    refuse(
        &format!("{start}for id in [1, 2] {{ calls.push(|| fetch(id)) }}"),
        "E0212",
        "3:40",
        "sees the last `id`",
        "`parallel(list, |id| …)`",
    );
    // What is made and used up within the turn sees its own.
    for turn in [
        "for id in [1, 2] { parallel([|| fetch(id), || fetch(id + 1)]); }",
        "for id in [1, 2] { let now = []; now.push(|| fetch(id)); parallel(now); }",
        "for id in [1, 2] { let f = || fetch(id); calls.push(f.call()); }",
        "let id = 0; while id < 3 { id += 1; let own = id; calls.push(|| fetch(own)); }",
        "let other = 5; for id in [1, 2] { calls.push(|| fetch(other)); }",
        "parallel([1, 2], |id| fetch(id));",
    ] {
        accept(&format!("{start}{turn}"));
    }
    accept(&format!("{start}for id in [1, 2] {{ let own = id; calls.push(|| fetch(own)) }}"));
    accept(&format!("{start}for id in [1, 2] {{ calls.filter(|x| x == id); }}"));
}

#[test]
fn a_value_at_the_end_of_a_catch_block_is_an_error() {
    let handler = |body: &str| format!("get(\"/x\", |req| {{\n{body}\n}});");
    refuse(
        &handler("try { fail() } catch (err) { #{ a: 1 } }"),
        "E0213",
        "2:30",
        "always `()`",
        "`return` in both blocks",
    );
    refuse(
        &handler("try { fail() } catch (err) { log.info(\"x\"); status(500) }"),
        "E0213",
        "2:45",
        "always `()`",
        "",
    );
    refuse(
        &handler("if req.a { try { fail() } catch (err) { err } }"),
        "E0213",
        "2:41",
        "always `()`",
        "",
    );
    refuse(
        &handler("switch 1 { 1 => { try { fail() } catch { \"a\" } }, _ => 2 }"),
        "E0213",
        "2:42",
        "always `()`",
        "",
    );
    refuse("fn f() { try { fail() } catch { 0 } }", "E0213", "1:33", "always `()`", "");
    // Each function is looked at by itself, and told of once.
    let others = "fn a() { 1 }\nfn b(x) { 2 }\nfn c(x, y) { 3 }\n";
    refuse(
        &format!("{others}fn f() {{ try {{ fail() }} catch {{ 0 }} }}"),
        "E0213",
        "4:33",
        "always `()`",
        "",
    );
    accept(&handler("try { return fail(); } catch (err) { return #{ a: 1 }; }"));
    accept(&handler("try { fail() } catch (err) { log.info(\"x\") }"));
    accept(&handler("try { fail() } catch (err) { #{ a: 1 } }\nstatus(200)"));
}

#[test]
fn a_name_that_hides_ours_is_a_warning() {
    warn("let db = 1;", "E0217", "1:5", "this `db` hides ours", "another name");
    warn("for log in [1] { }", "E0217", "1:5", "this `log` hides ours", "");
    warn("fn f(vars) { vars.a }", "E0217", "1:6", "this `vars` hides ours", "");
    warn("let f = |a, log| log.a + a;", "E0217", "1:13", "this `log` hides ours", "");
    warn("try { fail(); } catch (log) { }", "E0217", "1:24", "this `log` hides ours", "");
    accept("webhook(\"w\", \"*\", |event| log.info(vars.name));");
}

#[test]
fn the_value_of_what_changes_in_place_is_a_warning() {
    warn(
        "let a = \" x \"; let b = a.trim();",
        "E0218",
        "1:26",
        "`trim` changes the value in place and gives `()`",
        "x.trim(…);",
    );
    warn("let a = [2, 1]; for x in a.sort() { }", "E0218", "1:28", "`sort`", "");
    warn("let a = [2, 1]; a = [a.reverse()];", "E0218", "1:24", "`reverse`", "");
    warn("let a = \" x \"; a.trim().len();", "E0218", "1:18", "`trim`", "");
    warn("fn f(s) { return s.name.trim(); }", "E0218", "1:25", "`trim`", "");
    warn("[\" a\"].map(|s| s.trim());", "E0218", "1:18", "`trim`", "");
    accept("let a = \" x \"; a.trim(); [a].for_each(|s| s.trim());");
}

#[test]
fn a_division_that_loses_its_fraction_is_a_warning() {
    warn("let a = 1 / 2;", "E0219", "1:9", "`1 / 2` is 0", "`1.0 / 2`");
    warn("let a = 100 * (7 / 2);", "E0219", "1:16", "`7 / 2` is 3", "");
    accept("let n = 1; let a = n / 2 + 4 / 2 + 1.0 / 2;");
}

#[test]
fn a_constant_that_is_changed_is_an_error() {
    refuse(
        "fn f() { const X = #{ a: 1 }; X.a = 2; }",
        "E0214",
        "1:31",
        "`X` is a constant",
        "`let X = …`",
    );
    accept("fn f() { const X = 1; X }\nfn g() { let X = #{}; X.a = 2; }");
}

#[test]
fn findings_come_in_the_order_of_the_source_and_are_bounded() {
    let frames = lint("let db = 1 / 2;\nnope();");
    let codes: Vec<&str> = frames.iter().map(|frame| frame.code).collect();
    assert_eq!(codes, ["E0217", "E0219", "E0201"]);
    let many = "let db = 1;\n".repeat(150) + "nope();";
    let frames = lint(&many);
    assert_eq!(frames.len(), 100);
    assert_eq!(frames[0].code, "E0201");
}

#[test]
fn a_good_script_has_nothing_to_be_said_of() {
    accept(
        "//! Keeps our users in step.\nconst ROLES = [\"a\", \"b\"];\nwebhook(\"clerk\", \"user.created\", |event| save(event.data));\nget(\"/me\", |req| {\n    let user = req.auth?.user ?? status(404, #{ error: \"No such user\" });\n    `${user.id}`\n});\n\n/// Writes one.\nfn save(user) {\n    let primary = user.primary;\n    let email = user.emails.find(|e| e.id == primary) ?? user.emails.get(0);\n    if email != () && email.len() > 3 { log.info(\"x\") } else { throw \"no\" }\n    for role in global::ROLES { db.put(role, #{ user: user.id, n: 10 / 5 }); }\n    try { return charge(1, \"usd\", #{}); } catch (err) { return #{ code: err.code }; }\n}\n",
    );
}

#[test]
fn every_page_of_the_catalogue_holds_a_script_that_brings_its_code() {
    for (code, page) in crate::catalogue::scripts::PAGES {
        assert!(page.starts_with(&format!("# {code}: ")), "{code}");
        assert!((10..=20).contains(&page.lines().count()), "{code} has {}", page.lines().count());
        // What is no script has its tests beside the code that refuses it.
        let Some((_, example)) = page.split_once("```rhai\n") else {
            assert!(["E0208", "E0312"].contains(code), "{code} has no example");
            continue;
        };
        let source = example.split("```").next().unwrap();
        let bench = Bench::new();
        let frames = match bench.compile(source) {
            Err(frame) => vec![*frame],
            Ok(ast) => {
                let mut frames = check("scripts/a.rhai", &Arc::from(source), &ast, &bench.names);
                frames.extend(Bench::new().first_frame(source, &Circumstances::default()));
                frames
            }
        };
        assert!(frames.iter().any(|frame| frame.code == *code), "{code}:\n{}", all_told(&frames));
        let others = frames.iter().filter(|frame| frame.code != *code);
        let others: Vec<Frame> =
            others.filter(|frame| code < &"E0300" && frame.code < "E0300").cloned().collect();
        assert!(others.is_empty(), "{code}:\n{}", all_told(&others));
    }
}

#[test]
fn every_code_that_scripts_bring_has_a_page() {
    let sources = [
        include_str!("../diagnose/compile.rs"),
        include_str!("../diagnose/run.rs"),
        include_str!("../diagnose/source.rs"),
        include_str!("calls.rs"),
        include_str!("captures.rs"),
        include_str!("mod.rs"),
        include_str!("values.rs"),
    ];
    let mut used = BTreeSet::new();
    for (source, start) in sources
        .iter()
        .flat_map(|source| source.match_indices("\"E0").map(move |hit| (source, hit.0)))
    {
        used.insert(&source[start + 1..start + 6]);
    }
    let pages: BTreeSet<&str> =
        crate::catalogue::scripts::PAGES.iter().map(|page| page.0).collect();
    assert_eq!(used, pages);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_script_makes_the_lint_panic_or_point_outside(source in crate::script::diagnose::tests::mutated()) {
        let bench = Bench::new();
        if let Ok(ast) = bench.compile(&source) {
            for frame in check("scripts/a.rhai", &Arc::from(source.as_str()), &ast, &bench.names) {
                let text = told(&frame);
                prop_assert!(!text.contains("NOT A SPAN") && !text.contains("anon$"), "{text}");
            }
        }
    }
}

/// With a provider `stripe` and one without operations, `slack`.
fn lint_with_providers(source: &str) -> Vec<Frame> {
    let mut bench = Bench::new();
    let takes = |path: &[&str], params| Takes {
        path: path.iter().map(|name| Box::from(*name)).collect(),
        params,
        ..Takes::default()
    };
    let stripe = Tree::of([
        ("customers.create", takes(&[], true)),
        ("customers.retrieve", takes(&["id"], true)),
        ("checkout.sessions.create", takes(&[], true)),
        ("balance.retrieve", takes(&[], false)),
    ]);
    let providers = [("stripe", stripe), ("slack", Tree::default())];
    let providers = providers.map(|(name, tree)| (Arc::from(name), Arc::new(tree)));
    bench.names.providers = Arc::new(providers.into());
    for name in ["stripe", "slack"] {
        bench.scope.push_constant(name, 1_i64);
    }
    let ast = bench.compile(source).unwrap_or_else(|frame| panic!("{}", told(&frame)));
    check("scripts/a.rhai", &Arc::from(source), &ast, &bench.names)
}

#[test]
fn calls_of_providers_lead_to_operations_that_exist() {
    for source in [
        "stripe.customers.create(#{ email: 1 });",
        "let a = stripe.customers.create(#{}, #{ wait: false });",
        "stripe.customers.retrieve(\"cus\").email",
        "stripe.customers.retrieve(\"cus\")?.list[0].x;",
        "webhook(\"a\", \"b\", |event| stripe.checkout.sessions.create(#{ a: event.b }));",
        "stripe.balance.retrieve(); stripe.get(\"/v1/x\"); stripe.request(\"GET\", \"/x\", #{}).status",
        "let customers = stripe.customers; customers.create(#{})",
        "if stripe.is_healthy() { stripe.name } else { stripe.type_of() }",
        "slack.post(\"/chat.postMessage\", #{ json: #{} });",
        "let stripe = #{ charge: 1 }; stripe.charge.x;",
        "fn f(stripe) { stripe.charges.create() }",
        "stripe[\"customers\"].nope()",
    ] {
        let frames = lint_with_providers(source);
        let errors = frames.iter().filter(|frame| frame.severity == Severity::Error).count();
        assert_eq!(errors, 0, "{source}\n{}", all_told(&frames));
    }
}

#[test]
fn what_no_provider_has_is_an_error_with_the_nearest_name() {
    for (source, code, at, title, more) in [
        (
            "stripe.customer.create(#{});",
            "E0241",
            8,
            "`stripe` has no operation `customer`",
            "did you mean `stripe.customers`?",
        ),
        (
            "stripe.customers.creat(#{});",
            "E0241",
            18,
            "`stripe.customers` has no operation `creat`",
            "did you mean `stripe.customers.create`?",
        ),
        ("stripe.customers.zap(1)", "E0241", 18, "has no operation `zap`", "has: create, retrieve"),
        (
            "stripe.gett(\"/x\")",
            "E0241",
            8,
            "has no operation `gett`",
            "did you mean `stripe.get`?",
        ),
        ("stripe.customers(1)", "E0241", 8, "is a resource", ""),
        ("stripe.customers.create", "E0241", 18, "has to be called", "create([params], [options])"),
        (
            "slack.users.info()",
            "E0241",
            7,
            "`slack` has no operation `users`",
            "slack.get(\"/path\")",
        ),
        (
            "stripe.customers.retrieve()",
            "E0242",
            18,
            "does not take 0 arguments",
            "stripe.customers.retrieve(id, [params], [options])",
        ),
        ("stripe.balance.retrieve(1, 2)", "E0242", 16, "does not take 2 arguments", "([options])"),
        ("stripe.get()", "E0242", 8, "does not take 0 arguments", "stripe.get(path, [options])"),
        (
            "fn f() { g(stripe.customers.create(1, 2, 3)) } fn g(x) { x }",
            "E0242",
            29,
            "3 arguments",
            "",
        ),
    ] {
        let frames = lint_with_providers(source);
        let errors: Vec<&Frame> =
            frames.iter().filter(|frame| frame.severity == Severity::Error).collect();
        let [frame] = errors[..] else { panic!("{source}\n{}", all_told(&frames)) };
        let place = frame.place.as_ref().unwrap();
        assert_eq!(
            (frame.code, line_and_column(source, place.span.start)),
            (code, (1, at)),
            "{source}"
        );
        assert!(frame.title.contains(title), "{source}: {}", frame.title);
        let told = told(frame);
        assert!(told.contains(more), "{source}: {told}");
        // Nothing else is said of the same call.
        assert!(!frames.iter().any(|frame| frame.code == "E0216"), "{source}");
    }
}

#[test]
fn options_in_the_place_of_params_are_a_warning() {
    let check = |source: &str, expected: &[&str]| {
        let frames = lint_with_providers(source);
        let told: Vec<_> = frames.iter().filter(|frame| frame.code == "E0243").map(told).collect();
        assert_eq!(told.len(), expected.len(), "{source}");
        for (told, part) in told.iter().zip(expected) {
            assert!(told.contains(part), "{source}: {told}");
        }
    };
    let help = "options come last: `stripe.customers.create([params], [options])`";
    check("stripe.customers.create(#{ wait: false });", &[help]);
    check(
        "stripe.customers.retrieve(\"c\", #{ timeout: \"1s\", idempotency_key: \"k\" });",
        &["`timeout`, `idempotency_key` would be sent"],
    );
    check("stripe.customers.create(#{ wait: false, name: 1 });", &[]);
    check("stripe.customers.create(#{}); stripe.customers.create(#{}, #{ wait: false });", &[]);
    check("stripe.balance.retrieve(#{ wait: false });", &[]);
}

#[test]
fn every_name_in_a_descriptor_parses_after_a_dot() {
    use crate::config::ProviderKind;
    use crate::provider::descriptor::Descriptor;

    let engine = rhai::Engine::new_raw();
    for (kind, word) in ProviderKind::ALL {
        for name in Descriptor::built_in(kind).operations.keys() {
            assert!(engine.compile(format!("x.{name}(1)")).is_ok(), "{word}.{name}");
        }
    }
}
