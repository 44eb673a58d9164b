//! The only values that are secret. They are wrapped from the moment they are read; nothing prints them, and `Debug` says `[secret]`.

use secrecy::{ExposeSecret, SecretString};

/// One secret and the variable it came from.
#[derive(Clone, Debug)]
pub(crate) struct Secret {
    /// The variable's name, which is no secret.
    pub(crate) variable: Box<str>,
    value: SecretString,
}

impl Secret {
    pub(crate) fn new(variable: &str, value: String) -> Self {
        Self { variable: variable.into(), value: SecretString::from(value) }
    }

    /// The value itself: only for the place that signs, verifies or sends it.
    pub(crate) fn expose(&self) -> &str {
        self.value.expose_secret()
    }
}

/// The secrets of one webhook, newest first; several while one is being rotated.
#[derive(Clone, Debug, Default)]
pub(crate) struct SecretSet {
    pub(crate) set: Vec<Secret>,
    /// Variables that config names and the environment lacks.
    pub(crate) missing: Vec<Box<str>>,
}
