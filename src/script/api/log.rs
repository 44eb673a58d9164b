//! `log.info`, `warn`, `error`, `trace`, and `print` and `debug`: lines of the script in the program's log, under the target `script`, with the run's
//! subject beside them, and in the log of its attempt. A line is bounded, and never suspends the run.

use rhai::{Dynamic, Map, Module};
use tracing::Level;

use crate::memory;
use crate::redact;
use crate::script::current::{Throw, given};
use crate::script::host_call::Given;
use crate::script::value;

/// Bytes of one line, fields included.
const LINE_MAX: usize = 8 << 10;
/// Bytes of it that are searched for secrets: more than a line and any secret.
const SEARCHED_MAX: usize = 128 << 10;

/// The value that scripts call `log`.
#[derive(Clone, Copy)]
pub(crate) struct Log;

/// The functions.
pub(crate) fn register(module: &mut Module) {
    module.set_custom_type::<Log>("Log");
    for (name, level) in [
        ("info", Level::INFO),
        ("warn", Level::WARN),
        ("error", Level::ERROR),
        ("trace", Level::TRACE),
    ] {
        module.set_native_fn(name, move |_log: Log, message: Dynamic| line(level, &message, None));
        module.set_native_fn(name, move |_log: Log, message: Dynamic, fields: Map| {
            line(level, &message, Some(fields))
        });
    }
}

/// What `print` says.
pub(crate) fn print(text: &str) {
    if let Ok(given) = given("print") {
        write(Level::INFO, &given, text, "");
    }
}

/// What `debug` says.
pub(crate) fn debug(text: &str) {
    if let Ok(given) = given("debug") {
        write(Level::DEBUG, &given, text, "");
    }
}

fn line(level: Level, message: &Dynamic, fields: Option<Map>) -> Result<(), Throw> {
    let given = given("log")?;
    let fields = fields.map(|fields| value::to_text(&fields.into())).unwrap_or_default();
    write(level, &given, &value::to_text(message), &fields);
    Ok(())
}

fn write(level: Level, given: &Given, message: &str, fields: &str) {
    memory::uncharged(|| {
        // Cut to its length afterwards, or half a secret could be left at the end.
        let redactor = redact::current();
        let (message, fields) = (cut(message, SEARCHED_MAX), cut(fields, SEARCHED_MAX));
        let (message, fields) = (redactor.text(message), redactor.text(fields));
        let (message, fields) = (cut(&message, LINE_MAX), cut(&fields, LINE_MAX));
        given.note(&level.as_str().to_ascii_lowercase(), message, fields);
        macro_rules! say {
            ($level:expr) => {
                tracing::event!(target: "script", $level, script = %given.script, subject = %given.subject, fields, "{message}")
            };
        }
        match level {
            Level::ERROR => say!(Level::ERROR),
            Level::WARN => say!(Level::WARN),
            Level::INFO => say!(Level::INFO),
            Level::DEBUG => say!(Level::DEBUG),
            _ => say!(Level::TRACE),
        }
    });
}

fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}
