//! A named limit of concurrency has one value.

use longhaul::{Concurrency, Error, Flow, Step};

use crate::harness::{TestDb, with_database};

fn flow(name: &str, version: u32, limit: &str, most: u32) -> Flow {
    Flow::new(name, version as _).step(Step::new("a", "h").concurrency(Concurrency::named(limit, most as _)))
}

async fn most(db: &TestDb, limit: &str) -> i32 {
    db.value(&format!("select most from longhaul.gate_limit where name = '{limit}'")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_flows_cannot_name_one_limit_differently() {
    with_database(|db| async move {
        let client = db.client().await;
        client.deploy(&flow("one", 1, "production", 1)).await.unwrap();
        client.deploy(&flow("same", 1, "production", 1)).await.unwrap();
        let error = client.deploy(&flow("other", 3, "production", 5)).await.unwrap_err();
        let named = ["production", "flow other version 3", "flow one version 1"];
        assert!(matches!(&error, Error::Conflict(why) if named.iter().all(|name| why.contains(name))), "{error}");
        assert_eq!(db.value::<i64>("select count(*) from longhaul.flow where name = 'other'").await, 0);
        client.deploy(&flow("other", 3, "staging", 5)).await.unwrap();
        assert_eq!((most(&db, "production").await, most(&db, "staging").await), (1, 5));

        let twice = Flow::new("twice", 1)
            .step(Step::new("a", "h").concurrency(Concurrency::named("x", 1)))
            .step(Step::new("b", "h").concurrency(Concurrency::named("x", 2)));
        let error = client.deploy(&twice).await.unwrap_err();
        assert!(error.to_string().contains("the concurrency limit x is 1 at step a and 2 at step b"), "{error}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_latest_version_of_a_flow_says_what_its_limit_is() {
    with_database(|db| async move {
        let client = db.client().await;
        client.deploy(&flow("f", 2, "x", 1)).await.unwrap();
        client.deploy(&flow("f", 3, "x", 3)).await.unwrap();
        assert_eq!(most(&db, "x").await, 3, "for the runs of all versions");
        client.deploy(&flow("f", 1, "x", 9)).await.unwrap();
        assert_eq!(most(&db, "x").await, 3, "an older version that comes late says nothing");
        // A flow that does not name it any more is in nobody's way.
        client.deploy(&flow("f", 4, "y", 1)).await.unwrap();
        client.deploy(&flow("g", 1, "x", 7)).await.unwrap();
        assert_eq!(most(&db, "x").await, 7);
    })
    .await;
}
