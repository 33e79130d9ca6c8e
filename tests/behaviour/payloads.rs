//! Payloads that cannot be stored get a clear error and lose nothing.

use std::time::Duration;

use longhaul::{Client, Error, Payload, Step, StepContext, StepError};
use serde_json::{Value, json};

use crate::{
    harness::{with_database, within},
    starting::play_worker,
};

#[tokio::test(flavor = "multi_thread")]
async fn inputs_beyond_the_limit_are_refused_and_those_at_it_pass() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        let client = db.client().await;
        // A JSON text of exactly the limit: two quotes and the rest letters.
        client.start("one", &"x".repeat(1024 * 1024 - 2)).await.unwrap();
        let error = client.start("one", &"x".repeat(1024 * 1024 + 1)).await.unwrap_err();
        assert!(matches!(&error, Error::Invalid(text) if text.contains("max_payload_bytes")), "{error}");

        // The limit is a setting, and the database itself keeps to it.
        db.calls().await.set_setting("max_payload_bytes", 100).await.unwrap();
        let small = Client::connect(&db.config).await.unwrap();
        assert!(small.start("one", &"x".repeat(99)).await.is_err());
        let error = client.start("one", &"x".repeat(500)).await.unwrap_err();
        assert!(error.to_string().contains("limit of 100"), "{error}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_that_cannot_be_stored_fail_their_own_step_only() {
    with_database(|db| async move {
        let worker = db.worker().handler("echo", |_: StepContext, kind: String| async move {
            Ok::<Value, StepError>(match kind.as_str() {
                "nul" => json!("\0"),
                "large" => json!("x".repeat(2_000_000)),
                "deep" => (0..200).fold(json!(1), |inner, _| json!([inner])),
                _ => json!("fine"),
            })
        });
        let worker = db.spawn(worker.unwrap().queue("default", 50).unwrap());
        db.deploy_single("one", Step::new("a", "echo")).await;
        let client = db.client().await;
        let kinds = (0..100).map(|n| ["fine", "nul", "fine", "large", "deep"][n % 5]);
        let ids = client.start_many("one", kinds).await.unwrap().ids();
        for (n, id) in ids.into_iter().enumerate() {
            let run = within("the run", client.run(id).wait(Duration::from_secs(60))).await.unwrap().expect("in time");
            let expected = if n % 5 == 0 || n % 5 == 2 { "completed" } else { "failed" };
            assert_eq!(run.state.as_str(), expected);
            if let Some(error) = run.error {
                assert!(error.as_str().contains("the output cannot be stored"), "{}", error.as_str());
            }
        }
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_json_in_sql_calls_is_an_error_and_changes_nothing() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        let connection = db.database.connection().await.unwrap();
        for input in [r#"'"\u0000"'"#, "'{'", "'1e999999'"] {
            assert!(connection.batch_execute(&format!("select longhaul.start_run('one', {input})")).await.is_err(), "{input}");
        }
        let worker = play_worker(&db, &["h"]).await;
        for call in [
            format!("select * from longhaul.complete({worker}, array[gen_random_uuid()], array[0], array[1], array[]::jsonb[])"),
            format!("select * from longhaul.claim({worker}, array['default'], array[]::int[])"),
            format!("select * from longhaul.end_attempts({worker}, array[gen_random_uuid()], array[0], array[1], null, null, array[true], null)"),
            "select * from longhaul.register_worker('default', 'n', 'h', 1, 'v', '{default}', '{a..b}', 1, 1000)".into(),
            "select * from longhaul.register_worker('default', 'n', 'h', 1, 'v', '{default}', '{a}', 1, 5)".into(),
            "select longhaul.set_setting('nope', 1)".into(),
            "select longhaul.set_setting('max_payload_bytes', 0)".into(),
            "select longhaul.set_setting('clock_offset_ms', 5)".into(),
        ] {
            let error = connection.query(&call, &[]).await.map(|_| ()).map_err(Error::from).expect_err(&call);
            assert!(matches!(error, Error::Invalid(_) | Error::NotFound(_)), "{call}: {error}");
        }
        assert_eq!(db.value::<i64>("select count(*) from longhaul.run").await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_and_texts_come_back_as_they_were() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "echo")).await;
        let worker = db.spawn(
            db.worker().handler("echo", |_: StepContext, v: Value| async move { Ok::<_, StepError>(v) }).unwrap(),
        );
        let client = db.client().await;
        for text in [r#"{"a": [1, 2.5, -30000000000, null, true], "ä\n\"": "日本\u0001"}"#, "0", "[]", r#""""#] {
            let input = Payload::from_text(text).unwrap();
            let run = client.start_with("one", longhaul::Start::from_payload(input.clone())).await.unwrap();
            assert_eq!(within("the run", run.output::<Value>()).await.unwrap(), input.read::<Value>().unwrap());
        }
        worker.stop().await;
    })
    .await;
}
