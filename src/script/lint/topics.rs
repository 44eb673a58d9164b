//! What a script emits: the topic of each `emit` whose topic is written out, and whether there are others, whose topics only a run knows.
//! Whether anybody listens, only all scripts together know.

use std::sync::Arc;

use rhai::{AST, ASTNode, Expr, FnCallExpr, Position, Stmt};

use crate::frame::Place;
use crate::script::diagnose::{Site, Text};

/// The function that emits.
const EMIT: &str = "emit";

/// What is emitted, as far as the source tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Emits {
    /// In the order of the source.
    pub(crate) topics: Vec<Emitted>,
    /// Some topic is computed, or `emit` is called by way of a value: nothing is known of what else is emitted.
    pub(crate) computed: bool,
}

/// One `emit` with its topic written out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Emitted {
    /// As written.
    pub(crate) topic: Box<str>,
    /// The call.
    pub(crate) place: Place,
}

/// The first of a file; one that is made has no more.
const TOPICS_MAX: usize = 500;

impl Emits {
    /// Adds those of one file: the script's own, or a module's.
    pub(crate) fn add(&mut self, path: &str, source: &Arc<str>, ast: &AST) {
        let (site, text) = (Site { path, source }, Text::new(source));
        let most = self.topics.len() + TOPICS_MAX;
        ast.walk(&mut |nodes| {
            match nodes.last().and_then(found) {
                Some(Found::Written(topic, position)) => {
                    let place = site.place(text.span_at(position).unwrap_or_default(), "");
                    self.topics.push(Emitted { topic: topic.into(), place });
                }
                Some(Found::Computed) => self.computed = true,
                None => {}
            }
            self.topics.len() < most
        });
        self.computed |= self.topics.len() >= most;
    }
}

enum Found<'n> {
    Written(&'n str, Position),
    Computed,
}

fn found<'n>(node: &'n ASTNode<'_>) -> Option<Found<'n>> {
    match node {
        ASTNode::Expr(Expr::FnCall(call, position))
        | ASTNode::Stmt(Stmt::FnCall(call, position)) => called(call, *position),
        // `topic.emit(payload)` is the same call.
        ASTNode::Expr(Expr::MethodCall(call, _)) => (call.name == EMIT).then_some(Found::Computed),
        // `Fn("emit")`.
        ASTNode::Expr(Expr::StringConstant(text, _)) => (text == EMIT).then_some(Found::Computed),
        _ => None,
    }
}

fn called(call: &FnCallExpr, position: Position) -> Option<Found<'_>> {
    if call.name != EMIT || !call.namespace.is_empty() {
        return None;
    }
    Some(match call.args.first() {
        Some(Expr::StringConstant(topic, _)) => Found::Written(topic, position),
        _ => Found::Computed,
    })
}

#[cfg(test)]
mod tests {
    use rhai::{Engine, OptimizationLevel};

    use super::*;

    fn emits(source: &str) -> (Vec<String>, bool) {
        let mut engine = Engine::new();
        engine.set_optimization_level(OptimizationLevel::None);
        let ast = engine.compile(source).unwrap();
        let mut emits = Emits::default();
        emits.add("scripts/a.rhai", &source.into(), &ast);
        let mut topics: Vec<String> = emits
            .topics
            .iter()
            .map(|Emitted { topic, place }| format!("{topic} {place}"))
            .collect();
        topics.sort();
        (topics, emits.computed)
    }

    #[test]
    fn topics_that_are_written_out_are_found_wherever_they_stand() {
        let source = r#"
            fn tell(x) { emit("told", x) }
            let a = || emit("in.closure", 1, #{ key: "k" });
            if true { for i in 0..2 { emit("in.loop", i); } }
            x::emit("of.a.module", 1); emits("another", 1);
        "#;
        let expected = [
            "in.closure scripts/a.rhai:3:24",
            "in.loop scripts/a.rhai:4:39",
            "told scripts/a.rhai:2:26",
        ];
        assert_eq!(emits(source), (expected.map(str::to_owned).to_vec(), false));
    }

    #[test]
    fn a_topic_that_only_a_run_knows_is_told_as_such() {
        for source in [
            "let topic = \"t\"; emit(topic, 1);",
            "let x = 1; emit(`t.${x}`, 1);",
            "emit(\"a\" + \"b\", 1);",
            "\"t\".emit(1);",
            "Fn(\"emit\").call(\"t\", 1);",
        ] {
            assert_eq!(emits(source), (Vec::new(), true), "{source}");
        }
    }
}
