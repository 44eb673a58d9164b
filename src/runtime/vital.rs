//! Parts without which the process must not go on: workers, loader, dispatcher, store. Should one end by a fault of ours, the process stops with
//! exit code 1 rather than serve half; whoever supervises it starts it again, and what was acknowledged waits in the inbox.

use tokio::sync::mpsc;

/// Ends that are told before anybody hears: the first is enough.
const TOLD_MAX: usize = 8;

/// Makes the guards of the parts.
#[derive(Clone)]
pub(super) struct Vitals(mpsc::Sender<&'static str>);

/// Held by a part while it lives; its end is told, by whatever way it ends.
pub(super) struct Vital {
    part: &'static str,
    ended: mpsc::Sender<&'static str>,
}

/// The guards' maker, and where the name of a part arrives that has ended.
pub(super) fn channel() -> (Vitals, mpsc::Receiver<&'static str>) {
    let (sender, receiver) = mpsc::channel(TOLD_MAX);
    (Vitals(sender), receiver)
}

impl Vitals {
    /// A guard for `part`, such as "a worker".
    pub(super) fn guard(&self, part: &'static str) -> Vital {
        Vital { part, ended: self.0.clone() }
    }
}

impl Drop for Vital {
    fn drop(&mut self) {
        // Full: another end is being told already.
        _ = self.ended.try_send(self.part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_panics_is_told_of_by_name() {
        let (vitals, mut ended) = channel();
        let (lives, dies) = (vitals.guard("the loader"), vitals.guard("a worker"));
        let thread = std::thread::spawn(move || {
            let _dies = dies;
            panic!("a fault");
        });
        assert!(thread.join().is_err());
        assert_eq!(ended.try_recv(), Ok("a worker"));
        assert!(ended.try_recv().is_err());
        drop(lives);
        assert_eq!(ended.try_recv(), Ok("the loader"));
    }
}
