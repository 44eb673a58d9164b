//! `rhaiway stand-in NAME`, hidden: one stand-in as a process of its own, for tests. It prints where it answers, and answers until it is stopped.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use clap::builder::PossibleValue;

use super::{Exit, Output, block_on};
use crate::stand_in::{Behaviour, Fail, Name, Settings, StandIn};
use crate::units;

/// Stand in for a third party on localhost
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Which one
    #[arg(value_name = "NAME")]
    name: Name,
    /// Where it answers
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// What ids and chance follow from
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// How long each answer waits, such as `50ms`
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration)]
    latency: Option<Duration>,
    /// Answer with this status, and if you like so many times only, such as `503:3`
    #[arg(long, value_name = "STATUS[:TIMES]")]
    fail: Option<Often>,
}

impl clap::ValueEnum for Name {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.as_str()))
    }
}

/// A status, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Often {
    status: u16,
    times: Option<u32>,
}

impl FromStr for Often {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (status, times) = match text.split_once(':') {
            Some((status, times)) => (status, Some(times)),
            None => (text, None),
        };
        let status = status.parse().ok().filter(|status| (200..=599).contains(status));
        let times = times.map(str::parse).transpose();
        let (Some(status), Ok(times)) = (status, times) else {
            return Err("a status of 200 to 599, and behind `:` a number");
        };
        Ok(Self { status, times })
    }
}

/// Answers until the process is ended, or until nobody reads where it is.
pub(super) fn run(output: &Output, arguments: &Arguments) -> anyhow::Result<Exit> {
    let fail = arguments.fail.as_ref().map(|often| Fail::new(often.status, often.times));
    let behaviour = Behaviour::new(fail, arguments.latency.unwrap_or_default());
    let settings = Settings { seed: arguments.seed, behaviour };
    block_on(async {
        let bound = StandIn::bind(arguments.name, arguments.listen, settings).await;
        let stand_in = bound.with_context(|| format!("cannot listen on {}", arguments.listen))?;
        let place = serde_json::json!({ "name": arguments.name.as_str(), "url": stand_in.url() });
        if output.try_data(&place.to_string()) {
            stand_in.serve().await;
        }
        Ok(Exit::Fine)
    })?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_a_status_and_perhaps_a_number() {
        let read = |text: &str| text.parse::<Often>().ok();
        assert_eq!(read("503"), Some(Often { status: 503, times: None }));
        assert_eq!(read("429:3"), Some(Often { status: 429, times: Some(3) }));
        for text in ["", "99", "503:", "x:1", "503:-1"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
