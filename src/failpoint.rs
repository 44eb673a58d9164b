//! Places at which a test ends the process, makes a step fail or holds it, by name. Debug builds only: in a release build each of them is
//! nothing, and neither the names nor the code are there.
//!
//! `NAME[:COUNT][=ACTION]`, several separated by `;`: at the COUNT-th time that the place is reached (the first, where it is left out), and
//! at no other. Actions are `kill` (as kill -9 would; what happens where none is named), `error` (the step fails) and `pause` (while a file
//! is there). Work that is done in batches counts by what is in them.

/// A place, and what has and has not happened by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// The writer has taken an event from its queue; nothing of it is written.
    AcceptBegun,
    /// Its statements ran; nothing is committed.
    AcceptWritten,
    /// It is committed, and nobody knows.
    AcceptCommitted,
    /// The worker knows, and the sender does not.
    AcceptAnswered,
    /// A claim, likewise.
    ClaimBegun,
    /// A claim, likewise.
    ClaimWritten,
    /// A claim, likewise.
    ClaimCommitted,
    /// The worker knows that its claim is stored, and has not begun the attempt.
    ClaimAnswered,
    /// A handler is about to run.
    AttemptStarted,
    /// A handler has returned or failed; nothing of it is written.
    AttemptEnded,
    /// The writer has taken the end of an attempt, with its effects, from its queue.
    FinishBegun,
    /// Its statements ran; nothing is committed.
    FinishWritten,
    /// It is committed, and nobody knows.
    FinishCommitted,
    /// The worker knows that the attempt has ended.
    FinishAnswered,
    /// The writer has taken a route's effects from its queue.
    RouteBegun,
    /// Their statements ran; nothing is committed.
    RouteWritten,
    /// They are committed, and neither the worker nor the caller knows.
    RouteCommitted,
    /// A step of retention, likewise.
    RetainBegun,
    /// A step of retention, likewise.
    RetainWritten,
    /// A step of retention, likewise.
    RetainCommitted,
}

#[cfg(debug_assertions)]
pub(crate) use self::armed::{arm, fails};

/// Does what was asked for at this place.
#[cfg(debug_assertions)]
pub(crate) fn reached(point: Point) {
    // Where there is no step that could fail, `error` means nothing.
    let _: bool = fails(point);
}

/// Nothing.
#[cfg(not(debug_assertions))]
pub(crate) fn reached(_: Point) {}

/// Never.
#[cfg(not(debug_assertions))]
pub(crate) fn fails(_: Point) -> bool {
    false
}

#[cfg(debug_assertions)]
mod armed {
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;
    use std::{fs, io, thread};

    use rustix::process::{Signal, getpid, kill_process};

    use super::Point;

    /// What each is called.
    const NAMES: [(&str, Point); 20] = [
        ("accept.begun", Point::AcceptBegun),
        ("accept.written", Point::AcceptWritten),
        ("accept.committed", Point::AcceptCommitted),
        ("accept.answered", Point::AcceptAnswered),
        ("claim.begun", Point::ClaimBegun),
        ("claim.written", Point::ClaimWritten),
        ("claim.committed", Point::ClaimCommitted),
        ("claim.answered", Point::ClaimAnswered),
        ("attempt.started", Point::AttemptStarted),
        ("attempt.ended", Point::AttemptEnded),
        ("finish.begun", Point::FinishBegun),
        ("finish.written", Point::FinishWritten),
        ("finish.committed", Point::FinishCommitted),
        ("finish.answered", Point::FinishAnswered),
        ("route.begun", Point::RouteBegun),
        ("route.written", Point::RouteWritten),
        ("route.committed", Point::RouteCommitted),
        ("retain.begun", Point::RetainBegun),
        ("retain.written", Point::RetainWritten),
        ("retain.committed", Point::RetainCommitted),
    ];

    /// How often it looks whether it may go on.
    const POLL: Duration = Duration::from_millis(5);

    static ARMED: OnceLock<Vec<Armed>> = OnceLock::new();

    /// Why there is no such failpoint.
    #[derive(Debug, PartialEq, Eq, thiserror::Error)]
    pub(crate) enum SpecificationError {
        /// No place has this name.
        #[error("RHAIWAY_FAILPOINT: `{0}` is no failpoint; src/failpoint.rs has the list")]
        Name(Box<str>),
        /// It is no number from 1 on.
        #[error("RHAIWAY_FAILPOINT: `{0}` is no number of times")]
        Count(Box<str>),
        /// It is none of the three.
        #[error("RHAIWAY_FAILPOINT: `{0}` is none of `kill`, `error` and `pause`")]
        Action(Box<str>),
        /// Something is to be held, and no file says for how long.
        #[error("RHAIWAY_FAILPOINT: `pause` needs RHAIWAY_FAILPOINT_HOLD, the path of a file")]
        Hold,
    }

    #[derive(Debug)]
    struct Armed {
        name: &'static str,
        point: Point,
        /// The time at which it acts.
        count: u64,
        reached: AtomicU64,
        action: Action,
    }

    #[derive(Debug, PartialEq, Eq)]
    enum Action {
        Kill,
        Error,
        Pause(PathBuf),
    }

    /// Sets what happens where, once for the process; `hold` is the file that `pause` waits for.
    pub(crate) fn arm(text: &str, hold: Option<&PathBuf>) -> Result<(), SpecificationError> {
        let parts = text.split(';').map(str::trim).filter(|part| !part.is_empty());
        let armed = parts.map(|part| read(part, hold)).collect::<Result<_, _>>()?;
        // Who comes second finds it done.
        _ = ARMED.set(armed);
        Ok(())
    }

    /// Does what was asked for at this place; true where the step is to fail.
    pub(crate) fn fails(point: Point) -> bool {
        let mut fails = false;
        for armed in ARMED.get().into_iter().flatten().filter(|armed| armed.point == point) {
            if armed.reached.fetch_add(1, Ordering::Relaxed) + 1 == armed.count {
                match &armed.action {
                    Action::Kill => die(),
                    Action::Error => fails = true,
                    Action::Pause(hold) => wait(armed.name, hold),
                }
            }
        }
        fails
    }

    fn read(part: &str, hold: Option<&PathBuf>) -> Result<Armed, SpecificationError> {
        let (place, action) = part.split_once('=').unwrap_or((part, "kill"));
        let (name, count) = place.split_once(':').unwrap_or((place, "1"));
        let (name, point) = NAMES
            .into_iter()
            .find(|(known, _)| *known == name)
            .ok_or_else(|| SpecificationError::Name(name.into()))?;
        let count = count.parse().ok().filter(|count| *count > 0);
        let count = count.ok_or_else(|| SpecificationError::Count(place.into()))?;
        let action = match action {
            "kill" => Action::Kill,
            "error" => Action::Error,
            "pause" => Action::Pause(hold.ok_or(SpecificationError::Hold)?.clone()),
            other => return Err(SpecificationError::Action(other.into())),
        };
        Ok(Armed { name, point, count, reached: AtomicU64::new(0), action })
    }

    /// Nothing is flushed, closed or dropped.
    fn die() -> ! {
        let _: rustix::io::Result<()> = kill_process(getpid(), Signal::KILL);
        loop {
            thread::park();
        }
    }

    /// Says so in the file that holds it, where that is there, and waits until it is gone.
    fn wait(name: &str, hold: &PathBuf) {
        if hold.exists() {
            let _: io::Result<()> = fs::write(hold, name);
        }
        while hold.exists() {
            thread::sleep(POLL);
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_failpoint_is_read_or_refused_with_the_reason() {
            let check = |part: &str, expected: (Point, u64, Action)| {
                let armed = read(part, Some(&"hold".into())).unwrap();
                assert_eq!((armed.point, armed.count, armed.action), expected, "{part}");
            };
            check("accept.begun", (Point::AcceptBegun, 1, Action::Kill));
            check("finish.committed:3", (Point::FinishCommitted, 3, Action::Kill));
            check("retain.written=error", (Point::RetainWritten, 1, Action::Error));
            check("attempt.ended:2=pause", (Point::AttemptEnded, 2, Action::Pause("hold".into())));

            let refused = |part: &str| read(part, None).unwrap_err();
            assert_eq!(refused("accept.begin"), SpecificationError::Name("accept.begin".into()));
            for part in ["accept.begun:0", "accept.begun:x", "accept.begun:"] {
                assert_eq!(refused(part), SpecificationError::Count(part.into()));
            }
            assert_eq!(refused("accept.begun=exit"), SpecificationError::Action("exit".into()));
            assert_eq!(refused("accept.begun=pause"), SpecificationError::Hold);
        }
    }
}
