//! What came of one try, and what follows from it: may the same be tried again, and does it speak against the provider. Retry, breaker and health
//! read this and nothing else.

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// No connection: its name does not resolve, nobody listens, TLS fails.
    NotConnected,
    /// The connection broke before the whole answer was there.
    Broken,
    /// The whole answer did not come in time.
    TimedOut,
    /// With this status.
    Answered(u16),
}

/// What a try says of the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It works.
    Good,
    /// It does not.
    Bad,
    /// It answered, and what it says is about the request. One who asks for what is not there must not make it look better or worse.
    Neither,
}

impl Outcome {
    /// Whether another try may end otherwise. A try that took all of its time is not repeated: nobody knows whether it is still at work.
    pub(crate) fn may_pass(self) -> bool {
        match self {
            Self::NotConnected | Self::Broken => true,
            Self::TimedOut => false,
            Self::Answered(status) => matches!(status, 408 | 425 | 429 | 500..=599),
        }
    }

    /// Whether it counts for or against the provider.
    pub(crate) fn verdict(self) -> Verdict {
        match self {
            Self::NotConnected | Self::Broken | Self::TimedOut => Verdict::Bad,
            Self::Answered(408 | 425 | 429 | 500..) => Verdict::Bad,
            Self::Answered(400..=499) => Verdict::Neither,
            Self::Answered(_) => Verdict::Good,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_16_what_the_request_is_to_blame_for_is_not_held_against_the_provider() {
        use Verdict::{Bad, Good, Neither};
        for (outcome, may_pass, verdict) in [
            (Outcome::NotConnected, true, Bad),
            (Outcome::Broken, true, Bad),
            (Outcome::TimedOut, false, Bad),
            (Outcome::Answered(200), false, Good),
            (Outcome::Answered(304), false, Good),
            (Outcome::Answered(400), false, Neither),
            (Outcome::Answered(401), false, Neither),
            (Outcome::Answered(403), false, Neither),
            (Outcome::Answered(404), false, Neither),
            (Outcome::Answered(408), true, Bad),
            (Outcome::Answered(409), false, Neither),
            (Outcome::Answered(425), true, Bad),
            (Outcome::Answered(429), true, Bad),
            (Outcome::Answered(499), false, Neither),
            (Outcome::Answered(500), true, Bad),
            (Outcome::Answered(599), true, Bad),
            (Outcome::Answered(999), false, Bad),
        ] {
            assert_eq!((outcome.may_pass(), outcome.verdict()), (may_pass, verdict), "{outcome:?}");
        }
    }
}
