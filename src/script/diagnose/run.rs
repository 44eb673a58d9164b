//! Why a run failed. The innermost position that Rhai tells is the fault; the calls around it become notes. A throw is told by its
//! code and message, a limit by its value and its key in the configuration.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use rhai::{Dynamic, EvalAltResult};

use super::names::{is_anonymous, kind_of};
use super::thrown::{shown, shown_bare};
use super::trail::Trail;
use super::{Names, Signature, Site, Text, bounded, compile, counted, cut, with_article};
use crate::frame::Frame;
use crate::script::Ending;

/// Overloads that are shown of one function.
const OVERLOADS_SHOWN_MAX: usize = 4;

/// What the host knows of a failed run beside Rhai's error.
#[derive(Clone, Debug, Default)]
pub(crate) struct Circumstances {
    /// Why the run was ended from outside, if it was.
    pub(crate) ending: Option<Ending>,
    /// What the run was allowed.
    pub(crate) limits: Limits,
}

/// The limits of the run as configuration writes them: `250ms`, `32MiB`, `60s`. Empty where not told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    /// `[scripts] cpu_budget`.
    pub(crate) cpu_budget: Box<str>,
    /// `[scripts] memory_budget`.
    pub(crate) memory_budget: Box<str>,
    /// `[scripts] timeout`, or the handler's own.
    pub(crate) timeout: Box<str>,
}

/// Finds the path and the text of a file by Rhai's name of it.
pub(crate) type PathOf<'a> = dyn Fn(Option<&str>) -> Option<(String, Arc<str>)> + 'a;

/// The frame of a run that failed. `path_of` finds the file of one of Rhai's sources; `None` asks for the script that was run.
pub(crate) fn run_error(
    path_of: &PathOf<'_>,
    error: &EvalAltResult,
    known: &Names,
    circumstances: &Circumstances,
) -> Frame {
    let trail = Trail::of(error);
    let (path, source) = path_of(trail.source)
        .or_else(|| path_of(None))
        .unwrap_or_else(|| (trail.source.unwrap_or("script").to_owned(), Arc::from("")));
    if let EvalAltResult::ErrorParsing(kind, position) = trail.fault {
        let frame = compile::syntax(&path, &source, kind, *position, known);
        return bounded(trail.notes(frame, path_of));
    }
    let site = Site { path: &path, source: &source };
    let fault = Fault { site, text: Text::new(&source), trail: &trail, known, circumstances };
    bounded(trail.notes(fault.frame(), path_of))
}

/// What `run_error` looks at.
struct Fault<'a> {
    site: Site<'a>,
    text: Text<'a>,
    trail: &'a Trail<'a>,
    known: &'a Names,
    circumstances: &'a Circumstances,
}

impl Fault<'_> {
    fn frame(&self) -> Frame {
        let ending = self.circumstances.ending.or(match self.trail.fault {
            EvalAltResult::ErrorTooManyOperations(_) => Some(Ending::Cpu),
            EvalAltResult::ErrorStackOverflow(_) => Some(Ending::Stack),
            EvalAltResult::ErrorDataTooLarge(..) => Some(Ending::Memory),
            _ => None,
        });
        if let Some(ending) = ending {
            return self.ended(ending);
        }
        match self.trail.fault {
            EvalAltResult::ErrorRuntime(value, _) => self.thrown(value),
            EvalAltResult::ErrorFunctionNotFound(signature, _) => self.no_function(signature),
            EvalAltResult::ErrorDotExpr(message, _) => self.no_property(message),
            EvalAltResult::ErrorIndexingType(message, _) => self.not_indexable(message),
            EvalAltResult::ErrorVariableNotFound(name, _) => self.no_variable(name),
            EvalAltResult::ErrorDataRace(what, _) => self.data_race(what),
            EvalAltResult::ErrorMismatchDataType(wanted, found, _)
            | EvalAltResult::ErrorMismatchOutputType(wanted, found, _) => {
                self.wrong_type(wanted, found)
            }
            EvalAltResult::ErrorFor(_) => self.wrong_type("array, map or range", ""),
            EvalAltResult::ErrorArrayBounds(length, index, _) => {
                self.outside("array", *length, *index, "element")
            }
            EvalAltResult::ErrorStringBounds(length, index, _) => {
                self.outside("string", *length, *index, "character")
            }
            EvalAltResult::ErrorBitFieldBounds(length, index, _) => {
                self.outside("bit field", *length, *index, "bit")
            }
            EvalAltResult::ErrorArithmetic(why, _) => self.arithmetic(why),
            EvalAltResult::ErrorModuleNotFound(path, _) => self.no_module(path),
            EvalAltResult::ErrorAssignmentToConstant(name, _) => self.constant(name),
            EvalAltResult::ErrorNonPureMethodCallOnConstant(name, _) => {
                let name = name.rsplit('$').next().unwrap_or(name);
                self.point(
                    "E0311",
                    format!("`{}` would change a constant", cut(name)),
                    "changes it",
                )
                .help("copy it to a `let` first; inside a `fn`, pass it in")
            }
            EvalAltResult::ErrorUnboundThis(_) => self
                .point("E0302", "`this` is nothing here", "nobody called this on a value")
                .help("take the value as a parameter: `|event| …`"),
            EvalAltResult::ErrorPropertyNotFound(name, _) => self
                .point("E0302", format!("there is no field `{}`", cut(name)), "")
                .help("use `?.` or `??`"),
            EvalAltResult::ErrorIndexNotFound(value, _) => {
                self.point("E0307", format!("there is no element {}", shown(value)), "")
            }
            EvalAltResult::ErrorTerminated(..) => {
                self.point("E0305", "the run was ended from outside", "it was here")
            }
            EvalAltResult::ErrorForbiddenVariable(name, _)
            | EvalAltResult::ErrorVariableExists(name, _) => {
                self.point("E0303", format!("`{}` cannot be declared here", cut(name)), "")
            }
            EvalAltResult::ErrorTooManyModules(_) => {
                self.point("E0305", "too many modules are imported", "")
            }
            EvalAltResult::ErrorTooManyVariables(_) => {
                self.point("E0305", "too many variables are declared", "")
            }
            EvalAltResult::ErrorSystem(..) => {
                self.point("E0312", "the runtime failed, not the script", "")
            }
            // `Display` of an error shows thrown values without a bound; those were told above.
            other => {
                let told = other.to_string();
                let told = told.split(" (line ").next().unwrap_or_default();
                self.point("E0312", cut(told), "")
            }
        }
    }

    fn ended(&self, ending: Ending) -> Frame {
        let limits = &self.circumstances.limits;
        let of =
            |limit: &str| if limit.is_empty() { String::new() } else { format!(" of {limit}") };
        match ending {
            Ending::Cpu => self
                .point_at_loop("E0305", format!("the CPU budget{} is used up", of(&limits.cpu_budget)), "it was here")
                .help("a loop that does not end, or more work than one run may do")
                .help("the limit is `cpu_budget` under `[scripts]` in config.toml"),
            Ending::Memory => self
                .point("E0305", format!("the memory budget{} is used up", of(&limits.memory_budget)), "it was here")
                .help("hold less at once: work on pages, not on the whole")
                .help("the limit is `memory_budget` under `[scripts]` in config.toml"),
            Ending::Stack => self
                .point("E0305", "calls are nested more than 64 levels deep", "it was here")
                .help("a function that calls itself without end; write a loop"),
            Ending::Timeout => self
                .point("E0305", format!("the time limit{} is over", of(&limits.timeout)), "it was here")
                .help("waiting counts too, in `sleep` and for documents")
                .help("the limit is `timeout` under `[scripts]` in config.toml; a handler may set its own"),
            Ending::Cancelled => {
                self.point("E0305", "nobody waits for the result any more", "it was here")
            }
            Ending::ByHandler => self.point("E0305", "the handler ended its attempt", "it was here"),
            Ending::ByCall => self.point("E0305", "a call to a provider ended the attempt", "it was here"),
        }
    }

    fn thrown(&self, value: &Dynamic) -> Frame {
        let label = if self.word(0) == "throw" { "thrown here" } else { "failed here" };
        let title = match value.read_lock::<rhai::Map>() {
            Some(map) => {
                let text = |field: &str| {
                    map.get(field)
                        .filter(|value| !value.is_unit())
                        .map(shown_bare)
                        .unwrap_or_default()
                };
                let (code, message, status) = (text("code"), text("message"), text("status"));
                let status = if status.is_empty() { status } else { format!(" (status {status})") };
                match (code.as_str(), message.as_str()) {
                    ("", "") => format!("uncaught error {}", shown(value)),
                    ("", message) => format!("uncaught error{status}: {message}"),
                    (code, "") => format!("uncaught error `{code}`{status}"),
                    (code, message) => format!("uncaught error `{code}`{status}: {message}"),
                }
            }
            None if value.is_unit() => "uncaught error".to_owned(),
            None if value.is_string() && shown_bare(value).is_empty() => {
                "uncaught error".to_owned()
            }
            None => format!("uncaught error: {}", shown_bare(value)),
        };
        self.point("E0310", title, label)
    }

    /// Rhai has one message for a wrong name, a wrong number and wrong types of arguments.
    fn no_function(&self, signature: &str) -> Frame {
        let (path, kinds) = split_signature(signature);
        if is_anonymous(path) {
            let what = if self.trail.calls.is_empty() { "the handler" } else { "this closure" };
            let given = counted(kinds.len(), "argument");
            let title = format!("{what} is called with {given} and takes another number");
            return self
                .point("E0301", title, "called here")
                .help(format!("it is given ({})", kinds.join(", ")));
        }
        let first_is_absent = kinds.first().is_some_and(|kind| kind == "()");
        if !rhai::is_valid_identifier(path.rsplit("::").next().unwrap_or(path)) {
            return self.no_operator(path, &kinds);
        }
        if first_is_absent && self.word(0) == "in" {
            return self
                .point("E0302", "`in` looks into `()`", "what follows is absent")
                .help("give it something to look into: `x in (list ?? [])`");
        }
        if first_is_absent && matches!(self.word(-1), "." | "?.") {
            return self.absent(&format!(".{path}()"));
        }
        let list = kinds.join(", ");
        let own: Vec<_> = self.text.functions().filter(|(name, ..)| *name == path).collect();
        let ours = self.known.overloads(path);
        if ours.is_empty() && own.is_empty() {
            return self.unknown_function(path, &kinds);
        }
        let mut frame =
            self.point("E0301", format!("`{path}` does not take ({list})"), "no such overload");
        for (name, params, _) in &own {
            frame = frame.help(format!("{name}({})", params.join(", ")));
        }
        if let Some(meant) = self.known.habit(path) {
            frame = frame.help(format!("did you mean `{meant}`?"));
        }
        self.with_overloads(frame, path, &kinds)
    }

    /// What can be called under that name, each way once; only those for the first value's type, if there are any.
    fn with_overloads(&self, mut frame: Frame, path: &str, kinds: &[String]) -> Frame {
        let ways = self.known.overloads(path);
        let fits = |way: &&Signature| match (way.params.first(), kinds.first()) {
            (Some(param), Some(kind)) => *param.kind == **kind,
            _ => false,
        };
        let fitting: BTreeSet<String> = ways.iter().filter(fits).map(ToString::to_string).collect();
        let ways = match fitting.is_empty() {
            true => ways.iter().map(ToString::to_string).collect(),
            false => fitting,
        };
        let known: Vec<&String> = ways.iter().filter(|way| !way.contains("(_")).collect();
        for way in known.iter().take(OVERLOADS_SHOWN_MAX) {
            frame = frame.help(way.as_str());
        }
        if known.len() > OVERLOADS_SHOWN_MAX {
            let more = counted(known.len() - OVERLOADS_SHOWN_MAX, "more way");
            frame = frame.help(format!("… and {more} to call `{}`", cut(path)));
        }
        frame
    }

    fn unknown_function(&self, path: &str, kinds: &[String]) -> Frame {
        let shown = cut(path);
        let list = kinds.join(", ");
        let frame =
            self.point("E0301", format!("there is no function `{shown}` ({list})"), "not known");
        if let Some((module, name)) = path.rsplit_once("::") {
            let private = self.known.imports.values().any(|exports| exports.private.contains(name));
            return match self.known.meant(path, std::iter::empty()) {
                _ if private => frame.help(format!("`{name}` is `private` in its file")),
                Some(meant) => frame.help(format!("did you mean `{meant}`?")),
                None => {
                    frame.help(format!("`{module}` has no such function, or it is `private` there"))
                }
            };
        }
        let declared = self.text.declared();
        if self.word(-1) != "." && declared.contains(&path) {
            return frame.help(format!("a closure in a variable is called with `{shown}.call(…)`"));
        }
        let own: Vec<&str> = self.text.functions().map(|(name, ..)| name).collect();
        match self.known.meant(path, own.iter().copied()) {
            Some(meant) => {
                self.with_overloads(frame.help(format!("did you mean `{meant}`?")), &meant, kinds)
            }
            None => frame,
        }
    }

    fn no_operator(&self, operator: &str, kinds: &[String]) -> Frame {
        let operator = cut(operator);
        let title = match kinds {
            [one] => format!("`{operator}` cannot be used on {}", with_article(one)),
            [left, right] => {
                format!(
                    "`{operator}` cannot join {} and {}",
                    with_article(left),
                    with_article(right)
                )
            }
            _ => format!("`{operator}` cannot be used here"),
        };
        let frame = self.point("E0306", title, "");
        if kinds.iter().any(|kind| kind == "()") {
            let help = match (&*operator, kinds.len()) {
                ("!", 1) => "an absent field is `()`: write `!(x ?? false)`",
                _ => "an absent field is `()`: give it a value with `??`, as in `(x ?? 0) + 1`",
            };
            return frame.help(help);
        }
        if kinds.iter().any(|kind| kind == "string") {
            return frame.help("turn the text into a number with `parse_int` or `parse_float`");
        }
        frame
    }

    /// `Unknown property 'b' - a getter is not registered for type '()'` and its like.
    fn no_property(&self, message: &str) -> Frame {
        let mut quoted = message.split('\'').skip(1).step_by(2);
        let (Some(name), Some(kind)) = (quoted.next(), quoted.next()) else {
            return self.point("E0306", cut(message), "");
        };
        let (name, kind) = (cut(name), kind_of(kind));
        if kind == "()" {
            return self.absent(&format!(".{name}"));
        }
        self.point("E0306", format!("{} has no field `{name}`", with_article(&kind)), "").help(
            match kind.as_str() {
                "string" => "a text that holds JSON is read with `json::parse(text)`",
                "array" => "an element has fields: `list[0].x`, or `list.map(|e| e.x)`",
                _ => "only maps have fields",
            },
        )
    }

    /// `() [i64]`, or `() [i64] = i64` when it is assigned to.
    fn not_indexable(&self, message: &str) -> Frame {
        let (kind, index) = message.split_once(" [").unwrap_or((message, ""));
        let index = kind_of(index.split(']').next().unwrap_or_default());
        match kind_of(kind).as_str() {
            "()" => self.absent("[…]"),
            kind => self
                .point(
                    "E0306",
                    format!(
                        "{} cannot be indexed with {}",
                        with_article(kind),
                        with_article(&index)
                    ),
                    "",
                )
                .help("arrays take a whole number, maps a text"),
        }
    }

    /// Something was asked of `()`: the field before it is what is missing.
    fn absent(&self, asked: &str) -> Frame {
        let mut at = self.index().and_then(|index| index.checked_sub(1));
        if matches!(self.text.word(at), "." | "?." | "[" | "?[") {
            at = at.and_then(|at| at.checked_sub(1));
        }
        let Some(last) = at else {
            return self.point("E0302", format!("`{asked}` is asked of `()`"), "");
        };
        let text = &self.text;
        let start = text.chain_start(last);
        let whole = cut(text.between(start, last));
        let name = text.word(Some(last));
        let before = last.checked_sub(1).map(|index| text.word(Some(index)));
        let is_field =
            text.is_word(last) && matches!(before, Some("." | "?.")) && last >= start + 2;
        let (title, span) = if is_field {
            let owner = cut(text.between(start, last - 2));
            (format!("`{}` is missing in `{owner}`", cut(name)), text.tokens[last].span.clone())
        } else {
            let span = text.tokens[start].span.start..text.tokens[last].span.end;
            (format!("`{whole}` is `()`"), span)
        };
        let site = self.site.place(span, format!("absent, so `{asked}` has nothing to read"));
        let frame = Frame::error("E0302", title).at(site);
        if asked == "[…]" {
            frame.help(format!("`?[` guards: `{whole}?[…]`, and `??` gives another value"))
        } else {
            frame.help(format!("use `?.` or `??`: `{whole}?{asked}`"))
        }
    }

    fn no_variable(&self, name: &str) -> Frame {
        let shown = cut(name);
        let frame = self.point("E0303", format!("there is no `{shown}`"), "not known");
        match name.rsplit_once("::") {
            Some(("global", name)) => match self.text.declared_at_top(name) {
                Some("let") => {
                    frame.help(format!("only constants are seen there: `const {name} = …`"))
                }
                _ => frame.help(format!("declare it at the top level: `const {name} = …;`")),
            },
            Some((_, name)) => frame.help(format!(
                "only what a module exports is seen: write `export const {name} = …;` there"
            )),
            None => frame.help("declare it with `let`, or pass it in"),
        }
    }

    /// Rhai tells the function, and no position.
    fn data_race(&self, what: &str) -> Frame {
        let function = what.split('\'').nth(1).unwrap_or_default();
        let found = self.race(function);
        let span = found.as_ref().map(|(span, _)| span.clone());
        let owner = found.map_or_else(|| "the value".to_owned(), |(_, owner)| format!("`{owner}`"));
        let title = format!("the closure uses {owner} while it is being used");
        let place = span.map(|span| self.site.place(span, "still in use here"));
        let frame = match place {
            Some(place) => Frame::error("E0304", title).at(place),
            None => self.point("E0304", title, "still in use here"),
        };
        frame.help("copy the field to a `let` first, and use that in the closure")
    }

    /// The one place where `owner.….function(… owner …)` is written.
    fn race(&self, function: &str) -> Option<(Range<usize>, String)> {
        let text = &self.text;
        let mut found = None;
        for index in 2..text.tokens.len() {
            let called = text.word(Some(index)) == function
                && text.word(Some(index - 1)) == "."
                && text.word(Some(index + 1)) == "(";
            let Some(close) = called.then(|| text.close_of(index + 1)).flatten() else { continue };
            let start = text.chain_start(index);
            let owner = text.word(Some(start));
            let inside = (index + 2..close).any(|inside| {
                text.is_word(inside)
                    && text.word(Some(inside)) == owner
                    && !matches!(text.word(Some(inside - 1)), "." | "?.")
            });
            if inside && found.is_some() {
                return None;
            }
            if inside {
                found = Some((text.tokens[index].span.clone(), cut(owner)));
            }
        }
        found
    }

    fn wrong_type(&self, wanted: &str, found: &str) -> Frame {
        let (wanted, found) = (kind_of(wanted), kind_of(found));
        let title = if found.is_empty() {
            format!("{} is needed here", with_article(&wanted))
        } else {
            format!("{} is needed here, not {}", with_article(&wanted), with_article(&found))
        };
        let frame = self.point_at_chain("E0306", title);
        match (wanted.as_str(), found.as_str()) {
            ("bool", "()") => frame.help("an absent field is `()`: write `x ?? false`"),
            ("bool", _) => frame
                .help("only `true` and `false` decide: write `x != ()`, `x > 0` or `x != \"\"`"),
            ("closure", _) => frame.help("write `|x| …`"),
            ("array, map or range", _) => {
                frame.help("an absent list is `()`: write `for x in list ?? []`")
            }
            (_, "()") => frame.help("an absent field is `()`: give it a value with `??`"),
            _ => frame,
        }
    }

    fn outside(&self, what: &str, length: usize, index: i64, part: &str) -> Frame {
        let title = match length {
            0 => format!("element {index} of an empty {what}"),
            _ => format!("{part} {index} of {} with {}", with_article(what), counted(length, part)),
        };
        let frame = self.point("E0307", title, "outside");
        if what == "array" {
            return frame.help(format!(
                "`.get({index})` gives `()` outside, as in `.get({index})?.x`; `?[{index}]` and `[{index}]?.x` do not guard"
            ));
        }
        frame
    }

    fn arithmetic(&self, why: &str) -> Frame {
        let why = cut(why);
        let mut letters = why.chars();
        let title: String =
            letters.next().into_iter().flat_map(char::to_lowercase).chain(letters).collect();
        let frame = self.point("E0308", title, "");
        if why.contains("overflow") {
            return frame.help("an int has 64 bits: larger numbers are floats, `1.0 * x`");
        }
        if why.contains("parsing") {
            return frame
                .help("`try { … } catch (err) { … }` around it handles a text that is no number");
        }
        frame
    }

    fn no_module(&self, path: &str) -> Frame {
        let shown = cut(path);
        let frame =
            self.point("E0309", format!("there is no file to import as `{shown}`"), "not found");
        if path.contains("..") || path.starts_with('/') {
            return frame.help("only files under the scripts folder can be imported: `import \"lib/name\" as name;`");
        }
        let bare = path.strip_suffix(".rhai").unwrap_or(path);
        if self.known.imports.contains_key(bare) {
            return frame.help(format!("write it without `.rhai`: `import \"{}\"`", cut(bare)));
        }
        let files = self.known.imports.keys().map(AsRef::as_ref);
        match super::nearest(path, files) {
            Some(near) => frame.help(format!("did you mean `{near}`?")),
            None => {
                frame.help(format!("it would be the file `{shown}.rhai` in the scripts folder"))
            }
        }
    }

    fn constant(&self, name: &str) -> Frame {
        let name = cut(name);
        self.point("E0311", format!("`{name}` is a constant"), "cannot be changed")
            .help("copy it to a `let` first")
    }

    /// The token so many places from the fault.
    fn word(&self, distance: isize) -> &str {
        self.text.word(self.index().and_then(|index| index.checked_add_signed(distance)))
    }

    fn index(&self) -> Option<usize> {
        self.text.index_at(self.text.offset(self.trail.position())?)
    }

    /// Points at all of `a.b[c]` where Rhai tells only one of its dots.
    fn point_at_chain(&self, code: &'static str, title: impl Into<String>) -> Frame {
        match self.index().and_then(|index| self.text.chain_around(index)) {
            Some(span) => Frame::error(code, title).at(self.site.place(span, "")),
            None => self.point(code, title, ""),
        }
    }

    /// Rhai takes the line away from an ended run. Where the script has one loop, that is most likely it.
    fn point_at_loop(&self, code: &'static str, title: impl Into<String>, label: &str) -> Frame {
        let mut loops = self.text.tokens.iter().filter(|token| {
            matches!(&self.site.source[token.span.clone()], "loop" | "while" | "do" | "for")
        });
        match (self.trail.position().is_none(), loops.next(), loops.next()) {
            (true, Some(only), None) => {
                let place = self.site.place(only.span.clone(), "most likely in this loop");
                Frame::error(code, title).at(place)
            }
            _ => self.point(code, title, label),
        }
    }

    fn point(&self, code: &'static str, title: impl Into<String>, label: &str) -> Frame {
        match self.text.span_at(self.trail.position()) {
            Some(span) => Frame::error(code, title).at(self.site.place(span, label)),
            None => Frame::error(code, title).note(format!("in {}", self.site.path)),
        }
    }
}

/// `charge (i64, &str | ImmutableString | String)` as name and types.
fn split_signature(signature: &str) -> (&str, Vec<String>) {
    let Some((name, kinds)) = signature.split_once(" (") else {
        return (signature, Vec::new());
    };
    let kinds = kinds.strip_suffix(')').unwrap_or(kinds);
    let kinds = kinds.split(", ").filter(|kind| !kind.is_empty());
    (name, kinds.map(kind_of).collect())
}
