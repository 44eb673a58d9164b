//! Scripts that build without end, in one operation or in many.

use super::{Worker, check, ends, is_limit, outcome};
use crate::script::tests::nothing;

/// Each must end at a limit of the product's own, and within four times the budget.
fn check_all(functions: &str, bodies: &[&str]) {
    let worker = Worker::new();
    let handlers: String = bodies
        .iter()
        .enumerate()
        .map(|(n, body)| format!("get(\"/{n}\", |v| {{ {body} }});\n"))
        .collect();
    let compiled = worker.script(&format!("{functions}\n{handlers}"));
    for (n, body) in bodies.iter().enumerate() {
        let end = worker.end(&compiled, n, nothing);
        assert_eq!(outcome(&end), "Memory", "{body}");
        assert_eq!(end.leaked, 0, "{body}");
    }
}

#[test]
fn s2_s3_values_nested_by_a_loop_end_at_a_budget() {
    for body in [
        "let m = []; loop { m = [take(m)]; }",
        "let m = #{}; loop { m = #{ x: take(m) }; }",
        "let m = #{}; loop { let n = #{}; n[\"x\"] = take(m); m = n; }",
        "let m = []; loop { let n = []; n.push(take(m)); m = n; }",
        "let m = []; loop { m = #{ x: [take(m)] }; }",
    ] {
        let mut worker = Worker::new();
        worker.limits.cpu = std::time::Duration::from_millis(250);
        let compiled = worker.script(&format!("get(\"/\", |v| {{ {body} }});"));
        let end = worker.end(&compiled, 0, nothing);
        assert!(is_limit(&end), "{}: {body}", outcome(&end));
        assert_eq!(end.leaked, 0, "{body}");
    }
}

#[test]
fn s4_curried_and_captured_values_end_at_the_memory_budget() {
    check_all(
        "fn g(x) {} fn mk(m) { || m }",
        &[
            "let m = 1; loop { m = Fn(\"g\").curry(take(m)); }",
            "let m = 1; loop { m = mk(take(m)); }",
        ],
    );
}

#[test]
fn s5_containers_are_bounded_by_their_number() {
    check_all("fn g(x) {}", &["let m = 1; loop { m = [Fn(\"g\").curry(take(m))]; }"]);
}

#[test]
fn s15_s16_one_operation_that_would_build_too_much_ends_before_it_does() {
    check_all(
        "",
        &[
            "let s = \"a\"; s.pad(1048576, 'a'); let r = \"b\"; r.pad(1048576, 'b'); s.replace(\"a\", r); s.len",
            "let b = []; b.pad(20000, 1); let a = []; a.pad(100000, b); a.len",
            "let s = \"\"; s.pad(2000000000, 'x'); s.len",
            "let a = []; a.pad(2000000000, 1); a.len",
            "let b = blob(1); b.pad(2000000000, 1); b.len",
            "blob(2000000000).len",
        ],
    );
}

#[test]
fn s17_splitting_what_fits_into_what_does_not_ends_at_the_budget() {
    let bytes = "let s = \"\"; s.pad(4194304, ',');";
    for act in [
        "s.split(\"\").len",
        "s.split(\",\").len",
        "s.split(\",\", 4000000).len",
        "s.to_chars().len",
    ] {
        check("", &format!("{bytes} {act}"), "Memory");
    }
    check("", "let b = blob(8388608); b.to_array().len", "Memory");
}

#[test]
fn s18_s19_doubling_ends_at_the_budget() {
    check_all(
        "fn f(a, b, c, d, e) { 1 }",
        &[
            "let s = \"x\"; loop { s += s; }",
            "let s = \"x\"; loop { s = s + s; }",
            "let a = [1]; loop { a += a; }",
            "let s = \"\"; s.pad(8000000, 'x'); let t = `${s}${s}${s}${s}${s}${s}${s}`; t.len",
            "let a = []; a.pad(300000, 1); let b = [a, a, a, a, a, a, a, a]; b.len",
            "let a = []; a.pad(400000, 1); f(a, a, a, a, a)",
        ],
    );
}

#[test]
fn s20_json_ends_at_the_budget_before_it_is_allocated_and_at_the_depth() {
    check(
        "",
        "let s = \"\"; s.pad(8000000, '\\x00'); let m = #{ s: s }; m.to_json().len",
        "Memory",
    );
    check("", "let s = \"[1\"; s.pad(8000000, \",1\"); parse_json(s + \"]\").len", "Memory");
    let end = ends("", "let s = \"\"; s.pad(1000000, '['); parse_json(s)", nothing);
    assert!(outcome(&end).contains("nested deeper than 127"), "{}", outcome(&end));
}
