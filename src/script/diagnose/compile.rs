//! Why a script does not compile. Rhai points at the token that it could not use; where the fault lies before that, the frame does
//! too. Hints are for what people write who come from JavaScript, JSON and Rust.

use std::ops::Range;
use std::sync::Arc;

use rhai::{LexError, ParseError, ParseErrorType, Position};

use super::names::nearest;
use super::{Names, Site, Text, bounded, counted, cut};
use crate::frame::Frame;

/// What the host's `on_parse_token` puts into `LexError::Runtime` when the time for compiling is up.
pub(crate) const COMPILE_DEADLINE_PASSED: &str = "compile deadline";

/// The frame of a script that does not compile.
pub(crate) fn compile_error(
    path: &str,
    source: &Arc<str>,
    error: &ParseError,
    known: &Names,
) -> Frame {
    syntax(path, source, &error.0, error.1, known)
}

/// The same for an error that Rhai met while it imported.
pub(super) fn syntax(
    path: &str,
    source: &Arc<str>,
    kind: &ParseErrorType,
    position: Position,
    known: &Names,
) -> Frame {
    let site = Site { path, source };
    let text = Text::new(source);
    let offset = text.offset(position).unwrap_or(source.len());
    let span = text.span_at(position).unwrap_or(offset..offset);
    let fault = Fault { site, at: text.index_at(offset), offset, span, text, known };
    bounded(fault.frame(kind))
}

/// Where Rhai stopped.
struct Fault<'a> {
    site: Site<'a>,
    text: Text<'a>,
    offset: usize,
    /// The token there; empty at the end of the text.
    span: Range<usize>,
    at: Option<usize>,
    known: &'a Names,
}

impl<'a> Fault<'a> {
    fn frame(&self, kind: &ParseErrorType) -> Frame {
        match kind {
            ParseErrorType::MissingToken(token, why) => self.missing(token, why),
            ParseErrorType::Reserved(word) => self.reserved(word),
            ParseErrorType::PropertyExpected if self.here_is_word() => self.reserved(self.word(0)),
            ParseErrorType::BadInput(error) => self.bad_input(error),
            ParseErrorType::UnknownOperator(operator) => self.operator(operator),
            ParseErrorType::VariableUndefined(name) => self.undefined(name),
            ParseErrorType::ModuleUndefined(name) => self.no_module(name),
            ParseErrorType::WrongDocComment => self
                .point("E0206", "a `///` comment may only stand above a `fn`", "describes nothing")
                .help("`//!` describes the file, `//` a registration"),
            ParseErrorType::ExprTooDeep => self
                .point(
                    "E0209",
                    "this is nested too deep, by Rhai's count over 64 levels",
                    "too deep",
                )
                .help("give parts of it a name with `let`, or move them into a `fn`"),
            ParseErrorType::TooManyFunctions => self
                .point("E0209", "a script may have 500 functions and closures", "one too many")
                .help("split the script, or move functions into `scripts/lib/`"),
            ParseErrorType::LiteralTooLarge(what, most) => {
                self.point("E0209", format!("{what} is over {most}"), "too large")
            }
            ParseErrorType::FnDuplicatedDefinition(name, params) => {
                self.defined_twice(name, *params)
            }
            ParseErrorType::FnDuplicatedParam(_, name) => {
                self.point("E0210", format!("two parameters are called `{}`", cut(name)), "again")
            }
            ParseErrorType::DuplicatedProperty(name) => self.point(
                "E0210",
                format!("the key `{}` stands twice in this map", cut(name)),
                "again",
            ),
            ParseErrorType::DuplicatedVariable(name) | ParseErrorType::VariableExists(name) => {
                self.point("E0210", format!("`{}` is defined twice", cut(name)), "again")
            }
            ParseErrorType::AssignmentToConstant(name) if name.is_empty() => {
                self.point("E0214", "a value cannot be assigned to", "not a variable")
            }
            ParseErrorType::AssignmentToConstant(name) => self
                .point("E0214", format!("`{}` is a constant", cut(name)), "cannot be changed")
                .help(format!("declare it with `let {} = …` to change it", cut(name))),
            ParseErrorType::AssignmentToInvalidLHS(_) => self
                .point("E0214", "this cannot be assigned to", "not a variable, field or element")
                .help("write `==` to compare"),
            ParseErrorType::WrongExport => self
                .point("E0215", "`export` may only stand at the top level", "inside a block")
                .help("`export const NAME = …;` at the top level can be read as `module::NAME`"),
            ParseErrorType::WrongFnDefinition => self
                .point("E0215", "a `fn` may only stand at the top level", "inside a block")
                .help("move it out, or write a closure: `let f = |x| …;`, called with `f.call(x)`"),
            ParseErrorType::LoopBreak => {
                let word = self.word(0);
                self.point("E0215", format!("`{word}` outside of a loop"), "no loop around it")
                    .help("`return` ends a function")
            }
            ParseErrorType::FnMissingName => self
                .point("E0204", "a `fn` needs a name", "not a name")
                .help("a function without one is a closure: `|x| …`"),
            ParseErrorType::FnMissingParams(name) => {
                let name = cut(name);
                self.point("E0204", format!("`fn {name}` lacks its parameters"), "")
                    .help(format!("write `fn {name}() {{ … }}`"))
            }
            ParseErrorType::FnMissingBody(_) => self
                .point("E0204", "the body of a function stands in braces", "expected `{`")
                .help("write `fn name(x) { … }`"),
            ParseErrorType::VariableExpected => self.no_name(),
            ParseErrorType::UnexpectedEOF => {
                self.ended("the script ends in the middle of an expression")
            }
            ParseErrorType::MismatchedType(wanted, found) => {
                self.point("E0204", format!("{wanted} is needed here, not {found}"), found.as_str())
            }
            // What remains says what it means, and no script of ours has met it often.
            other => self.point("E0204", lower_first(&cut(&other.to_string())), ""),
        }
    }

    fn missing(&self, token: &str, why: &str) -> Frame {
        let found = self.word(0);
        let end = self.text.end_before(self.offset);
        let before = self.word(-1);
        match token {
            ";" if before == "!" && self.is_spaced() => {
                self.point("E0204", "`!` stands before what it negates", "")
            }
            ";" if found == "}" && self.unopened() => {
                self.point("E0204", "this `}` closes nothing", "nothing is open here")
            }
            ";" => {
                let frame = self.point_at(end..end, "E0204", "missing `;`", "missing `;` here");
                match found {
                    "{" if self.word_before_group() == "function" => frame
                        .help("a closure is written `|x| { … }`, a function `fn name(x) { … }`"),
                    "{" | "=>" => frame.help("a closure is written `|x| { … }`"),
                    "as" => frame.help(
                        "there is no `as` but in `import`: use `to_float`, `to_int`, `to_string`",
                    ),
                    ":" => frame.help("a map is written `#{ key: value }`, with `#`"),
                    _ => frame,
                }
            }
            "}" if why.contains("object map") => self.in_map(found, end),
            "," if why.contains("function call") => {
                let title = "missing `,` or `)` in this call";
                let label = "missing `,` or `)` here";
                self.with_unclosed(self.point_at(end..end, "E0204", title, label))
            }
            "," if why.contains("object map") => self.in_map(found, end),
            "," => {
                let title = format!("missing `,` {}", cut(why));
                self.point_at(end..end, "E0204", title, "missing `,` here")
            }
            _ if self.at.is_none() => {
                self.ended(&format!("missing `{token}` at the end of the script"))
            }
            "{" => {
                let frame = self.point("E0204", "missing `{`", "expected `{`");
                if self.is_word_within(6, "catch") {
                    frame.help("write `catch (err) { … }`, with parentheses")
                } else {
                    frame.help("blocks need their braces: `if x { … } else { … }`")
                }
            }
            "catch" => self
                .point("E0204", "a `try` needs its `catch`", "expected `catch`")
                .help("write `try { … } catch (err) { … }`"),
            "=>" => self
                .point("E0204", "missing `=>` in this case", "expected `=>`")
                .help("write `switch x { 1 => a, 2 => b, _ => c }`"),
            _ => self.point(
                "E0204",
                format!("missing `{token}` {}", cut(why)),
                format!("expected `{token}`"),
            ),
        }
    }

    /// A map literal that goes on in a way that Rhai does not know.
    fn in_map(&self, found: &str, end: usize) -> Frame {
        if matches!(found, ".." | "..." | "*") || found.starts_with("..") {
            return self
                .point("E0204", "a map cannot be spread into another", "not known here")
                .help("maps are joined with `+`: `m + #{ a: 1 }`");
        }
        if self.here_is_word() && matches!(self.word(-1), "#{" | ",") {
            return self.reserved(found);
        }
        if self.at.is_none() || matches!(found, ";" | ")") {
            let title = "this map is not closed";
            return self.with_unclosed(self.point_at(end..end, "E0204", title, "missing `}` here"));
        }
        self.point_at(
            end..end,
            "E0204",
            "missing `,` between the fields of this map",
            "missing `,` here",
        )
    }

    fn reserved(&self, word: &str) -> Frame {
        let word = cut(word);
        if !word.starts_with(|first: char| first.is_alphabetic() || first == '_') {
            return self.point("E0204", format!("`{word}` means nothing in Rhai"), "not known");
        }
        let frame = self.point("E0205", format!("`{word}` is a reserved word"), "reserved");
        let before = self.word(-1);
        if matches!(before, "." | "?.") {
            let start = self
                .at
                .and_then(|at| at.checked_sub(2))
                .map(|last| cut(self.text.between(self.text.chain_start(last), last)));
            let owner = start.unwrap_or_default();
            return match (owner.as_str(), word.as_str()) {
                ("log", "debug" | "print") => {
                    frame.help(format!("write `log.trace` instead of `log.{word}`"))
                }
                _ if self.word(1) == "(" => frame.help("no operation has such a name"),
                _ => {
                    let index = if before == "." { "[" } else { "?[" };
                    frame.help(format!("write `{owner}{index}\"{word}\"]`"))
                }
            };
        }
        if matches!(before, "#{" | ",") && self.word(1) == ":" {
            return frame.help(format!("put the key in quotes: `#{{ \"{word}\": … }}`"));
        }
        match word.as_str() {
            "null" | "nil" | "void" => frame.help("JSON's null is `()`"),
            "var" => frame.help("write `let`"),
            "async" | "await" => frame
                .help("leave it out: a script waits by itself, and other requests go on meanwhile"),
            "match" | "case" => frame.help("write `switch x { 1 => a, _ => b }`"),
            "new" => frame.help("there are no classes: a map is written `#{ … }`"),
            "use" | "package" | "module" => frame.help("write `import \"lib/name\" as name;`"),
            "public" => frame.help("every `fn` is public but `private fn`"),
            "eval" => frame.help("a script cannot compile text"),
            _ => frame.help("choose another name"),
        }
    }

    fn bad_input(&self, error: &LexError) -> Frame {
        match error {
            LexError::Runtime(why) if why == COMPILE_DEADLINE_PASSED => self
                .point("E0209", "compiling takes longer than 100 ms", "given up here")
                .help("split the script: very long parameter lists, maps and blocks take quadratic time"),
            LexError::UnterminatedString => self
                .point("E0207", "this text is not closed", "its closing quote is missing")
                .help("a text over several lines stands between back-ticks: `` `…` ``"),
            LexError::MalformedChar(_) => self
                .point("E0207", "single quotes hold one character", "more than one")
                .help("write a text in double quotes"),
            LexError::MalformedEscapeSequence(escape) => self
                .point("E0207", format!("`{}` is no escape", cut(escape)), "")
                .help("known are `\\n`, `\\t`, `\\r`, `\\\\`, `\\\"`, `\\x41` and `\\u00e4`; `\\\\` is a backslash"),
            LexError::MalformedNumber(number) => {
                self.point("E0207", format!("`{}` is no number", cut(number)), "")
            }
            LexError::ImproperSymbol(symbol, _) if symbol == "=" => self
                .point("E0204", "`=` gives a value to a variable and cannot stand here", "")
                .help("write `==` to compare"),
            LexError::ImproperSymbol(symbol, _) if matches!(symbol.as_str(), "===" | "!==") => {
                let ours = &symbol[..2];
                self.point("E0204", format!("there is no `{symbol}`"), format!("write `{ours}`"))
                    .help(format!("`{ours}` compares without converting: `1 == \"1\"` is false"))
            }
            LexError::ImproperSymbol(word, _) if word == "eval" => self.reserved(word),
            LexError::UnexpectedInput(symbol) if symbol == "}" => {
                self.point("E0204", "this `}` closes nothing", "nothing is open here")
            }
            LexError::UnexpectedInput(symbol) => {
                let frame = self.point("E0204", format!("unexpected `{}`", cut(symbol)), "");
                match symbol.as_str() {
                    ">" if self.word(-1) == "<" => frame.help("write `!=`"),
                    "=>" => frame.help("a closure is written `|x| …`"),
                    _ => frame,
                }
            }
            other => {
                let code = if matches!(other, LexError::StringTooLong(_)) { "E0209" } else { "E0204" };
                self.point(code, lower_first(&cut(&other.to_string())), "")
            }
        }
    }

    fn operator(&self, operator: &str) -> Frame {
        let frame =
            self.point("E0204", format!("there is no operator `{}`", cut(operator)), "not known");
        match operator {
            "?" => frame.help("`if` is an expression: `let x = if a { b } else { c };`"),
            "++" => frame.help("write `x += 1`"),
            "--" => frame.help("write `x -= 1`"),
            "=>" | "->" => frame.help("a closure is written `|x| …`"),
            _ => frame,
        }
    }

    fn undefined(&self, name: &str) -> Frame {
        let shown = cut(name);
        let frame = self.point("E0202", format!("`{shown}` is not defined"), "not known here");
        let text = &self.text;
        let script_fn = text.functions().find(|(function, ..)| *function == name);
        if let Some((_, params, start)) = script_fn {
            let params = params.join(", ");
            return frame
                .help(format!("give a closure, `|{params}| {shown}({params})`, or move the `fn` up, before this line"))
                .note(format!("`fn {shown}` stands at {}", self.site.at(start)));
        }
        if let (Some(around), Some(keyword)) =
            (text.function_around(self.offset), text.declared_at_top(name))
        {
            let frame = frame.note(format!("`fn {}` sees no variables of the script", cut(around)));
            return match keyword {
                "const" => frame.help(format!("write `global::{shown}`, or pass it in")),
                _ => frame.help(format!(
                    "pass it in; or make it a constant, `const {shown} = …`, and write `global::{shown}`"
                )),
            };
        }
        if self.known.has_module(name) || self.known.imports.contains_key(name) {
            return frame.help(format!("`{shown}` is a module: write `{shown}::function(…)`"));
        }
        if name == "function" || self.word(-2) == "function" {
            return frame.help("write `fn name(x) { … }`; a closure is `|x| …`");
        }
        if matches!(self.word(1), "=>") || (self.word(1) == ")" && self.word(2) == "=>") {
            return frame.help(format!("a closure is written `|{shown}| …`"));
        }
        if self.word(1) == ":" && self.word(-1) == "{" {
            return frame.help("a map is written `#{ key: value }`, with `#`");
        }
        if let Some((_, ours)) = FOREIGN.iter().find(|(theirs, _)| *theirs == name) {
            return frame.help(format!("write `{ours}`"));
        }
        let declared = text.declared();
        let candidates = declared.iter().copied().chain(text.functions().map(|(name, ..)| name));
        let known = self.known.variables.iter().map(AsRef::as_ref);
        if let Some(near) = nearest(name, candidates.chain(known)) {
            return frame.help(format!("did you mean `{}`?", cut(near)));
        }
        if self.word(1) == "=" {
            return frame.help(format!("declare it: `let {shown} = …`"));
        }
        if declared.contains(&name) {
            return frame.help("it is declared further down, or in another block");
        }
        let known: Vec<String> =
            self.known.variables.iter().take(8).map(|name| format!("`{name}`")).collect();
        if known.is_empty() {
            return frame
                .help("variables, files and secrets of the outside are not visible to scripts");
        }
        frame.help(format!("a script can name {} and what it declares itself", known.join(", ")))
    }

    fn no_module(&self, name: &str) -> Frame {
        let shown = cut(name);
        let frame = self.point("E0203", format!("there is no module `{shown}`"), "not known here");
        if self.known.variables.contains(name) {
            return frame.help(format!("`{shown}` is an object: write `{shown}.…`, with a dot"));
        }
        let text = &self.text;
        let aliases: Vec<&str> = (0..text.tokens.len())
            .filter(|index| text.word(Some(*index)) == "as")
            .map(|index| text.word(Some(index + 1)))
            .collect();
        if aliases.contains(&name) {
            return frame.help("its `import` stands further down: move it to the top of the file");
        }
        if let Some(near) = nearest(name, self.known.modules().chain(aliases.iter().copied())) {
            return frame.help(format!("did you mean `{near}`?"));
        }
        let file = self.known.imports.keys().find(|path| path.rsplit('/').next() == Some(name));
        match file {
            Some(path) => {
                frame.help(format!("write `import \"{path}\" as {shown};` at the top of the file"))
            }
            None => frame
                .help(format!("`import \"lib/…\" as {shown};` at the top of the file makes one")),
        }
    }

    fn defined_twice(&self, name: &str, params: usize) -> Frame {
        let title =
            format!("`fn {}` with {} is defined twice", cut(name), counted(params, "parameter"));
        let frame = self.point("E0210", title, "again");
        let same = |found: &(&str, Vec<&str>, usize)| found.0 == name && found.1.len() == params;
        match self.text.functions().find(same) {
            Some((.., start)) => frame.note(format!("the first stands at {}", self.site.at(start))),
            None => frame,
        }
    }

    /// Where a name should stand.
    fn no_name(&self) -> Frame {
        let found = self.word(0);
        if self.word(-1) == "(" && self.word(-2) == "for" {
            return self.point("E0204", "a `for` loop names its variable", "not a name").help(
                "write `for x in list { … }`, `for i in 0..10 { … }` or `for (x, i) in list { … }`",
            );
        }
        if self.here_is_word() {
            return self.reserved(found);
        }
        self.point("E0204", "a name is needed here", "not a name")
    }

    /// The script ends too early.
    fn ended(&self, title: &str) -> Frame {
        let end = self.text.end_before(self.site.source.len());
        self.with_unclosed(self.point_at(end..end, "E0204", title, "the script ends here"))
    }

    fn point(
        &self,
        code: &'static str,
        title: impl Into<String>,
        label: impl Into<String>,
    ) -> Frame {
        self.point_at(self.span.clone(), code, title, label)
    }

    fn point_at(
        &self,
        span: Range<usize>,
        code: &'static str,
        title: impl Into<String>,
        label: impl Into<String>,
    ) -> Frame {
        Frame::error(code, title).at(self.site.place(span, label))
    }

    /// Says which bracket is still open.
    fn with_unclosed(&self, frame: Frame) -> Frame {
        match self.text.unclosed() {
            Some(open) => {
                let bracket = self.text.word(Some(open));
                let place = self.site.at(self.text.tokens[open].span.start);
                frame.note(format!("`{bracket}` at {place} is not closed"))
            }
            None => frame,
        }
    }

    /// The token so many places from where Rhai stopped.
    fn word(&self, distance: isize) -> &'a str {
        let at = self.at.unwrap_or(self.text.tokens.len());
        self.text.word(at.checked_add_signed(distance))
    }

    fn here_is_word(&self) -> bool {
        self.at.is_some_and(|at| self.text.is_word(at))
    }

    fn is_spaced(&self) -> bool {
        self.text.end_before(self.offset) < self.offset
    }

    fn is_word_within(&self, distance: isize, word: &str) -> bool {
        (1..=distance).any(|back| self.word(-back) == word)
    }

    /// For `name(…) {`: the name.
    fn word_before_group(&self) -> &'a str {
        let close = self.at.and_then(|at| at.checked_sub(1));
        let open = close.and_then(|close| self.text.open_of(close));
        self.text.word(open.and_then(|open| open.checked_sub(1)))
    }

    /// Whether the `}` here has no opening bracket before it.
    fn unopened(&self) -> bool {
        self.at.is_some_and(|at| self.text.open_of(at).is_none())
    }
}

/// Names that other languages have, and what stands for them here.
const FOREIGN: [(&str, &str); 11] = [
    ("undefined", "()"),
    ("None", "()"),
    ("NULL", "()"),
    ("True", "true"),
    ("False", "false"),
    ("console", "log.info(…)"),
    ("JSON", "json::parse(text)"),
    ("Date", "now()"),
    ("process", "vars.NAME"),
    ("env", "vars.NAME"),
    ("Math", "x.abs(), x.floor(), max(a, b)"),
];

fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}
