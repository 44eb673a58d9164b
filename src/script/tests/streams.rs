//! `stream(|out| …)` under its limits: time and CPU count anew with each piece, and nothing else of a run does.

use std::cell::RefCell;
use std::time::Duration;

use super::{Worker, block_on, nothing, outcome};
use crate::script::host_call::{HostCall, HostReply};
use crate::script::run::{Input, Perform, Performed};

/// Keeps what is written, and has room for so many pieces.
struct Client {
    pieces: RefCell<Vec<Vec<u8>>>,
    room: usize,
}

impl Perform for Client {
    fn perform(&self, call: HostCall) -> Performed<'_> {
        match call {
            HostCall::Sleep(duration) => Performed::Later(Box::pin(async move {
                tokio::time::sleep(duration).await;
                HostReply::Unit
            })),
            HostCall::Write { bytes, .. } if self.pieces.borrow().len() < self.room => {
                self.pieces.borrow_mut().push(bytes);
                Performed::Now(HostReply::Unit)
            }
            HostCall::Write { .. } => Performed::Later(Box::pin(std::future::pending())),
            _ => Performed::Now(HostReply::Unit),
        }
    }

    fn held_bytes(&self) -> usize {
        0
    }
}

/// How a stream ends that `body` writes, and what it has written.
fn written(worker: &Worker, room: usize, body: &str) -> (String, String) {
    let compiled = worker.script(&format!("get(\"/\", |v| {{ {body} }});"));
    let client = Client { pieces: RefCell::default(), room };
    let end = block_on(worker.run_with(&compiled, 0, Input::Made(nothing), &client));
    worker.still_works(&compiled);
    let pieces = client.pieces.take();
    (outcome(&end), String::from_utf8(pieces.concat()).unwrap())
}

fn worker(cpu: Duration, timeout: Duration, idle: Duration) -> Worker {
    let mut worker = Worker::new();
    worker.limits.cpu = cpu;
    worker.limits.timeout = timeout;
    worker.limits.idle = idle;
    worker
}

const LONG: Duration = Duration::from_secs(20);

#[test]
fn rule_15_a_stream_may_go_on_past_the_timeout_as_long_as_it_writes() {
    let worker = worker(LONG, Duration::from_millis(200), Duration::from_millis(200));
    let body = "stream(|out| { for n in 0..8 { sleep(\"50ms\"); out.send(\"x\"); } })";
    assert_eq!(written(&worker, 100, body), ("200 ".to_owned(), "xxxxxxxx".to_owned()));
    let idle = "stream(|out| { out.send(\"x\"); sleep(\"10s\"); })";
    assert_eq!(written(&worker, 100, idle), ("Idle".to_owned(), "x".to_owned()));
    let late = "sleep(\"10s\"); stream(|out| out.send(\"x\"))";
    assert_eq!(written(&worker, 100, late), ("Timeout".to_owned(), String::new()));
}

#[test]
fn a_client_that_takes_nothing_is_waited_for_as_long_as_a_stream_may_be_idle() {
    let worker = worker(LONG, LONG, Duration::from_millis(100));
    let body = "stream(|out| { loop { out.send(\"x\"); } })";
    assert_eq!(written(&worker, 3, body), ("Idle".to_owned(), "xxx".to_owned()));
}

#[test]
fn the_cpu_budget_counts_anew_with_each_piece() {
    let worker = worker(Duration::from_millis(200), LONG, LONG);
    let spin = "let t = now(); while now() - t < 60 { }";
    let body = format!("stream(|out| {{ for n in 0..8 {{ {spin} out.send(\"x\"); }} }})");
    assert_eq!(written(&worker, 100, &body), ("200 ".to_owned(), "xxxxxxxx".to_owned()));
    let endless = "stream(|out| { out.send(\"x\"); loop { } })";
    assert_eq!(written(&worker, 100, endless), ("Cpu".to_owned(), "x".to_owned()));
}

#[test]
fn a_large_string_goes_out_in_pieces_of_64_kib_and_whole() {
    let worker = worker(LONG, LONG, LONG);
    let compiled = worker.script(
        "get(\"/\", |v| stream(|out| { let text = \"\"; text.pad(200000, 'x'); out.send(text); }));",
    );
    let client = Client { pieces: RefCell::default(), room: 100 };
    let end = block_on(worker.run_with(&compiled, 0, Input::Made(nothing), &client));
    assert_eq!((outcome(&end).as_str(), end.leaked), ("200 ", 0));
    let sizes: Vec<usize> = client.pieces.borrow().iter().map(Vec::len).collect();
    assert_eq!(sizes, [65_536, 65_536, 65_536, 3_392]);
}
