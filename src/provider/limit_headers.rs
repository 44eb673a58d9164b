//! What a provider's headers tell of its limits: how much of which quota is left, and what a refusal is about. Which headers those are is data of its
//! descriptor; the IETF's own (draft-ietf-httpapi-ratelimit-headers) are read in both of their forms. What makes no sense is as if it had not been said.

use std::time::Duration;

use super::gate::Part;
use super::retry_after::{Reset, reset};
use crate::clock::Millis;

/// Quotas that one answer may tell of.
const TOLD_MAX: usize = 8;
/// Bytes of one header that are looked at, and of a quota's name that are kept.
const HEADER_MAX: usize = 1_024;
const NAME_MAX: usize = 64;

/// Which headers tell of limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LimitHeaders {
    /// A row for each quota.
    pub(crate) buckets: Vec<Bucket>,
    /// Whether `ratelimit` and `ratelimit-policy` are looked at.
    pub(crate) ietf: bool,
    /// What tells whether a refusal is about the whole or about one operation.
    pub(crate) reason: Option<Reason>,
}

/// One quota, and the headers that tell of it, in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// `requests`, `tokens`, …
    pub(crate) name: Box<str>,
    /// The header that names it, where there are several in turn: GitHub's `x-ratelimit-resource`. `name` stands for those without.
    pub(crate) name_from: Option<Box<str>>,
    /// How much there is in all.
    pub(crate) limit: Option<Box<str>>,
    /// How much is left.
    pub(crate) remaining: Option<Box<str>>,
    /// When it is full again.
    pub(crate) reset: Option<Box<str>>,
    /// How `reset` means a number.
    pub(crate) reset_is: Reset,
}

/// A header that says what a refusal is about: Stripe's `stripe-rate-limited-reason`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reason {
    /// In lower case.
    pub(crate) header: Box<str>,
    /// The values that mean the operation alone. Every other one means the provider.
    pub(crate) operation: Vec<Box<str>>,
}

/// What an answer tells of one quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// Its name.
    pub(crate) bucket: Box<str>,
    /// How much there is in all.
    pub(crate) limit: Option<u64>,
    /// How much is left.
    pub(crate) remaining: Option<u64>,
    /// From now on, when it is full again.
    pub(crate) resets_in: Option<Duration>,
}

/// The first value of a header, by its name in lower case.
pub(crate) type Headers<'a> = dyn Fn(&str) -> Option<&'a str> + 'a;

impl LimitHeaders {
    /// All that the headers of an answer tell; nothing where they say nothing.
    pub(crate) fn read(&self, headers: &Headers<'_>, now: Millis) -> Vec<Told> {
        let mut told: Vec<Told> =
            self.buckets.iter().filter_map(|bucket| bucket.read(headers, now)).collect();
        if self.ietf {
            told.extend(ietf(headers));
        }
        told.truncate(TOLD_MAX);
        told
    }

    /// What a refusal of `operation` closes, as far as the headers say.
    pub(crate) fn part(&self, headers: &Headers<'_>, operation: &str) -> Part {
        let reason = self.reason.as_ref();
        let is_operation = reason.is_some_and(|reason| {
            let said = headers(&reason.header).map(str::trim);
            said.is_some_and(|said| reason.operation.iter().any(|word| **word == *said))
        });
        if is_operation { Part::Operation(operation.into()) } else { Part::Provider }
    }
}

impl Bucket {
    fn read(&self, headers: &Headers<'_>, now: Millis) -> Option<Told> {
        let value = |name: &Option<Box<str>>| name.as_ref().and_then(|name| headers(name));
        let named = value(&self.name_from).map(str::trim).filter(|name| is_name(name));
        let bucket = named.unwrap_or(&self.name).into();
        let limit = value(&self.limit).and_then(whole);
        let remaining = value(&self.remaining).and_then(whole);
        let resets_in = value(&self.reset).and_then(|text| reset(text, self.reset_is, now));
        Told { bucket, limit, remaining, resets_in }.if_any()
    }
}

impl Told {
    fn if_any(self) -> Option<Self> {
        (self.limit.is_some() || self.remaining.is_some()).then_some(self)
    }

    /// Whether nothing is left of it.
    pub(crate) fn is_used_up(&self) -> bool {
        self.remaining == Some(0)
    }
}

/// When all that is used up is full again.
pub(crate) fn resets_in(told: &[Told]) -> Option<Duration> {
    told.iter().filter(|told| told.is_used_up()).filter_map(|told| told.resets_in).max()
}

/// `ratelimit: limit=100, remaining=50, reset=30`, or `ratelimit: "default";r=50;t=30` with `ratelimit-policy: "default";q=100;w=60`, or three headers.
fn ietf(headers: &Headers<'_>) -> Vec<Told> {
    let line = |name| headers(name).filter(|line| line.len() <= HEADER_MAX);
    let wait = |text: &str| whole(text).map(Duration::from_secs);
    let Some(limits) = line("ratelimit") else {
        let told = Told {
            bucket: DEFAULT.into(),
            limit: line("ratelimit-limit").and_then(|text| whole(text.split(',').next()?)),
            remaining: line("ratelimit-remaining").and_then(whole),
            resets_in: line("ratelimit-reset").and_then(wait),
        };
        return told.if_any().into_iter().collect();
    };
    let items = items(limits);
    if items.iter().any(|item| item.name == "limit" || item.name == "remaining") {
        let value = |name| items.iter().find(|item| item.name == name).and_then(|item| item.value);
        let told = Told {
            bucket: DEFAULT.into(),
            limit: value("limit").and_then(whole),
            remaining: value("remaining").and_then(whole),
            resets_in: value("reset").and_then(wait),
        };
        return told.if_any().into_iter().collect();
    }
    let policies = line("ratelimit-policy").map(self::items).unwrap_or_default();
    let quota = |name: &str| policies.iter().find(|policy| policy.name == name)?.parameter("q");
    let told = items.iter().filter(|item| is_name(item.name)).filter_map(|item| {
        Told {
            bucket: item.name.into(),
            limit: quota(item.name).and_then(whole),
            remaining: item.parameter("r").and_then(whole),
            resets_in: item.parameter("t").and_then(wait),
        }
        .if_any()
    });
    told.collect()
}

/// The quota of a header that names none.
const DEFAULT: &str = "requests";

/// One item of a list of structured fields (RFC 9651), as far as these headers need them.
struct Item<'a> {
    name: &'a str,
    value: Option<&'a str>,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Item<'a> {
    fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }
}

fn items(line: &str) -> Vec<Item<'_>> {
    let item = |text| {
        let mut parts = outside_quotes(text, ';').into_iter().map(str::trim);
        let first = parts.next().unwrap_or_default();
        let (name, value) = match first.split_once('=').filter(|_| !first.starts_with('"')) {
            Some((name, value)) => (name, Some(value)),
            None => (first, None),
        };
        let parameters = parts.filter_map(|part| part.split_once('=')).collect();
        Item { name: name.trim().trim_matches('"'), value, parameters }
    };
    outside_quotes(line, ',').into_iter().take(TOLD_MAX).map(item).collect()
}

fn outside_quotes(text: &str, at: char) -> Vec<&str> {
    let mut quoted = false;
    text.split(|c| {
        quoted ^= c == '"';
        c == at && !quoted
    })
    .collect()
}

fn is_name(name: &str) -> bool {
    (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A whole number from 0 on; nothing else says anything.
fn whole(text: &str) -> Option<u64> {
    let text = text.trim();
    let is_whole = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_whole { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Wed, 01 Jan 2025 00:00:00 GMT.
    const NOW: Millis = Millis(1_735_689_600_000);

    fn row(name: &str, reset_is: Reset) -> Bucket {
        let header = |what: &str| Some(format!("x-ratelimit-{what}").into());
        Bucket {
            name: name.into(),
            limit: header("limit"),
            remaining: header("remaining"),
            reset: header("reset"),
            name_from: None,
            reset_is,
        }
    }

    fn openai() -> LimitHeaders {
        let row = |name: &str| {
            let header = |what: &str| Some(format!("x-ratelimit-{what}-{name}").into());
            let (limit, remaining, reset) = (header("limit"), header("remaining"), header("reset"));
            Bucket { name: name.into(), limit, remaining, reset, ..Bucket::default() }
        };
        LimitHeaders { buckets: vec![row("requests"), row("tokens")], ..LimitHeaders::default() }
    }

    fn github() -> LimitHeaders {
        let bucket =
            Bucket { name_from: Some("x-ratelimit-resource".into()), ..row("core", Reset::Epoch) };
        LimitHeaders { buckets: vec![bucket], ..LimitHeaders::default() }
    }

    fn ietf() -> LimitHeaders {
        LimitHeaders { ietf: true, ..LimitHeaders::default() }
    }

    fn check(dialect: &LimitHeaders, lines: &[(&str, &str)], expected: &[&str]) {
        let find =
            |name: &str| lines.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        let shown = dialect.read(&find, NOW).into_iter().map(|told| {
            let Told { bucket, limit, remaining, resets_in } = told;
            let number = |number: Option<u64>| number.map_or("?".to_owned(), |n| n.to_string());
            let millis = resets_in.map(|wait| u64::try_from(wait.as_millis()).unwrap());
            format!("{bucket} {}/{} {}", number(remaining), number(limit), number(millis))
        });
        assert_eq!(shown.collect::<Vec<_>>(), expected, "{lines:?}");
    }

    #[test]
    fn v10_the_dialects_of_providers_are_rows_of_data() {
        check(
            &openai(),
            &[
                ("x-ratelimit-limit-requests", "5000"),
                ("x-ratelimit-remaining-requests", "4999"),
                ("x-ratelimit-reset-requests", "12ms"),
                ("x-ratelimit-limit-tokens", "2000000"),
                ("x-ratelimit-remaining-tokens", "0"),
                ("x-ratelimit-reset-tokens", "6m0s"),
            ],
            &["requests 4999/5000 12", "tokens 0/2000000 360000"],
        );
        let lines = [
            ("x-ratelimit-limit", "30"),
            ("x-ratelimit-remaining", "29"),
            ("x-ratelimit-reset", "1735689660"),
            ("x-ratelimit-resource", "search"),
        ];
        check(&github(), &lines, &["search 29/30 60000"]);
        check(&github(), &lines[..3], &["core 29/30 60000"]);
        check(&openai(), &lines, &[]);
    }

    #[test]
    fn v10_the_ietf_headers_are_read_in_every_form() {
        check(
            &ietf(),
            &[("ratelimit", "limit=100, remaining=50, reset=30")],
            &["requests 50/100 30000"],
        );
        let new = [
            ("ratelimit", r#""burst";r=50;t=30, "daily, all";r=7"#),
            ("ratelimit-policy", r#""burst";q=100;w=60,"daily, all";q=1000;w=86400"#),
        ];
        check(&ietf(), &new, &["burst 50/100 30000"]);
        check(&ietf(), &new[..1], &["burst 50/? 30000"]);
        check(&ietf(), &[("ratelimit", "default;r=0;t=5")], &["default 0/? 5000"]);
        let three = [
            ("ratelimit-limit", "10, 10;w=1"),
            ("ratelimit-remaining", "0"),
            ("ratelimit-reset", "1"),
        ];
        check(&ietf(), &three, &["requests 0/10 1000"]);
    }

    #[test]
    fn v10_nonsense_is_ignored() {
        for (remaining, reset) in
            [("-1", "1970"), ("NaN", "NaN"), ("", ""), ("1.5", "-5"), ("many", "86400")]
        {
            let lines = [("x-ratelimit-remaining", remaining), ("x-ratelimit-reset", reset)];
            check(&github(), &lines, &[]);
            let limited = [("x-ratelimit-limit", "30"), lines[0], lines[1]];
            check(&github(), &limited, &["core ?/30 ?"]);
        }
        for nonsense in ["", ";;;", "limit", "limit=x", "\"", "\"a;r=1", "r=1"] {
            check(&ietf(), &[("ratelimit", nonsense)], &[]);
        }
        let long = "x".repeat(100_000);
        check(&ietf(), &[("ratelimit", &long)], &[]);
    }

    #[test]
    fn a_reason_says_whether_one_operation_is_meant() {
        let reason = Reason {
            header: "stripe-rate-limited-reason".into(),
            operation: vec!["endpoint-rate".into(), "endpoint-concurrency".into()],
        };
        let stripe = LimitHeaders { reason: Some(reason), ..LimitHeaders::default() };
        let check = |value: Option<&'static str>, expected: Part| {
            let headers = move |name: &str| value.filter(|_| name == "stripe-rate-limited-reason");
            assert_eq!(stripe.part(&headers, "refunds.create"), expected, "{value:?}");
        };
        check(Some("endpoint-rate"), Part::Operation("refunds.create".into()));
        check(Some("global-rate"), Part::Provider);
        check(Some("something-new"), Part::Provider);
        check(None, Part::Provider);
    }

    #[test]
    fn only_what_is_used_up_says_when_to_go_on() {
        let told = |remaining, seconds| Told {
            bucket: "requests".into(),
            limit: None,
            remaining: Some(remaining),
            resets_in: Some(Duration::from_secs(seconds)),
        };
        assert_eq!(resets_in(&[told(0, 5), told(1, 60), told(0, 3)]), Some(Duration::from_secs(5)));
        assert_eq!(resets_in(&[told(1, 60)]), None);
    }

    proptest! {
        #[test]
        fn no_header_brings_the_reader_down(text in any::<String>(), list in "[a-z0-9=;, \"]{0,80}") {
            for text in [&text, &list] {
                for dialect in [openai(), github(), ietf()] {
                    let told = dialect.read(&|_| Some(text), NOW);
                    prop_assert!(told.len() <= TOLD_MAX);
                }
            }
        }
    }
}
