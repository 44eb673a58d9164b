//! `rhaiway replay`: has stored events handled again, through the running instance. Dead letters are resumed, what has ended begins anew. It finds them first and
//! says what it will do, asks, and then goes through them, the oldest first, no faster than it may. Stopped, it says how it goes on.

use std::path::Path;

use super::narrow::Narrow;
use super::output::Output;
use super::{Exit, block_on, load_config};
use crate::admin::client::{AskError, Client};
use crate::clock;
use crate::config::Config;
use crate::id::EventId;
use crate::units::{Rate, parse_rate};

mod again;
mod find;
mod pace;

use self::find::Which;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// These events
    #[arg(value_name = "ID", conflicts_with_all = ["webhook", "kind", "state", "since", "until", "text"])]
    ids: Vec<EventId>,
    #[command(flatten)]
    narrow: Narrow,
    /// Only those after this one, to go on where it was stopped
    #[arg(long, value_name = "ID")]
    after: Option<EventId>,
    /// How fast, at most
    #[arg(long, value_name = "RATE", default_value = "50/s", value_parser = parse_rate)]
    rate: Rate,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Print JSON: what became of each event, one a line
    #[arg(long)]
    json: bool,
}

/// Finds, asks, and replays.
pub(super) fn run(output: &Output, config: &Path, arguments: &Arguments) -> anyhow::Result<Exit> {
    if arguments.ids.is_empty() && arguments.narrow.is_nothing() {
        output.error("say which events: by their ids, or by `--webhook`, `--type`, `--state`, `--since`, `--until`, `--text`");
        return Ok(Exit::WrongUsage);
    }
    let Some(config) = load_config(output, config) else { return Ok(Exit::Failed) };
    match block_on(replay(output, &config, arguments))? {
        Err(error) if matches!(error.downcast_ref(), Some(AskError::NotRunning)) => {
            anyhow::bail!(
                "no running instance answers, and events are replayed by one; start it with `rhaiway run`"
            )
        }
        ended => ended,
    }
}

async fn replay(output: &Output, config: &Config, arguments: &Arguments) -> anyhow::Result<Exit> {
    let client = Client::new(&config.admin.socket)?;
    let which = Which::of(arguments, clock::now());
    let found = find::find(&client, &which, arguments.after).await?;
    if found.ids.is_empty() {
        output.say(&format!("nothing to replay{}", find::left_out(&found)));
        return Ok(Exit::Fine);
    }
    output.say(&find::announcement(&found));
    if !arguments.yes {
        if !output.can_ask() {
            output.error(&format!(
                "nobody is there to say yes; to replay without a question: {}",
                again::command(&which, arguments, arguments.after, true)
            ));
            return Ok(Exit::WrongUsage);
        }
        if !output.ask(&format!("Replay {}?", find::events(found.ids.len()))) {
            output.say("nothing was replayed");
            return Ok(Exit::Failed);
        }
    }
    let ended = pace::replay_all(output, &client, &found.ids, arguments).await;
    output.say(&ended.counts.to_string());
    if ended.is_stopped {
        let after = ended.last.or(arguments.after);
        output.say(&format!(
            "stopped; to go on: {}",
            again::command(&which, arguments, after, arguments.yes)
        ));
    }
    let is_whole = !ended.is_stopped && ended.counts.refused == 0;
    Ok(if is_whole { Exit::Fine } else { Exit::Failed })
}
