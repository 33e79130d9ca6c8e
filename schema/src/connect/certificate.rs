//! Checks of a server's certificate as libpq makes them, where rustls makes others: a certificate that is itself trusted, as the one that
//! PostgreSQL's manual has people make, and a name that stands in the subject alone.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use x509_cert::{Certificate, der::Decode};

/// Which certificates are good, beyond that the peer holds their key, which is checked always.
#[derive(Debug)]
pub(super) enum Trust {
    /// Anybody's, for `prefer` and `require`.
    Anybody,
    /// Of these authorities, or one of these themselves.
    Known {
        /// The authorities.
        authorities: Arc<WebPkiServerVerifier>,
        /// The certificates of the file.
        pinned: Vec<CertificateDer<'static>>,
        /// Whether the certificate must name the host, as for `verify-full`.
        names: bool,
    },
}

/// Checks certificates by what is trusted.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) trust: Trust,
    pub(super) provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Trust::Known { authorities, pinned, names } = &self.trust else {
            return Ok(ServerCertVerified::assertion());
        };
        let verdict = if pinned.iter().any(|trusted| trusted == end_entity) {
            check_dates(end_entity, now)
                .and_then(|()| verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name))
        } else {
            authorities.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now).map(|_| ())
        };
        // The name is looked at last.
        match verdict {
            Err(error) if is_about_the_name(&error) && (!names || subject_names(end_entity, server_name)) => {}
            verdict => verdict?,
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn is_about_the_name(error: &rustls::Error) -> bool {
    use CertificateError::{NotValidForName, NotValidForNameContext};
    matches!(error, rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }))
}

fn check_dates(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), rustls::Error> {
    let parsed = Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let validity = &parsed.tbs_certificate.validity;
    let now = now.as_secs();
    if now < validity.not_before.to_unix_duration().as_secs() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > validity.not_after.to_unix_duration().as_secs() {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

/// Whether a certificate without alternative names has this host as its common name, which `*` may stand at the beginning of for one
/// label. libpq goes by it; rustls never does.
fn subject_names(certificate: &CertificateDer<'_>, server_name: &ServerName<'_>) -> bool {
    const COMMON_NAME: &str = "2.5.4.3";
    const ALTERNATIVE_NAMES: &str = "2.5.29.17";
    let Ok(parsed) = Certificate::from_der(certificate) else { return false };
    let body = &parsed.tbs_certificate;
    let mut extensions = body.extensions.iter().flatten();
    if extensions.any(|extension| extension.extn_id.to_string() == ALTERNATIVE_NAMES) {
        return false;
    }
    let wanted = server_name.to_str();
    body.subject
        .0
        .iter()
        .flat_map(|part| part.0.iter())
        .filter(|attribute| attribute.oid.to_string() == COMMON_NAME)
        .filter_map(|attribute| std::str::from_utf8(attribute.value.value()).ok())
        .any(|name| names_host(name, &wanted))
}

fn names_host(name: &str, host: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(domain) => {
            host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(domain))
        }
        None => name.eq_ignore_ascii_case(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_common_name_is_a_host_or_one_label_below_a_domain() {
        assert!(names_host("db.example.com", "DB.example.com"));
        assert!(names_host("*.example.com", "db.example.com"));
        for (name, host) in
            [("*.example.com", "a.b.example.com"), ("*.example.com", "example.com"), ("db", "db2"), ("", "db")]
        {
            assert!(!names_host(name, host), "{name} {host}");
        }
    }
}
