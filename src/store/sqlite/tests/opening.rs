//! Opening: what is refused and what the refusal says, rights, the lock, a clean and an unclean stop.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

#[test]
fn o4_a_missing_data_folder_is_made_for_this_user_alone() {
    let place = Place::new();
    let store = place.open();
    block_on(accept(&store, "msg_1"));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(place.path().parent().unwrap()), 0o700);
    for suffix in ["", "-wal", "-shm", ".lock"] {
        assert_eq!(mode(&connect::beside(place.path(), suffix)), 0o600, "{suffix}");
    }
}

#[test]
fn a_clean_stop_is_told_from_an_unclean_one() {
    let place = Place::new();
    let store = place.open();
    assert!(!store.opened().unclean);
    block_on(accept(&store, "msg_1"));
    block_on(store.close()).unwrap();
    let wal = fs::metadata(connect::beside(place.path(), "-wal")).map_or(0, |wal| wal.len());
    assert_eq!(wal, 0, "all of it is in the database");
    let store = place.open();
    let expected = Opened { unclean: false, low_water: Seq(0), last: Seq(1) };
    assert_eq!(store.opened(), expected);
    assert!(place.killed().opened().unclean);
}

/// A file in the place of the database: it must be refused with these words, and stay as it is.
fn check_refused(content: &[u8], words: &str) {
    let place = Place::new();
    fs::create_dir(place.path().parent().unwrap()).unwrap();
    fs::write(place.path(), content).unwrap();
    let text = place.refused().to_string();
    assert!(text.contains(words) && text.contains("move `"), "{text}");
    assert!(text.contains(&place.path().display().to_string()), "{text}");
    assert_eq!(fs::read(place.path()).unwrap(), content);
    assert!(open_read_only(place.path()).is_err());
}

/// A database of a few pages, as bytes, stopped cleanly.
fn good() -> Vec<u8> {
    let place = Place::new();
    let store = place.open();
    for n in 0..50 {
        block_on(accept(&store, &format!("msg_{n}")));
    }
    block_on(store.close()).unwrap();
    fs::read(place.path()).unwrap()
}

#[test]
fn w17_a_corrupt_database_is_refused_and_left_as_it_is() {
    check_refused(b"", "too short");
    check_refused(b"SQLite format 3\0", "too short");
    check_refused(&[b'x'; 8192], "does not begin like a database");
    let good = good();
    check_refused(&good[..good.len() - 1], "its end is missing");
    check_refused(&good[..4096], "its end is missing");
    let mut without_schema = good.clone();
    without_schema[100..4096].fill(0);
    check_refused(&without_schema, "corrupt");
    let mut broken_header = good;
    broken_header[16..100].fill(0xff);
    check_refused(&broken_header, "corrupt");
}

#[test]
fn w17_a_broken_page_is_found_after_an_unclean_stop() {
    let place = Place::new();
    let mut bytes = good();
    let pages = bytes.len() / 4096;
    fs::create_dir(place.path().parent().unwrap()).unwrap();
    fs::write(place.path(), &bytes).unwrap();
    let unclean = connect::plain(place.path()).unwrap();
    ledger::set_meta(&unclean, "unclean", 1).unwrap();
    drop(unclean);
    bytes = fs::read(place.path()).unwrap();
    for page in pages / 2..pages {
        bytes[page * 4096..page * 4096 + 8].fill(0x77);
    }
    fs::write(place.path(), &bytes).unwrap();
    let refused = place.refused();
    assert!(matches!(refused, OpenError::Corrupt(..)), "{refused:?}");
}

#[test]
fn w17_a_wal_without_its_database_is_not_taken_for_nothing() {
    let place = Place::new();
    let store = place.open();
    block_on(accept(&store, "msg_1"));
    let path = as_after_a_kill(place.path());
    fs::remove_file(&path).unwrap();
    let options = OpenOptions { path: path.clone(), max_pending: 1 };
    let text = open(&options).err().unwrap().to_string();
    assert!(text.contains("rhaiway.db-wal` is there without it"), "{text}");
    assert!(!path.exists());
}

#[test]
fn w17_another_program_s_database_is_refused() {
    let place = Place::new();
    fs::create_dir(place.path().parent().unwrap()).unwrap();
    fs::write(place.path(), good()).unwrap();
    let connection = connect::plain(place.path()).unwrap();
    connection.execute_batch("PRAGMA application_id = 7").unwrap();
    drop(connection);
    assert!(matches!(place.refused(), OpenError::Foreign(_)));
}

#[test]
fn w18_a_schema_that_is_newer_than_the_binary_is_refused() {
    let place = Place::new();
    drop(block_on(place.open().close()));
    let connection = connect::plain(place.path()).unwrap();
    connection.execute_batch("PRAGMA user_version = 99").unwrap();
    drop(connection);
    let before = fs::read(place.path()).unwrap();
    let text = place.refused().to_string();
    let known = format!("only up to {}", migrate::KNOWN);
    assert!(text.contains("has schema 99") && text.contains(&known), "{text}");
    let read_only = open_read_only(place.path()).err().expect("refused too");
    assert!(matches!(read_only, OpenError::Newer(_, 99)));
    assert_eq!(fs::read(place.path()).unwrap(), before);
}

/// Whether rights bind this user at all; they do not bind root.
fn rights_bind(folder: &Path) -> bool {
    fs::File::create(folder.join("probe")).is_err()
}

#[test]
fn w18_a_file_or_folder_that_cannot_be_written_is_named() {
    let place = Place::new();
    drop(block_on(place.open().close()));
    let folder = place.path().parent().unwrap();
    let set =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    set(folder, 0o500);
    if rights_bind(folder) {
        fs::remove_file(connect::beside(place.path(), ".lock")).unwrap_or_default();
        set(folder, 0o700);
        set(place.path(), 0o400);
        let refused = place.refused();
        assert!(matches!(&refused, OpenError::NotWritable(path, _) if path == place.path()));
        assert!(refused.to_string().contains("make it writable"), "{refused}");
    }
    set(folder, 0o700);
    // The kernel's own folders refuse even root.
    let options = OpenOptions { path: "/proc/rhaiway/rhaiway.db".into(), max_pending: 1 };
    let refused = open(&options).err().unwrap();
    assert!(
        matches!(&refused, OpenError::NotWritable(path, _) if path == Path::new("/proc/rhaiway")),
        "{refused:?}"
    );
}

#[test]
fn o4_a_path_that_cannot_be_a_database_is_named() {
    let place = Place::new();
    fs::write(place.folder.path().join("data"), "a file").unwrap();
    let refused = place.refused();
    assert!(
        matches!(&refused, OpenError::NotAFolder(path) if path.ends_with("data")),
        "{refused:?}"
    );
    let deeper = place.folder.path().join("data/deeper/rhaiway.db");
    let refused = open(&OpenOptions { path: deeper, max_pending: 1 }).err().unwrap();
    assert!(matches!(refused, OpenError::NotAFolder(_)), "{refused:?}");
    let folder = place.folder.path().join("folder.db");
    fs::create_dir(&folder).unwrap();
    let refused = open(&OpenOptions { path: folder.clone(), max_pending: 1 }).err().unwrap();
    assert!(matches!(&refused, OpenError::NotAFile(path) if *path == folder), "{refused:?}");
    let dangling = place.folder.path().join("dangling.db");
    std::os::unix::fs::symlink("/nowhere/at/all", &dangling).unwrap();
    let refused = open(&OpenOptions { path: dangling, max_pending: 1 }).err().unwrap();
    assert!(matches!(refused, OpenError::NotReadable(..)), "{refused:?}");
}

#[test]
fn w20_a_second_opening_is_refused_and_names_who_has_it() {
    let place = Place::new();
    let store = place.open();
    let text = place.refused().to_string();
    let process = format!("process {}", std::process::id());
    assert!(text.contains(&process) && text.contains("stop it"), "{text}");
    block_on(accept(&store, "msg_1"));
    block_on(store.close()).unwrap();
    assert_eq!(count(&place.open()), 1, "a stop gives the lock back");
}

#[test]
fn a_lock_file_that_a_killed_process_left_holds_nobody_up() {
    let place = Place::new();
    fs::create_dir(place.path().parent().unwrap()).unwrap();
    fs::write(connect::beside(place.path(), ".lock"), "4194304\n4194304\n").unwrap();
    fs::write(connect::beside(place.path(), ".new"), "half a database").unwrap();
    let _store = place.open();
    let text = fs::read_to_string(connect::beside(place.path(), ".lock")).unwrap();
    assert_eq!(text.trim(), std::process::id().to_string());
}

#[test]
fn reading_alone_shows_events_beside_a_process_that_writes_and_without_one() {
    let place = Place::new();
    assert!(matches!(open_read_only(place.path()).err(), Some(OpenError::Missing(_))));
    assert!(!place.path().exists());
    let store = place.open();
    for id in ["a", "b", "c"] {
        block_on(accept(&store, id));
    }
    block_on(store.finish(end(Seq(1), done()))).unwrap();
    block_on(store.finish(end(Seq(3), Outcome::Dead { error: "no".into(), then: Arc::default() })))
        .unwrap();
    let check = |path: &Path| {
        let read_only = open_read_only(path).unwrap();
        let query = EventQuery { limit: 9, ..EventQuery::default() };
        let events = read_only.events(&query).unwrap().events;
        let states: Vec<_> = events.iter().map(|event| event.state).collect();
        assert_eq!(states, [JobState::Dead, JobState::Pending, JobState::Done]);
        let detail = read_only.event(events[0].id).unwrap().unwrap();
        assert_eq!(detail.attempts.len(), 1);
    };
    check(&as_after_a_kill(place.path()));
    check(place.path());
    block_on(store.close()).unwrap();
    drop(store);
    check(place.path());
    assert_eq!(count(&place.open()), 1, "looking took nothing away");
}

#[test]
fn another_process_s_lock_at_opening_is_an_answer_and_not_a_hang() {
    let place = Place::new();
    drop(block_on(place.open().close()));
    let other = connect::plain(place.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(matches!(place.refused(), OpenError::Locked(_)));
    other.execute_batch("ROLLBACK").unwrap();
    place.open();
}
