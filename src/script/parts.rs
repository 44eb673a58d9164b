//! Which parts of its event a handler can look at, read off its code: where it names `event` only to follow fields (`event.data.id`), the
//! others need not be built from JSON. Anything else that is done with `event`, and it is built whole.

use std::collections::BTreeMap;

use rhai::{AST, ASTNode, Expr, FnPtr, Stmt};

/// Fields of a value, and of those the fields that matter. No fields: the whole value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts(BTreeMap<Box<str>, Parts>);

impl Parts {
    /// The part of this name; `None` where nobody looks at it.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        self.0.get(name)
    }

    /// Nothing of the value: a field that no payload has a use for.
    pub(crate) fn nothing() -> Self {
        Self::below(&["".into()], Self::default())
    }

    /// Whether all of the value is wanted.
    pub(crate) fn is_whole(&self) -> bool {
        self.0.is_empty()
    }

    /// A value that has only this part at the end of a path.
    pub(crate) fn below(path: &[Box<str>], part: Self) -> Self {
        path.iter().rev().fold(part, |part, name| Self(BTreeMap::from([(name.clone(), part)])))
    }

    /// Adds a path; a path that ends where others go on wants all of them.
    fn add(&mut self, path: &[&str]) {
        let Some((first, rest)) = path.split_first() else {
            self.0.clear();
            return;
        };
        match self.0.get_mut(*first) {
            Some(known) if known.is_whole() => {}
            Some(known) => known.add(rest),
            None => {
                _ = self.0.insert(
                    (*first).into(),
                    Self::below(
                        &rest.iter().map(|name| Box::from(*name)).collect::<Vec<_>>(),
                        Self::default(),
                    ),
                )
            }
        }
    }
}

/// What a handler looks at in the value that it is called with; `None`: perhaps all of it.
pub(crate) fn of(ast: &AST, handler: &FnPtr) -> Option<Parts> {
    let function = ast.iter_functions().find(|function| function.name == handler.fn_name())?;
    let parameter = *function.params.get(handler.curry().len())?;
    let count = function.params.len();
    let alone = alone(ast, handler.fn_name(), count);
    let mut parts = Parts::default();
    let mut follows = |nodes: &[ASTNode<'_>]| match nodes {
        // A closure inside captures it, or some other variable: not worth telling apart.
        [.., ASTNode::Stmt(Stmt::Share(_))] => false,
        [.., ASTNode::Expr(parent), ASTNode::Expr(Expr::Variable(variable, ..))]
            if variable.1 == parameter =>
        {
            let fields = fields(parent);
            parts.add(&fields);
            !fields.is_empty()
        }
        [.., ASTNode::Expr(Expr::Variable(variable, ..))] => variable.1 != parameter,
        _ => true,
    };
    (alone.walk(&mut follows) && !parts.is_whole()).then_some(parts)
}

/// One function of a script, without the others. `clone_functions_only_filtered` filters nothing (rhai 1.27): what is new takes over all functions at once.
pub(super) fn alone(ast: &AST, name: &str, params: usize) -> AST {
    let mut alone = ast.clone_functions_only();
    alone.retain_functions(|_, _, other, count| other == name && count == params);
    alone
}

/// The names in `event.data.id`, whose left-most part is a variable; none where that is not what it is.
fn fields(chain: &Expr) -> Vec<&str> {
    let Expr::Dot(first, ..) = chain else { return Vec::new() };
    if !matches!(first.lhs, Expr::Variable(..)) {
        return Vec::new();
    }
    let mut names = Vec::new();
    let mut rest = &first.rhs;
    loop {
        match rest {
            Expr::Property(property, _) => {
                names.push(property.2.as_str());
                return names;
            }
            Expr::Dot(next, ..) | Expr::Index(next, ..) => {
                let Expr::Property(property, _) = &next.lhs else { return names };
                names.push(property.2.as_str());
                if matches!(rest, Expr::Index(..)) {
                    return names;
                }
                rest = &next.rhs;
            }
            _ => return names,
        }
    }
}

#[cfg(test)]
mod tests {
    use rhai::Engine;

    use super::*;

    /// The paths that a handler `|event| BODY` looks at, sorted; `*` for the whole.
    fn looks_at(body: &str) -> String {
        let mut engine = Engine::new();
        engine.set_optimization_level(rhai::OptimizationLevel::None);
        let ast = engine.compile(format!("fn save(x) {{ x }} |event| {{ {body} }}")).unwrap();
        let handler: FnPtr = engine.eval_ast(&ast).unwrap();
        let Some(parts) = of(&ast, &handler) else { return "*".to_owned() };
        let mut paths = Vec::new();
        list(&parts, "", &mut paths);
        paths.join(" ")
    }

    fn list(Parts(parts): &Parts, above: &str, paths: &mut Vec<String>) {
        for (name, part) in parts {
            let path = format!("{above}{name}");
            if part.is_whole() {
                paths.push(path);
            } else {
                list(part, &format!("{path}."), paths);
            }
        }
    }

    #[test]
    fn fields_that_are_followed_are_all_that_is_built() {
        let check = |body: &str, expected: &str| assert_eq!(looks_at(body), expected, "{body}");
        check("event.type", "type");
        check("switch event.type { \"a\" => #{ x: event.data.id }, _ => () }", "data.id type");
        check("save(event.data)", "data");
        check("event.data.items.len() + event.data.id", "data.id data.items");
        check("event.data.items[0].name", "data.items");
        check("event.data?.id ?? event.type", "data.id type");
        check("event.data.id + save(event.data)", "data");
        check("save(event.data) + event.data.id", "data");
        check("`${event.data.name}!`", "data.name");
        check(
            "if event.data.a { event.data.b } else { [event.type, #{ x: event.id }] }",
            "data.a data.b id type",
        );
        check("for item in event.data.items { save(item) }", "data.items");
        check("let x = event.data; x.id", "data");
        check("try { throw event.type } catch (error) { event.data.id }", "data.id type");
    }

    #[test]
    fn whatever_else_is_done_with_the_event_builds_it_whole() {
        for body in [
            "event",
            "save(event)",
            "event.keys()",
            "event[\"data\"]",
            "let x = event; x.data.id",
            "#{ e: event }",
            "[1].map(|n| event.data.id + n)",
            "event.len() + event.data.id",
            "event == 1",
            "1",
            "{ let event = save(event); event.type }",
        ] {
            assert_eq!(looks_at(body), "*", "{body}");
        }
    }
}
