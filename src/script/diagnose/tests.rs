//! What a script author sees: one row per mistake, from the source to the code, the place and the hint. `Bench` is a host small enough
//! to read: it compiles, registers handlers and calls them as the real one does.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use proptest::prelude::*;
use rhai::module_resolvers::StaticModuleResolver;
use rhai::{
    AST, Dynamic, Engine, EvalAltResult, FnPtr, LexError, Map, Module, NativeCallContext,
    OptimizationLevel, Position, Scope, Token,
};

use super::*;
use crate::script::Ending;

const LIBRARY: &str = "const HIDDEN = 1;\nexport const SHOWN = 2;\nfn field(x) {\n    x.a.b\n}\nprivate fn secret() { 1 }\n";

/// A small host.
pub(in crate::script) struct Bench {
    pub(in crate::script) engine: Engine,
    pub(in crate::script) scope: Scope<'static>,
    pub(in crate::script) names: Names,
    handlers: Rc<RefCell<Vec<FnPtr>>>,
}

impl Bench {
    pub(in crate::script) fn new() -> Self {
        let mut engine = Engine::new();
        engine.set_strict_variables(true);
        engine.set_optimization_level(OptimizationLevel::None);
        engine.set_max_expr_depths(64, 64);
        engine.set_max_call_levels(64);
        engine.set_max_functions(500);
        engine.set_max_operations(20_000);
        engine.disable_symbol("eval");
        let handlers: Rc<RefCell<Vec<FnPtr>>> = Rc::default();
        let kept = Rc::clone(&handlers);
        engine.register_fn("webhook", move |_: &str, _: &str, f: FnPtr| kept.borrow_mut().push(f));
        let kept = Rc::clone(&handlers);
        engine.register_fn("get", move |_: &str, f: FnPtr| kept.borrow_mut().push(f));
        engine.register_fn("charge", |amount: i64, _currency: &str, _options: Map| amount);
        engine.register_fn("status", |code: i64| code);
        engine.register_fn("status", |code: i64, _body: Dynamic| code);
        engine.register_fn("save_all", |_: rhai::Array| ());
        engine.register_fn("parallel", |closures: rhai::Array| closures);
        engine.register_fn("parallel", |list: rhai::Array, _: FnPtr| list);
        engine.register_fn("trace", |_: &mut Map, _: &str| ());
        engine.register_fn("info", |_: &mut Map, _: &str| ());
        engine.register_fn("put", |_: &mut i64, _: &str, _: Map| ());
        engine.register_fn("twice", |context: NativeCallContext<'_>, f: FnPtr| {
            f.call_within_context::<Dynamic>(&context, (1_i64,))
        });
        engine.register_fn("fail", || -> Result<i64, Box<EvalAltResult>> {
            let mut map = Map::new();
            map.insert("code".into(), "RATE_LIMIT_EXCEEDED".into());
            map.insert("message".into(), "slow down".into());
            map.insert("status".into(), 429_i64.into());
            Err(EvalAltResult::ErrorRuntime(map.into(), Position::NONE).into())
        });
        let mut json = Module::new();
        json.set_native_fn("parse", |text: &str| Ok(text.len().to_string()));
        engine.register_static_module("json", json.into());

        // Ours are declared while compiling and resolved while running, so that no closure shares them.
        #[expect(deprecated, reason = "rhai calls its own hook volatile, not obsolete")]
        engine.on_var(|name, _, context| {
            Ok(match name {
                _ if context.scope().contains(name) => None,
                "db" => Some(1_i64.into()),
                "log" | "vars" => Some(Map::new().into()),
                _ => None,
            })
        });
        let mut scope = Scope::new();
        scope.push_constant("db", 1_i64);
        scope.push_constant("log", Map::new());
        scope.push_constant("vars", Map::new());

        let mut names = Names::of(&engine, &scope);
        let mut library = engine.compile(LIBRARY).unwrap();
        library.set_source("scripts/lib/x.rhai");
        names.imports.insert("lib/x".into(), Exports::of(&library));
        let mut resolver = StaticModuleResolver::new();
        resolver.insert("lib/x", Module::eval_ast_as_new(Scope::new(), &library, &engine).unwrap());
        engine.set_module_resolver(resolver);
        Self { engine, scope, names, handlers }
    }

    pub(in crate::script) fn compile(&self, source: &str) -> Result<AST, Box<Frame>> {
        match self.engine.compile_with_scope(&self.scope, source) {
            Ok(mut ast) => {
                ast.set_source("scripts/a.rhai");
                Ok(ast)
            }
            Err(error) => Err(Box::new(compile_error(
                "scripts/a.rhai",
                &Arc::from(source),
                &error,
                &self.names,
            ))),
        }
    }

    /// Runs the set-up phase.
    pub(in crate::script) fn set_up(
        &mut self,
        ast: &AST,
    ) -> Result<Vec<FnPtr>, Box<EvalAltResult>> {
        let module = Module::eval_ast_as_new(Scope::new(), ast, &self.engine)?;
        self.engine.register_global_module(module.into());
        Ok(self.handlers.take())
    }

    /// What an author sees who saves this script and lets an event arrive.
    pub(in crate::script) fn first_frame(
        mut self,
        source: &str,
        circumstances: &Circumstances,
    ) -> Option<Frame> {
        let ast = match self.compile(source) {
            Ok(ast) => ast,
            Err(frame) => return Some(*frame),
        };
        let error = match self.set_up(&ast) {
            Err(error) => error,
            Ok(handlers) => handlers.iter().find_map(|handler| {
                handler.call::<Dynamic>(&self.engine, &AST::empty(), (event(),)).err()
            })?,
        };
        let script: Arc<str> = Arc::from(source);
        let path_of = |source: Option<&str>| match source {
            None | Some("scripts/a.rhai") => {
                Some(("scripts/a.rhai".to_owned(), Arc::clone(&script)))
            }
            Some("scripts/lib/x.rhai") => {
                Some(("scripts/lib/x.rhai".to_owned(), Arc::from(LIBRARY)))
            }
            Some(_) => None,
        };
        Some(run_error(&path_of, &error, &self.names, circumstances))
    }
}

/// What handlers get.
fn event() -> Map {
    let mut data = Map::new();
    data.insert("id".into(), "u1".into());
    data.insert("total".into(), 5_i64.into());
    data.insert("list".into(), rhai::Array::new().into());
    data.insert("name".into(), "Ada".into());
    data.insert("emails".into(), rhai::Array::new().into());
    data.insert("count".into(), 0_i64.into());
    let mut event = Map::new();
    event.insert("data".into(), data.into());
    event
}

/// A frame as plain text, for assertions on everything at once.
pub(in crate::script) fn told(frame: &Frame) -> String {
    let mut text = format!("{}: {}", frame.code, frame.title);
    if let Some(place) = &frame.place {
        let (line, column) = line_and_column(&place.source, place.span.start);
        let marked = place.source.get(place.span.clone()).unwrap_or("NOT A SPAN");
        text += &format!("\n  at {}:{line}:{column} `{marked}` {}", place.path, place.label);
    }
    for help in &frame.help {
        text += &format!("\n  help: {help}");
    }
    for note in &frame.notes {
        text += &format!("\n  note: {note}");
    }
    text
}

fn frame_of(source: &str) -> Frame {
    Bench::new().first_frame(source, &Circumstances::default()).expect("the row has a mistake")
}

/// `at` is `line:column` of the first marked byte; title and help need only contain the text.
#[track_caller]
fn check(source: &str, code: &str, at: &str, title: &str, help: &str) {
    let frame = frame_of(source);
    let text = told(&frame);
    assert_eq!(frame.code, code, "{text}");
    let place = frame.place.as_ref().unwrap_or_else(|| panic!("no place: {text}"));
    let (line, column) = line_and_column(&place.source, place.span.start);
    assert_eq!(format!("{line}:{column}"), at, "{text}");
    assert!(frame.title.contains(title), "{text}");
    assert!(help.is_empty() || frame.help.iter().any(|line| line.contains(help)), "{text}");
    assert!(
        !text.contains("anon$") && !text.contains("i64") && !text.contains("ImmutableString"),
        "{text}"
    );
}

/// The body of a handler that gets `event`.
#[track_caller]
fn check_handler(body: &str, code: &str, at: &str, title: &str, help: &str) {
    check(&format!("webhook(\"w\", \"*\", |event| {{\n{body}\n}});"), code, at, title, help);
}

#[test]
fn a_missing_semicolon_is_shown_at_the_end_of_the_line_that_lacks_it() {
    check("let a = 1\nlet b = 2;", "E0204", "1:10", "missing `;`", "");
    check(
        "fn f() {\n    let a = g(1) // why\n\n    let b = 2;\n}\nfn g(x) {}",
        "E0204",
        "2:17",
        "missing `;`",
        "",
    );
    check("return 1 2;", "E0204", "1:9", "missing `;`", "");
    check("let x = function() { 1 };", "E0204", "1:19", "missing `;`", "a closure is written `|x|");
    check("let x = function(a) { a };", "E0202", "1:18", "`a`", "a closure is `|x| …`");
    check("let a = 1 }", "E0204", "1:11", "closes nothing", "");
}

#[test]
fn s38_columns_are_right_in_a_source_with_crlf() {
    check("let a = 1\r\nlet b = 2;", "E0204", "1:10", "missing `;`", "");
    check("let ä = 1;", "E0204", "1:5", "unexpected `ä`", "");
    check("let a = \"ä\";\r\nlet b = a + yy;\r\n", "E0202", "2:13", "`yy`", "");
}

#[test]
fn a_call_that_does_not_fit_shows_what_exists() {
    check_handler(
        "charge(1, \"usd\")",
        "E0301",
        "2:1",
        "`charge` does not take (int, string)",
        "charge(int, string, map) -> int",
    );
    check_handler(
        "charg(1)",
        "E0301",
        "2:1",
        "no function `charg` (int)",
        "did you mean `charge`?",
    );
    check_handler(
        "\"5\".to_int()",
        "E0301",
        "2:5",
        "`to_int` does not take (string)",
        "`parse_int`",
    );
    check_handler(
        "event.data.list.lenght()",
        "E0301",
        "2:17",
        "`lenght` (array)",
        "did you mean `len`?",
    );
    check_handler("event.data.list.forEach(|x| x)", "E0301", "2:17", "`forEach`", "`for_each`");
    check_handler("let f = |a| a; f(2)", "E0301", "2:16", "no function `f` (int)", "`f.call(…)`");
    check_handler(
        "let f = |a| a; f.call(1, 2)",
        "E0301",
        "2:18",
        "called with 2 arguments",
        "(int, int)",
    );
    check(
        "fn save(a, b) { a }\nsave(1);",
        "E0301",
        "2:1",
        "`save` does not take (int)",
        "save(a, b)",
    );
    check(
        "import \"lib/x\" as x;\nx::secret();",
        "E0301",
        "2:4",
        "no function `x::secret`",
        "`private`",
    );
    check(
        "json::pars(\"1\");",
        "E0301",
        "1:7",
        "no function `json::pars` (string)",
        "did you mean `json::parse`?",
    );
    check("log.inf(\"x\");", "E0301", "1:5", "no function `inf` (map, string)", "");
}

#[test]
fn a_field_of_what_is_absent_names_the_field_before() {
    check_handler(
        "event.data.usr.b",
        "E0302",
        "2:12",
        "`usr` is missing in `event.data`",
        "use `?.` or `??`: `event.data.usr?.b`",
    );
    check_handler("event.data.usr.b = 1;", "E0302", "2:12", "`usr` is missing in `event.data`", "");
    check_handler(
        "event.data.usr.trim();",
        "E0302",
        "2:12",
        "`usr` is missing in `event.data`",
        "`event.data.usr?.trim()`",
    );
    check_handler(
        "event.data.rows[0]",
        "E0302",
        "2:12",
        "`rows` is missing in `event.data`",
        "`event.data.rows?[…]`",
    );
    check_handler("let x = ();\nx.name", "E0302", "3:1", "`x` is `()`", "`x?.name`");
    check_handler("event[\"a\"][\"b\"]", "E0302", "2:1", "`event[\"a\"]` is `()`", "`??`");
    check_handler("`a ${event.usr.b}`", "E0302", "2:12", "`usr` is missing in `event`", "");
    check_handler("if 1 in event.rows { }", "E0302", "2:6", "`in` looks into `()`", "?? []");
    check_handler(
        "event.data.name.first",
        "E0306",
        "2:17",
        "a string has no field `first`",
        "json::parse",
    );
}

#[test]
fn s30_a_closure_that_uses_what_is_being_used_is_told_to_copy() {
    let body =
        "let user = #{ xs: [#{ id: 1 }], primary: 1 };\nuser.xs.find(|e| e.id == user.primary)";
    check_handler(
        body,
        "E0304",
        "3:9",
        "the closure uses `user`",
        "copy the field to a `let` first",
    );
    let source = format!("fn save(x) {{\n{body}\n}}\nwebhook(\"w\", \"*\", |event| save(event));");
    check(&source, "E0304", "3:9", "the closure uses `user`", "`let`");
}

#[test]
fn a_reserved_word_is_told_how_to_be_written() {
    check(
        "let x = #{};\nx.default",
        "E0205",
        "2:3",
        "`default` is a reserved word",
        "write `x[\"default\"]`",
    );
    check("let x = #{};\nx.a.match = 1", "E0205", "2:5", "`match`", "write `x.a[\"match\"]`");
    check("let x = #{};\nx.if", "E0205", "2:3", "`if`", "write `x[\"if\"]`");
    check("let x = #{};\nx?.new", "E0205", "2:4", "`new`", "write `x?[\"new\"]`");
    check("let x = #{ default: 1 };", "E0205", "1:12", "`default`", "\"default\": …");
    check("let x = #{ a: 1, in: 1 };", "E0205", "1:18", "`in`", "\"in\": …");
    check("let x = null;", "E0205", "1:9", "`null`", "JSON's null is `()`");
    check("var x = 1;", "E0205", "1:1", "`var`", "write `let`");
    check("let x = await charge();", "E0205", "1:9", "`await`", "waits by itself");
    check("let if = 1;", "E0205", "1:5", "`if`", "another name");
    check("let x = eval(\"1\");", "E0205", "1:9", "`eval`", "cannot compile text");
    check("@", "E0204", "1:1", "`@` means nothing", "");
    check("log.debug(\"x\");", "E0205", "1:5", "`debug`", "write `log.trace`");
}

#[test]
fn a_variable_inside_a_fn_is_told_of_global() {
    check(
        "const NAME = 1;\nfn f() { NAME }",
        "E0202",
        "2:10",
        "`NAME` is not defined",
        "write `global::NAME`, or pass it in",
    );
    check("let name = 1;\nfn f() { name }", "E0202", "2:10", "`name`", "const name = …");
    check("fn f() { global::NOPE }\nf();", "E0303", "1:10", "`global::NOPE`", "`const NOPE = …;`");
    check(
        "let N = 1;\nfn f() { global::N }\nf();",
        "E0303",
        "2:10",
        "`global::N`",
        "only constants",
    );
}

#[test]
fn an_undefined_variable_finds_the_one_that_was_meant() {
    check(
        "let total = 1;\nlet x = totl + 1;",
        "E0202",
        "2:9",
        "`totl` is not defined",
        "did you mean `total`?",
    );
    check("lgo.info(1);", "E0202", "1:1", "`lgo`", "did you mean `log`?");
    check("y = 1;", "E0202", "1:1", "`y`", "let y = …");
    check("let x = undefined;", "E0202", "1:9", "`undefined`", "write `()`");
    check("console.log(1);", "E0202", "1:1", "`console`", "log.info");
    check("let x = json.parse(\"1\");", "E0202", "1:9", "`json`", "`json::function(…)`");
    check("let a = { b: 1 };", "E0202", "1:11", "`b`", "`#{ key: value }`");
    check("let f = (x) => x;", "E0202", "1:10", "`x`", "`|x| …`");
    check("function f() {}", "E0202", "1:1", "`function`", "write `fn name(x)");
    check("let a = zzzzzzz;", "E0202", "1:9", "`zzzzzzz`", "`db`, `log`, `vars`");
    check("jsn::parse(1);", "E0203", "1:1", "no module `jsn`", "did you mean `json`?");
    check("x::field(1);", "E0203", "1:1", "no module `x`", "import \"lib/x\" as x;");
    check(
        "fn f() { x::field(1) }\nimport \"lib/x\" as x;",
        "E0203",
        "1:10",
        "no module `x`",
        "move it to the top",
    );
    check("db::get(1);", "E0203", "1:1", "no module `db`", "with a dot");
}

#[test]
fn a_fn_given_before_it_is_defined_is_told_of_a_closure() {
    check(
        "webhook(\"x\", \"*\", save);\nfn save(event) {}",
        "E0202",
        "1:19",
        "`save` is not defined",
        "`|event| save(event)`, or move the `fn` up",
    );
    check(
        "webhook(\"x\", \"*\", svae);\nfn save(event) {}",
        "E0202",
        "1:19",
        "`svae`",
        "did you mean `save`?",
    );
}

#[test]
fn limits_name_their_value_and_their_key() {
    let limits =
        Limits { cpu_budget: "250ms".into(), memory_budget: "32MiB".into(), timeout: "60s".into() };
    let rows = [
        (Ending::Cpu, "CPU budget of 250ms", "`cpu_budget`"),
        (Ending::Memory, "memory budget of 32MiB", "`memory_budget`"),
        (Ending::Timeout, "time limit of 60s", "`timeout`"),
        (Ending::Idle, "nothing for 60 s", "out.event"),
        (Ending::Stack, "64 levels", "calls itself"),
        (Ending::Cancelled, "nobody waits", ""),
    ];
    for (ending, title, help) in rows {
        let circumstances = Circumstances { ending: Some(ending), limits: limits.clone() };
        let source = "webhook(\"w\", \"*\", |event| { let i = 0; loop { i += 1; } });";
        let frame = Bench::new().first_frame(source, &circumstances).unwrap();
        let text = told(&frame);
        assert_eq!(frame.code, "E0305", "{text}");
        assert!(frame.title.contains(title), "{text}");
        assert!(help.is_empty() || frame.help.iter().any(|line| line.contains(help)), "{text}");
    }
    check_handler(
        "let i = 0;\nwhile i < i + 1 { i += 1; }",
        "E0305",
        "3:1",
        "CPU budget is used up",
        "cpu_budget",
    );
    check("fn f(x) { f(x + 1) }\nf(1);", "E0305", "2:1", "64 levels", "");
}

#[test]
fn a_run_that_was_ended_elsewhere_says_so() {
    let path_of = |_: Option<&str>| Some(("scripts/a.rhai".to_owned(), Arc::from("let a = 1;")));
    let error = EvalAltResult::ErrorTerminated("x".into(), Position::new(1, 5));
    let frame = run_error(&path_of, &error, &Names::default(), &Circumstances::default());
    assert_eq!(
        told(&frame),
        "E0305: the run was ended from outside\n  at scripts/a.rhai:1:5 `a` it was here"
    );
}

#[test]
fn only_what_a_module_exports_is_seen() {
    check(
        "import \"lib/x\" as x;\nlet y = x::HIDDEN;",
        "E0303",
        "2:9",
        "`x::HIDDEN`",
        "`export const HIDDEN = …;`",
    );
    check(
        "import \"lib/z\" as z;",
        "E0309",
        "1:8",
        "no file to import as `lib/z`",
        "did you mean `lib/x`?",
    );
    check("import \"lib/x.rhai\" as z;", "E0309", "1:8", "`lib/x.rhai`", "without `.rhai`");
    check("import \"../x\" as z;", "E0309", "1:8", "`../x`", "under the scripts folder");
    check(
        "fn f() { export const X = 1; }",
        "E0215",
        "1:10",
        "`export` may only stand at the top level",
        "export const",
    );
}

#[test]
fn a_doc_comment_that_describes_no_fn_is_told_its_place() {
    check(
        "/// text\nwebhook(\"w\", \"*\", |e| 1);",
        "E0206",
        "1:1",
        "above a `fn`",
        "`//!` describes the file, `//` a registration",
    );
    check("fn f() {\n    /// text\n    let x = 1;\n}", "E0206", "2:5", "above a `fn`", "`//!`");
}

#[test]
fn a_condition_that_is_no_bool_is_told_of_a_default() {
    check_handler(
        "if event.data.flag { 1 }",
        "E0306",
        "2:4",
        "a bool is needed here, not `()`",
        "x ?? false",
    );
    check_handler(
        "while event.data.total { }",
        "E0306",
        "2:7",
        "a bool is needed here, not an int",
        "x > 0",
    );
    check_handler("!event.data.flag", "E0306", "2:1", "`!` cannot be used on `()`", "?? false");
    check_handler(
        "event.data.nope + 1",
        "E0306",
        "2:17",
        "`+` cannot join `()` and an int",
        "`??`",
    );
    check_handler("\"a\" - 1", "E0306", "2:5", "`-` cannot join a string and an int", "parse_int");
    check_handler(
        "for x in event.data.nope { }",
        "E0306",
        "2:10",
        "an array, map or range is needed",
        "?? []",
    );
    check("for x in 5 { }", "E0204", "1:10", "an iterable value is needed here, not a number", "");
}

#[test]
fn an_element_outside_of_a_list_is_told_of_get() {
    check_handler(
        "event.data.list[0]",
        "E0307",
        "2:17",
        "element 0 of an empty array",
        "`.get(0)?.x`",
    );
    check_handler(
        "event.data.list[0]?.x",
        "E0307",
        "2:17",
        "element 0 of an empty array",
        "`?[0]` and `[0]?.x` do not guard",
    );
    check_handler("[1, 2][7]", "E0307", "2:8", "element 7 of an array with 2 elements", ".get(7)");
    check_handler("\"abc\"[7]", "E0307", "2:7", "character 7 of a string with 3 characters", "");
}

#[test]
fn s32_arithmetic_that_has_no_result_says_where() {
    check_handler("9223372036854775807 + 1", "E0308", "2:21", "addition overflow", "floats");
    check_handler("event.data.total % 0", "E0308", "2:18", "modulo division by zero", "");
    check_handler("parse_int(\"x\")", "E0308", "2:1", "error parsing integer number", "catch");
}

#[test]
fn s36_what_is_nested_too_deep_or_is_too_much_is_refused_with_the_limit() {
    let deep = format!("let x = {}1{};", "(".repeat(100), ")".repeat(100));
    check(&deep, "E0209", "1:40", "over 64 levels", "`let`");
    let many: String = (0..501).map(|index| format!("fn f{index}() {{}}\n")).collect();
    check(&many, "E0209", "501:1", "500 functions", "scripts/lib/");
    let closures: String = (0..501).map(|index| format!("let c{index} = || {index};\n")).collect();
    check(&closures, "E0209", "501:12", "500 functions and closures", "");
}

#[test]
fn s34_a_compile_past_its_deadline_says_so() {
    let mut bench = Bench::new();
    #[expect(deprecated, reason = "rhai calls its own hook volatile, not obsolete")]
    bench.engine.on_parse_token(|token, position, _| {
        if position.line() == Some(3) {
            let late = LexError::Runtime(COMPILE_DEADLINE_PASSED.to_owned());
            return Token::LexError(late.into());
        }
        token
    });
    let frame = bench.compile("let a = 1;\nlet b = 2;\nlet c = 3;").unwrap_err();
    assert_eq!((frame.code, frame.title.as_str()), ("E0209", "compiling takes longer than 100 ms"));
    assert!(told(&frame).contains("at scripts/a.rhai:3:1 `let`"), "{}", told(&frame));
}

#[test]
fn what_other_languages_have_is_told_in_rhais_words() {
    check("let x = true ? 1 : 2;", "E0204", "1:14", "no operator `?`", "`if` is an expression");
    check("let x = 1;\nx++;", "E0204", "2:2", "no operator `++`", "x += 1");
    check("let x = 1 === 1;", "E0204", "1:11", "no `===`", "1 == ");
    check("let x = 1; if x = 1 { }", "E0204", "1:17", "cannot stand here", "`==`");
    check("let x = 1 <> 2;", "E0204", "1:12", "unexpected `>`", "`!=`");
    check("let m = #{}; let n = #{ ..m };", "E0204", "1:25", "cannot be spread", "joined with `+`");
    check("if (1 > 2) 3 else 4", "E0204", "1:12", "missing `{`", "braces");
    check("for (let i = 0; i < 3; i++) {}", "E0204", "1:6", "names its variable", "for i in 0..10");
    check("try { 1 } catch e { 2 }", "E0204", "1:17", "missing `{`", "catch (err)");
    check("fn f(x) = x;", "E0204", "1:9", "body of a function", "fn name(x) { … }");
    check("switch 1 { 1: 2 }", "E0204", "1:13", "missing `=>`", "switch x");
    check("let x = 'abc';", "E0207", "1:9", "single quotes hold one character", "double quotes");
    check("let x = \"abc;\nlet y = 1;", "E0207", "1:9", "not closed", "back-ticks");
    check("let x = \"\\q\";", "E0207", "1:9", "is no escape", "backslash");
    check("break;", "E0215", "1:1", "`break` outside of a loop", "`return`");
    check(
        "fn f() { fn g() {} }",
        "E0215",
        "1:10",
        "`fn` may only stand at the top level",
        "closure",
    );
}

#[test]
fn what_is_not_closed_is_shown_where_it_was_opened() {
    check("fn f() {\n    let a = 1;\n", "E0204", "2:15", "missing `}` at the end", "");
    let note = |source| frame_of(source).notes.join("\n");
    assert_eq!(note("fn f() {\n  g(1);\n"), "`{` at scripts/a.rhai:1:8 is not closed");
    check(
        "webhook(\"w\", \"*\", |e| { save(e) }\nlet y = 1;",
        "E0204",
        "1:34",
        "missing `,` or `)`",
        "",
    );
    assert_eq!(
        note("webhook(\"w\", \"*\", |e| { save(e) }\nlet y = 1;"),
        "`(` at scripts/a.rhai:1:8 is not closed"
    );
    check("let a = #{ b: 1;", "E0204", "1:16", "this map is not closed", "");
    check("let x = #{ a: 1\n  b: 2 };", "E0204", "1:16", "missing `,` between the fields", "");
    check("let x = [1 2];", "E0204", "1:11", "missing `,`", "");
    check("1 +", "E0204", "1:4", "in the middle of an expression", "");
}

#[test]
fn what_is_defined_twice_or_constant_is_refused() {
    check("fn f(a) {}\nfn f(b) {}", "E0210", "2:1", "`fn f` with 1 parameter is defined twice", "");
    check("fn f(a, a) {}", "E0210", "1:9", "two parameters are called `a`", "");
    check("let x = #{ a: 1, a: 2 };", "E0210", "1:18", "the key `a` stands twice", "");
    check("const Y = 1;\nY = 2;", "E0214", "2:1", "`Y` is a constant", "`let Y = …`");
    check("charge() = 2;", "E0214", "1:1", "cannot be assigned to", "`==`");
    check_handler("const X = #{ a: 1 }; X.a = 2;", "E0311", "2:22", "`X` is a constant", "`let`");
    check_handler(
        "const X = [1]; X.push(2);",
        "E0311",
        "2:18",
        "`push` would change a constant",
        "`let`",
    );
}

#[test]
fn a_throw_is_told_by_its_code_and_message() {
    check_handler("throw \"no such plan\";", "E0310", "2:1", "uncaught error: no such plan", "");
    check_handler(
        "throw #{ code: \"crm_failed\", status: 503 };",
        "E0310",
        "2:1",
        "uncaught error `crm_failed` (status 503)",
        "",
    );
    check_handler(
        "throw #{ code: \"a\", message: \"b\" };",
        "E0310",
        "2:1",
        "uncaught error `a`: b",
        "",
    );
    check_handler("throw;", "E0310", "2:1", "uncaught error", "");
    check_handler(
        "throw [1, #{ a: \"x\" }, || 1];",
        "E0310",
        "2:1",
        "[1, #{a: \"x\"}, a closure]",
        "",
    );
    check_handler(
        "fail()",
        "E0310",
        "2:1",
        "uncaught error `RATE_LIMIT_EXCEEDED` (status 429): slow down",
        "",
    );
    let text = told(&frame_of("webhook(\"w\", \"*\", |event| fail());"));
    assert!(text.contains("failed here"), "{text}");
}

#[test]
fn s13_no_thrown_value_is_too_long_too_deep_or_endless() {
    let rows = [
        "let s = \"x\"; for i in 0..12 { s += s; } throw s;",
        "let s = \"x\"; for i in 0..12 { s += s; } throw #{ code: s, message: s, status: s };",
        "let a = []; for i in 0..500 { a = [a]; } throw a;",
        "let a = []; for i in 0..900 { a.push(i); } throw a;",
        "let x = #{}; let f = || x; x.f = f; throw x;",
        "let x = \"line\\nline\\u001b[31m\"; throw x;",
    ];
    for body in rows {
        let frame = frame_of(&format!("webhook(\"w\", \"*\", |event| {{ {body} }});"));
        assert_eq!(frame.code, "E0310", "{body}");
        assert!(frame.title.chars().count() <= 401, "{}", frame.title.len());
        assert!(!frame.title.contains(char::is_control), "{:?}", frame.title);
    }
}

#[test]
fn the_calls_around_a_fault_become_notes() {
    let source = "webhook(\"w\", \"*\", |event| save(event));\nfn save(event) {\n    event.data.list.push(0);\n    [1].map(|e| inner(e))\n}\nfn inner(e) { throw \"no\" }";
    insta::assert_snapshot!(told(&frame_of(source)), @r"
    E0310: uncaught error: no
      at scripts/a.rhai:6:15 `throw` thrown here
      note: called from a closure, scripts/a.rhai:4:17
      note: called from `save`, scripts/a.rhai:4:9
      note: called from the handler, scripts/a.rhai:1:27
    ");
    let source = "import \"lib/x\" as x;\nwebhook(\"w\", \"*\", |event| x::field(event));";
    insta::assert_snapshot!(told(&frame_of(source)), @r"
    E0302: `a` is missing in `x`
      at scripts/lib/x.rhai:4:7 `a` absent, so `.b` has nothing to read
      help: use `?.` or `??`: `x.a?.b`
      note: called from the handler, scripts/a.rhai:2:30
    ");
    let source = "fn f(x) { if x == 0 { throw \"deep\" } f(x - 1) }\nf(40);";
    insta::assert_snapshot!(told(&frame_of(source)), @r"
    E0310: uncaught error: deep
      at scripts/a.rhai:1:23 `throw` thrown here
      note: called from `f`, scripts/a.rhai:1:38
      note: called from the top level, scripts/a.rhai:2:1
    ");
}

#[test]
fn a_handler_that_takes_another_number_of_values_says_so() {
    let frame = frame_of("webhook(\"w\", \"*\", |a, b| 1);");
    insta::assert_snapshot!(told(&frame), @r"
    E0301: the handler is called with 1 argument and takes another number
      help: it is given (map)
      note: in scripts/a.rhai
    ");
}

/// Scripts to mutate: they hold every kind of token and statement.
const SEEDS: [&str; 4] = [
    "//! doc\nimport \"lib/x\" as x;\nconst A = #{ a: [1, 2.5, 'c'], \"b\": () };\nwebhook(\"w\", \"*\", |event| save(event.data, `n ${event.id + 1} t`));\nfn save(user, text) {\n    let e = user.list.find(|e| e.id == text) ?? user.list.get(0);\n    db.users.put(user.id, #{ email: e?.email });\n}\n",
    "get(\"/x\", |req| {\n    try { return charge(1, \"usd\", #{}); } catch (err) {\n        if err.code == \"A\" { throw err; }\n        return #{ content: \"no\" };\n    }\n});\n",
    "fn f(x) { switch x { 1 => \"a\", 2..5 => { let y = x * 2; y }, _ if x > 9 => x[0].y?.z, _ => global::A } }\nlet calls = [];\nfor (i, n) in 0..3 { calls.push(|| f(i)); }\nwhile true { break; }\ndo { } until true;\n",
    "/// doc\nprivate fn g() { this.x += 1; return -x::SHOWN; }\nlet s = #\"raw \"text\"\"#; /* c /* d */ */ export let z = !s.trim();\n",
];

const PIECES: [&str; 42] = [
    ";",
    ",",
    "(",
    ")",
    "{",
    "}",
    "[",
    "]",
    "#{",
    "|",
    "||",
    ".",
    "?.",
    "?[",
    "::",
    "=",
    "==",
    "=>",
    "..",
    "`",
    "\"",
    "'",
    "${",
    "//",
    "/*",
    "///",
    "fn ",
    "let ",
    "const ",
    "if ",
    "import ",
    "export ",
    "throw ",
    "return ",
    "default",
    "ö",
    "\u{1f600}",
    "\0",
    "\r\n",
    "0x",
    "event",
    "9223372036854775807",
];

/// One of the seeds with a few edits; half of them still compile.
pub(in crate::script) fn mutated() -> impl Strategy<Value = String> {
    let edits = proptest::collection::vec(
        (any::<prop::sample::Index>(), 0..PIECES.len(), 0_usize..12),
        0..5,
    );
    (0..SEEDS.len(), edits).prop_map(|(seed, edits)| {
        let mut letters: Vec<char> = SEEDS[seed].chars().collect();
        for (place, piece, removed) in edits {
            let start = place.index(letters.len() + 1);
            let end = (start + removed).min(letters.len());
            letters.splice(start..end, PIECES[piece].chars());
        }
        letters.into_iter().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_source_makes_a_diagnosis_panic_or_point_outside(source in mutated()) {
        if let Some(frame) = Bench::new().first_frame(&source, &Circumstances::default()) {
            let text = told(&frame);
            prop_assert!(!text.contains("NOT A SPAN") && !text.contains("anon$"), "{text}");
        }
    }

    #[test]
    fn any_text_is_cut_into_tokens_in_order(source in ".{0,80}") {
        let text = Text::new(&source);
        let mut end = 0;
        for token in &text.tokens {
            prop_assert!(token.span.start >= end && token.span.end > token.span.start);
            prop_assert!(source.get(token.span.clone()).is_some());
            end = token.span.end;
        }
        for index in 0..text.tokens.len() {
            prop_assert!(text.chain_start(index) <= index);
        }
    }
}
