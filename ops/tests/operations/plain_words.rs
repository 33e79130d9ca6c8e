//! What the program says to somebody who has made an ordinary mistake, or who asks what a run waits for.

use std::process::{Command, Output};

use longhaul_ops::{embedded::temporary_folder, handlers::Permissions};
use serde_json::Value;

use crate::server::{Installation, PROGRAM};

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

impl Installation {
    async fn deploy_text(&self, text: &str) {
        let folder = temporary_folder().unwrap();
        let file = folder.path().join("f.yaml");
        std::fs::write(&file, text).unwrap();
        let output = self.longhaul(&["flow", "deploy", file.to_str().unwrap()]).await;
        assert!(output.status.success(), "{}", stderr(&output));
    }

    async fn start(&self, flow: &str, input: &str) -> String {
        let output = self.longhaul(&["start", flow, input]).await;
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output).trim().to_owned()
    }

    /// Asks `why` until it says this.
    async fn why(&self, run: &str, expected: &str) -> String {
        let mut said = String::new();
        for _ in 0..200 {
            said = stdout(&self.longhaul(&["why", run]).await);
            if said.contains(expected) {
                return said;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("why says nothing of {expected:?}: {said}");
    }

    fn work_with(&self, programs: &[&str]) {
        let programs = programs.iter().map(|&program| program.to_owned()).collect();
        self.work(&Permissions { programs, ..Permissions::default() });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_times_and_ids_are_told_how_they_are_written() {
    let installation = Installation::planned();
    for arguments in [
        &["start", "f", "--at", "tomorrow"][..],
        &["start", "f", "--at", "2026-12-24"],
        &["schedule", "put", "s", "@daily", "f", "--from", "2026-12-24 18:00"],
    ] {
        let output = installation.longhaul(arguments).await;
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("as in 2026-12-24T18:00:00+01:00"), "{arguments:?}: {}", stderr(&output));
    }
    for arguments in [
        &["why", "123"][..],
        &["show", "RUN"],
        &["stop", "order"],
        &["wait", "1"],
        &["fork", "1", "a"],
        &["decide", "1", "a", "b"],
        &["list", "--parent", "1"],
        &["start", "f", "--id", "1"],
    ] {
        let output = installation.longhaul(arguments).await;
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("an id is a UUID"), "{arguments:?}: {}", stderr(&output));
    }
    let output = installation.longhaul(&["start", "f", "--key", "k", "--key-for", "forever"]).await;
    assert!(stderr(&output).contains("or ever"), "{}", stderr(&output));
}
