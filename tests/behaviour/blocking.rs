//! The client of programs without an async runtime.

use std::time::Duration;

use longhaul::{Error, Flow, Step, WaitSignal, blocking};

use crate::harness::with_database;

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_started_awaited_and_steered_without_async() {
    with_database(|db| async move {
        let config = db.config.clone();
        let outside = std::thread::spawn(move || {
            let client = blocking::Client::connect(&config)?;
            client.deploy(&Flow::new("f", 1).step(Step::wait_signal("a", WaitSignal::new("go"))))?;
            let run = client.start("f", &1)?;
            assert!(run.wait(Duration::from_millis(10))?.is_none());
            run.call(|run| async move { run.rename(Some("Ms Miller")).await })?;
            run.signal("go", &42)?;
            assert_eq!(run.output::<i64>()?, 42);
            assert_eq!(run.get()?.name.as_deref(), Some("Ms Miller"));
            let many = client.start_many("f", 0..10)?.ids();
            client.run(many[0]).stop()?;
            assert!(matches!(client.run(many[0]).stop(), Err(Error::Refused(_))));
            assert_eq!(client.list(&Default::default())?.len(), 11);
            assert_eq!(client.call(|client| async move { client.flows().await })?.len(), 1);
            Ok::<_, Error>(())
        });
        tokio::task::spawn_blocking(|| outside.join()).await.unwrap().expect("no panic").expect("no error");
    })
    .await;
}
