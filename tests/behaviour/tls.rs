//! TLS, with certificates made for the test.

use std::path::Path;

use longhaul::{Client, Config, Database, migrate};
use longhaul_ops::embedded::ClusterOptions;

use crate::harness::new_cluster_folder;

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

#[tokio::test(flavor = "multi_thread")]
async fn each_ssl_mode_demands_what_it_says() {
    let folder = new_cluster_folder("tls");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut cluster = ClusterOptions::new(&folder).tcp_port(port).start().await.unwrap();
    make_certificates(&folder, "localhost");
    // The server reads its key as its own user, so it is told to write the files itself.
    let admin = Database::new(&cluster.config().unwrap()).unwrap();
    let connection = admin.connection().await.unwrap();
    for file in ["server.pem", "server.key"] {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        connection
            .batch_execute(&format!(
                "copy (select unnest(string_to_array($x${}$x$, E'\\n'))) to program 'umask 077; cat > {file}'",
                text.trim_end()
            ))
            .await
            .unwrap();
    }
    connection.batch_execute("alter system set ssl_cert_file = 'server.pem'").await.unwrap();
    connection.batch_execute("alter system set ssl_key_file = 'server.key'").await.unwrap();
    connection.batch_execute("alter system set ssl = on").await.unwrap();
    drop(connection);
    migrate::migrate(&admin).await.unwrap();
    admin.close();
    cluster.stop().await;
    cluster.start().await.unwrap();

    let ca = folder.join("ca.pem");
    let url = |host: &str, rest: &str| format!("postgres://longhaul@{host}:{port}/longhaul?{rest}");
    let verified = format!("sslrootcert={}", ca.display());
    for (host, rest, works) in [
        ("localhost", "sslmode=disable".to_owned(), true),
        ("localhost", "sslmode=prefer".into(), true),
        ("localhost", "sslmode=require".into(), true),
        ("127.0.0.1", format!("sslmode=verify-ca&{verified}"), true),
        ("localhost", format!("sslmode=verify-full&{verified}"), true),
        // The certificate names localhost, not 127.0.0.1.
        ("127.0.0.1", format!("sslmode=verify-full&{verified}"), false),
        // The system's authorities do not know ours.
        ("localhost", "sslmode=verify-full".into(), false),
        ("localhost", "sslmode=verify-ca".into(), false),
    ] {
        let mut config = Config::from_url(&url(host, &rest)).unwrap();
        config.retry_for = std::time::Duration::ZERO;
        let outcome = match Database::new(&config) {
            Ok(database) => Client::on(database).await,
            Err(error) => Err(error),
        };
        assert_eq!(outcome.is_ok(), works, "{host} {rest}: {:?}", outcome.err());
        if let Ok(client) = outcome {
            let connection = client.database().connection().await.unwrap();
            let encrypted: bool = connection
                .query_one("select ssl from pg_stat_ssl where pid = pg_backend_pid()", &[])
                .await
                .unwrap()
                .get(0);
            assert_eq!(encrypted, !rest.contains("disable"), "{rest}");
        }
    }
    assert!(
        Database::new(&Config::from_url(&url("localhost", "sslmode=verify-ca&sslrootcert=/nowhere.pem")).unwrap())
            .is_err()
    );
    cluster.stop().await;
    std::fs::remove_dir_all(folder).unwrap();
}
