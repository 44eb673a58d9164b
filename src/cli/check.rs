//! `rhaiway check`: everything that start and reload would refuse, and what deserves a word, without serving anything.

use std::path::Path;
use std::sync::Arc;

use super::output::Output;
use super::{Exit, schemes};
use crate::config::{self, How};
use crate::frame::{Frame, Severity};
use crate::generation::Generation;
use crate::runtime;
use crate::runtime::reload::Reloader;
use crate::script::handler::Trigger;
use crate::webhook::Webhook;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// One JSON object a problem
    #[arg(long)]
    json: bool,
}

/// Checks; `Failed` where an error was found, warnings alone are fine.
pub(super) fn run(output: &Output, config: &Path, arguments: &Arguments) -> anyhow::Result<Exit> {
    let (frames, looked_at) =
        match config::load(config, How { development: false, known_schemes: &schemes() }) {
            Ok(config) => {
                let mut frames = config.notes.clone();
                let config = Arc::new(config);
                let (webhooks, flaws) = runtime::webhooks(&config);
                frames.extend(flaws.into_iter().map(|flaw| Frame::warning("E0110", flaw)));
                let (generation, report) = Reloader::new(&config, &webhooks).look();
                frames.extend(report.problems);
                frames.extend(
                    report
                        .skipped
                        .iter()
                        .map(|skipped| Frame::warning("E0227", format!("not loaded: {skipped}"))),
                );
                if let Some(generation) = &generation {
                    frames.extend(without_handlers(generation, &webhooks));
                }
                let looked_at = generation
                    .map_or(0, |generation| generation.scripts.len() + generation.broken.len());
                (frames, looked_at)
            }
            Err(frames) => (frames, 0),
        };
    let errors = frames.iter().filter(|frame| frame.severity == Severity::Error).count();
    if arguments.json {
        for frame in &frames {
            output.data(&frame.to_json().to_string());
        }
    } else {
        output.frames(&frames);
        output.say(&summary(looked_at, errors, frames.len() - errors));
    }
    Ok(if errors == 0 { Exit::Fine } else { Exit::Failed })
}

fn summary(scripts: usize, errors: usize, warnings: usize) -> String {
    let counted =
        |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    if scripts == 0 && errors == 0 {
        return "no scripts yet; save one as scripts/NAME.rhai".to_owned();
    }
    format!(
        "{} checked, {}, {}",
        counted(scripts, "script"),
        counted(errors, "error"),
        counted(warnings, "warning")
    )
}

/// Webhooks whose events nobody would handle.
fn without_handlers(generation: &Generation, webhooks: &[Arc<Webhook>]) -> Vec<Frame> {
    let handled = |webhook: &Webhook| {
        let mut handlers = generation.scripts.iter().flat_map(|script| &script.handlers);
        handlers.any(|handler| matches!(&handler.trigger, Trigger::Webhook { webhook: name, .. } if **name == *webhook.name))
    };
    let frame = |webhook: &Arc<Webhook>| {
        Frame::warning(
            "E0228",
            format!(
                "webhook `{}` has no handler, so its events are stored and ignored",
                webhook.name
            ),
        )
        .at(webhook.place.clone())
        .help(format!("write `webhook(\"{}\", \"*\", |event| …)` in a script", webhook.name))
    };
    webhooks.iter().filter(|webhook| !handled(webhook)).map(frame).collect()
}
