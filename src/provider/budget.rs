//! What has been used of a provider, hour by hour, and how that stands to its budgets. Hours, days and months are those of UTC. Pure over the time that
//! is given to it: it never asks for the time, never writes, and refuses nothing itself.
//!
//! Hours are what is counted and stored, so a budget that config changes or adds knows at once what its day and its month have seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

use crate::clock::Millis;
use crate::config::{Budget, Period, Unit};
use crate::store::Usage;

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
/// How long an hour is remembered: the longest time of a budget, and as much again for a clock that is set back.
const KEPT: Duration = Duration::from_secs(62 * 86_400);
/// Models without a price that are told of by name. A provider has fewer.
const UNPRICED_MAX: usize = 256;
/// Units under their names in the store.
const UNITS: [(Unit, &str); 2] = [(Unit::Tokens, "tokens"), (Unit::Dollars, "usd/1000000")];

/// What has been used of all providers that were ever known here, by their names. It outlives generations, and what config says of a provider.
#[derive(Default)]
pub(crate) struct Ledger(Mutex<BTreeMap<Arc<str>, Arc<Spent>>>);

/// One provider's.
#[derive(Default)]
pub(super) struct Spent(Mutex<Hours>);

#[derive(Default)]
struct Hours {
    /// By their beginning.
    used: BTreeMap<Millis, Amounts>,
    /// Of these, what is not in the store.
    unsaved: BTreeMap<Millis, Amounts>,
    /// Models that were told to have no price.
    unpriced: BTreeSet<Box<str>>,
}

/// So much of each unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amounts {
    pub(super) tokens: u64,
    /// Millionths of a US dollar.
    pub(super) dollars: u64,
}

/// How far budgets are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing<'b> {
    /// All of them to less than 80 %.
    Free,
    /// One of them to 80 % or more.
    Nearly,
    /// This one wholly, until then; of several the one that lasts longest.
    Spent(&'b Budget, Millis),
}

/// A budget that has just come to a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passed<'b> {
    /// 80 %.
    Nearly(&'b Budget),
    /// All of it; it begins anew then.
    Wholly(&'b Budget, Millis),
}

impl Ledger {
    /// From when on usage counts for any budget.
    pub(crate) fn since(now: Millis) -> Millis {
        began(Period::Month, now)
    }

    /// With what the store has.
    pub(crate) fn of(stored: Vec<Usage>) -> Self {
        let ledger = Self::default();
        for usage in stored {
            ledger.spent(&usage.provider).lock().add_to(|hours| &mut hours.used, &usage);
        }
        ledger
    }

    /// One provider's, from now on if it was not known.
    pub(super) fn spent(&self, provider: &str) -> Arc<Spent> {
        let mut all = self.lock();
        if let Some(known) = all.get(provider) {
            return Arc::clone(known);
        }
        Arc::clone(all.entry(provider.into()).or_default())
    }

    /// What is to be stored. Whoever takes it and cannot store it gives it back.
    pub(crate) fn take_unsaved(&self) -> Vec<Usage> {
        let all: Vec<_> =
            self.lock().iter().map(|(name, spent)| (Arc::clone(name), Arc::clone(spent))).collect();
        let mut taken = Vec::new();
        for (provider, spent) in all {
            for (began_at, amounts) in std::mem::take(&mut spent.lock().unsaved) {
                let rows = UNITS.iter().map(|(unit, name)| Usage {
                    provider: Arc::clone(&provider),
                    unit: (*name).into(),
                    began_at,
                    amount: amounts.of(*unit),
                });
                taken.extend(rows.filter(|row| row.amount > 0));
            }
        }
        taken
    }

    /// What could not be stored.
    pub(crate) fn give_back(&self, taken: &[Usage]) {
        for usage in taken {
            self.spent(&usage.provider).lock().add_to(|hours| &mut hours.unsaved, usage);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Arc<Spent>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spent {
    /// Counts what a call has used; which budgets come to a mark by that.
    pub(super) fn add<'b>(
        &self,
        amounts: Amounts,
        budgets: &'b [Budget],
        now: Millis,
    ) -> Vec<Passed<'b>> {
        let mut hours = self.lock();
        let before: Vec<u64> = budgets.iter().map(|budget| hours.sum(budget, now)).collect();
        let hour = began(Period::Hour, now);
        hours.used.entry(hour).or_default().add(amounts);
        hours.unsaved.entry(hour).or_default().add(amounts);
        hours.used.retain(|began_at, _| began_at.plus(KEPT) > now);
        let passed = budgets.iter().zip(before).filter_map(|(budget, before)| {
            let after = hours.sum(budget, now);
            if before < budget.amount && after >= budget.amount {
                return Some(Passed::Wholly(budget, ends(budget.period, now)));
            }
            let is_new = !is_nearly(before, budget) && is_nearly(after, budget);
            is_new.then_some(Passed::Nearly(budget))
        });
        passed.collect()
    }

    /// How far budgets are used.
    pub(super) fn standing<'b>(&self, budgets: &'b [Budget], now: Millis) -> Standing<'b> {
        if budgets.is_empty() {
            return Standing::Free;
        }
        let hours = self.lock();
        let sums = budgets.iter().map(|budget| (budget, hours.sum(budget, now)));
        let spent = sums.clone().filter(|(budget, sum)| *sum >= budget.amount);
        let spent = spent.map(|(budget, _)| (budget, ends(budget.period, now)));
        match spent.max_by_key(|(_, until)| *until) {
            Some((budget, until)) => Standing::Spent(budget, until),
            None if sums.clone().any(|(budget, sum)| is_nearly(sum, budget)) => Standing::Nearly,
            None => Standing::Free,
        }
    }

    /// Whether it has not been said before that this model has no price.
    pub(super) fn is_newly_unpriced(&self, model: &str) -> bool {
        let mut hours = self.lock();
        hours.unpriced.len() < UNPRICED_MAX && hours.unpriced.insert(model.into())
    }

    fn lock(&self) -> MutexGuard<'_, Hours> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hours {
    fn add_to(&mut self, part: fn(&mut Self) -> &mut BTreeMap<Millis, Amounts>, usage: &Usage) {
        let Some((unit, _)) = UNITS.iter().find(|(_, name)| **name == *usage.unit) else { return };
        let amounts = match unit {
            Unit::Tokens => Amounts { tokens: usage.amount, dollars: 0 },
            Unit::Dollars => Amounts { tokens: 0, dollars: usage.amount },
        };
        part(self).entry(usage.began_at).or_default().add(amounts);
    }

    /// What counts for a budget now.
    fn sum(&self, budget: &Budget, now: Millis) -> u64 {
        let (began, ends) = (began(budget.period, now), ends(budget.period, now));
        let hours = self.used.range(began..ends);
        hours.fold(0, |sum: u64, (_, amounts)| sum.saturating_add(amounts.of(budget.unit)))
    }
}

impl Amounts {
    fn of(self, unit: Unit) -> u64 {
        match unit {
            Unit::Tokens => self.tokens,
            Unit::Dollars => self.dollars,
        }
    }

    fn add(&mut self, other: Self) {
        self.tokens = self.tokens.saturating_add(other.tokens);
        self.dollars = self.dollars.saturating_add(other.dollars);
    }
}

fn is_nearly(sum: u64, budget: &Budget) -> bool {
    u128::from(sum) * 5 >= u128::from(budget.amount) * 4
}

/// When the time began that `now` is in.
fn began(period: Period, now: Millis) -> Millis {
    match period {
        Period::Hour => Millis(now.0 - now.0.rem_euclid(HOUR)),
        Period::Day => Millis(now.0 - now.0.rem_euclid(DAY)),
        Period::Month => month(now, 0).unwrap_or_else(|| began(Period::Day, now)),
    }
}

/// When the next one begins.
fn ends(period: Period, now: Millis) -> Millis {
    let after = |span| Millis(began(period, now).0.saturating_add(span));
    match period {
        Period::Hour => after(HOUR),
        Period::Day => after(DAY),
        Period::Month => month(now, 1).unwrap_or_else(|| ends(Period::Day, now)),
    }
}

/// The beginning of a month of UTC, so many after that of `now`; `None` at the end of the calendar.
fn month(now: Millis, later: i64) -> Option<Millis> {
    let day = Timestamp::from_millisecond(now.0).ok()?.to_zoned(TimeZone::UTC).date();
    let first = day.first_of_month().checked_add(later.months()).ok()?;
    Some(Millis(first.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    /// As config.toml writes them.
    fn budgets(written: &str) -> Box<[Budget]> {
        let text = format!("[providers.ai]\nkind = \"openai\"\nbudget = {written}\n");
        let how = config::How { development: false, known_schemes: &[] };
        let variables = config::Variables::of(&[]);
        let config = config::load_text(Path::new("config.toml"), &text, &variables, how).unwrap();
        config.providers[0].spending.budgets.clone()
    }

    fn at(text: &str) -> Millis {
        Millis(text.parse::<Timestamp>().unwrap().as_millisecond())
    }

    fn tokens(tokens: u64) -> Amounts {
        Amounts { tokens, dollars: 0 }
    }

    #[test]
    fn times_begin_and_end_with_the_calendar_of_utc() {
        let check = |period, now: &str, began_at: &str, ends_at: &str| {
            assert_eq!(
                (began(period, at(now)), ends(period, at(now))),
                (at(began_at), at(ends_at))
            );
        };
        check(
            Period::Hour,
            "2026-03-29T01:59:59.999Z",
            "2026-03-29T01:00:00Z",
            "2026-03-29T02:00:00Z",
        );
        check(Period::Day, "2026-03-29T00:00:00Z", "2026-03-29T00:00:00Z", "2026-03-30T00:00:00Z");
        check(
            Period::Month,
            "2028-02-29T23:59:59Z",
            "2028-02-01T00:00:00Z",
            "2028-03-01T00:00:00Z",
        );
        check(
            Period::Month,
            "2026-12-31T12:00:00Z",
            "2026-12-01T00:00:00Z",
            "2027-01-01T00:00:00Z",
        );
        check(Period::Day, "1969-12-31T23:00:00Z", "1969-12-31T00:00:00Z", "1970-01-01T00:00:00Z");
        let end = Millis(i64::MAX);
        assert!(
            began(Period::Month, end) <= end
                && ends(Period::Month, end) >= began(Period::Month, end)
        );
    }

    #[test]
    fn each_mark_of_a_budget_is_told_once_in_its_time_and_a_new_day_begins_with_nothing() {
        let budgets = budgets("\"100 tokens/day\"");
        let (spent, day) = (Spent::default(), at("2026-11-24T10:00:00Z"));
        let midnight = at("2026-11-25T00:00:00Z");
        let add = |amount, now| spent.add(tokens(amount), &budgets, now);
        assert_eq!(add(79, day), []);
        assert_eq!(spent.standing(&budgets, day), Standing::Free);
        assert_eq!(add(1, day), [Passed::Nearly(&budgets[0])]);
        assert_eq!(spent.standing(&budgets, day), Standing::Nearly);
        assert_eq!(add(19, day.plus(Duration::from_secs(3_600))), []);
        assert_eq!(add(1, day), [Passed::Wholly(&budgets[0], midnight)]);
        assert_eq!(spent.standing(&budgets, day), Standing::Spent(&budgets[0], midnight));
        assert_eq!(add(500, day), []);
        assert_eq!(spent.standing(&budgets, midnight), Standing::Free);
        assert_eq!(add(200, midnight), [Passed::Wholly(&budgets[0], at("2026-11-26T00:00:00Z"))]);
        // A clock that is set back finds its day as it left it.
        let last = Millis(midnight.0 - 1);
        assert_eq!(spent.standing(&budgets, last), Standing::Spent(&budgets[0], midnight));
    }

    #[test]
    fn all_budgets_hold_and_the_one_that_lasts_longest_is_named() {
        let budgets = budgets("[\"10 tokens/hour\", \"0.5 usd/month\", \"1000 tokens/day\"]");
        let (spent, now) = (Spent::default(), at("2026-11-24T10:30:00Z"));
        spent.add(Amounts { tokens: 10, dollars: 400_000 }, &budgets, now);
        let hour = at("2026-11-24T11:00:00Z");
        assert_eq!(spent.standing(&budgets, now), Standing::Spent(&budgets[0], hour));
        assert_eq!(spent.standing(&budgets, hour), Standing::Nearly);
        spent.add(Amounts { tokens: 10, dollars: 100_000 }, &budgets, hour);
        let month = at("2026-12-01T00:00:00Z");
        assert_eq!(spent.standing(&budgets, hour), Standing::Spent(&budgets[1], month));
        assert_eq!(spent.standing(&budgets, month), Standing::Free);
        assert_eq!(spent.standing(&[], hour), Standing::Free);
    }

    #[test]
    fn what_was_stored_counts_after_a_start_and_what_could_not_be_stored_is_kept() {
        let budgets = budgets("\"100 tokens/day\"");
        let now = at("2026-11-24T10:30:00Z");
        let ledger = Ledger::default();
        assert_eq!(ledger.take_unsaved(), []);
        let spent = ledger.spent("ai");
        spent.add(Amounts { tokens: 60, dollars: 7 }, &[], now);
        spent.add(tokens(30), &[], now.plus(Duration::from_secs(3_600)));
        let taken = ledger.take_unsaved();
        let shown: Vec<_> = taken.iter().map(|row| (&*row.unit, row.amount)).collect();
        assert_eq!(shown, [("tokens", 60), ("usd/1000000", 7), ("tokens", 30)]);
        assert_eq!(ledger.take_unsaved(), []);
        ledger.give_back(&taken);
        assert_eq!(ledger.take_unsaved(), taken);
        assert_eq!(spent.standing(&budgets, now), Standing::Nearly, "what is stored counts once");

        let restarted = Ledger::of(taken);
        assert_eq!(restarted.take_unsaved(), []);
        assert_eq!(restarted.spent("ai").standing(&budgets, now), Standing::Nearly);
        assert_eq!(restarted.spent("other").standing(&budgets, now), Standing::Free);
        let passed = restarted.spent("ai").add(tokens(1), &budgets, now);
        assert_eq!(passed, [], "the mark of 80 % was told before the start");
    }

    #[test]
    fn no_sum_overflows_and_old_hours_are_forgotten() {
        let budgets = budgets("\"1000000000000000 tokens/month\"");
        let (spent, now) = (Spent::default(), at("2026-11-24T10:30:00Z"));
        spent.add(tokens(u64::MAX), &budgets, now);
        spent.add(tokens(u64::MAX), &budgets, now.plus(Duration::from_secs(3_600)));
        assert!(matches!(spent.standing(&budgets, now), Standing::Spent(..)));
        let later = now.plus(KEPT * 2);
        spent.add(tokens(1), &budgets, later);
        assert_eq!(spent.lock().used.len(), 1);
    }

    #[test]
    fn a_model_without_a_price_is_told_once_and_so_many_at_most() {
        let spent = Spent::default();
        assert!(spent.is_newly_unpriced("a") && !spent.is_newly_unpriced("a"));
        let told = (0..1_000).filter(|n| spent.is_newly_unpriced(&format!("model-{n}"))).count();
        assert_eq!(told, UNPRICED_MAX - 1);
    }
}
