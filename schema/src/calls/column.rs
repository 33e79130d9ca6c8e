//! Reading columns. Whatever a database can hold is read to something, or is an error that names the column: never a panic.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use serde_json::value::RawValue;
use tokio_postgres::{
    row::RowIndex,
    types::{FromSql, Json, Type},
};
use uuid::Uuid;

use super::{Name, RunState, StepState};
use crate::{Error, Payload, Result};

/// A row of an answer. Its columns are read by [`Row::try_get`] alone, which cannot panic.
#[derive(Debug)]
pub(crate) struct Row(tokio_postgres::Row);

impl Row {
    pub(crate) fn all(rows: Vec<tokio_postgres::Row>) -> Vec<Self> {
        rows.into_iter().map(Self).collect()
    }

    /// The value of a column, by name or number.
    pub(crate) fn try_get<'a, T: Column<'a>>(&'a self, column: impl RowIndex + std::fmt::Display + Copy) -> Result<T> {
        let raw = self.0.try_get::<_, T::Raw>(column).map_err(|error| {
            let cause = std::error::Error::source(&error).map(|c| format!(": {c}")).unwrap_or_default();
            self.unreadable(&column, &format!("{error}{cause}"))
        })?;
        T::from_raw(raw).map_err(|why| self.unreadable(&column, &why))
    }

    /// Names the column and, where the row begins with an id or a number, the row.
    fn unreadable(&self, column: &dyn std::fmt::Display, why: &str) -> Error {
        let row = match (self.0.try_get::<_, Uuid>(0), self.0.try_get::<_, i32>(0), self.0.try_get::<_, &str>(0)) {
            (Ok(id), ..) => format!(" of {id}"),
            (_, Ok(number), _) => format!(" of number {number}"),
            (.., Ok(name)) => format!(" of {name:?}"),
            _ => String::new(),
        };
        Error::Corrupt(format!("column {column}{row} cannot be read: {why}"))
    }
}

/// Reads the rows of a list for people. A row that cannot be read is left out with a line in the log, so that it hides none of the others;
/// when not one of them can be read, that is the error.
pub(crate) fn readable<T>(rows: &[Row], read: impl Fn(&Row) -> Result<T>) -> Result<Vec<T>> {
    let mut items = Vec::with_capacity(rows.len());
    let mut first = None;
    for row in rows {
        match read(row) {
            Ok(item) => items.push(item),
            Err(error) => {
                tracing::error!(%error, "a row is left out of a list");
                first.get_or_insert(error);
            }
        }
    }
    match first {
        Some(error) if items.is_empty() => Err(error),
        _ => Ok(items),
    }
}

/// Reads the rows of an answer from which a program goes on, as from a history: with one left out it would be another answer.
pub(crate) fn every<T>(rows: &[Row], read: impl Fn(&Row) -> Result<T>) -> Result<Vec<T>> {
    rows.iter().map(read).collect()
}

/// A type that columns are read to.
pub(crate) trait Column<'a>: Sized {
    /// What the driver reads.
    type Raw: FromSql<'a>;

    /// What it means, or why it means nothing.
    fn from_raw(raw: Self::Raw) -> Result<Self, String>;
}

macro_rules! as_it_is {
    ($($type:ty),*) => {
        $(impl<'a> Column<'a> for $type {
            type Raw = $type;

            fn from_raw(raw: $type) -> Result<Self, String> {
                Ok(raw)
            }
        })*
    };
}

as_it_is!(bool, i16, i32, i64, f64, Uuid, String, Vec<String>, Vec<Uuid>, Vec<i32>, Vec<u8>, &'a str);

impl<'a, T: Column<'a>> Column<'a> for Option<T> {
    type Raw = Option<T::Raw>;

    fn from_raw(raw: Self::Raw) -> Result<Self, String> {
        raw.map(T::from_raw).transpose()
    }
}

impl<'a> Column<'a> for Name {
    type Raw = &'a str;

    fn from_raw(raw: &'a str) -> Result<Self, String> {
        Ok(raw.into())
    }
}

impl<'a> Column<'a> for RunState {
    type Raw = &'a str;

    fn from_raw(raw: &'a str) -> Result<Self, String> {
        raw.parse().map_err(|e: Error| e.to_string())
    }
}

impl<'a> Column<'a> for StepState {
    type Raw = &'a str;

    fn from_raw(raw: &'a str) -> Result<Self, String> {
        raw.parse().map_err(|e: Error| e.to_string())
    }
}

impl Column<'_> for Payload {
    type Raw = Json<Box<RawValue>>;

    fn from_raw(raw: Self::Raw) -> Result<Self, String> {
        Ok(Payload::trusted(raw.0))
    }
}

impl Column<'_> for DateTime<Utc> {
    type Raw = Microseconds;

    fn from_raw(raw: Microseconds) -> Result<Self, String> {
        Ok(raw.time())
    }
}

/// A time as the server sends it: microseconds since 2000, with the two ends of the range for -infinity and infinity.
///
/// The server knows years from -4713 to 294276 and infinity besides; programs, JSON and people end at 9999. What lies beyond is
/// read as the last moment of that year, or the first of year 1: "never" and "always" stay what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Microseconds(i64);

impl Microseconds {
    fn time(self) -> DateTime<Utc> {
        let day = |year, month, day| NaiveDate::from_ymd_opt(year, month, day).unwrap_or_default().and_hms_opt(0, 0, 0);
        let midnight = |year| day(year, 1, 1).unwrap_or_default().and_utc();
        let (first, last) = (midnight(1), midnight(10_000) - TimeDelta::microseconds(1));
        midnight(2000)
            .checked_add_signed(TimeDelta::microseconds(self.0))
            .map_or_else(|| if self.0 < 0 { first } else { last }, |time| time.clamp(first, last))
    }
}

impl<'a> FromSql<'a> for Microseconds {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(i64::from_be_bytes(raw.try_into()?)))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_of_the_server_is_a_time() {
        let text = |micros| Microseconds(micros).time().to_rfc3339();
        assert_eq!(text(0), "2000-01-01T00:00:00+00:00");
        assert_eq!(text(-1), "1999-12-31T23:59:59.999999+00:00");
        assert_eq!(text(i64::MAX), "9999-12-31T23:59:59.999999+00:00");
        assert_eq!(text(i64::MAX - 1), "9999-12-31T23:59:59.999999+00:00");
        assert_eq!(text(i64::MIN), "0001-01-01T00:00:00+00:00");
        // The last second of the server's calendar, in the year 294276.
        assert_eq!(text(9_223_371_331_199_000_000), "9999-12-31T23:59:59.999999+00:00");
    }
}
