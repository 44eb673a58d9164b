//! `retry_later` and `give_up`: how a handler ends its own attempt. Nothing in the script catches either, so what stands behind them never runs.

use rhai::{ImmutableString, Module};

use crate::script::Ending;
use crate::script::current::{self, Throw, ask, fail};
use crate::script::host_call::{AttemptEnd, HostCall};
use crate::units;

/// Bytes of a reason that are kept.
const REASON_BYTES_MAX: usize = 1 << 10;

/// The functions.
pub(crate) fn register(module: &mut Module) {
    module.set_native_fn("retry_later", |delay: ImmutableString| retry_later(&delay, ""));
    module.set_native_fn("retry_later", |delay: ImmutableString, reason: ImmutableString| {
        retry_later(&delay, &reason)
    });
    module.set_native_fn("give_up", |reason: ImmutableString| {
        let end = || AttemptEnd::GiveUp { reason: kept(&reason) };
        end_attempt("give_up", end)
    });
}

fn retry_later(delay: &str, reason: &str) -> Result<(), Throw> {
    let delay =
        units::parse_duration(delay).map_err(|error| fail(&format!("retry_later: {error}")))?;
    let reason = if reason.is_empty() { "its handler asked for another time" } else { reason };
    let end = || AttemptEnd::RetryLater { delay, reason: kept(reason) };
    end_attempt("retry_later", end)
}

fn end_attempt(what: &str, end: impl FnOnce() -> AttemptEnd) -> Result<(), Throw> {
    ask(what, || Ok(HostCall::EndAttempt(end())), |_unit| Ok(()))?;
    Err(current::end(Ending::ByHandler))
}

fn kept(reason: &str) -> Box<str> {
    reason[..reason.floor_char_boundary(REASON_BYTES_MAX)].into()
}
