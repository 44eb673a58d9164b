//! The cases of storage that need a real file or a hand inside the writer.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use rusqlite::Connection;

use super::*;
use crate::clock::Millis;
use crate::store::conformance::random::as_after_a_kill;
use crate::store::conformance::{
    LONG, YES, accept, block_on, delivery, done, end, job, plan, writes,
};
use crate::store::{DocumentKey, JobState, Json, Outcome, Read, Version, Write};

mod opening;
mod trouble;

impl SqliteStore {
    fn before_each_commit(
        &self,
        hook: impl FnMut(&Connection) -> rusqlite::Result<()> + Send + 'static,
    ) {
        self.shared.probe.set_hook(Some(Box::new(hook)));
    }

    fn no_hook(&self) {
        self.shared.probe.set_hook(None);
    }

    /// The next commit says that it is about to, and then waits to be let go.
    fn hold_next_commit(&self) -> (Receiver<()>, Sender<()>) {
        let (reached, at_commit) = channel();
        let (let_go, wait) = channel();
        self.before_each_commit(move |_| {
            // Later commits find the other ends gone, and pass.
            let _: Result<(), _> = reached.send(());
            let _: Result<(), _> = wait.recv();
            Ok(())
        });
        (at_commit, let_go)
    }
}

/// A folder of a test's own, and the store in it.
struct Place {
    folder: tempfile::TempDir,
    options: OpenOptions,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data").join("rhaiway.db");
        Self { folder, options: OpenOptions { path, max_pending: 10_000 } }
    }

    fn path(&self) -> &Path {
        &self.options.path
    }

    fn open(&self) -> SqliteStore {
        open(&self.options).unwrap()
    }

    fn refused(&self) -> OpenError {
        open(&self.options).err().expect("it must not open")
    }

    /// The store as a process that is killed now leaves it, opened by the next one.
    fn killed(&self) -> SqliteStore {
        open(&OpenOptions { path: as_after_a_kill(self.path()), ..self.options.clone() }).unwrap()
    }
}

fn count(store: &SqliteStore) -> u64 {
    block_on(store.counts()).unwrap().pending
}

#[test]
fn w5_a_duplicate_that_arrives_before_the_first_is_committed_is_answered_after_it() {
    let place = Place::new();
    let store = place.open();
    let (at_commit, let_go) = store.hold_next_commit();
    let mut first = store.accept(delivery("msg_1"));
    at_commit.recv().unwrap();
    let mut second = store.accept(delivery("msg_1"));
    block_on(async {
        assert!(futures_util::poll!(&mut first).is_pending());
        assert!(futures_util::poll!(&mut second).is_pending());
        assert_eq!(count_in(&place.killed()).await, 0, "nothing is on disk yet");
        drop(let_go);
        let again = second.await.unwrap();
        assert_eq!(again, Accepted::Duplicate { event: Seq(1), same_body: true });
        assert_eq!(count_in(&place.killed()).await, 1);
        assert_eq!(first.await.unwrap(), Accepted::New(Seq(1)));
    });
}

async fn count_in(store: &SqliteStore) -> u64 {
    store.counts().await.unwrap().pending
}

#[test]
fn w6_a_thousand_events_at_once_take_few_commits_and_each_is_durable() {
    let place = Place::new();
    let store = place.open();
    let (at_commit, let_go) = store.hold_next_commit();
    let first = store.accept(delivery("first"));
    at_commit.recv().unwrap();
    let answers: Vec<_> = (0..1000).map(|n| store.accept(delivery(&format!("msg_{n}")))).collect();
    drop(let_go);
    block_on(async {
        first.await.unwrap();
        for (answer, seq) in answers.into_iter().zip(2..) {
            assert_eq!(answer.await.unwrap(), Accepted::New(Seq(seq)));
        }
    });
    assert_eq!(count(&place.killed()), 1001);
    let batches = store.shared.probe.batches();
    assert!(batches <= 6, "{batches} commits");
}

#[test]
fn more_than_the_queue_holds_is_taken_in_the_end() {
    let place = Place::new();
    let store = place.open();
    let (at_commit, let_go) = store.hold_next_commit();
    let ping = store.ping();
    at_commit.recv().unwrap();
    let answers: Vec<_> = (0..writer::QUEUE + 50).map(|_| store.accept(delivery("same"))).collect();
    drop(let_go);
    block_on(async {
        ping.await.unwrap();
        for answer in answers {
            answer.await.unwrap();
        }
    });
    assert_eq!(count(&store), 1);
}

#[test]
fn w14_a_kill_at_any_commit_loses_nothing_that_was_answered_and_keeps_batches_whole() {
    for round in 0..20_u64 {
        let place = Place::new();
        let store = place.open();
        let answered = Arc::new(Mutex::new(Vec::new()));
        let (copies, copied) = channel();
        let (known, path) = (Arc::clone(&answered), place.path().to_owned());
        let mut commits = 0;
        store.before_each_commit(move |connection| {
            commits += 1;
            if commits == 1 + round % 7 {
                // What was answered is taken first: the copy may hold more, never less.
                let answered = known.lock().unwrap().clone();
                let whole: i64 =
                    connection.query_row("SELECT max(seq) FROM events", [], |row| row.get(0))?;
                copies.send((answered, whole, as_after_a_kill(&path))).unwrap();
            }
            Ok(())
        });
        let end_of_last = block_on(async {
            let mut last = 0;
            for burst in 0..8 {
                let size = 1 + (round * 7 + burst * 3) % 20;
                let answers: Vec<_> = (0..size)
                    .map(|n| store.accept(delivery(&format!("msg_{burst}_{n}"))))
                    .collect();
                for answer in answers {
                    let Accepted::New(seq) = answer.await.unwrap() else { panic!("it is new") };
                    answered.lock().unwrap().push(seq);
                    last = seq.0;
                }
            }
            last
        });
        let (answered, batch_end, path) = copied.recv().unwrap();
        let copy = open(&OpenOptions { path, ..place.options.clone() }).unwrap();
        let found = copy.opened().last.0;
        let newest_answered = answered.iter().map(|seq| seq.0).max().unwrap_or(0);
        assert!(found >= newest_answered, "round {round}: {found} of {newest_answered}");
        assert!(
            found < batch_end && batch_end <= end_of_last,
            "the batch that was cut is not there"
        );
        assert_eq!(count(&copy), u64::try_from(found).unwrap(), "no gap");
        for seq in answered {
            assert!(block_on(copy.load(seq)).unwrap().is_some(), "round {round}: {seq:?}");
        }
    }
}

#[test]
fn w13_a_kill_before_the_commit_of_effects_leaves_none_and_after_it_all() {
    let place = Place::new();
    let store = place.open();
    let key = DocumentKey { collection: "users".into(), id: "u".into() };
    let put = Write::Put { body: Json("{}".into()), if_newer: None, expires_at: None };
    let effects = writes([(key.clone(), put)]);
    let seq = block_on(accept(&store, "msg_1"));
    let (at_commit, let_go) = store.hold_next_commit();
    let finish = store.finish(end(seq, Outcome::Done(effects.clone())));
    at_commit.recv().unwrap();
    let before = place.killed();
    drop(let_go);
    assert_eq!(block_on(finish).unwrap(), YES);
    let after = place.killed();

    let read = |store: &SqliteStore| block_on(store.reader().unwrap().get(&key)).unwrap();
    assert_eq!((read(&before), count(&before)), (Read::Absent, 1));
    assert!(matches!(read(&after), Read::Found { .. }));
    let again = end(seq, Outcome::Done(effects));
    assert_eq!(block_on(after.finish(again.clone())).unwrap(), Committed::Stale);
    assert_eq!(block_on(before.finish(again)).unwrap(), YES);
}

#[test]
fn a_claim_outlives_a_kill_and_its_job_is_due_again() {
    let place = Place::new();
    let store = place.open();
    let seq = block_on(accept(&store, "msg_1"));
    block_on(store.claim(job(seq, 0), plan(&["clerk"]), 3)).unwrap();
    let due = |store: &SqliteStore| block_on(store.due(Millis(i64::MAX), 9)).unwrap().len();
    assert_eq!(due(&store), 0);
    let next = place.killed();
    assert_eq!(due(&next), 1);
    let job = block_on(next.load(seq)).unwrap().unwrap().jobs.remove(0);
    assert_eq!((job.state, job.attempt), (JobState::Running, 3));
}

#[test]
fn a_clean_stop_gives_the_attempts_of_claims_back() {
    let place = Place::new();
    let store = place.open();
    block_on(async {
        let (first, second) = (accept(&store, "a").await, accept(&store, "b").await);
        store.claim(job(first, 0), plan(&["clerk"]), 1).await.unwrap();
        store.claim(job(second, 0), plan(&["clerk"]), 3).await.unwrap();
        store.close().await.unwrap();
    });
    drop(store);
    let store = place.open();
    let jobs = |seq| block_on(store.load(Seq(seq))).unwrap().unwrap().jobs;
    assert_eq!((jobs(1)[0].state, jobs(1)[0].attempt), (JobState::Pending, 0));
    assert_eq!((jobs(2)[0].state, jobs(2)[0].attempt), (JobState::Retrying, 2));
    assert_eq!(block_on(store.due(Millis(i64::MAX), 9)).unwrap().len(), 2);
    assert_eq!(count(&store), 2);
}

#[test]
fn a_version_does_not_come_back_after_a_kill_or_a_stop() {
    let place = Place::new();
    let key = DocumentKey { collection: "users".into(), id: "u".into() };
    let write = |store: &SqliteStore, write| {
        assert_eq!(block_on(store.commit(writes([(key.clone(), write)]))).unwrap(), YES);
        block_on(store.reader().unwrap().get(&key)).unwrap().version()
    };
    let put = || Write::Put { body: Json("{}".into()), if_newer: None, expires_at: None };
    let store = place.open();
    let mut versions = vec![write(&store, put()), write(&store, put())];
    assert_eq!(write(&store, Write::Delete { tombstone_until: None }), Version(0));
    let killed = place.killed();
    versions.extend([write(&killed, put()), write(&killed, put())]);
    block_on(store.close()).unwrap();
    let reopened = place.open();
    versions.extend([write(&reopened, put()), write(&reopened, put())]);
    // The killed copy and the reopened file went separate ways; within one file's history none is given twice.
    for history in [[0, 1, 2, 3], [0, 1, 4, 5]] {
        let mut seen: Vec<_> = history.map(|at| versions[at].0).into();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 4, "{versions:?}");
    }
}

#[test]
fn a_counter_of_versions_that_runs_over_takes_the_next_epoch_with_it() {
    let place = Place::new();
    drop(block_on(place.open().close()));
    let connection = connect::writer(place.path()).unwrap();
    let (mut ledger, _) = Ledger::open(&connection, 1).unwrap();
    let epoch = ledger::meta(&connection, "epoch").unwrap();
    ledger.run_over_soon();
    let versions = [(); 2].map(|()| ledger.next_version());
    ledger.mark(&connection).unwrap();
    assert_eq!(versions, [(epoch << 32) + 0xffff_ffff, (epoch + 1) << 32]);
    assert_eq!(ledger::meta(&connection, "epoch").unwrap(), epoch + 1);
}

#[test]
fn the_low_water_mark_is_where_recovery_begins() {
    let place = Place::new();
    let store = place.open();
    let answers =
        (0..2000).map(|n| store.accept(delivery(&format!("msg_{n}")))).collect::<Vec<_>>();
    let ends: Vec<_> = (1..=2000)
        .filter(|seq| *seq != 1500)
        .map(|seq| store.finish(end(Seq(seq), done())))
        .collect();
    block_on(async {
        for answer in answers {
            answer.await.unwrap();
        }
        for answer in ends {
            assert_eq!(answer.await.unwrap(), YES);
        }
        store.ping().await.unwrap();
    });
    let next = place.killed();
    let opened = next.opened();
    assert_eq!((opened.unclean, opened.low_water, opened.last), (true, Seq(1499), Seq(2000)));
    let found = block_on(next.undispatched(opened.low_water, opened.last, 9)).unwrap();
    assert_eq!(found.iter().map(|found| found.event.0).collect::<Vec<_>>(), [1500]);
    let path = as_after_a_kill(place.path());
    let stored = connect::reader(&path).unwrap();
    assert!(ledger::meta(&stored, "low_water").unwrap() >= 1024, "it is written down on the way");
}

#[test]
fn a_seq_is_not_given_again_after_its_event_was_deleted() {
    let place = Place::new();
    let store = place.open();
    let seq = block_on(accept(&store, "msg_1"));
    block_on(store.finish(end(seq, done()))).unwrap();
    assert_eq!(block_on(store.retain(Millis(9999), Millis(9999), 9, LONG)).unwrap(), 2);
    let next = place.killed();
    assert_eq!(block_on(accept(&next, "msg_2")), Seq(2));
    block_on(store.close()).unwrap();
    assert_eq!(block_on(accept(&place.open(), "msg_2")), Seq(2));
}

#[test]
fn a_long_scan_does_not_hold_up_single_reads() {
    let place = Place::new();
    let store = place.open();
    let (entered, at_work) = channel();
    let (let_go, wait) = channel::<()>();
    let scan = store.read(move |_| {
        entered.send(()).unwrap();
        let _: Result<(), _> = wait.recv();
        Ok(())
    });
    at_work.recv().unwrap();
    let key = DocumentKey { collection: "users".into(), id: "u".into() };
    assert_eq!(block_on(store.reader().unwrap().get(&key)).unwrap(), Read::Absent);
    assert_eq!(count(&store), 0, "the other thread of the pool");
    drop(let_go);
    block_on(scan).unwrap();
}
