//! Paths through elements: names with `/` between them. A name without a prefix means the elements of just that name, and where there is
//! none, those of that name with any prefix, since senders choose their prefixes as they like.

use std::ops::ControlFlow;

use rhai::{Array, Dynamic, ImmutableString, Map};

use crate::script::builtins::ending::{Fallible, refused};
use crate::script::value::{Kind, kind};

/// Longer paths lead out of any document that can be read.
const STEPS_MAX: usize = super::LEVELS_MAX;

pub(super) fn first(element: &Dynamic, path: &str) -> Fallible<Dynamic> {
    let steps = elements(path)?;
    let mut found = Dynamic::UNIT;
    walk(element, &steps, &mut |element| {
        found = element.clone();
        ControlFlow::Break(())
    })?;
    Ok(found)
}

pub(super) fn all(element: &Dynamic, path: &str) -> Fallible<Array> {
    let steps = elements(path)?;
    let mut found = Array::new();
    walk(element, &steps, &mut |element| {
        found.push(element.clone());
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

pub(super) fn text(element: &Dynamic, path: &str) -> Fallible<Dynamic> {
    let (steps, attribute) = read(path)?;
    let mut found = Dynamic::UNIT;
    walk(element, &steps, &mut |element| {
        let Ok(map) = element.as_map_ref() else { return ControlFlow::Continue(()) };
        let value = match attribute {
            None => map.get("text").cloned(),
            Some(name) => {
                map.get("attributes").and_then(|attributes| attribute_of(attributes, name))
            }
        };
        match value {
            Some(value) => {
                found = value;
                ControlFlow::Break(())
            }
            None => ControlFlow::Continue(()),
        }
    })?;
    Ok(found)
}

fn attribute_of(attributes: &Dynamic, name: &str) -> Option<Dynamic> {
    attributes.as_map_ref().ok()?.get(name).cloned()
}

/// The steps, and the attribute at their end.
fn read(path: &str) -> Fallible<(Vec<&str>, Option<&str>)> {
    let wrong = || {
        refused(
            "a path is names with `/` between them, such as \"Body/Price\", with `*` for any; \"@name\" at its end is an attribute",
        )
    };
    let mut steps: Vec<&str> = path.split('/').take(STEPS_MAX + 1).collect();
    let attribute = steps.pop_if(|last| last.starts_with('@')).map(|last| &last[1..]);
    let is_empty = |step: &&str| step.is_empty() || step.starts_with('@');
    if steps.iter().any(is_empty) || attribute == Some("") || steps.len() > STEPS_MAX {
        return Err(wrong());
    }
    Ok((steps, attribute))
}

fn elements(path: &str) -> Fallible<Vec<&str>> {
    match read(path)? {
        (steps, None) => Ok(steps),
        (_, Some(_)) => Err(refused("an attribute is text: `xml::text` gives it")),
    }
}

/// Shows each element at the end of the steps, in the order of the document. Nothing is below `()`, so that what was not found can be asked on.
fn walk(
    element: &Dynamic,
    steps: &[&str],
    show: &mut dyn FnMut(&Dynamic) -> ControlFlow<()>,
) -> Fallible<()> {
    match kind(element) {
        Kind::Unit => Ok(()),
        Kind::Map => {
            _ = descend(element, steps, show);
            Ok(())
        }
        Kind::Shared => match element.read_lock::<Dynamic>() {
            Some(inner) => walk(&inner, steps, show),
            None => Err(refused("a variable that is in use cannot be read")),
        },
        other => Err(refused(&format!(
            "an element is a map as `xml::parse` gives it, not {}",
            other.words()
        ))),
    }
}

fn descend(
    element: &Dynamic,
    steps: &[&str],
    show: &mut dyn FnMut(&Dynamic) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let Some((step, rest)) = steps.split_first() else { return show(element) };
    let Ok(map) = element.as_map_ref() else { return ControlFlow::Continue(()) };
    let Some(Ok(children)) = map.get("children").map(Dynamic::as_array_ref) else {
        return ControlFlow::Continue(());
    };
    let is_exact =
        *step != "*" && children.iter().any(|child| is_named(child, |name| name == *step));
    for child in children.iter() {
        let fits = is_named(child, |name| {
            *step == "*" || if is_exact { name == *step } else { local(name) == *step }
        });
        if fits {
            descend(child, rest, show)?;
        }
    }
    ControlFlow::Continue(())
}

fn is_named(child: &Dynamic, test: impl FnOnce(&str) -> bool) -> bool {
    let Ok(map) = child.as_map_ref() else { return false };
    let name = |map: &Map| map.get("name")?.read_lock::<ImmutableString>().map(|name| name.clone());
    name(&map).is_some_and(|name| test(&name))
}

/// A name without its prefix.
fn local(name: &str) -> &str {
    name.split_once(':').map_or(name, |(_, local)| local)
}
