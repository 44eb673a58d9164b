//! Where an event comes from, as one text that is stored with it: a webhook by its name, what a script emitted by its topic, a timer by what
//! identifies it. No webhook's name has a `:`, so the three cannot be mixed up.

use std::sync::Arc;

const TOPIC: &str = "on:";
const TIMER: &str = "every:";

/// What such a text says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source<'a> {
    /// Its name in config.
    Webhook(&'a str),
    /// As in `emit(topic, …)`.
    Topic(&'a str),
    /// As `timer` made it.
    Timer(&'a str),
}

impl<'a> Source<'a> {
    /// Reads it.
    pub(crate) fn of(text: &'a str) -> Self {
        if let Some(topic) = text.strip_prefix(TOPIC) {
            Self::Topic(topic)
        } else if let Some(timer) = text.strip_prefix(TIMER) {
            Self::Timer(timer)
        } else {
            Self::Webhook(text)
        }
    }
}

/// Of what is emitted under a topic.
pub(crate) fn topic(topic: &str) -> Arc<str> {
    format!("{TOPIC}{topic}").into()
}

/// Of a timer, which is known by its script, its expression, and how many of that script had the same expression before it.
pub(super) fn timer(script: &str, expression: &str, position: u32) -> String {
    match position {
        0 => format!("{TIMER}{script}/{expression}"),
        position => format!("{TIMER}{script}/{expression}/{position}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_read_as_it_was_written() {
        assert_eq!(Source::of("clerk"), Source::Webhook("clerk"));
        assert_eq!(Source::of(&topic("order.paid")), Source::Topic("order.paid"));
        assert_eq!(Source::of(&timer("clean", "5m", 0)), Source::Timer("clean/5m"));
        assert_eq!(Source::of(&timer("clean", "5m", 2)), Source::Timer("clean/5m/2"));
    }
}
