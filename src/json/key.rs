//! A key of an object, compared where it is read: nothing is copied for those that are not looked for.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Visitor};

/// Whether a key is this one.
pub(crate) struct Is<'n>(pub(crate) &'n str);

impl<'a> DeserializeSeed<'a> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(key == self.0)
    }
}
