//! Unique starts.

use std::time::Duration;

use longhaul::{Error, Start, Step, Unique};

use crate::harness::with_database;

#[tokio::test(flavor = "multi_thread")]
async fn a_key_gives_the_same_run_as_long_as_it_counts() {
    with_database(|db| async move {
        db.deploy_single("f", Step::new("a", "nobody")).await;
        db.deploy_single("g", Step::new("a", "nobody")).await;
        let client = db.client().await;
        let start = |flow: &'static str, unique: Unique| {
            let client = client.clone();
            async move { client.start_with(flow, Start::new(&1).unwrap().unique("k", unique)).await.unwrap() }
        };
        let race = futures::future::join_all((0..20).map(|_| start("f", Unique::WhileLive))).await;
        assert!(race.iter().all(|run| run.id() == race[0].id()), "twenty at once are one");
        assert_eq!(db.value::<i64>("select count(*) from longhaul.run").await, 1);
        assert_ne!(start("g", Unique::WhileLive).await.id(), race[0].id(), "of another flow");
        race[0].stop().await.unwrap();
        let second = start("f", Unique::For(Duration::from_secs(60))).await;
        assert_ne!(second.id(), race[0].id());
        second.stop().await.unwrap();
        assert_eq!(start("f", Unique::WhileLive).await.id(), second.id(), "the window counts, whatever the run does");
        db.execute("select longhaul.advance_clock('61 seconds')").await;
        let third = start("f", Unique::Forever).await;
        assert_ne!(third.id(), second.id());
        third.stop().await.unwrap();
        db.execute("select longhaul.advance_clock('3000 days')").await;
        assert_eq!(start("f", Unique::WhileLive).await.id(), third.id());
        let unknown = client.start_with("nothing", Start::new(&1).unwrap().unique("k", Unique::WhileLive)).await;
        assert!(matches!(unknown, Err(Error::NotFound(_))));
        assert!(matches!(
            client.start_with("f", Start::new(&1).unwrap().unique("", Unique::WhileLive)).await,
            Err(Error::Invalid(_))
        ));
    })
    .await;
}
