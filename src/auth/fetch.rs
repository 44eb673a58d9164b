//! One fetch of a key set: within a time and a size, from the URL that config names and from nowhere else. No redirect is followed, whatever a token
//! or an issuer says, and only 200 with a good set counts.

use std::time::Duration;

use super::key_set::{BadSet, KeySet};
use crate::outbound::{self, Trust};

/// For the whole of it; requests wait for the first one.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a set: `key_set` takes 100 keys, which have up to 2.5 KiB with their certificates.
const BYTES_MAX: usize = 256 << 10;

/// Why no set was fetched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FetchError {
    #[error("it answered {0}, not 200")]
    Status(u16),
    #[error(
        "it redirects, and redirects are not followed; name the URL that it leads to as `jwks_url`"
    )]
    Redirect,
    #[error("it has not answered within {} s", TIMEOUT.as_secs())]
    TimedOut,
    #[error("its answer is larger than {} KiB", BYTES_MAX >> 10)]
    TooLarge,
    #[error("its answer is no key set: {0}")]
    NoSet(#[from] BadSet),
    /// The innermost cause, which names no secret: the URL is one that config shows.
    #[error("{0}")]
    Unreachable(String),
}

pub(super) async fn fetch(url: &str) -> Result<KeySet, FetchError> {
    let trust = if url.starts_with("http:") { Trust::Nobody } else { Trust::System };
    // It reads the system's certificates, for which no worker should stand still.
    let client = tokio::task::spawn_blocking(move || outbound::client(TIMEOUT, trust)).await;
    let client = client
        .map_err(|error| FetchError::Unreachable(error.to_string()))?
        .map_err(|error| FetchError::Unreachable(error.to_string()))?;
    let mut response = client.get(url).header("accept", "application/json").send().await?;
    match response.status().as_u16() {
        200 => {}
        300..=399 => return Err(FetchError::Redirect),
        status => return Err(FetchError::Status(status)),
    }
    let mut text = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if text.len() + chunk.len() > BYTES_MAX {
            return Err(FetchError::TooLarge);
        }
        text.extend_from_slice(&chunk);
    }
    Ok(KeySet::read(&text)?)
}

impl From<reqwest::Error> for FetchError {
    fn from(error: reqwest::Error) -> Self {
        if error.is_timeout() {
            return Self::TimedOut;
        }
        let mut cause: &dyn std::error::Error = &error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        Self::Unreachable(cause.to_string())
    }
}
