//! Reads when a provider wants to be asked again: `Retry-After` (RFC 9110, section 10.2.3) and the many spellings of a reset that rate-limit headers
//! have. What makes no sense is as if it had not been said.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

use crate::clock::Millis;

/// No sensible value is longer, and nothing longer is looked at.
const TEXT_MAX: usize = 64;
/// From here on a number of seconds is a date: 2001. As a wait it would be 31 years.
const EPOCH_FROM: Duration = Duration::from_secs(1_000_000_000);
/// From here on it is one in milliseconds, as some send it: also 2001.
const EPOCH_MILLIS_FROM: Duration = Duration::from_secs(1_000_000_000_000);

/// How a provider means a number in its reset headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reset {
    /// By its size: what would be 31 years is a date.
    #[default]
    Either,
    /// A wait.
    After,
    /// Seconds since 1970.
    Epoch,
}

/// `Retry-After`: seconds or an HTTP date, in the past: now. Where the header came twice, its first value is to be given.
pub(crate) fn retry_after(text: &str, now: Millis) -> Option<Duration> {
    let text = trimmed(text)?;
    seconds(text).or_else(|| http_date(text).map(|date| now.until(date)))
}

/// A reset: `1s`, `6m0s`, `120ms`, seconds, seconds or milliseconds since 1970, a date. One in the past says nothing: what is told with it is old.
pub(crate) fn reset(text: &str, means: Reset, now: Millis) -> Option<Duration> {
    let text = trimmed(text)?;
    if let Some(number) = seconds(text) {
        return match means {
            Reset::After => Some(number),
            Reset::Either if number < EPOCH_FROM => Some(number),
            Reset::Either | Reset::Epoch => ahead(since_epoch(number), now),
        };
    }
    duration(text).or_else(|| {
        let date = text.parse::<Timestamp>().ok().map(|date| Millis(date.as_millisecond()));
        ahead(date.or_else(|| http_date(text))?, now)
    })
}

fn trimmed(text: &str) -> Option<&str> {
    let text = text.trim();
    (1..=TEXT_MAX).contains(&text.len()).then_some(text)
}

fn ahead(date: Millis, now: Millis) -> Option<Duration> {
    (date > now).then(|| now.until(date))
}

fn since_epoch(number: Duration) -> Millis {
    let millis =
        if number < EPOCH_MILLIS_FROM { number.as_millis() } else { number.as_millis() / 1_000 };
    Millis(i64::try_from(millis).unwrap_or(i64::MAX))
}

/// A number of seconds, written as a number may be: whole, with a fraction, `1e9`. Neither a sign nor `NaN`.
fn seconds(text: &str) -> Option<Duration> {
    let is_number = |byte: u8| byte.is_ascii_digit() || b".eE+".contains(&byte);
    let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_digit());
    if !begins || !text.bytes().all(is_number) {
        return None;
    }
    let number = text.parse::<f64>().ok()?;
    // What no duration holds is for ever.
    Some(Duration::try_from_secs_f64(number).unwrap_or(Duration::MAX))
}

/// `1h2m3.5s`, as Go prints durations and OpenAI sends them.
fn duration(mut text: &str) -> Option<Duration> {
    // The longer unit first where one begins like another.
    const UNITS: [(&str, f64); 8] = [
        ("ms", 0.001),
        ("us", 0.000_001),
        ("µs", 0.000_001),
        ("ns", 0.000_000_001),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3_600.0),
        ("d", 86_400.0),
    ];
    let mut sum = Duration::ZERO;
    while !text.is_empty() {
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = text[..digits].parse().ok()?;
        let rest = &text[digits..];
        let (unit, size) = UNITS.iter().find(|(unit, _)| rest.starts_with(unit))?;
        sum = sum.saturating_add(Duration::try_from_secs_f64(number * size).ok()?);
        text = &rest[unit.len()..];
    }
    Some(sum)
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`. Of the two old forms that RFC 9110 still knows nobody has been seen to send one.
fn http_date(text: &str) -> Option<Millis> {
    const PARSER: DateTimeParser = DateTimeParser::new().relaxed_weekday(true);
    PARSER.parse_timestamp(text).ok().map(|date| Millis(date.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Wed, 01 Jan 2025 00:00:00 GMT.
    const NOW: Millis = Millis(1_735_689_600_000);

    #[test]
    fn v10_retry_after_is_seconds_or_a_date_and_nonsense_is_ignored() {
        for (text, expected) in [
            ("2", Some(2_000)),
            (" 2 ", Some(2_000)),
            ("0", Some(0)),
            ("1.5", Some(1_500)),
            ("1e9", Some(1_000_000_000_000)),
            ("1000000000", Some(1_000_000_000_000)),
            ("Wed, 01 Jan 2025 00:00:30 GMT", Some(30_000)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("-1", None),
            ("abc", None),
            ("", None),
            ("NaN", None),
            ("inf", None),
            ("+5", None),
            ("1,5", None),
            ("5 seconds", None),
            ("2; 3", None),
        ] {
            let expected = expected.map(Duration::from_millis);
            assert_eq!(retry_after(text, NOW), expected, "{text}");
        }
        assert_eq!(retry_after("9e999", NOW), Some(Duration::MAX));
        assert_eq!(retry_after(&"9".repeat(100), NOW), None);
    }

    #[test]
    fn v10_a_reset_has_many_spellings() {
        use Reset::{After, Either, Epoch};
        let check = |text: &str, means, expected: Option<u64>| {
            let expected = expected.map(Duration::from_millis);
            assert_eq!(reset(text, means, NOW), expected, "{text} {means:?}");
        };
        check("1s", Either, Some(1_000));
        check("6m0s", Either, Some(360_000));
        check("120ms", Either, Some(120));
        check("1h2m3.5s", Either, Some(3_723_500));
        check("2d", Either, Some(172_800_000));
        check("30", Either, Some(30_000));
        check("1735689660", Either, Some(60_000));
        check("1735689660", Epoch, Some(60_000));
        check("1735689660000", Either, Some(60_000));
        check("1735689660", After, Some(1_735_689_660_000));
        check("2025-01-01T00:01:00Z", Either, Some(60_000));
        check("Wed, 01 Jan 2025 00:00:30 GMT", Either, Some(30_000));
        // In the past.
        check("1735689600", Either, None);
        check("86400", Epoch, None);
        check("1970-01-01T00:00:00Z", Either, None);
        check("Thu, 01 Jan 1970 00:00:00 GMT", Either, None);
        for nonsense in ["-1", "NaN", "", "s", "1x", "1s2", "m5", "..s", "soon", "1.2.3s"] {
            check(nonsense, Either, None);
        }
    }

    proptest! {
        #[test]
        fn no_text_brings_the_reader_down(text in any::<String>(), number in "[0-9.eE+smhd-]{0,70}", now in any::<i64>()) {
            for text in [&text, &number] {
                _ = retry_after(text, Millis(now));
                for means in [Reset::Either, Reset::After, Reset::Epoch] {
                    _ = reset(text, means, Millis(now));
                }
            }
        }
    }
}
