//! What a request brings and an answer carries, without a box: a body that hyper reads as it comes, bytes that are there, or a file that is read
//! as fast as the client takes it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};

use crate::payload::Payload;

/// A body.
#[derive(Debug)]
pub(super) enum Body {
    Incoming(Incoming),
    /// What is not sent yet.
    Whole(Bytes),
    /// A file on disk.
    File(Sending),
}

/// A file on its way out.
pub(super) struct Sending {
    file: Payload,
    sent: u64,
    /// The chunk that is being read.
    reading: Option<Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send>>>,
}

/// Why a body breaks off. Who sends or takes it sees the connection end.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// The client's.
    #[error(transparent)]
    Connection(#[from] hyper::Error),
    /// Of our own disk.
    #[error("a spool file cannot be read: {0}")]
    File(#[from] io::Error),
}

impl Body {
    pub(super) fn empty() -> Self {
        Self::Whole(Bytes::new())
    }

    pub(super) fn of(payload: Payload) -> Self {
        match payload.in_memory() {
            Some(bytes) => Self::Whole(bytes.clone()),
            None => Self::File(Sending { file: payload, sent: 0, reading: None }),
        }
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Self {
        Self::Whole(bytes.into())
    }
}

impl Sending {
    fn left(&self) -> u64 {
        self.file.len() - self.sent
    }

    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.left() == 0 {
            return Poll::Ready(None);
        }
        let reading = self.reading.get_or_insert_with(|| {
            let (file, sent) = (self.file.clone(), self.sent);
            Box::pin(async move { file.read_from(sent).await })
        });
        let chunk = ready!(reading.as_mut().poll(context));
        self.reading = None;
        match &chunk {
            Ok(bytes) => self.sent += bytes.len() as u64,
            Err(error) => {
                tracing::error!("an answer broke off: a spool file cannot be read: {error}")
            }
        }
        Poll::Ready(Some(chunk))
    }
}

impl std::fmt::Debug for Sending {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:?}, {} of them sent", self.file, self.sent)
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Incoming(incoming) => {
                Pin::new(incoming).poll_frame(context).map_err(BodyError::from)
            }
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::File(file) => {
                let chunk = ready!(file.poll_chunk(context));
                Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk?))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Incoming(incoming) => incoming.is_end_stream(),
            Self::Whole(bytes) => bytes.is_empty(),
            Self::File(file) => file.left() == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Incoming(incoming) => incoming.size_hint(),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::File(file) => SizeHint::with_exact(file.left()),
        }
    }
}
