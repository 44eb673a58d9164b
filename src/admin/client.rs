//! The asking end of the admin socket.

use std::path::Path;

use serde::de::DeserializeOwned;

use super::wire;
use crate::outbound::{self, OutboundError};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// Nobody serves the socket.
    #[error("no running instance answers")]
    NotRunning,
    /// It answered with this error.
    #[error("the running instance refuses: {0}")]
    Refused(String),
    /// The connection broke, or what came back is not what was asked for.
    #[error("the running instance cannot be asked: {0}")]
    Failed(#[from] reqwest::Error),
    /// This end cannot speak.
    #[error(transparent)]
    Client(#[from] OutboundError),
}

/// Asks for a path such as `/v1/events?limit=1`.
pub(crate) async fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T, AskError> {
    if !socket.exists() {
        return Err(AskError::NotRunning);
    }
    let client = outbound::local(socket)?;
    let response = match client.get(format!("http://rhaiway{path}")).send().await {
        Ok(response) => response,
        Err(error) if error.is_connect() => return Err(AskError::NotRunning),
        Err(error) => return Err(error.into()),
    };
    if response.status().is_success() {
        return Ok(response.json().await?);
    }
    let status = response.status();
    let problem = response.json::<wire::Problem>().await;
    Err(AskError::Refused(problem.map_or_else(|_| status.to_string(), |problem| problem.error)))
}
