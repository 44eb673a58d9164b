//! What an answer means: whether it is an error, which of our codes it has, and what the provider says of it. Read off the status and the
//! body by the pointers of the descriptor; who made the call decides what to do.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::json::Pointer;

/// Our codes of provider errors, which scripts see as `err.code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// Too many calls.
    RateLimitExceeded,
    /// Our key is refused, or missing.
    ConfigurationError,
    /// The provider is down, or cannot be reached.
    ServiceUnavailable,
    /// It took too long.
    Timeout,
    /// The provider does not take what was sent.
    InvalidRequest,
    /// There is no such thing.
    NotFound,
    /// It clashes with what is there.
    Conflict,
    /// The answer is larger than we take.
    ResponseTooLarge,
    /// What may be spent is spent.
    BudgetExceeded,
}

impl Code {
    /// All of them, as they are written.
    pub(crate) const ALL: [(&'static str, Self); 9] = [
        ("RATE_LIMIT_EXCEEDED", Self::RateLimitExceeded),
        ("CONFIGURATION_ERROR", Self::ConfigurationError),
        ("SERVICE_UNAVAILABLE", Self::ServiceUnavailable),
        ("TIMEOUT", Self::Timeout),
        ("INVALID_REQUEST", Self::InvalidRequest),
        ("NOT_FOUND", Self::NotFound),
        ("CONFLICT", Self::Conflict),
        ("RESPONSE_TOO_LARGE", Self::ResponseTooLarge),
        ("BUDGET_EXCEEDED", Self::BudgetExceeded),
    ];

    /// The one that is written so.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, code)| code)
    }

    /// What a status from 400 on means by itself. 408, 425 and 5xx are the provider's own trouble.
    pub(crate) fn of_status(status: u16) -> Self {
        match status {
            401 => Self::ConfigurationError,
            404 | 410 => Self::NotFound,
            409 | 412 => Self::Conflict,
            429 => Self::RateLimitExceeded,
            408 | 425 | 500.. => Self::ServiceUnavailable,
            _ => Self::InvalidRequest,
        }
    }
}

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
    pub(super) status: BTreeMap<u16, Code>,
    /// Our code for a code or kind of the provider; it wins over the status.
    pub(super) codes: BTreeMap<Box<str>, Code>,
    /// What makes an error of an answer with a status below 400.
    pub(super) when: Option<When>,
}

/// A value that means an error, whatever the status.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct When {
    /// What is looked at.
    pub(crate) pointer: Pointer,
    /// What it says then.
    pub(crate) equals: Value,
    /// Where the provider's code stands then; `None`: as always.
    pub(crate) code: Option<Pointer>,
    /// Where the message stands then; `None`: as always.
    pub(crate) message: Option<Pointer>,
}

/// An answer that is an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Judged {
    /// Ours.
    pub(crate) code: Code,
    /// The provider's, if it gives one.
    pub(crate) theirs: Option<String>,
    /// Its kind of error, if it gives one.
    pub(crate) kind: Option<String>,
    /// What it says for people, if it does. It may quote what was sent: redact it before anybody sees it.
    pub(crate) message: Option<String>,
}

impl Errors {
    /// The error that an answer is, if it is one. `body`: what of it is JSON.
    pub(crate) fn judge(&self, status: u16, body: Option<&Value>) -> Option<Judged> {
        let when = self.when.as_ref().filter(|when| {
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
        let code = by_name
            .filter_map(|name| self.codes.get(name.as_str()))
            .chain(self.status.get(&status))
            .next()
            .copied()
            .unwrap_or_else(|| {
                if status < 400 { Code::InvalidRequest } else { Code::of_status(status) }
            });
        Some(Judged { code, theirs, kind, message })
    }

    /// Whether an answer with a status below 400 has to be looked at.
    pub(crate) fn looks_into_success(&self) -> bool {
        self.when.is_some()
    }

    /// The same, where config says what else makes an error.
    pub(crate) fn with(mut self, when: Option<When>) -> Self {
        self.when = when.or(self.when);
        self
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
