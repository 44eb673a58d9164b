//! The commands: one enum, one match, the exit codes. Each command has a file with its arguments and its `run`; printing happens in here only.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[cfg(debug_assertions)]
mod by_hand;
mod ask;
mod check;
mod docs;
mod events;
mod logging;
mod narrow;
mod output;
mod replay;
mod run;
mod send;
mod stand_in;
mod table;
mod welcome;

use self::output::Output;
use crate::config::{self, Config, How};
use crate::frame::Frame;
use crate::webhook::scheme::Scheme;

/// Webhooks and third-party calls as small Rhai scripts: verified, durable, fast.
#[derive(Debug, Parser)]
#[command(
    name = "rhaiway",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
struct Arguments {
    /// The configuration
    #[arg(long, global = true, value_name = "PATH", default_value = "config.toml")]
    config: PathBuf,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve webhooks and routes, headless
    Run(run::Arguments),
    /// Compile every script and find what does not fit together
    Check(check::Arguments),
    /// Post a correctly signed sample event to a webhook of this config
    Send(send::SendArgs),
    /// List stored events, show one, or follow them
    Events(events::Arguments),
    /// Have stored events handled again
    Replay(replay::Arguments),
    /// Explain an error code, such as E0201
    Docs(docs::Arguments),
    /// Stand in for a third party on localhost
    #[command(hide = true)]
    StandIn(stand_in::Arguments),
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Exit code 0.
    Fine,
    /// It found or met a failure, and has said so.
    Failed,
    /// Exit code 2: what was asked for cannot be done as it was asked, and it has said so.
    WrongUsage,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Fine => Self::SUCCESS,
            Exit::Failed => Self::from(1),
            Exit::WrongUsage => Self::from(WRONG_USAGE),
        }
    }
}

/// Wrong usage of the command line.
const WRONG_USAGE: u8 = 2;

/// Reads the command line and runs one command.
pub(crate) fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are answers, not errors: clap prints them to stdout.
            _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(WRONG_USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let output = Output::new();
    #[cfg(debug_assertions)]
    if let Err(error) = by_hand::take_in_hand() {
        output.error(&format!("{error:#}"));
        return Exit::Failed.into();
    }
    let config = &arguments.config;
    let ended = match arguments.command {
        Command::Run(arguments) => run::run(&output, config, &arguments),
        Command::Check(arguments) => check::run(&output, config, &arguments),
        Command::Send(arguments) => post(&output, config, &arguments),
        Command::Events(arguments) => events::run(&output, config, &arguments),
        Command::Replay(arguments) => replay::run(&output, config, &arguments),
        Command::Docs(arguments) => docs::run(&output, &arguments),
        Command::StandIn(arguments) => stand_in::run(&output, &arguments),
    };
    match ended {
        Ok(exit) => exit.into(),
        Err(error) => {
            output.error(&format!("{error:#}"));
            Exit::Failed.into()
        }
    }
}

/// The configuration, or its problems on stderr.
fn load_config(output: &Output, path: &Path) -> Option<Config> {
    match read_config(path) {
        Ok(config) => Some(config),
        Err(frames) => {
            output.frames(&frames);
            None
        }
    }
}

/// As it is read at the start, and again whenever it changes.
fn read_config(path: &Path) -> Result<Config, Vec<Frame>> {
    config::load(path, How { development: false, known_schemes: &schemes() })
}

/// Schemes that config may name, `none` apart, which config knows by itself.
fn schemes() -> Vec<&'static str> {
    Scheme::names().filter(|name| *name != "none").collect()
}

fn post(output: &Output, config: &Path, arguments: &send::SendArgs) -> anyhow::Result<Exit> {
    let Some(config) = load_config(output, config) else { return Ok(Exit::Failed) };
    let sent = block_on(send::run(arguments, &config))??;
    if arguments.json {
        for post in &sent.posts {
            output.data(&serde_json::to_string(post)?);
        }
    } else {
        output.data(sent.to_string().trim_end());
    }
    Ok(if sent.is_fine() { Exit::Fine } else { Exit::Failed })
}

/// A runtime for commands that ask and wait.
fn block_on<T>(future: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let value = runtime.block_on(future);
    // What is ended at once must not wait for a thread that is still busy.
    runtime.shutdown_background();
    Ok(value)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }
}
