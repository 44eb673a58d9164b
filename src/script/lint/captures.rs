//! Variables that closures capture, and names that hide ours. A captured variable is one value that all runs of a handler share, and
//! that all closures of a loop share: neither is what its author means.

use std::ops::Range;
use std::sync::Arc;

use rhai::{AST, ASTNode, Expr, FnCallExpr, FnPtr, Ident, Position, Stmt};

use super::Lint;
use crate::frame::Frame;
use crate::script::diagnose::{Site, Text, cut, is_anonymous};

/// Functions that register a handler.
const REGISTERING: [&str; 10] =
    ["webhook", "get", "post", "put", "patch", "delete", "on", "every", "on_dead", "on_alert"];

/// Functions that keep the closure that they are given.
const KEEPING: [&str; 5] = ["push", "insert", "append", "unshift", "set"];

/// The frame of a handler that captures a variable of the script. Where the position is not known, the closure's will do.
pub(crate) fn captured_variable(
    path: &str,
    source: &Arc<str>,
    name: &str,
    position: Position,
) -> Frame {
    let site = Site { path, source };
    let text = Text::new(source);
    let place = text.span_at(position).map(|span| site.place(span, "shared by all its runs"));
    let name = cut(name);
    let title = format!("the handler captures the variable `{name}`");
    let frame = Frame { place, ..Frame::error("E0211", title) };
    frame
        .help("handlers run concurrently; use `db`")
        .help(format!("what never changes is a constant: `const {} = …`", name.to_uppercase()))
}

/// The same for a handler as it was registered: the first of its captures that it shares and can change. Rhai shares captured
/// constants too, and keeps them constant.
pub(crate) fn shared_capture(
    path: &str,
    source: &Arc<str>,
    ast: &AST,
    handler: &FnPtr,
) -> Option<Frame> {
    let index =
        handler.iter_curry().position(|value| value.is_shared() && !value.is_read_only())?;
    let function = ast.iter_functions().find(|function| function.name == handler.fn_name());
    let name = function.and_then(|function| function.params.get(index).copied());
    let name = name.unwrap_or("a value").to_owned();
    let mut position = Position::NONE;
    ast.walk(&mut |nodes| {
        let Some(ASTNode::Expr(Expr::FnCall(call, closure_position))) = nodes.last() else {
            return true;
        };
        let is_handler =
            super::curried(call).is_some_and(|closure| closure.fn_name() == handler.fn_name());
        if is_handler {
            position = call.args.get(index + 1).map_or(*closure_position, Expr::position);
        }
        !is_handler
    });
    Some(captured_variable(path, source, &name, position))
}

impl Lint<'_> {
    /// A closure that is given to `webhook(…)` and the like and captures a variable.
    pub(super) fn handler_captures(&mut self, call: &FnCallExpr, around: &[ASTNode<'_>]) {
        let registers = REGISTERING.contains(&call.name.as_str())
            && !call.is_qualified()
            && !self.known.overloads(&call.name).is_empty();
        // In a function the captured name may be a parameter, or a constant of an outer block: the loader sees those.
        if !registers || around.len() > 1 {
            return;
        }
        for arg in &call.args {
            let Expr::Stmt(block) = arg else { continue };
            for stmt in block.statements() {
                let Stmt::Share(captured) = stmt else { continue };
                for (ident, _) in captured.iter() {
                    if self.text.declared_at_top(&ident.name) == Some("let") {
                        let frame = captured_variable(
                            self.site.path,
                            self.site.source,
                            &ident.name,
                            ident.pos,
                        );
                        self.push(frame);
                    }
                }
            }
        }
    }

    /// `for id in ids { calls.push(|| fetch(id)) }`: all closures see the last `id`.
    pub(super) fn loop_captures<T>(&mut self, captured: &[(Ident, T)], around: &[ASTNode<'_>]) {
        for (ident, _) in captured {
            let Some(at) = around.iter().rposition(|node| changes(node, &ident.name)) else {
                continue;
            };
            let ASTNode::Stmt(turn) = around[at] else { continue };
            if !outlives(&around[at..], turn) {
                continue;
            }
            let name = cut(&ident.name);
            let title = format!("every closure that is made here sees the last `{name}`");
            let frame = self.error("E0212", title, ident.pos, "one variable for the whole loop");
            frame.help.push(format!(
                "write `let own = {name};` in the loop and use `own` in the closure"
            ));
            if let Stmt::For(..) = turn {
                frame.help.push(format!(
                    "or hand the list over, in place of the loop: `parallel(list, |{name}| …)`"
                ));
            }
        }
    }

    /// A variable or parameter with the name of one of our objects.
    pub(super) fn shadowing(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::Var(parts, ..) => self.shadows(&parts.0.name, parts.0.pos),
            Stmt::For(parts, _) => {
                self.shadows(&parts.0.name, parts.0.pos);
                if let Some(counter) = &parts.1 {
                    self.shadows(&counter.name, counter.pos);
                }
            }
            Stmt::TryCatch(flow, _) => {
                if let Expr::Variable(parts, _, position) = &flow.expr {
                    self.shadows(&parts.1, *position);
                }
            }
            _ => {}
        }
    }

    fn shadows(&mut self, name: &str, position: Position) {
        if self.known.variables.contains(name) {
            let frame = hides(self.site, name, self.span(position));
            self.frames.push(frame);
        }
    }

    /// The same for the parameters of functions and closures. Captures are parameters to Rhai, and not to the author.
    pub(super) fn shadowing_params(&mut self, ast: &AST) {
        for function in ast.iter_functions() {
            // Rhai keeps no position of a parameter; it is the first word of its name from here on.
            let (captured, start) = if is_anonymous(function.name) {
                let captured = self.script.captures.get(function.name).copied();
                let position = self.script.closures.get(function.name).copied();
                (captured.unwrap_or_default(), position.and_then(|at| self.text.offset(at)))
            } else {
                let count = function.params.len();
                let found =
                    self.own.iter().find(|own| own.0 == function.name && own.1.len() == count);
                (0, found.map(|(.., start)| *start))
            };
            for param in function.params.iter().skip(captured) {
                let token = self.text.tokens.iter().find(|token| {
                    Some(token.span.start) >= start
                        && self.site.source[token.span.clone()] == **param
                });
                if let (true, Some(token)) = (self.known.variables.contains(*param), token) {
                    let frame = hides(self.site, param, token.span.clone());
                    self.frames.push(frame);
                }
            }
        }
    }

    /// `const X = #{}; X.a = 1`: Rhai finds it at run time, and with its optimizer on it panics.
    pub(super) fn constant_changed(&mut self, stmt: &Stmt) {
        let Stmt::Assignment(parts) = stmt else { return };
        let mut target = &parts.1.lhs;
        while let Expr::Dot(chain, ..) | Expr::Index(chain, ..) = target {
            target = &chain.lhs;
        }
        let Expr::Variable(variable, _, position) = target else { return };
        let name = variable.1.as_str();
        if self.constants.contains(name) && variable.2.is_empty() {
            let name = cut(name);
            let title = format!("`{name}` is a constant");
            let frame = self.error("E0214", title, *position, "cannot be changed");
            frame.help.push(format!("declare it with `let {name} = …` to change it"));
        }
    }
}

fn hides(site: Site<'_>, name: &str, span: Range<usize>) -> Frame {
    let name = cut(name);
    let place = site.place(span, format!("from here on `{name}` is this one"));
    Frame::warning("E0217", format!("this `{name}` hides ours"))
        .at(place)
        .help("give it another name, if ours is to be reached here")
}

/// Whether this node is a loop that gives the name another value in each turn: its own variable, or one from outside that it changes.
fn changes(node: &ASTNode<'_>, name: &str) -> bool {
    let ASTNode::Stmt(turn @ (Stmt::For(..) | Stmt::While(..) | Stmt::Do(..))) = node else {
        return false;
    };
    if let Stmt::For(parts, _) = turn
        && (parts.0.name == name || parts.1.as_ref().is_some_and(|counter| counter.name == name))
    {
        return true;
    }
    let assigns = |nodes: &[ASTNode<'_>]| match nodes.last() {
        Some(ASTNode::Stmt(Stmt::Assignment(parts))) => variable(&parts.1.lhs) == Some(name),
        _ => false,
    };
    !declares(turn, name) && any(turn, assigns)
}

/// Whether the closure at the end of this way, which begins with a turn of a loop, is still there when the turn is over: it is put into
/// something from outside, itself or by way of a variable.
fn outlives(way: &[ASTNode<'_>], turn: &Stmt) -> bool {
    if (1..=way.len()).any(|end| keeps(&way[..end], turn)) {
        return true;
    }
    let held = way.iter().find_map(|node| match node {
        ASTNode::Stmt(Stmt::Var(parts, ..)) => Some(parts.0.name.as_str()),
        _ => None,
    });
    let hands_on = |nodes: &[ASTNode<'_>]| {
        let [way @ .., ASTNode::Expr(expr)] = nodes else { return false };
        let literals = way
            .iter()
            .rev()
            .take_while(|node| matches!(node, ASTNode::Expr(Expr::Array(..) | Expr::Map(..))));
        let end = way.len() - literals.count();
        variable(expr).is_some() && variable(expr) == held && keeps(&way[..end], turn)
    };
    any(turn, hands_on)
}

/// Whether the last node of this way puts what is inside it into something that was there before the turn.
fn keeps(way: &[ASTNode<'_>], turn: &Stmt) -> bool {
    let from_outside = |root: Option<&str>| root.is_none_or(|root| !declares(turn, root));
    match way.last() {
        Some(ASTNode::Expr(Expr::MethodCall(call, _))) => {
            KEEPING.contains(&call.name.as_str()) && from_outside(receiver(way))
        }
        Some(ASTNode::Expr(Expr::FnCall(call, _)) | ASTNode::Stmt(Stmt::FnCall(call, _))) => {
            KEEPING.contains(&call.name.as_str())
                && !call.is_qualified()
                && from_outside(call.args.first().and_then(root))
        }
        Some(ASTNode::Stmt(Stmt::Assignment(parts))) => {
            let target = &parts.1.lhs;
            let adds = parts.0.is_op_assignment()
                || variable(target).is_none_or(|name| mentions(&parts.1.rhs, name));
            adds && from_outside(root(target))
        }
        _ => false,
    }
}

/// The variable that the call at the end of this way is made on: `calls` of `calls.list.push(…)`.
fn receiver<'a>(way: &'a [ASTNode<'_>]) -> Option<&'a str> {
    let chain = way.iter().rev().skip(1).map_while(|node| match node {
        ASTNode::Expr(expr @ (Expr::Dot(..) | Expr::Index(..))) => Some(*expr),
        _ => None,
    });
    chain.last().and_then(root)
}

/// The variable at the start of `a.b[c]`.
fn root(expr: &Expr) -> Option<&str> {
    let mut target = expr;
    while let Expr::Dot(chain, ..) | Expr::Index(chain, ..) = target {
        target = &chain.lhs;
    }
    variable(target)
}

fn variable(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Variable(parts, ..) if parts.2.is_empty() => Some(parts.1.as_str()),
        _ => None,
    }
}

fn mentions(expr: &Expr, name: &str) -> bool {
    let mut found = false;
    expr.walk(&mut Vec::new(), &mut |nodes: &[ASTNode<'_>]| {
        found |= matches!(nodes.last(), Some(ASTNode::Expr(expr)) if variable(expr) == Some(name));
        !found
    });
    found
}

/// Whether a variable of that name is made anew in each turn.
fn declares(turn: &Stmt, name: &str) -> bool {
    any(
        turn,
        |nodes| matches!(nodes.last(), Some(ASTNode::Stmt(Stmt::Var(parts, ..))) if parts.0.name == name),
    )
}

fn any(stmt: &Stmt, mut is: impl FnMut(&[ASTNode<'_>]) -> bool) -> bool {
    let mut found = false;
    stmt.walk(&mut Vec::new(), &mut |nodes: &[ASTNode<'_>]| {
        found |= is(nodes);
        !found
    });
    found
}
