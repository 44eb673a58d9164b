//! The serving end of the admin socket. Its file has mode 0600 in a folder of mode 0700; a stale one is replaced, a living one is not.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::{Path as PathParameter, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use super::wire;
use crate::id::EventId;
use crate::server::Process;
use crate::store::{EventQuery, JobState, Store, StoreError};

/// Events of one answer, at most.
pub(crate) const LIMIT_MAX: usize = 1000;
/// And where nobody says.
const LIMIT: usize = 50;

/// Why the socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    /// Somebody answers on it.
    #[error("another instance serves the admin socket {}; stop it, or set another `admin.socket`", .0.display())]
    Taken(PathBuf),
    /// The folder or the file cannot be made.
    #[error("the admin socket {} cannot be served: {error}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

#[derive(Clone)]
struct Shared {
    store: Arc<dyn Store>,
    process: Arc<Process>,
}

/// Serves until `stop` says so.
pub(crate) async fn start(
    socket: &Path,
    store: &Arc<dyn Store>,
    process: &Arc<Process>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), BindError> {
    let listener = bind(socket).await?;
    let app = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/events", get(events))
        .route("/v1/events/{id}", get(event))
        .fallback(|| async { problem(StatusCode::NOT_FOUND, "NOT_FOUND", "No such thing") })
        .with_state(Shared { store: Arc::clone(store), process: Arc::clone(process) });
    let socket = socket.to_owned();
    tokio::spawn(async move {
        let serving = axum::serve(listener, app)
            .with_graceful_shutdown(async move { _ = stop.wait_for(|stop| *stop).await });
        if let Err(error) = serving.await {
            tracing::error!("the admin socket is closed: {error}");
        }
        _ = std::fs::remove_file(socket);
    });
    Ok(())
}

async fn bind(path: &Path) -> Result<UnixListener, BindError> {
    let failed = |error| BindError::Io { path: path.to_owned(), error };
    if let Some(folder) = path.parent()
        && !folder.exists()
    {
        std::fs::create_dir_all(folder).map_err(failed)?;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
    }
    if path.exists() {
        if UnixStream::connect(path).await.is_ok() {
            return Err(BindError::Taken(path.to_owned()));
        }
        std::fs::remove_file(path).map_err(failed)?;
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

async fn status(State(shared): State<Shared>) -> Response {
    let counts = match shared.store.counts().await {
        Ok(counts) => counts,
        Err(error) => return unavailable(&error),
    };
    let generation = shared.process.current.load();
    Json(wire::Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        generation: generation.number,
        scripts: generation.scripts.len(),
        broken_scripts: generation.broken.iter().map(ToString::to_string).collect(),
        pending: counts.pending,
        dead_letters: counts.dead,
    })
    .into_response()
}

async fn events(State(shared): State<Shared>, RawQuery(query): RawQuery) -> Response {
    let query = match read_query(query.as_deref().unwrap_or_default()) {
        Ok(query) => query,
        Err(error) => return problem(StatusCode::BAD_REQUEST, "INVALID_PAYLOAD", &error),
    };
    match shared.store.events(query).await {
        Ok(events) => {
            Json(events.iter().map(wire::Event::from).collect::<Vec<_>>()).into_response()
        }
        Err(error) => unavailable(&error),
    }
}

async fn event(State(shared): State<Shared>, PathParameter(id): PathParameter<String>) -> Response {
    let Ok(id) = id.parse::<EventId>() else { return no_such_event() };
    match shared.store.event(id).await {
        Ok(Some(detail)) => Json(wire::EventDetail::from(&detail)).into_response(),
        Ok(None) => no_such_event(),
        Err(error) => unavailable(&error),
    }
}

/// `webhook=&state=&after=&limit=`: what a list is narrowed by. `after` is the last event of the page before.
fn read_query(query: &str) -> Result<EventQuery, String> {
    let mut wanted = EventQuery { limit: LIMIT, ..EventQuery::default() };
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "webhook" => wanted.webhook = Some(value.into()),
            "state" => {
                let state = JobState::from_word(&value);
                wanted.state =
                    Some(state.ok_or_else(|| format!("`state` is one of {}", states()))?);
            }
            "after" => {
                wanted.before = Some(value.parse().map_err(|error| format!("`after`: {error}"))?)
            }
            "limit" => {
                let limit = value.parse::<usize>().ok().filter(|limit| *limit > 0);
                wanted.limit = limit.ok_or("`limit` is a number from 1 on")?.min(LIMIT_MAX);
            }
            _ => return Err(format!("unknown parameter `{}`", name.escape_debug())),
        }
    }
    Ok(wanted)
}

/// The words of the states, for messages.
pub(crate) fn states() -> String {
    JobState::ALL.map(JobState::word).join(", ")
}

fn no_such_event() -> Response {
    problem(StatusCode::NOT_FOUND, "NOT_FOUND", "No such event")
}

fn unavailable(error: &StoreError) -> Response {
    problem(StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE", &error.to_string())
}

fn problem(status: StatusCode, code: &str, error: &str) -> Response {
    (status, Json(wire::Problem { error: error.to_owned(), code: code.to_owned() })).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_that_cannot_be_meant_is_refused_and_a_limit_is_capped() {
        assert_eq!(read_query("limit=1000000000").unwrap().limit, LIMIT_MAX);
        assert_eq!(read_query("state=dead&webhook=clerk").unwrap().state, Some(JobState::Dead));
        for query in ["limit=-1", "limit=abc", "limit=0", "state=lost", "after=x", "wehbook=clerk"]
        {
            assert!(read_query(query).is_err(), "{query}");
        }
    }
}
