//! Values that scripts throw, as text: never long, never deep, never endless, whatever the script made.

use rhai::Dynamic;

use super::names::kind_of;
use super::{cut, with_article};

/// Levels of a thrown array or map that are shown.
const VALUE_LEVELS_MAX: usize = 3;

/// A value as a script would write it, never long and never deep.
pub(super) fn shown(value: &Dynamic) -> String {
    let mut text = String::new();
    write_value(value, VALUE_LEVELS_MAX, true, &mut text);
    cut(&text)
}

/// The same, a text without its quotes.
pub(super) fn shown_bare(value: &Dynamic) -> String {
    let mut text = String::new();
    write_value(value, VALUE_LEVELS_MAX, false, &mut text);
    cut(&text)
}

/// Rhai's own `Display` goes down as deep as the value is, and writes all of it.
fn write_value(value: &Dynamic, levels: usize, quotes: bool, text: &mut String) {
    const ENOUGH: usize = 4 * super::TEXT_CHARS_MAX;
    if text.len() > ENOUGH {
        return;
    }
    if let Some(string) = value.read_lock::<rhai::ImmutableString>() {
        let start: String = string.chars().take(super::TEXT_CHARS_MAX + 1).collect();
        text.push_str(&if quotes { format!("{start:?}") } else { start });
    } else if let Some(items) = value.read_lock::<rhai::Array>() {
        text.push('[');
        for (index, item) in items.iter().enumerate() {
            if levels == 0 || text.len() > ENOUGH {
                text.push('…');
                break;
            }
            text.push_str(if index > 0 { ", " } else { "" });
            write_value(item, levels - 1, true, text);
        }
        text.push(']');
    } else if let Some(fields) = value.read_lock::<rhai::Map>() {
        text.push_str("#{");
        for (index, (name, item)) in fields.iter().enumerate() {
            if levels == 0 || text.len() > ENOUGH {
                text.push('…');
                break;
            }
            text.push_str(if index > 0 { ", " } else { "" });
            text.push_str(&cut(name));
            text.push_str(": ");
            write_value(item, levels - 1, true, text);
        }
        text.push('}');
    } else if value.is_unit() {
        text.push_str("()");
    } else if value.is_int() || value.is_float() || value.is_bool() || value.is_char() {
        text.push_str(&value.to_string());
    } else if value.is_shared() {
        // Asking for its type would panic if someone held it.
        text.push_str("a shared value");
    } else {
        text.push_str(&with_article(&kind_of(value.type_name())));
    }
}
