//! `rhaiway run`: the runtime, headless. It says in one screen what it serves, what is missing and what to try; then it logs.

use std::path::Path;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::logging::{self, Log, Printer};
use super::output::Output;
use super::{Exit, block_on, load_config, read_config, welcome};
use crate::config::Config;
use crate::config::live::Waiting;
use crate::frame::{Frame, Severity};
use crate::runtime::reload::Report;
use crate::runtime::{self, Runtime, StartError, Stop, limits, runs_that_fit};
use crate::units;

/// The code of a secret that is not set or not used.
const SECRET_MISSING: &str = "E0110";
/// Names of one line of the log; a file may have thousands of keys.
const NAMES_MAX: usize = 20;
/// Longer ways to this program are no help on a line of 80 columns.
const PROGRAM_MAX: usize = 32;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {}

/// Serves until a signal.
pub(super) fn run(output: &Output, config: &Path, _arguments: &Arguments) -> anyhow::Result<Exit> {
    let Some(config) = load_config(output, config) else { return Ok(Exit::Failed) };
    let log = logging::start(output)?;
    block_on(serve(output, &log, config))?
}

async fn serve(output: &Output, log: &Log, config: Config) -> anyhow::Result<Exit> {
    // Signals are listened to before anything starts, so that none of them finds its deadly default.
    let mut signals = Signals::new()?;
    let shown = config.clone();
    let voice =
        Voice { is_terminal: output.is_terminal, colour: output.colour, printer: log.printer() };
    let reporting = voice.clone();
    let path = config.path.clone();
    let reread = Box::new(move || read_config(&path));
    let starting = Runtime::start(config, reread, move |report| reporting.report(report));
    let started = tokio::select! {
        started = starting => started,
        () = signals.stop() => {
            tracing::info!("stopped before it served");
            return Ok(Exit::Fine);
        }
    };
    let mut runtime = match started {
        Ok(runtime) => runtime,
        // The report has told of it.
        Err(StartError::Clash(_)) => return Ok(Exit::Failed),
        Err(error) => return Err(error.into()),
    };
    voice.warnings(&shown);
    voice.welcome(&runtime);
    let why = loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Signal::Reload => runtime.reload(),
                Signal::Stop => break Stop::Asked,
            },
            part = runtime.ended() => {
                tracing::error!(part, "{part} has ended, which it never should; stopping, for half a server is worse than none");
                break Stop::Fault;
            }
        }
    };
    tracing::info!(
        "stopping: what runs may end within {}",
        units::print_duration(runtime.process.current.load().config.server.shutdown_grace)
    );
    tokio::select! {
        stopped = runtime.stop(why) => stopped.context("the store could not be closed in good order")?,
        () = signals.stop() => anyhow::bail!("ended at once by a second signal; what ran is in the inbox"),
    }
    tracing::info!("stopped");
    Ok(match why {
        Stop::Asked => Exit::Fine,
        Stop::Fault => Exit::Failed,
    })
}

enum Signal {
    Reload,
    Stop,
}

/// SIGTERM and SIGINT stop, SIGHUP reloads; SIGUSR1 and SIGUSR2, which would end a process that does not know them, do nothing.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
    _ignored: [tokio::signal::unix::Signal; 2],
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            _ignored: [signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?],
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.hang_up.recv() => Signal::Reload,
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.interrupt.recv() => Signal::Stop,
        }
    }

    async fn stop(&mut self) {
        while let Signal::Reload = self.next().await {}
    }
}

/// How it speaks: to a person at a terminal, or to a log.
#[derive(Clone)]
struct Voice {
    is_terminal: bool,
    colour: bool,
    printer: Printer,
}

impl Voice {
    /// What a look at config and scripts came to.
    fn report(&self, report: &Report) {
        if report.mended {
            tracing::info!("the configuration can be used again");
        }
        for skipped in &report.skipped {
            tracing::warn!("not loaded: {skipped}");
        }
        for frame in &report.problems {
            self.frame(frame);
        }
        if report.is_new && report.generation > 1 {
            self.reloaded(report);
        }
        for waiting in &report.waiting {
            self.waits(waiting);
        }
        for key in &report.settled {
            tracing::info!(key, "`{key}` is as it runs again, and waits for no restart");
        }
    }

    /// What serves from now on.
    fn reloaded(&self, report: &Report) {
        let Report { generation, configured, changed, removed, problems, .. } = report;
        let (config, changed, removed) = (names(configured), names(changed), names(removed));
        let mut parts = Vec::new();
        if !config.is_empty() {
            parts.push(format!("config ({config})"));
        }
        if !changed.is_empty() {
            parts.push(changed.clone());
        }
        if !removed.is_empty() {
            parts.push(format!("without {removed}"));
        }
        let what = match parts.as_slice() {
            [] if problems.is_empty() => "what served before".to_owned(),
            [] => "nothing yet of a new script that does not load".to_owned(),
            parts => parts.join("; "),
        };
        if self.is_terminal {
            tracing::info!("reloaded {what} (generation {generation})");
        } else {
            tracing::info!(generation, config, changed, removed, "reloaded {what}");
        }
    }

    /// A change of config that a restart must bring.
    fn waits(&self, waiting: &Waiting) {
        let Waiting { key, why, values } = waiting;
        let what = match values {
            Some((running, written)) => {
                format!("it runs with {running}, and config says {written}")
            }
            None => "its value comes from the environment and is not shown".to_owned(),
        };
        if self.is_terminal {
            tracing::warn!("`{key}` waits for a restart, since {why}: {what}");
        } else {
            let (running, written) = values.clone().unwrap_or_default();
            tracing::warn!(
                key,
                running,
                written,
                "`{key}` waits for a restart, since {why}: {what}"
            );
        }
    }

    /// A problem: on a terminal with its source line, in a log as one line that holds all of it.
    fn frame(&self, frame: &Frame) {
        if self.is_terminal {
            self.printer.print(&frame.render(self.colour));
        } else if frame.severity == Severity::Error {
            tracing::error!(code = frame.code, frame = %frame.to_json(), "{}", frame.one_line());
        } else {
            tracing::warn!(code = frame.code, frame = %frame.to_json(), "{}", frame.one_line());
        }
    }

    /// What works but deserves a word.
    fn warnings(&self, config: &Config) {
        for frame in &config.notes {
            // On a terminal the screen names each variable that is missing.
            if !self.is_terminal {
                self.frame(frame);
            } else if frame.code != SECRET_MISSING {
                tracing::warn!("{}", frame.one_line());
            }
        }
        // A secret that is set and cannot be one: whose it is, and why, but nothing of its value.
        for flaw in runtime::flaws(config) {
            tracing::warn!(code = SECRET_MISSING, "{flaw}");
        }
        if let Some(files) = limits::too_few_open_files() {
            tracing::warn!(
                files,
                "only {files} files may be open (`ulimit -n`), which is too low: it bounds connections to {}",
                limits::connections()
            );
        }
        let runs_max = (config.server.workers * config.scripts.max_runs) as u64;
        if let Some(runs) = runs_that_fit(config).filter(|runs| *runs < runs_max) {
            tracing::warn!(
                runs,
                "the address space of this process is limited (`ulimit -v`): {runs} runs of scripts fit at once"
            );
        }
    }

    /// One screen: what is served, what is missing, what to try.
    fn welcome(&self, runtime: &Runtime) {
        let generation = runtime.process.current.load();
        let config = &*generation.config;
        if self.is_terminal {
            let screen =
                welcome::screen(config, &generation, runtime.address, &called_as(&config.path));
            self.printer.print(&screen);
        } else {
            tracing::info!(address = %runtime.address, generation = generation.number, scripts = generation.scripts.len(), webhooks = generation.webhooks.len(), "serving");
        }
    }
}

/// Names in a list, the first of them where they are many.
fn names(names: &[impl AsRef<str>]) -> String {
    let shown: Vec<&str> = names.iter().take(NAMES_MAX).map(AsRef::as_ref).collect();
    match names.len().saturating_sub(NAMES_MAX) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// How this program was called, to be typed again: after `cargo run` that is `target/release/rhaiway`.
fn called_as(config: &Path) -> String {
    let program = std::env::args_os().next().and_then(|name| name.into_string().ok());
    let program = program.filter(|name| !name.is_empty() && name.len() <= PROGRAM_MAX);
    let program = program.unwrap_or_else(|| "rhaiway".to_owned());
    match config.to_str() {
        Some("config.toml") => program,
        _ => format!("{program} --config {}", config.display()),
    }
}
