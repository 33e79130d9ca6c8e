//! Payloads that cannot be stored get a clear error and lose nothing.

use std::time::Duration;

use longhaul::{Client, Error, Payload, Step, StepContext, StepError};
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config as RunnerConfig, TestRunner},
};
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
        let worker = db.spawn(worker.queue("default", 50));
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
        let worker =
            db.spawn(db.worker().handler("echo", |_: StepContext, v: Value| async move { Ok::<_, StepError>(v) }));
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

/// Pieces of strings: letters, escapes, and surrogates in and out of pairs.
fn string_piece() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z ]{0,3}",
        Just("ä日😀".to_owned()),
        prop::sample::select(vec![
            r"\n",
            r#"\""#,
            r"\\",
            r"\/",
            r"\b",
            r"\u0000",
            r"\u0001",
            r"\u00e9",
            r"\ud83d\ude00"
        ])
        .prop_map(str::to_owned),
        (0xD7F0_u32..0xE010).prop_map(|unit| format!(r"\u{unit:04x}")),
        (0xD7F0_u32..0xE010).prop_map(|unit| format!(r"\u{unit:04X}")),
        prop::sample::select(vec![r"\u12", r"\x", r"\", "\u{1}"]).prop_map(str::to_owned),
    ]
}

fn json_string() -> impl Strategy<Value = String> {
    prop::collection::vec(string_piece(), 0..4).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

fn json_number() -> impl Strategy<Value = String> {
    let exponent = prop_oneof![
        Just(String::new()),
        (-320_i32..320).prop_map(|e| format!("e{e}")),
        Just("E+7".into()),
        Just("e400".into()),
        Just("1e".into())
    ];
    let digits = prop_oneof![
        prop::sample::select(vec![
            "0",
            "-0",
            "1",
            "-12",
            "3.25",
            "0.0000001",
            "01",
            "-",
            "1.",
            ".5",
            "+1",
            "NaN",
            "Infinity"
        ])
        .prop_map(str::to_owned),
        (1_usize..400).prop_map(|n| "9".repeat(n)),
        (1_usize..400).prop_map(|n| format!("0.{}1", "0".repeat(n))),
    ];
    (digits, exponent).prop_map(|(digits, exponent)| digits + &exponent)
}

/// JSON texts and what nearly are some.
fn json_text() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "true", "false", "null", "nul", "True", "[", "]", "{}", "[]", "", "{\"a\"}", "[1,]", " 1 ", "\t[]\n",
    ]);
    let leaf = prop_oneof![4 => json_string(), 4 => json_number(), 1 => word.prop_map(str::to_owned)];
    let nested = leaf.prop_recursive(4, 16, 3, |inner| {
        let objects =
            prop::collection::vec((prop_oneof![Just("\"k\"".to_owned()), json_string()], inner.clone()), 0..3);
        prop_oneof![
            prop::collection::vec(inner, 0..3).prop_map(|items| format!("[{}]", items.join(", "))),
            objects.prop_map(|members| {
                let members: Vec<String> = members.iter().map(|(key, value)| format!("{key}:{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    });
    let deep =
        (1_usize..130, json_number()).prop_map(|(n, inner)| format!("{}{inner}{}", "[".repeat(n), "]".repeat(n)));
    prop_oneof![8 => nested, 1 => deep]
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_json_the_client_lets_pass_the_database_takes() {
    with_database(|db| async move {
        db.execute(
            "create function public.takes(text) returns boolean language plpgsql as
             $$begin perform $1::jsonb; return true; exception when data_exception or program_limit_exceeded then return false; end$$",
        )
        .await;
        let mut runner = TestRunner::new(RunnerConfig::default());
        let texts: Vec<String> =
            (0..6_000).map(|_| json_text().new_tree(&mut runner).expect("a text").current()).collect();
        let connection = db.database.connection().await.unwrap();
        let rows = connection
            .query("select public.takes(t) from unnest($1::text[]) with ordinality u (t, n) order by n", &[&texts])
            .await
            .unwrap();
        let mut seen = (0, 0);
        for (text, row) in texts.iter().zip(rows) {
            match (Payload::from_text(text), row.get::<_, bool>(0)) {
                (Ok(_), true) => seen.0 += 1,
                (Ok(_), false) => panic!("we let pass what the database refuses: {text}"),
                (Err(_), false) => seen.1 += 1,
                // Our own limits are narrower than the server's, in these two ways alone.
                (Err(error), true) => {
                    let error = error.to_string();
                    let ours = error.contains("number that is too large") || error.contains("nested more than");
                    assert!(ours, "we refuse what the database takes: {text}: {error}");
                }
            }
        }
        assert!(seen.0 > 500 && seen.1 > 500, "both kinds are tried: {seen:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_character_is_refused_for_itself_and_named() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        let raw = |text: &str| serde_json::value::RawValue::from_string(text.into()).unwrap();
        let inputs = [raw(r#""a""#), raw(r#"{"x": "\ud800"}"#), raw(r#""\ud83d\ude00""#)];
        let started = db.client().await.start_many("one", &inputs).await.unwrap();
        assert_eq!(started.started.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [0, 2]);
        assert!(
            matches!(&started.refused[..], [(1, why)] if why.contains("half a character (at byte 7")),
            "{:?}",
            started.refused
        );
    })
    .await;
}
