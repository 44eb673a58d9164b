//! The serving end of the admin socket. Its file has mode 0600 in a folder of mode 0700; a stale one is replaced, a living one is not.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path as PathParameter, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::query::{self, Wanted};
use super::wire;
use crate::clock;
use crate::id::EventId;
use crate::inbox::Notes;
use crate::server::Process;
use crate::store::{Accepted, EventPage, Replayed, Store, StoreError};

/// Connections at once; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
/// For the head of a request, and for an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a request's head, its query included.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// After an error of `accept`, such as no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The longest path of a socket, its closing NUL apart (unix(7)), and one letter less for the name that it has while it is made.
const PATH_BYTES_MAX: usize = 106;

/// Why the socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    /// Somebody answers on it.
    #[error("another instance serves the admin socket {}; stop it, or set another `admin.socket`", .0.display())]
    Taken(PathBuf),
    /// Something else has its name.
    #[error("{} is no socket and is left alone; set another `admin.socket`", .0.display())]
    NotASocket(PathBuf),
    /// Longer than `sockaddr_un` takes.
    #[error("the path of the admin socket has {} bytes, a socket's may have {PATH_BYTES_MAX}; set a shorter `admin.socket`: {}", .0.as_os_str().len(), .0.display())]
    TooLong(PathBuf),
    /// The folder or the file cannot be made.
    #[error("the admin socket {} cannot be served: {error}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

/// A socket that is served from now on; nobody else can open it.
pub(crate) struct Bound {
    listener: UnixListener,
    path: PathBuf,
}

#[derive(Clone)]
struct Shared {
    store: Arc<dyn Store>,
    process: Arc<Process>,
    notes: Arc<Notes>,
}

/// Takes the socket: mode 0600, in a folder of mode 0700 where that has to be made. It gets its name when it has its mode, so that there is no
/// moment in which another user could open it.
pub(crate) async fn bind(path: &Path) -> Result<Bound, BindError> {
    let failed = |error| BindError::Io { path: path.to_owned(), error };
    if path.as_os_str().len() > PATH_BYTES_MAX {
        return Err(BindError::TooLong(path.to_owned()));
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    }
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(BindError::NotASocket(path.to_owned()));
        }
        Ok(_) if UnixStream::connect(path).await.is_ok() => {
            return Err(BindError::Taken(path.to_owned()));
        }
        // A stale one is replaced when ours gets its name.
        Ok(_) | Err(_) => {}
    }
    let mut making = path.as_os_str().to_owned();
    making.push("~");
    let making = PathBuf::from(making);
    if fs::symlink_metadata(&making).is_ok_and(|metadata| metadata.file_type().is_socket()) {
        fs::remove_file(&making).map_err(failed)?;
    }
    let listener = UnixListener::bind(&making).map_err(failed)?;
    fs::set_permissions(&making, Permissions::from_mode(0o600)).map_err(failed)?;
    fs::rename(&making, path).map_err(failed)?;
    Ok(Bound { listener, path: path.to_owned() })
}

/// Serves until `stop` says so; answers that are under way then are finished.
pub(crate) async fn serve(
    Bound { listener, path }: Bound,
    store: Arc<dyn Store>,
    process: Arc<Process>,
    notes: Arc<Notes>,
    mut stop: watch::Receiver<bool>,
) {
    let app = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/events", get(events))
        .route("/v1/events/{id}", get(event))
        .route("/v1/events/{id}/replay", post(replay))
        .fallback(|| async { problem(StatusCode::NOT_FOUND, "NOT_FOUND", "No such thing") })
        .with_state(Shared { store, process, notes });
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            () = told_to_stop(&mut stop) => break,
        };
        match accepted {
            Ok((stream, place)) => {
                let (app, stop) = (app.clone(), stop.clone());
                tokio::spawn(async move {
                    connection(app, stream, stop).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!("a connection to the admin socket could not be accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    _ = fs::remove_file(path);
}

async fn accept(
    listener: &UnixListener,
    places: &Arc<Semaphore>,
) -> io::Result<(UnixStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

async fn connection(app: Router, stream: UnixStream, mut stop: watch::Receiver<bool>) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told_to_stop(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::trace!("a connection to the admin socket ended: {error}");
    }
}

/// What `wait_for` gives must not be held on to.
async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    _ = stop.wait_for(|stop| *stop).await;
}

async fn status(State(shared): State<Shared>) -> Response {
    let counts = match shared.store.counts().await {
        Ok(counts) => counts,
        Err(error) => return unavailable(&error),
    };
    let generation = shared.process.current.load();
    let differs = shared.process.differs.load();
    Json(wire::Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        generation: generation.number,
        scripts: generation.scripts.len(),
        broken_scripts: generation.broken.iter().map(ToString::to_string).collect(),
        config_problems: differs.problems.clone(),
        waits_for_restart: differs.waiting.iter().map(ToString::to_string).collect(),
        pending: counts.pending,
        dead_letters: counts.dead,
        scheduled: counts.scheduled,
    })
    .into_response()
}

async fn events(State(shared): State<Shared>, RawQuery(query): RawQuery) -> Response {
    let query = match query::read(query.as_deref().unwrap_or_default()) {
        Ok(Wanted::Matching(query)) => query,
        Ok(Wanted::These(ids)) => return these(&shared, ids).await,
        Err(error) => return problem(StatusCode::BAD_REQUEST, "INVALID_PAYLOAD", &error),
    };
    match shared.store.events(query).await {
        Ok(EventPage { events, next }) => {
            let list = Json(events.iter().map(wire::Event::from).collect::<Vec<_>>());
            match next {
                Some(next) => ([(wire::NEXT, next.to_string())], list).into_response(),
                None => list.into_response(),
            }
        }
        Err(error) => unavailable(&error),
    }
}

/// Those of them that are there, in the order in which they were asked for.
async fn these(shared: &Shared, ids: Vec<EventId>) -> Response {
    let mut events = Vec::new();
    for id in ids {
        match shared.store.event(id).await {
            Ok(Some(detail)) => events.push(wire::Event::from(&detail.summary)),
            Ok(None) => {}
            Err(error) => return unavailable(&error),
        }
    }
    Json(events).into_response()
}

async fn event(State(shared): State<Shared>, PathParameter(id): PathParameter<String>) -> Response {
    let Ok(id) = id.parse::<EventId>() else { return no_such_event() };
    match shared.store.event(id).await {
        Ok(Some(detail)) => Json(wire::EventDetail::from(&detail)).into_response(),
        Ok(None) => no_such_event(),
        Err(error) => unavailable(&error),
    }
}

/// Repeats an event: a dead letter goes on with fresh attempts, everything else begins anew as another event.
async fn replay(
    State(shared): State<Shared>,
    PathParameter(id): PathParameter<String>,
) -> Response {
    let Ok(id) = id.parse::<EventId>() else { return no_such_event() };
    let event = match shared.store.event(id).await {
        Ok(Some(event)) => event,
        Ok(None) => return no_such_event(),
        Err(error) => return unavailable(&error),
    };
    let copy = EventId(clock::uuid());
    let (id, resumed) = match shared.store.replay(id, copy, clock::now()).await {
        Ok(Replayed::Resumed(seq)) => {
            shared.notes.taken(Accepted::Revived(seq), &event.summary.webhook);
            (id, true)
        }
        Ok(Replayed::Anew(accepted)) => {
            shared.notes.taken(accepted, &event.summary.webhook);
            (copy, false)
        }
        Ok(Replayed::NotEnded(state)) => {
            let error = format!("it has not ended: it is {state}, or an earlier replay of it is");
            return problem(StatusCode::CONFLICT, "CONFLICT", &error);
        }
        Ok(Replayed::NoPayload) => {
            let error = "its payload is no longer kept (`storage.retention`)";
            return problem(StatusCode::GONE, "GONE", error);
        }
        Ok(Replayed::Unknown) => return no_such_event(),
        Err(error) => return unavailable(&error),
    };
    tracing::info!(event = %id, resumed, "an event is replayed on request");
    (StatusCode::ACCEPTED, Json(wire::Replay { id: id.to_string(), resumed })).into_response()
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

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn x1_the_socket_is_its_owners_a_stale_one_is_replaced_and_a_living_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data/rhaiway.sock");
        block_on(async {
            let bound = bind(&path).await.unwrap();
            assert_eq!((mode(path.parent().unwrap()), mode(&path)), (0o700, 0o600));
            assert!(matches!(bind(&path).await, Err(BindError::Taken(_))));
            drop(bound);
            assert!(path.exists());
            bind(&path).await.unwrap();
            assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        });
    }

    #[test]
    fn a_file_that_is_no_socket_is_never_removed_and_a_path_too_long_for_one_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        fs::write(&path, "x").unwrap();
        assert!(matches!(block_on(bind(&path)), Err(BindError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "x");
        let long = folder.path().join("x".repeat(120));
        assert!(matches!(block_on(bind(&long)), Err(BindError::TooLong(_))));
    }
}
