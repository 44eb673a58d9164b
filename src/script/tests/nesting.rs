//! Values nested as deep as the budget allows, through every operation that walks one.

use rhai::{Dynamic, FnPtr, Map};

use super::{Worker, ends, outcome};

fn arrays<const LEVELS: usize>() -> Dynamic {
    (0..LEVELS).fold(Dynamic::UNIT, |inner, _| Dynamic::from_array(vec![inner]))
}

fn maps<const LEVELS: usize>() -> Dynamic {
    (0..LEVELS).fold(Dynamic::UNIT, |inner, _| {
        let mut map = Map::new();
        map.insert("x".into(), inner);
        map.into()
    })
}

fn curried<const LEVELS: usize>() -> Dynamic {
    (0..LEVELS).fold(Dynamic::UNIT, |inner, _| {
        let mut function = FnPtr::new("g").unwrap();
        function.add_curry(inner);
        function.into()
    })
}

/// One operation each.
const OPERATIONS: [&str; 42] = [
    "let w = v; 1",
    "let w = v; w = v; 1",
    "g(v); 1",
    "let f = || v; f.call(); 1",
    "let f = |x| x; f.call(v); 1",
    "for x in [v] { } 1",
    "for x in 0..2 { let w = v; } 1",
    "switch v { 1 => 2, _ => 1 }",
    "switch 1 { 1 => v, _ => 1 } 1",
    "try { throw v; } catch (e) { } 1",
    "throw v",
    "v",
    "return v",
    "const C = v; 1",
    "let a = [v, 1]; a.sort(|x, y| 0); 1",
    "let a = [v, v]; a.len",
    "let a = [1]; a.push(v); a.pop(); 1",
    "let a = [1]; a += [v]; a.len",
    "let a = [v]; a.map(|x| x); 1",
    "let a = [v]; a.filter(|x| true).len",
    "let a = [v, v]; a.reverse(); 1",
    "let a = [v]; a.insert(0, v); 1",
    "let a = [v]; a.index_of(v)",
    "let a = [v]; a.contains(1)",
    "let m = #{ k: v }; m.k; 1",
    "let m = #{ k: v }; m.keys().len",
    "let m = #{ k: v }; m.values().len",
    "let m = #{}; m += #{ k: v }; 1",
    "`${v}`.len",
    "\"a\" + v; 1",
    "print(v); 1",
    "to_string(v).len",
    "to_debug(v).len",
    "type_of(v)",
    "v == v",
    "v != 1",
    "let w = take(v); 1",
    "v ?? 1; 1",
    "if v is_it { 1 } else { 2 }",
    "let f = Fn(\"g\").curry(v); f.call(); 1",
    "[v].to_json()",
    "db.things.put(\"a\", #{ v: v })",
];

#[test]
fn s6_no_operation_on_a_deep_value_ends_the_process() {
    let worker = Worker::new();
    let handlers: String = OPERATIONS
        .iter()
        .enumerate()
        .map(|(n, body)| {
            format!("get(\"/{n}\", |v| {{ {} }});\n", body.replace("v is_it", "v == ()"))
        })
        .collect();
    let compiled = worker.script(&format!("fn g(x) {{ 1 }}\n{handlers}"));
    let makes = [arrays::<100_000> as fn() -> Dynamic, maps::<60_000>, curried::<260_000>];
    for (n, body) in OPERATIONS.iter().enumerate() {
        for make in makes {
            let outcome = outcome(&worker.end(&compiled, n, make));
            assert!(outcome != "panicked" && outcome != "runaway", "{outcome}: {body}");
        }
    }
}

#[test]
fn s7_comparing_deep_values_is_an_error_that_names_the_depth() {
    for body in ["v == w", "v != w", "[v].contains(w)", "w in [v]", "[v].index_of(w)"] {
        for make in [arrays::<20_000> as fn() -> Dynamic, maps::<12_000>] {
            let outcome = outcome(&ends("", &format!("let w = v; {body}"), make));
            assert!(outcome.contains("nested deeper than 128"), "{body}: {outcome}");
        }
    }
    let outcome = outcome(&ends("", "let a = [v, v]; a.dedup(); a.len", arrays::<20_000>));
    assert!(outcome.contains("nested deeper than 128"), "{outcome}");
}

#[test]
fn s8_text_of_a_deep_value_is_cut_and_never_fails() {
    for body in ["v.to_string()", "to_debug(v)", "`${v}`", "\"a\" + v"] {
        for make in [arrays::<50_000> as fn() -> Dynamic, maps::<30_000>] {
            let outcome = outcome(&ends("", body, make));
            assert!(outcome.starts_with("200 ") && outcome.contains('…'), "{body}: {outcome:.200}");
            assert!(outcome.len() < 1 << 20, "{body}");
        }
    }
    let nuls = "let s = \"\"; s.pad(6000000, '\\x00'); let m = [s]; m.to_string().len <= 1100000";
    assert_eq!(outcome(&ends("", nuls, super::nothing)), "200 true");
}

#[test]
fn s9_a_deep_value_that_would_leave_the_run_is_an_error_that_names_the_depth() {
    for body in
        ["return v;", "v", "status(200, v)", "throw status(200, v)", "db.a.put(1, #{ v: v })"]
    {
        for make in [arrays::<100_000> as fn() -> Dynamic, maps::<60_000>] {
            let outcome = outcome(&ends("", body, make));
            assert!(
                outcome == "Memory" || outcome.contains("nested deeper than 127"),
                "{body}: {outcome:.200}"
            );
        }
    }
    for body in ["throw v", "const C = v; 1"] {
        let outcome = outcome(&ends("", body, arrays::<50_000>));
        assert!(outcome.starts_with("thrown") || outcome == "200 1", "{body}: {outcome:.200}");
    }
}
