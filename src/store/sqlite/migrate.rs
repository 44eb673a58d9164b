//! The schema and how it becomes the newest. Its version is `PRAGMA user_version`; a migration is one transaction, so that a crash leaves
//! one version or the next. A file that is not ours, or newer than this binary, is never touched.

use rusqlite::Connection;

/// `PRAGMA application_id`: "Rhwy". Another program's database is refused by it.
const APPLICATION_ID: i64 = 0x5268_7779;

/// Number n leads from version n to n + 1.
const MIGRATIONS: &[&str] =
    &[include_str!("001.sql"), include_str!("002.sql"), include_str!("003.sql")];

/// The version that this binary writes.
pub(super) const KNOWN: i64 = MIGRATIONS.len() as i64;

/// What a file says that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// No table and no version: SQLite has it, nobody used it.
    Empty,
    Ours {
        version: i64,
    },
    Foreign,
}

/// Reads the header and the list of tables.
pub(super) fn inspect(connection: &Connection) -> rusqlite::Result<Found> {
    let version = read(connection, "user_version")?;
    let application_id = read(connection, "application_id")?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(match (application_id, version, tables) {
        (APPLICATION_ID, version, _) => Found::Ours { version },
        (0, 0, 0) => Found::Empty,
        _ => Found::Foreign,
    })
}

/// Brings a file at `version` (0: empty) to the newest.
pub(super) fn migrate(connection: &Connection, version: i64) -> rusqlite::Result<()> {
    run(connection, version, MIGRATIONS)
}

fn run(connection: &Connection, version: i64, migrations: &[&str]) -> rusqlite::Result<()> {
    for (number, sql) in (1..).zip(migrations).filter(|(number, _)| *number > version) {
        let whole = format!(
            "BEGIN IMMEDIATE;\n{sql}\nPRAGMA application_id = {APPLICATION_ID};\nPRAGMA user_version = {number};\nCOMMIT;"
        );
        if let Err(error) = connection.execute_batch(&whole) {
            // The connection may be used on; what is half done must not stay open in it.
            if !connection.is_autocommit() {
                connection.execute_batch("ROLLBACK")?;
            }
            return Err(error);
        }
    }
    Ok(())
}

fn read(connection: &Connection, pragma: &str) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, pragma, |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a database that no file backs")]
    fn empty() -> Connection {
        Connection::open_in_memory().unwrap()
    }

    #[test]
    fn an_empty_file_becomes_the_newest_version_and_stays_it() {
        let connection = empty();
        assert_eq!(inspect(&connection).unwrap(), Found::Empty);
        migrate(&connection, 0).unwrap();
        assert_eq!(inspect(&connection).unwrap(), Found::Ours { version: KNOWN });
        migrate(&connection, KNOWN).unwrap();
        assert_eq!(inspect(&connection).unwrap(), Found::Ours { version: KNOWN });
    }

    #[test]
    fn a_migration_that_fails_leaves_the_version_before_it() {
        let connection = empty();
        let steps = ["CREATE TABLE a (x);", "CREATE TABLE b (x); INSERT INTO nowhere VALUES (1);"];
        assert!(run(&connection, 0, &steps).is_err());
        assert_eq!(inspect(&connection).unwrap(), Found::Ours { version: 1 });
        let tables: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .unwrap();
        assert_eq!(tables, 1, "table b must not be there");
        run(&connection, 1, &["-", "CREATE TABLE b (x);"]).unwrap();
        assert_eq!(inspect(&connection).unwrap(), Found::Ours { version: 2 });
    }

    #[test]
    fn documents_and_tombstones_of_the_first_version_are_there_after_it() {
        let connection = empty();
        run(&connection, 0, &MIGRATIONS[..1]).unwrap();
        connection
            .execute_batch(
                "INSERT INTO documents (collection, id, version, tombstone_until, body)
                 VALUES ('a', 'there', 1, NULL, '{}'), ('a', 'buried', 2, 77, NULL)",
            )
            .unwrap();
        migrate(&connection, 1).unwrap();
        let kept: Vec<(String, Option<i64>, Option<String>)> = connection
            .prepare("SELECT id, expires_at, body FROM documents ORDER BY id")
            .unwrap()
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        let buried = ("buried".to_owned(), Some(77), None);
        assert_eq!(kept, [buried, ("there".to_owned(), None, Some("{}".to_owned()))]);
    }

    #[test]
    fn another_program_s_database_is_told_apart() {
        let connection = empty();
        connection.execute_batch("CREATE TABLE theirs (x)").unwrap();
        assert_eq!(inspect(&connection).unwrap(), Found::Foreign);
    }
}
