//! A client's socket. hyper reads and writes it; a route's run looks at it to learn that the client has left; when all is said it is closed in
//! a way that lets the client see the last answer. All of that happens on one thread, and no borrow lives across a wait.

use std::cell::RefCell;
use std::future::{pending, poll_fn};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep, timeout};

/// A client that takes no byte of its answer for so long is cut.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client that still sends gets to see why it is not listened to.
const LINGER: Duration = Duration::from_secs(1);

/// One connection's stream, shared by those who serve it.
#[derive(Clone)]
pub(super) struct Stream(Rc<RefCell<TcpStream>>);

/// What hyper gets.
pub(super) struct Socket {
    stream: Stream,
    /// Runs while the client takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Stream {
    pub(super) fn new(stream: TcpStream) -> Self {
        _ = stream.set_nodelay(true);
        Self(Rc::new(RefCell::new(stream)))
    }

    pub(super) fn socket(&self) -> Socket {
        Socket { stream: self.clone(), stalled: None }
    }

    /// Ends when the client closes or is gone. One that had closed its half already, and only waits for its answer, never leaves; nor does
    /// one that has sent more, for its end cannot be seen behind that.
    pub(super) async fn left(&self) {
        let seen = SockRef::from(&*self.0.borrow()).peek(&mut [MaybeUninit::uninit()]);
        match seen {
            Ok(_) => return pending().await,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_reset) => return,
        }
        let mut byte = [0];
        let look = |context: &mut Context<'_>| {
            self.0.borrow().poll_peek(context, &mut ReadBuf::new(&mut byte))
        };
        if let Ok(1..) = poll_fn(look).await {
            pending().await
        }
    }

    /// Sends what fits without waiting.
    pub(super) fn send_now(&self, bytes: &[u8]) {
        _ = SockRef::from(&*self.0.borrow()).send(bytes);
    }

    /// Closes our half, then reads and forgets what still comes: closing over unread bytes would make the kernel reset the connection, and
    /// the answer might be lost with it.
    pub(super) async fn linger(&self) {
        _ = SockRef::from(&*self.0.borrow()).shutdown(Shutdown::Write);
        let mut bytes = [MaybeUninit::uninit(); 4096];
        let mut forget = |context: &mut Context<'_>| {
            let mut buffer = ReadBuf::uninit(&mut bytes);
            ready!(Pin::new(&mut *self.0.borrow_mut()).poll_read(context, &mut buffer))?;
            Poll::Ready(io::Result::Ok(buffer.filled().len()))
        };
        let until_closed = async { while let Ok(1..) = poll_fn(&mut forget).await {} };
        _ = timeout(LINGER, until_closed).await;
    }
}

impl Socket {
    fn in_time<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(WRITE_TIMEOUT)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream.0.borrow_mut()).poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut *self.stream.0.borrow_mut()).poll_write(context, bytes);
        self.in_time(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written =
            Pin::new(&mut *self.stream.0.borrow_mut()).poll_write_vectored(context, slices);
        self.in_time(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream.0.borrow_mut()).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream.0.borrow_mut()).poll_shutdown(context)
    }
}
