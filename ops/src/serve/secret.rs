//! Tokens as they are written: `lh_`, the id of 16 hexadecimal digits, `_`, and the secret of 64.

use std::str::FromStr;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Digits of the id.
const ID: usize = 16;

/// Digits of the secret: 32 random bytes.
const SECRET: usize = 64;

/// A token with its secret.
pub(crate) struct Secret {
    id: String,
    secret: String,
}

impl Secret {
    /// A new one.
    pub(crate) fn random() -> Self {
        let (id, secret): ([u8; ID / 2], [u8; SECRET / 2]) = (rand::random(), rand::random());
        Self { id: hex(&id), secret: hex(&secret) }
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// What is kept of it. The secret is random and long, so that a plain digest cannot be turned back.
    pub(crate) fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.secret.as_bytes()).into()
    }

    /// Whether this is the secret of which a digest was kept. Takes the same time whatever differs.
    pub(crate) fn is_of(&self, hash: &[u8]) -> bool {
        self.hash().ct_eq(hash).into()
    }

    /// As it is shown once.
    pub(crate) fn shown(&self) -> String {
        format!("lh_{}_{}", self.id, self.secret)
    }
}

impl FromStr for Secret {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (id, secret) = text.strip_prefix("lh_").and_then(|rest| rest.split_once('_')).ok_or(())?;
        let fits = |part: &str, digits| {
            part.len() == digits && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        if fits(id, ID) && fits(secret, SECRET) { Ok(Self { id: id.into(), secret: secret.into() }) } else { Err(()) }
    }
}

/// Bytes in hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_back_and_only_its_secret_fits() {
        let token = Secret::random();
        let read: Secret = token.shown().parse().unwrap();
        assert_eq!(read.id(), token.id());
        assert!(read.is_of(&token.hash()));
        assert!(!Secret::random().is_of(&token.hash()));
        assert!(!read.is_of(&[]));
        for wrong in
            ["", "lh_", "lh_1_2", &token.shown()[1..], &token.shown().to_uppercase(), &format!("{}0", token.shown())]
        {
            assert!(wrong.parse::<Secret>().is_err(), "{wrong}");
        }
    }
}
