//! Places at which a test ends the process, makes a step fail or holds it, by name. Debug builds only: in a release build each of them is
//! nothing, and neither the names nor the code are there.
//!
//! `NAME[:COUNT][=ACTION]`, several separated by `;`: at the COUNT-th time that the place is reached (the first, where it is left out), and
//! at no other. Actions are `kill` (as kill -9 would; what happens where none is named), `error` (the step fails) and `pause` (while a file
//! is there). Work that is done in batches counts by what is in them.

/// A place, and what has and has not happened by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// How far the writer is with a step.
    Writer(Step, Phase),
    /// The worker knows that an event is stored, and the sender does not.
    AcceptAnswered,
    /// The worker knows that its claim is stored, and has not begun the attempt.
    ClaimAnswered,
    /// A handler is about to run.
    AttemptStarted,
    /// An outbound call is about to be sent; where it must be on disk, it is.
    CallBegun,
    /// It has been answered, or the answer is lost; nothing of that is written.
    CallEnded,
    /// The worker knows what it came to, and that it is on disk where it must be; the script does not.
    CallNoted,
    /// A handler has returned or failed; nothing of it is written.
    AttemptEnded,
    /// The worker knows that the attempt has ended.
    FinishAnswered,
}

/// What the writer is asked to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// An event.
    Accept,
    /// An attempt that is about to begin.
    Claim,
    /// An outbound call that must be on disk before it is sent, or what it came to.
    Note,
    /// What was used of a provider.
    Use,
    /// The end of an attempt, with its effects.
    Finish,
    /// A route's effects.
    Route,
    /// Event, effects and answer of a delivery that its script answers, or effects and answer of a request with a key.
    Answer,
    /// The jobs of an event that has to wait for another of its key.
    Plan,
    /// What was emitted for a time that has come.
    Promote,
    /// A timer's event, or that a timer was seen.
    Fire,
    /// That a timer is no more.
    Forget,
    /// An event that is repeated on request.
    Replay,
    /// Jobs that are due because their script was saved.
    Wake,
    /// A step of retention.
    Retain,
    /// Which indexes there are to be.
    Declare,
    /// A step of building or dropping an index.
    Index,
}

/// How far the writer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It is taken from the queue; nothing of it is written.
    Begun,
    /// Its statements ran; nothing is committed.
    Written,
    /// It is committed, and nobody knows.
    Committed,
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
    use std::path::{Path, PathBuf};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;
    use std::{fs, io, thread};

    use rustix::process::{Signal, getpid, kill_process};

    use super::{Phase, Point, Step};

    /// What the places outside of the writer are called.
    const PLACES: [(&str, Point); 8] = [
        ("accept.answered", Point::AcceptAnswered),
        ("claim.answered", Point::ClaimAnswered),
        ("attempt.started", Point::AttemptStarted),
        ("call.begun", Point::CallBegun),
        ("call.ended", Point::CallEnded),
        ("call.noted", Point::CallNoted),
        ("attempt.ended", Point::AttemptEnded),
        ("finish.answered", Point::FinishAnswered),
    ];

    /// What a step of the writer is called, before the dot.
    const STEPS: [(&str, Step); 16] = [
        ("accept", Step::Accept),
        ("claim", Step::Claim),
        ("note", Step::Note),
        ("use", Step::Use),
        ("finish", Step::Finish),
        ("route", Step::Route),
        ("answer", Step::Answer),
        ("plan", Step::Plan),
        ("promote", Step::Promote),
        ("fire", Step::Fire),
        ("forget", Step::Forget),
        ("replay", Step::Replay),
        ("wake", Step::Wake),
        ("retain", Step::Retain),
        ("declare", Step::Declare),
        ("index", Step::Index),
    ];

    /// How far it is, after the dot.
    const PHASES: [(&str, Phase); 3] =
        [("begun", Phase::Begun), ("written", Phase::Written), ("committed", Phase::Committed)];

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
        name: Box<str>,
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
    pub(crate) fn arm(text: &str, hold: Option<&Path>) -> Result<(), SpecificationError> {
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
                    Action::Pause(hold) => wait(&armed.name, hold),
                }
            }
        }
        fails
    }

    fn read(part: &str, hold: Option<&Path>) -> Result<Armed, SpecificationError> {
        let (place, action) = part.split_once('=').unwrap_or((part, "kill"));
        let (name, count) = place.split_once(':').unwrap_or((place, "1"));
        let point = place_of(name).ok_or_else(|| SpecificationError::Name(name.into()))?;
        let count = count.parse().ok().filter(|count| *count > 0);
        let count = count.ok_or_else(|| SpecificationError::Count(place.into()))?;
        let action = match action {
            "kill" => Action::Kill,
            "error" => Action::Error,
            "pause" => Action::Pause(hold.ok_or(SpecificationError::Hold)?.to_owned()),
            other => return Err(SpecificationError::Action(other.into())),
        };
        Ok(Armed { name: name.into(), point, count, reached: AtomicU64::new(0), action })
    }

    fn place_of(name: &str) -> Option<Point> {
        if let Some((_, point)) = PLACES.into_iter().find(|(known, _)| *known == name) {
            return Some(point);
        }
        let (step, phase) = name.split_once('.')?;
        let (_, step) = STEPS.into_iter().find(|(known, _)| *known == step)?;
        let (_, phase) = PHASES.into_iter().find(|(known, _)| *known == phase)?;
        Some(Point::Writer(step, phase))
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
                let armed = read(part, Some(Path::new("hold"))).unwrap();
                assert_eq!((armed.point, armed.count, armed.action), expected, "{part}");
            };
            let writer = Point::Writer;
            check("accept.begun", (writer(Step::Accept, Phase::Begun), 1, Action::Kill));
            check("finish.committed:3", (writer(Step::Finish, Phase::Committed), 3, Action::Kill));
            check("retain.written=error", (writer(Step::Retain, Phase::Written), 1, Action::Error));
            check("attempt.ended:2=pause", (Point::AttemptEnded, 2, Action::Pause("hold".into())));

            let refused = |part: &str| read(part, None).unwrap_err();
            for name in ["accept.begin", "accepted.begun", "accept", "attempt.begun", ""] {
                assert_eq!(refused(name), SpecificationError::Name(name.into()));
            }
            for part in ["accept.begun:0", "accept.begun:x", "accept.begun:"] {
                assert_eq!(refused(part), SpecificationError::Count(part.into()));
            }
            assert_eq!(refused("accept.begun=exit"), SpecificationError::Action("exit".into()));
            assert_eq!(refused("accept.begun=pause"), SpecificationError::Hold);
        }
    }
}
