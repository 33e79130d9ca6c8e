//! Settings of libpq that restrict a connection. Each is obeyed or refused: one that is passed over in silence is a door left open.

use tokio_postgres::config::TargetSessionAttrs;

use super::grammar::Split;
use crate::{Error, Result};

/// Keys that are handled here or in `options`, and unknown to the driver or understood by it in another way.
pub(super) const OWN_KEYS: &[&str] = &[
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "passfile",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "sslsni",
    "sslcertmode",
    "target_session_attrs",
    "fallback_application_name",
    "service",
    "servicefile",
    "require_auth",
    "sslcrl",
    "sslcrldir",
    "requirepeer",
    "gssencmode",
    "sslpassword",
    "min_protocol_version",
    "max_protocol_version",
    "replication",
    "sslcompression",
    "krbsrvname",
    "gsslib",
    "gssdelegation",
    "client_encoding",
    "requiressl",
];

/// What cannot be obeyed: key, variable, and the values that demand nothing.
const REFUSED: &[(&str, &str, &[&str])] = &[
    ("service", "PGSERVICE", &[]),
    ("require_auth", "PGREQUIREAUTH", &[]),
    ("sslcrl", "PGSSLCRL", &[]),
    ("sslcrldir", "PGSSLCRLDIR", &[]),
    ("requirepeer", "PGREQUIREPEER", &[]),
    ("gssencmode", "PGGSSENCMODE", &["disable", "prefer"]),
    ("sslpassword", "", &[]),
    ("sslcertmode", "PGSSLCERTMODE", &["allow", "disable"]),
    ("min_protocol_version", "PGMINPROTOCOLVERSION", &["3.0"]),
    ("max_protocol_version", "PGMAXPROTOCOLVERSION", &["3.0", "3.2", "latest"]),
    ("replication", "", &["false", "off", "no", "0"]),
    ("requiressl", "PGREQUIRESSL", &["0"]),
];

/// Refuses what restricts a connection in a way that is not known here.
pub(super) fn refuse_unknown(split: &Split, variable: &impl Fn(&str) -> Option<String>) -> Result<()> {
    for (key, name, harmless) in REFUSED {
        let (set, by) = match split.get(key) {
            Some(value) => (Some(value), *key),
            None if name.is_empty() => (None, *key),
            None => (variable(name), *name),
        };
        if let Some(value) = set.filter(|value| !value.is_empty() && !harmless.contains(&value.as_str())) {
            return Err(Error::Invalid(format!(
                "{by} is {value:?}, which Longhaul cannot do; it does not connect rather than pass over it"
            )));
        }
    }
    Ok(())
}

/// Which servers will do, by libpq's words. A primary is one that takes changes.
pub(super) fn session_attributes(word: Option<&str>) -> Result<TargetSessionAttrs> {
    Ok(match word {
        None | Some("any") => TargetSessionAttrs::Any,
        Some("read-write" | "primary") => TargetSessionAttrs::ReadWrite,
        Some("read-only") => TargetSessionAttrs::ReadOnly,
        Some(other) => {
            return Err(Error::Invalid(format!(
                "target_session_attrs is {other:?}; it can be any, read-write, primary or read-only"
            )));
        }
    })
}
