//! `now`, `uuid`, `sleep`: time and chance, as a run is given them, so that a rerun sees the same. What Rhai brings under these names gives way.

use std::time::Duration;

use rhai::{Dynamic, ImmutableString, Module};

use crate::script::current::{Throw, ask, fail, given};
use crate::script::host_call::HostCall;
use crate::units;

/// Longer waits belong into the inbox.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// The functions.
pub(crate) fn register(module: &mut Module) {
    module.set_native_fn("now", || -> Result<i64, Throw> { Ok(given("now")?.now().0) });
    module.set_native_fn("uuid", || -> Result<String, Throw> {
        Ok(given("uuid")?.uuid().to_string())
    });
    module.set_native_fn("sleep", |duration: ImmutableString| sleep(&duration));
    module.set_native_fn("sleep", |_other: Dynamic| without_unit("that"));
}

fn sleep(text: &str) -> Result<(), Throw> {
    let duration = units::parse_duration(text).map_err(|error| fail(&format!("sleep: {error}")))?;
    if duration > SLEEP_MAX {
        return Err(fail("`sleep` waits for 60s at most"));
    }
    ask("sleep", || Ok(HostCall::Sleep(duration)), |_unit| Ok(()))
}

fn without_unit(given: &str) -> Result<(), Throw> {
    Err(fail(&format!(
        "`sleep` takes a duration with its unit, such as \"250ms\" or \"2s\", not {given}"
    )))
}
