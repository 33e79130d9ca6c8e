//! How much of TLS a connection demands, in libpq's words.

use std::str::FromStr;

use crate::{Error, Result};

/// How much of TLS is demanded; the words and meanings are libpq's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS only if the server insists. Treated as `prefer`.
    Allow,
    /// TLS if the server offers it, without checking its certificate. The default.
    Prefer,
    /// TLS or nothing; the certificate is checked only if a root certificate file is given.
    Require,
    /// TLS with a certificate of a trusted authority.
    VerifyCa,
    /// As `verify-ca`, and the certificate must name the host.
    VerifyFull,
}

impl SslMode {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

impl FromStr for SslMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "disable" => Self::Disable,
            "allow" => Self::Allow,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            other => {
                return Err(Error::Invalid(format!(
                    "sslmode is {other:?}; it can be disable, allow, prefer, require, verify-ca or verify-full"
                )));
            }
        })
    }
}

/// Versions of TLS that are allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersions {
    /// 1.2 and 1.3, the only ones that are safe.
    #[default]
    Both,
    /// 1.2 alone (`ssl_max_protocol_version=TLSv1.2`).
    Only12,
    /// 1.3 alone (`ssl_min_protocol_version=TLSv1.3`).
    Only13,
}

impl TlsVersions {
    /// From the lowest and the highest version that libpq may use.
    pub(super) fn between(lowest: Option<&str>, highest: Option<&str>) -> Result<Self> {
        let number = |what: &str, text: &str| {
            ["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"]
                .iter()
                .position(|version| version.eq_ignore_ascii_case(text))
                .ok_or_else(|| {
                    Error::Invalid(format!("{what} is {text:?}; it can be TLSv1, TLSv1.1, TLSv1.2 or TLSv1.3"))
                })
        };
        let lowest = lowest.map_or(Ok(2), |text| number("ssl_min_protocol_version", text))?;
        let highest = highest.map_or(Ok(3), |text| number("ssl_max_protocol_version", text))?;
        match (lowest, highest) {
            (0..=2, 3) => Ok(Self::Both),
            (0..=2, 2) => Ok(Self::Only12),
            (3, 3) => Ok(Self::Only13),
            _ => Err(Error::Invalid(
                "ssl_min_protocol_version and ssl_max_protocol_version leave no version; TLS 1.2 and 1.3 can be used"
                    .into(),
            )),
        }
    }

    /// The settings for it; none when everything is as usual.
    pub(super) fn settings(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Both => None,
            Self::Only12 => Some(("ssl_max_protocol_version", "TLSv1.2")),
            Self::Only13 => Some(("ssl_min_protocol_version", "TLSv1.3")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_what_both_bounds_leave() {
        for (lowest, highest, left) in [
            (None, None, TlsVersions::Both),
            (Some("TLSv1"), None, TlsVersions::Both),
            (Some("TLSv1.3"), None, TlsVersions::Only13),
            (None, Some("tlsv1.2"), TlsVersions::Only12),
        ] {
            assert_eq!(TlsVersions::between(lowest, highest).unwrap(), left);
        }
        for (lowest, highest) in [(Some("TLSv1.3"), Some("TLSv1.2")), (None, Some("TLSv1.1")), (Some("SSLv3"), None)] {
            TlsVersions::between(lowest, highest).unwrap_err();
        }
    }
}
