//! Why there are no credentials for a call: whose fault, whether another try may help, and when. Nothing of it repeats what a server said but for
//! the words that the RFCs define.

use std::time::Duration;

use thiserror::Error;

/// Why a request cannot say who calls.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum CredentialsError {
    /// Ours.
    #[error("{} not set", named(.variables))]
    NotConfigured {
        /// What has to be set.
        variables: Vec<Box<str>>,
    },
    /// Ours: the value holds what no header may.
    #[error("the value of `{variable}` cannot stand in a header")]
    NoHeader {
        /// The variable to look at.
        variable: Box<str>,
    },
    /// Ours.
    #[error("the value of `{variable}` is no private key that can sign: {fault}")]
    NoKey {
        /// The variable to look at.
        variable: Box<str>,
        /// What is wrong with it.
        fault: KeyFault,
    },
    /// Ours: another try with the same credentials gets the same answer.
    #[error("the token endpoint refuses these credentials: {status}{}", .word.map(|word| format!(" `{word}`")).unwrap_or_default())]
    Refused {
        /// Of its answer.
        status: u16,
        /// Its `error` (RFC 6749, section 5.2).
        word: Option<&'static str>,
        /// From when on it is asked again.
        retry_after: Duration,
    },
    /// Theirs or the network's.
    #[error("no token can be had: the token endpoint {fault}")]
    Unavailable {
        /// What it did.
        fault: Fault,
        /// From when on it is asked again.
        retry_after: Duration,
    },
    /// The call's own time was up before there was a token.
    #[error("the time was up before there was a token")]
    TimedOut,
}

/// What a token endpoint did instead of giving a token.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum Fault {
    /// There is no connection to it.
    #[error("cannot be reached")]
    Unreachable,
    /// Its answer did not come in time.
    #[error("does not answer in time")]
    Slow,
    /// The connection broke.
    #[error("broke off its answer")]
    Broken,
    /// It answers with this status.
    #[error("answers {0}")]
    Status(u16),
    /// Its answer has no end.
    #[error("answers with more than 64KiB")]
    TooLarge,
    /// Its answer cannot be read.
    #[error("answers with something that is no JSON object")]
    NotJson,
    /// Its answer has no token.
    #[error("answers without a token that can be used")]
    NoToken,
}

/// What is wrong with a private key.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum KeyFault {
    /// No PEM.
    #[error("it is not in PEM form")]
    NotPem,
    /// PEM of another kind of key.
    #[error("it is neither an RSA key of 2048 bits or more nor a P-256 key")]
    Unknown,
    /// It is one, and does not sign.
    #[error("signing fails")]
    Signing,
}

impl CredentialsError {
    pub(super) fn no_header(variable: &str) -> Self {
        Self::NoHeader { variable: variable.into() }
    }

    pub(super) fn unavailable(fault: Fault) -> Self {
        Self::Unavailable { fault, retry_after: Duration::ZERO }
    }

    /// The `code` that a script sees.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::NotConfigured { .. }
            | Self::NoHeader { .. }
            | Self::NoKey { .. }
            | Self::Refused { .. } => "CONFIGURATION_ERROR",
            Self::Unavailable { .. } => "SERVICE_UNAVAILABLE",
            Self::TimedOut => "TIMEOUT",
        }
    }

    /// When another try may help; `None`: not by itself.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => Some(*retry_after),
            Self::NotConfigured { .. }
            | Self::NoHeader { .. }
            | Self::NoKey { .. }
            | Self::Refused { .. }
            | Self::TimedOut => None,
        }
    }

    /// The same, to be tried again only after a wait.
    pub(super) fn after(self, wait: Duration) -> Self {
        match self {
            Self::Refused { status, word, .. } => Self::Refused { status, word, retry_after: wait },
            Self::Unavailable { fault, .. } => Self::Unavailable { fault, retry_after: wait },
            other @ (Self::NotConfigured { .. }
            | Self::NoHeader { .. }
            | Self::NoKey { .. }
            | Self::TimedOut) => other,
        }
    }
}

fn named(variables: &[Box<str>]) -> String {
    let names: Vec<String> = variables.iter().map(|name| format!("`{name}`")).collect();
    format!("{} {}", names.join(", "), if names.len() == 1 { "is" } else { "are" })
}
