//! What can go wrong with a call: what it is, whose fault, and whether another try may help. Retries, the breaker, health and the code that scripts see
//! all follow from that and from nothing else.

use std::time::Duration;

use crate::script::call::CalledBody;

/// Why a try, or a whole call, came to nothing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Trouble {
    /// What it is.
    pub(crate) what: What,
    /// A sentence for people, without secrets.
    pub(crate) message: String,
    /// Of HTTP, where an answer came.
    pub(crate) status: Option<u16>,
    /// How long it is to be left alone, where it says so.
    pub(crate) retry_after: Option<Duration>,
    /// What it said.
    pub(crate) body: Option<CalledBody>,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A variable is not set, a key is refused.
    NotConfigured,
    /// The call as the script wrote it cannot be made.
    BadCall,
    /// It says that what was asked is wrong.
    Refused,
    /// It knows no such thing.
    NotFound,
    /// Something stands against it.
    Conflict,
    /// Too many calls, it says.
    RateLimited,
    /// Too many calls, config says; nothing was sent.
    OverLimit,
    /// What config allows it to cost is spent.
    OverBudget,
    /// It fails, it says.
    Failing,
    /// There was no connection, so nothing was sent.
    Unreachable,
    /// The connection broke after the request was on its way.
    Lost,
    /// Nothing was sent: it has failed too often just now.
    BreakerOpen,
    /// It took too long.
    TimedOut,
    /// More bytes than config allows.
    TooLarge,
    /// An answer that is not what it should be.
    Garbled,
}

/// Who can do something about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Script or config.
    Ours,
    /// The third party.
    Theirs,
    /// Whatever lies between.
    Network,
}

impl What {
    /// The code that scripts see.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::NotConfigured => "CONFIGURATION_ERROR",
            Self::BadCall | Self::Refused => "INVALID_REQUEST",
            Self::NotFound => "NOT_FOUND",
            Self::Conflict => "CONFLICT",
            Self::RateLimited | Self::OverLimit => "RATE_LIMIT_EXCEEDED",
            Self::OverBudget => "BUDGET_EXCEEDED",
            Self::Failing | Self::Unreachable | Self::Lost | Self::BreakerOpen | Self::Garbled => {
                "SERVICE_UNAVAILABLE"
            }
            Self::TimedOut => "TIMEOUT",
            Self::TooLarge => "RESPONSE_TOO_LARGE",
        }
    }

    /// Whose fault it is.
    pub(crate) fn fault(self) -> Fault {
        match self {
            Self::NotConfigured
            | Self::BadCall
            | Self::Refused
            | Self::NotFound
            | Self::Conflict
            | Self::OverLimit
            | Self::OverBudget
            | Self::TooLarge => Fault::Ours,
            Self::RateLimited | Self::Failing | Self::BreakerOpen | Self::Garbled => Fault::Theirs,
            Self::Unreachable | Self::Lost | Self::TimedOut => Fault::Network,
        }
    }

    /// Whether another try may end otherwise.
    pub(crate) fn may_pass(self) -> bool {
        matches!(
            self,
            Self::RateLimited | Self::Failing | Self::Unreachable | Self::Lost | Self::TimedOut
        )
    }

    /// Whether it says something about how the provider is doing.
    pub(crate) fn counts(self) -> bool {
        matches!(
            self,
            Self::RateLimited
                | Self::Failing
                | Self::Unreachable
                | Self::Lost
                | Self::TimedOut
                | Self::Garbled
        )
    }

    /// Whether the provider may have done what was asked without our knowing.
    pub(crate) fn is_unknown(self) -> bool {
        matches!(self, Self::Failing | Self::Lost | Self::TimedOut | Self::TooLarge | Self::Garbled)
    }
}

impl Trouble {
    /// Without an answer.
    pub(crate) fn new(what: What, message: impl Into<String>) -> Self {
        Self { what, message: message.into(), status: None, retry_after: None, body: None }
    }

    /// Of an answer with that status.
    pub(crate) fn with_status(self, status: u16) -> Self {
        Self { status: Some(status), ..self }
    }
}

/// What a status of 400 and more is.
pub(crate) fn of_status(status: u16) -> What {
    match status {
        401 => What::NotConfigured,
        404 | 410 => What::NotFound,
        409 => What::Conflict,
        408 | 425 | 500.. => What::Failing,
        429 => What::RateLimited,
        _ => What::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v12_what_a_status_means_and_whose_fault_it_is() {
        let check = |status: u16, code: &str, fault: Fault, may_pass: bool, counts: bool| {
            let what = of_status(status);
            assert_eq!((what.code(), what.fault()), (code, fault), "{status}");
            assert_eq!((what.may_pass(), what.counts()), (may_pass, counts), "{status}");
        };
        check(400, "INVALID_REQUEST", Fault::Ours, false, false);
        check(401, "CONFIGURATION_ERROR", Fault::Ours, false, false);
        check(402, "INVALID_REQUEST", Fault::Ours, false, false);
        check(403, "INVALID_REQUEST", Fault::Ours, false, false);
        check(404, "NOT_FOUND", Fault::Ours, false, false);
        check(408, "SERVICE_UNAVAILABLE", Fault::Theirs, true, true);
        check(409, "CONFLICT", Fault::Ours, false, false);
        check(422, "INVALID_REQUEST", Fault::Ours, false, false);
        check(425, "SERVICE_UNAVAILABLE", Fault::Theirs, true, true);
        check(429, "RATE_LIMIT_EXCEEDED", Fault::Theirs, true, true);
        check(500, "SERVICE_UNAVAILABLE", Fault::Theirs, true, true);
        check(503, "SERVICE_UNAVAILABLE", Fault::Theirs, true, true);
        check(599, "SERVICE_UNAVAILABLE", Fault::Theirs, true, true);
    }
}
