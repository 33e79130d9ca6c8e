//! The two forms of libpq's connection strings, taken apart.

use crate::{Error, Result};

/// A connection string, taken apart.
#[derive(Debug, Default)]
pub(super) struct Split {
    /// What is left of it for the driver.
    pub rest: String,
    /// The keys of that.
    pub others: Vec<String>,
    /// The settings that are handled here.
    pub own: Vec<(String, String)>,
}

impl Split {
    /// Takes a connection string apart: settings with one of these keys, and the rest.
    pub(super) fn of(text: &str, own_keys: &[&str]) -> Result<Self> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            Ok(split_url(text, own_keys))
        } else {
            split_pairs(text, own_keys)
        }
    }

    /// The last value of a setting that is handled here.
    pub(super) fn get(&self, key: &str) -> Option<String> {
        self.own.iter().rev().find(|(k, _)| k == key).map(|(_, value)| value.clone())
    }

    /// Whether the driver is told about a setting whose key begins like this.
    pub(super) fn has(&self, start: &str) -> bool {
        self.others.iter().any(|key| key.starts_with(start))
    }
}

/// A value as it stands in pairs.
pub(super) fn quoted_value(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn split_url(text: &str, own_keys: &[&str]) -> Split {
    let mut split = Split::default();
    let Some((base, query)) = text.split_once('?') else {
        split.rest = text.into();
        return split;
    };
    let mut kept = Vec::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        // As libpq reads it: %20 is a space, + is a plus.
        let plain = part.replace('+', "%2B");
        for (key, value) in url::form_urlencoded::parse(plain.as_bytes()) {
            if own_keys.contains(&key.as_ref()) {
                split.own.push((key.into_owned(), value.into_owned()));
            } else {
                split.others.push(key.into_owned());
                kept.push(part);
            }
        }
    }
    split.rest = if kept.is_empty() { base.into() } else { format!("{base}?{}", kept.join("&")) };
    split
}

/// `key=value` pairs: values with spaces stand in single quotes, and a backslash escapes a quote or a backslash.
fn split_pairs(text: &str, own_keys: &[&str]) -> Result<Split> {
    let mut rest = text.trim_start();
    let mut split = Split::default();
    while !rest.is_empty() {
        let malformed = || {
            Error::Invalid(
                "the connection string is malformed: it is neither a postgres:// URL nor key=value pairs".into(),
            )
        };
        let (key, after) = rest.split_once('=').ok_or_else(malformed)?;
        let key = key.trim();
        let after = after.trim_start();
        let mut value = String::new();
        let quoted = after.starts_with('\'');
        let mut characters = after.char_indices().skip(usize::from(quoted)).peekable();
        let mut end = after.len();
        let mut closed = !quoted;
        while let Some((at, c)) = characters.next() {
            match c {
                '\\' => value.extend(characters.next().map(|(_, c)| c)),
                '\'' if quoted => {
                    end = at + 1;
                    closed = true;
                    break;
                }
                c if c.is_whitespace() && !quoted => {
                    end = at;
                    break;
                }
                c => value.push(c),
            }
        }
        if key.is_empty() || !closed {
            return Err(malformed());
        }
        if own_keys.contains(&key) {
            split.own.push((key.to_owned(), value));
        } else {
            split.others.push(key.to_owned());
            split.rest.push_str(&format!("{key}={} ", quoted_value(&value)));
        }
        rest = after[end..].trim_start();
    }
    Ok(split)
}
