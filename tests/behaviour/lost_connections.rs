//! Lost connections: backends terminated in the middle of a call, answers lost after a commit, the server restarted.

use std::time::Duration;

use longhaul::{Client, Database, Flow, Scheduler, Step, StepContext, StepError, Worker, migrate};
use longhaul_ops::embedded::{ClusterOptions, temporary_folder};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{
    harness::{Running, TestDb, eventually, nothing, with_database, within},
    network::Network,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_terminated_in_the_middle_of_a_claim_loses_nothing() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "nothing")).await;
        let client = db.client().await;
        client.start_many("one", 0..10).await.unwrap();
        // The claim has removed the tasks when it comes to the leases, and waits there.
        let mut connection = db.database.connection().await.unwrap();
        let barrier = connection.transaction().await.unwrap();
        barrier.batch_execute("lock table longhaul.lease in share row exclusive mode").await.unwrap();
        let worker = db.spawn(db.worker().lease(Duration::from_secs(30)).handler("nothing", nothing));
        db.terminate_when_blocked("claim").await;
        barrier.rollback().await.unwrap();
        drop(connection);

        db.until_all_completed().await;
        assert_eq!(db.value::<i32>("select max(attempt) from longhaul.step").await, 1);
        assert_eq!(worker.stop().await.lost, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_terminated_in_the_middle_of_a_completion_loses_nothing() {
    with_database(|db| async move {
        let client = db.client().await;
        client
            .deploy(&Flow::new("two", 1).step(Step::new("a", "nothing")).step(Step::new("b", "nothing").after("a")))
            .await
            .unwrap();
        // The completion has closed the lease when it comes to write the step, and waits there.
        let mut connection = db.database.connection().await.unwrap();
        client.start_many("two", 0..10).await.unwrap();
        let barrier = connection.transaction().await.unwrap();
        barrier.batch_execute("lock table longhaul.step in share mode").await.unwrap();
        let worker = db.spawn(db.worker().lease(Duration::from_secs(30)).handler("nothing", nothing));
        db.terminate_when_blocked("complete").await;
        barrier.rollback().await.unwrap();
        drop(connection);

        db.until_all_completed().await;
        assert_eq!(db.value::<i32>("select max(attempt) from longhaul.step").await, 1, "nothing was done twice");
        assert_eq!(db.value::<i64>("select count(*) from longhaul.attempt").await, 0);
        assert_eq!(worker.stop().await.lost, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_whose_answer_was_lost_is_asked_for_again_and_happens_once() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "nothing")).await;
        let network = Network::start(&db.config).await.unwrap();
        let client = Client::connect(&network.config(&db.config)).await.unwrap();
        client.start("one", &0).await.unwrap();

        network.lose_answers(true);
        let starting = tokio::spawn(async move { client.start("one", &1).await.map(|run| run.id()) });
        eventually("it is committed", || async { db.value::<i64>("select count(*) from longhaul.run").await == 2 })
            .await;
        network.lose_answers(false);
        network.cut();

        within("the second answer", starting).await.unwrap().unwrap();
        assert_eq!(db.value::<i64>("select count(*) from longhaul.run").await, 2);
    })
    .await;
}

/// What becomes of the connection on which an answer was lost.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    /// It is cut.
    Cut,
    /// It stays open, and silent.
    Silent,
}

/// A worker behind a network, which gives silent connections up soon and looks for work only when it is told to. It has done a
/// first run of the flow `one`.
async fn remote_worker(db: &TestDb) -> (Client, Network, Running) {
    db.deploy_single("one", Step::new("a", "nothing")).await;
    let client = db.client().await;
    let network = Network::start(&db.config).await.unwrap();
    let mut config = network.config(&db.config);
    config.call_timeout = Duration::from_millis(500);
    config.pool_wait = Duration::from_millis(500);
    let worker = Worker::builder(&config).poll(Duration::from_secs(3600)).without_chores().handler("nothing", nothing);
    let worker = db.spawn(worker);
    // It never polls: what is ready before it has entered itself it would not learn of.
    eventually("it listens", || async { db.value::<bool>("select exists (select from longhaul.listener)").await })
        .await;
    within("the first run", client.start("one", &0).await.unwrap().output::<()>()).await.unwrap();
    (client, network, worker)
}

/// Loses the answer of a call that is blocked by this transaction.
async fn lose_answer(
    db: &TestDb,
    network: &Network,
    barrier: longhaul::connect::Transaction<'_>,
    done: &str,
    then: Then,
) {
    network.lose_answers(true);
    barrier.rollback().await.unwrap();
    eventually("the call is committed", || async { db.value::<bool>(done).await }).await;
    network.lose_answers(false);
    if then == Then::Cut {
        network.cut();
    }
}

/// A claim of ten steps by a worker behind a network is blocked by the transaction that `unanswered` is given. Whatever that does
/// to its answer, each step is done once.
async fn blocked_claim(unanswered: impl AsyncFnOnce(&TestDb, &Network, longhaul::connect::Transaction<'_>)) {
    with_database(|db| async move {
        let (client, network, worker) = remote_worker(&db).await;

        let mut connection = db.database.connection().await.unwrap();
        let barrier = connection.transaction().await.unwrap();
        barrier.batch_execute("lock table longhaul.lease in share row exclusive mode").await.unwrap();
        client.start_many("one", 0..10).await.unwrap();
        db.until_blocked("claim").await;
        unanswered(&db, &network, barrier).await;
        done_once(&db, worker).await;
    })
    .await;
}

/// The lease lives for 90 s: the steps come back because the worker asks for them.
async fn done_once(db: &TestDb, worker: Running) {
    db.until_all_completed().await;
    assert_eq!(db.value::<i32>("select max(attempt) from longhaul.step").await, 1);
    assert_eq!(worker.stop().await.lost, 0);
}

async fn claim_with_a_lost_answer(then: Then) {
    blocked_claim(async |db, network, barrier| {
        lose_answer(db, network, barrier, "select count(*) = 10 from longhaul.lease", then).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_whose_answer_was_lost_is_found_out_and_done_once() {
    claim_with_a_lost_answer(Then::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_on_a_connection_that_went_silent_is_found_out_and_done_once() {
    claim_with_a_lost_answer(Then::Silent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_outlasts_its_workers_patience_is_found_out_and_done_once() {
    with_database(|db| async move {
        let (client, _network, worker) = remote_worker(&db).await;
        // No lock: a session waits for one less long than its caller for the answer.
        db.execute(
            "create table longhaul.slow as select 1;
             create function longhaul.be_slow() returns trigger language plpgsql as $$
             begin
               while exists (select from longhaul.slow) loop perform pg_sleep(0.02); end loop;
               return new;
             end $$;
             create trigger be_slow before insert on longhaul.lease for each row execute function longhaul.be_slow()",
        )
        .await;
        client.start_many("one", 0..10).await.unwrap();
        // The worker gives the claim up and asks what it took, while it is still being carried out.
        db.until_blocked("forgotten_leases").await;
        db.execute("delete from longhaul.slow").await;
        done_once(&db, worker).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_network_loses_no_lease() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "nothing")).await;
        let network = Network::start(&db.config).await.unwrap();
        network.delay(Duration::from_millis(60));
        let worker = Worker::builder(&network.config(&db.config)).handler("nothing", nothing);
        let worker = db.spawn(worker.heartbeat(Duration::from_millis(200)).lease(Duration::from_secs(1)));
        db.client().await.start_many("one", 0..200).await.unwrap();
        db.until_all_completed().await;
        assert_eq!(db.value::<i32>("select max(attempt) from longhaul.step").await, 1);
        assert_eq!(worker.stop().await.lost, 0);
    })
    .await;
}

async fn completion_with_a_lost_answer(then: Then) {
    with_database(|db| async move {
        let (client, network, worker) = remote_worker(&db).await;

        let run = {
            // The completion has closed the lease when it comes to write the step, and waits there.
            let mut connection = db.database.connection().await.unwrap();
            let barrier = connection.transaction().await.unwrap();
            barrier.batch_execute("lock table longhaul.lease in share row exclusive mode").await.unwrap();
            let run = client.start("one", &1).await.unwrap();
            db.until_blocked("claim").await;
            let mut second = db.database.connection().await.unwrap();
            let steps = second.transaction().await.unwrap();
            steps.batch_execute("lock table longhaul.step in share mode").await.unwrap();
            barrier.rollback().await.unwrap();
            db.until_blocked("complete").await;
            lose_answer(&db, &network, steps, "select count(*) = 2 from longhaul.run where state = 'completed'", then)
                .await;
            run
        };

        within("the run", run.output::<()>()).await.unwrap();
        let summary = within("the shutdown", worker.stop()).await;
        assert_eq!((summary.settled, summary.lost), (2, 0));
        assert_eq!(db.value::<i64>("select count(*) from longhaul.attempt").await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completion_whose_answer_was_lost_is_not_counted_as_lost() {
    completion_with_a_lost_answer(Then::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completion_on_a_connection_that_went_silent_is_not_counted_as_lost() {
    completion_with_a_lost_answer(Then::Silent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_restarted_under_load_loses_nothing() {
    let folder = temporary_folder().unwrap();
    let mut cluster = ClusterOptions::new(folder.path()).start().await.unwrap();
    let mut config = cluster.config().unwrap();
    config.retry_for = Duration::from_secs(60);
    migrate::migrate(&Database::new(&config).unwrap()).await.unwrap();
    let client = Client::connect(&config).await.unwrap();
    client
        .deploy(&Flow::new("two", 1).step(Step::new("a", "slow")).step(Step::new("b", "slow").after("a")))
        .await
        .unwrap();
    let slow = |_: StepContext, _: Value| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok::<_, StepError>(())
    };
    let stop = CancellationToken::new();
    let workers: Vec<_> = (0..2)
        .map(|_| {
            let worker = Worker::builder(&config).poll(Duration::from_millis(100)).handler("slow", slow);
            let stop = stop.clone();
            tokio::spawn(worker.queue("default", 20).build().unwrap().run_until(async move { stop.cancelled().await }))
        })
        .collect();
    tokio::spawn(Scheduler::new(&config).unwrap().run_until(std::future::pending()));

    let starter = tokio::spawn({
        let client = client.clone();
        async move {
            let mut ids = Vec::new();
            for n in 0..400 {
                ids.push(client.start("two", &n).await.expect("every start is accepted in the end").id());
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            ids
        }
    });
    tokio::time::sleep(Duration::from_millis(400)).await;
    cluster.kill().await;
    cluster.start().await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    cluster.stop().await;
    cluster.start().await.unwrap();

    let mut ids = within("the starts", starter).await.unwrap();
    for id in &ids {
        let run = within("a run", client.run(*id).wait(Duration::from_secs(60))).await.unwrap().expect("in time");
        assert_eq!(run.state.as_str(), "completed");
    }
    ids.sort();
    ids.dedup();
    let calls = client.database().calls().await.unwrap();
    assert_eq!(
        calls.list_runs(&longhaul::calls::RunFilter { limit: 10_000, ..Default::default() }).await.unwrap().len(),
        400
    );
    assert_eq!(ids.len(), 400);
    assert_eq!(calls.room_violations().await.unwrap(), Vec::<String>::new());
    drop(calls);
    stop.cancel();
    for worker in workers {
        within("the worker", worker).await.unwrap().unwrap();
    }
    cluster.stop().await;
}
