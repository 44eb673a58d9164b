//! What a `[providers.NAME]` table says of costs: budgets in tokens or US dollars, the model that is used when one is nearly spent, and prices that win
//! over the descriptor's. Money is meant in millionths of a dollar, so that sums stay exact.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use toml::Value;

use super::check::{Check, Key};
use super::file::Written;
use super::read::quoted;
use crate::frame::Place;

/// More budgets of one provider tell nobody anything.
const BUDGETS_MAX: usize = 8;
/// Models with a price of their own.
const PRICES_MAX: usize = 1_000;
/// Bytes of a model's name.
const MODEL_BYTES_MAX: usize = 256;
/// Tokens of one budget: sums of them stay exact.
const TOKENS_MAX: u64 = 1_000_000_000_000_000;
/// US dollars of one budget.
const DOLLARS_MAX: f64 = 1e9;
/// US dollars for a million tokens.
const PRICE_MAX: f64 = 10_000.0;
/// Millionths of a dollar.
const MILLIONTHS: f64 = 1e6;

/// The keys, as they are written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Keys<'a> {
    pub(super) budget: Option<&'a Written>,
    pub(super) fallback_model: Option<&'a Written>,
    pub(super) prices: Option<&'a Written>,
}

/// The same as meant.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spending {
    /// All of them hold.
    pub(crate) budgets: Box<[Budget]>,
    /// What stands in for the model that was asked for, when a budget is nearly spent.
    pub(crate) fallback_model: Option<Box<str>>,
    /// By the name of the model; they win over those of the descriptor.
    pub(crate) prices: BTreeMap<Box<str>, ModelPrice>,
    /// Where `budget` stands.
    pub(crate) place: Option<Place>,
}

/// So much in a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    /// In its unit.
    pub(crate) amount: u64,
    /// What is counted.
    pub(crate) unit: Unit,
    /// In which time.
    pub(crate) period: Period,
    /// As it was written.
    text: Box<str>,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unit {
    /// Read and written.
    Tokens,
    /// Millionths of a US dollar.
    Dollars,
}

/// A time of the calendar, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Period {
    /// From :00.
    Hour,
    /// From 00:00.
    Day,
    /// From the first.
    Month,
}

/// Millionths of a US dollar for a million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ModelPrice {
    /// Of what is read.
    pub(crate) input: u64,
    /// Of what is written.
    pub(crate) output: u64,
    /// Of what is read from a cache; `None`: as what is read.
    pub(crate) cached: Option<u64>,
}

impl fmt::Display for Budget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// Why a text is no budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum BudgetError {
    #[error("it is an amount, a unit and a time, such as `20 usd/day`")]
    Malformed,
    #[error("the units are `tokens` and `usd`")]
    Unit,
    #[error("the times are `hour`, `day` and `month`, all of them in UTC")]
    Period,
    #[error("tokens are a whole number from 1 to 1000000000000000")]
    Tokens,
    #[error("dollars are a number such as `20` or `0.5`, from 0.000001 to 1000000000")]
    Dollars,
}

impl Budget {
    fn parse(text: &str) -> Result<Self, BudgetError> {
        let (amount, rest) = text.split_once(' ').ok_or(BudgetError::Malformed)?;
        let (unit, period) = rest.trim().split_once('/').ok_or(BudgetError::Malformed)?;
        let period = match period {
            "hour" => Period::Hour,
            "day" => Period::Day,
            "month" => Period::Month,
            _ => return Err(BudgetError::Period),
        };
        let (unit, amount) = match unit {
            "tokens" => (Unit::Tokens, tokens(amount).ok_or(BudgetError::Tokens)?),
            "usd" => (Unit::Dollars, dollars(amount).ok_or(BudgetError::Dollars)?),
            _ => return Err(BudgetError::Unit),
        };
        Ok(Self { amount, unit, period, text: text.into() })
    }
}

fn tokens(text: &str) -> Option<u64> {
    let is_count = text.bytes().all(|byte| byte.is_ascii_digit());
    let count = text.parse().ok().filter(|_| is_count)?;
    (1..=TOKENS_MAX).contains(&count).then_some(count)
}

fn dollars(text: &str) -> Option<u64> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let dollars = text.parse::<f64>().ok().filter(|_| is_number)?;
    (dollars <= DOLLARS_MAX).then(|| millionths(dollars)).filter(|amount| *amount > 0)
}

/// Of a number of dollars that is within its bounds, rounded.
fn millionths(dollars: f64) -> u64 {
    format!("{:.0}", dollars * MILLIONTHS).parse().unwrap_or(u64::MAX)
}

/// Reads the keys of the table that is shown as `table`.
pub(super) fn read(check: &mut Check<'_>, table: &str, keys: Keys<'_>) -> Spending {
    let key = |name| Key { table, name };
    let budgets = budgets(check, key("budget"), keys.budget);
    let fallback_model = fallback_model(check, key("fallback_model"), keys);
    let prices = prices(check, key("prices"), keys.prices);
    let place = keys.budget.map(|written| check.report.place(written.span(), ""));
    Spending { budgets, fallback_model, prices, place }
}

/// One budget or a list of them.
fn budgets(check: &mut Check<'_>, key: Key<'_>, written: Option<&Written>) -> Box<[Budget]> {
    let must = format!("a budget such as `\"20 usd/day\"`, or a list of up to {BUDGETS_MAX}");
    let Some(written) = written else { return Box::default() };
    let span = written.span();
    let Value::Array(list) = written.get_ref() else {
        return budget(check, key, written.get_ref(), span, &must).into_iter().collect();
    };
    if list.is_empty() || list.len() > BUDGETS_MAX {
        let label = format!("these are {}", list.len());
        let _: Option<()> = check.reject(key, span, &must, label);
        return Box::default();
    }
    // The items have no place of their own: the list's is theirs.
    list.iter().filter_map(|item| budget(check, key, item, span.clone(), &must)).collect()
}

fn budget(
    check: &mut Check<'_>,
    key: Key<'_>,
    value: &Value,
    span: Range<usize>,
    must: &str,
) -> Option<Budget> {
    let Value::String(text) = value else {
        return check.reject(key, span, must, "a budget is text in quotes");
    };
    match Budget::parse(text.trim()) {
        Ok(budget) => Some(budget),
        Err(error) => check.reject(key, span, must, format!("this is `{}`: {error}", quoted(text))),
    }
}

fn fallback_model(check: &mut Check<'_>, key: Key<'_>, keys: Keys<'_>) -> Option<Box<str>> {
    let must = "the name of a model, such as `\"gpt-5-mini\"`, beside a `budget`";
    let (text, span) = check.text(key, keys.fallback_model, must)?;
    if keys.budget.is_none() {
        let label = "there is no `budget` that could be spent";
        return check.reject(key, span, must, label);
    }
    match is_model(text) {
        true => Some(text.into()),
        false => check.reject(key, span, must, "this is no name of a model"),
    }
}

fn is_model(text: &str) -> bool {
    !text.is_empty() && text.len() <= MODEL_BYTES_MAX && !text.contains(char::is_control)
}

fn prices(
    check: &mut Check<'_>,
    key: Key<'_>,
    written: Option<&Written>,
) -> BTreeMap<Box<str>, ModelPrice> {
    let must = "a table of US dollars a million tokens, such as `{ \"my-model\" = { input = 1.0, output = 2.0, cached = 0.1 } }`";
    let Some(written) = written else { return BTreeMap::new() };
    let span = written.span();
    let Value::Table(table) = written.get_ref() else {
        let _: Option<()> = check.reject(key, span, must, "this is no table");
        return BTreeMap::new();
    };
    if table.len() > PRICES_MAX {
        let label = format!("these are {} models; {PRICES_MAX} are allowed", table.len());
        let _: Option<()> = check.reject(key, span, must, label);
        return BTreeMap::new();
    }
    let mut prices = BTreeMap::new();
    for (model, value) in table {
        match price(model, value) {
            Ok(price) => _ = prices.insert(model.as_str().into(), price),
            Err(wrong) => {
                let label = format!("`{}`: {wrong}", quoted(model));
                let _: Option<()> = check.reject(key, span.clone(), must, label);
            }
        }
    }
    prices
}

/// One model's, or what is wrong with it.
fn price(model: &str, value: &Value) -> Result<ModelPrice, String> {
    if !is_model(model) {
        return Err("this is no name of a model".to_owned());
    }
    let Value::Table(parts) = value else {
        return Err("write `{ input = 1.0, output = 2.0 }`".to_owned());
    };
    let unknown = parts.keys().find(|name| !["input", "output", "cached"].contains(&name.as_str()));
    if let Some(unknown) = unknown {
        let unknown = quoted(unknown);
        return Err(format!("there is no `{unknown}`, only `input`, `output` and `cached`"));
    }
    let part = |name: &str| {
        let dollars = match parts.get(name) {
            None => return Ok(None),
            Some(Value::Float(dollars)) => Some(*dollars),
            Some(Value::Integer(dollars)) => dollars.to_string().parse().ok(),
            Some(_) => None,
        };
        let fits = dollars.filter(|dollars| (0.0..=PRICE_MAX).contains(dollars));
        let wrong = || format!("`{name}` is a number of dollars from 0 to {PRICE_MAX}");
        fits.map(|dollars| Some(millionths(dollars))).ok_or_else(wrong)
    };
    match (part("input")?, part("output")?, part("cached")?) {
        (Some(input), Some(output), cached) => Ok(ModelPrice { input, output, cached }),
        (None, _, _) => Err("`input` is missing".to_owned()),
        (_, None, _) => Err("`output` is missing".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde::Deserialize;

    use super::super::fill::Filled;
    use super::super::read::Report;
    use super::*;

    /// As the table of a provider has them.
    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Table {
        budget: Option<Written>,
        fallback_model: Option<Written>,
        prices: Option<Written>,
    }

    fn read_text(text: &str) -> (Spending, Vec<String>) {
        let table: Table = toml::from_str(text).unwrap();
        let mut report = Report::new(Path::new("config.toml"), text);
        let filled = Filled::default();
        let mut check = Check { report: &mut report, filled: &filled };
        let keys = Keys {
            budget: table.budget.as_ref(),
            fallback_model: table.fallback_model.as_ref(),
            prices: table.prices.as_ref(),
        };
        let spending = read(&mut check, "[providers.openai]", keys);
        let lines = report.into_problems().iter().map(|frame| frame.one_line()).collect();
        (spending, lines)
    }

    #[test]
    fn what_is_written_is_read() {
        let (spending, problems) = read_text(
            "budget = [\"2000000 tokens/day\", \"20 usd/month\", \"0.5 usd/hour\"]\nfallback_model = \"gpt-5-mini\"\n\
             prices = { \"my-model\" = { input = 1, output = 2.5, cached = 0.1 }, b = { input = 0.0, output = 10000 } }",
        );
        assert_eq!(problems, Vec::<String>::new());
        let meant: Vec<_> =
            spending.budgets.iter().map(|it| (it.amount, it.unit, it.period)).collect();
        let expected = [
            (2_000_000, Unit::Tokens, Period::Day),
            (20_000_000, Unit::Dollars, Period::Month),
            (500_000, Unit::Dollars, Period::Hour),
        ];
        assert_eq!(meant, expected);
        assert_eq!(spending.budgets[0].to_string(), "2000000 tokens/day");
        assert_eq!(spending.fallback_model.as_deref(), Some("gpt-5-mini"));
        let price = ModelPrice { input: 1_000_000, output: 2_500_000, cached: Some(100_000) };
        assert_eq!(spending.prices["my-model"], price);
        let free = ModelPrice { input: 0, output: 10_000_000_000, cached: None };
        assert_eq!(spending.prices["b"], free);
        assert_eq!(read_text("budget = \"1 tokens/day\"").0.budgets.len(), 1);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_key() {
        for (text, expected) in [
            ("budget = 20", "a budget such as"),
            ("budget = []", "a list of up to 8"),
            ("budget = [\"20 usd/day\", 5]", "`budget` in [providers.openai]"),
            ("budget = \"20 usd\"", "`budget` in"),
            ("budget = \"20usd/day\"", "`budget` in"),
            ("budget = \"20 eur/day\"", "`budget` in"),
            ("budget = \"20 usd/week\"", "`budget` in"),
            ("budget = \"-1 usd/day\"", "`budget` in"),
            ("budget = \"1e3 usd/day\"", "`budget` in"),
            ("budget = \"0.0000001 usd/day\"", "`budget` in"),
            ("budget = \"1.5 tokens/day\"", "`budget` in"),
            ("budget = \"0 tokens/day\"", "`budget` in"),
            ("budget = \"+5 tokens/day\"", "`budget` in"),
            ("fallback_model = \"gpt-5-mini\"", "beside a `budget`"),
            ("budget = \"1 usd/day\"\nfallback_model = \"\"", "`fallback_model` in"),
            ("prices = 1", "`prices` in"),
            ("prices = { a = 1 }", "`prices` in"),
            ("prices = { a = { input = 1 } }", "`prices` in"),
            ("prices = { a = { input = 1, output = -1 } }", "`prices` in"),
            ("prices = { a = { input = 1, output = nan } }", "`prices` in"),
            ("prices = { a = { input = 1, output = 1, cache = 1 } }", "`prices` in"),
        ] {
            let (_, problems) = read_text(text);
            assert_eq!(problems.len(), 1, "{text}: {problems:?}");
            assert!(problems[0].contains(expected), "{text}: {problems:?}");
        }
    }
}
