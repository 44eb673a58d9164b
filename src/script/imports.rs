//! Which modules a script may import, so that a change of one reloads its importers and nobody else. Read from the syntax trees, those of
//! imported modules included; a path that only a run knows (`import "lib/" + name`) makes it every module.

use std::collections::BTreeSet;
use std::sync::Arc;

use rhai::{AST, ASTNode, Expr, Stmt};

use super::handler::Sources;

/// The modules that a script may import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Imports {
    /// These, by their paths in `Sources`, whether they exist or not.
    These(BTreeSet<Arc<str>>),
    /// Any: a path is computed, or nothing is known of the script yet.
    Any,
}

impl Imports {
    /// Those of a script, by way of what it imports; `compile` gives the tree of a module.
    pub(super) fn of(
        ast: &AST,
        modules: &Sources,
        compile: impl Fn(&str, &str) -> Option<AST>,
    ) -> Self {
        let mut these = BTreeSet::new();
        let Some(mut waiting) = named(ast) else { return Self::Any };
        while let Some(path) = waiting.pop() {
            if !these.insert(Arc::clone(&path)) {
                continue;
            }
            // One that is missing or does not compile imports nothing; it is in the set, so its next version is noticed.
            let Some(ast) = modules.get(&path).and_then(|source| compile(&path, source)) else {
                continue;
            };
            match named(&ast) {
                Some(further) => waiting.extend(further),
                None => return Self::Any,
            }
        }
        Self::These(these)
    }

    /// Whether a script with these imports would find anything else in the new set.
    pub(crate) fn differ(&self, before: &Arc<Sources>, after: &Arc<Sources>) -> bool {
        match self {
            _ if Arc::ptr_eq(before, after) => false,
            Self::These(these) => these.iter().any(|path| before.get(path) != after.get(path)),
            Self::Any => before != after,
        }
    }
}

/// The paths that one file imports; `None` where one of them is computed.
fn named(ast: &AST) -> Option<Vec<Arc<str>>> {
    let mut paths = Some(Vec::new());
    ast.walk(&mut |nodes| {
        if let Some(ASTNode::Stmt(Stmt::Import(import, _))) = nodes.last() {
            match (&import.0, &mut paths) {
                (Expr::StringConstant(path, _), Some(paths)) => {
                    paths.push(format!("{path}.rhai").into());
                }
                _ => paths = None,
            }
        }
        paths.is_some()
    });
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(files: &[(&str, &str)]) -> Arc<Sources> {
        Arc::new(files.iter().map(|(path, text)| ((*path).into(), (*text).into())).collect())
    }

    fn check(script: &str, expected: Option<&[&str]>) {
        let modules = sources(&[
            ("lib/a.rhai", "import \"lib/b\" as b; fn f() { b::g() }"),
            ("lib/b.rhai", "fn g() { 1 }"),
            ("lib/c.rhai", "fn h(n) { import \"lib/\" + n as x; }"),
            ("lib/round.rhai", "import \"lib/round\" as r;"),
            ("lib/broken.rhai", "fn ("),
        ]);
        let mut engine = rhai::Engine::new_raw();
        // As scripts are compiled: the optimizer would take code apart.
        engine.set_optimization_level(rhai::OptimizationLevel::None);
        let ast = engine.compile(script).unwrap();
        let imports = Imports::of(&ast, &modules, |_, source| engine.compile(source).ok());
        let expected = expected.map_or(Imports::Any, |these| {
            Imports::These(these.iter().map(|path| Arc::from(*path)).collect())
        });
        assert_eq!(imports, expected, "{script}");
    }

    #[test]
    fn imports_are_found_wherever_they_stand_and_by_way_of_others() {
        check("let x = 1;", Some(&[]));
        check("// import \"lib/a\" as a", Some(&[]));
        check("import \"lib/a\" as a;", Some(&["lib/a.rhai", "lib/b.rhai"]));
        check("let f = |e| { import \"lib/b\" as b; b::g() };", Some(&["lib/b.rhai"]));
        check("fn f() { if true { import \"lib/b\" as b; } }", Some(&["lib/b.rhai"]));
        check("import \"lib/none\" as n;", Some(&["lib/none.rhai"]));
        check("import \"lib/round\" as r;", Some(&["lib/round.rhai"]));
        check("import \"lib/broken\" as r;", Some(&["lib/broken.rhai"]));
        check("let n = \"a\"; import \"lib/\" + n as x;", None);
        check("import \"lib/c\" as c;", None);
    }

    #[test]
    fn only_a_change_of_what_is_imported_counts() {
        let before = sources(&[("lib/a.rhai", "1"), ("lib/b.rhai", "2")]);
        let same = sources(&[("lib/a.rhai", "1"), ("lib/b.rhai", "2")]);
        let changed = sources(&[("lib/a.rhai", "1"), ("lib/b.rhai", "3")]);
        let gone = sources(&[("lib/b.rhai", "2")]);
        let a = Imports::These(BTreeSet::from(["lib/a.rhai".into()]));
        assert!(!a.differ(&before, &same) && !a.differ(&before, &changed));
        assert!(a.differ(&before, &gone) && a.differ(&gone, &before));
        assert!(Imports::Any.differ(&before, &changed) && !Imports::Any.differ(&before, &same));
    }
}
