//! What a run holds is counted exactly: what it leaves behind is a leak of its own, never noise.

use super::{Worker, check, ends, nothing, outcome};

const CYCLE: &str = "let x = #{}; let f = || x; x.f = f;";

#[test]
fn s14_cycles_of_closures_are_measured() {
    let end = ends("", &format!("for i in 0..10000 {{ {CYCLE} }} 1"), nothing);
    assert_eq!(outcome(&end), "200 1");
    assert!((4 << 20..9 << 20).contains(&end.leaked), "{} bytes", end.leaked);
}

#[test]
fn s14_what_is_left_behind_is_counted_for_the_script_also_where_nobody_waits_any_more() {
    let worker = Worker::with(super::MEMORY, 3);
    let handlers = format!(
        "get(\"/0\", |v| {{ for i in 0..100 {{ {CYCLE} }} 1 }});
         get(\"/1\", |v| {{ for i in 0..100 {{ {CYCLE} }} sleep(\"10s\"); 1 }});
         get(\"/2\", |v| {{ parallel([1, 2], |i| {{ for i in 0..50 {{ {CYCLE} }} sleep(\"10s\"); 1 }}) }});
         get(\"/3\", |v| {{ let text = \"a text of some length\"; parallel([1, 2], |i| {{ let m = #{{ a: text }}; sleep(\"10s\"); m }}) }});"
    );
    let compiled = worker.script(&handlers);
    let leaked = || compiled.script.leaked.load(std::sync::atomic::Ordering::Relaxed);
    let end = worker.end(&compiled, 0, nothing);
    assert_eq!(leaked(), end.leaked);
    for (handler, expected) in [(1, end.leaked), (2, end.leaked), (3, 0)] {
        let before = leaked();
        super::block_on(async {
            let run = worker.run(&compiled, handler, crate::script::run::Input::Made(nothing));
            let waited = tokio::time::timeout(std::time::Duration::from_millis(50), run).await;
            assert!(waited.is_err(), "it waits");
        });
        let left = leaked() - before;
        assert!(left.abs_diff(expected) <= expected / 10, "{handler}: {left} of {expected} bytes");
        worker.still_works(&compiled);
    }
}

#[test]
fn s14_runs_without_cycles_leave_not_a_byte() {
    let worker = Worker::new();
    let bodies = [
        "1",
        "#{ a: [1, 2, #{ b: \"text\" }] }",
        "\"x\".repeat_it",
        "for i in 0..100 { db.users.put(`u${i}`, #{ n: i, text: \"some text that is longer\" }); } 1",
        "for i in 0..100 { db.users.get(i); db.users.find(#{ a: i, b: #{ gte: \"x\" } }, #{ limit: 5, after: \"k\" }); } 1",
        "for i in 0..100 { db.users.increment(i, \"n\", 1); db.users.delete(i); db.users.count(); db.users.patch(i, #{ a: () }); } 1",
        "for i in 0..100 { try { db.users.get(()) } catch (err) { } } 1",
        "for i in 0..10 { log.info(\"a line\", #{ i: i, text: \"some text\" }); print(i); } uuid()",
        "let m = #{}; for i in 0..100 { m.missing; m[\"a rather long name of a field that is missing\"]; } 1",
        "v.field.that.can.not_be",
        "throw \"text\"",
        "throw #{ code: \"NOT_FOUND\", message: \"no\" }",
        "throw status(404, #{ error: \"none\" })",
        "response(#{ status: 201, headers: #{ \"x-one\": [\"a\", \"b\"] }, body: \"text\" })",
        "html(\"<p>text that is longer than a few bytes</p>\")",
        "json::parse(\"{\\\"a\\\":[1,2,3]}\")",
        "xml::text(xml::parse(`<a b='1'><c>text that is longer than a few bytes</c><c/>x</a>`), \"c\")",
        "csv::to_string(csv::parse(`a,b\n1,\"text that is longer than a few bytes\"`))",
        "jwt::verify(jwt::sign(#{ exp: now() / 1000 + 60 }, \"key\"), \"key\")",
        "parse_json(\"no\")",
        "import \"lib/a\" as a; a::twice(21)",
        "let f = |x| x * 2; [1, 2, 3].map(f)",
        "let m = #{ a: [1] }; parallel([|| m, || { sleep(\"1ms\"); m.a.len }, || uuid()]).len",
        "let m = #{ a: [1] }; parallel([1, 2, 3], |i| { parallel([1, 2], |k| { sleep(\"1ms\"); m.a[0] + i + k }) }, #{ limit: 2 }).len",
        "try { parallel([|| { sleep(\"1ms\"); throw \"a long enough text\" }, || throw #{ a: [1] }]); } catch (err) { return err; }",
        "parallel([1, 2], |i| throw \"text\")",
        "parallel([1, 2], || 1)",
        "sleep(\"1ms\"); [time::format(now()), hash::sha256(\"x\"), base64::encode(\"x\")].len",
    ];
    let bodies =
        bodies.map(|body| body.replace("\"x\".repeat_it", "let s = \"\"; s.pad(100000, 'x'); s"));
    let handlers: String = bodies
        .iter()
        .enumerate()
        .map(|(n, body)| format!("get(\"/{n}\", |v| {{ {body} }});\n"))
        .collect();
    let compiled = worker.script_with(&handlers, &[("lib/a.rhai", "fn twice(x) { x * 2 }")]);
    for (n, body) in bodies.iter().enumerate() {
        for time in ["first", "second"] {
            let end = worker.end(&compiled, n, nothing);
            assert_eq!(end.leaked, 0, "{time}: {body}: {}", outcome(&end));
        }
    }
}

#[test]
fn s12_s13_a_cycle_is_an_error_or_bounded_text_everywhere() {
    let cases = [
        ("x.to_json()", "a function cannot be JSON"),
        ("x", "a function cannot be JSON"),
        ("db.things.put(\"a\", x)", "a function cannot be JSON"),
        ("throw x", "f"),
        ("x == x", "a function cannot be compared"),
        ("json::stringify(x)", "a function cannot be JSON"),
    ];
    for (act, part) in cases {
        super::check_thrown("", &format!("{CYCLE} {act}"), part);
    }
    for act in ["print(x); 1", "x.to_string(); 1", "`${x}`; 1", "switch x { 1 => 2, _ => 1 }"] {
        check("", &format!("{CYCLE} {act}"), "200 1");
    }
}
