//! The options of starts hold together, at every door, and times are checked at every door.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use longhaul::{Error, Flow, Start, Step, Unique, calls::RunState};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{TestDb, with_database};

const DAY: Duration = Duration::from_secs(86_400);

fn start(input: i32) -> Start {
    Start::new(&input).unwrap()
}

async fn deadline_in(db: &TestDb, run: Uuid) -> f64 {
    db.value(&format!(
        "select extract(epoch from at - longhaul.clock())::float8 from longhaul.deadline where run_id = '{run}'"
    ))
    .await
}

async fn refused(db: &TestDb, sql: &str) -> String {
    let connection = db.database.connection().await.unwrap();
    let error = connection.query(sql, &[]).await.expect_err(sql);
    let error = error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error:?}"));
    format!("{} {}", error.code().code(), error.message())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_option_is_dropped_beside_a_key() {
    with_database(|db| async move {
        db.deploy_single("f", Step::new("a", "h")).await;
        let client = db.client().await;
        let id = Uuid::now_v7();
        let later = Utc::now() + TimeDelta::days(30);
        let all = start(1)
            .unique("all", Unique::WhileLive)
            .id(id)
            .at(later)
            .deadline(DAY)
            .name("one")
            .priority(-7)
            .version(1)
            .metadata(&json!({ "k": 1 }))
            .unwrap();
        let run = client.start_with("f", all.clone()).await.unwrap();
        let info = run.get().await.unwrap();
        assert_eq!((run.id(), info.state, info.name.as_deref()), (id, RunState::Pending, Some("one")));
        assert!((info.start_at.unwrap() - later).abs() < TimeDelta::milliseconds(1));
        let in_days = deadline_in(&db, id).await / 86_400.0;
        assert!((30.9..31.1).contains(&in_days), "a day from its start on, not {in_days} from now");
        assert_eq!(db.value::<Value>("select metadata from longhaul.run").await, json!({ "k": 1 }));
        assert_eq!(db.value::<i16>("select priority from longhaul.steps").await, -7);
        assert_eq!(
            client.start_with("f", all.id(Uuid::now_v7())).await.unwrap().id(),
            id,
            "it holds its key while pending"
        );

        let created = client.start_with("f", start(2).unique("created", Unique::Forever).create_only()).await.unwrap();
        assert_eq!(created.get().await.unwrap().state, RunState::Pending);
        let again = client.start_with("f", start(2).unique("created", Unique::WhileLive)).await.unwrap();
        assert_eq!(again.id(), created.id());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_has_as_much_time_as_the_start_had() {
    with_database(|db| async move {
        db.deploy_single("f", Step::new("a", "h")).await;
        let client = db.client().await;
        client.deploy(&Flow::new("bounded", 1).timeout(DAY * 9).step(Step::new("a", "h"))).await.unwrap();
        for (flow, given, days) in [("f", Some(DAY), 1.0), ("bounded", Some(DAY), 1.0), ("bounded", None, 9.0)] {
            let asked = given.map_or(start(1), |deadline| start(1).deadline(deadline));
            let run = client.start_with(flow, asked).await.unwrap();
            // Twice: by its deadline, and by a stop before it.
            for overdue in [true, false] {
                if overdue {
                    db.execute("select longhaul.advance_clock('10 days')").await;
                    assert_eq!(db.value::<i64>("select longhaul.end_overdue_runs()").await, 1, "{flow}");
                    assert_eq!(db.value::<i64>("select longhaul.end_overdue_runs()").await, 0, "{flow}");
                    assert_eq!(run.get().await.unwrap().state, RunState::Failed);
                } else {
                    run.stop().await.unwrap();
                }
                run.retry().await.unwrap();
                let left = deadline_in(&db, run.id()).await / 86_400.0;
                assert!((days - 0.01..=days).contains(&left), "{flow}: {left} days");
            }
            run.stop().await.unwrap();
            db.execute("select longhaul.advance_clock('10 days')").await;
            assert_eq!(
                db.value::<i64>("select longhaul.end_overdue_runs()").await,
                1,
                "one that has ended is only looked at"
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_holds_in_the_callers_transaction_and_delays_nobody_else() {
    with_database(|db| async move {
        db.deploy_single("f", Step::new("a", "h")).await;
        let client = db.client().await;
        let mut connection = db.database.connection().await.unwrap();
        let keyed = |key: &str| start(1).unique(key, Unique::WhileLive);
        let transaction = connection.transaction().await.unwrap();
        let first = client.start_in(&transaction, "f", keyed("k")).await.unwrap();
        assert_eq!(client.start_in(&transaction, "f", keyed("k")).await.unwrap(), first, "once in one transaction");
        // Another key goes on meanwhile; the same one waits for the outcome.
        client.start_with("f", keyed("other")).await.unwrap();
        let waiting = tokio::spawn({
            let client = client.clone();
            async move { client.start_with("f", start(1).unique("k", Unique::WhileLive)).await.unwrap().id() }
        });
        db.until_blocked("start_runs").await;
        transaction.commit().await.unwrap();
        assert_eq!(waiting.await.unwrap(), first);

        let transaction = connection.transaction().await.unwrap();
        let lost = client.start_in(&transaction, "f", keyed("rolled back")).await.unwrap();
        transaction.rollback().await.unwrap();
        assert_ne!(client.start_with("f", keyed("rolled back")).await.unwrap().id(), lost);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_starts_have_their_options_one_by_one() {
    with_database(|db| async move {
        let client = db.client().await;
        for version in [1, 2] {
            client.deploy(&Flow::new("f", version).step(Step::new("a", "h"))).await.unwrap();
        }
        let held = client.start_with("f", start(0).unique("held", Unique::WhileLive)).await.unwrap().id();
        let once = client
            .start_many(
                "f",
                [
                    start(1).priority(5).name("first").version(1),
                    start(0).unique("held", Unique::WhileLive),
                    start(2).unique("twice", Unique::Forever),
                    start(2).unique("twice", Unique::Forever),
                    start(3).unique("twice", Unique::Forever),
                    start(4).delay(DAY).deadline(DAY),
                    start(5).deadline(Duration::ZERO),
                    start(6).create_only().delay(DAY),
                    start(7).unique("", Unique::WhileLive),
                ],
            )
            .await
            .unwrap();
        let places = |items: &[(usize, Uuid)]| items.iter().map(|(place, _)| *place).collect::<Vec<_>>();
        assert_eq!(places(&once.started), [0, 2, 5]);
        assert_eq!(once.existing, [(1, held), (3, once.started[1].1)]);
        let refused: Vec<_> =
            once.refused.iter().map(|(place, why)| (*place, why.split(':').next().unwrap())).collect();
        let other = format!("key 'twice' of flow f belongs to run {}, which has another input", once.started[1].1);
        assert_eq!(
            refused,
            [
                (4, other.as_str()),
                (6, "a deadline must be in the future"),
                (7, "a run that is only created has no start time and no delay"),
                (8, "a key of a unique start has 1 to 500 characters"),
            ]
        );
        let first = client.get(once.started[0].1).await.unwrap();
        assert_eq!((first.version, first.name.as_deref()), (1, Some("first")));

        // And in a transaction of the caller's.
        let mut connection = db.database.connection().await.unwrap();
        let transaction = connection.transaction().await.unwrap();
        let inside = client
            .start_many_in(&transaction, "f", [start(0).unique("held", Unique::WhileLive), start(9)])
            .await
            .unwrap();
        transaction.rollback().await.unwrap();
        assert_eq!((places(&inside.started), inside.existing), (vec![1], vec![(0, held)]));
        assert!(matches!(client.get(inside.started[0].1).await, Err(Error::NotFound(_))));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_start_under_the_same_id_or_key_is_a_conflict_and_the_same_one_is_not() {
    with_database(|db| async move {
        let client = db.client().await;
        for version in [1, 2] {
            client.deploy(&Flow::new("f", version).step(Step::new("a", "h"))).await.unwrap();
        }
        let id = Uuid::now_v7();
        client.start_with("f", start(1).id(id).version(1)).await.unwrap();
        for same in [start(1), start(1).version(1), start(1).name("a name is no other start")] {
            assert_eq!(client.start_with("f", same.id(id)).await.unwrap().id(), id);
        }
        for (other, what) in [(start(2), "another input"), (start(1).version(2), "another version")] {
            let error = client.start_with("f", other.id(id)).await.unwrap_err();
            assert!(
                matches!(&error, Error::Conflict(why) if why.contains(what) && why.contains(&id.to_string())),
                "{error}"
            );
        }
        let keyed = |input| start(input).unique("k", Unique::For(DAY));
        let holder = client.start_with("f", keyed(1)).await.unwrap();
        let (stranger, holder_id) = (Uuid::now_v7(), holder.id().to_string());
        let error = client.start_with("f", keyed(2).id(stranger)).await.unwrap_err();
        assert!(
            matches!(&error, Error::Conflict(why) if why.contains(&holder_id) && why.contains(&stranger.to_string())),
            "{error}"
        );
        // In SQL as well, with a code of its own.
        let answer = refused(&db, "select longhaul.start_run('f', '2', p_key => 'k', p_window => '1 day')").await;
        assert!(answer.starts_with("LH004 key 'k' of flow f belongs to run"), "{answer}");
        let sql = "select longhaul.start_run('f', '1', p_key => 'k', p_window => '1 day')";
        assert_eq!(db.value::<Uuid>(sql).await, holder.id());
        assert_eq!(db.value::<i64>("select count(*) from longhaul.run").await, 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn times_without_an_end_are_refused_at_every_door() {
    with_database(|db| async move {
        db.deploy_single("f", Step::new("a", "h")).await;
        for (arguments, why) in [
            ("p_start_at => 'infinity'", "the start time must be"),
            ("p_start_at => '-infinity'", "the start time must be"),
            ("p_start_at => '294276-01-01'", "the start time must be"),
            ("p_start_at => '1969-12-31T00:00Z'", "the start time must be"),
            ("p_delay => '-1 hour'", "a delay must be"),
            ("p_delay => '20000 days'", "a delay must be"),
            ("p_delay => '178000000 years'", "a delay must be"),
            ("p_start_at => longhaul.clock() + interval '9999 days', p_delay => '2 days'", "at most 10000 days ahead"),
            ("p_deadline => '0 s'", "a deadline must be in the future"),
            ("p_deadline => '-1 s'", "a deadline must be in the future"),
            ("p_deadline => '20000 days'", "a deadline must be within"),
            ("p_window => '1 day'", "a window needs a key"),
            ("p_key => 'k', p_window => '-1 day'", "must be longer than nothing"),
            ("p_create_only => true, p_delay => '1 s'", "has no start time and no delay"),
            ("p_priority => 70000", "priority must be"),
            ("p_id => gen_random_uuid()", "run ids are UUIDv7"),
        ] {
            let answer = refused(&db, &format!("select longhaul.start_run('f', '1', {arguments})")).await;
            assert!(answer.starts_with("LH001") && answer.contains(why), "{arguments}: {answer}");
        }
        let ahead = "longhaul.clock() + interval '20000 days'";
        for (times, why) in [
            ("null, 'infinity', longhaul.clock()", "the last tick must be"),
            ("'-infinity', null, longhaul.clock()", "the first tick must be"),
            ("null, null, 'infinity'", "the next tick must be"),
            (&format!("null, {ahead}, longhaul.clock()"), "the last tick must be"),
        ] {
            let put = format!(
                "select longhaul.put_schedule('default','s','* * * * *','UTC','f',null,'{{}}','skip','allow',0,{times})"
            );
            let answer = refused(&db, &put).await;
            assert!(answer.starts_with("LH001") && answer.contains(why), "{times}: {answer}");
        }
        for (arguments, why) in [
            ("repeat('*', 501),'UTC','f',null,'{}','skip','allow',0", "1 to 500 characters"),
            ("'* * * * *','U T C','f',null,'{}','skip','allow',0", "is not a time zone"),
            ("'* * * * *','UTC','f',null,'{}','never','allow',0", "missed is"),
            ("'* * * * *','UTC','f',null,'{}','skip',null,0", "overlap is"),
            ("'* * * * *','UTC','f',null,'{}','skip','allow',-1", "jitter must be"),
            ("'* * * * *','UTC','f',null,(select jsonb_agg(gen_random_uuid()) from generate_series(1, 100000)),'skip','allow',0", "the input has"),
        ] {
            let answer = refused(
                &db,
                &format!("select longhaul.put_schedule('default','s',{arguments},null,null,longhaul.clock())"),
            )
            .await;
            assert!(answer.starts_with("LH001") && answer.contains(why), "{arguments}: {answer}");
        }
        // Durations of Rust that nobody can count are no surprise either.
        let client = db.client().await;
        let late = client.start_with("f", start(1).delay(Duration::MAX)).await.unwrap();
        assert_eq!(late.get().await.unwrap().state, RunState::Pending);
        let free = client.start_with("f", start(1).deadline(Duration::MAX)).await.unwrap();
        assert!(deadline_in(&db, free.id()).await > 9_999.0 * 86_400.0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deadlines_and_timeouts_count_from_the_real_start() {
    with_database(|db| async move {
        let client = db.client().await;
        let limited = Flow::new("f", 1).step(Step::new("a", "h")).timeout(Duration::from_secs(100));
        client.deploy(&limited).await.unwrap();
        let now = |seconds: f64, expected: f64| assert!((seconds - expected).abs() < 20.0, "{seconds}, not {expected}");

        let created = client.start_with("f", start(1).create_only()).await.unwrap();
        let strict = client.start_with("f", start(1).create_only().deadline(Duration::from_secs(40))).await.unwrap();
        let delayed = client.start_with("f", start(1).delay(DAY)).await.unwrap();
        now(deadline_in(&db, delayed.id()).await, 86_500.0);
        let past = client.start_with("f", start(1).at(Utc::now() - TimeDelta::hours(1))).await.unwrap();
        now(deadline_in(&db, past.id()).await, 100.0);
        db.execute("select longhaul.advance_clock('1 hour')").await;
        for (run, seconds) in [(&created, 100.0), (&strict, 40.0), (&delayed, 100.0)] {
            run.start().await.unwrap();
            now(deadline_in(&db, run.id()).await, seconds);
        }
        db.execute("select longhaul.advance_clock('99 seconds')").await;
        db.execute("select longhaul.end_overdue_runs()").await;
        assert_eq!(strict.get().await.unwrap().state, RunState::Failed);
        assert_eq!(created.get().await.unwrap().state, RunState::Running);
        db.execute("select longhaul.advance_clock('2 seconds')").await;
        db.execute("select longhaul.end_overdue_runs()").await;
        assert_eq!(created.get().await.unwrap().state, RunState::Failed);
        assert_eq!(delayed.get().await.unwrap().state, RunState::Failed);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_be_right_is_refused_at_deployment_with_its_place() {
    with_database(|db| async move {
        for (settings, why) in [
            (json!({ "timeout": "0s" }), "step 'a'.timeout must be longer than 0"),
            (json!({ "timeout": "10001d" }), "longer than 10000 days"),
            (
                json!({ "retry": { "backoff": "999999999d" } }),
                "step 'a'.retry.backoff: '999999999d' is longer than 10000 days",
            ),
            (json!({ "retry": { "cap": "999999999d" } }), "retry.cap"),
            (json!({ "approval": { "by": [] } }), "approval.by is empty"),
            (json!({ "approval": { "expires": "999999999d" } }), "approval.expires"),
        ] {
            let mut step = json!({ "name": "a", "handler": "h" });
            step.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
            let flow = json!({ "name": "f", "version": 1, "steps": [step] });
            let answer =
                refused(&db, &format!("select longhaul.deploy('default', '{}')", flow.to_string().replace('\'', "''")))
                    .await;
            assert!(answer.starts_with("LH001") && answer.contains(why), "{settings}: {answer}");
        }
        for flow in [
            json!({ "name": "f", "version": 1, "timeout": "0s", "steps": [{ "name": "a", "handler": "h" }] }),
            json!({ "name": "f", "version": 1, "steps": [{ "name": "a", "sleep": "99999999d" }] }),
        ] {
            let answer = refused(&db, &format!("select longhaul.deploy('default', '{flow}')")).await;
            assert!(answer.starts_with("LH001"), "{flow}: {answer}");
        }
    })
    .await;
}
