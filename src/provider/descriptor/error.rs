//! What an answer means: whether it is an error, which of our codes it has, and what the provider says of it. Read off the status and the
//! body by the pointers of the descriptor; who made the call decides what to do.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::config::ErrorWhen;
use crate::json::Pointer;
use crate::provider::error::{What, of_status};

/// Our codes, as descriptors write them.
pub(super) const CODES: [(&str, What); 9] = [
    ("RATE_LIMIT_EXCEEDED", What::RateLimited),
    ("CONFIGURATION_ERROR", What::NotConfigured),
    ("SERVICE_UNAVAILABLE", What::Failing),
    ("TIMEOUT", What::TimedOut),
    ("INVALID_REQUEST", What::Refused),
    ("NOT_FOUND", What::NotFound),
    ("CONFLICT", What::Conflict),
    ("RESPONSE_TOO_LARGE", What::TooLarge),
    ("BUDGET_EXCEEDED", What::OverBudget),
];

/// What errors look like.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Errors {
    /// Where the message stands; the first that is text counts.
    pub(super) message: Box<[Pointer]>,
    /// Where the provider's code stands.
    pub(super) code: Box<[Pointer]>,
    /// Where the kind of error stands.
    pub(super) kind: Box<[Pointer]>,
    /// Our code for a status.
    pub(super) status: BTreeMap<u16, What>,
    /// Our code for a code or kind of the provider; it wins over the status.
    pub(super) codes: BTreeMap<Box<str>, What>,
    /// What makes an error of an answer with a status below 400.
    pub(super) when: Option<ErrorWhen>,
}

/// An answer that is an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Judged {
    /// By our own measure.
    pub(crate) what: What,
    /// The provider's, if it gives one.
    pub(crate) theirs: Option<String>,
    /// What it says for people, if it does. It may quote what was sent: redact it before anybody sees it.
    pub(crate) message: Option<String>,
}

impl Errors {
    /// The error that an answer is, if it is one. `body`: what of it is JSON; `own`: config's word for what makes an error, in place of the descriptor's.
    pub(crate) fn judge(
        &self,
        status: u16,
        body: Option<&Value>,
        own: Option<&ErrorWhen>,
    ) -> Option<Judged> {
        let when = own.or(self.when.as_ref()).filter(|when| {
            body.and_then(|body| at(body, &when.pointer)).is_some_and(|found| *found == when.equals)
        });
        if status < 400 && when.is_none() {
            return None;
        }
        let first = |own: Option<&Pointer>, usual: &[Pointer]| {
            own.into_iter().chain(usual).find_map(|pointer| text(at(body?, pointer)?))
        };
        let theirs = first(when.and_then(|when| when.code.as_ref()), &self.code);
        let kind = first(None, &self.kind);
        let message = first(when.and_then(|when| when.message.as_ref()), &self.message);
        let by_name = [&theirs, &kind].into_iter().flatten();
        let what = by_name
            .filter_map(|name| self.codes.get(name.as_str()))
            .chain(self.status.get(&status))
            .next()
            .copied()
            .unwrap_or_else(|| if status < 400 { What::Refused } else { of_status(status) });
        Some(Judged { what, theirs, message })
    }

    /// Whether an answer with a status below 400 has to be looked at.
    pub(crate) fn looks_into_success(&self, own: Option<&ErrorWhen>) -> bool {
        own.or(self.when.as_ref()).is_some()
    }
}

/// The value that a pointer names.
pub(crate) fn at<'v>(value: &'v Value, pointer: &Pointer) -> Option<&'v Value> {
    pointer.names().iter().try_fold(value, |value, name| match value {
        Value::Object(fields) => fields.get(&**name),
        Value::Array(items) => {
            let is_index = !name.starts_with('+') && (**name == *"0" || !name.starts_with('0'));
            items.get(name.parse::<usize>().ok().filter(|_| is_index)?)
        }
        _ => None,
    })
}

/// Text, and numbers as their digits.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
