//! `rhaiway run`: the runtime, headless. It says in one screen what it serves, what is missing and what to try; then it logs.

use std::path::Path;

use tokio::signal::unix::{SignalKind, signal};

use super::output::Output;
use super::{Exit, block_on, load_config, logging};
use crate::config::Config;
use crate::frame::Severity;
use crate::generation::Generation;
use crate::runtime::reload::Report;
use crate::runtime::{Runtime, StartError, limits, runs_that_fit};
use crate::script::handler::{Method, Trigger};
use crate::units;
use crate::webhook::sample;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {}

/// Serves until a signal.
pub(super) fn run(output: &Output, config: &Path, _arguments: &Arguments) -> anyhow::Result<Exit> {
    let Some(config) = load_config(output, config) else { return Ok(Exit::Failed) };
    logging::start(output)?;
    block_on(serve(output, config))?
}

async fn serve(output: &Output, config: Config) -> anyhow::Result<Exit> {
    // Signals are listened to before anything starts, so that none of them finds its deadly default.
    let mut signals = Signals::new()?;
    let shown = config.clone();
    let reporting = output.clone();
    let runtime = match Runtime::start(config, move |report| say(&reporting, report)).await {
        Ok(runtime) => runtime,
        Err(StartError::Clash(_)) => return Ok(Exit::Failed),
        Err(error) => return Err(error.into()),
    };
    welcome(output, &shown, &runtime);
    while let Signal::Reload = signals.next().await {
        runtime.reload();
    }
    tracing::info!(
        "stopping: what runs may end within {}",
        units::print_duration(shown.server.shutdown_grace)
    );
    tokio::select! {
        stopped = runtime.stop() => match stopped {
            Ok(()) => {
                tracing::info!("stopped");
                Ok(Exit::Fine)
            }
            Err(error) => Err(anyhow::anyhow!("the store could not be closed in good order: {error}")),
        },
        () = signals.stop() => Err(anyhow::anyhow!("ended at once by a second signal; what ran is in the inbox")),
    }
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

/// What a look at the scripts came to. On a terminal with the source line; in a log as one line a problem.
fn say(output: &Output, report: &Report) {
    for skipped in &report.skipped {
        tracing::warn!("not loaded: {skipped}");
    }
    for frame in &report.problems {
        if output.is_terminal {
            output.say(&frame.render(output.colour));
        } else if frame.severity == Severity::Error {
            tracing::error!(code = frame.code, frame = %frame.to_json(), "{}", frame.one_line());
        } else {
            tracing::warn!(code = frame.code, frame = %frame.to_json(), "{}", frame.one_line());
        }
    }
    if report.is_new && report.generation > 1 {
        let list = |names: &[std::sync::Arc<str>]| names.join(", ");
        tracing::info!(
            generation = report.generation,
            changed = list(&report.changed),
            removed = list(&report.removed),
            "scripts reloaded"
        );
    }
}

/// One screen: what is served, what is missing, what to try.
fn welcome(output: &Output, config: &Config, runtime: &Runtime) {
    let generation = runtime.process.current.load();
    let base = format!("http://{}", runtime.address);
    for frame in &config.notes {
        tracing::warn!("{}", frame.one_line());
    }
    if let Some(files) = limits::too_few_open_files() {
        tracing::warn!(
            "only {files} files may be open (`ulimit -n`), which bounds connections to {}",
            limits::connections()
        );
    }
    if let Some(runs) = runs_that_fit(config) {
        tracing::warn!(
            "the address space of this process is limited (`ulimit -v`): {runs} runs of scripts fit at once"
        );
    }
    if !output.is_terminal {
        tracing::info!(address = %runtime.address, generation = generation.number, scripts = generation.scripts.len(), webhooks = generation.webhooks.len(), "serving");
        return;
    }
    let mut lines =
        vec![format!("Rhaiway {} serves {base}", env!("CARGO_PKG_VERSION")), String::new()];
    for webhook in &generation.webhooks {
        let state = if webhook.is_configured() {
            String::new()
        } else {
            format!("   not configured: set {}", webhook.unset.join(" or "))
        };
        lines.push(format!("  POST    {:<32} webhook `{}`{state}", webhook.path, webhook.name));
    }
    lines.extend(routes(&generation));
    lines.push(format!("  GET     {:<32} is it alive, is it ready", "/healthz, /readyz"));
    if !generation.broken.is_empty() {
        lines.extend([String::new(), format!("  broken: {}", generation.broken.join(", "))]);
    }
    lines.extend(
        config.server.public_url.iter().map(|url| format!("\nproviders reach it at {url}")),
    );
    lines.extend([
        String::new(),
        format!("scripts in {}/ are reloaded when you save them", config.scripts.dir.display()),
    ]);
    lines.extend(hint(&generation));
    output.say(&lines.join("\n"));
    output.say("");
}

fn routes(generation: &Generation) -> Vec<String> {
    let mut lines = Vec::new();
    for script in &generation.scripts {
        for handler in &script.handlers {
            if let Trigger::Route { method, path } = &handler.trigger {
                lines.push(format!("  {:<7} {path:<32} {}", Method::word(*method), script.path));
            }
        }
    }
    lines
}

/// The one line to try next: post a sample, or set the secret that this needs.
fn hint(generation: &Generation) -> Option<String> {
    let webhook = generation
        .webhooks
        .iter()
        .find(|webhook| webhook.is_configured())
        .or(generation.webhooks.first())?;
    let kind = sample::kinds(&webhook.name).next().unwrap_or("TYPE");
    let send = format!("rhaiway send {} {kind}", webhook.name);
    if webhook.is_configured() {
        return Some(format!("try: {send}"));
    }
    let variable = webhook.unset.first().map_or("the secret", |variable| variable);
    Some(format!("try: put {variable}=whsec_… into .dev.vars, start again, then: {send}"))
}
