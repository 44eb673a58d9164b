//! Stripe's errors: `{"error":{type,code,message,param,request_log_url}}` (<https://docs.stripe.com/api/errors>).

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::super::answer::Answer;

/// What one operation comes to.
pub(super) type Outcome = Result<Answer, Problem>;

/// Where Stripe shows a request; a stand-in has no such page.
const REQUEST_LOG: &str = "https://dashboard.stripe.com/test/logs/req_stand_in";

/// An error.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) message: String,
    kind: &'static str,
    code: Option<&'static str>,
    param: Option<String>,
    decline_code: Option<&'static str>,
    /// The payment intent that the error is about.
    payment_intent: Option<Box<Value>>,
}

impl Problem {
    fn new(status: StatusCode, kind: &'static str, message: String) -> Self {
        let (code, param, decline_code, payment_intent) = (None, None, None, None);
        Self { status, message, kind, code, param, decline_code, payment_intent }
    }

    /// A request that cannot be so.
    pub(super) fn bad(message: impl Into<String>, param: Option<&str>) -> Self {
        let problem = Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message.into());
        Self { param: param.map(str::to_owned), ..problem }
    }

    /// A payment intent that is past what was asked of it, or not there yet.
    pub(super) fn unexpected_state(message: impl Into<String>) -> Self {
        Self::bad(message, None).with_code("payment_intent_unexpected_state")
    }

    pub(super) fn missing(param: &str) -> Self {
        Self::bad(format!("Missing required param: {param}."), Some(param))
            .with_code("parameter_missing")
    }

    /// An object that a parameter names and that is not there.
    pub(super) fn no_such(object: &str, id: &str, param: &str) -> Self {
        // `checkout.session` is written so, everything else as it is.
        let what = object.replace("payment_method", "PaymentMethod");
        Self::bad(format!("No such {what}: '{id}'"), Some(param)).with_code("resource_missing")
    }

    pub(super) fn no_such_path(method: &Method, path: &str) -> Self {
        let message = format!(
            "Unrecognized request URL ({method}: {path}). Please see https://stripe.com/docs or we can help at https://support.stripe.com/."
        );
        Self::bad(message, None).not_found()
    }

    pub(super) fn unauthorised(message: String) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "invalid_request_error", message)
    }

    /// Of the use of an idempotency key.
    pub(super) fn idempotency(status: StatusCode, message: String) -> Self {
        Self::new(status, "idempotency_error", message)
    }

    /// A card that was declined, and the payment intent as it is then.
    pub(super) fn declined(decline_code: &'static str, payment_intent: Value) -> Self {
        let message = match decline_code {
            "insufficient_funds" => "Your card has insufficient funds.",
            _ => "Your card was declined.",
        };
        let status = StatusCode::PAYMENT_REQUIRED;
        let problem =
            Self::new(status, "card_error", message.to_owned()).with_code("card_declined");
        let (decline_code, payment_intent) = (Some(decline_code), Some(Box::new(payment_intent)));
        Self { decline_code, payment_intent, ..problem }
    }

    pub(super) fn with_code(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }

    /// The same of a path.
    pub(super) fn not_found(self) -> Self {
        Self { status: StatusCode::NOT_FOUND, ..self }
    }

    /// Whether it came of carrying the request out, and not of looking at it.
    pub(super) fn is_of_execution(&self) -> bool {
        self.status == StatusCode::PAYMENT_REQUIRED || self.status.is_server_error()
    }

    pub(super) fn to_answer(&self) -> Answer {
        let mut error = json!({ "message": self.message, "type": self.kind });
        let fields = [
            ("code", self.code),
            ("param", self.param.as_deref()),
            ("decline_code", self.decline_code),
            ("request_log_url", (self.status.as_u16() != 401).then_some(REQUEST_LOG)),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                error[name] = value.into();
            }
        }
        if let Some(code) = self.code {
            error["doc_url"] =
                format!("https://stripe.com/docs/error-codes/{}", code.replace('_', "-")).into();
        }
        if let Some(payment_intent) = &self.payment_intent {
            error["payment_intent"] = Value::clone(payment_intent);
        }
        Answer::json(self.status, &json!({ "error": error }))
    }
}

/// What is said with a status when nothing more is known.
pub(super) fn general(status: StatusCode) -> Problem {
    let (kind, code, message) = match status.as_u16() {
        401 => ("invalid_request_error", None, "Invalid API Key provided: sk_test_****stan"),
        402 => ("card_error", Some("card_declined"), "Your card was declined."),
        403 => (
            "invalid_request_error",
            Some("more_permissions_required"),
            "The provided key does not have the required permissions for this endpoint.",
        ),
        409 => (
            "idempotency_error",
            Some("idempotency_key_in_use"),
            "There is currently another in-progress request using this Idempotent Key.",
        ),
        429 => (
            "invalid_request_error",
            Some("rate_limit"),
            "Request rate limit exceeded. Learn more about rate limits here https://stripe.com/docs/rate-limits.",
        ),
        500.. => ("api_error", None, "An unknown error occurred"),
        _ => ("invalid_request_error", None, "The request could not be carried out."),
    };
    Problem { code, ..Problem::new(status, kind, message.to_owned()) }
}
