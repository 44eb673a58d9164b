//! Options that a pure function takes as its last argument: a map of named values, where a name that does not exist is an error that says
//! which do.

use rhai::{Dynamic, ImmutableString, Map};

use crate::script::builtins::ending::{Fallible, refused};
use crate::script::value::{Kind, kind};

/// Characters of an unknown name that an error repeats.
const NAME_CHARACTERS_MAX: usize = 64;

/// The options of one call, those left out as `()`.
#[derive(Clone, Copy)]
pub(super) struct Named<'a>(Option<&'a Map>);

impl<'a> Named<'a> {
    /// None are given.
    pub(super) const NONE: Self = Self(None);

    /// Those of a map, which may have no others than the known ones.
    pub(super) fn of(map: &'a Map, known: &[&str]) -> Fallible<Self> {
        match map.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(Self(Some(map))),
            Some(unknown) => {
                let unknown: String = unknown.chars().take(NAME_CHARACTERS_MAX).collect();
                let known = known.join("`, `");
                Err(refused(&format!("there is no option `{unknown}`; it takes `{known}`")))
            }
        }
    }

    /// The value, if one is given.
    pub(super) fn get(&self, name: &str) -> Option<&'a Dynamic> {
        self.0.and_then(|map| map.get(name)).filter(|value| !value.is_unit())
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, name: &str, usual: bool) -> Fallible<bool> {
        let Some(value) = self.get(name) else { return Ok(usual) };
        value.as_bool().map_err(|_| wrong(name, "`true` or `false`", value))
    }

    /// Text.
    pub(super) fn text(&self, name: &str, what: &str) -> Fallible<Option<ImmutableString>> {
        let text = |value: &Dynamic| match value.read_lock::<ImmutableString>() {
            Some(text) => Ok(text.clone()),
            None => Err(wrong(name, what, value)),
        };
        self.get(name).map(text).transpose()
    }
}

/// The error of an option that has a value of another kind.
pub(super) fn wrong(name: &str, what: &str, value: &Dynamic) -> Box<rhai::EvalAltResult> {
    let given = match kind(value) {
        Kind::Text => "that",
        other => other.words(),
    };
    refused(&format!("the option `{name}` takes {what}, not {given}"))
}
