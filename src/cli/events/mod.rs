//! `rhaiway events`: lists stored events, shows one, or follows them as they come. It asks the running instance; without one it reads the file.

use super::ask::Asked;
use super::narrow::Narrow;
use super::output::{Output, harmless};
use super::table::{self, Column};
use super::{Exit, block_on, load_config};
use crate::admin::query::LIMIT_MAX;
use crate::admin::wire;
use crate::config::Config;
use crate::id::EventId;
use crate::store::EventQuery;

mod follow;
mod show;

/// Characters of a cell; longer text is cut.
const CELL: usize = 60;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Show this event: payload, headers, jobs, attempts and logs
    #[arg(conflicts_with_all = ["webhook", "kind", "state", "since", "until", "text", "after", "follow"])]
    id: Option<EventId>,
    #[command(flatten)]
    narrow: Narrow,
    /// How many, newest first
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = limit)]
    limit: usize,
    /// Only events older than this one, for the next page
    #[arg(long, value_name = "ID")]
    after: Option<EventId>,
    /// Go on printing new events and changes, until Ctrl-C
    #[arg(long, conflicts_with = "after")]
    follow: bool,
    /// Print JSON: one object, or one a line
    #[arg(long)]
    json: bool,
}

fn limit(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=LIMIT_MAX).contains(number));
    number.ok_or_else(|| format!("a number from 1 to {LIMIT_MAX}"))
}

/// Lists, shows or follows.
pub(super) fn run(
    output: &Output,
    config: &std::path::Path,
    arguments: &Arguments,
) -> anyhow::Result<Exit> {
    let Some(config) = load_config(output, config) else { return Ok(Exit::Failed) };
    block_on(async {
        match arguments.id {
            Some(id) => show::show(output, &config, id, arguments.json).await,
            None if arguments.follow => follow::follow(output, &config, arguments).await,
            None => list(output, &config, arguments).await,
        }
    })?
}

async fn list(output: &Output, config: &Config, arguments: &Arguments) -> anyhow::Result<Exit> {
    let query =
        EventQuery { before: arguments.after, limit: arguments.limit, ..arguments.narrow.query() };
    let events = Asked::of(config).await?.events(output, query).await?;
    if arguments.json {
        for event in &events {
            output.data(&serde_json::to_string(event)?);
        }
        return Ok(Exit::Fine);
    }
    if events.is_empty() {
        output.say("no events");
        return Ok(Exit::Fine);
    }
    for line in lines(&events, output.width()) {
        output.data(&line);
    }
    Ok(Exit::Fine)
}

/// The table. Where it does not fit the terminal, times lose their year and their milliseconds first.
fn lines(events: &[wire::Event], width: Option<usize>) -> Vec<String> {
    let column = |heading, least, rank, cell: &dyn Fn(&wire::Event) -> String| Column {
        heading,
        cells: events.iter().map(cell).collect(),
        least,
        rank,
    };
    let columns = |time: fn(&str) -> &str| {
        vec![
            column("RECEIVED", None, 5, &|event| time(&event.received_at).to_owned()),
            column("ID", None, 0, &|event| event.id.clone()),
            column("WEBHOOK", Some(8), 3, &|event| harmless(&event.webhook, CELL)),
            column("TYPE", Some(8), 2, &|event| harmless(&event.kind, CELL)),
            column("STATE", None, 1, &|event| event.state.clone()),
            column("ATTEMPTS", None, 7, &|event| event.attempts.to_string()),
            column("ERROR", Some(12), 6, &|event| {
                harmless(event.error.as_deref().unwrap_or_default(), CELL)
            }),
        ]
    };
    let whole = table::lines(columns(|time| time), None);
    match width {
        Some(width) if whole.iter().any(|line| line.chars().count() > width) => {
            table::lines(columns(short_time), Some(width))
        }
        _ => whole,
    }
}

/// `01-31T12:00:00` of a time in RFC 3339.
fn short_time(time: &str) -> &str {
    time.get(5..19).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, error: Option<&str>) -> wire::Event {
        wire::Event {
            id: "evt_01h455vb4pex5vsknk084sn02q".to_owned(),
            webhook: "stripe".to_owned(),
            delivery_id: None,
            kind: kind.to_owned(),
            state: "retrying".to_owned(),
            received_at: "2026-01-31T12:00:00.000Z".to_owned(),
            attempts: 3,
            outbound_calls: 0,
            error: error.map(str::to_owned),
        }
    }

    #[test]
    fn a_list_fits_80_columns_and_keeps_its_ids_whole() {
        let broken = "scripts/stripe.rhai:2:28: something that is long went wrong here";
        let events =
            [event("customer.subscription.updated", Some(broken)), event("charge.paid", None)];
        let lines = lines(&events, Some(80));
        insta::assert_snapshot!(lines.join("\n"), @r"
        RECEIVED        ID                              WEBHOOK  TYPE           STATE
        01-31T12:00:00  evt_01h455vb4pex5vsknk084sn02q  stripe   customer.sub…  retrying
        01-31T12:00:00  evt_01h455vb4pex5vsknk084sn02q  stripe   charge.paid    retrying
        ");
        assert!(lines.iter().all(|line| line.chars().count() <= 80));
    }
}
