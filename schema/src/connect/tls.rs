//! TLS through rustls, with libpq's meanings of `sslmode`.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    client::WebPkiServerVerifier,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    version::{TLS12, TLS13},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    certificate::{Trust, Verifier},
    options::ConnectOptions,
    ssl_mode::{SslMode, TlsVersions},
};
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
    let versions: &[&SupportedProtocolVersion] = match options.tls_versions {
        TlsVersions::Both => &[&TLS12, &TLS13],
        TlsVersions::Only12 => &[&TLS12],
        TlsVersions::Only13 => &[&TLS13],
    };
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .map_err(|e| Error::Invalid(format!("TLS cannot be set up: {e}")))?;

    let trust = match options.ssl_mode {
        SslMode::VerifyFull => known(options, &provider, true)?,
        SslMode::VerifyCa => known(options, &provider, false)?,
        // libpq: with a root certificate file, `require` behaves as `verify-ca`.
        SslMode::Require if options.ssl_root_cert.is_some() => known(options, &provider, false)?,
        _ => Trust::Anybody,
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Verifier { trust, provider }));
    let mut config = match (&options.ssl_cert, &options.ssl_key) {
        (Some(cert), Some(key)) => {
            let key = PrivateKeyDer::from_pem_file(key).map_err(|e| unreadable(key, &e))?;
            builder
                .with_client_auth_cert(certificates(cert)?, key)
                .map_err(|e| Error::Invalid(format!("the client certificate cannot be used: {e}")))?
        }
        (None, None) => builder.with_no_client_auth(),
        _ => return Err(Error::Invalid("sslcert and sslkey belong together; only one of them is given".into())),
    };
    config.enable_sni = options.ssl_sni;
    Ok(Some(MakeRustlsConnect::new(config)))
}

/// The authorities of the options, and their certificates as such: one of them may be the server's own.
fn known(options: &ConnectOptions, provider: &Arc<CryptoProvider>, names: bool) -> Result<Trust> {
    let pinned = match named_file(options) {
        Some(file) => certificates(file)?,
        None => Vec::new(),
    };
    let authorities = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(options)?), provider.clone())
        .build()
        .map_err(|e| Error::Invalid(format!("the root certificates cannot be used: {e}")))?;
    Ok(Trust::Known { authorities, pinned, names })
}

/// The file with trusted certificates, unless the system's are meant.
fn named_file(options: &ConnectOptions) -> Option<&Path> {
    options.ssl_root_cert.as_deref().filter(|file| file.as_os_str() != "system")
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
    match named_file(options) {
        Some(file) => {
            for certificate in certificates(file)? {
                store.add(certificate).map_err(|e| unreadable(file, &e))?;
            }
        }
        None => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if store.is_empty() {
        return Err(Error::Invalid("no root certificates were found; name a file with sslrootcert".into()));
    }
    Ok(store)
}
