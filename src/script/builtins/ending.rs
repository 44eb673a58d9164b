//! Why a run was ended from outside. No script can catch it.

/// What ended the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Cpu,
    Memory,
    Stack,
    Timeout,
    Cancelled,
    Stopped,
}
