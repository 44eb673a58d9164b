//! Sockets and connections of one worker: accept, serve HTTP/1 with time-outs, drain at the end. Each worker has a listener of its own on the
//! same port, so the kernel hands connections round and no worker waits for another.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use self::body::Body;
use self::socket::Stream;
use crate::clock;
use crate::execution::Executor;
use crate::generation::{Generation, Pinned};
use crate::inbox::Inbox;
use crate::payload::Spool;
use crate::store::Store;

mod answer;
mod body;
mod caller;
mod cors;
mod delivery;
mod limits;
mod recorded;
mod request;
mod route;
mod router;
mod socket;
mod turns;
mod upload;
pub(crate) mod listen;

pub(crate) use self::limits::Limits;
pub(crate) use self::turns::Turns;

/// For the head of a request, and for an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a request's head that hyper holds: room for the headers and the URI that `request::check` lets pass.
const HEAD_BYTES_MAX: usize = 128 << 10;
/// Lines of a request's head.
const HEADERS_MAX: usize = 100;
/// After an error of `accept`, such as no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long one answer of the store to `/readyz` holds.
const READY_HOLDS: Duration = Duration::from_millis(500);
/// Connections past the limit that are closed with patience; each holds a file descriptor, and 128 are kept free for all that is no client.
const REFUSED_MAX: usize = 16;

/// The state of the whole process, as far as answers need it.
pub(crate) struct Process {
    /// Swapped as a whole by the loader thread; each worker pins one for each request.
    pub(crate) current: Arc<ArcSwap<Generation>>,
    /// Set when the process stops; `/readyz` says so.
    pub(crate) draining: AtomicBool,
    /// Who runs for which delivery or request, where there can be several of one.
    pub(crate) turns: Arc<Turns>,
    /// How often callers have asked routes that have a rate.
    pub(crate) limits: Limits,
    /// How config and scripts in their files differ from what serves; swapped by the loader thread.
    pub(crate) differs: ArcSwap<Differs>,
    /// Where bodies wait that are too large for memory.
    pub(crate) spool: Arc<Spool>,
}

/// What stands in the files of config and scripts and does not serve.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Differs {
    /// Why a version of config, or the whole of both, is not used, a line a problem; empty where it is.
    pub(crate) problems: Vec<String>,
    /// Keys whose change waits for a restart.
    pub(crate) waiting: Vec<&'static str>,
}

/// One worker's front: what its connections share.
pub(crate) struct Front {
    process: Arc<Process>,
    pinned: RefCell<Pinned>,
    /// Runs the handlers of routes.
    pub(crate) executor: Rc<Executor>,
    /// Takes over what was accepted.
    pub(crate) inbox: Rc<Inbox>,
    store: Arc<dyn Store>,
    connections: Cell<usize>,
    /// Those that came when the process was stopping already; nobody waits for them.
    late: Cell<usize>,
    refused: Cell<usize>,
    /// Runs that go on when their connection is gone.
    under_way: Cell<usize>,
    connections_max: usize,
    ready: Cell<Option<(Instant, bool)>>,
}

/// Who is at the other end of a connection, and which worker serves it.
struct Client {
    front: Rc<Front>,
    ip: IpAddr,
    stream: Stream,
}

impl Front {
    /// For one worker, which takes `connections_max` connections at most.
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
            late: Cell::new(0),
            refused: Cell::new(0),
            under_way: Cell::new(0),
            connections_max,
            ready: Cell::new(None),
        })
    }

    /// The generation of now, for one request or attempt.
    pub(crate) fn pin(&self) -> Pinned {
        let current = self.process.current.load();
        if !Arc::ptr_eq(&current, &self.pinned.borrow()) {
            self.pinned.replace(Rc::new(Arc::clone(&current)));
        }
        Rc::clone(&self.pinned.borrow())
    }

    /// Open connections of this worker that a stop waits for.
    pub(crate) fn connections(&self) -> usize {
        self.connections.get()
    }

    /// Runs of this worker that a stop waits for, whether or not somebody still waits for their answer.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way.get()
    }

    fn is_full(&self) -> bool {
        self.connections.get() + self.late.get() >= self.connections_max
    }

    fn is_draining(&self) -> bool {
        self.process.draining.load(Ordering::Acquire)
    }

    async fn is_ready(&self) -> bool {
        if self.is_draining() {
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

/// Accepts for ever. While the process is stopping, new connections hear that it is not ready, and nothing else is begun; those that were open
/// when `stop` came finish their request and close.
pub(crate) async fn serve(front: Rc<Front>, listener: TcpListener, stop: watch::Receiver<bool>) {
    let mut failing = false;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                failing = false;
                admit(&front, stream, peer.ip(), &stop);
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                if !failing {
                    tracing::warn!("no connection can be accepted for now: {error}");
                }
                failing = true;
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The client was gone before it was accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

fn admit(front: &Rc<Front>, stream: TcpStream, ip: IpAddr, stop: &watch::Receiver<bool>) {
    let stream = Stream::new(stream);
    if front.is_full() {
        return refuse(front, stream);
    }
    let late = front.is_draining();
    let stop = (!late).then(|| stop.clone());
    let client = Rc::new(Client { front: Rc::clone(front), ip, stream });
    tokio::task::spawn_local(async move {
        let counter = if late { &client.front.late } else { &client.front.connections };
        let _counted = Counted::new(counter);
        connection(&client, stop).await;
        if !client.front.is_draining() {
            client.stream.linger().await;
        }
    });
}

/// Says why, and lets the client see it as long as there are not too many of them.
fn refuse(front: &Rc<Front>, stream: Stream) {
    stream.send_now(answer::full().as_bytes());
    if front.refused.get() < REFUSED_MAX {
        let front = Rc::clone(front);
        tokio::task::spawn_local(async move {
            let _counted = Counted::new(&front.refused);
            stream.linger().await;
        });
    }
}

/// Counts something while it lives, however it ends.
struct Counted<'a>(&'a Cell<usize>);

impl<'a> Counted<'a> {
    fn new(counter: &'a Cell<usize>) -> Self {
        counter.set(counter.get() + 1);
        Self(counter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Serves one connection to its end; without `stop`, one request.
async fn connection(client: &Rc<Client>, stop: Option<watch::Receiver<bool>>) {
    let answer = service_fn(|request: Request<Incoming>| {
        let client = Rc::clone(client);
        async move { Ok::<_, Infallible>(router::answer(&client, request.map(Body::Incoming)).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .keep_alive(stop.is_some())
        // A sender that closes its half and waits is answered; that a route's client has left is found out in `route.rs`.
        .half_close(true)
        .writev(false)
        .serve_connection(TokioIo::new(client.stream.socket()), answer);
    let mut connection = std::pin::pin!(connection);
    let stopped = async {
        match stop {
            Some(mut stop) => _ = stop.wait_for(|stop| *stop).await,
            None => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::trace!("a connection ended: {error}");
    }
}
