//! TLS through rustls, with libpq's meanings of `sslmode`.

use std::{path::Path, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::options::{ConnectOptions, SslMode};
use crate::{Error, Result};

/// What connections are encrypted with; nothing when TLS is disabled.
#[derive(Clone)]
pub(super) struct Tls(pub(super) Option<MakeRustlsConnect>);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Tls(on)" } else { "Tls(off)" })
    }
}

/// The connector for these options; `None` when TLS is disabled.
pub(super) fn connector(options: &ConnectOptions) -> Result<Option<MakeRustlsConnect>> {
    if options.ssl_mode == SslMode::Disable {
        return Ok(None);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::Invalid(format!("TLS cannot be set up: {e}")))?;

    // libpq: with a root certificate file, `require` behaves as `verify-ca`.
    let mode = match options.ssl_mode {
        SslMode::Require if options.ssl_root_cert.is_some() => SslMode::VerifyCa,
        mode => mode,
    };
    let lenient = |authorities| Arc::new(Lenient { authorities, provider: provider.clone() });
    let builder = match mode {
        SslMode::VerifyFull => builder.with_root_certificates(roots(options)?),
        SslMode::VerifyCa => {
            let authorities = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(options)?), provider.clone())
                .build()
                .map_err(|e| Error::Invalid(format!("the root certificates cannot be used: {e}")))?;
            builder.dangerous().with_custom_certificate_verifier(lenient(Some(authorities)))
        }
        _ => builder.dangerous().with_custom_certificate_verifier(lenient(None)),
    };
    let config = match (&options.ssl_cert, &options.ssl_key) {
        (Some(cert), Some(key)) => {
            let key = PrivateKeyDer::from_pem_file(key).map_err(|e| unreadable(key, &e))?;
            builder
                .with_client_auth_cert(certificates(cert)?, key)
                .map_err(|e| Error::Invalid(format!("the client certificate cannot be used: {e}")))?
        }
        (None, None) => builder.with_no_client_auth(),
        _ => return Err(Error::Invalid("sslcert and sslkey belong together; only one of them is given".into())),
    };
    Ok(Some(MakeRustlsConnect::new(config)))
}

fn unreadable(file: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::Invalid(format!("{} cannot be read: {error}", file.display()))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(file)
        .and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>())
        .map_err(|e| unreadable(file, &e))
}

fn roots(options: &ConnectOptions) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    match &options.ssl_root_cert {
        Some(file) if file.as_os_str() != "system" => {
            for certificate in certificates(file)? {
                store.add(certificate).map_err(|e| unreadable(file, &e))?;
            }
        }
        _ => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if store.is_empty() {
        return Err(Error::Invalid("no root certificates were found; name a file with sslrootcert".into()));
    }
    Ok(store)
}

/// Checks less than rustls does: of whoever `authorities` knows for `verify-ca`, whatever name the certificate bears; of anybody
/// for `prefer` and `require`, as libpq does. That the peer holds the certificate's key is checked always.
#[derive(Debug)]
struct Lenient {
    authorities: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(authorities) = &self.authorities else { return Ok(ServerCertVerified::assertion()) };
        match authorities.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
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
