//! Changes that get lost: a closure that `parallel` runs works on copies of what it captures, so what it does to them ends with it.

use std::collections::BTreeMap;

use rhai::{AST, ASTNode, Expr, FnCallExpr, Position, Stmt};

use super::Lint;
use super::captures::{declares, receiver, root};
use super::values::IN_PLACE;
use crate::script::diagnose::cut;

impl Lint<'_> {
    /// `parallel(list, |x| …)`, `parallel([|| …, || …])` and `list.parallel(|x| …)`.
    pub(super) fn branches_of(&mut self, call: &FnCallExpr) {
        if call.name != "parallel" || call.is_qualified() {
            return;
        }
        let closures = call.args.iter().flat_map(|arg| match arg {
            Expr::Array(items, _) => items.iter().collect(),
            other => vec![other],
        });
        let closures = closures.filter_map(super::closure);
        self.branches.extend(closures.map(|closure| closure.fn_name().to_owned()));
    }

    /// What the closures that were found do to what they have captured.
    pub(super) fn lost_changes(&mut self, ast: &AST) {
        for function in ast.iter_functions() {
            if !self.branches.contains(function.name) {
                continue;
            }
            let captured = self.script.captures.get(function.name).copied().unwrap_or_default();
            let captured: Vec<&str> = function.params.iter().take(captured).copied().collect();
            let (name, count) = (function.name.to_owned(), function.params.len());
            let alone = ast.clone_functions_only_filtered(|_, _, _, other, params| {
                other == name && params == count
            });
            for (lost, position) in changed_only(&alone, &captured) {
                let shown = cut(&lost);
                let title = format!("what this closure does to `{shown}` is lost when it ends");
                let frame = self.warning("E0240", title, position, "a copy of its own");
                frame.help.push(format!(
                    "`parallel` works on copies: give the value back, and change `{shown}` with what `parallel` gives"
                ));
            }
        }
    }
}

/// Of these variables those that are changed and never looked at, each with the place of its first change.
fn changed_only(ast: &AST, captured: &[&str]) -> BTreeMap<String, Position> {
    let mut changed: BTreeMap<String, Option<Position>> = BTreeMap::new();
    ast.walk(&mut |way| {
        if let Some(ASTNode::Expr(Expr::Variable(parts, _, position))) = way.last()
            && let Some(name) = captured.iter().find(|name| parts.1 == **name)
        {
            let seen = changed.entry((*name).to_owned()).or_insert(Some(*position));
            if !way.iter().any(|node| is_change_of(node, name)) {
                *seen = None;
            }
        }
        if let Some(ASTNode::Stmt(stmt @ Stmt::Var(parts, ..))) = way.last()
            && declares(stmt, &parts.0.name)
        {
            // From here on it may be another one.
            changed.insert(parts.0.name.to_string(), None);
        }
        true
    });
    changed.into_iter().filter_map(|(name, position)| Some((name, position?))).collect()
}

/// `name += x;`, `name.a[b] = x;` or `name.push(x);`.
fn is_change_of(node: &ASTNode<'_>, name: &str) -> bool {
    match node {
        ASTNode::Stmt(Stmt::Assignment(parts)) => root(&parts.1.lhs) == Some(name),
        ASTNode::Stmt(stmt @ Stmt::Expr(_)) => changes_in_place(stmt, name),
        _ => false,
    }
}

fn changes_in_place(stmt: &Stmt, name: &str) -> bool {
    let Stmt::Expr(expr) = stmt else { return false };
    let mut found = false;
    if root(expr) == Some(name) {
        expr.walk(&mut Vec::new(), &mut |way: &[ASTNode<'_>]| {
            if let Some(ASTNode::Expr(Expr::MethodCall(call, _))) = way.last() {
                found |= IN_PLACE.contains(&call.name.as_str()) && receiver(way) == Some(name);
            }
            true
        });
    }
    found
}
