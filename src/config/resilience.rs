//! What a `[providers.NAME]` table says of rates, places, times, retries and the breaker. A key that is not there has its default; all of them change
//! live.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use serde::Deserialize;
use toml::{Spanned, Value};

use super::check::{Check, Key};
use super::file::Written;
use crate::backoff::Backoff;
use crate::rate::RATES_MAX;
use crate::units::{Rate, parse_rate};

const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);
/// What is asked of a provider is waited for at most this long; the run's own time cuts it.
const TIMEOUT: RangeInclusive<Duration> = MILLISECOND..=Duration::from_secs(86_400);
/// Calls of one provider at once: no process has more connections.
const CONCURRENCY: RangeInclusive<u64> = 1..=20_000;
/// More retries of one call only hold up its run; a job comes back by itself.
const RETRIES: RangeInclusive<u64> = 0..=20;
/// No wait between two tries is longer, however often it has doubled.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// A breaker looks at the calls of one minute.
const MIN_CALLS: RangeInclusive<u64> = 1..=1_000_000;

/// The keys, as they are written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Keys<'a> {
    pub(super) rate_limit: Option<&'a Written>,
    pub(super) concurrency: Option<&'a Written>,
    pub(super) timeout: Option<&'a Written>,
    pub(super) retry: Option<&'a Spanned<Retry>>,
    pub(super) breaker: Option<&'a Spanned<Breaker>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Retry {
    /// Tries after the first, 0 to 20. Default: 3.
    pub(super) max: Option<Written>,
    /// Longest wait before the second try, 1ms to 1m; it doubles from there. Default: `1s`.
    pub(super) base: Option<Written>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Breaker {
    /// Share of the last minute's calls that failed, above 0 to 1, at which no more go out. Default: 0.5.
    pub(super) failure_rate: Option<Written>,
    /// Calls within a minute, below which nothing is decided, 1 to 1000000. Default: 20.
    pub(super) min_calls: Option<Written>,
    /// Duration until one is tried again, 1ms to 1h; it doubles with each that fails, to 5m. Default: `30s`.
    pub(super) open_for: Option<Written>,
}

/// The same as meant.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Resilience {
    /// All of them hold; `None`: as the descriptor says.
    pub(crate) rate_limit: Option<Box<[Rate]>>,
    /// Calls at once, over all workers.
    pub(crate) concurrency: usize,
    /// Of one try.
    pub(crate) timeout: Duration,
    /// Of calls that are safe to repeat.
    pub(crate) retry: Backoff,
    /// When no call goes out.
    pub(crate) breaker: BreakerSettings,
}

/// When a breaker opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct BreakerSettings {
    /// Above 0, up to 1.
    pub(crate) failure_rate: f64,
    /// Fewer in a minute decide nothing.
    pub(crate) min_calls: u32,
    /// The first time; it doubles with each trial that fails.
    pub(crate) open_for: Duration,
}

impl Default for Resilience {
    fn default() -> Self {
        Self {
            rate_limit: None,
            concurrency: 64,
            timeout: Duration::from_secs(60),
            retry: Backoff { max: 3, base: Duration::from_secs(1), cap: WAIT_MAX },
            breaker: BreakerSettings {
                failure_rate: 0.5,
                min_calls: 20,
                open_for: Duration::from_secs(30),
            },
        }
    }
}

/// Reads the keys of the table that is shown as `table`.
pub(super) fn read(check: &mut Check<'_>, table: &str, keys: Keys<'_>) -> Resilience {
    let key = |name| Key { table, name };
    let default = Resilience::default();
    let concurrency = check.whole(key("concurrency"), keys.concurrency, CONCURRENCY);
    Resilience {
        rate_limit: rate_limit(check, key("rate_limit"), keys.rate_limit),
        concurrency: concurrency
            .and_then(|concurrency| usize::try_from(concurrency).ok())
            .unwrap_or(default.concurrency),
        timeout: check.duration(key("timeout"), keys.timeout, TIMEOUT).unwrap_or(default.timeout),
        retry: retry(check, table, keys.retry, default.retry),
        breaker: breaker(check, table, keys.breaker, default.breaker),
    }
}

/// One rate or a list of them.
fn rate_limit(
    check: &mut Check<'_>,
    key: Key<'_>,
    written: Option<&Written>,
) -> Option<Box<[Rate]>> {
    let must = format!("a rate such as `\"100/s\"`, or a list of up to {RATES_MAX}");
    let written = written?;
    let Value::Array(list) = written.get_ref() else {
        return Some([rate(check, key, written.get_ref(), written.span(), &must)?].into());
    };
    if list.is_empty() || list.len() > RATES_MAX {
        let label = format!("these are {}", list.len());
        return check.reject(key, written.span(), &must, label);
    }
    // The items have no place of their own: the list's is theirs.
    list.iter().map(|item| rate(check, key, item, written.span(), &must)).collect()
}

fn rate(
    check: &mut Check<'_>,
    key: Key<'_>,
    value: &Value,
    span: Range<usize>,
    must: &str,
) -> Option<Rate> {
    let read = match value {
        Value::String(text) => parse_rate(text),
        // A number without quotes gets the answer that one in quotes gets: in which time?
        Value::Integer(number) => parse_rate(&number.to_string()),
        _ => return check.reject(key, span, must, "a rate is text in quotes"),
    };
    match read {
        Ok(rate) => Some(rate),
        Err(error) => check.reject(key, span, must, error.to_string()),
    }
}

fn retry(
    check: &mut Check<'_>,
    table: &str,
    written: Option<&Spanned<Retry>>,
    default: Backoff,
) -> Backoff {
    let Some(retry) = written.map(Spanned::get_ref) else { return default };
    let key = |name| Key { table, name };
    let max = check.whole(key("retry.max"), retry.max.as_ref(), RETRIES);
    let base = check.duration(key("retry.base"), retry.base.as_ref(), MILLISECOND..=WAIT_MAX);
    Backoff {
        max: max.and_then(|max| u32::try_from(max).ok()).unwrap_or(default.max),
        base: base.unwrap_or(default.base),
        cap: default.cap,
    }
}

fn breaker(
    check: &mut Check<'_>,
    table: &str,
    written: Option<&Spanned<Breaker>>,
    default: BreakerSettings,
) -> BreakerSettings {
    let Some(breaker) = written.map(Spanned::get_ref) else { return default };
    let key = |name| Key { table, name };
    let min_calls = check.whole(key("breaker.min_calls"), breaker.min_calls.as_ref(), MIN_CALLS);
    let open_for = breaker.open_for.as_ref();
    let open_for = check.duration(key("breaker.open_for"), open_for, MILLISECOND..=HOUR);
    let failure_rate = share(check, key("breaker.failure_rate"), breaker.failure_rate.as_ref());
    BreakerSettings {
        failure_rate: failure_rate.unwrap_or(default.failure_rate),
        min_calls: min_calls
            .and_then(|calls| u32::try_from(calls).ok())
            .unwrap_or(default.min_calls),
        open_for: open_for.unwrap_or(default.open_for),
    }
}

/// A part of one: `0.5`, or the whole number 1.
fn share(check: &mut Check<'_>, key: Key<'_>, written: Option<&Written>) -> Option<f64> {
    let must = "a number above 0 and up to 1, such as `0.5`";
    let written = written?;
    let share = match written.get_ref() {
        Value::Float(share) => *share,
        Value::Integer(1) => 1.0,
        Value::Integer(number) => {
            return check.reject(key, written.span(), must, format!("this is {number}"));
        }
        // What is filled from the environment is text.
        Value::String(text) if check.filled.origin(&written.span()).is_some() => {
            text.trim().parse().unwrap_or(f64::NAN)
        }
        _ => return check.reject(key, written.span(), must, "this is no number"),
    };
    if share > 0.0 && share <= 1.0 {
        return Some(share);
    }
    check.reject(key, written.span(), must, format!("this is {share}"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::fill::Filled;
    use super::super::read::Report;
    use super::*;

    /// As the table of a provider has them.
    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Table {
        rate_limit: Option<Written>,
        concurrency: Option<Written>,
        timeout: Option<Written>,
        retry: Option<Spanned<Retry>>,
        breaker: Option<Spanned<Breaker>>,
    }

    fn read_text(text: &str) -> (Resilience, Vec<String>) {
        let table: Table = toml::from_str(text).unwrap();
        let mut report = Report::new(Path::new("config.toml"), text);
        let filled = Filled::default();
        let mut check = Check { report: &mut report, filled: &filled };
        let keys = Keys {
            rate_limit: table.rate_limit.as_ref(),
            concurrency: table.concurrency.as_ref(),
            timeout: table.timeout.as_ref(),
            retry: table.retry.as_ref(),
            breaker: table.breaker.as_ref(),
        };
        let resilience = read(&mut check, "[providers.openai]", keys);
        let lines = report.into_problems().iter().map(|frame| frame.one_line()).collect();
        (resilience, lines)
    }

    #[test]
    fn what_is_not_written_is_as_documented() {
        let (resilience, problems) = read_text("");
        assert_eq!((resilience, problems), (Resilience::default(), Vec::new()));
    }

    #[test]
    fn what_is_written_is_read() {
        let (resilience, problems) = read_text(
            "rate_limit = [\"100/s\", \"10000/min\"]\nconcurrency = 8\ntimeout = \"5s\"\n\
             retry = { max = 0, base = \"10ms\" }\n\
             breaker = { failure_rate = 1, min_calls = 5, open_for = \"1m\" }",
        );
        assert_eq!(problems, Vec::<String>::new());
        let rates = ["100/s", "10000/min"].map(|rate| parse_rate(rate).unwrap());
        let expected = Resilience {
            rate_limit: Some(rates.into()),
            concurrency: 8,
            timeout: Duration::from_secs(5),
            retry: Backoff { max: 0, base: Duration::from_millis(10), cap: WAIT_MAX },
            breaker: BreakerSettings {
                failure_rate: 1.0,
                min_calls: 5,
                open_for: Duration::from_secs(60),
            },
        };
        assert_eq!(resilience, expected);
        let (one, _) = read_text("rate_limit = \"5/d\"");
        assert_eq!(one.rate_limit.as_deref(), Some(&[parse_rate("5/d").unwrap()][..]));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_key() {
        for (text, expected) in [
            ("rate_limit = 100", "`rate_limit` in [providers.openai]"),
            ("rate_limit = \"100\"", "`rate_limit` in"),
            ("rate_limit = []", "`rate_limit` in"),
            ("rate_limit = [\"1/s\", 5]", "`rate_limit` in"),
            ("rate_limit = [\"1/s\", \"2/s\", \"3/s\", \"4/s\", \"5/s\"]", "a list of up to 4"),
            ("rate_limit = true", "a rate such as"),
            ("concurrency = 0", "from 1 to 20000"),
            ("timeout = \"0s\"", "from 1ms to 1d"),
            ("timeout = 60", "a duration"),
            ("retry = { max = 21 }", "`retry.max` in [providers.openai]"),
            ("retry = { base = \"2m\" }", "`retry.base` in"),
            ("breaker = { failure_rate = 0 }", "`breaker.failure_rate` in"),
            ("breaker = { failure_rate = 1.01 }", "above 0 and up to 1"),
            ("breaker = { failure_rate = nan }", "above 0 and up to 1"),
            ("breaker = { failure_rate = \"0.5\" }", "above 0 and up to 1"),
            ("breaker = { min_calls = 0 }", "`breaker.min_calls` in"),
            ("breaker = { open_for = \"2h\" }", "`breaker.open_for` in"),
        ] {
            let (_, problems) = read_text(text);
            assert_eq!(problems.len(), 1, "{text}: {problems:?}");
            assert!(problems[0].contains(expected), "{text}: {problems:?}");
        }
    }
}
