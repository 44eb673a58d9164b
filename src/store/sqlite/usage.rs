//! How much of providers was used, by the time that it is counted in.

use std::time::Duration;

use rusqlite::{Connection, params};

use crate::clock::{self, Millis};
use crate::store::{USAGE_KEPT, Usage};

/// Adds to what is there.
pub(super) fn add(connection: &Connection, used: &[Usage]) -> rusqlite::Result<()> {
    // A sum past i64 would become a float, which the column refuses.
    let mut statement = connection.prepare_cached(
        "INSERT INTO usage (provider, unit, began_at, amount) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET amount = min(amount, 9223372036854775807 - excluded.amount) + excluded.amount",
    )?;
    for Usage { provider, unit, began_at, amount } in used {
        let amount = i64::try_from(*amount).unwrap_or(i64::MAX);
        statement.execute(params![&**provider, &**unit, began_at.0, amount])?;
    }
    Ok(())
}

/// Of every time that began from then on.
pub(super) fn since(connection: &Connection, since: Millis) -> rusqlite::Result<Vec<Usage>> {
    connection
        .prepare_cached(
            "SELECT provider, unit, began_at, amount FROM usage WHERE began_at >= ?1 ORDER BY provider, unit, began_at",
        )?
        .query_map([since.0], |row| {
            Ok(Usage {
                provider: row.get(0)?,
                unit: row.get(1)?,
                began_at: Millis(row.get(2)?),
                amount: u64::try_from(row.get::<_, i64>(3)?).unwrap_or(0),
            })
        })?
        .collect()
}

/// Deletes what no budget counts any more; how many rows it was.
pub(super) fn retain(connection: &Connection, limit: i64) -> rusqlite::Result<i64> {
    let before = clock::now().0.saturating_sub(millis(USAGE_KEPT));
    let deleted = connection
        .prepare_cached(
            "DELETE FROM usage WHERE (provider, unit, began_at) IN
             (SELECT provider, unit, began_at FROM usage WHERE began_at < ?1 LIMIT ?2)",
        )?
        .execute(params![before, limit])?;
    Ok(i64::try_from(deleted).unwrap_or(0))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
