//! The program's log: text on a terminal, JSON otherwise, to stderr. Lines that a slow or closed reader does not take are dropped, never waited for
//! in the way of a request. No secret that this process holds gets into a line, whoever wrote it. The level comes from RUST_LOG, `info` without it.

use std::io::{self, Write};
use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::output::Output;
use crate::config::process_variable;
use crate::{clock, redact};

/// Lines that wait to be written.
const LINES_MAX: usize = 8192;

/// Lines go out together that come within so much time of those before; nobody sees the difference.
const PIECE_TIME: Duration = Duration::from_millis(2);

/// Bytes that go out together.
const PIECE_BYTES: usize = 64 << 10;

/// How long the end of the process waits for a reader that does not take the last lines.
const LAST_LINES: Duration = Duration::from_millis(500);

/// The running log. What is written when it is dropped still goes out.
pub(super) struct Log {
    lines: SyncSender<Written>,
    /// Told by the writing thread when it is through.
    through: Receiver<()>,
}

/// Sets the process's log up; to be called once.
pub(super) fn start(output: &Output) -> io::Result<Log> {
    let wanted = process_variable("RUST_LOG").filter(|text| !text.trim().is_empty());
    let (filter, refused) = match wanted.map(EnvFilter::try_new) {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new("info"), Some(error)),
        None => (EnvFilter::new("info"), None),
    };
    let (lines, received) = sync_channel(LINES_MAX);
    let (tell, through) = sync_channel(1);
    std::thread::Builder::new().name("rhaiway-log".to_owned()).spawn(move || {
        write(&received);
        _ = tell.send(());
    })?;
    let log = Log { lines, through };
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(Lines(log.lines.clone()));
    if output.is_terminal {
        builder.with_ansi(output.colour).with_target(false).init();
    } else {
        builder.json().flatten_event(true).with_current_span(false).with_span_list(false).init();
    }
    panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a part of Rhaiway panicked; this is a bug worth reporting");
    }));
    if let Some(error) = refused {
        tracing::warn!(
            "RUST_LOG is not understood ({error}), so the level is `info`; write it as in `rhaiway=debug`"
        );
    }
    Ok(log)
}

impl Log {
    /// A text for the terminal, in its order among the lines of the log.
    pub(super) fn printer(&self) -> Printer {
        Printer(self.lines.clone())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // Whoever blocks the pipe does not keep the process from ending.
        if self.lines.try_send(Written::End).is_ok() {
            _ = self.through.recv_timeout(LAST_LINES);
        }
    }
}

/// Prints between the lines of the log, and never waits for a reader either.
#[derive(Clone)]
pub(super) struct Printer(SyncSender<Written>);

impl Printer {
    pub(super) fn print(&self, text: &str) {
        push(&self.0, format!("{text}\n").into_bytes());
    }
}

/// What the writing thread gets.
enum Written {
    Text(Vec<u8>),
    End,
}

fn push(lines: &SyncSender<Written>, text: Vec<u8>) {
    match lines.try_send(Written::Text(text)) {
        Ok(()) => {}
        Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
            _ = DROPPED.fetch_add(1, Ordering::Relaxed)
        }
    }
}

static DROPPED: AtomicU64 = AtomicU64::new(0);

#[derive(Clone)]
struct Lines(SyncSender<Written>);

/// One line on its way.
struct Line<'a> {
    sender: &'a SyncSender<Written>,
    text: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { sender: &self.0, text: Vec::with_capacity(256) }
    }
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        push(self.sender, std::mem::take(&mut self.text));
    }
}

/// The writing thread. Errors of stderr are nobody's business. A line that comes alone goes out at once; of many that come close together those of a few
/// milliseconds go out in one piece, so that neither they nor the threads that write them wake anybody for each.
fn write(lines: &Receiver<Written>) {
    let mut stderr = io::stderr();
    let mut written_at: Option<Instant> = None;
    let mut piece = Vec::new();
    while let Ok(Written::Text(line)) = lines.recv() {
        let since = written_at.map_or(PIECE_TIME, |at| clock::instant().duration_since(at));
        if let Some(rest) = PIECE_TIME.checked_sub(since) {
            std::thread::sleep(rest);
        }
        piece.extend_from_slice(&line);
        let mut ends = false;
        while piece.len() < PIECE_BYTES {
            match lines.try_recv() {
                Ok(Written::Text(line)) => piece.extend_from_slice(&line),
                Ok(Written::End) => ends = true,
                Err(_) => break,
            }
        }
        // Here and not where it was written: no request waits for the search.
        let redacted = redact::current().replaced(&piece);
        _ = stderr.write_all(redacted.as_deref().unwrap_or(&piece));
        written_at = Some(clock::instant());
        piece.clear();
        let dropped = DROPPED.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            _ = writeln!(stderr, "{dropped} log lines were dropped, for nobody read them in time");
        }
        if ends {
            break;
        }
    }
}
