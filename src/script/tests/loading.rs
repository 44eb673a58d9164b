//! What the loader lets through, and what it says of the rest.

use super::{Worker, candidate, nothing, outcome};
use crate::script::load::Loader;

/// What the loader refuses, in its own words; empty where it loads.
fn refused_with(source: &str, modules: &[(&str, &str)]) -> String {
    match Loader::new(super::MEMORY).load(&candidate(source, modules)).script {
        Ok(_) => String::new(),
        Err(frames) => frames.iter().map(|frame| frame.render(false)).collect(),
    }
}

fn check_refused(source: &str, part: &str) {
    let said = refused_with(source, &[]);
    assert!(said.contains(part), "{part:?} is not in: {said:.600}\n{source:.200}");
}

#[test]
fn s10_a_top_level_that_leaves_something_deep_is_refused() {
    let deep = "let m = []; for i in 0..300 { m = [m]; }";
    check_refused(&format!("{deep} const C = m; get(\"/\", |req| 1);"), "deeper than 127");
    check_refused(
        &format!("fn f(m, req) {{ 1 }} {deep} get(\"/\", Fn(\"f\").curry(m));"),
        "deeper than 127",
    );
    let many = "let m = 1; for i in 0..20000 { m = Fn(\"f\").curry(take(m)); }";
    check_refused(&format!("fn f(m) {{ 1 }} {many} const C = m;"), "scripts/test.rhai");
    assert_eq!(refused_with("const C = [[[1]]]; get(\"/\", |req| C);", &[]), "");
}

#[test]
fn s34_s36_sources_that_are_too_much_to_compile_are_refused_in_time() {
    let parameters: Vec<String> = (0..9000).map(|n| format!("p{n}")).collect();
    let lets: String = (0..4500).map(|n| format!("let v{n} = 1;")).collect();
    for source in [
        // Blanks and comments before the first token must not keep the deadline from counting.
        format!("\n  // a comment\n fn f({}) {{ 1 }}", parameters.join(",")),
        format!("get(\"/\", |req| {{ {lets} 1 }});"),
    ] {
        let started = crate::clock::instant();
        let said = refused_with(&source, &[]);
        let took = crate::clock::instant() - started;
        assert!(said.is_empty() || said.contains("compiling"), "{said:.400}");
        assert!(took < std::time::Duration::from_secs(10), "{took:?}");
    }
    for (open, close) in
        [("(", ")"), ("[", "]"), ("!", ""), ("|| {", "}"), ("try {", "} catch {}"), ("{", "}")]
    {
        let source = format!("get(\"/\", |req| {}1{});", open.repeat(5000), close.repeat(5000));
        assert!(!refused_with(&source, &[]).is_empty(), "{open}");
    }
    let functions: String = (0..501).map(|n| format!("fn f{n}() {{ 1 }}\n")).collect();
    check_refused(&functions, "500");
}

#[test]
fn s29_a_module_that_imports_itself_is_an_error() {
    let modules = [
        ("lib/a.rhai", "import \"lib/b\" as b; fn f() { 1 }"),
        ("lib/b.rhai", "import \"lib/a\" as a; fn g() { 1 }"),
    ];
    let said = refused_with("import \"lib/a\" as a; get(\"/\", |req| a::f());", &modules);
    assert!(said.contains("imports itself"), "{said}");
}

#[test]
fn a_module_is_loaded_once_however_many_runs_import_it() {
    let worker = Worker::new();
    let modules =
        [("lib/a.rhai", "const RATE = 3; fn times(x) { x * 3 } private fn secret() { 7 }")];
    let compiled = worker.script_with(
        "get(\"/\", |v| { import \"lib/a\" as a; a::times(14) });
         get(\"/name\", |v| { let name = \"lib/\" + \"a\"; import name as a; a::times(14) });
         get(\"/secret\", |v| { import \"lib/a\" as a; Fn(\"a::secret\").call() });
         get(\"/none\", |v| { let name = \"lib/../../etc/passwd\"; import name as a; 1 });",
        &modules,
    );
    for _time in 0..2 {
        assert_eq!(outcome(&worker.end(&compiled, 0, nothing)), "200 42");
        assert_eq!(outcome(&worker.end(&compiled, 1, nothing)), "200 42");
        for handler in [2, 3] {
            assert!(outcome(&worker.end(&compiled, handler, nothing)).starts_with("thrown"));
        }
    }
}

#[test]
fn s37_a_module_that_does_not_compile_never_reaches_a_worker() {
    let modules = [("lib/bad.rhai", "fn f( { }"), ("lib/good.rhai", "fn f() { 1 }")];
    let said = refused_with("get(\"/\", |req| { import \"lib/bad\" as b; b::f() });", &modules);
    assert!(said.contains("lib/bad.rhai"), "{said}");
    let worker = Worker::new();
    let compiled =
        worker.script_with("get(\"/\", |v| { let n = \"lib/bad\"; import n as b; 1 });", &modules);
    assert_eq!(compiled.script.modules.len(), 1);
    assert!(outcome(&worker.end(&compiled, 0, nothing)).starts_with("thrown"));
}

#[test]
fn s37_the_top_level_of_a_module_ends_a_run_that_it_keeps() {
    let mut worker = Worker::new();
    worker.limits.cpu = std::time::Duration::from_millis(50);
    let compiled = worker.script_with(
        "get(\"/\", |v| { import \"lib/loops\" as l; 1 });
         get(\"/asks\", |v| { import \"lib/asks\" as l; 1 });",
        &[("lib/loops.rhai", "loop {}"), ("lib/asks.rhai", "let x = db.users.get(1);")],
    );
    assert_eq!(outcome(&worker.end(&compiled, 0, nothing)), "Cpu");
    assert!(outcome(&worker.end(&compiled, 1, nothing)).contains("cannot run while"));
    assert_eq!(
        outcome(&worker.end(&compiled, 0, nothing)),
        "Cpu",
        "and again, not `imports itself`"
    );
}

#[test]
fn handlers_may_be_closures_named_functions_and_pointers() {
    let worker = Worker::new();
    let compiled = worker.script(
        "const BASE = 40;
         fn save(v) { twice(21) }
         fn twice(x) { x * 2 }
         fn bound(by, v) { by + 2 }
         get(\"/a\", |v| twice(21));
         get(\"/b\", Fn(\"save\"));
         get(\"/c\", save);
         get(\"/d\", Fn(\"bound\").curry(40));
         get(\"/e\", |v| BASE + 2);",
    );
    for handler in 0..5 {
        assert_eq!(outcome(&worker.end(&compiled, handler, nothing)), "200 42", "{handler}");
    }
}

#[test]
fn s39_a_top_level_that_does_more_than_register_is_refused_with_its_line() {
    for (act, part) in [
        ("loop {}", "runs for too long"),
        ("sleep(\"1s\");", "cannot run while"),
        ("let t = now();", "cannot run while"),
        ("let t = uuid();", "cannot run while"),
        ("db.users.put(1, #{});", "cannot run while"),
        ("let x = [3, 1]; x.sort(|a, b| { loop {} });", "runs for too long"),
    ] {
        check_refused(&format!("get(\"/\", |req| 1);\n{act}"), part);
    }
}
