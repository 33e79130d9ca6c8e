//! Five hundred functions, crashes of the server, lost workers.

use std::{collections::HashSet, time::Duration};

use longhaul::{Database, Flow, Payload, Retry, Step, StepContext, StepError, branch, calls::NewSignal, migrate};
use longhaul_ops::embedded::{ClusterOptions, temporary_folder};
use serde_json::{Value, json};

use crate::{
    harness::{TestDb, within},
    workflows::{Effects, simple_worker},
};

/// What every function does: sleeps, signals, children, a race and checkpoints that are counted outside
/// of the database.
async fn everything(ctx: StepContext, n: i64, effects: Effects) -> Result<Value, StepError> {
    let note = |what: &str| {
        let (effects, entry) = (effects.clone(), format!("{n} {what}"));
        move || async move {
            effects.add(entry);
            Ok(n)
        }
    };
    let a: i64 = ctx.checkpoint("a", note("a")).await?;
    effects.add(format!("{n} a saved"));
    ctx.sleep("nap", Duration::from_millis(50)).await?;
    let signalled: i64 = ctx.signal("go").await?;
    let child: i64 = ctx.child("child", &n).await?;
    let raced = ctx
        .race([
            branch(|ctx| async move {
                ctx.sleep("long", Duration::from_secs(3600)).await?;
                Ok("slept")
            }),
            branch(|ctx| async move {
                ctx.sleep("short", Duration::from_millis(100)).await?;
                Ok("won")
            }),
        ])
        .await?;
    let b: i64 = ctx.checkpoint("b", note("b")).await?;
    effects.add(format!("{n} b saved"));
    Ok(json!([a, signalled, child, raced, b]))
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_functions_survive_crashes_of_the_server_and_loss_of_workers() {
    // A server of its own, which is crashed.
    let folder = temporary_folder().unwrap();
    let mut cluster = ClusterOptions::new(folder.path()).start().await.unwrap();
    let mut config = cluster.config().unwrap();
    config.retry_for = Duration::from_secs(60);
    let db = TestDb { name: "postgres".into(), database: Database::new(&config).unwrap(), config };
    migrate::migrate(&db.database).await.unwrap();

    let client = db.client().await;
    db.spawn_scheduler();
    let effects = Effects::default();
    let builder = || {
        let effects = effects.clone();
        let function = move |ctx: StepContext, n: i64| everything(ctx, n, effects.clone());
        simple_worker(&db, &Effects::default()).handler("everything", function)
    };
    client.deploy(&Flow::new("child", 1).step(Step::new("a", "echo"))).await.unwrap();
    let step = Step::new("a", "everything").retry(Retry::fixed(1000, Duration::from_millis(10)));
    client.deploy(&Flow::new("f", 1).step(step)).await.unwrap();
    let ids = client.start_many("f", 0..500).await.unwrap().ids();
    let mut workers: Vec<_> = (0..3).map(|_| db.spawn(builder())).collect();
    let sending = {
        let (client, ids) = (client.clone(), ids.clone());
        tokio::spawn(async move {
            for (n, id) in ids.into_iter().enumerate() {
                let once = NewSignal {
                    idempotency_key: Some("once".into()),
                    ..NewSignal::new("go", Payload::new(&n).unwrap())
                };
                client.run(id).send(once).await.unwrap();
            }
        })
    };
    for round in 0..4 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        if round % 2 == 0 {
            cluster.kill().await;
            cluster.start().await.unwrap();
        }
        // A worker is gone without a word, and another one comes.
        workers.remove(0).kill();
        workers.push(db.spawn(builder()));
    }
    sending.await.unwrap();
    for (n, id) in ids.iter().enumerate() {
        let output: Value = within("the output", client.run(*id).output()).await.unwrap();
        assert_eq!(output, json!([n, n, n, "won", n]));
    }
    db.assert_rooms_are_sound().await;
    // A closure runs again only if its checkpoint was not stored: once it is, never.
    let mut saved = HashSet::new();
    for effect in effects.all() {
        match effect.strip_suffix(" saved") {
            Some(closure) => _ = saved.insert(closure.to_owned()),
            None => assert!(!saved.contains(&effect), "the closure of {effect} ran again"),
        }
    }
    assert_eq!(saved.len(), 1000);
    for worker in workers {
        worker.stop().await;
    }
    db.database.close();
    cluster.stop().await;
}
