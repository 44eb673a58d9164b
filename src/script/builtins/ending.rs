//! How a run ends against its script's will: one enum, carried by the one error of Rhai that no script can catch.
//! The native functions ask here for room before they allocate; the host asks here what an error was.

use std::fmt;

use rhai::{Dynamic, EvalAltResult, Position};

/// What a native function of ours gives back.
pub(crate) type Fallible<T> = Result<T, Box<EvalAltResult>>;

/// Why a run was ended. Nothing in a script can catch it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The CPU budget is used up.
    Cpu,
    /// The memory budget is used up, or would be by what was asked for.
    Memory,
    /// Calls are nested too deep.
    Stack,
    /// The wall time is up.
    Timeout,
    /// Nobody waits for the result any more.
    Cancelled,
    /// Its handler ended the attempt: `retry_later`, `give_up`.
    ByHandler,
    /// A call to a provider ended the attempt: it has to wait for a gate, or must not be made twice.
    ByCall,
}

impl fmt::Display for Ending {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Cpu => "its CPU time is used up (`scripts.cpu_budget`)",
            Self::Memory => "it holds more memory than it may (`scripts.memory_budget`)",
            Self::Stack => "its calls or values are nested too deep",
            Self::Timeout => "its time is up (`scripts.timeout`, or the handler's own)",
            Self::Cancelled => "nobody waits for its result any more",
            Self::ByHandler => "its handler ended it",
            Self::ByCall => "a call to a provider ended it",
        })
    }
}

impl Ending {
    /// The error that carries it out of the script.
    pub(crate) fn error(self) -> Box<EvalAltResult> {
        EvalAltResult::ErrorTerminated(Dynamic::from(self), Position::NONE).into()
    }

    /// What `error` says of it, however many calls it has passed through; `None` for an error of the script's own.
    pub(crate) fn of(error: &EvalAltResult) -> Option<Self> {
        match error.unwrap_inner() {
            EvalAltResult::ErrorTerminated(reason, _) => {
                reason.read_lock::<Self>().map(|ending| *ending)
            }
            EvalAltResult::ErrorTooManyOperations(_) => Some(Self::Cpu),
            EvalAltResult::ErrorStackOverflow(_) => Some(Self::Stack),
            EvalAltResult::ErrorDataTooLarge(..) => Some(Self::Memory),
            _ => None,
        }
    }
}

/// Bytes that the running script may still allocate.
pub(crate) fn room() -> usize {
    #[cfg(test)]
    if let Some(bytes) = ROOM.get() {
        return bytes;
    }
    crate::memory::room()
}

/// Asks for room before allocating: the run ends here when `bytes` more do not fit.
pub(crate) fn reserve(bytes: usize) -> Fallible<()> {
    if bytes > room() { Err(Ending::Memory.error()) } else { Ok(()) }
}

#[cfg(test)]
thread_local! {
    static ROOM: std::cell::Cell<Option<usize>> = const { std::cell::Cell::new(None) };
}

/// Runs `work` as if the script could still allocate `bytes`.
#[cfg(test)]
pub(crate) fn with_room<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    ROOM.set(Some(bytes));
    let result = work();
    ROOM.set(None);
    result
}

/// An error that the script may catch: a map with `code` and `message`, as every failed call throws.
pub(crate) fn thrown(code: &'static str, message: &str) -> Box<EvalAltResult> {
    let mut map = rhai::Map::new();
    map.insert("code".into(), code.into());
    map.insert("message".into(), message.into());
    EvalAltResult::ErrorRuntime(map.into(), Position::NONE).into()
}

/// `thrown` for an argument that the function cannot take.
pub(crate) fn refused(message: &str) -> Box<EvalAltResult> {
    thrown("INVALID_ARGUMENT", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(error: &EvalAltResult, expected: Option<Ending>) {
        assert_eq!(Ending::of(error), expected, "{error:?}");
    }

    #[test]
    fn an_ending_is_found_inside_the_calls_that_it_passed_through() {
        let inner = Ending::Timeout.error();
        let wrapped = |inner| {
            EvalAltResult::ErrorInFunctionCall("f".into(), String::new(), inner, Position::NONE)
        };
        check(&wrapped(inner), Some(Ending::Timeout));
        check(&wrapped(Box::new(wrapped(Ending::Memory.error()))), Some(Ending::Memory));
        check(&EvalAltResult::ErrorStackOverflow(Position::NONE), Some(Ending::Stack));
        check(&EvalAltResult::ErrorTerminated("no".into(), Position::NONE), None);
        check(&refused("no"), None);
    }
}
