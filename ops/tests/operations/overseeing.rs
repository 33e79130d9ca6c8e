//! What operators do at night and in the morning: archives, and the doctor.

use longhaul_ops::embedded::temporary_folder;
use serde_json::Value;

use crate::server::Installation;

const FLOW: &str = "name: f\nversion: 1\nsteps: [{ name: a, handler: nobody }]\n";

async fn json(installation: &Installation, arguments: &[&str]) -> Vec<Value> {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
    let output = installation.longhaul(&arguments).await;
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Starts runs and stops them.
async fn end_some(installation: &Installation, count: usize) {
    for _ in 0..count {
        let run = json(installation, &["start", "f", "{}"]).await[0]["id"].as_str().unwrap().to_owned();
        installation.longhaul(&["stop", &run]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_after_all_stands_in_the_archive() {
    let installation = Installation::new().await;
    let folder = temporary_folder().unwrap();
    let flow = folder.path().join("f.yaml");
    std::fs::write(&flow, FLOW).unwrap();
    installation.longhaul(&["flow", "deploy", flow.to_str().unwrap()]).await;
    end_some(&installation, 5).await;
    let archive = folder.path().join("archive");
    let archive = archive.to_str().unwrap();

    installation.longhaul(&["retention", "put", "all", "--age", "1ms", "--archive"]).await;
    let plan = json(&installation, &["retention", "plan"]).await;
    assert_eq!((&plan[0]["runs"], &plan[0]["archive"]), (&5.into(), &true.into()));
    let left = json(&installation, &["retention", "run"]).await;
    assert_eq!(
        (&left[0]["deleted"], &left[0]["waiting"][0]),
        (&0.into(), &"all".into()),
        "without an archive it is left alone"
    );

    // In batches: each is on disk, and readable, before its runs are gone.
    let done = json(&installation, &["retention", "run", "--archive", archive, "--batch", "2"]).await;
    assert_eq!(done[0]["deleted"], 5);
    let mut text = String::new();
    let file = std::fs::File::open(done[0]["archive"].as_str().unwrap()).unwrap();
    std::io::Read::read_to_string(&mut flate2::read::MultiGzDecoder::new(file), &mut text).unwrap();
    let mut ids: Vec<String> =
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].to_string()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), text.lines().count()), (5, 5));
    assert!(json(&installation, &["list"]).await.is_empty());

    let nothing = installation.longhaul(&["retention", "run", "--archive", archive]).await;
    assert_eq!(String::from_utf8(nothing.stdout).unwrap(), "0 runs deleted.\n");
    assert_eq!(std::fs::read_dir(archive).unwrap().count(), 1, "no empty file");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_names_what_needs_somebody() {
    let installation = Installation::new().await;
    let folder = temporary_folder().unwrap();
    let flow = folder.path().join("f.yaml");
    std::fs::write(&flow, FLOW).unwrap();
    installation.longhaul(&["flow", "deploy", flow.to_str().unwrap()]).await;
    end_some(&installation, 1).await;
    installation.longhaul(&["queue", "pause", "default"]).await;
    let checks = json(&installation, &["doctor"]).await;
    let finding = |name: &str| {
        let check = checks.iter().find(|check| check["check"] == name).unwrap_or_else(|| panic!("{name}: {checks:?}"));
        (check["verdict"].as_str().unwrap(), check["finding"].as_str().unwrap())
    };
    for name in ["rooms", "overdue", "snapshots", "locks", "vacuum", "partitions"] {
        assert_eq!(finding(name).0, "ok", "{:?}", finding(name));
    }
    assert_eq!(finding("attention"), ("warning", "paused queues: default"));
}
