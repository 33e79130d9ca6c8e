//! Names: which are allowed, and why others are not.

use std::{borrow::Cow, fmt, str::FromStr};

use crate::{Error, Result};

/// The PostgreSQL schema of an installation, `longhaul` unless another is given. Several installations can share a database.
///
/// A lower-case letter or `_`, then lower-case letters, digits and `_`, at most 40 characters: names that need no quoting.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SchemaName(String);

impl SchemaName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Statements are written for schema `longhaul`; this is the same statement for this schema.
    pub(crate) fn qualify<'a>(&self, sql: &'a str) -> Cow<'a, str> {
        if self.0 == "longhaul" {
            Cow::Borrowed(sql)
        } else {
            Cow::Owned(sql.replace("longhaul.", &format!("{}.", self.0)))
        }
    }
}

impl Default for SchemaName {
    fn default() -> Self {
        Self("longhaul".into())
    }
}

impl fmt::Display for SchemaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SchemaName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let mut characters = name.chars();
        let fits = characters.next().is_some_and(|c| c.is_ascii_lowercase() || c == '_')
            && characters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            && name.len() <= 40
            && !name.starts_with("pg_");
        if fits {
            Ok(Self(name.into()))
        } else {
            Err(Error::Invalid(format!(
                "{name:?} is not a schema name: a lower-case letter or _, then lower-case letters, digits and _, at most 40, not starting with pg_"
            )))
        }
    }
}

/// Checks a handler name: letters, digits, `_` and `-`, in at most 10 parts joined by single dots, at most 200 characters.
pub fn check_handler(name: &str) -> Result<()> {
    let fits = name.len() <= 200
        && name.split('.').count() <= 10
        && name
            .split('.')
            .all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-'));
    if fits {
        Ok(())
    } else {
        Err(Error::Invalid(format!(
            "{name:?} is not a handler name: letters, digits, _ and -, in at most 10 parts joined by single dots, at most 200 characters"
        )))
    }
}

/// Checks the name of a flow, step, queue or tenant: letters, digits, `.`, `_`, `-`, starting with a letter or digit, at most 100.
pub fn check_label(what: &str, name: &str) -> Result<()> {
    let fits = name.len() <= 100
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if fits {
        Ok(())
    } else {
        Err(Error::Invalid(format!(
            "{name:?} is not a {what} name: letters, digits, ., _ and -, starting with a letter or digit, at most 100 characters"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handler_names_keep_to_their_alphabet() {
        for good in ["a", "payment.charge", "a.b.c.d.e.f.g.h.i.j", "x_1-y"] {
            check_handler(good).unwrap();
        }
        for bad in ["", ".", "a.", ".a", "a..b", "/a", "a:b", "a b", "ä", "a.b.c.d.e.f.g.h.i.j.k", "../x", "a\0"] {
            check_handler(bad).unwrap_err();
        }
    }

    #[test]
    fn schema_names_need_no_quoting() {
        for good in ["longhaul", "_x", "app2_jobs"] {
            good.parse::<SchemaName>().unwrap();
        }
        for bad in ["", "Longhaul", "a-b", "a.b", "pg_x", "1a", "a\"b", &"x".repeat(41)] {
            bad.parse::<SchemaName>().unwrap_err();
        }
    }

    #[test]
    fn statements_are_moved_to_another_schema() {
        let name: SchemaName = "jobs".parse().unwrap();
        assert_eq!(name.qualify("select * from longhaul.runs"), "select * from jobs.runs");
    }
}
