//! Topics that have one side only, over all scripts: emitted and handled by nobody, or handled and never emitted. It says what the sources
//! tell; where a topic is computed, or a script is broken, the other side may be there and nothing is said.

use std::collections::BTreeSet;

use super::Generation;
use crate::frame::{Frame, nearest};
use crate::script::handler::{Emitted, Script, Trigger, matches};
use crate::script::refusal;

/// A warning for each.
pub(crate) fn one_sided(generation: &Generation) -> Vec<Frame> {
    if !generation.broken.is_empty() {
        return Vec::new();
    }
    let scripts = || generation.scripts.iter().map(|script| &**script);
    let mut frames: Vec<Frame> = Vec::new();
    for Emitted { topic, place } in scripts().flat_map(|script| &script.emits.topics) {
        if !listeners(scripts()).any(|pattern| matches(pattern, topic)) {
            let title = format!("no script has an `on` for `{topic}`, so its events are ignored");
            let frame = Frame::warning("E0238", title).at(place.clone());
            let frame = frame.help(match nearest(topic, listeners(scripts())) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("write `on(\"{topic}\", |event| …)` in a script"),
            });
            // A module's stand with each script.
            if !frames.contains(&frame) {
                frames.push(frame);
            }
        }
    }
    if !scripts().any(|script| script.emits.computed) {
        frames.extend(never_emitted(generation));
    }
    frames
}

/// The topics of every `on`.
fn listeners<'a>(scripts: impl Iterator<Item = &'a Script>) -> impl Iterator<Item = &'a str> {
    scripts.flat_map(|script| &script.handlers).filter_map(|handler| match &handler.trigger {
        Trigger::Topic { pattern } => Some(&**pattern),
        Trigger::Webhook { .. }
        | Trigger::Route { .. }
        | Trigger::Timer(_)
        | Trigger::Death { .. } => None,
    })
}

fn never_emitted(generation: &Generation) -> Vec<Frame> {
    let scripts = &generation.scripts;
    let emitted: BTreeSet<&str> = scripts
        .iter()
        .flat_map(|script| &script.emits.topics)
        .map(|emitted| &*emitted.topic)
        .collect();
    let mut frames = Vec::new();
    for script in scripts {
        for handler in &script.handlers {
            let Trigger::Topic { pattern } = &handler.trigger else { continue };
            // A pattern is meant for what may come.
            if pattern.contains('*') || emitted.contains(&**pattern) {
                continue;
            }
            let title = format!("no script emits `{pattern}`, so this handler never runs");
            let place = refusal::place(refusal::site(&script.path, &script.source), handler);
            let frame = Frame::warning("E0239", title).at(place);
            frames.push(frame.help(match nearest(pattern, emitted.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("write `emit(\"{pattern}\", …)` where it is to begin"),
            }));
        }
    }
    frames
}
