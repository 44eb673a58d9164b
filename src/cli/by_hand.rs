//! Debug builds only: what a test of the whole program asks for through the environment. `RHAIWAY_CLOCK` names the file that moves the
//! clocks, `RHAIWAY_FAILPOINT` the places at which something happens, `RHAIWAY_FAILPOINT_HOLD` the file that holds what pauses there.

use std::path::Path;

use crate::config::process_variable;
use crate::{clock, failpoint};

/// Once, before anything else of a command.
pub(super) fn take_in_hand() -> anyhow::Result<()> {
    if let Some(path) = process_variable("RHAIWAY_CLOCK") {
        clock::drive(path.into())?;
    }
    if let Some(text) = process_variable("RHAIWAY_FAILPOINT") {
        let hold = process_variable("RHAIWAY_FAILPOINT_HOLD");
        failpoint::arm(&text, hold.as_deref().map(Path::new))?;
    }
    Ok(())
}
