//! What is special about a resource: payments that succeed or are declined by the payment method's name, as with Stripe's test cards
//! (<https://docs.stripe.com/testing>), and what one object does to another.

use serde_json::{Value, json};

use super::error::Problem;
use super::{Context, Stripe, params};

/// Paths of resources that are named here.
#[cfg(test)]
pub(super) const PATHS: [&str; 11] = [
    "customers",
    "payment_methods",
    "payment_intents",
    "checkout/sessions",
    "subscriptions",
    "invoices",
    "refunds",
    "products",
    "prices",
    "events",
    "billing_portal/sessions",
];

/// Seconds that a checkout session stays open.
const SESSION_LIFE: i64 = 24 * 3600;
/// Seconds of a month, as far as a stand-in is concerned.
const MONTH: i64 = 30 * 24 * 3600;
/// The smallest payment in most currencies.
const AMOUNT_MIN: i64 = 50;

impl Stripe {
    /// Finishes an object that is about to be kept.
    pub(super) fn made(
        &mut self,
        resource: usize,
        object: &mut Value,
        given: &Value,
        context: &mut Context<'_>,
    ) -> Result<(), Problem> {
        let path = self.resources[resource].path.clone();
        if let Some(customer) = given["customer"].as_str() {
            self.must_exist("customers", customer, "customer")?;
        }
        match path.as_str() {
            "payment_methods" if object["type"] == "card" => object["card"] = card(given),
            "payment_intents" => self.payment_intent_made(object, given, context)?,
            "checkout/sessions" => self.session_made(object, given, context)?,
            "subscriptions" => self.subscription_made(object, given, context)?,
            "refunds" => self.refund_made(object, given)?,
            "prices" => self.price_made(object, given, context)?,
            "billing_portal/sessions" => {
                let url = context.ids.next("https://billing.stripe.com/p/session/test_", 40);
                object["url"] = url.into();
            }
            _ => {}
        }
        Ok(())
    }

    /// `POST /v1/PATH/ID/ACT`, and the one act that is a GET.
    pub(super) fn act(
        &mut self,
        resource: usize,
        id: &str,
        act: &str,
        given: &Value,
        context: &mut Context<'_>,
    ) -> Result<Value, Problem> {
        params::check(given)?;
        let path = self.resources[resource].path.clone();
        // Stripe's test payment methods are there without being made, and become one of their own when they are attached.
        let is_test_card = path == "payment_methods" && id.starts_with("pm_card_");
        let id = if is_test_card { &*self.take_test_card(resource, context) } else { id };
        self.find(resource, id)?;
        match (path.as_str(), act) {
            ("payment_methods", "attach") => {
                let customer =
                    given["customer"].as_str().ok_or_else(|| Problem::missing("customer"))?;
                self.must_exist("customers", customer, "customer")?;
                self.change(resource, id, "attached", context, |object| {
                    object["customer"] = customer.into();
                })
            }
            ("payment_methods", _) => self.change(resource, id, "detached", context, |object| {
                object["customer"] = Value::Null;
            }),
            ("payment_intents", "confirm") => self.confirm(resource, id, given, context),
            ("payment_intents", "capture") => self.capture(resource, id, given, context),
            ("payment_intents", _) => self.cancel_payment(resource, id, given, context),
            ("checkout/sessions", "line_items") => Ok(self.aside(id)["line_items"].clone()),
            ("checkout/sessions", _) => {
                self.must_be(
                    resource,
                    id,
                    "open",
                    "Only Checkout Sessions with a status in [\"open\"] can be expired.",
                )?;
                let expired = self.set_status(resource, id, "expired")?;
                self.tell_kind("checkout.session.expired", &expired, context);
                Ok(expired)
            }
            ("refunds", _) => {
                Err(Problem::bad("Refunds that have succeeded cannot be canceled.", None))
            }
            ("invoices", act) => self.invoice_act(resource, id, act, context),
            _ => Err(Problem::bad(format!("There is no `{act}` here."), None)),
        }
    }

    pub(super) fn cancel_subscription(
        &mut self,
        id: &str,
        context: &mut Context<'_>,
    ) -> Result<Value, Problem> {
        let resource = self.place("subscriptions");
        let seconds = context.seconds;
        if self.find(resource, id)?["status"] == "canceled" {
            return Err(Problem::no_such("subscription", id, "id").not_found());
        }
        self.change(resource, id, "deleted", context, |object| {
            object["status"] = "canceled".into();
            object["canceled_at"] = seconds.into();
            object["ended_at"] = seconds.into();
        })
    }

    /// A customer has paid.
    pub(super) fn complete_session(
        &mut self,
        id: &str,
        context: &mut Context<'_>,
    ) -> Result<Value, Problem> {
        let sessions = self.place("checkout/sessions");
        self.must_be(sessions, id, "open", "The checkout session is not open.")?;
        let session = self.find(sessions, id)?.clone();
        let payment = match session["mode"].as_str() {
            Some("payment") => Some(self.pay(&session, context)?),
            _ => None,
        };
        let object = self.find_mut(sessions, id)?;
        object["status"] = "complete".into();
        object["payment_status"] = "paid".into();
        object["payment_intent"] = payment.into();
        object["url"] = Value::Null;
        object["customer_details"] = json!({ "email": session["customer_email"].as_str().unwrap_or("ada@example.com"), "name": "Ada Lovelace" });
        let object = object.clone();
        Ok(self.tell_kind("checkout.session.completed", &object, context))
    }

    fn pay(&mut self, session: &Value, context: &mut Context<'_>) -> Result<String, Problem> {
        let amount = session["amount_total"].as_i64().unwrap_or(AMOUNT_MIN).max(AMOUNT_MIN);
        let mut given = json!({
            "amount": amount.to_string(),
            "currency": session["currency"].as_str().unwrap_or("usd"),
            "payment_method": "pm_card_visa",
            "confirm": "true",
            "metadata": self.aside(session["id"].as_str().unwrap_or_default())["metadata"],
        });
        if let Some(customer) = session["customer"].as_str() {
            given["customer"] = customer.into();
        }
        let payment = self.create(self.place("payment_intents"), &given, context)?;
        Ok(payment["id"].as_str().unwrap_or_default().to_owned())
    }

    fn payment_intent_made(
        &mut self,
        object: &mut Value,
        given: &Value,
        context: &mut Context<'_>,
    ) -> Result<(), Problem> {
        let amount = object["amount"].as_i64().unwrap_or_default();
        if amount < AMOUNT_MIN {
            let message = "Amount must be at least $0.50 usd";
            return Err(Problem::bad(message, Some("amount")).with_code("amount_too_small"));
        }
        let id = object["id"].as_str().unwrap_or_default().to_owned();
        object["client_secret"] = context.ids.next(&format!("{id}_secret_"), 25).into();
        if object["payment_method"].is_string() {
            object["status"] = "requires_confirmation".into();
        }
        if given["confirm"] == "true" {
            settle(object, context)?;
        }
        Ok(())
    }

    fn confirm(
        &mut self,
        resource: usize,
        id: &str,
        given: &Value,
        context: &mut Context<'_>,
    ) -> Result<Value, Problem> {
        let object = self.find_mut(resource, id)?;
        let status = object["status"].as_str().unwrap_or_default().to_owned();
        if ["succeeded", "canceled", "requires_capture"].contains(&status.as_str()) {
            let message = format!(
                "This PaymentIntent's payment_method could not be confirmed because it has a status of {status}."
            );
            return Err(Problem::unexpected_state(message));
        }
        if let Some(method) = given["payment_method"].as_str() {
            object["payment_method"] = method.into();
        }
        let settled = settle(object, context);
        let object = object.clone();
        match settled {
            Ok(()) => {
                self.tell_kind(&format!("payment_intent.{}", outcome(&object)), &object, context);
                Ok(object)
            }
            Err(problem) => {
                self.tell_kind("payment_intent.payment_failed", &object, context);
                Err(problem)
            }
        }
    }

    fn capture(
        &mut self,
        resource: usize,
        id: &str,
        given: &Value,
        context: &mut Context<'_>,
    ) -> Result<Value, Problem> {
        let object = self.find(resource, id)?;
        let status = object["status"].as_str().unwrap_or_default();
        if status != "requires_capture" {
            let message = format!(
                "This PaymentIntent could not be captured because it has a status of {status}."
            );
            return Err(Problem::unexpected_state(message));
        }
        let asked = params::typed("amount", given["amount_to_capture"].clone()).as_i64();
        self.change(resource, id, "succeeded", context, |object| {
            let all = object["amount_capturable"].as_i64().unwrap_or_default();
            object["amount_received"] = asked.unwrap_or(all).min(all).into();
            object["amount_capturable"] = 0.into();
            object["status"] = "succeeded".into();
        })
    }

    fn cancel_payment(
        &mut self,
        resource: usize,
        id: &str,
        given: &Value,
        context: &mut Context<'_>,
    ) -> Result<Value, Problem> {
        let status = self.find(resource, id)?["status"].as_str().unwrap_or_default();
        if ["succeeded", "canceled"].contains(&status) {
            let message = format!(
                "You cannot cancel this PaymentIntent because it has a status of {status}."
            );
            return Err(Problem::unexpected_state(message));
        }
        let seconds = context.seconds;
        self.change(resource, id, "canceled", context, |object| {
            object["status"] = "canceled".into();
            object["canceled_at"] = seconds.into();
            object["cancellation_reason"] = given["cancellation_reason"].clone();
        })
    }

    fn session_made(
        &mut self,
        object: &mut Value,
        given: &Value,
        context: &mut Context<'_>,
    ) -> Result<(), Problem> {
        let mode = given["mode"].as_str().unwrap_or_default();
        if !["payment", "setup", "subscription"].contains(&mode) {
            let message = "Invalid mode: must be one of payment, setup, or subscription";
            return Err(Problem::bad(message, Some("mode")));
        }
        let items = given["line_items"].as_array().map(Vec::as_slice).unwrap_or_default();
        if items.is_empty() && mode != "setup" {
            return Err(Problem::missing("line_items"));
        }
        let items: Vec<Value> =
            items.iter().map(|item| self.line_item(item, context)).collect::<Result<_, _>>()?;
        let total: i64 = items.iter().filter_map(|item| item["amount_total"].as_i64()).sum();
        let id = object["id"].as_str().unwrap_or_default().to_owned();
        object["amount_total"] = total.into();
        object["amount_subtotal"] = total.into();
        object["currency"] =
            items.first().map_or_else(|| "usd".into(), |item| item["currency"].clone());
        let line_items = json!({
            "object": "list",
            "url": format!("/v1/checkout/sessions/{id}/line_items"),
            "has_more": false,
            "data": items,
        });
        let metadata = given["payment_intent_data"].get("metadata");
        self.asides.insert(json!({
            "id": id,
            "line_items": line_items,
            "metadata": metadata.cloned().unwrap_or_else(|| json!({})),
        }));
        if object["expires_at"].is_null() {
            object["expires_at"] = (context.seconds + SESSION_LIFE).into();
        }
        object["url"] = format!("https://checkout.stripe.com/c/pay/{id}").into();
        Ok(())
    }

    /// A line item of a session, by a price or by the data of one.
    fn line_item(&self, item: &Value, context: &mut Context<'_>) -> Result<Value, Problem> {
        let item = params::typed("", item.clone());
        let quantity = item["quantity"].as_i64().unwrap_or(1);
        let price = match (item["price"].as_str(), item["price_data"].is_object()) {
            (Some(id), _) => self.must_exist("prices", id, "line_items[0][price]")?.clone(),
            (None, true) => item["price_data"].clone(),
            (None, false) => return Err(Problem::missing("line_items[0][price]")),
        };
        let amount = price["unit_amount"].as_i64().unwrap_or_default();
        let total = amount.saturating_mul(quantity);
        Ok(json!({
            "id": context.ids.next("li_", 24),
            "object": "item",
            "amount_subtotal": total,
            "amount_total": total,
            "currency": price["currency"],
            "description": price["product_data"]["name"],
            "price": price,
            "quantity": quantity,
        }))
    }

    fn subscription_made(
        &mut self,
        object: &mut Value,
        given: &Value,
        context: &mut Context<'_>,
    ) -> Result<(), Problem> {
        let id = object["id"].as_str().unwrap_or_default().to_owned();
        let wanted = given["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut items = Vec::new();
        for (number, item) in wanted.iter().enumerate() {
            let param = format!("items[{number}][price]");
            let price = item["price"].as_str().ok_or_else(|| Problem::missing(&param))?;
            let price = self.must_exist("prices", price, &param)?.clone();
            items.push(json!({
                "id": context.ids.next("si_", 14),
                "object": "subscription_item",
                "created": context.seconds,
                "current_period_start": context.seconds,
                "current_period_end": context.seconds + MONTH,
                "metadata": {},
                "price": price,
                "quantity": params::typed("quantity", item["quantity"].clone()).as_i64().unwrap_or(1),
                "subscription": id,
            }));
        }
        if items.is_empty() {
            return Err(Problem::missing("items"));
        }
        object["items"] = json!({
            "object": "list",
            "data": items,
            "has_more": false,
            "total_count": items.len(),
            "url": format!("/v1/subscription_items?subscription={id}"),
        });
        object["billing_cycle_anchor"] = context.seconds.into();
        object["start_date"] = context.seconds.into();
        let trial = params::typed("trial_period_days", given["trial_period_days"].clone());
        if let Some(days) = trial.as_i64() {
            object["status"] = "trialing".into();
            object["trial_start"] = context.seconds.into();
            object["trial_end"] =
                context.seconds.saturating_add(days.saturating_mul(86_400)).into();
        }
        Ok(())
    }

    fn refund_made(&mut self, object: &mut Value, given: &Value) -> Result<(), Problem> {
        let Some(payment) = given["payment_intent"].as_str() else {
            return match given["charge"].as_str() {
                Some(charge) => Err(Problem::no_such("charge", charge, "charge")),
                None => Err(Problem::bad(
                    "One of the following params should be provided for this request: payment_intent or charge.",
                    None,
                )),
            };
        };
        let paid = self.must_exist("payment_intents", payment, "payment_intent")?.clone();
        if paid["status"] != "succeeded" {
            let message = "This PaymentIntent does not have a successful charge to refund.";
            return Err(Problem::bad(message, Some("payment_intent")));
        }
        let refunds = &self.objects[self.place("refunds")];
        let of_payment =
            refunds.newest_first().filter(|refund| refund["payment_intent"] == payment);
        let given_back: i64 = of_payment.filter_map(|refund| refund["amount"].as_i64()).sum();
        let left = paid["amount_received"].as_i64().unwrap_or_default() - given_back;
        let charge = paid["latest_charge"].as_str().unwrap_or_default();
        if left <= 0 {
            let message = format!("Charge {charge} has already been refunded.");
            return Err(Problem::bad(message, None).with_code("charge_already_refunded"));
        }
        let amount = params::typed("amount", given["amount"].clone()).as_i64().unwrap_or(left);
        if !(1..=left).contains(&amount) {
            let message = format!(
                "Refund amount ({amount}) is greater than unrefunded amount on charge ({left})"
            );
            return Err(Problem::bad(message, Some("amount")));
        }
        object["amount"] = amount.into();
        object["charge"] = charge.into();
        object["currency"] = paid["currency"].clone();
        Ok(())
    }

    fn price_made(
        &mut self,
        object: &mut Value,
        given: &Value,
        context: &mut Context<'_>,
    ) -> Result<(), Problem> {
        match (given["product"].as_str(), &given["product_data"]) {
            (Some(product), _) => _ = self.must_exist("products", product, "product")?,
            (None, data @ Value::Object(_)) => {
                let products = self.place("products");
                object["product"] = self.create(products, data, context)?["id"].clone();
            }
            (None, _) => return Err(Problem::missing("product")),
        }
        if object["recurring"].is_object() {
            object["type"] = "recurring".into();
        }
        object["unit_amount_decimal"] =
            object["unit_amount"].as_i64().map(|amount| amount.to_string()).into();
        Ok(())
    }

    fn invoice_act(
        &mut self,
        resource: usize,
        id: &str,
        act: &str,
        context: &mut Context<'_>,
    ) -> Result<Value, Problem> {
        let status = self.find(resource, id)?["status"].as_str().unwrap_or_default().to_owned();
        let refused = |why: &str| {
            Err(Problem::bad(format!("{why} This invoice is {status}."), None)
                .with_code("invoice_not_editable"))
        };
        let (to, told) = match (act, status.as_str()) {
            ("finalize", "draft") => ("open", "finalized"),
            ("send", "draft" | "open") => ("open", "sent"),
            ("pay", "draft" | "open") => ("paid", "paid"),
            ("void", "open") => ("void", "voided"),
            ("pay", "paid") => {
                return Err(
                    Problem::bad("Invoice is already paid", None).with_code("invoice_already_paid")
                );
            }
            ("finalize", _) => return refused("Only draft invoices can be finalized."),
            ("void", _) => return refused("Only open invoices can be voided."),
            _ => return refused("It cannot be done."),
        };
        let url = context.ids.next("https://invoice.stripe.com/i/acct_stand_in/test_", 30);
        self.change(resource, id, told, context, |object| {
            object["status"] = to.into();
            if object["hosted_invoice_url"].is_null() {
                object["invoice_pdf"] = format!("{url}/pdf").into();
                object["hosted_invoice_url"] = url.into();
                object["number"] = "A1B2C3D4-0001".into();
            }
            if to == "paid" {
                object["amount_paid"] = object["amount_due"].clone();
                object["amount_remaining"] = 0.into();
                object["attempted"] = true.into();
            }
        })
    }

    /// What is known of a checkout session beside its object; nothing of one that is too old.
    fn aside(&self, session: &str) -> &Value {
        self.asides.get(session).unwrap_or(&Value::Null)
    }

    fn must_exist(&self, path: &str, id: &str, param: &str) -> Result<&Value, Problem> {
        let resource = self.place(path);
        let what = &self.resources[resource].object;
        self.objects[resource].get(id).ok_or_else(|| Problem::no_such(what, id, param))
    }

    fn must_be(&self, resource: usize, id: &str, status: &str, why: &str) -> Result<(), Problem> {
        if self.find(resource, id)?["status"] == status {
            return Ok(());
        }
        Err(Problem::bad(why, None))
    }

    fn set_status(&mut self, resource: usize, id: &str, status: &str) -> Result<Value, Problem> {
        let object = self.find_mut(resource, id)?;
        object["status"] = status.into();
        Ok(object.clone())
    }

    /// Changes an object and tells of it.
    fn change(
        &mut self,
        resource: usize,
        id: &str,
        told: &str,
        context: &mut Context<'_>,
        change: impl FnOnce(&mut Value),
    ) -> Result<Value, Problem> {
        let object = self.find_mut(resource, id)?;
        change(object);
        let object = object.clone();
        self.tell(resource, told, &object, context);
        Ok(object)
    }

    fn take_test_card(&mut self, resource: usize, context: &mut Context<'_>) -> String {
        let mut object = self.resources[resource].object(&json!({ "type": "card" }), context);
        object["card"] = card(&Value::Null);
        let id = object["id"].as_str().unwrap_or_default().to_owned();
        self.objects[resource].insert(object);
        id
    }
}

/// What its payment method makes of a payment: succeeded, declined, or a question to the customer.
fn settle(object: &mut Value, context: &mut Context<'_>) -> Result<(), Problem> {
    let method = object["payment_method"].as_str().unwrap_or_default().to_owned();
    if method.is_empty() {
        let message = "You cannot confirm this PaymentIntent because it's missing a payment method. You can either update the PaymentIntent with a payment method and then confirm it again, or confirm it again directly with a payment method or ConfirmationToken.";
        return Err(Problem::unexpected_state(message));
    }
    let declined = match method.as_str() {
        "pm_card_chargeDeclined" | "pm_card_visa_chargeDeclined" => Some("generic_decline"),
        "pm_card_chargeDeclinedInsufficientFunds"
        | "pm_card_visa_chargeDeclinedInsufficientFunds" => Some("insufficient_funds"),
        _ => None,
    };
    if let Some(decline_code) = declined {
        object["status"] = "requires_payment_method".into();
        object["payment_method"] = Value::Null;
        object["last_payment_error"] =
            json!({ "type": "card_error", "code": "card_declined", "decline_code": decline_code });
        return Err(Problem::declined(decline_code, object.clone()));
    }
    if method.starts_with("pm_card_authenticationRequired") {
        object["status"] = "requires_action".into();
        object["next_action"] = json!({ "type": "use_stripe_sdk", "use_stripe_sdk": { "type": "three_d_secure_redirect" } });
        return Ok(());
    }
    object["latest_charge"] = context.ids.next("ch_", 24).into();
    object["last_payment_error"] = Value::Null;
    if object["capture_method"] == "manual" {
        object["amount_capturable"] = object["amount"].clone();
        object["status"] = "requires_capture".into();
    } else {
        object["amount_received"] = object["amount"].clone();
        object["status"] = "succeeded".into();
    }
    Ok(())
}

/// What the event of a payment that was confirmed is called.
fn outcome(object: &Value) -> &str {
    match object["status"].as_str() {
        Some("requires_capture") => "amount_capturable_updated",
        Some(status) => status,
        None => "updated",
    }
}

/// A card, of which only the last digits are kept.
fn card(given: &Value) -> Value {
    let number = given["card"]["number"].as_str().unwrap_or("4242424242424242");
    let last: String = number.chars().skip(number.chars().count().saturating_sub(4)).collect();
    let year = |name: &str, otherwise: i64| {
        params::typed(name, given["card"][name].clone()).as_i64().unwrap_or(otherwise)
    };
    json!({
        "brand": "visa",
        "country": "US",
        "exp_month": year("exp_month", 12),
        "exp_year": year("exp_year", 2099),
        "fingerprint": "Xt5EWLLDS7FJjR1c",
        "funding": "credit",
        "last4": last,
    })
}
