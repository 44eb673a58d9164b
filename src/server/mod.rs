//! Sockets and connections of one worker: accept, serve HTTP/1 with time-outs, drain at the end. Each worker has a listener of its own on the
//! same port, so the kernel hands connections round and no worker waits for another.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use axum::body::Body;
use axum::http::Request;
use axum::{Router, extract::State};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use send_wrapper::SendWrapper;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::clock;
use crate::execution::Executor;
use crate::generation::Generation;
use crate::inbox::Inbox;
use crate::store::Store;

mod answer;
mod cors;
mod request;
mod route;
mod router;
pub(crate) mod listen;

/// For the head of a request, and for an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Lines of a request's head.
const HEADERS_MAX: usize = 100;
/// After an error of `accept`, such as no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long one answer of the store to `/readyz` holds.
const READY_HOLDS: Duration = Duration::from_millis(500);
/// What a connection past the limit hears.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 97\r\n\r\n{\"error\":\"Service temporarily unavailable. Please try again later.\",\"code\":\"SERVICE_UNAVAILABLE\"}";

/// The state of the whole process, as far as answers need it.
pub(crate) struct Process {
    pub(crate) current: Arc<ArcSwap<Generation>>,
    pub(crate) draining: AtomicBool,
}

/// One worker's front: what its connections share.
pub(crate) struct Front {
    process: Arc<Process>,
    pinned: RefCell<Rc<Arc<Generation>>>,
    pub(crate) executor: Rc<Executor>,
    pub(crate) inbox: Rc<Inbox>,
    store: Arc<dyn Store>,
    connections: Cell<usize>,
    connections_max: usize,
    ready: Cell<Option<(Instant, bool)>>,
}

impl Front {
    pub(crate) fn new(
        process: &Arc<Process>,
        executor: &Rc<Executor>,
        inbox: &Rc<Inbox>,
        connections_max: usize,
    ) -> Rc<Self> {
        Rc::new(Self {
            process: Arc::clone(process),
            pinned: RefCell::new(Rc::new(process.current.load_full())),
            executor: Rc::clone(executor),
            inbox: Rc::clone(inbox),
            store: Arc::clone(&executor.store),
            connections: Cell::new(0),
            connections_max,
            ready: Cell::new(None),
        })
    }

    /// The generation of now, for one request or attempt. Counted within this worker, so that no two workers share a counter.
    pub(crate) fn pin(&self) -> Rc<Arc<Generation>> {
        let current = self.process.current.load();
        if !Arc::ptr_eq(&current, &self.pinned.borrow()) {
            self.pinned.replace(Rc::new(Arc::clone(&current)));
        }
        Rc::clone(&self.pinned.borrow())
    }

    /// Open connections of this worker.
    pub(crate) fn connections(&self) -> usize {
        self.connections.get()
    }

    async fn is_ready(&self) -> bool {
        if self.process.draining.load(Ordering::Acquire) {
            return false;
        }
        let now = clock::instant();
        if let Some((asked, ready)) = self.ready.get()
            && now.saturating_duration_since(asked) < READY_HOLDS
        {
            return ready;
        }
        let ready = self.store.ping().await.is_ok();
        self.ready.set(Some((now, ready)));
        ready
    }
}

/// Accepts until `stop` says so; connections that are open then finish their request and close.
pub(crate) async fn serve(
    front: Rc<Front>,
    listener: TcpListener,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((stream, peer)) if front.connections.get() < front.connections_max => {
                front.connections.set(front.connections.get() + 1);
                let (front, stop) = (Rc::clone(&front), stop.clone());
                tokio::task::spawn_local(async move {
                    connection(&front, stream, peer.ip(), stop).await;
                    front.connections.set(front.connections.get() - 1);
                });
            }
            Ok((mut stream, _)) => {
                tokio::task::spawn_local(async move {
                    _ = tokio::time::timeout(ACCEPT_PAUSE, stream.write_all(FULL)).await
                });
            }
            Err(error) => {
                tracing::warn!("a connection could not be accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What a handler finds: the worker's front, and who is at the other end.
type Shared = (SendWrapper<Rc<Front>>, IpAddr);

async fn connection(
    front: &Rc<Front>,
    stream: TcpStream,
    peer: IpAddr,
    mut stop: watch::Receiver<bool>,
) {
    _ = stream.set_nodelay(true);
    let app = Router::new().fallback(handle).with_state((SendWrapper::new(Rc::clone(front)), peer));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .half_close(true)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stop.wait_for(|stop| *stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::trace!("a connection ended: {error}");
    }
}

/// The bridge: axum wants handlers that are `Send`, and a run of a script never leaves its worker.
async fn handle(
    State((front, peer)): State<Shared>,
    request: Request<Body>,
) -> axum::http::Response<Body> {
    SendWrapper::new(async move { router::answer(&front, peer, request).await }).await
}
