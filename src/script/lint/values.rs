//! Values that are not what they look like: what a `catch` block ends with, what functions give that change a value in place, what a
//! division of two whole numbers leaves.

use rhai::{AST, ASTNode, Expr, FnCallExpr, Position, Stmt};

use super::Lint;
use crate::script::diagnose::{cut, is_anonymous};
use crate::script::parts::alone;

/// Functions that change the value before the dot and give `()`. Warned of where all their overloads do.
const IN_PLACE: [&str; 20] = [
    "trim",
    "replace",
    "make_upper",
    "make_lower",
    "sort",
    "sort_by",
    "sort_desc",
    "reverse",
    "dedup",
    "truncate",
    "crop",
    "chop",
    "push",
    "append",
    "insert",
    "pad",
    "clear",
    "mixin",
    "fill_with",
    "set",
];

/// Functions that make an answer: their value is meant to be given.
const ANSWERING: [&str; 5] = ["status", "response", "html", "redirect", "stream"];

impl Lint<'_> {
    /// `let name = user.name.trim();`.
    pub(super) fn lost_in_place(
        &mut self,
        call: &FnCallExpr,
        position: Position,
        nodes: &[ASTNode<'_>],
    ) {
        if self.gives_nothing(call) && is_used(nodes) {
            self.in_place_frame(&call.name, position);
        }
    }

    fn gives_nothing(&self, call: &FnCallExpr) -> bool {
        let ways = self.known.overloads(&call.name);
        let mut ways = ways.iter().filter(|way| way.params.len() == call.args.len() + 1).peekable();
        IN_PLACE.contains(&call.name.as_str())
            && !self.script.defines(&call.name, call.args.len())
            && ways.peek().is_some()
            && ways.all(|way| &*way.result == "()")
    }

    fn in_place_frame(&mut self, name: &str, position: Position) {
        let name = cut(name);
        let title = format!("`{name}` changes the value in place and gives `()`");
        let frame = self.warning("E0218", title, position, "its value is used here");
        frame.help.push(format!("write `let x = …; x.{name}(…);`, and then use `x`"));
    }

    /// `1 / 2`.
    pub(super) fn division(&mut self, call: &FnCallExpr, position: Position) {
        if call.name != "/" || !call.is_operator_call() {
            return;
        }
        let [Expr::IntegerConstant(left, start), Expr::IntegerConstant(right, end)] = &*call.args
        else {
            return;
        };
        let (Some(quotient), Some(rest)) = (left.checked_div(*right), left.checked_rem(*right))
        else {
            return;
        };
        if rest == 0 {
            return;
        }
        let span = self.span(*start).start..self.span(*end).end;
        let title = format!("`{left} / {right}` is {quotient}: whole numbers give a whole number");
        let frame = self.warning("E0219", title, position, "");
        if let Some(place) = &mut frame.place {
            place.span = span;
        }
        frame.help.push(format!("write `{left}.0 / {right}` for the fraction"));
    }

    /// What functions and closures end with.
    pub(super) fn function_ends(&mut self, ast: &AST) {
        self.shadowing_params(ast);
        for function in ast.iter_functions() {
            let (name, params) = (function.name.to_owned(), function.params.len());
            let alone = alone(ast, &name, params);
            let mut lost = Vec::new();
            let mut in_place = None;
            alone.walk(&mut |nodes| {
                if let [ASTNode::Stmt(stmt)] = nodes {
                    // The last statement is seen last.
                    lost.clear();
                    lost_values(stmt, &mut lost);
                    in_place = last_call(stmt).map(|(call, position)| {
                        (call.name.to_string(), position, self.gives_nothing(call))
                    });
                }
                true
            });
            for position in lost {
                self.lost_in_catch(position, is_anonymous(&name));
            }
            if let Some((called, position, true)) = in_place
                && self.mapped.contains(&name)
            {
                self.in_place_frame(&called, position);
            }
        }
    }

    fn lost_in_catch(&mut self, position: Position, is_closure: bool) {
        let title = "the value of a `catch` block is always `()`".to_owned();
        let label =
            if is_closure { "a handler that ends with it answers 204" } else { "never seen" };
        let frame = self.error("E0213", title, position, label);
        frame.help.push("write `return` in both blocks, of `try` and of `catch`".to_owned());
    }
}

/// Whether anything looks at the value of the last node, the call at the end of a chain.
fn is_used(nodes: &[ASTNode<'_>]) -> bool {
    let mut at = nodes.len() - 1;
    while let Some(above) = at.checked_sub(1) {
        let (node, parent) = (nodes[at], nodes[above]);
        match (parent, node) {
            (ASTNode::Expr(Expr::Dot(chain, ..) | Expr::Index(chain, ..)), ASTNode::Expr(this)) => {
                if std::ptr::eq(&chain.lhs, this) {
                    return true;
                }
                at = above;
            }
            (ASTNode::Expr(Expr::Stmt(_)), _) => return false,
            (ASTNode::Expr(_), _) => return true,
            (ASTNode::Stmt(stmt), _) => {
                return matches!(
                    stmt,
                    Stmt::Var(..)
                        | Stmt::Assignment(..)
                        | Stmt::Return(..)
                        | Stmt::FnCall(..)
                        | Stmt::If(..)
                        | Stmt::Switch(..)
                        | Stmt::While(..)
                        | Stmt::For(..)
                );
            }
            _ => return false,
        }
    }
    false
}

/// The values that get lost in `catch` blocks at the end of this statement, if it is the last of its function.
fn lost_values(stmt: &Stmt, lost: &mut Vec<Position>) {
    let mut last_of = |stmts: &[Stmt]| {
        if let Some(last) = stmts.last() {
            lost_values(last, lost);
        }
    };
    match stmt {
        Stmt::TryCatch(flow, _) => match flow.branch.statements().last() {
            Some(Stmt::Expr(expr)) if is_meant(expr) => lost.push(expr.start_position()),
            Some(Stmt::FnCall(call, position)) if is_answer(call) => lost.push(*position),
            _ => {}
        },
        Stmt::If(flow, _) => {
            last_of(flow.body.statements());
            last_of(flow.branch.statements());
        }
        Stmt::Block(block) => last_of(block.statements()),
        Stmt::Switch(parts, _) => {
            for case in &parts.1.expressions {
                if let Expr::Stmt(block) = &case.rhs {
                    last_of(block.statements());
                }
            }
        }
        Stmt::Expr(expr) => {
            if let Expr::Stmt(block) = &**expr {
                last_of(block.statements());
            }
        }
        _ => {}
    }
}

/// Whether an expression does nothing but be a value, so that it must be meant as the result.
fn is_meant(expr: &Expr) -> bool {
    match expr {
        Expr::Unit(_) => false,
        Expr::Map(..)
        | Expr::Array(..)
        | Expr::InterpolatedString(..)
        | Expr::Variable(..)
        | Expr::Coalesce(..) => true,
        Expr::FnCall(call, _) => call.is_operator_call() || is_answer(call),
        other => other.is_constant(),
    }
}

fn is_answer(call: &FnCallExpr) -> bool {
    !call.is_qualified() && ANSWERING.contains(&call.name.as_str())
}

/// The call at the end of the chain that this statement is.
fn last_call(stmt: &Stmt) -> Option<(&FnCallExpr, Position)> {
    let Stmt::Expr(expr) = stmt else { return None };
    let mut expr = &**expr;
    while let Expr::Dot(chain, ..) | Expr::Index(chain, ..) = expr {
        expr = &chain.rhs;
    }
    match expr {
        Expr::MethodCall(call, position) => Some((call, *position)),
        _ => None,
    }
}
