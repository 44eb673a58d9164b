//! Disk full, sync errors, locks of others, files that go away: refused while it lasts, right again after it.

use std::sync::atomic::AtomicBool;

use rusqlite::ffi;

use super::*;

/// What accepting says now.
fn try_accept(store: &SqliteStore, delivery_id: &str) -> Result<Accepted, StoreError> {
    block_on(store.accept(delivery(delivery_id)))
}

/// The database's words for why not.
fn unavailable<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> String {
    match answer {
        Err(StoreError::Unavailable(text)) => text.to_string(),
        other => panic!("it should be unavailable: {other:?}"),
    }
}

fn fail(code: i32) -> rusqlite::Result<()> {
    Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None))
}

/// Asks until it is taken again; a store that rests after failures says no a little longer.
fn accept_in_the_end(store: &SqliteStore, delivery_id: &str) -> Accepted {
    loop {
        match try_accept(store, delivery_id) {
            Ok(accepted) => return accepted,
            Err(StoreError::Unavailable(_)) => std::thread::yield_now(),
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn w15_a_full_disk_refuses_and_goes_on_by_itself_when_there_is_space() {
    let place = Place::new();
    let store = place.open();
    block_on(accept(&store, "before"));
    let full = Arc::new(AtomicBool::new(true));
    let disk = Arc::clone(&full);
    store.before_each_commit(move |_| {
        if disk.load(Ordering::Relaxed) { fail(ffi::SQLITE_FULL) } else { Ok(()) }
    });
    for n in 0..20 {
        assert!(unavailable(try_accept(&store, &format!("msg_{n}"))).contains("full"));
    }
    assert!(unavailable(block_on(store.ping())).contains("full"));
    let effects = writes([]);
    assert!(unavailable(block_on(store.commit(effects))).contains("full"));
    full.store(false, Ordering::Relaxed);
    assert_eq!(accept_in_the_end(&store, "after"), Accepted::New(Seq(2)));
    block_on(store.ping()).unwrap();
    assert_eq!(count(&place.killed()), 2);
}

#[test]
fn w15_when_sqlite_itself_finds_no_page_the_batch_is_refused_and_the_next_is_not() {
    let place = Place::new();
    let store = place.open();
    store.before_each_commit(|connection| {
        let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
        connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
    });
    block_on(accept(&store, "before"));
    store.no_hook();
    let big = NewEvent { body: vec![7; 1 << 20].into(), ..delivery("big") };
    assert!(unavailable(block_on(store.accept(big.clone()))).contains("full"));
    assert_eq!(count(&store), 1);
    // The limit was the connection's, and that is a new one.
    assert_eq!(block_on(store.accept(big)).unwrap(), Accepted::New(Seq(2)));
}

#[test]
fn w21_a_sync_error_refuses_the_whole_batch_and_nothing_of_it_is_visible() {
    let place = Place::new();
    let store = place.open();
    let seq = block_on(accept(&store, "before"));
    let (reached, at_commit) = channel();
    let (let_go, wait) = channel::<()>();
    let mut commits = 0;
    // The first is held so that the next six make one batch; that one's commit fails.
    store.before_each_commit(move |_| {
        commits += 1;
        match commits {
            1 => {
                reached.send(()).unwrap();
                let _: Result<(), _> = wait.recv();
                Ok(())
            }
            2 => fail(ffi::SQLITE_IOERR_FSYNC),
            _ => Ok(()),
        }
    });
    let held = store.ping();
    at_commit.recv().unwrap();
    let key = DocumentKey { collection: "users".into(), id: "u".into() };
    let put = Write::Put { body: Json("{}".into()), if_newer: None, expires_at: None };
    let end = end(seq, Outcome::Done(writes([(key.clone(), put)])));
    let accepted: Vec<_> = (0..5).map(|n| store.accept(delivery(&format!("msg_{n}")))).collect();
    let finished = store.finish(end.clone());
    drop(let_go);
    block_on(async {
        held.await.unwrap();
        for answer in accepted {
            assert!(unavailable(answer.await).contains("disk I/O error"));
        }
        assert!(unavailable(finished.await).contains("disk I/O error"));
        assert_eq!(store.counts().await.unwrap().pending, 1);
        let reader = store.reader().unwrap();
        assert_eq!(reader.get(&key).await.unwrap(), Read::Absent);
        assert!(store.load(seq).await.unwrap().unwrap().jobs.is_empty());
        // What is tried again by whoever asked works, and is told from what had failed.
        assert_eq!(store.accept(delivery("msg_0")).await.unwrap(), Accepted::New(Seq(2)));
        assert_eq!(store.finish(end).await.unwrap(), YES);
        assert!(matches!(reader.get(&key).await.unwrap(), Read::Found { .. }));
        assert_eq!(store.counts().await.unwrap().pending, 1);
    });
}

#[test]
fn w16_a_database_that_another_process_locks_is_refused_for_as_long_and_then_not() {
    let place = Place::new();
    let store = place.open();
    block_on(accept(&store, "before"));
    store.shared.probe.be_impatient();
    let other = connect::plain(place.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    for n in 0..10 {
        let text = unavailable(try_accept(&store, &format!("msg_{n}")));
        assert!(text.contains("another process keeps it locked"), "{text}");
    }
    assert!(block_on(store.ping()).is_err());
    assert_eq!(count(&store), 1, "reading goes on");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(accept_in_the_end(&store, "after"), Accepted::New(Seq(2)));
}

#[test]
fn w16_a_lock_that_is_given_back_soon_is_waited_for() {
    let place = Place::new();
    let store = place.open();
    let other = connect::plain(place.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut answer = store.accept(delivery("msg_1"));
    block_on(async {
        assert!(futures_util::poll!(&mut answer).is_pending());
        other.execute_batch("ROLLBACK").unwrap();
        assert_eq!(answer.await.unwrap(), Accepted::New(Seq(1)));
    });
}

/// Two events are answered, `act` happens, and from then on nothing may be answered well.
fn check_gone(act: impl FnOnce(&Path)) -> (Place, SqliteStore) {
    let place = Place::new();
    let store = place.open();
    block_on(accept(&store, "a"));
    block_on(accept(&store, "b"));
    act(place.path());
    for _ in 0..3 {
        let text = unavailable(try_accept(&store, "c"));
        assert!(text.contains("was deleted or replaced") && text.contains("rhaiway.db"), "{text}");
        assert!(block_on(store.ping()).is_err());
    }
    (place, store)
}

#[test]
fn w19_a_wal_that_is_deleted_is_noticed_and_what_was_answered_is_written_back() {
    let (place, store) = check_gone(|path| fs::remove_file(connect::beside(path, "-wal")).unwrap());
    let path = place.folder.path().join("database-alone.db");
    fs::copy(place.path(), &path).unwrap();
    let next = open(&OpenOptions { path, max_pending: 9 }).unwrap();
    assert_eq!(count(&next), 2);
    drop(store);
}

#[test]
fn w19_a_data_folder_that_is_removed_is_noticed_and_does_not_come_back_empty() {
    let (place, store) = check_gone(|path| fs::remove_dir_all(path.parent().unwrap()).unwrap());
    assert!(block_on(store.close()).is_err(), "a stop is not clean either");
    assert!(!place.path().exists());
}

#[test]
fn w19_a_database_that_is_replaced_is_noticed() {
    let (place, _store) = check_gone(|path| {
        let copy = connect::beside(path, ".copy");
        fs::copy(path, &copy).unwrap();
        fs::rename(&copy, path).unwrap();
    });
    assert!(place.path().exists());
}

#[test]
fn w19_a_folder_that_is_put_back_works_again() {
    let (place, store) = check_gone(|path| {
        let folder = path.parent().unwrap();
        fs::rename(folder, connect::beside(folder, ".away")).unwrap();
    });
    let folder = place.path().parent().unwrap();
    fs::rename(connect::beside(folder, ".away"), folder).unwrap();
    assert_eq!(accept_in_the_end(&store, "c"), Accepted::New(Seq(3)));
    assert_eq!(count(&place.killed()), 3);
}

#[test]
fn w19_a_commit_into_files_that_are_gone_by_then_is_no_success() {
    let place = Place::new();
    let store = place.open();
    block_on(accept(&store, "a"));
    let folder: PathBuf = place.path().parent().unwrap().into();
    store.before_each_commit(move |_| {
        let _: std::io::Result<()> = fs::remove_dir_all(&folder);
        Ok(())
    });
    assert!(unavailable(try_accept(&store, "b")).contains("was deleted"));
}
