//! What tokens cost. Money is counted in millionths of a US dollar, so that sums stay exact.

use std::collections::BTreeMap;

/// Tokens that one price is for.
const TOKENS: u128 = 1_000_000;

/// By model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Prices {
    /// The day on which they were read, such as `2026-06-21`; empty where there are none.
    pub(crate) as_of: Box<str>,
    /// By the name of the model.
    pub(crate) models: BTreeMap<Box<str>, Price>,
}

/// Millionths of a US dollar for a million tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Price {
    /// Of what is read.
    pub(crate) input: u64,
    /// Of what is written.
    pub(crate) output: u64,
    /// Of what is read from a cache.
    pub(crate) cached: u64,
}

/// What one answer used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tokens {
    /// Read, those from a cache included.
    pub(crate) input: u64,
    /// Written.
    pub(crate) output: u64,
    /// Of `input`, those from a cache.
    pub(crate) cached: u64,
}

impl Prices {
    /// The price of a model, also by a dated name: `gpt-5-2025-08-07` costs what `gpt-5` does.
    pub(crate) fn of(&self, model: &str) -> Option<Price> {
        let dated = || self.models.get(without_date(model)?);
        self.models.get(model).or_else(dated).copied()
    }
}

impl Price {
    /// What so many tokens cost, in millionths of a US dollar, rounded up.
    pub(crate) fn cost(self, tokens: Tokens) -> u64 {
        let cached = tokens.cached.min(tokens.input);
        let parts = [
            (tokens.input - cached, self.input),
            (cached, self.cached),
            (tokens.output, self.output),
        ];
        let sum: u128 =
            parts.iter().map(|(count, price)| u128::from(*count) * u128::from(*price)).sum();
        u64::try_from(sum.div_ceil(TOKENS)).unwrap_or(u64::MAX)
    }
}

/// The name before `-2025-08-07`, if it ends so.
fn without_date(model: &str) -> Option<&str> {
    let at = model.len().checked_sub("-2025-08-07".len())?;
    let (name, date) = model.split_at_checked(at)?;
    let is_date = date.bytes().enumerate().all(|(index, byte)| match index {
        0 | 5 | 8 => byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    is_date.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prices() -> Prices {
        let price = Price { input: 1_250_000, output: 10_000_000, cached: 125_000 };
        Prices { as_of: "2026-06-21".into(), models: BTreeMap::from([("gpt-5".into(), price)]) }
    }

    #[test]
    fn a_dated_model_costs_what_its_name_does() {
        let prices = prices();
        assert!(prices.of("gpt-5").is_some());
        assert_eq!(prices.of("gpt-5-2025-08-07"), prices.of("gpt-5"));
        for other in ["gpt-5-mini", "gpt-5-2025-08-0x", "gpt-5-2025-0807", "", "é-2025-08-07"] {
            assert_eq!(prices.of(other), None, "{other}");
        }
    }

    #[test]
    fn what_comes_from_a_cache_is_cheaper_and_a_part_of_a_millionth_counts_as_one() {
        let price = prices().of("gpt-5").unwrap();
        let cost = |input, output, cached| price.cost(Tokens { input, output, cached });
        assert_eq!(cost(1_000_000, 0, 0), 1_250_000);
        assert_eq!(cost(1_000_000, 1_000_000, 1_000_000), 125_000 + 10_000_000);
        assert_eq!(cost(1, 0, 0), 2);
        assert_eq!(cost(0, 0, 7), 0);
        assert_eq!(cost(u64::MAX, u64::MAX, 0), u64::MAX);
    }
}
