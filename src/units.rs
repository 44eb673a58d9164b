//! Sizes, durations and rates as people write them: `64KiB`, `30s`, `50/s`. A number without a unit is refused, since nobody
//! remembers whether it meant seconds; the refusal names the units and, where it can, the right spelling. What is printed here reads
//! back as the same value.

use std::fmt;
use std::time::Duration;

use thiserror::Error;

/// Bytes of `64KiB`, `10MB`, `512B`.
pub(crate) fn parse_size(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = parse(Kind::Size, text)?;
    number.checked_mul(unit).ok_or(UnitError { kind: Kind::Size, fault: Fault::TooLarge })
}

/// The time of `250ms`, `30s`, `5m`, `1h`, `30d`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let (number, unit) = parse(Kind::Duration, text)?;
    let millis = number
        .checked_mul(unit)
        .ok_or(UnitError { kind: Kind::Duration, fault: Fault::TooLarge })?;
    Ok(Duration::from_millis(millis))
}

/// So many in a span of time: `10/s`, `100/min`, `5/h`, `1/d`.
pub(crate) fn parse_rate(text: &str) -> Result<Rate, RateError> {
    let number = |digits: &str| {
        let is_count = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        is_count.then(|| digits.parse::<u32>().ok()).flatten()
    };
    let Some((count, unit)) = text.split_once('/') else {
        return Err(number(text).map_or(RateError::Malformed, RateError::NoUnit));
    };
    let per = match unit {
        "s" => Duration::from_secs(1),
        // As durations spell it.
        "min" | "m" => Duration::from_secs(60),
        "h" => Duration::from_secs(3_600),
        "d" => Duration::from_secs(86_400),
        _ => return Err(RateError::Malformed),
    };
    let count = number(count).filter(|count| (1..=1_000_000).contains(count));
    let count = count.ok_or(RateError::Malformed)?;
    Ok(Rate { count, gap: per / count, text: text.into() })
}

/// How often something may be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    /// How many in its span of time, from 1.
    pub(crate) count: u32,
    /// From one to the next, where they come evenly.
    pub(crate) gap: Duration,
    /// As it was written.
    text: Box<str>,
}

impl fmt::Display for Rate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// The text is no rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum RateError {
    /// A bare number.
    #[error("a bare number does not say in which time (s, min, h, d); write `{0}/s`")]
    NoUnit(u32),
    /// Anything else.
    #[error(
        "write a rate: a whole number up to 1000000 in a second, minute, hour or day (s, min, h, d), such as `50/s`, `100/min`"
    )]
    Malformed,
}

/// A size in the largest unit that holds it exactly.
pub(crate) fn print_size(bytes: u64) -> String {
    print(Kind::Size, bytes)
}

/// A duration in the largest unit that holds it exactly; what is less than a millisecond is dropped.
pub(crate) fn print_duration(duration: Duration) -> String {
    print(Kind::Duration, u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// What was to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Bytes.
    Size,
    /// A length of time.
    Duration,
}

/// "a duration: a whole number and a unit (ms, s, m, h, d), such as `30s`": what would have been right.
impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, example) = match self {
            Self::Size => ("size", "1MiB"),
            Self::Duration => ("duration", "30s"),
        };
        write!(
            formatter,
            "a {name}: a whole number and a unit ({}), such as `{example}`",
            self.list()
        )
    }
}

/// Why a text is no size or duration, and what to write. It never repeats what was written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}", self.text())]
pub(crate) struct UnitError {
    kind: Kind,
    fault: Fault,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Fault {
    Empty,
    /// A bare number, and how it would be right.
    NoUnit(String),
    /// Another spelling, and ours.
    Spelling(String),
    Negative,
    TooLarge,
    Malformed,
}

impl UnitError {
    fn text(&self) -> String {
        let Self { kind, fault } = self;
        let units = kind.list();
        match fault {
            Fault::NoUnit(spelling) => {
                format!("a bare number has no unit ({units}); write `{spelling}`")
            }
            Fault::Spelling(spelling) => format!("the units are {units}; write `{spelling}`"),
            Fault::Empty => format!("it is empty; write {kind}"),
            Fault::Negative => format!("it cannot be negative; write {kind}"),
            Fault::TooLarge => format!("it is too large; write {kind}"),
            Fault::Malformed => format!("write {kind}"),
        }
    }
}

/// A unit and how many bytes or milliseconds it is.
type Unit = (&'static str, u64);

impl Kind {
    /// From the smallest to the largest; binary sizes after decimal ones, so that printing prefers them.
    fn units(self) -> &'static [Unit] {
        match self {
            Self::Size => &[
                ("B", 1),
                ("KB", 1_000),
                ("MB", 1_000_000),
                ("GB", 1_000_000_000),
                ("TB", 1_000_000_000_000),
                ("KiB", 1 << 10),
                ("MiB", 1 << 20),
                ("GiB", 1 << 30),
                ("TiB", 1 << 40),
            ],
            Self::Duration => {
                &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)]
            }
        }
    }

    /// What else people write, in lower case and without blanks, and which of our units it is.
    fn aliases(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Size => &[
                ("byte", "B"),
                ("bytes", "B"),
                ("k", "KiB"),
                ("m", "MiB"),
                ("g", "GiB"),
                ("t", "TiB"),
            ],
            Self::Duration => &[
                ("msec", "ms"),
                ("millis", "ms"),
                ("millisecond", "ms"),
                ("milliseconds", "ms"),
                ("sec", "s"),
                ("secs", "s"),
                ("second", "s"),
                ("seconds", "s"),
                ("min", "m"),
                ("mins", "m"),
                ("minute", "m"),
                ("minutes", "m"),
                ("hr", "h"),
                ("hrs", "h"),
                ("hour", "h"),
                ("hours", "h"),
                ("day", "d"),
                ("days", "d"),
            ],
        }
    }

    fn list(self) -> String {
        let names: Vec<&str> = self.units().iter().map(|(name, _)| *name).collect();
        names.join(", ")
    }
}

/// The number and the size of its unit.
fn parse(kind: Kind, text: &str) -> Result<(u64, u64), UnitError> {
    if text.trim().is_empty() {
        return Err(UnitError { kind, fault: Fault::Empty });
    }
    let (digits, unit) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    if digits.is_empty() {
        let trimmed = text.trim_start();
        return Err(match trimmed.strip_prefix('-') {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) => {
                UnitError { kind, fault: Fault::Negative }
            }
            _ => respelled(kind, trimmed),
        });
    }
    let number = digits.parse().map_err(|_| UnitError { kind, fault: Fault::TooLarge })?;
    match kind.units().iter().find(|(name, _)| *name == unit) {
        Some((_, size)) => Ok((number, *size)),
        None => Err(respelled(kind, text)),
    }
}

/// What somebody meant who wrote `5 minutes`, `64k` or `30`.
fn respelled(kind: Kind, text: &str) -> UnitError {
    let text = text.trim();
    let (digits, unit) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    let Ok(number) = digits.parse::<u64>() else {
        return UnitError { kind, fault: Fault::Malformed };
    };
    if unit.is_empty() {
        let spelling = match kind {
            Kind::Size => print_size(number),
            Kind::Duration => format!("{number}s"),
        };
        return UnitError { kind, fault: Fault::NoUnit(spelling) };
    }
    let plain = plain_unit(unit);
    let own = kind.units().iter().map(|(name, _)| *name);
    let found = own.clone().find(|name| plain_unit(name) == plain).or_else(|| {
        kind.aliases().iter().find(|(alias, _)| *alias == plain).map(|(_, name)| *name)
    });
    match found {
        Some(name) => {
            let spelling = format!("{number}{name}");
            UnitError { kind, fault: Fault::Spelling(spelling) }
        }
        None => UnitError { kind, fault: Fault::Malformed },
    }
}

/// A unit in lower case and without blanks.
fn plain_unit(unit: &str) -> String {
    unit.to_lowercase().split_whitespace().collect()
}

fn print(kind: Kind, value: u64) -> String {
    let exact =
        kind.units().iter().rev().find(|(_, size)| value != 0 && value.is_multiple_of(*size));
    let (name, size) = exact.unwrap_or(&kind.units()[0]);
    format!("{}{name}", value / size)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_rate_is_a_count_and_a_span() {
        let rate = |text| parse_rate(text).map(|rate| (rate.count, rate.gap));
        assert_eq!(rate("50/s"), Ok((50, Duration::from_millis(20))));
        assert_eq!(rate("1/s"), Ok((1, Duration::from_secs(1))));
        assert_eq!(rate("120/min"), Ok((120, Duration::from_millis(500))));
        assert_eq!(rate("120/m"), Ok((120, Duration::from_millis(500))));
        assert_eq!(rate("4/h"), Ok((4, Duration::from_secs(900))));
        assert_eq!(rate("1/d"), Ok((1, Duration::from_secs(86_400))));
        for wrong in [
            "",
            "0/s",
            "-1/s",
            "+1/s",
            "1.5/s",
            "1/",
            "/s",
            "1 /s",
            "1/S",
            "1/day",
            "1000001/s",
            "99999999999999999999/s",
            "99999999999999999999",
            "١/s",
            "1/s/s",
        ] {
            assert_eq!(rate(wrong), Err(RateError::Malformed), "{wrong}");
        }
        let bare = parse_rate("50").unwrap_err();
        assert_eq!(bare, RateError::NoUnit(50));
        assert!(bare.to_string().contains("s, min, h, d") && bare.to_string().contains("`50/s`"));
    }

    #[test]
    fn sizes_and_durations_read_as_written() {
        for (text, bytes) in
            [("512B", 512), ("64KiB", 65_536), ("1MiB", 1 << 20), ("10MB", 10_000_000), ("0B", 0)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for (text, millis) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("30d", 2_592_000_000),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    fn check<T: fmt::Debug>(parse: fn(&str) -> Result<T, UnitError>, text: &str, expected: &str) {
        let message = parse(text).expect_err(text).to_string();
        assert!(message.contains(expected), "{text:?}: {message}");
    }

    #[test]
    fn o1_a_wrong_spelling_is_answered_with_the_right_one_and_the_units() {
        for (text, expected) in [
            ("", "it is empty"),
            ("  ", "it is empty"),
            ("30", "write `30s`"),
            ("5 minutes", "write `5m`"),
            (" 5m", "write `5m`"),
            ("5 m", "write `5m`"),
            ("5M", "write `5m`"),
            ("2 Hours", "write `2h`"),
            ("-1s", "it cannot be negative"),
            ("1e9d", "a whole number and a unit"),
            ("1.5h", "a whole number and a unit"),
            ("1h30m", "a whole number and a unit"),
            ("+1s", "a whole number and a unit"),
            ("soon", "a whole number and a unit"),
            ("-", "a whole number and a unit"),
            ("١s", "a whole number and a unit"),
            ("99999999999999999999s", "it is too large"),
            ("18446744073709551615d", "it is too large"),
        ] {
            check(parse_duration, text, expected);
            if !text.trim().is_empty() {
                check(parse_duration, text, "ms, s, m, h, d");
            }
        }
        for (text, expected) in [
            ("1048576", "write `1MiB`"),
            ("1000", "write `1KB`"),
            ("64k", "write `64KiB`"),
            ("64 kib", "write `64KiB`"),
            ("1mb", "write `1MB`"),
            ("20 bytes", "write `20B`"),
            ("1GiBi", "a whole number and a unit"),
            ("18446744073709551615KiB", "it is too large"),
        ] {
            check(parse_size, text, expected);
        }
    }

    #[test]
    fn what_is_printed_is_the_largest_exact_unit() {
        assert_eq!(print_size(1 << 20), "1MiB");
        assert_eq!(print_size(1536), "1536B");
        assert_eq!(print_size(10_000_000), "10MB");
        assert_eq!(print_size(0), "0B");
        assert_eq!(print_duration(Duration::from_secs(90)), "90s");
        assert_eq!(print_duration(Duration::from_secs(172_800)), "2d");
        assert_eq!(print_duration(Duration::ZERO), "0ms");
    }

    proptest! {
        #[test]
        fn a_printed_value_reads_back_as_itself(value in any::<u64>()) {
            prop_assert_eq!(parse_size(&print_size(value)), Ok(value));
            let duration = Duration::from_millis(value);
            prop_assert_eq!(parse_duration(&print_duration(duration)), Ok(duration));
        }

        #[test]
        fn no_text_brings_the_parser_down(text in any::<String>(), unit in "[0-9]{0,22}[ -~]{0,8}") {
            for text in [&text, &unit] {
                let _ = (parse_size(text), parse_duration(text));
            }
        }
    }
}
