//! The program's log: text on a terminal, JSON otherwise, to stderr. Lines that a slow or closed reader does not take are dropped, never waited for
//! in the way of a request. The level comes from RUST_LOG, `info` without it.

use std::io::{self, Write};
use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::output::Output;
use crate::config::process_variable;

/// Lines that wait to be written.
const LINES_MAX: usize = 8192;

/// Sets the process's log up; to be called once.
pub(super) fn start(output: &Output) -> io::Result<()> {
    let filter = process_variable("RUST_LOG")
        .and_then(|text| EnvFilter::try_new(text).ok())
        .unwrap_or_else(|| EnvFilter::new("info"));
    let (sender, receiver) = sync_channel(LINES_MAX);
    std::thread::Builder::new().name("rhaiway-log".to_owned()).spawn(move || write(&receiver))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Lines(sender));
    if output.is_terminal {
        builder.with_ansi(output.colour).with_target(false).init();
    } else {
        builder.json().flatten_event(true).with_current_span(false).with_span_list(false).init();
    }
    panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a part of Rhaiway panicked; this is a bug worth reporting");
    }));
    Ok(())
}

static DROPPED: AtomicU64 = AtomicU64::new(0);

#[derive(Clone)]
struct Lines(SyncSender<Vec<u8>>);

/// One line on its way.
struct Line<'a> {
    sender: &'a SyncSender<Vec<u8>>,
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
        match self.sender.try_send(std::mem::take(&mut self.text)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                _ = DROPPED.fetch_add(1, Ordering::Relaxed)
            }
        }
    }
}

/// The writing thread. Errors of stderr are nobody's business.
fn write(lines: &Receiver<Vec<u8>>) {
    let mut stderr = io::stderr();
    while let Ok(line) = lines.recv() {
        _ = stderr.write_all(&line);
        let dropped = DROPPED.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            _ = writeln!(stderr, "{dropped} log lines were dropped, for nobody read them in time");
        }
    }
}
