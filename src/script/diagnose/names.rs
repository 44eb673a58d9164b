//! What a script may name: the functions, objects and modules of one host. Diagnosing and linting read it, the host fills it once a
//! generation. Types are named as script authors know them (`int`, `string`, `()`), never as Rust does.

use std::any::TypeId;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use rhai::{AST, Dynamic, Engine, FnPtr, FuncInfo, ImmutableString, Scope, Stmt};

use crate::script::providers::ProviderNames;

/// Everything that exists before a script defines anything itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    /// Overloads by their full name: `charge`, `hash::sha256`.
    functions: BTreeMap<Box<str>, Vec<Signature>>,
    /// Objects in scope: `db`, `log`, providers.
    pub(crate) variables: BTreeSet<Box<str>>,
    /// What each file that can be imported offers, by its import path: `lib/money`.
    pub(crate) imports: BTreeMap<Box<str>, Exports>,
    /// What can be called of each provider.
    pub(crate) providers: Arc<ProviderNames>,
}

impl Names {
    /// What `engine` has registered and `scope` declares. Take the engine before any script's module is registered in it.
    pub(crate) fn of(engine: &Engine, scope: &Scope<'_>) -> Self {
        let mut names = Self::default();
        let found = engine.collect_fn_metadata(None, |info| Signature::native(&info), true);
        for (path, signature, is_global) in found {
            if is_global && path.contains("::") {
                // A function of a module that asks to be seen without its name too.
                names.add(signature.name.clone(), signature.clone());
            }
            names.add(path, signature);
        }
        names.variables.extend(scope.iter_raw().map(|(name, ..)| Box::from(name)));
        names
    }

    /// Adds one function under its full name.
    pub(crate) fn add(&mut self, path: Box<str>, signature: Signature) {
        self.functions.entry(path).or_default().push(signature);
    }

    /// The functions of that full name, of whatever parameters.
    pub(crate) fn overloads(&self, path: &str) -> &[Signature] {
        self.functions.get(path).map_or(&[], Vec::as_slice)
    }

    /// Whether a plain or qualified call with so many arguments can be answered.
    pub(crate) fn takes(&self, path: &str, arguments: usize) -> bool {
        self.overloads(path).iter().any(|signature| signature.params.len() == arguments)
    }

    /// Whether `name::` leads anywhere.
    pub(crate) fn has_module(&self, name: &str) -> bool {
        self.modules().any(|module| module == name)
    }

    /// Modules that need no import.
    pub(crate) fn modules(&self) -> impl Iterator<Item = &str> {
        let roots: BTreeSet<&str> =
            self.functions.keys().filter_map(|path| Some(path.split_once("::")?.0)).collect();
        roots.into_iter()
    }

    /// Every full name.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.functions.keys().map(AsRef::as_ref)
    }

    /// What another language's name of a function is here, if it exists here.
    pub(crate) fn habit(&self, theirs: &str) -> Option<&'static str> {
        let (_, ours) = HABITS.iter().find(|(name, _)| *name == theirs)?;
        let root = ours.split(['.', ':']).next().unwrap_or(ours);
        let exists = self.functions.contains_key(*ours)
            || self.variables.contains(root)
            || self.has_module(root);
        exists.then_some(*ours)
    }

    /// What the author may have meant by a function that does not exist: a habit from another language, other capitals, or the
    /// nearest name among ours and `own`.
    pub(crate) fn meant<'a>(
        &'a self,
        path: &str,
        own: impl Iterator<Item = &'a str>,
    ) -> Option<String> {
        if let Some(ours) = self.habit(path) {
            return Some(ours.to_owned());
        }
        let snake = snake_case(path);
        if snake != path && self.functions.contains_key(snake.as_str()) {
            return Some(snake);
        }
        if let Some(near) = nearest(path, self.paths().chain(own)) {
            return Some(near.to_owned());
        }
        // A misspelt habit.
        let theirs = nearest(path, HABITS.iter().map(|(theirs, _)| *theirs))?;
        self.habit(theirs).map(str::to_owned)
    }
}

/// One function as a script author sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signature {
    /// Without its module.
    pub(crate) name: Box<str>,
    /// All of them, the value before the dot too.
    pub(crate) params: Vec<Param>,
    /// `()` where it gives nothing, empty where that is not known.
    pub(crate) result: Box<str>,
}

/// One parameter; what is not known is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Param {
    /// As its author named it.
    pub(crate) name: Box<str>,
    /// Its type, as scripts know it.
    pub(crate) kind: Box<str>,
}

impl Signature {
    /// A function of a script: its parameters have names and no types.
    pub(crate) fn scripted<'a>(name: &str, params: impl Iterator<Item = &'a str>) -> Self {
        let param = |name: &str| Param { name: name.into(), kind: "".into() };
        Self { name: name.into(), params: params.map(param).collect(), result: "".into() }
    }

    /// A registered function with its full name; `None` for operators, getters and the like, which no call names.
    fn native(info: &FuncInfo<'_>) -> Option<(Box<str>, Self, bool)> {
        let function = info.metadata;
        if !rhai::is_valid_identifier(&function.name) || function.name.contains('$') {
            return None;
        }
        let params = (0..function.num_params).map(|index| {
            let told = function.params_info.get(index).map_or("", |told| told.as_str());
            let (name, kind) = told.split_once(':').unwrap_or((told, ""));
            let name = match name.trim() {
                "?" | "_" => "",
                name => name,
            };
            let kind = match kind.trim() {
                "" | "?" | "_" => {
                    function.param_types.get(index).map_or("", |id| kind_of_id(*id)).to_owned()
                }
                kind => kind_of(kind),
            };
            Param { name: name.into(), kind: kind.into() }
        });
        let signature = Self {
            name: function.name.as_str().into(),
            params: params.collect(),
            result: kind_of_result(&function.return_type).into(),
        };
        let path = if info.namespace.is_empty() {
            function.name.as_str().into()
        } else {
            format!("{}::{}", info.namespace, function.name).into()
        };
        Some((path, signature, function.namespace.is_global_namespace()))
    }
}

impl Signature {
    /// As it is called on a value: `x.find(closure)`.
    pub(crate) fn dotted(&self) -> String {
        let params = self.params.get(1..).unwrap_or_default().to_vec();
        format!("x.{}", Self { params, ..self.clone() })
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.name)?;
        for (index, param) in self.params.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            match (&*param.name, &*param.kind) {
                ("", "") => f.write_str("_")?,
                ("", only) | (only, "") => f.write_str(only)?,
                (name, kind) if name == kind => f.write_str(kind)?,
                (name, kind) => write!(f, "{name}: {kind}")?,
            }
        }
        f.write_str(")")?;
        match &*self.result {
            "" | "()" => Ok(()),
            result => write!(f, " -> {result}"),
        }
    }
}

/// What a file offers to those that import it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exports {
    /// Functions that can be called as `module::f(…)`.
    pub(crate) functions: Vec<Signature>,
    /// `private fn`, which nobody outside can call.
    pub(crate) private: BTreeSet<Box<str>>,
    /// Names that can be read as `module::NAME`: `export const`.
    pub(crate) constants: BTreeSet<Box<str>>,
    /// `const` and `let` without `export`, for the hint.
    pub(crate) hidden: BTreeSet<Box<str>>,
    /// Its own imports, which can be reached through it.
    pub(crate) modules: BTreeSet<Box<str>>,
}

impl Exports {
    /// What the compiled file offers.
    pub(crate) fn of(ast: &AST) -> Self {
        let mut exports = Self::default();
        for function in ast.iter_functions().filter(|function| !is_anonymous(function.name)) {
            if matches!(function.access, rhai::FnAccess::Private) {
                exports.private.insert(function.name.into());
            } else {
                let params = function.params.iter().copied();
                exports.functions.push(Signature::scripted(function.name, params));
            }
        }
        for stmt in ast.statements() {
            match stmt {
                Stmt::Var(parts, flags, _) => {
                    let name = parts.0.name.as_str().into();
                    if flags.contains(rhai::ASTFlags::EXPORTED) {
                        exports.constants.insert(name);
                    } else {
                        exports.hidden.insert(name);
                    }
                }
                Stmt::Export(names, _) => {
                    let (name, alias) = (&names.0.name, &names.1.name);
                    let shown = if alias.is_empty() { name } else { alias };
                    exports.hidden.remove(name.as_str());
                    exports.constants.insert(shown.as_str().into());
                }
                Stmt::Import(import, _) => {
                    exports.modules.insert(import.1.name.as_str().into());
                }
                _ => {}
            }
        }
        exports
    }
}

/// Whether Rhai made the name up for a closure. No reader may ever see one.
pub(crate) fn is_anonymous(name: &str) -> bool {
    name.starts_with("anon$")
}

/// The candidate that differs least, when it differs little: one edit in short names, a third of the letters in long ones.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let most = (name.chars().count() / 3).max(1);
    candidates
        .filter(|candidate| *candidate != name && candidate.len().abs_diff(name.len()) <= 2 * most)
        .map(|candidate| {
            let distance = if candidate.eq_ignore_ascii_case(name) {
                0
            } else {
                strsim::osa_distance(candidate, name)
            };
            (distance, candidate)
        })
        .filter(|(distance, candidate)| *distance <= most && *distance < candidate.chars().count())
        .min()
        .map(|(_, candidate)| candidate)
}

/// Rhai's or Rust's name of a type, as scripts know it.
pub(crate) fn kind_of(rust: &str) -> String {
    let rust = rust.trim();
    let rust = rust.strip_prefix("&mut ").unwrap_or(rust).trim();
    if rust.contains(" | ") || matches!(rust, "&str") {
        return "string".to_owned();
    }
    let last = rust.split('<').next().unwrap_or(rust).rsplit("::").next().unwrap_or(rust);
    match last {
        "i64" | "INT" => "int",
        "f64" | "FLOAT" => "float",
        "String" | "ImmutableString" | "str" => "string",
        "Array" | "Vec" if !rust.contains("u8") => "array",
        "Blob" | "Vec" => "blob",
        "Map" | "BTreeMap" => "map",
        "Fn" | "FnPtr" => "closure",
        "Dynamic" | "?" | "_" => "any",
        "Instant" => "timestamp",
        "ExclusiveRange" | "Range" | "InclusiveRange" | "RangeInclusive" | "range=" => "range",
        other => other,
    }
    .to_owned()
}

/// The same, for what a function gives: inside its `Result`.
fn kind_of_result(rust: &str) -> String {
    let rust = rust.replace(' ', "");
    let inner = ["Result<", "RhaiResultOf<"].iter().find_map(|prefix| rust.split_once(prefix));
    let inner = inner.map_or(rust.as_str(), |(_, inner)| {
        inner.split(",Box<").next().unwrap_or(inner).trim_end_matches('>')
    });
    match inner {
        "" => String::new(),
        "RhaiResult" => "any".to_owned(),
        _ => kind_of(inner),
    }
}

/// Types of parameters that were registered without names.
fn kind_of_id(id: TypeId) -> &'static str {
    let known = [
        (TypeId::of::<rhai::INT>(), "int"),
        (TypeId::of::<rhai::FLOAT>(), "float"),
        (TypeId::of::<f32>(), "float"),
        (TypeId::of::<bool>(), "bool"),
        (TypeId::of::<char>(), "char"),
        (TypeId::of::<()>(), "()"),
        (TypeId::of::<ImmutableString>(), "string"),
        (TypeId::of::<rhai::Array>(), "array"),
        (TypeId::of::<rhai::Blob>(), "blob"),
        (TypeId::of::<rhai::Map>(), "map"),
        (TypeId::of::<FnPtr>(), "closure"),
        (TypeId::of::<Dynamic>(), "any"),
    ];
    known.iter().find(|(known, _)| *known == id).map_or("", |(_, kind)| kind)
}

/// `forEach` as `for_each`.
fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            if !snake.is_empty() && !snake.ends_with(['_', ':']) {
                snake.push('_');
            }
            snake.push(letter.to_ascii_lowercase());
        } else {
            snake.push(letter);
        }
    }
    snake
}

/// What hands write that know JavaScript, Python or Rust, and what it is called here.
const HABITS: [(&str, &str); 29] = [
    ("to_int", "parse_int"),
    ("to_float", "parse_float"),
    ("to_number", "parse_float"),
    ("parseInt", "parse_int"),
    ("parseFloat", "parse_float"),
    ("str", "to_string"),
    ("length", "len"),
    ("size", "len"),
    ("count", "len"),
    ("includes", "contains"),
    ("has", "contains"),
    ("has_key", "contains"),
    ("hasOwnProperty", "contains"),
    ("each", "for_each"),
    ("any", "some"),
    ("every", "all"),
    ("slice", "extract"),
    ("substr", "sub_string"),
    ("toLowerCase", "to_lower"),
    ("toUpperCase", "to_upper"),
    ("lower", "to_lower"),
    ("upper", "to_upper"),
    ("strip", "trim"),
    ("add", "push"),
    ("push_back", "push"),
    ("stringify", "json::stringify"),
    ("setTimeout", "sleep"),
    ("println", "log.info"),
    ("echo", "log.info"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_named_as_scripts_know_them() {
        let rows = [
            ("i64", "int"),
            ("f64", "float"),
            ("&str | ImmutableString | String", "string"),
            ("&mut Array", "array"),
            ("alloc::vec::Vec<rhai::types::dynamic::Dynamic>", "array"),
            ("alloc::vec::Vec<u8>", "blob"),
            ("Map", "map"),
            ("()", "()"),
            ("bool", "bool"),
            ("FnPtr", "closure"),
            ("rhaiway::script::api::db::Collection", "Collection"),
        ];
        for (rust, expected) in rows {
            assert_eq!(kind_of(rust), expected, "{rust}");
        }
        assert_eq!(kind_of_result("Result<i64, Box<EvalAltResult>>"), "int");
        assert_eq!(kind_of_result("RhaiResult"), "any");
        assert_eq!(kind_of_result("RhaiResultOf < INT >"), "int");
    }

    #[test]
    fn signatures_come_from_what_the_engine_has_registered() {
        let mut engine = Engine::new();
        engine.register_fn("charge", |amount: i64, _currency: &str, _options: rhai::Map| amount);
        engine.register_raw_fn(
            "raw",
            [TypeId::of::<ImmutableString>(), TypeId::of::<Dynamic>()],
            |_, _| Ok(()),
        );
        let mut scope = Scope::new();
        scope.push_constant("db", 1_i64);
        let names = Names::of(&engine, &scope);
        assert_eq!(names.overloads("charge")[0].to_string(), "charge(int, string, map) -> int");
        assert!(names.overloads("raw")[0].to_string().starts_with("raw(string, any)"));
        assert!(names.takes("len", 1) && !names.takes("len", 3));
        assert!(names.variables.contains("db"));
        assert_eq!(names.overloads("+"), []);
        assert!(names.overloads("trim").iter().all(|signature| &*signature.result == "()"));
    }

    #[test]
    fn a_function_of_a_module_is_known_by_the_names_that_it_asks_for() {
        let mut module = rhai::Module::new();
        rhai::FuncRegistration::new("parse").set_into_module(&mut module, |text: &str| text.len());
        rhai::FuncRegistration::new("shout")
            .in_global_namespace()
            .set_into_module(&mut module, |text: &str| text.to_uppercase());
        let mut engine = Engine::new();
        engine.register_static_module("words", module.into());
        let names = Names::of(&engine, &Scope::new());
        assert!(names.takes("words::parse", 1) && !names.takes("parse", 1));
        assert!(names.takes("words::shout", 1) && names.takes("shout", 1));
        assert!(names.has_module("words") && !names.has_module("word"));
    }

    #[test]
    fn a_misspelt_name_finds_the_one_that_was_meant() {
        let names = Names::of(&Engine::new(), &Scope::new());
        let check = |written: &str, expected: Option<&str>| {
            assert_eq!(
                names.meant(written, ["save"].into_iter()).as_deref(),
                expected,
                "{written}"
            );
        };
        check("forEach", Some("for_each"));
        check("to_int", Some("parse_int"));
        check("contain", Some("contains"));
        check("sve", Some("save"));
        check("Len", Some("len"));
        check("qqqqqqqq", None);
    }

    #[test]
    fn a_module_offers_its_functions_and_what_it_exports() {
        let source = "import \"lib/y\" as y; const A = 1; export const B = 2; fn f(x, z) {} private fn g() {} let c = || 1;";
        let exports = Exports::of(&Engine::new().compile(source).unwrap());
        assert_eq!(exports.functions.len(), 1);
        assert_eq!(exports.functions[0].to_string(), "f(x, z)");
        assert!(exports.private.contains("g") && exports.constants.contains("B"));
        assert!(exports.hidden.contains("A") && exports.modules.contains("y"));
    }
}
