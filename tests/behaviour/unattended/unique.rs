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

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_asks_for_the_key_of_its_run() {
    with_database(|db| async move {
        db.deploy_single("f", Step::new("a", "nobody")).await;
        let client = db.client().await;
        let start = || client.start_with("f", Start::new(&1).unwrap().unique("k", Unique::WhileLive));
        let first = start().await.unwrap();
        first.stop().await.unwrap();
        // Its own key is free still: a retry has it, and others are given this run.
        first.retry().await.unwrap();
        assert_eq!(start().await.unwrap().id(), first.id());
        first.stop().await.unwrap();

        let second = start().await.unwrap();
        let error = first.retry().await.unwrap_err();
        assert!(matches!(&error, Error::Refused(why) if why.contains(&second.id().to_string())), "{error}");
        second.pause().await.unwrap();
        assert!(first.retry().await.is_err(), "a paused run lives");
        second.stop().await.unwrap();
        first.retry().await.unwrap();
        assert_eq!(start().await.unwrap().id(), first.id(), "and it has its key again");
        assert!(matches!(second.retry().await, Err(Error::Refused(_))));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_and_a_start_of_one_key_at_once_are_one_live_run() {
    with_database(|db| async move {
        db.deploy_single("f", Step::new("a", "nobody")).await;
        let client = db.client().await;
        for n in 0..20 {
            let start = || client.start_with("f", Start::new(&1).unwrap().unique(format!("k{n}"), Unique::WhileLive));
            let first = start().await.unwrap();
            first.stop().await.unwrap();
            let (_, second) = tokio::join!(first.retry(), start());
            let second = second.unwrap();
            let live = format!(
                "select count(*) from longhaul.run where state = 'running' and id in ('{}', '{}')",
                first.id(),
                second.id()
            );
            assert_eq!(db.value::<i64>(&live).await, 1);
            second.stop().await.unwrap();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_forgotten_when_their_time_is_over_and_their_run_is_gone() {
    with_database(|db| async move {
        db.deploy_single("f", Step::new("a", "nobody")).await;
        let client = db.client().await;
        let month = Unique::For(Duration::from_secs(30 * 86_400));
        for unique in [Unique::WhileLive, month, Unique::Forever] {
            for n in 0..20 {
                let start = Start::new(&n).unwrap().unique(format!("{n} {unique:?}"), unique);
                client.start_with("f", start).await.unwrap().stop().await.unwrap();
            }
        }
        let kept = client.start_with("f", Start::new(&0).unwrap().unique("kept", Unique::WhileLive)).await.unwrap();
        kept.stop().await.unwrap();
        let delete =
            format!("select longhaul.delete_runs(array(select id from longhaul.run where id <> '{}'))", kept.id());
        assert_eq!(db.value::<i64>(&delete).await, 60);
        let sweep = || async {
            while db.value::<i64>("select longhaul.forget_keys()").await > 0 {}
            db.value::<i64>("select count(*) from longhaul.start_key").await
        };
        assert_eq!(sweep().await, 41, "windows count on after their runs");
        db.execute("select longhaul.advance_clock('31 days')").await;
        assert_eq!(
            sweep().await,
            21,
            "idempotency keys stay for ever, and so does the key of a run that can be retried"
        );
    })
    .await;
}
