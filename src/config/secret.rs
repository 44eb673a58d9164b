//! The only values that are secret. They are wrapped from the moment they are read; nothing prints them, and `Debug` says `[secret]`.
//! Here is also what a value looks like that somebody put in the wrong place.

use std::fmt;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use crate::redact::{Kept, keep};

/// One secret and the variable it came from. As long as it lives, its value is taken out of logs and errors (`redact`).
#[derive(Clone)]
pub(crate) struct Secret {
    /// The variable's name, which is no secret.
    pub(crate) variable: Box<str>,
    value: SecretString,
    /// `None` for what is no secret by itself.
    _kept: Option<Arc<Kept>>,
}

impl Secret {
    /// Wraps a value for good.
    pub(crate) fn new(variable: &str, value: String) -> Self {
        let kept = Some(Arc::new(keep(&value)));
        Self { variable: variable.into(), value: SecretString::from(value), _kept: kept }
    }

    /// Wraps a name that goes with a secret, such as a user's: it is not shown, but a word like `service` is not taken out of every log.
    pub(super) fn name(variable: &str, value: String) -> Self {
        Self { variable: variable.into(), value: SecretString::from(value), _kept: None }
    }

    /// The value itself: only for the place that signs, verifies or sends it.
    pub(crate) fn expose(&self) -> &str {
        self.value.expose_secret()
    }
}

/// For telling a new configuration from the running one; what a stranger sends is compared in constant time, elsewhere.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.variable == other.variable && self.expose() == other.expose()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[secret]")
    }
}

/// The secrets of one webhook, newest first; several while one is being rotated.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SecretSet {
    /// Those that can be used.
    pub(crate) set: Vec<Secret>,
    /// Variables that config names and that the environment lacks, or whose value is not usable.
    pub(crate) missing: Vec<Box<str>>,
}

/// Why a value cannot be a secret; it is then as if it were not set. An empty key would verify anything that is signed with an
/// empty key.
pub(super) fn unusable(value: &str) -> Option<&'static str> {
    if value.is_empty() {
        return Some("it is empty");
    }
    if value.trim().is_empty() {
        return Some("it holds only blanks");
    }
    if value.contains(['\n', '\r']) {
        return Some("there is a line break in it");
    }
    if value.trim() != value {
        return Some("there are blanks around it");
    }
    let quote = |quote: char| value.starts_with(quote) && value.ends_with(quote);
    if quote('"') || quote('\'') {
        return Some("there are quotes around it, which became part of the value");
    }
    None
}

/// What an API key begins with, and whose it is.
const API_KEYS: &[(&str, &str)] = &[
    ("sk_", "a secret API key"),
    ("pk_", "a publishable API key"),
    ("rk_", "a restricted API key"),
    ("sk-", "an API key of OpenAI's kind"),
    ("ghp_", "a GitHub token"),
    ("github_pat_", "a GitHub token"),
    ("xoxb-", "a Slack bot token"),
    ("xoxp-", "a Slack user token"),
];

/// The prefix by which a value is known as an API key, and what kind that is: no webhook is signed with one.
pub(super) fn api_key(value: &str) -> Option<(&'static str, &'static str)> {
    API_KEYS.iter().copied().find(|(prefix, _)| value.starts_with(prefix))
}

/// Whether a text is a secret's value rather than the name of a variable.
pub(super) fn is_value(text: &str) -> bool {
    text.starts_with("whsec_") || api_key(text).is_some()
}

/// The text with stars for every word that is a secret's value by its prefix, byte for byte: somebody may have put one into
/// config.toml, and frames show lines of it.
pub(super) fn mask(text: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_-+/=".contains(c);
    let mut masked = String::with_capacity(text.len());
    for word in text.split_inclusive(|c: char| !is_part(c)) {
        let end = word.trim_end_matches(|c: char| !is_part(c)).len();
        if end > 12 && is_value(&word[..end]) {
            masked.extend(std::iter::repeat_n('*', end));
            masked.push_str(&word[end..]);
        } else {
            masked.push_str(word);
        }
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_says_only_that_it_is_one() {
        let secret = Secret::new("CLERK_WEBHOOK_SECRET", "canary-7f3a".to_owned());
        assert_eq!(format!("{secret:?}"), "[secret]");
        let set = SecretSet { set: vec![secret], missing: vec!["OTHER".into()] };
        assert_eq!(format!("{set:?}"), "SecretSet { set: [[secret]], missing: [\"OTHER\"] }");
    }

    #[test]
    fn w8_what_cannot_be_a_secret_is_told_apart_from_what_can() {
        for (value, usable) in [
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", true),
            ("a pass phrase", true),
            ("it's", true),
            ("", false),
            (" \t", false),
            ("\"whsec_x\"", false),
            ("'whsec_x'", false),
            ("\"", false),
            ("whsec_x\n", false),
            ("one\ntwo", false),
            (" whsec_x", false),
        ] {
            assert_eq!(unusable(value).is_none(), usable, "{value:?}");
        }
    }

    #[test]
    fn a_value_in_a_text_is_masked_byte_for_byte() {
        for (text, expected) in [
            ("secret_env = \"whsec_MfKQ9r8GKYqr\"\n", "secret_env = \"******************\"\n"),
            ("a sk_live_abcdefghij, b", "a ******************, b"),
            ("sk_short é whsec_", "sk_short é whsec_"),
            ("path = \"/api\"", "path = \"/api\""),
        ] {
            assert_eq!(mask(text), expected);
            assert_eq!(mask(text).len(), text.len());
        }
    }
}
