//! How JSON from outside is read: BOM, digits past i64, depth, surrogates.

use std::borrow::Cow;

/// The bytes are no JSON that a script can be given.
#[derive(Debug, thiserror::Error)]
#[error("not UTF-8")]
pub(crate) struct JsonError;

/// JSON text as every reader takes it.
pub(crate) fn prepare(bytes: &[u8]) -> Result<Cow<'_, str>, JsonError> {
    std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| JsonError)
}
