//! Calls and definitions: what is called and does not exist, and what a script defines over something of ours.

use rhai::{AST, FnCallExpr, Namespace, Position};

use super::Lint;
use crate::frame::Frame;
use crate::script::api;
use crate::script::diagnose::{Signature, counted, cut, is_anonymous, nearest};

/// Answered by Rhai itself, for any number of arguments that it takes.
pub(super) const KEYWORDS: [&str; 11] = [
    "Fn",
    "call",
    "curry",
    "type_of",
    "is_shared",
    "is_def_var",
    "is_def_fn",
    "print",
    "debug",
    "eval",
    "this",
];

/// Ways to call a function that are shown.
const WAYS_SHOWN_MAX: usize = 4;

impl Lint<'_> {
    /// `f(a, b)` or `module::f(a, b)`.
    pub(super) fn plain_call(&mut self, call: &FnCallExpr, position: Position) {
        let arguments = call.args.len();
        let name = call.name.as_str();
        if call.is_operator_call() || !rhai::is_valid_identifier(name) || is_anonymous(name) {
            return;
        }
        if call.is_qualified() {
            self.module_call(&call.namespace, name, arguments, position);
            return;
        }
        if KEYWORDS.contains(&name)
            || self.known.takes(name, arguments)
            || self.script.defines(name, arguments)
        {
            return;
        }
        let ways: Vec<String> = self
            .own
            .iter()
            .filter(|(own, ..)| *own == name)
            .map(|(name, params, _)| format!("{name}({})", params.join(", ")))
            .chain(self.known.overloads(name).iter().map(ToString::to_string))
            .take(WAYS_SHOWN_MAX)
            .collect();
        let declared = self.declared.contains(name);
        let meant = self.known.meant(name, self.own.iter().map(|(name, ..)| *name));
        let shown = cut(name);
        let title = if ways.is_empty() {
            format!("there is no function `{shown}`")
        } else {
            format!("`{shown}` does not take {}", counted(arguments, "argument"))
        };
        let frame = self.error("E0201", title, position, "not known");
        if !ways.is_empty() {
            frame.help.extend(ways);
        } else if declared {
            frame.help.push(format!("a closure in a variable is called with `{shown}.call(…)`"));
        } else if let Some(meant) = meant {
            frame.help.push(format!("did you mean `{meant}`?"));
        }
    }

    /// `module::f(a, b)`, where the module is ours or imported from a file that is known.
    fn module_call(
        &mut self,
        namespace: &Namespace,
        name: &str,
        arguments: usize,
        position: Position,
    ) {
        let module = namespace.to_string();
        let shown = cut(name);
        if let Some(path) = self.script.import(&module) {
            let Some(exports) = path.and_then(|path| self.known.imports.get(path)) else { return };
            let same = |function: &&Signature| *function.name == *name;
            if exports
                .functions
                .iter()
                .filter(same)
                .any(|function| function.params.len() == arguments)
            {
                return;
            }
            let ways: Vec<String> = exports
                .functions
                .iter()
                .filter(same)
                .map(|function| format!("{module}::{function}"))
                .collect();
            let private = exports.private.contains(name);
            let names = exports.functions.iter().map(|function| &*function.name);
            let near = nearest(name, names).map(str::to_owned);
            let title = if ways.is_empty() {
                format!("`{module}` has no function `{shown}`")
            } else {
                format!("`{module}::{shown}` does not take {}", counted(arguments, "argument"))
            };
            let frame = self.error("E0201", title, position, "not known");
            if private {
                frame.help.push(format!("`{shown}` is `private` there"));
            } else if let Some(near) = near {
                frame.help.push(format!("did you mean `{module}::{near}`?"));
            }
            frame.help.extend(ways);
            return;
        }
        let path = format!("{module}::{name}");
        if module == "global"
            || !self.known.has_module(namespace.root())
            || self.known.takes(&path, arguments)
        {
            return;
        }
        let ways: Vec<String> = match api::signature(&path) {
            Some(row) => vec![format!("{row}: {}", row.does)],
            None => {
                self.known.overloads(&path).iter().map(|way| format!("{module}::{way}")).collect()
            }
        };
        let meant = self.known.meant(&path, std::iter::empty());
        let title = if ways.is_empty() {
            format!("`{module}` has no function `{shown}`")
        } else {
            format!("`{path}` does not take {}", counted(arguments, "argument"))
        };
        let frame = self.error("E0201", title, position, "not known");
        if ways.is_empty() {
            frame.help.extend(meant.map(|meant| format!("did you mean `{meant}`?")));
        }
        frame.help.extend(ways);
    }

    /// `x.f(a, b)`: a warning, since a map may hold a closure of that name.
    pub(super) fn dotted_call(&mut self, call: &FnCallExpr, position: Position) {
        let arguments = call.args.len();
        let name = call.name.as_str();
        self.dotted.entry((name.to_owned(), arguments)).or_insert(position);
        if VALUE_USED.contains(&name) {
            let closures = call.args.iter().filter_map(super::closure);
            self.mapped.extend(closures.map(|closure| closure.fn_name().to_owned()));
        }
        if KEYWORDS.contains(&name)
            || self.provided.contains(&position)
            || self.known.takes(name, arguments + 1)
            || self.script.defines(name, arguments)
        {
            return;
        }
        let meant = self.known.meant(name, self.own.iter().map(|(name, ..)| *name));
        let ways: Vec<String> = self
            .known
            .overloads(name)
            .iter()
            .filter(|way| !way.params.is_empty())
            .map(Signature::dotted)
            .take(WAYS_SHOWN_MAX)
            .collect();
        let shown = cut(name);
        let title = if ways.is_empty() {
            format!("nothing of ours has a function `{shown}`")
        } else {
            format!(
                "nothing of ours has a function `{shown}` of {}",
                counted(arguments, "argument")
            )
        };
        let frame = self.warning("E0216", title, position, "not known");
        if ways.is_empty() {
            frame.help.extend(meant.map(|meant| format!("did you mean `{meant}`?")));
        }
        frame.help.extend(ways);
        frame.notes.push("fine if the value is a map that holds a closure of this name".to_owned());
    }

    /// `module::NAME`.
    pub(super) fn module_constant(
        &mut self,
        namespace: &Namespace,
        name: &str,
        position: Position,
    ) {
        if namespace.is_empty() {
            return;
        }
        let module = namespace.to_string();
        let Some(path) = self.script.import(&module).flatten() else { return };
        let Some(exports) = self.known.imports.get(path) else { return };
        if exports.constants.contains(name) {
            return;
        }
        let hidden = exports.hidden.contains(name);
        let shown = cut(name);
        let near = nearest(name, exports.constants.iter().map(AsRef::as_ref));
        let near = near.map(str::to_owned);
        let place = format!("scripts/{}.rhai", cut(path));
        let frame =
            self.error("E0202", format!("`{module}` exports no `{shown}`"), position, "not known");
        if hidden {
            frame.help.push(format!("write `export const {shown} = …;` in {place}"));
        } else if let Some(near) = near {
            frame.help.push(format!("did you mean `{module}::{near}`?"));
        }
    }

    /// A script's `fn` that would silently take the place of one of ours.
    pub(super) fn definitions(&mut self, ast: &AST) {
        for function in ast.iter_functions().filter(|function| !is_anonymous(function.name)) {
            let (name, params) = (function.name, function.params.len());
            let shown = cut(name);
            let replaced = self.known.takes(name, params);
            // Rhai looks for `x.name(…)` among the script's functions first, without counting `x`.
            let called = self.dotted.get(&(name.to_owned(), params)).copied();
            let taken_over = called.filter(|_| self.known.takes(name, params + 1));
            if !replaced && taken_over.is_none() {
                continue;
            }
            let found = self
                .own
                .iter()
                .find(|(own, own_params, _)| *own == name && own_params.len() == params);
            let span = found.map_or(0..0, |(own, _, start)| *start..start + own.len());
            let title = if replaced {
                format!("`fn {shown}` with {} would replace ours", counted(params, "parameter"))
            } else {
                format!("`fn {shown}` would answer `x.{shown}(…)` in place of ours")
            };
            let ours = self.known.overloads(name).iter().find(|way| way.params.len() >= params);
            let ours = ours.map(|way| format!("ours is {way}"));
            let note = taken_over
                .and_then(|position| self.text.offset(position))
                .map(|offset| format!("called with a dot at {}", self.site.at(offset)));
            let place = self.site.place(span, "give it another name");
            let mut frame = Frame::error("E0210", title)
                .at(place)
                .help(format!("give it another name, such as `{shown}_it`"));
            frame.notes.extend(ours.into_iter().chain(note));
            self.frames.push(frame);
        }
    }
}

/// Functions that use what the closure given to them returns.
const VALUE_USED: [&str; 12] = [
    "map",
    "filter",
    "find",
    "find_map",
    "reduce",
    "reduce_rev",
    "some",
    "all",
    "index_of",
    "drain",
    "retain",
    "split",
];
