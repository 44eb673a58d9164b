//! The way of an error out of the calls that it passed through. Rhai nests one level for each; the innermost is the fault, and the others
//! are told as notes. Errors that end a run come without their levels: Rhai drops them.

use rhai::{EvalAltResult, Position};

use super::names::is_anonymous;
use super::run::PathOf;
use super::{Site, Text, counted, cut};
use crate::frame::Frame;

/// Calls around a fault that are shown; deep recursion has more.
const CALLS_SHOWN_MAX: usize = 8;

/// One error with the calls that it passed through, outermost first.
pub(super) struct Trail<'a> {
    /// The innermost error.
    pub(super) fault: &'a EvalAltResult,
    /// Rhai's name of the file that holds the fault.
    pub(super) source: Option<&'a str>,
    /// Each call that it passed through.
    pub(super) calls: Vec<Call<'a>>,
}

/// One of those calls.
pub(super) struct Call<'a> {
    /// What was called.
    name: &'a str,
    /// The file that holds the call.
    source: Option<&'a str>,
    /// Where it was called; none where the host did.
    position: Position,
}

impl<'a> Trail<'a> {
    pub(super) fn of(error: &'a EvalAltResult) -> Self {
        let mut trail = Self { fault: error, source: None, calls: Vec::new() };
        loop {
            match trail.fault {
                EvalAltResult::ErrorInFunctionCall(name, source, inner, position) => {
                    trail.calls.push(Call { name, source: trail.source, position: *position });
                    if !source.is_empty() {
                        trail.source = Some(source);
                    }
                    trail.fault = inner;
                }
                EvalAltResult::ErrorInModule(path, inner, position) => {
                    trail.calls.push(Call {
                        name: "import",
                        source: trail.source,
                        position: *position,
                    });
                    if !path.is_empty() {
                        trail.source = Some(path);
                    }
                    trail.fault = inner;
                }
                _ => return trail,
            }
        }
    }

    /// Where the fault is, as far as Rhai tells: its own position, else the innermost call's in the same file.
    pub(super) fn position(&self) -> Position {
        let own = self.fault.position();
        if !own.is_none() {
            return own;
        }
        self.calls
            .iter()
            .rev()
            .take_while(|call| call.source == self.source)
            .map(|call| call.position)
            .find(|position| !position.is_none())
            .unwrap_or(Position::NONE)
    }

    /// Adds the calls around the fault, innermost first.
    pub(super) fn notes(&self, mut frame: Frame, path_of: &PathOf<'_>) -> Frame {
        let mut shown = 0;
        let mut last = (self.source, self.fault.position());
        let mut dropped = 0;
        for (index, call) in self.calls.iter().enumerate().rev() {
            // A native function that calls a closure is told twice, at one place.
            let here = (call.source, call.position);
            let again = index > 0 && self.calls[index - 1].position == call.position;
            if call.position.is_none() || again || here == last {
                continue;
            }
            last = here;
            if shown == CALLS_SHOWN_MAX {
                dropped += 1;
                continue;
            }
            let Some((path, source)) = path_of(call.source) else { continue };
            let site = Site { path: &path, source: &source };
            let offset = Text::new(&source).offset(call.position).unwrap_or_default();
            let what = if call.name == "import" { "imported" } else { "called" };
            let from = match index.checked_sub(1) {
                None => "the top level".to_owned(),
                Some(around) => self.name_of(around),
            };
            frame = frame.note(format!("{what} from {from}, {}", site.at(offset)));
            shown += 1;
        }
        if dropped > 0 {
            frame = frame.note(format!("and from {}", counted(dropped, "more place")));
        }
        frame
    }

    /// The function of that call, in words.
    fn name_of(&self, index: usize) -> String {
        let call = &self.calls[index];
        match (is_anonymous(call.name), call.position.is_none()) {
            (true, true) => "the handler".to_owned(),
            (true, false) => "a closure".to_owned(),
            (false, _) => format!("`{}`", cut(call.name)),
        }
    }
}
