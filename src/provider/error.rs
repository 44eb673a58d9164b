//! What can go wrong with a call: what it is, and whether another try may help. Retries, the breaker, health and the code that scripts see
//! all follow from that and from nothing else.

use std::time::Duration;

use super::credentials::CredentialsError;
use super::outcome::Outcome;
use crate::script::call::CalledBody;

/// Why a try, or a whole call, came to nothing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Trouble {
    /// What it is.
    pub(crate) what: What,
    /// A sentence for people. Nothing that the provider said is in it, so that it may stand in a log.
    pub(crate) message: String,
    /// What the provider said of it, for the script.
    pub(crate) detail: Option<String>,
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

    /// Whether a request of it may have reached the provider.
    pub(crate) fn may_have_been_done(self) -> bool {
        !matches!(
            self,
            Self::BadCall
                | Self::OverLimit
                | Self::OverBudget
                | Self::BreakerOpen
                | Self::Unreachable
        )
    }

    /// Whether an answer said no to the call, whatever its status.
    pub(crate) fn is_refusal(self) -> bool {
        matches!(self, Self::Refused | Self::NotFound | Self::Conflict | Self::RateLimited)
    }
}

impl Trouble {
    /// Without an answer.
    pub(crate) fn new(what: What, message: impl Into<String>) -> Self {
        Self {
            what,
            message: message.into(),
            detail: None,
            status: None,
            retry_after: None,
            body: None,
        }
    }

    /// Message and detail.
    pub(crate) fn whole_message(&self) -> String {
        match &self.detail {
            Some(detail) => format!("{}: {detail}", self.message),
            None => self.message.clone(),
        }
    }

    /// What a try was that ended so, for retries, breaker and health; `None`: none was made, or not to its end.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        match self.what {
            What::Unreachable => Some(Outcome::NotConnected),
            What::Lost | What::Garbled => Some(Outcome::Broken),
            What::TimedOut => Some(Outcome::TimedOut),
            What::RateLimited => Some(Outcome::Answered(429)),
            What::BadCall | What::OverLimit | What::BreakerOpen => None,
            What::NotConfigured
            | What::OverBudget
            | What::Refused
            | What::NotFound
            | What::Conflict
            | What::Failing
            | What::TooLarge => self.status.map(Outcome::Answered),
        }
    }

    /// Of an answer with that status.
    pub(crate) fn with_status(self, status: u16) -> Self {
        Self { status: Some(status), ..self }
    }
}

impl From<&CredentialsError> for Trouble {
    fn from(error: &CredentialsError) -> Self {
        let what = match error.code() {
            "TIMEOUT" => What::TimedOut,
            "CONFIGURATION_ERROR" => What::NotConfigured,
            _ => What::Unreachable,
        };
        Self { retry_after: error.retry_after(), ..Self::new(what, error.to_string()) }
    }
}

/// What a status of 400 and more is.
pub(crate) fn of_status(status: u16) -> What {
    match status {
        401 => What::NotConfigured,
        404 | 410 => What::NotFound,
        409 | 412 => What::Conflict,
        408 | 425 | 500.. => What::Failing,
        429 => What::RateLimited,
        _ => What::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v12_what_a_status_means() {
        let check =
            |status: u16, code: &str| assert_eq!(of_status(status).code(), code, "{status}");
        check(400, "INVALID_REQUEST");
        check(401, "CONFIGURATION_ERROR");
        check(402, "INVALID_REQUEST");
        check(403, "INVALID_REQUEST");
        check(404, "NOT_FOUND");
        check(408, "SERVICE_UNAVAILABLE");
        check(409, "CONFLICT");
        check(422, "INVALID_REQUEST");
        check(429, "RATE_LIMIT_EXCEEDED");
        check(500, "SERVICE_UNAVAILABLE");
        check(503, "SERVICE_UNAVAILABLE");
    }
}
