//! The clocks of a running instance, moved by hand: a week passes in a moment, the wall clock is set back. It lives beside its project, so
//! that time goes on through a kill and a start. Debug builds only, as what it moves.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::sender::now;
use super::{Project, Rhaiway, SECRET, Signed, eventually, signed_at};

/// Moves the clocks of the instances that are started with it.
pub(crate) struct Clock {
    path: PathBuf,
    elapsed_ms: Cell<i64>,
    jump_ms: Cell<i64>,
}

impl Clock {
    /// At the real time.
    pub(crate) fn new(project: &Project) -> Self {
        let clock = Self {
            path: project.at("clock"),
            elapsed_ms: Cell::default(),
            jump_ms: Cell::default(),
        };
        clock.write();
        clock
    }

    /// `rhaiway run` with its clocks in this hand, for a test that sets more of it.
    pub(crate) fn command(&self, project: &Project) -> Command {
        let mut command = project.command(&["run"]);
        command.env("RHAIWAY_CLOCK", &self.path);
        command
    }

    /// Starts an instance and waits until it is ready.
    pub(crate) fn start(&self, project: &Project) -> Rhaiway {
        project.start_as(self.command(project))
    }

    /// Time passes, for all clocks, while an instance runs. It has taken notice when this returns.
    pub(crate) fn advance(&self, duration: Duration) {
        self.advance_unseen(duration);
        self.wait_until_taken();
    }

    /// Time passes while none runs.
    pub(crate) fn advance_unseen(&self, duration: Duration) {
        self.elapsed_ms.set(self.elapsed_ms.get() + millis(duration));
        self.write();
    }

    /// The wall clock is set to this many seconds since the epoch, while none runs.
    pub(crate) fn set_unseen(&self, seconds: i64) {
        self.jump_ms.set(self.jump_ms.get() + (seconds - self.now()) * 1000);
        self.write();
    }

    /// Somebody sets the wall clock, forward or back, while an instance runs.
    pub(crate) fn jump(&self, by_ms: i64) {
        self.jump_ms.set(self.jump_ms.get() + by_ms);
        self.write();
        self.wait_until_taken();
    }

    /// Seconds since the epoch, as an instance's wall clock shows them.
    pub(crate) fn now(&self) -> i64 {
        now() + (self.elapsed_ms.get() + self.jump_ms.get()) / 1000
    }

    /// A delivery that is signed by this clock.
    pub(crate) fn signed(&self, id: &str, body: impl Into<Vec<u8>>) -> Signed {
        signed_at(SECRET, id, self.now(), body)
    }

    fn text(&self) -> String {
        format!("{} {}", self.elapsed_ms.get(), self.jump_ms.get())
    }

    /// Replaces the file, so that nobody reads half of it.
    fn write(&self) {
        let fresh = self.path.with_extension("fresh");
        fs::write(&fresh, self.text()).expect("the file");
        fs::rename(fresh, &self.path).expect("its place");
    }

    fn wait_until_taken(&self) {
        eventually("the clock is taken over", || {
            let taken = fs::read_to_string(self.path.with_extension("taken")).ok();
            (taken? == self.text()).then_some(())
        });
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).expect("it is before the end of time")
}
