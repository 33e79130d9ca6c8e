//! `start --lines`: many runs, and what happens when one try is not enough.

use longhaul_ops::embedded::temporary_folder;
use longhaul_schema::{Flow, Step};
use serde_json::Value;

use crate::server::Installation;

/// Starts the lines; exit code, what was printed for each line and in the end, and what was said.
async fn start(installation: &Installation, more: &[&str]) -> (i32, Vec<Value>, String) {
    let arguments: Vec<&str> = ["start", "f", "--json", "--lines"].iter().chain(more).copied().collect();
    let output = installation.longhaul(&arguments).await;
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (output.status.code().unwrap(), lines, String::from_utf8(output.stderr).unwrap())
}

async fn count(installation: &Installation) -> usize {
    installation.client().await.list(&Default::default()).await.unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_try_of_a_batch_starts_nothing_twice() {
    let installation = Installation::new().await;
    let folder = temporary_folder().unwrap();
    let file = folder.path().join("lines.jsonl");
    std::fs::write(&file, "{\"n\": 1}\n{\"n\": 2}\n\n{\"n\": 1}\n").unwrap();
    let file = file.to_str().unwrap();

    // The flow is not there yet: nothing is started, and the batch is named.
    let (code, lines, said) = start(&installation, &[file]).await;
    let end = lines.last().unwrap();
    assert_eq!((code, &end["started"], lines.len()), (3, &0.into(), 1), "{said}");
    let batch = end["batch"].as_str().unwrap().to_owned();
    assert!(said.contains(&format!("--batch {batch}")), "{said}");

    installation.client().await.deploy(&Flow::new("f", 1).step(Step::new("a", "nobody"))).await.unwrap();
    let (code, first, _) = start(&installation, &[file, "--batch", &batch]).await;
    assert_eq!(code, 0);
    let places: Vec<_> = first[..3].iter().map(|line| line["line"].as_i64().unwrap()).collect();
    assert_eq!((places, count(&installation).await), (vec![1, 2, 4], 3));

    // The file was changed meanwhile: what was started is known by what it says.
    std::fs::write(file, "{\"n\": 3}\n{\"n\": 1}\n{\"n\": 1}\n{\"n\": 2}\n").unwrap();
    let (code, second, _) = start(&installation, &[file, "--batch", &batch]).await;
    let end = second.last().unwrap();
    assert_eq!((code, &end["started"], &end["existing"]), (0, &1.into(), &3.into()));
    let ids = |lines: &[Value]| lines.iter().filter_map(|l| l["id"].as_str().map(str::to_owned)).collect::<Vec<_>>();
    assert!(ids(&first).iter().all(|id| ids(&second).contains(id)));
    assert_eq!(count(&installation).await, 4);

    // Another batch is another batch.
    let (_, third, _) = start(&installation, &[file]).await;
    assert_eq!(third.last().unwrap()["started"], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_line_is_refused_alone() {
    let installation = Installation::new().await;
    installation.client().await.deploy(&Flow::new("f", 1).step(Step::new("a", "nobody"))).await.unwrap();
    let folder = temporary_folder().unwrap();
    let file = folder.path().join("lines.jsonl");
    let large = format!("\"{}\"", "x".repeat(2_000_000));
    std::fs::write(&file, format!("1\n2\n{large}\n4\n5\n")).unwrap();
    let (code, lines, said) = start(&installation, &[file.to_str().unwrap()]).await;
    let end = lines.last().unwrap();
    assert_eq!((code, &end["started"], &end["refused"]), (2, &4.into(), &1.into()), "{said}");
    assert!(said.contains("line 3 was refused"), "{said}");
    assert_eq!(count(&installation).await, 4);
}
