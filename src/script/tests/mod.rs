//! Scripts in the real thing: loaded by the loader, compiled for a worker, driven in coroutines of the product's own size, with the memory
//! account and every limit in force. Only who performs the calls is the tests' own. After each run the same script on the same stack
//! still says that 40 + 2 is 42.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rhai::Dynamic;

use super::Ending;
use super::compiled::Compiled;
use super::coroutine::Stacks;
use super::handler::Sources;
use super::host::Shared;
use super::host_call::{Given, HostCall, HostReply};
use super::load::{Candidate, Loader};
use super::run::{End, Failure, Input, Limits, Perform, Performed, Task, run};

mod bombs;
mod endings;
mod loading;
mod memory;
mod nesting;
mod parallel;

/// The shipped budget.
const MEMORY: u64 = 32 << 20;

/// A worker's parts, with one stack: what does not give it back fails the next run.
struct Worker {
    shared: Rc<Shared>,
    stacks: Rc<Stacks>,
    limits: Limits,
}

impl Worker {
    fn new() -> Self {
        Self::with(MEMORY, 1)
    }

    fn with(memory: u64, stacks: usize) -> Self {
        // Generous with time, for debug builds on a busy machine; tests of the CPU budget set it.
        let limits =
            Limits { cpu: Duration::from_secs(20), memory, timeout: Duration::from_secs(60) };
        Self { shared: Shared::new(), stacks: Stacks::new(memory, stacks), limits }
    }

    /// Loads a script that has to load. A last handler is added, which says 42.
    fn script(&self, source: &str) -> Rc<Compiled> {
        self.script_with(source, &[])
    }

    fn script_with(&self, source: &str, modules: &[(&str, &str)]) -> Rc<Compiled> {
        let source = format!("{source}\nget(\"/42\", |req| 40 + 2);\n");
        let loaded = Loader::new(self.limits.memory).load(&candidate(&source, modules));
        let script = loaded.script.unwrap_or_else(|frames| {
            panic!(
                "{}\n{source}",
                frames.iter().map(|frame| frame.render(false)).collect::<String>()
            )
        });
        Compiled::new(&self.shared, &self.stacks, &script, self.limits.memory).unwrap()
    }

    async fn run(&self, compiled: &Rc<Compiled>, handler: usize, input: Input) -> End {
        self.run_with(compiled, handler, input, &Plain).await
    }

    async fn run_with(
        &self,
        compiled: &Rc<Compiled>,
        handler: usize,
        input: Input,
        perform: &dyn Perform,
    ) -> End {
        let task = Task {
            compiled: Rc::clone(compiled),
            handler,
            input,
            given: Rc::new(Given::new(1, "req_test".to_owned(), &compiled.script.name)),
            limits: self.limits,
        };
        run(&self.stacks, None, task, perform).await
    }

    /// Runs one handler to its end, and then the one that says 42.
    fn end(&self, compiled: &Rc<Compiled>, handler: usize, make: fn() -> Dynamic) -> End {
        let end = block_on(self.run(compiled, handler, Input::Made(make)));
        self.still_works(compiled);
        end
    }

    fn still_works(&self, compiled: &Rc<Compiled>) {
        let last = compiled.script.handlers.len() - 1;
        let end = block_on(self.run(compiled, last, Input::Made(nothing)));
        assert_eq!(outcome(&end), "200 42");
        assert_eq!(end.leaked, 0);
    }
}

/// Runs `body` as a handler whose parameter is `v`, behind `functions`.
fn ends(functions: &str, body: &str, make: fn() -> Dynamic) -> End {
    let worker = Worker::new();
    let compiled = worker.script(&format!("{functions}\nget(\"/\", |v| {{ {body} }});"));
    worker.end(&compiled, 0, make)
}

/// How a handler ends: `200 body`, `thrown: …`, or the ending's name.
fn check(functions: &str, body: &str, expected: &str) {
    let end = ends(functions, body, nothing);
    assert_eq!(outcome(&end), expected, "{functions} {body}");
}

/// The same for what must be said in an error.
fn check_thrown(functions: &str, body: &str, part: &str) {
    let outcome = outcome(&ends(functions, body, nothing));
    assert!(
        outcome.starts_with("thrown") && outcome.contains(part),
        "{outcome}: {functions} {body}"
    );
}

fn outcome(end: &End) -> String {
    match &end.result {
        Ok(answer) => format!(
            "{} {}",
            answer.status,
            String::from_utf8_lossy(answer.body.in_memory().unwrap())
        ),
        Err(Failure::Thrown { frame, .. }) => format!("thrown: {}", frame.one_line()),
        Err(Failure::ThrownAnswer(answer)) => format!("thrown answer {}", answer.status),
        Err(Failure::Ended { ending, .. }) => format!("{ending:?}"),
        Err(Failure::ByHandler(end)) => format!("{end:?}"),
        Err(Failure::ByCall(end)) => format!("{end:?}"),
        Err(Failure::Runaway) => "runaway".to_owned(),
        Err(Failure::Panicked) => "panicked".to_owned(),
        Err(Failure::NoStack) => "no stack".to_owned(),
        Err(Failure::Stopped(stopped)) => stopped.to_string(),
    }
}

fn nothing() -> Dynamic {
    Dynamic::UNIT
}

fn candidate(source: &str, modules: &[(&str, &str)]) -> Candidate {
    let modules: Sources =
        modules.iter().map(|(path, text)| (Arc::from(*path), Arc::from(*text))).collect();
    Candidate {
        name: "test".into(),
        path: "scripts/test.rhai".into(),
        source: source.into(),
        modules: Arc::new(modules),
        ambient: Arc::default(),
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(future)
}

/// Performs waits; documents are not there, and writes go nowhere. Deleting a document of `gate` ends the attempt.
struct Plain;

impl Perform for Plain {
    fn perform(&self, call: HostCall) -> Performed<'_> {
        Performed::Now(match call {
            HostCall::Sleep(duration) => {
                return Performed::Later(Box::pin(async move {
                    tokio::time::sleep(duration).await;
                    HostReply::Unit
                }));
            }
            HostCall::Get(key) => HostReply::Document(Some(crate::store::Json(
                format!("{{\"id\":\"{}\"}}", key.id).into(),
            ))),
            HostCall::Put { .. } | HostCall::Patch { .. } => HostReply::Bool(true),
            HostCall::Delete { key, .. } if &*key.collection == "gate" => HostReply::Over,
            HostCall::Provider(_)
            | HostCall::Health(_)
            | HostCall::Insert { .. }
            | HostCall::Delete { .. }
            | HostCall::Increment { .. }
            | HostCall::Emit(_)
            | HostCall::EndAttempt(_) => HostReply::Unit,
            HostCall::Cancel { .. } => HostReply::Bool(false),
            HostCall::Read(payloads) => HostReply::Bytes(
                payloads.iter().filter_map(|payload| payload.in_memory().cloned()).collect(),
            ),
            HostCall::Digest(_) => HostReply::Digest([0; 32]),
            HostCall::Find { .. } => HostReply::Documents(vec![crate::store::Json("{}".into())]),
            HostCall::Count { .. } => HostReply::Count(7),
        })
    }

    fn held_bytes(&self) -> usize {
        0
    }
}

/// No ending at all, for tests that list what may happen.
fn is_limit(end: &End) -> bool {
    matches!(
        end.result,
        Err(Failure::Ended { ending: Ending::Cpu | Ending::Memory | Ending::Stack, .. })
    )
}
