//! Calls and what they cost: what an answer used is counted, past a budget nothing goes out that may cost something, and near its end a cheaper model is
//! asked. `budget` counts, `usage` reads; this is where both meet a call.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use serde_json::value::RawValue;

use super::Provider;
use super::budget::{Amounts, Passed, Standing};
use super::descriptor::price::Price;
use super::descriptor::{Operation, Prices, Stream};
use super::error::{Trouble, What};
use super::exchange::Incoming;
use super::gate::Part;
use super::prepared::Prepared;
use super::request::Content;
use super::state::{Kept, Later};
use super::usage::{self, Used};
use crate::clock;
use crate::config::{ModelPrice, ProviderKind, Spending, Unit};
use crate::frame::Frame;
use crate::script::call::{CallBody, ProviderCall, Target, Verb};
use crate::store::Json;

/// A job may wait at gates for so long in all (DESIGN §4, rule 12). Where a budget begins anew later than that, its call fails at once.
const PARK_MAX: Duration = Duration::from_secs(3 * 24 * 3600);

/// The prices of a provider: its own, and what config says over them.
pub(super) fn prices(published: &Prices, spending: &Spending) -> Prices {
    let mut prices = published.clone();
    let own = spending.prices.iter().map(|(model, price)| {
        let ModelPrice { input, output, cached } = *price;
        (model.clone(), Price { input, output, cached: cached.unwrap_or(input) })
    });
    prices.models.extend(own);
    prices
}

/// Why budgets of a provider cannot be kept, if nothing tells what its answers used.
pub(super) fn uncounted(provider: &crate::config::Provider) -> Option<Frame> {
    let place = provider.spending.place.as_ref()?;
    let name = &provider.name;
    let title = format!(
        "`budget` in [providers.{name}] cannot be kept: nothing says what its answers used"
    );
    let help = match &provider.descriptor {
        _ if provider.kind != ProviderKind::Http => "take it out".to_owned(),
        Some(file) => format!("give `{}` a table `[usage]`, or take `budget` out", file.path),
        None => "take it out; a `descriptor` with a table `[usage]` says where answers tell it"
            .to_owned(),
    };
    Some(Frame::error("E0108", title).at(place.clone()).help(help))
}

impl Prepared {
    /// Puts a call together; nothing is sent. Where a budget is nearly spent, it asks for the model that stands in, and is the same call for all that: a
    /// rerun knows it by what the script asked for.
    pub(crate) async fn new(
        provider: &Arc<Provider>,
        call: &ProviderCall,
    ) -> Result<Self, Trouble> {
        let mut prepared = Self::of(provider, call).await?;
        if let Some(cheaper) = provider.with_fallback(call) {
            prepared.body = Self::of(provider, &cheaper).await?.body;
        }
        Ok(prepared)
    }

    /// Counts what its answer used, and says how many tokens that is; `None` where it does not tell.
    pub(super) fn count(&self, incoming: &Incoming) -> Option<u64> {
        let may_tell = self.verb == Verb::Post && incoming.status < 400;
        let usage = self.provider.descriptor.usage.as_ref().filter(|_| may_tell)?;
        let used = Used::of_answer(str::from_utf8(&incoming.body).ok()?, usage)?;
        self.provider.spend(&used);
        Some(used.total)
    }
}

impl Provider {
    /// Leave of the budgets for one call. What reads costs nothing and needs none.
    pub(super) fn within_budget(&self, verb: Verb) -> Result<(), Kept> {
        let budgets = &self.config.spending.budgets;
        if verb != Verb::Post || budgets.is_empty() {
            return Ok(());
        }
        let now = clock::now();
        let Standing::Spent(budget, until) = self.spent.standing(budgets, now) else {
            return Ok(());
        };
        let message = format!("its budget of {budget} is used up until {until}");
        let (what, left) = (What::OverBudget, now.until(until));
        if left > PARK_MAX {
            return Err(Kept::Out(Trouble {
                retry_after: Some(left),
                ..Trouble::new(what, message)
            }));
        }
        Err(Kept::Later(Later {
            until: clock::instant() + left,
            part: Part::Budget,
            what,
            message: Cow::Owned(message),
        }))
    }

    fn spend(&self, used: &Used) {
        let amounts = Amounts { tokens: used.total, dollars: self.cost(used) };
        for passed in self.spent.add(amounts, &self.config.spending.budgets, clock::now()) {
            self.tell(passed);
        }
    }

    /// In millionths of a dollar. A model without a price costs nothing that is known, which is said once.
    fn cost(&self, used: &Used) -> u64 {
        let model = used.model.as_deref().unwrap_or_default();
        if let Some(price) = self.prices.of(model) {
            return price.cost(used.tokens);
        }
        let counts = self.config.spending.budgets.iter().any(|it| it.unit == Unit::Dollars);
        if counts && self.spent.is_newly_unpriced(model) {
            let service = &self.name;
            tracing::warn!(%service, model, "`{service}`: the model `{model}` has no price, so its calls count for no budget in dollars; give it one in `prices` of [providers.{service}]");
        }
        0
    }

    fn tell(&self, passed: Passed<'_>) {
        let service = &self.name;
        match (passed, &self.config.spending.fallback_model) {
            (Passed::Nearly(budget), Some(model)) => {
                tracing::warn!(%service, %budget, "`{service}` has used 80 % of its budget of {budget}: from here on `{model}` is asked in place of other models");
            }
            (Passed::Nearly(budget), None) => {
                tracing::warn!(%service, %budget, "`{service}` has used 80 % of its budget of {budget}");
            }
            (Passed::Wholly(budget, until), _) => {
                tracing::error!(%service, %budget, "`{service}` has used up its budget of {budget}: nothing that costs goes out until {until}");
            }
        }
    }

    /// The same call of a cheaper model, where that is the time for it.
    fn with_fallback(&self, call: &ProviderCall) -> Option<ProviderCall> {
        let Spending { fallback_model, budgets, .. } = &self.config.spending;
        let model = fallback_model.as_deref()?;
        if self.spent.standing(budgets, clock::now()) == Standing::Free {
            return None;
        }
        let mut call = call.clone();
        let (operation, body) = match (&call.target, &mut call.options.body) {
            (Target::Path { method, path, .. }, Some(CallBody::Json(json))) => {
                (self.operation_at(*method, path), json)
            }
            (Target::Operation { name, .. }, _) => {
                let operation = self.descriptor.operation(name);
                let Target::Operation { params: Some(params), .. } = &mut call.target else {
                    return None;
                };
                (operation, params)
            }
            _ => return None,
        };
        *body = asking(body, model, operation)?;
        Some(call)
    }

    /// The operation that a path without parameters is of.
    fn operation_at(&self, verb: Verb, path: &str) -> Option<&Operation> {
        let path = path.split('?').next()?;
        let mut operations = self.descriptor.operations.values();
        operations.find(|known| known.verb == verb && known.path.to_string() == path)
    }
}

/// The same params with another model; `None` where they name none, or where what they ask for is no conversation: no model for texts makes pictures or
/// vectors.
fn asking(params: &Json, model: &str, operation: Option<&Operation>) -> Option<Json> {
    // What stands beside the model stays as it is, to the last digit.
    let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&params.0).ok()?;
    let dialect = operation.and_then(|operation| operation.stream);
    let converses = matches!(dialect, Some(Stream::OpenaiChat | Stream::OpenaiResponses))
        || fields.contains_key("messages");
    let asked = fields.get_mut("model").filter(|_| converses)?;
    let other = serde_json::value::to_raw_value(model).ok()?;
    if asked.get() == other.get() {
        return None;
    }
    *asked = other;
    Some(Json(serde_json::to_string(&fields).ok()?.into()))
}

/// Counts what a stream used, once: when it has ended, or when nobody reads it any more.
pub(super) struct Meter {
    provider: Arc<Provider>,
    operation: Box<str>,
    began: Instant,
    /// Of the request, and the model that it names; `None`: what this stream says is of another call.
    asked: Option<(u64, Option<Box<str>>)>,
    is_read: bool,
}

/// What a stream has said so far.
pub(super) struct Seen<'s> {
    pub(super) usage: Option<&'s Value>,
    pub(super) model: Option<&'s str>,
    /// Pieces of an answer.
    pub(super) pieces: u64,
    /// It has come to its own end.
    pub(super) has_ended: bool,
}

impl Meter {
    pub(super) fn new(prepared: &Prepared) -> Self {
        let counts = prepared.verb == Verb::Post && prepared.provider.descriptor.usage.is_some();
        let asked = match &prepared.body {
            Content::Bytes(body) => {
                let model = || str::from_utf8(body).ok().and_then(usage::model_of);
                counts.then(|| (body.len() as u64, model()))
            }
            _ => counts.then_some((0, None)),
        };
        let (provider, operation) = (Arc::clone(&prepared.provider), prepared.operation.clone());
        Self { provider, operation, began: clock::instant(), asked, is_read: false }
    }

    /// Reads it off, if nobody has; what there is to say goes to the log.
    pub(super) fn read(&mut self, seen: &Seen<'_>) {
        if std::mem::replace(&mut self.is_read, true) {
            return;
        }
        let used = self.used(seen);
        if let Some(used) = &used {
            self.provider.spend(used);
        }
        let (service, method) = (&self.provider.name, &self.operation);
        let latency = clock::instant().saturating_duration_since(self.began);
        let latency_ms = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
        let tokens_used = used.as_ref().map(|used| used.total);
        let estimated = used.as_ref().filter(|used| used.is_estimate).map(|_| true);
        let success = seen.has_ended;
        let what =
            if success { "has streamed all of its answer" } else { "was left before its end" };
        tracing::info!(%service, %method, success, latency_ms, tokens_used, estimated, "{service} {method}: {what}");
    }

    fn used(&self, seen: &Seen<'_>) -> Option<Used> {
        let (bytes, model) = self.asked.as_ref()?;
        let usage = self.provider.descriptor.usage.as_ref()?;
        let model = seen.model.or(model.as_deref());
        let told = seen.usage.and_then(|told| Used::of_stream(told, model, usage));
        told.or_else(|| (seen.pieces > 0).then(|| Used::estimate(*bytes, seen.pieces, model)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_model_of_a_conversation_is_replaced_and_all_else_stays_to_the_digit() {
        let descriptor = super::super::descriptor::Descriptor::built_in(ProviderKind::OpenAi);
        let check = |operation: &str, params: &str, expected: Option<&str>| {
            let operation = descriptor.operation(operation);
            let asked = asking(&Json(params.into()), "small", operation);
            assert_eq!(asked.as_ref().map(|json| &*json.0), expected, "{params}");
        };
        let chat = "chat.completions.create";
        check(
            chat,
            r#"{"model":"big","seed":123456789012345678901234567890,"messages":[{"model":"big"}]}"#,
            Some(
                r#"{"messages":[{"model":"big"}],"model":"small","seed":123456789012345678901234567890}"#,
            ),
        );
        check("responses.create", r#"{"model":"big"}"#, Some(r#"{"model":"small"}"#));
        check(
            "no.such",
            r#"{"messages":[],"model":1}"#,
            Some(r#"{"messages":[],"model":"small"}"#),
        );
        check(chat, r#"{"model":"small"}"#, None);
        check(chat, r#"{"messages":[]}"#, None);
        check("embeddings.create", r#"{"model":"big","input":"x"}"#, None);
        check("images.generate", r#"{"model":"big","prompt":"x"}"#, None);
        check(chat, "[]", None);
    }

    #[test]
    fn what_config_says_of_prices_wins() {
        let descriptor = super::super::descriptor::Descriptor::built_in(ProviderKind::OpenAi);
        let own = ModelPrice { input: 7, output: 8, cached: None };
        let spending = Spending { prices: [("gpt-5".into(), own)].into(), ..Spending::default() };
        let prices = prices(&descriptor.prices, &spending);
        assert_eq!(prices.of("gpt-5"), Some(Price { input: 7, output: 8, cached: 7 }));
        assert_eq!(prices.of("gpt-5-mini"), descriptor.prices.of("gpt-5-mini"));
    }
}
