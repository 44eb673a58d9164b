//! What `check` and the loader say of a script that compiles: calls of what does not exist, values that get lost, variables that
//! handlers would share. An error stops the script from being loaded; a warning is shown and no more. It reads the syntax tree as
//! written, so the tree must be compiled with `OptimizationLevel::None`: the optimizer takes out what is to be judged.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use rhai::{AST, ASTNode, Expr, FnCallExpr, FnPtr, Position, Stmt};

use crate::frame::{Frame, Severity};
use crate::script::diagnose::{Names, Site, Text, bounded, is_anonymous};

mod calls;
mod captures;
mod providers;
mod values;
mod queries;
mod topics;

pub(crate) use self::captures::shared_capture;
pub(crate) use self::queries::{Query, queries};
pub(crate) use self::topics::{Emits, Emitted};

/// Frames of one script; a file that is wrong throughout says the same again and again.
const FRAMES_MAX: usize = 100;

/// Findings after which the walk looks no further.
const FRAMES_FOUND_MAX: usize = 5 * FRAMES_MAX;

/// Everything there is to say, in the order of the source.
pub(crate) fn check(path: &str, source: &Arc<str>, ast: &AST, known: &Names) -> Vec<Frame> {
    let site = Site { path, source };
    let text = Text::new(source);
    let mut lint = Lint {
        site,
        own: text.functions().collect(),
        declared: text.declared().into_iter().collect(),
        constants: text.constants(),
        text,
        known,
        script: Script::of(ast),
        used_modules: BTreeSet::new(),
        dotted: BTreeMap::new(),
        provided: BTreeSet::new(),
        mapped: BTreeSet::new(),
        frames: Vec::new(),
    };
    ast.walk(&mut |nodes| {
        lint.node(nodes);
        true
    });
    lint.definitions(ast);
    lint.function_ends(ast);
    lint.unused_imports();
    let mut frames: Vec<Frame> = lint.frames.into_iter().map(bounded).collect();
    frames
        .sort_by_key(|frame| frame.place.as_ref().map(|place| (place.span.start, place.span.end)));
    frames.dedup();
    if frames.len() > FRAMES_MAX {
        // Errors decide, so they are kept first.
        frames.sort_by_key(|frame| frame.severity != Severity::Error);
        frames.truncate(FRAMES_MAX);
    }
    frames
}

/// What the script defines itself.
struct Script {
    /// Its `fn`s by name and number of parameters; those for one type only, `fn int.f()`, count the value before the dot.
    functions: BTreeSet<(String, usize)>,
    /// Its imports: alias, path if it is written out, position of the alias.
    imports: Vec<(String, Option<String>, Position)>,
    /// How many of a closure's parameters are captures.
    captures: BTreeMap<String, usize>,
    /// Where each closure starts, with its first `|`.
    closures: BTreeMap<String, Position>,
}

impl Script {
    fn of(ast: &AST) -> Self {
        let mut script = Self {
            functions: BTreeSet::new(),
            imports: Vec::new(),
            captures: BTreeMap::new(),
            closures: BTreeMap::new(),
        };
        for function in ast.iter_functions().filter(|function| !is_anonymous(function.name)) {
            script.functions.insert((function.name.to_owned(), function.params.len()));
        }
        ast.walk(&mut |nodes| {
            match nodes.last() {
                Some(ASTNode::Stmt(Stmt::Import(import, _))) => {
                    let path = match &import.0 {
                        Expr::StringConstant(path, _) => Some(path.to_string()),
                        _ => None,
                    };
                    script.imports.push((import.1.name.to_string(), path, import.1.pos));
                }
                // Rhai ends the block that stands for a closure with either.
                Some(
                    ASTNode::Expr(Expr::FnCall(call, _)) | ASTNode::Stmt(Stmt::FnCall(call, _)),
                ) => {
                    if let Some(closure) = curried(call) {
                        script.captures.insert(closure.fn_name().to_owned(), call.args.len() - 1);
                    }
                }
                Some(ASTNode::Expr(expr @ Expr::DynamicConstant(_, position))) => {
                    if let Some(closure) = closure(expr) {
                        script.closures.insert(closure.fn_name().to_owned(), *position);
                    }
                }
                _ => {}
            }
            true
        });
        script
    }

    fn defines(&self, name: &str, arguments: usize) -> bool {
        self.functions.contains(&(name.to_owned(), arguments))
    }

    /// The path that an alias was imported from. `Some(None)`: imported from a path that only a run knows.
    fn import(&self, alias: &str) -> Option<Option<&str>> {
        self.imports.iter().find(|(name, ..)| name == alias).map(|(_, path, _)| path.as_deref())
    }
}

/// One walk over one script.
struct Lint<'a> {
    site: Site<'a>,
    text: Text<'a>,
    /// The script's `fn`s: name, parameters, the byte of the name.
    own: Vec<(&'a str, Vec<&'a str>, usize)>,
    /// Every name that is declared anywhere.
    declared: BTreeSet<&'a str>,
    /// Those of them that are constants wherever they are declared.
    constants: BTreeSet<&'a str>,
    known: &'a Names,
    script: Script,
    used_modules: BTreeSet<String>,
    /// The first place of each `x.name(…)`, by name and number of arguments.
    dotted: BTreeMap<(String, usize), Position>,
    /// Calls that were judged as those of a provider.
    provided: BTreeSet<Position>,
    /// Closures whose value is used by the function that they are given to: `list.map(|x| …)`.
    mapped: BTreeSet<String>,
    frames: Vec<Frame>,
}

impl Lint<'_> {
    /// One node with all that stand around it, outermost first.
    fn node(&mut self, nodes: &[ASTNode<'_>]) {
        let Some((last, around)) = nodes.split_last() else { return };
        if self.frames.len() >= FRAMES_FOUND_MAX {
            return;
        }
        match last {
            ASTNode::Expr(Expr::FnCall(call, position))
            | ASTNode::Stmt(Stmt::FnCall(call, position)) => {
                self.mentions(&call.namespace);
                self.plain_call(call, *position);
                self.handler_captures(call, around);
                self.division(call, *position);
            }
            ASTNode::Expr(Expr::MethodCall(call, position)) => {
                self.dotted_call(call, *position);
                self.lost_in_place(call, *position, nodes);
            }
            ASTNode::Expr(chain @ Expr::Dot(..)) => self.provider_chain(chain),
            ASTNode::Expr(Expr::Variable(parts, _, position)) => {
                self.mentions(&parts.2);
                self.module_constant(&parts.2, &parts.1, *position);
            }
            ASTNode::Expr(Expr::StringConstant(text, _)) => {
                // `Fn("x::f")` is the only other way to name a module.
                if let Some((alias, _)) = text.split_once("::") {
                    self.used_modules.insert(alias.to_owned());
                }
            }
            ASTNode::Stmt(Stmt::Share(captured)) => self.loop_captures(captured, around),
            ASTNode::Stmt(stmt) => {
                self.shadowing(stmt);
                self.constant_changed(stmt);
            }
            ASTNode::Expr(_) => {}
            // Rhai may add kinds of nodes.
            _ => {}
        }
    }

    fn mentions(&mut self, namespace: &rhai::Namespace) {
        if !namespace.is_empty() {
            self.used_modules.insert(namespace.root().to_owned());
        }
    }

    fn unused_imports(&mut self) {
        for (alias, path, position) in &self.script.imports {
            if alias.is_empty() || self.used_modules.contains(alias) {
                continue;
            }
            let span = self.text.span_at(*position).unwrap_or_default();
            let title = format!("`{alias}` is imported and not used");
            let frame = Frame::warning("E0220", title).at(self.site.place(span, "not used"));
            self.frames.push(frame.help(match path {
                Some(path) => format!("take `import \"{path}\" as {alias};` out"),
                None => "take it out".to_owned(),
            }));
        }
    }

    fn span(&self, position: Position) -> Range<usize> {
        self.text.span_at(position).unwrap_or_default()
    }

    fn error(
        &mut self,
        code: &'static str,
        title: String,
        position: Position,
        label: &str,
    ) -> &mut Frame {
        let place = self.site.place(self.span(position), label);
        self.push(Frame::error(code, title).at(place))
    }

    fn warning(
        &mut self,
        code: &'static str,
        title: String,
        position: Position,
        label: &str,
    ) -> &mut Frame {
        let place = self.site.place(self.span(position), label);
        self.push(Frame::warning(code, title).at(place))
    }

    fn push(&mut self, frame: Frame) -> &mut Frame {
        self.frames.push(frame);
        self.frames.last_mut().expect("it was pushed just now")
    }
}

/// The closure of `curry(closure, captured…)`, which is how Rhai writes a closure that captures.
fn curried(call: &FnCallExpr) -> Option<FnPtr> {
    if call.name != "curry" || call.args.len() < 2 {
        return None;
    }
    closure(&call.args[0])
}

/// The closure that is written here, whether it captures or not.
fn closure(expr: &Expr) -> Option<FnPtr> {
    match expr {
        Expr::DynamicConstant(value, _) => {
            value.read_lock::<FnPtr>().map(|closure| closure.clone())
        }
        Expr::Stmt(block) => block.statements().iter().find_map(|stmt| match stmt {
            Stmt::Expr(expr) => match &**expr {
                Expr::FnCall(call, _) => curried(call),
                _ => None,
            },
            Stmt::FnCall(call, _) => curried(call),
            _ => None,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
