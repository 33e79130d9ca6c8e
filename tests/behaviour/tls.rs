//! TLS, with certificates made for the test. Not every build of PostgreSQL has TLS, so a small terminator stands before the
//! server and speaks its side of the negotiation.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use longhaul::{Client, Config, Database};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream, UnixStream},
};
use tokio_postgres::config::Host;
use tokio_rustls::TlsAcceptor;

use crate::harness::{TestDb, with_database};

/// What a client sends first when it wants TLS (PostgreSQL's protocol, SSLRequest): a length of 8 and this number.
const SSL_REQUEST: u32 = 80_877_103;

/// Writes an authority's certificate and a server's certificate and key for this name.
fn make_certificates(folder: &Path, name: &str) {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    authority.distinguished_name.push(rcgen::DnType::CommonName, "authority of the test");
    let authority_cert = authority.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let server_key = rcgen::KeyPair::generate().unwrap();
    let server = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&server_key, &issuer).unwrap();
    std::fs::write(folder.join("ca.pem"), authority_cert.pem()).unwrap();
    std::fs::write(folder.join("server.pem"), server.pem()).unwrap();
    std::fs::write(folder.join("server.key"), server_key.serialize_pem()).unwrap();
}

/// Starts the terminator; returns its port and the count of its encrypted connections.
async fn terminate_tls(db: &TestDb, folder: &Path) -> (u16, Arc<AtomicUsize>) {
    let certificate = CertificateDer::from_pem_file(folder.join("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let encrypted = Arc::new(AtomicUsize::new(0));
    let (count, db) = (encrypted.clone(), db.clone());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (acceptor, count, db) = (acceptor.clone(), count.clone(), db.clone());
            tokio::spawn(async move { serve(client, acceptor, count, db).await });
        }
    });
    (port, encrypted)
}

async fn serve(mut client: TcpStream, acceptor: TlsAcceptor, encrypted: Arc<AtomicUsize>, db: TestDb) {
    let mut head = [0; 8];
    if client.read_exact(&mut head).await.is_err() {
        return;
    }
    if u32::from_be_bytes([head[4], head[5], head[6], head[7]]) != SSL_REQUEST {
        return relay(client, &head, &db).await;
    }
    client.write_all(b"S").await.unwrap();
    // A client that does not trust us ends the handshake.
    if let Ok(client) = acceptor.accept(client).await {
        encrypted.fetch_add(1, Ordering::SeqCst);
        relay(client, &[], &db).await;
    }
}

/// Joins a client and the server; `head` has been read already.
async fn relay(mut client: impl AsyncRead + AsyncWrite + Unpin, head: &[u8], db: &TestDb) {
    let postgres = &db.config.connection.postgres;
    let port = postgres.get_ports().first().copied().unwrap_or(5432);
    // However this ends, the client notices.
    match &postgres.get_hosts()[0] {
        Host::Tcp(name) => {
            let mut server = TcpStream::connect((name.as_str(), port)).await.unwrap();
            server.write_all(head).await.unwrap();
            let _ = copy_bidirectional(&mut client, &mut server).await;
        }
        Host::Unix(folder) => {
            let mut server = UnixStream::connect(folder.join(format!(".s.PGSQL.{port}"))).await.unwrap();
            server.write_all(head).await.unwrap();
            let _ = copy_bidirectional(&mut client, &mut server).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_ssl_mode_demands_what_it_says() {
    with_database(|db| async move {
        let folder = tempfile::tempdir().unwrap();
        make_certificates(folder.path(), "localhost");
        let (port, encrypted) = terminate_tls(&db, folder.path()).await;
        let postgres = &db.config.connection.postgres;
        let password = postgres.get_password().map(|p| format!(":{}", String::from_utf8_lossy(p))).unwrap_or_default();
        let user = postgres.get_user().unwrap();
        let url = |host: &str, rest: &str| format!("postgres://{user}{password}@{host}:{port}/{}?{rest}", db.name);
        let trusted = format!("sslrootcert={}", folder.path().join("ca.pem").display());

        for (host, rest, works) in [
            ("127.0.0.1", "sslmode=disable".to_owned(), true),
            ("127.0.0.1", "sslmode=prefer".into(), true),
            ("127.0.0.1", "sslmode=require".into(), true),
            // As in libpq: with a root certificate, require is verify-ca.
            ("127.0.0.1", format!("sslmode=require&{trusted}"), true),
            ("127.0.0.1", format!("sslmode=verify-ca&{trusted}"), true),
            ("localhost", format!("sslmode=verify-full&{trusted}"), true),
            // The certificate names localhost, not 127.0.0.1.
            ("127.0.0.1", format!("sslmode=verify-full&{trusted}"), false),
            // The system's authorities do not know ours.
            ("localhost", "sslmode=verify-full&sslrootcert=system".into(), false),
            ("localhost", "sslmode=verify-ca&sslrootcert=system".into(), false),
        ] {
            let mut config = Config::from_url(&url(host, &rest)).unwrap();
            config.retry_for = Duration::ZERO;
            let before = encrypted.load(Ordering::SeqCst);
            let outcome = match Database::new(&config) {
                Ok(database) => Client::on(database).await,
                Err(error) => Err(error),
            };
            assert_eq!(outcome.is_ok(), works, "{host} {rest}: {:?}", outcome.err());
            let connections = encrypted.load(Ordering::SeqCst) - before;
            assert_eq!(connections > 0, works && !rest.contains("disable"), "{host} {rest}: {connections} encrypted");
        }
        let nowhere = Config::from_url(&url("localhost", "sslmode=verify-ca&sslrootcert=/nowhere.pem")).unwrap();
        assert!(Database::new(&nowhere).unwrap_err().to_string().contains("/nowhere.pem"));
    })
    .await;
}

/// Writes a certificate as PostgreSQL's manual makes it: signed by itself, an authority by its extensions, with the name in its subject
/// and, if asked, among the alternative names. Valid until the year given.
fn make_own_certificate(folder: &Path, subject: &str, alternative: &[&str], until: i32) {
    let key = rcgen::KeyPair::generate().unwrap();
    let names = alternative.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let mut own = rcgen::CertificateParams::new(names).unwrap();
    own.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    own.distinguished_name = rcgen::DistinguishedName::new();
    own.distinguished_name.push(rcgen::DnType::CommonName, subject);
    own.not_after = rcgen::date_time_ymd(until, 1, 1);
    std::fs::write(folder.join("server.pem"), own.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(folder.join("server.key"), key.serialize_pem()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_itself_trusted_is_good_for_its_names_and_its_time() {
    with_database(|db| async move {
        let postgres = &db.config.connection.postgres;
        let password = postgres.get_password().map(|p| format!(":{}", String::from_utf8_lossy(p))).unwrap_or_default();
        let user = postgres.get_user().unwrap();
        for (subject, alternative, until, mode, works) in [
            ("localhost", &[][..], 2099, "verify-full", true),
            ("localhost", &[], 2099, "verify-ca", true),
            ("localhost", &[], 2099, "require", true),
            ("elsewhere", &["localhost"], 2099, "verify-full", true),
            // The subject counts only where there are no alternative names.
            ("localhost", &["elsewhere"], 2099, "verify-full", false),
            ("elsewhere", &[], 2099, "verify-full", false),
            ("elsewhere", &[], 2099, "verify-ca", true),
            ("localhost", &[], 2001, "verify-full", false),
            ("localhost", &[], 2001, "require", false),
        ] {
            let folder = tempfile::tempdir().unwrap();
            make_own_certificate(folder.path(), subject, alternative, until);
            let (port, _) = terminate_tls(&db, folder.path()).await;
            let file = folder.path().join("server.pem");
            let connect = async |options: &str| {
                let url = format!("postgres://{user}{password}@localhost:{port}/{}?{options}", db.name);
                Client::connect(&Config::from_url(&url).unwrap()).await
            };
            let outcome = connect(&format!("sslmode={mode}&sslrootcert={}", file.display())).await;
            let what = format!("{subject} {alternative:?} {until} {mode}");
            assert_eq!(outcome.is_ok(), works, "{what}: {:?}", outcome.err());
            // Nobody waits for a certificate to become good.
            if let Err(error) = outcome {
                assert!(
                    matches!(&error, longhaul::Error::Denied(text) if text.contains("certificate")),
                    "{what}: {error}"
                );
            }
        }
        // One that somebody else made is not good because it looks the same.
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        make_own_certificate(folder.path(), "localhost", &[], 2099);
        make_own_certificate(other.path(), "localhost", &[], 2099);
        let (port, _) = terminate_tls(&db, folder.path()).await;
        let file = other.path().join("server.pem");
        let url = format!(
            "postgres://{user}{password}@localhost:{port}/{}?sslmode=verify-full&sslrootcert={}",
            db.name,
            file.display()
        );
        let error = Client::connect(&Config::from_url(&url).unwrap()).await.unwrap_err();
        assert!(matches!(error, longhaul::Error::Denied(_)), "{error}");
    })
    .await;
}
