//! The way of a stream's bytes from the run that writes them to the connection that sends them, both on one worker. It holds 64 KiB: who writes more
//! waits until the client has taken some.
//!
//! A pipe whose writer is gone without a word is cut, and never looks as if the stream had come to its end.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};

use crate::script::host_call::{Form, PIECE_BYTES_MAX};

/// Bytes that wait in one pipe: what keeps a connection busy while the run has its turn, and lets thousands of slow readers be.
const ROOM_BYTES: usize = PIECE_BYTES_MAX;

/// The end that is written to.
pub(crate) struct Inlet(Rc<RefCell<Pipe>>);

/// The end that is read.
pub(crate) struct Outlet(Rc<RefCell<Pipe>>);

#[derive(Default)]
struct Pipe {
    bytes: BytesMut,
    /// Of the first piece.
    form: Option<Form>,
    end: Option<End>,
    /// Nobody reads any more.
    abandoned: bool,
    reader: Option<Waker>,
    /// Branches of one run may write at the same time.
    writers: Vec<Waker>,
}

#[derive(Clone, Copy)]
enum End {
    Whole,
    Cut,
}

/// The stream broke off.
#[derive(Debug)]
pub(crate) struct Cut;

/// What became of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is on its way.
    Yes,
    /// There is no room now.
    Full,
    /// Nobody reads any more.
    Abandoned,
}

/// Both ends.
pub(crate) fn new() -> (Inlet, Outlet) {
    let pipe = Rc::new(RefCell::new(Pipe::default()));
    (Inlet(Rc::clone(&pipe)), Outlet(pipe))
}

impl Inlet {
    /// Puts a piece in where it has room. One that is larger than the pipe goes into an empty one.
    pub(crate) fn try_write(&self, bytes: &[u8], form: Form) -> Taken {
        let mut pipe = self.0.borrow_mut();
        if pipe.abandoned {
            return Taken::Abandoned;
        }
        if !pipe.bytes.is_empty() && pipe.bytes.len() + bytes.len() > ROOM_BYTES {
            return Taken::Full;
        }
        pipe.form.get_or_insert(form);
        pipe.bytes.extend_from_slice(bytes);
        if let Some(reader) = pipe.reader.take() {
            reader.wake();
        }
        Taken::Yes
    }

    /// Puts a piece in as soon as it has room; whether anybody still reads.
    pub(crate) async fn write(&self, bytes: &[u8], form: Form) -> bool {
        poll_fn(|context| match self.try_write(bytes, form) {
            Taken::Yes => Poll::Ready(true),
            Taken::Abandoned => Poll::Ready(false),
            Taken::Full => {
                self.0.borrow_mut().writers.push(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    /// What the stream is, once something was written.
    pub(crate) fn form(&self) -> Option<Form> {
        self.0.borrow().form
    }

    /// The stream is whole.
    pub(crate) fn end(&self) {
        self.0.borrow_mut().end_as(End::Whole);
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        self.0.borrow_mut().end_as(End::Cut);
    }
}

impl Pipe {
    fn end_as(&mut self, end: End) {
        self.end.get_or_insert(end);
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    fn let_writers_in(&mut self) {
        self.writers.drain(..).for_each(Waker::wake);
    }
}

impl Outlet {
    /// All that waits; `None`: the stream has come to its end.
    pub(crate) fn poll_take(&self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        let mut pipe = self.0.borrow_mut();
        if !pipe.bytes.is_empty() {
            let bytes = pipe.bytes.split().freeze();
            pipe.let_writers_in();
            return Poll::Ready(Some(Ok(bytes)));
        }
        match pipe.end {
            Some(End::Whole) => Poll::Ready(None),
            Some(End::Cut) => Poll::Ready(Some(Err(Cut))),
            None => {
                pipe.reader = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        let mut pipe = self.0.borrow_mut();
        pipe.abandoned = true;
        pipe.bytes = BytesMut::new();
        pipe.let_writers_in();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    async fn take(outlet: &Outlet) -> Option<Result<Bytes, Cut>> {
        poll_fn(|context| outlet.poll_take(context)).await
    }

    async fn taken(outlet: &Outlet) -> String {
        match take(outlet).await {
            Some(Ok(bytes)) => String::from_utf8(bytes.to_vec()).unwrap(),
            Some(Err(Cut)) => "cut".to_owned(),
            None => "end".to_owned(),
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_is_written_comes_out_in_order_and_then_the_end() {
        let (inlet, outlet) = new();
        assert!(taken(&outlet).now_or_never().is_none());
        assert_eq!(inlet.form(), None);
        assert!(inlet.write(b"a", Form::Text).await && inlet.write(b"b", Form::Bytes).await);
        assert_eq!(inlet.form(), Some(Form::Text));
        inlet.end();
        drop(inlet);
        assert_eq!(taken(&outlet).await, "ab");
        assert_eq!(taken(&outlet).await, "end");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_writer_that_goes_without_a_word_cuts_the_stream_behind_what_it_wrote() {
        let (inlet, outlet) = new();
        inlet.write(b"a", Form::Text).await;
        drop(inlet);
        assert_eq!(taken(&outlet).await, "a");
        assert_eq!(taken(&outlet).await, "cut");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn writers_wait_while_64_kib_are_on_their_way_and_all_go_on_when_there_is_room() {
        let (inlet, outlet) = new();
        let piece = vec![7; ROOM_BYTES];
        assert_eq!(inlet.try_write(&piece, Form::Bytes), Taken::Yes);
        assert_eq!(inlet.try_write(b"x", Form::Bytes), Taken::Full);
        let (first, second) = (inlet.write(b"x", Form::Bytes), inlet.write(b"y", Form::Bytes));
        let reading = async {
            let whole = take(&outlet).await.unwrap().unwrap();
            let mut rest = String::new();
            while rest.len() < 2 {
                rest.push_str(&taken(&outlet).await);
            }
            (whole.len(), rest)
        };
        let (first, second, (whole, rest)) = tokio::join!(first, second, reading);
        assert!(first && second);
        assert_eq!(whole, ROOM_BYTES);
        // Which of them comes first is nobody's promise.
        assert!(["xy", "yx"].contains(&rest.as_str()), "{rest}");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_reader_that_leaves_lets_waiting_writers_know() {
        let (inlet, outlet) = new();
        inlet.write(&vec![7; ROOM_BYTES], Form::Bytes).await;
        let writing = inlet.write(b"x", Form::Bytes);
        let leaving = async {
            tokio::task::yield_now().await;
            drop(outlet);
        };
        let (written, ()) = tokio::join!(writing, leaving);
        assert!(!written);
        assert_eq!(inlet.try_write(b"x", Form::Bytes), Taken::Abandoned);
    }
}
