//! The asking end of the admin socket.

use std::path::{Path, PathBuf};

use reqwest::Response;
use serde::de::DeserializeOwned;

use super::{query, wire};
use crate::id::EventId;
use crate::outbound::{self, OutboundError};
use crate::store::EventQuery;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// Nobody serves the socket.
    #[error("no running instance answers")]
    NotRunning,
    /// It answered with this error.
    #[error("the running instance refuses: {}", problem.error)]
    Refused {
        /// Of HTTP.
        status: u16,
        /// What it said.
        problem: wire::Problem,
    },
    /// The connection broke, or what came back is not what was asked for.
    #[error("the running instance cannot be asked: {0}")]
    Failed(#[from] reqwest::Error),
    /// This end cannot speak.
    #[error(transparent)]
    Client(#[from] OutboundError),
}

/// A page of a list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page {
    /// In the order that was asked for.
    pub(crate) events: Vec<wire::Event>,
    /// Where the next question goes on; `None`: there are no more.
    pub(crate) next: Option<EventId>,
}

/// Asks one instance. It belongs to the runtime that uses it first.
pub(crate) struct Client {
    socket: PathBuf,
    http: reqwest::Client,
}

impl Client {
    /// Whether anybody answers is found out with the first question.
    pub(crate) fn new(socket: &Path) -> Result<Self, AskError> {
        Ok(Self { socket: socket.to_owned(), http: outbound::local(socket)? })
    }

    /// A page of events.
    pub(crate) async fn events(&self, query: &EventQuery) -> Result<Page, AskError> {
        let response = self.get(&format!("/v1/events?{}", query::write(query))).await?;
        let next = response.headers().get(wire::NEXT);
        let next = next.and_then(|next| next.to_str().ok()?.parse().ok());
        Ok(Page { events: response.json().await?, next })
    }

    /// Those of these events that are there; `query::IDS_MAX` at most.
    pub(crate) async fn these(&self, ids: &[EventId]) -> Result<Vec<wire::Event>, AskError> {
        self.value(&format!("/v1/events?{}", query::write_ids(ids))).await
    }

    /// One with everything about it.
    pub(crate) async fn event(&self, id: EventId) -> Result<wire::EventDetail, AskError> {
        self.value(&format!("/v1/events/{id}")).await
    }

    /// Repeats one.
    pub(crate) async fn replay(&self, id: EventId) -> Result<wire::Replay, AskError> {
        let url = format!("http://rhaiway/v1/events/{id}/replay");
        Ok(self.send(self.http.post(url)).await?.json().await?)
    }

    async fn value<T: DeserializeOwned>(&self, path: &str) -> Result<T, AskError> {
        Ok(self.get(path).await?.json().await?)
    }

    async fn get(&self, path: &str) -> Result<Response, AskError> {
        self.send(self.http.get(format!("http://rhaiway{path}"))).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Response, AskError> {
        if !self.socket.exists() {
            return Err(AskError::NotRunning);
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_connect() => return Err(AskError::NotRunning),
            Err(error) => return Err(error.into()),
        };
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let problem = response
            .json::<wire::Problem>()
            .await
            .unwrap_or_else(|_| wire::Problem { error: status.to_string(), code: String::new() });
        Err(AskError::Refused { status: status.as_u16(), problem })
    }
}
