//! Rhai values into JSON text, or into a plain tree. What JSON cannot hold is refused by name and path, never turned into `null`.
//! Escapes are counted before anything is allocated for them; recursion ends at `LEVELS_MAX`, which cycles of closures never
//! reach, since functions are refused.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rhai::{Dynamic, ImmutableString};

use super::{Buffer, Full, Kind, LEVELS_MAX, Limits, Reason, ValueError, kind};
use crate::script::api::provider::Page;

/// Compact JSON.
pub(crate) fn to_json(value: &Dynamic, limits: Limits) -> Result<String, ValueError> {
    write(value, limits, false)
}

/// JSON for people: two blanks a level.
pub(crate) fn to_json_pretty(value: &Dynamic, limits: Limits) -> Result<String, ValueError> {
    write(value, limits, true)
}

/// A plain tree of the value, for the few places that look inside (filters). Refuses what `to_json` refuses.
pub(crate) fn to_plain(value: &Dynamic) -> Result<serde_json::Value, ValueError> {
    let json = to_json(value, Limits::NONE)?;
    serde_json::from_str(&json).map_err(|error| Reason::Syntax(error.to_string().into()).into())
}

fn write(value: &Dynamic, limits: Limits, pretty: bool) -> Result<String, ValueError> {
    let mut writer = Writer { out: Buffer::new(limits.bytes), limits, pretty };
    writer.value(value, 0)?;
    Ok(writer.out.into_text())
}

struct Writer {
    out: Buffer,
    limits: Limits,
    pretty: bool,
}

impl Writer {
    fn value(&mut self, value: &Dynamic, level: usize) -> Result<(), ValueError> {
        match kind(value) {
            Kind::Text => match value.read_lock::<ImmutableString>() {
                Some(text) => self.text(&text),
                None => Err(Reason::InUse.into()),
            },
            Kind::Int => self.display(value.as_int().unwrap_or_default()),
            Kind::Bool => self.raw(if value.as_bool() == Ok(true) { "true" } else { "false" }),
            Kind::Unit => self.raw("null"),
            Kind::Float => self.float(value.as_float().unwrap_or_default()),
            Kind::Char => {
                let character = value.as_char().unwrap_or_default();
                self.text(character.encode_utf8(&mut [0; 4]))
            }
            Kind::Array => self.array(value, level),
            Kind::Map => self.map(value, level),
            Kind::Blob => self.blob(value),
            Kind::Shared => match value.read_lock::<Dynamic>() {
                Some(inner) => self.value(&inner, level),
                None => Err(Reason::InUse.into()),
            },
            refused @ (Kind::Function | Kind::Timestamp | Kind::Range | Kind::RangeInclusive) => {
                Err(Reason::NotJson(refused.words()).into())
            }
            Kind::Other => match value.read_lock::<Page>() {
                Some(page) => self.value(page.body(), level),
                None => Err(Reason::NotJsonType(value.type_name().into()).into()),
            },
        }
    }

    fn array(&mut self, value: &Dynamic, level: usize) -> Result<(), ValueError> {
        let array = value.as_array_ref().map_err(|_| Reason::InUse)?;
        let level = deeper(level)?;
        self.raw("[")?;
        for (index, item) in array.iter().enumerate() {
            self.separate(index, level)?;
            self.value(item, level).map_err(|error| error.under_index(index))?;
        }
        self.close(array.is_empty(), level, "]")
    }

    fn map(&mut self, value: &Dynamic, level: usize) -> Result<(), ValueError> {
        let map = value.as_map_ref().map_err(|_| Reason::InUse)?;
        let level = deeper(level)?;
        self.raw("{")?;
        for (index, (key, item)) in map.iter().enumerate() {
            self.separate(index, level)?;
            self.text(key)?;
            self.raw(if self.pretty { ": " } else { ":" })?;
            self.value(item, level).map_err(|error| error.under_key(key))?;
        }
        self.close(map.is_empty(), level, "}")
    }

    /// Comma and line break before an item.
    fn separate(&mut self, index: usize, level: usize) -> Result<(), ValueError> {
        if index > 0 {
            self.raw(",")?;
        }
        self.line(level)
    }

    fn close(&mut self, empty: bool, level: usize, bracket: &str) -> Result<(), ValueError> {
        if !empty {
            self.line(level - 1)?;
        }
        self.raw(bracket)
    }

    fn line(&mut self, level: usize) -> Result<(), ValueError> {
        if self.pretty {
            self.raw("\n")?;
            for _ in 0..level {
                self.raw("  ")?;
            }
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), ValueError> {
        // Most text needs no escape, and this way of asking runs many bytes at a time.
        let plain = !text
            .bytes()
            .fold(false, |any, byte| any | (byte < 0x20) | (byte == b'"') | (byte == b'\\'));
        let escaped = if plain { text.len() } else { text.bytes().map(escaped_len).sum() };
        self.reserve(escaped + 2)?;
        let out = self.out.text_mut();
        out.push('"');
        if plain {
            out.push_str(text);
        } else {
            push_escaped(out, text);
        }
        out.push('"');
        Ok(())
    }

    fn blob(&mut self, value: &Dynamic) -> Result<(), ValueError> {
        let blob = value.as_blob_ref().map_err(|_| Reason::InUse)?;
        self.reserve(blob.len().div_ceil(3).saturating_mul(4).saturating_add(2))?;
        let out = self.out.text_mut();
        out.push('"');
        STANDARD.encode_string(blob.as_slice(), out);
        out.push('"');
        Ok(())
    }

    fn float(&mut self, float: f64) -> Result<(), ValueError> {
        if float.is_nan() {
            Err(Reason::NotJson("NaN").into())
        } else if float.is_infinite() {
            Err(Reason::NotJson("infinity").into())
        } else {
            // Rust's own shortest form, which reads back as the same number and stays a float.
            self.display(format_args!("{float:?}"))
        }
    }

    fn display(&mut self, value: impl std::fmt::Display) -> Result<(), ValueError> {
        /// The longest number: `-1.7976931348623157e308` and the like.
        const LONGEST: usize = 32;
        self.reserve(LONGEST)?;
        // Cannot fail: there is room.
        let _ = write!(self.out, "{value}");
        Ok(())
    }

    fn raw(&mut self, text: &str) -> Result<(), ValueError> {
        self.out.push_str(text).map_err(|full| self.full(full))
    }

    fn reserve(&mut self, bytes: usize) -> Result<(), ValueError> {
        self.out.reserve(bytes).map_err(|full| self.full(full))
    }

    fn full(&self, full: Full) -> ValueError {
        match full {
            Full::Limit => Reason::TooLarge(self.limits.bytes).into(),
            Full::Memory => Reason::Memory.into(),
        }
    }
}

fn deeper(level: usize) -> Result<usize, ValueError> {
    if level == LEVELS_MAX { Err(Reason::TooDeep(LEVELS_MAX).into()) } else { Ok(level + 1) }
}

/// How long one byte of text is inside quotes (RFC 8259, section 7).
const fn escaped_len(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | 8 | 9 | 10 | 12 | 13 => 2,
        0..0x20 => 6,
        _ => 1,
    }
}

fn push_escaped(out: &mut String, text: &str) {
    let mut start = 0;
    for (index, byte) in text.bytes().enumerate() {
        if escaped_len(byte) == 1 {
            continue;
        }
        // Only ASCII is escaped, so these are borders of characters.
        out.push_str(&text[start..index]);
        start = index + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            8 => out.push_str("\\b"),
            9 => out.push_str("\\t"),
            10 => out.push_str("\\n"),
            12 => out.push_str("\\f"),
            13 => out.push_str("\\r"),
            control => {
                let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value & 15)]);
                out.push_str("\\u00");
                out.push(digit(control >> 4));
                out.push(digit(control));
            }
        }
    }
    out.push_str(&text[start..]);
}
