//! `rhaiway check`: everything that start and reload would refuse, and what deserves a word, without serving anything.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::output::Output;
use super::{Exit, schemes};
use crate::config::{self, Config, How};
use crate::frame::{Frame, Place, Severity};
use crate::generation::{Generation, topics};
use crate::runtime;
use crate::runtime::reload::Reloader;
use crate::script::handler::{Query, Trigger};
use crate::store::sqlite;
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
                let (webhooks, _) = runtime::webhooks(&config);
                let flaws = runtime::flaws(&config);
                frames.extend(flaws.into_iter().map(|flaw| Frame::warning("E0110", flaw)));
                match Reloader::new(&config, &webhooks, &Arc::default()) {
                    Ok(mut reloader) => {
                        let (found, looked_at) = look(&mut reloader, &config, &webhooks);
                        frames.extend(found);
                        (frames, looked_at)
                    }
                    Err(problems) => {
                        frames.extend(problems);
                        (frames, 0)
                    }
                }
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

/// What is to be said of all that config and scripts make together, and how many scripts that are.
fn look(
    reloader: &mut Reloader,
    config: &Config,
    webhooks: &[Arc<Webhook>],
) -> (Vec<Frame>, usize) {
    let (generation, report) = reloader.look();
    let mut frames = report.problems;
    let skipped = report.skipped.iter();
    frames.extend(skipped.map(|skipped| Frame::warning("E0227", format!("not loaded: {skipped}"))));
    let Some(generation) = generation else { return (frames, 0) };
    frames.extend(without_handlers(&generation, webhooks));
    frames.extend(topics::one_sided(&generation));
    frames.extend(without_index(&generation, config));
    (frames, generation.scripts.len() + generation.broken.len())
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

/// Documents of a collection; with more of them a search without an index is worth a word.
const MANY: u64 = 10_000;

/// Searches for documents that go past all of a big collection. Says nothing where there is no database that can be looked at.
fn without_index(generation: &Generation, config: &Config) -> Vec<Frame> {
    let queries = generation.scripts.iter().flat_map(|script| &script.queries);
    let mut queries = queries.filter(|query| !is_indexed(query, config)).peekable();
    if queries.peek().is_none() {
        return Vec::new();
    }
    let Ok(store) = sqlite::open_read_only(&config.storage.path) else { return Vec::new() };
    let mut big: BTreeMap<&str, bool> = BTreeMap::new();
    let mut frames = Vec::new();
    for query in queries {
        let is_big = big.entry(&query.collection).or_insert_with(|| {
            store.documents(&query.collection, MANY + 1).is_ok_and(|documents| documents > MANY)
        });
        if *is_big {
            frames.push(search_without_index(query, config));
        }
    }
    frames
}

fn is_indexed(query: &Query, config: &Config) -> bool {
    let declared = config.db.get(&query.collection);
    declared.is_some_and(|declared| query.fields.iter().any(|field| declared.index.contains(field)))
}

fn search_without_index(query: &Query, config: &Config) -> Frame {
    let Query { collection, function, fields, place } = query;
    let declared = config.db.get(collection).map(|declared| declared.index.as_slice());
    let index: Vec<String> = declared
        .unwrap_or_default()
        .iter()
        .chain(fields.first())
        .map(|field| format!("\"{field}\""))
        .collect();
    let label = format!("by {}, which no index has", fields.join(", "));
    let title = format!(
        "`db.{collection}.{function}` reads every document, and `{collection}` has more than {MANY}"
    );
    Frame::warning("E0237", title)
        .at(Place { label, ..place.clone() })
        .help(format!("write `[db.{collection}] index = [{}]` in config.toml", index.join(", ")))
}
