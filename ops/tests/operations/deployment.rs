//! The files that put Longhaul on machines: each can be read, and says what matters.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::server::Installation;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The documents of a YAML file.
fn documents(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
    serde_saphyr::from_multiple(&text).unwrap_or_else(|e| panic!("{file}: {e}"))
}

#[test]
fn kubernetes_is_told_of_probes_draining_and_least_privilege() {
    let listed = documents("ops/kubernetes/kustomization.yaml");
    for file in listed[0]["resources"].as_array().unwrap() {
        assert!(!documents(&format!("ops/kubernetes/{}", file.as_str().unwrap())).is_empty());
    }
    let worker = &documents("ops/kubernetes/worker.yaml")[0]["spec"]["template"]["spec"];
    let container = &worker["containers"][0];
    assert!(worker["terminationGracePeriodSeconds"].as_i64().unwrap() > 600);
    assert!(
        container["lifecycle"]["preStop"]["exec"]["command"][2].as_str().unwrap().contains("longhaul drain --host")
    );
    assert!(container["livenessProbe"]["exec"]["command"][2].as_str().unwrap().contains("workers --check"));
    for file in ["migrate", "scheduler", "worker"] {
        let spec = &documents(&format!("ops/kubernetes/{file}.yaml"))[0]["spec"]["template"]["spec"];
        assert_eq!(spec["securityContext"]["runAsNonRoot"], json!(true), "{file}");
        let container = &spec["containers"][0];
        assert_eq!(container["securityContext"]["capabilities"]["drop"], json!(["ALL"]), "{file}");
        assert_eq!(container["env"][0]["valueFrom"]["secretKeyRef"]["name"], "longhaul-database", "{file}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_query_of_the_autoscaler_gives_one_number() {
    let installation = Installation::new().await;
    let scaled = &documents("ops/kubernetes/autoscaling.yaml")[1];
    let query = scaled["spec"]["triggers"][0]["metadata"]["query"].as_str().unwrap();
    let query = query.replace("longhaul.", &format!("{}.", installation.schema()));
    let client = installation.client().await;
    let connection = client.database().connection().await.unwrap();
    let rows = connection.query(&query, &[]).await.unwrap();
    assert_eq!((rows.len(), rows[0].get::<_, i64>(0)), (1, 0));
}

#[test]
fn compose_has_a_database_a_migration_a_scheduler_and_a_worker() {
    let services = documents("compose.yaml")[0]["services"].clone();
    for service in ["postgres", "migrate", "scheduler", "worker"] {
        assert!(services[service].is_object(), "{service}");
    }
    assert_eq!(services["worker"]["depends_on"]["migrate"]["condition"], "service_completed_successfully");
}

#[test]
fn units_and_the_image_run_as_nobody_special() {
    for unit in ["longhaul-worker@.service", "longhaul-scheduler.service", "longhaul-migrate.service"] {
        let text = std::fs::read_to_string(root().join("ops/systemd").join(unit)).unwrap();
        for setting in
            ["DynamicUser=yes", "NoNewPrivileges=yes", "ProtectSystem=strict", "ExecStart=/usr/local/bin/longhaul "]
        {
            assert!(text.lines().any(|line| line.starts_with(setting)), "{unit}: {setting}");
        }
    }
    let image = std::fs::read_to_string(root().join("Dockerfile")).unwrap();
    assert!(image.contains("\nUSER 10001\n") && image.matches("\nFROM ").count() == 2);
}
