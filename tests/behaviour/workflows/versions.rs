//! Versions of flows: what differs, and what still runs.

use longhaul::{Error, Flow, Step};
use serde_json::{Value, json};

use crate::harness::with_database;

#[tokio::test(flavor = "multi_thread")]
async fn two_versions_are_compared_and_live_runs_are_counted_by_version() {
    with_database(|db| async move {
        let client = db.client().await;
        let first = Flow::new("f", 1).step(Step::new("a", "h")).step(Step::new("b", "h").after("a"));
        let second = Flow::new("f", 2)
            .step(Step::new("a", "h").priority(5))
            .step(Step::new("c", "h").after("a"))
            .output("$.steps.c");
        client.deploy(&first).await.unwrap();
        client.start("f", &1).await.unwrap();
        client.deploy(&second).await.unwrap();
        client.start_many("f", 0..2).await.unwrap();
        assert_eq!(client.live_versions("f").await.unwrap(), [(1, 1), (2, 2)]);

        let read = |p: &Option<longhaul::Payload>| p.as_ref().map(|p| p.read::<Value>().unwrap());
        let difference = client.flow_difference("f", 1, 2).await.unwrap();
        let changes: Vec<_> = difference.iter().map(|d| (d.step.as_deref(), d.change.as_str())).collect();
        assert_eq!(changes, [(Some("a"), "changed"), (Some("b"), "removed"), (Some("c"), "added"), (None, "changed")]);
        assert_eq!(read(&difference[0].before), Some(json!({ "priority": 0 })));
        assert_eq!(read(&difference[0].after), Some(json!({ "priority": 5 })));
        assert_eq!(read(&difference[3].after), Some(json!({ "output": "$.steps.c" })));
        assert!(client.flow_difference("f", 1, 1).await.unwrap().is_empty());
        assert!(matches!(client.flow_difference("f", 1, 3).await, Err(Error::NotFound(t)) if t.contains("version 3")));

        let checksums: Vec<String> = client.flows().await.unwrap().into_iter().map(|f| f.checksum).collect();
        assert_ne!(checksums[0], checksums[1]);
    })
    .await;
}
