//! What a request brings and an answer carries, without a box: a body that hyper reads as it comes, bytes that are there, or a stream: one
//! that a script writes, or one of a provider that goes through.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};

use crate::execution::Pieces;
use crate::execution::pipe::{Cut, Outlet};

/// A body.
pub(super) enum Body {
    Incoming(Incoming),
    /// What is not sent yet.
    Whole(Bytes),
    /// What a run writes.
    Piped(Outlet),
    /// What a provider sends, as long as the client is there.
    Passed {
        pieces: Pieces,
        left: Pin<Box<dyn Future<Output = ()>>>,
    },
}

/// Why a body breaks off.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error(transparent)]
    Incoming(#[from] hyper::Error),
    /// The connection is closed in the middle, so that the client sees it too.
    #[error("the stream was cut")]
    Cut,
}

impl Body {
    pub(super) fn empty() -> Self {
        Self::Whole(Bytes::new())
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Self {
        Self::Whole(bytes.into())
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Incoming(incoming) => {
                Pin::new(incoming).poll_frame(context).map_err(Broken::from)
            }
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Piped(outlet) => outlet
                .poll_take(context)
                .map(|taken| Some(taken?.map(Frame::data).map_err(|Cut| Broken::Cut))),
            Self::Passed { pieces, left } => {
                // While nothing comes nothing is written either, and only this tells that nobody waits any more.
                if left.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Some(Err(Broken::Cut)));
                }
                let piece = pieces.as_mut().poll_next(context);
                piece.map(|piece| Some(piece?.map(Frame::data).map_err(|_said| Broken::Cut)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Incoming(incoming) => incoming.is_end_stream(),
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Piped(_) | Self::Passed { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Incoming(incoming) => incoming.size_hint(),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Piped(_) | Self::Passed { .. } => SizeHint::default(),
        }
    }
}
