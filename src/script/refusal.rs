//! What the loader says of a script that Rhai itself would take: set-up limits, registrations that cannot be meant, values too deep.

use std::sync::Arc;

use rhai::Position;

use super::Ending;
use super::diagnose::{Site, Text};
use super::handler::Handler;
use crate::frame::{Frame, Place};

/// The set-up phase was ended.
pub(super) fn limit(site: Site<'_>, ending: Ending) -> Frame {
    let what = match ending {
        Ending::Cpu | Ending::Timeout => "its top level runs for too long",
        Ending::Memory => "its top level takes more than `scripts.memory_budget`",
        Ending::Stack => "its top level is nested too deep",
        Ending::Cancelled | Ending::ByHandler | Ending::ByCall => "loading it was cut short",
    };
    Frame::error("E0221", format!("`{}` cannot be loaded: {what}", site.path))
        .at(site.place(0..0, ""))
        .help("the top level only registers handlers and declares constants; work belongs into handlers")
}

/// A native function panicked in the set-up phase.
pub(super) fn panicked(site: Site<'_>) -> Frame {
    Frame::error("E0222", format!("`{}` makes a function of Rhaiway panic", site.path))
        .at(site.place(0..0, ""))
        .help("this is a bug of Rhaiway; please report it with the script")
}

/// A constant is nested deeper than JSON can be.
pub(super) fn deep_constant(site: Site<'_>, name: &str) -> Frame {
    let at = site.source.find(name).unwrap_or(0);
    let span = if site.source[at..].starts_with(name) { at..at + name.len() } else { 0..0 };
    Frame::error("E0223", format!("the constant `{name}` is nested deeper than 127 levels"))
        .at(site.place(span, ""))
        .help("a constant is a value that could be JSON")
}

/// A handler is bound to a value that is nested deeper than JSON can be.
pub(super) fn deep_capture(site: Site<'_>, handler: &Handler) -> Frame {
    Frame::error("E0223", "this handler is bound to a value nested deeper than 127 levels")
        .at(place(site, handler))
        .help("a handler may use constants that could be JSON; build anything else inside it")
}

/// The same pattern twice for one webhook, or one route twice.
pub(super) fn registered_twice(site: Site<'_>, handler: &Handler, subject: &str) -> Frame {
    Frame::error("E0224", format!("`{subject}` is registered twice in `{}`", site.path))
        .at(place(site, handler))
        .help("put both into one handler")
}

/// A handler that does not take what it is called with.
pub(super) fn wrong_parameters(
    site: Site<'_>,
    handler: &Handler,
    takes: usize,
    given: &[&str],
) -> Frame {
    let count = if given.len() == 1 { "one" } else { "two" };
    let title = format!("this handler takes {takes} parameters, and is called with {count}");
    Frame::error("E0225", title)
        .at(place(site, handler))
        .help(format!("write `|{}| …`", given.join(", ")))
}

/// Its file cannot be read at all.
pub(crate) fn unreadable(path: &str, reason: &str) -> Frame {
    Frame::error("E0226", format!("`{path}` cannot be read: {reason}"))
        .help("the file needs to be readable for the user that Rhaiway runs as")
}

/// A registration in its script.
pub(crate) fn place(site: Site<'_>, handler: &Handler) -> Place {
    let position = Position::new(u16_of(handler.line), u16_of(handler.column));
    let span = Text::new(site.source).span_at(position).unwrap_or(0..0);
    site.place(span, "")
}

fn u16_of(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX).max(1)
}

/// A script's path and text, to point into.
pub(crate) fn site<'a>(path: &'a str, source: &'a Arc<str>) -> Site<'a> {
    Site { path, source }
}
