//! The load generator. Every request is signed and rendered before the clock starts, so that sending one is a single write and
//! reading its answer a single read: what it costs must not be what is measured. It prints one JSON object; any answer but 200
//! ends it with exit code 1.
//!
//! loader --address 127.0.0.1:8080 --path /api/webhooks/clerk --count 100000 --seconds 5 --connections 64 --threads 1
//! `--streams N` asks for N streams at a time, whose chunks carry the time at which they were sent, and prints how late they came.
//! `--users N` has the events be of N users in turn, in place of a new one each. `--method GET` sends the same empty request each time. The secret comes from CLERK_WEBHOOK_SECRET.

mod answer;
mod load;
mod request;
mod streams;

use std::collections::HashMap;
use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use load::{Load, Measured};

/// Whatever ended the run; its text is for a person.
type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loader: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let options = Options::read(std::env::args().skip(1))?;
    let path = options.text("path", "/api/webhooks/clerk");
    let count = options.number("count", 100_000)?;
    let streams = options.number("streams", 0)?;
    if streams > 0 {
        let time = Duration::from_secs_f64(options.number("seconds", 5.0)?);
        let late =
            streams::run(options.text("address", "127.0.0.1:8080").parse()?, path, streams, time)?;
        println!("{}", late_json(late));
        return Ok(());
    }
    let requests = if options.text("method", "POST") == "GET" {
        vec![request::get(path).into_boxed_slice(); 1]
    } else {
        let secret = std::env::var("CLERK_WEBHOOK_SECRET")
            .map_err(|_| "set CLERK_WEBHOOK_SECRET, as for the server")?;
        request::signed(path, &secret, count, options.number("users", 0)?)?
    };
    let measured = load::run(Load {
        address: options.text("address", "127.0.0.1:8080").parse()?,
        requests: &requests,
        count,
        time: Duration::from_secs_f64(options.number("seconds", 3600.0)?),
        connections: options.number("connections", 64)?,
        threads: options.number("threads", 1)?,
    })?;
    println!("{}", json(measured)?);
    Ok(())
}

fn json(Measured { mut latencies, started, elapsed, cpu }: Measured) -> Result<String, Failure> {
    latencies.sort_unstable();
    let percentile = |share: f64| {
        let index = (latencies.len() as f64 * share) as usize;
        latencies
            .get(index.min(latencies.len() - 1))
            .map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
    };
    Ok(format!(
        r#"{{"answered":{},"seconds":{:.6},"started_at":{:.6},"p50_ms":{:.4},"p99_ms":{:.4},"max_ms":{:.4},"loader_cpu_seconds":{:.3}}}"#,
        latencies.len(),
        elapsed.as_secs_f64(),
        started.duration_since(UNIX_EPOCH)?.as_secs_f64(),
        percentile(0.5),
        percentile(0.99),
        percentile(1.0),
        cpu.as_secs_f64(),
    ))
}

fn late_json(mut late: Vec<Duration>) -> String {
    late.sort_unstable();
    let percentile = |share: f64| {
        late[((late.len() as f64 * share) as usize).min(late.len() - 1)].as_secs_f64() * 1e3
    };
    format!(
        r#"{{"chunks":{},"p50_ms":{:.3},"p99_ms":{:.3},"max_ms":{:.3}}}"#,
        late.len(),
        percentile(0.5),
        percentile(0.99),
        percentile(1.0),
    )
}

/// `--name value` pairs.
struct Options(HashMap<String, String>);

impl Options {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut options = HashMap::new();
        while let Some(word) = words.next() {
            let name = word.strip_prefix("--").ok_or_else(|| format!("`{word}` is no option"))?;
            let value = words.next().ok_or_else(|| format!("`{word}` needs a value"))?;
            options.insert(name.to_owned(), value);
        }
        Ok(Self(options))
    }

    fn text<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.0.get(name).map_or(default, String::as_str)
    }

    fn number<N: std::str::FromStr>(&self, name: &str, default: N) -> Result<N, Failure> {
        match self.0.get(name) {
            Some(text) => {
                text.parse().map_err(|_| format!("`--{name} {text}` is no number").into())
            }
            None => Ok(default),
        }
    }
}
