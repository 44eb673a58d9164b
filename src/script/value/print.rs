//! Values as text for people, in Rhai's own form, cut with `…` at 128 levels and 1 MiB. It never fails: where printing reports an
//! error, Rhai falls back on a form without bounds.

use std::fmt::{self, Write};
use std::ops::{Range, RangeInclusive};

use rhai::{Dynamic, FloatWrapper, FnPtr, ImmutableString};

use super::{Kind, kind};
use crate::script::builtins::ending::room;

/// How deep a value is printed.
const PRINTED_LEVELS_MAX: usize = 128;
/// How much of a value is printed.
const PRINTED_BYTES_MAX: usize = 1024 * 1024;

/// As `print` and `${}` show it: a string is itself, `()` is nothing.
pub(crate) fn to_text(value: &Dynamic) -> String {
    print(value, false)
}

/// As it stands inside an array: strings and characters in quotes.
pub(crate) fn to_debug_text(value: &Dynamic) -> String {
    print(value, true)
}

fn print(value: &Dynamic, quoted: bool) -> String {
    let limit = PRINTED_BYTES_MAX.min(room() / 2);
    let mut printer = Printer { out: String::new(), limit };
    // An error means that the limit is reached, and that is what is wanted.
    if printer.value(value, 0, quoted).is_err() {
        printer.out.push('…');
    }
    printer.out
}

struct Printer {
    out: String,
    limit: usize,
}

impl Write for Printer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let left = self.limit - self.out.len();
        if text.len() <= left {
            self.out.push_str(text);
            return Ok(());
        }
        self.out.push_str(&text[..text.floor_char_boundary(left)]);
        Err(fmt::Error)
    }
}

impl Printer {
    fn value(&mut self, value: &Dynamic, level: usize, quoted: bool) -> fmt::Result {
        match kind(value) {
            Kind::Unit if quoted => self.write_str("()"),
            Kind::Unit => Ok(()),
            Kind::Bool => write!(self, "{}", value.as_bool() == Ok(true)),
            Kind::Int => write!(self, "{}", value.as_int().unwrap_or_default()),
            Kind::Float => {
                write!(self, "{}", FloatWrapper::new(value.as_float().unwrap_or_default()))
            }
            Kind::Char if quoted => write!(self, "{:?}", value.as_char().unwrap_or_default()),
            Kind::Char => self.write_char(value.as_char().unwrap_or_default()),
            Kind::Text => match value.read_lock::<ImmutableString>() {
                Some(text) if quoted => write!(self, "{:?}", text.as_str()),
                Some(text) => self.write_str(&text),
                None => Ok(()),
            },
            Kind::Array => self.array(value, level),
            Kind::Map => self.map(value, level),
            Kind::Blob => self.blob(value),
            Kind::Function => match value.read_lock::<FnPtr>() {
                Some(function) if !function.is_anonymous() => {
                    write!(self, "Fn({})", function.fn_name())
                }
                _ => self.write_str("Fn(closure)"),
            },
            Kind::Timestamp => self.write_str("<timestamp>"),
            Kind::Range => match value.read_lock::<Range<i64>>() {
                Some(range) => write!(self, "{}..{}", range.start, range.end),
                None => Ok(()),
            },
            Kind::RangeInclusive => match value.read_lock::<RangeInclusive<i64>>() {
                Some(range) => write!(self, "{}..={}", range.start(), range.end()),
                None => Ok(()),
            },
            Kind::Shared => match value.read_lock::<Dynamic>() {
                Some(inner) => self.value(&inner, level, quoted),
                None => self.write_str("<in use>"),
            },
            Kind::Other => self.write_str(value.type_name()),
        }
    }

    fn array(&mut self, value: &Dynamic, level: usize) -> fmt::Result {
        let Ok(array) = value.as_array_ref() else { return Ok(()) };
        if level == PRINTED_LEVELS_MAX {
            return self.write_str("[…]");
        }
        self.write_str("[")?;
        for (index, item) in array.iter().enumerate() {
            self.write_str(if index > 0 { ", " } else { "" })?;
            self.value(item, level + 1, true)?;
        }
        self.write_str("]")
    }

    fn map(&mut self, value: &Dynamic, level: usize) -> fmt::Result {
        let Ok(map) = value.as_map_ref() else { return Ok(()) };
        if level == PRINTED_LEVELS_MAX {
            return self.write_str("#{…}");
        }
        self.write_str("#{")?;
        for (index, (key, item)) in map.iter().enumerate() {
            self.write_str(if index > 0 { ", " } else { "" })?;
            write!(self, "{:?}: ", key.as_str())?;
            self.value(item, level + 1, true)?;
        }
        self.write_str("}")
    }

    fn blob(&mut self, value: &Dynamic) -> fmt::Result {
        let Ok(blob) = value.as_blob_ref() else { return Ok(()) };
        self.write_str("[")?;
        for (index, byte) in blob.iter().enumerate() {
            self.write_str(if index > 0 && index % 8 == 0 { " " } else { "" })?;
            write!(self, "{byte:02x}")?;
        }
        self.write_str("]")
    }
}
