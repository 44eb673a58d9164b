//! Which documents a script looks for: each `db.NAME.find(#{ … })`, `all` and `count` whose fields are written out. Whether they have an index,
//! and whether that matters, only config and a database know.

use std::sync::Arc;

use rhai::{AST, ASTNode, Expr, FnCallExpr, Position};

use crate::frame::Place;
use crate::script::diagnose::{Site, Text};

/// The functions that take a filter.
const BY_FILTER: [&str; 3] = ["find", "all", "count"];

/// One call, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    /// `orders` for `db.orders`.
    pub(crate) collection: Box<str>,
    /// `find`, `all` or `count`.
    pub(crate) function: Box<str>,
    /// Those of its filter, then that of `order_by`; at least one.
    pub(crate) fields: Vec<Box<str>>,
    /// The call.
    pub(crate) place: Place,
}

/// The first of a script; one that is made has no more.
const QUERIES_MAX: usize = 500;

/// All of them, such as `db.orders.find(#{ status: "open" })`, whatever follows it.
pub(crate) fn queries(path: &str, source: &Arc<str>, ast: &AST) -> Vec<Query> {
    let (site, text) = (Site { path, source }, Text::new(source));
    let mut queries = Vec::new();
    ast.walk(&mut |nodes| {
        if let Some((collection, call, position)) = nodes.last().and_then(called) {
            let (function, fields) = (call.name.as_str(), fields(call));
            if BY_FILTER.contains(&function) && !fields.is_empty() {
                let place = site.place(text.span_at(position).unwrap_or_default(), "");
                let (collection, function) = (collection.into(), function.into());
                queries.push(Query { collection, function, fields, place });
            }
        }
        queries.len() < QUERIES_MAX
    });
    queries
}

/// The collection and the call in `db.orders.find(…)`.
fn called<'n>(node: &'n ASTNode<'_>) -> Option<(&'n str, &'n FnCallExpr, Position)> {
    let ASTNode::Expr(Expr::Dot(db, ..)) = node else { return None };
    let Expr::Variable(variable, ..) = &db.lhs else { return None };
    let Expr::Dot(below, ..) = &db.rhs else { return None };
    let Expr::Property(collection, _) = &below.lhs else { return None };
    let call = match &below.rhs {
        Expr::Dot(next, ..) | Expr::Index(next, ..) => &next.lhs,
        call => call,
    };
    let Expr::MethodCall(call, position) = call else { return None };
    (variable.1 == "db").then_some((collection.2.as_str(), call, *position))
}

fn fields(call: &FnCallExpr) -> Vec<Box<str>> {
    let entries = |at: usize| match call.args.get(at) {
        Some(Expr::Map(map, _)) => map.0.as_slice(),
        _ => &[],
    };
    let filter = entries(0).iter().map(|(name, _)| name.as_str());
    let order = entries(1).iter().filter_map(|(name, value)| match value {
        Expr::StringConstant(field, _) if name.as_str() == "order_by" => {
            Some(field.strip_prefix('-').unwrap_or(field))
        }
        _ => None,
    });
    filter.chain(order).map(Box::from).collect()
}

#[cfg(test)]
mod tests {
    use rhai::{Engine, OptimizationLevel};

    use super::*;

    #[test]
    fn searches_are_found_wherever_they_stand_with_the_fields_that_are_written_out() {
        let source = r#"
            fn open() { db.orders.find(#{ status: "open", "customer.id": x() }).map(|o| o.id) }
            let a = || db.users.count(#{ at: #{ gte: 5 } });
            for o in db.orders.all(#{}, #{ order_by: "-at" }) { }
            db.orders.find(#{}, #{ order_by: field }); db.orders.find(filter); db.orders.list();
            other.orders.find(#{ a: 1 }); db.orders.get(#{ a: 1 });
        "#;
        let mut engine = Engine::new();
        engine.set_optimization_level(OptimizationLevel::None);
        let ast = engine.compile(source).unwrap();
        let mut found: Vec<String> = queries("scripts/a.rhai", &source.into(), &ast)
            .iter()
            .map(|Query { collection, function, fields, place }| {
                format!("{collection}.{function} {} {place}", fields.join(","))
            })
            .collect();
        found.sort();
        assert_eq!(
            found,
            [
                "orders.all at scripts/a.rhai:4:32",
                "orders.find status,customer.id scripts/a.rhai:2:35",
                "users.count at scripts/a.rhai:3:33",
            ]
        );
    }
}
