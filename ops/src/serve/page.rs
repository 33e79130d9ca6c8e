//! Limits of lists.

use super::problem::Problem;

/// How many items a list has when nobody says.
const DEFAULT: i64 = 50;

/// The most items of a list.
const MOST: i64 = 1000;

/// So many items as were asked for.
pub(super) fn limit(asked: Option<i64>) -> Result<i64, Problem> {
    match asked.unwrap_or(DEFAULT) {
        limit @ 1..=MOST => Ok(limit),
        other => Err(Problem::invalid(format!("limit is 1 to {MOST}, not {other}"))),
    }
}
