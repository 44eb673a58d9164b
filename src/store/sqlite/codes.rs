//! How the states of jobs are stored: their rank, so that an event's state is the smallest of its jobs. 001.sql names the same numbers.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};

use crate::store::JobState;

pub(super) const fn code(state: JobState) -> i64 {
    match state {
        JobState::Dead => 0,
        JobState::Parked => 1,
        JobState::Retrying => 2,
        JobState::Running => 3,
        JobState::Pending => 4,
        JobState::Done => 5,
        JobState::Ignored => 6,
    }
}

impl ToSql for JobState {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(code(*self).into())
    }
}

impl FromSql for JobState {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let stored = value.as_i64()?;
        let known = Self::ALL.into_iter().find(|state| code(*state) == stored);
        known.ok_or(FromSqlError::OutOfRange(stored))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_code_is_the_worst_state() {
        for (rank, state) in (0..).zip(JobState::ALL) {
            assert_eq!(code(state), rank, "{state}");
        }
    }
}
