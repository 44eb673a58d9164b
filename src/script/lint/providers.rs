//! Calls of providers: each `stripe.customers.create(…)` whose way is written out leads to an operation, with the arguments that it takes.
//! What is held in a variable on the way (`let customers = stripe.customers`) only a run can judge.

use rhai::{Expr, FnCallExpr, Position};

use super::Lint;
use super::calls::KEYWORDS;
use crate::frame::nearest;
use crate::script::diagnose::{counted, cut};
use crate::script::providers::{FUNCTIONS, Node, PROPERTIES, Takes, Tree};

/// Names that are shown of a resource; who needs more looks into the descriptor.
const NAMES_SHOWN_MAX: usize = 12;

/// Options of calls that no known API has as params.
const OPTIONS: [&str; 4] = ["wait", "timeout", "idempotency_key", "headers"];

/// One name behind a dot.
enum Step<'n> {
    Property(&'n str, Position),
    Call(&'n FnCallExpr, Position),
}

impl Lint<'_> {
    /// An expression with a dot, if it begins with a provider that the script has no variable of the same name for.
    pub(super) fn provider_chain(&mut self, chain: &Expr) {
        let Expr::Dot(whole, ..) = chain else { return };
        let Expr::Variable(variable, index, _) = &whole.lhs else { return };
        let name = variable.1.as_str();
        let is_own = variable.0.is_some() || index.is_some() || self.declared.contains(name);
        if is_own || !variable.2.is_empty() {
            return;
        }
        let known = self.known;
        if let Some((name, tree)) = known.providers.get_key_value(name) {
            self.follow(name, tree, &steps(&whole.rhs));
        }
    }

    fn follow(&mut self, provider: &str, root: &Tree, steps: &[Step<'_>]) {
        let (mut tree, mut way) = (root, provider.to_owned());
        for step in steps {
            let (name, position) = match step {
                Step::Property(name, position) => (*name, *position),
                Step::Call(call, position) => (call.name.as_str(), *position),
            };
            match (tree.get(name), step) {
                (Some(Node::Resource(below)), Step::Property(..)) => {
                    tree = below;
                    way = format!("{way}.{name}");
                }
                (Some(Node::Operation(takes)), Step::Call(call, _)) => {
                    self.provided.insert(position);
                    return self.arguments(&way, name, takes, call, position);
                }
                (Some(Node::Resource(_)), Step::Call(..)) => {
                    self.provided.insert(position);
                    let title = format!("`{way}.{name}` is a resource, and cannot be called");
                    self.error("E0241", title, position, "a resource");
                    return;
                }
                (Some(Node::Operation(takes)), Step::Property(..)) => {
                    self.told_of_call(steps);
                    let title = format!("`{way}.{name}` is an operation, and has to be called");
                    let frame = self.error("E0241", title, position, "an operation");
                    frame.help.push(format!("write `{way}.{name}{takes}`"));
                    return;
                }
                (None, Step::Property(..)) => {
                    let of_all = std::ptr::eq(tree, root) && PROPERTIES.contains(&name);
                    if !of_all {
                        self.told_of_call(steps);
                        self.unknown(root, &way, tree, name, position);
                    }
                    return;
                }
                (None, Step::Call(call, _)) => {
                    return self.other_call(&way, (root, tree), call, position);
                }
            }
        }
    }

    /// The call at the end of a way that leads nowhere is not told of once more.
    fn told_of_call(&mut self, steps: &[Step<'_>]) {
        if let Some(Step::Call(_, position)) = steps.last() {
            self.provided.insert(*position);
        }
    }

    /// A call of what is no operation: of what every provider has, of what every value has, or of nothing.
    fn other_call(
        &mut self,
        way: &str,
        (root, tree): (&Tree, &Tree),
        call: &FnCallExpr,
        position: Position,
    ) {
        let (name, arguments) = (call.name.as_str(), call.args.len());
        let at_root = std::ptr::eq(root, tree);
        let of_all = FUNCTIONS.iter().find(|(known, ..)| at_root && *known == name);
        if let Some((_, least, most, shown)) = of_all {
            self.provided.insert(position);
            if !(*least..=*most).contains(&arguments) {
                let title =
                    format!("`{way}.{name}` does not take {}", counted(arguments, "argument"));
                let frame = self.error("E0242", title, position, "");
                frame.help.push(format!("{way}.{shown}"));
            }
            return;
        }
        // `x.type_of()`, and a `fn` of the script that is called with `x` as `this`.
        if KEYWORDS.contains(&name) || self.script.defines(name, arguments) {
            return;
        }
        self.provided.insert(position);
        self.unknown(root, way, tree, name, position);
    }

    fn arguments(
        &mut self,
        way: &str,
        name: &str,
        takes: &Takes,
        call: &FnCallExpr,
        position: Position,
    ) {
        let given = call.args.len();
        if takes.fits(given) {
            return self.options(&format!("{way}.{name}"), takes, call, position);
        }
        let title = format!("`{way}.{name}` does not take {}", counted(given, "argument"));
        let frame = self.error("E0242", title, position, "");
        frame.help.push(format!("{way}.{name}{takes}"));
    }

    /// Options that stand where the params go would be sent as such.
    fn options(&mut self, shown: &str, takes: &Takes, call: &FnCallExpr, position: Position) {
        let Some(Expr::Map(map, _)) = call.args.get(takes.path.len()) else { return };
        let names: Vec<&str> = map.0.iter().map(|(name, _)| name.as_str()).collect();
        let are_params = names.is_empty() || !names.iter().all(|name| OPTIONS.contains(name));
        if !takes.params || call.args.len() > takes.path.len() + 1 || are_params {
            return;
        }
        let title = format!("`{}` would be sent to `{shown}` as params", names.join("`, `"));
        let frame = self.warning("E0243", title, position, "");
        frame.help.push(format!("options come last: `{shown}{takes}`; write `#{{}}` before them"));
    }

    fn unknown(&mut self, root: &Tree, way: &str, tree: &Tree, name: &str, position: Position) {
        let at_root = std::ptr::eq(root, tree);
        let of_all = FUNCTIONS.iter().map(|(known, ..)| *known).chain(PROPERTIES);
        let near = nearest(name, tree.names().chain(of_all.filter(|_| at_root)));
        let label = near
            .map_or_else(|| "not known".to_owned(), |near| format!("did you mean `{way}.{near}`?"));
        let title = format!("`{way}` has no operation `{}`", cut(name));
        let frame = self.error("E0241", title, position, &label);
        if tree.is_empty() {
            frame.help.push(format!(
                "call it by its path, as in `{way}.get(\"/path\")`, or name operations in a descriptor"
            ));
            return;
        }
        let mut names: Vec<&str> = tree.names().take(NAMES_SHOWN_MAX).collect();
        if tree.names().nth(NAMES_SHOWN_MAX).is_some() {
            names.push("…");
        }
        frame.help.push(format!("`{way}` has: {}", names.join(", ")));
    }
}

/// The names behind the first dot, up to the first call, or to what is no name.
fn steps(mut rest: &Expr) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    loop {
        let (first, further) = match rest {
            Expr::Dot(next, ..) => (&next.lhs, Some(&next.rhs)),
            // `x.list()[0]`: what stands before the bracket.
            Expr::Index(next, ..) => (&next.lhs, None),
            last => (last, None),
        };
        match first {
            Expr::Property(property, position) => {
                steps.push(Step::Property(property.2.as_str(), *position));
            }
            Expr::MethodCall(call, position) => {
                steps.push(Step::Call(call, *position));
                return steps;
            }
            _ => return steps,
        }
        match further {
            Some(further) => rest = further,
            None => return steps,
        }
    }
}
