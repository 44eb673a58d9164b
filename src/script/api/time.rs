//! `time::…`: milliseconds since the epoch, as everything in a script has them, and the ways in which others write time.
//! In UTC or at a fixed offset; zones by name need their own data, which this does not read.

use jiff::civil::DateTime;
use jiff::fmt::{rfc2822, strtime};
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, Zoned};
use rhai::{ImmutableString, Module};

use super::Signature;
use crate::script::builtins::ending::{Fallible, refused};
use crate::script::builtins::set;

pub(super) const SIGNATURES: [Signature; 3] = [
    Signature {
        name: "time::iso",
        parameters: "ms",
        returns: "string",
        does: "RFC 3339 in UTC, with milliseconds: `2026-01-31T12:00:00.000Z`",
    },
    Signature {
        name: "time::format",
        parameters: "ms, [pattern], [offset]",
        returns: "string",
        does: "By a strftime pattern (default `%Y-%m-%d %H:%M:%S`), in UTC or at an offset such as `+02:00`",
    },
    Signature {
        name: "time::parse",
        parameters: "text, [pattern]",
        returns: "int",
        does: "Milliseconds of RFC 3339, RFC 2822 or a date, or by a strftime pattern; UTC where the text has no offset",
    },
];

/// A pattern and a time as text are short; widths in a pattern multiply it.
const TEXT_MAX: usize = 256;
const PATTERN: &str = "%Y-%m-%d %H:%M:%S";

pub(super) fn module() -> Module {
    let mut module = Module::new();
    set(&mut module, "iso", iso);
    set(&mut module, "format", |ms: i64| format(ms, PATTERN, "UTC"));
    set(&mut module, "format", |ms: i64, pattern: &str| format(ms, pattern, "UTC"));
    set(&mut module, "format", format);
    set(&mut module, "parse", parse);
    set(&mut module, "parse", parse_by);
    module
}

fn iso(ms: i64) -> Fallible<ImmutableString> {
    Ok(format!("{:.3}", timestamp(ms)?).into())
}

fn format(ms: i64, pattern: &str, offset: &str) -> Fallible<ImmutableString> {
    short(pattern)?;
    let zoned = timestamp(ms)?.to_zoned(zone(offset)?);
    let text = strtime::format(pattern, &zoned)
        .map_err(|error| refused(&format!("the pattern `{pattern}` does not fit: {error}")))?;
    Ok(text.into())
}

fn parse(text: &str) -> Fallible<i64> {
    short(text)?;
    let text = text.trim();
    let utc = |datetime: DateTime| datetime.to_zoned(TimeZone::UTC);
    let timestamp = text
        .parse::<Timestamp>()
        .or_else(|_| rfc2822::parse(text).map(|zoned| zoned.timestamp()))
        .or_else(|_| text.parse::<DateTime>().and_then(utc).map(|zoned| zoned.timestamp()));
    match timestamp {
        Ok(timestamp) => Ok(timestamp.as_millisecond()),
        Err(_) => Err(refused(&format!(
            "`{text}` is no time; `2026-01-31T12:00:00Z`, `2026-01-31` and RFC 2822 are read, all else by a pattern"
        ))),
    }
}

fn parse_by(text: &str, pattern: &str) -> Fallible<i64> {
    short(text)?;
    short(pattern)?;
    let unfit = |error| refused(&format!("`{text}` does not fit `{pattern}`: {error}"));
    let parts = strtime::parse(pattern, text).map_err(unfit)?;
    let in_utc = |datetime: DateTime| datetime.to_zoned(TimeZone::UTC);
    let zoned: Zoned = parts
        .to_timestamp()
        .map(|timestamp| timestamp.to_zoned(TimeZone::UTC))
        .or_else(|_| parts.to_datetime().and_then(in_utc))
        .or_else(|_| parts.to_date().map(|date| date.at(0, 0, 0, 0)).and_then(in_utc))
        .map_err(unfit)?;
    Ok(zoned.timestamp().as_millisecond())
}

fn timestamp(ms: i64) -> Fallible<Timestamp> {
    Timestamp::from_millisecond(ms)
        .map_err(|_| refused(&format!("{ms} is no time: years -9999 to 9999, in milliseconds")))
}

/// `UTC`, `Z`, `+02:00`, `+0200`, `+02`.
fn zone(text: &str) -> Fallible<TimeZone> {
    if matches!(text, "UTC" | "utc" | "Z") {
        return Ok(TimeZone::UTC);
    }
    let unknown = || {
        refused("an offset such as \"+02:00\" is expected, or \"UTC\"; zones by name are not known")
    };
    let (sign, digits) = match text.split_at_checked(1) {
        Some(("+", digits)) => (1, digits),
        Some(("-", digits)) => (-1, digits),
        _ => return Err(unknown()),
    };
    let digits: Vec<i32> = digits
        .bytes()
        .filter(|byte| *byte != b':')
        .map(|byte| byte.is_ascii_digit().then(|| i32::from(byte - b'0')))
        .collect::<Option<_>>()
        .ok_or_else(unknown)?;
    let (hours, minutes) = match digits[..] {
        [tens, ones] => (tens * 10 + ones, 0),
        [tens, ones, minute_tens, minute_ones] => {
            (tens * 10 + ones, minute_tens * 10 + minute_ones)
        }
        _ => return Err(unknown()),
    };
    if minutes > 59 {
        return Err(unknown());
    }
    let offset = Offset::from_seconds(sign * (hours * 3600 + minutes * 60));
    Ok(TimeZone::fixed(offset.map_err(|_| unknown())?))
}

fn short(text: &str) -> Fallible<()> {
    if text.len() > TEXT_MAX {
        return Err(refused(&format!("more than {TEXT_MAX} bytes of text for a time")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::script::builtins::testing::check;

    #[test]
    fn times_are_written() {
        check(
            "[time::iso(0), time::iso(1769860800123)]",
            r#"["1970-01-01T00:00:00.000Z", "2026-01-31T12:00:00.123Z"]"#,
        );
        check(
            "[time::format(0), time::format(0, \"%d.%m.%Y %H:%M\"), time::format(0, \"%H:%M %:z\", \"+05:30\"), time::format(0, \"%H\", \"-0100\"), time::format(0, \"%H\", \"+02\")]",
            r#"["1970-01-01 00:00:00", "01.01.1970 00:00", "05:30 +05:30", "23", "02"]"#,
        );
    }

    #[test]
    fn times_are_read() {
        let ms = |text: &str, expected: &str| check(&format!("time::parse(\"{text}\")"), expected);
        ms("1970-01-01T00:00:01Z", "1000");
        ms("1970-01-01T01:00:00.25+01:00", "250");
        ms("Thu, 01 Jan 1970 00:00:05 GMT", "5000");
        ms("1970-01-02", "86400000");
        ms(" 1970-01-01 00:01 ", "60000");
        check(
            "[time::parse(\"02/01/1970\", \"%d/%m/%Y\"), time::parse(\"1970-01-01 00:00 +0100\", \"%Y-%m-%d %H:%M %z\"), time::parse(\"1970-01-01 00:02\", \"%Y-%m-%d %H:%M\")]",
            "[86400000, -3600000, 120000]",
        );
        check("time::parse(time::iso(1769860800123))", "1769860800123");
    }

    #[test]
    fn what_is_no_time_says_so() {
        check(
            "time::parse(\"soon\")",
            "INVALID_ARGUMENT: `soon` is no time; `2026-01-31T12:00:00Z`, `2026-01-31` and RFC 2822 are read, all else by a pattern",
        );
        check(
            "time::iso(9223372036854775807)",
            "INVALID_ARGUMENT: 9223372036854775807 is no time: years -9999 to 9999, in milliseconds",
        );
        for offset in ["Europe/Berlin", "", "+", "+1", "+99:00", "+02:60", "é", "+é"] {
            check(
                &format!("time::format(0, \"%H\", \"{offset}\")"),
                "INVALID_ARGUMENT: an offset such as \"+02:00\" is expected, or \"UTC\"; zones by name are not known",
            );
        }
        check(
            "let s = \"%Y\"; s.pad(300, 'x'); time::format(0, s)",
            "INVALID_ARGUMENT: more than 256 bytes of text for a time",
        );
    }
}
