//! Calls while the database is silent, and callers who do not wait for the answer.

use std::{sync::Arc, time::Duration};

use longhaul::{Client, Database, Error, Step, calls::Calls};
use tokio::sync::Notify;

use crate::{
    harness::{TestDb, eventually, nothing, with_database, within},
    network::Network,
};

/// A database behind a network, reached by so many connections that give up soon.
async fn behind_a_network(db: &TestDb, connections: usize) -> (Network, Database) {
    let network = Network::start(&db.config).await.unwrap();
    let mut config = network.config(&db.config).pool_size(connections);
    config.call_timeout = Duration::from_millis(300);
    config.pool_wait = Duration::from_secs(5);
    config.retry_for = Duration::ZERO;
    (network, Database::new(&config).unwrap())
}

/// Sessions of this database that run a statement like this.
async fn running(db: &TestDb, statement: &str) -> i64 {
    let sql = format!(
        "select count(*) from pg_stat_activity
         where datname = current_database() and state = 'active' and query like '%{statement}%' and pid <> pg_backend_pid()"
    );
    db.value(&sql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_in_a_transaction_is_waited_for_longer_than_a_call_may_take() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        let (network, database) = behind_a_network(&db, 1).await;
        let silent = |error: Error| assert!(error.is_transient() && error.to_string().contains("no answer"), "{error}");

        // The beginning.
        let mut connection = database.connection().await.unwrap();
        network.lose_answers(true);
        silent(within("the beginning", connection.transaction()).await.map(|_| ()).unwrap_err());
        network.lose_answers(false);
        drop(connection);

        // A call in it.
        let mut connection = database.connection().await.unwrap();
        let transaction = connection.transaction().await.unwrap();
        network.lose_answers(true);
        let calls = Calls::on(&transaction, database.schema().clone());
        silent(within("a call", calls.clock()).await.unwrap_err());
        network.lose_answers(false);
        drop(transaction);
        drop(connection);

        // Commit and rollback.
        for commit in [true, false] {
            let mut connection = database.connection().await.unwrap();
            let transaction = connection.transaction().await.unwrap();
            network.lose_answers(true);
            let end = async { if commit { transaction.commit().await } else { transaction.rollback().await } };
            silent(within("the end", end).await.unwrap_err());
            network.lose_answers(false);
        }

        // And so a bulk start does not hang; the next one has a connection that works.
        let client = Client::on(database.clone()).await.unwrap();
        network.lose_answers(true);
        assert!(within("a bulk start", client.start_many("one", 0..2)).await.unwrap_err().is_transient());
        network.lose_answers(false);
        assert_eq!(client.start_many("one", 0..2).await.unwrap().ids().len(), 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_whose_caller_went_away_is_not_given_to_the_next_one() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        let database = Database::new(&db.config.clone().pool_size(1)).unwrap();
        let pid = || async {
            database
                .calls()
                .await
                .unwrap()
                .executor()
                .query_one("select pg_backend_pid()", &[])
                .await
                .unwrap()
                .get::<_, i32>(0)
        };

        // A statement of the caller's own: cancelled.
        let first = pid().await;
        let connection = database.connection().await.unwrap();
        let sleep = connection.query("select pg_sleep(3600)", &[]);
        assert!(tokio::time::timeout(Duration::from_millis(300), sleep).await.is_err());
        drop(connection);
        within("the next call", database.calls().await.unwrap().clock()).await.unwrap();
        eventually("it was cancelled", || async { running(&db, "pg_sleep(3600)").await == 0 }).await;
        let second = pid().await;
        assert_ne!(first, second);

        // A statement of a transaction: cancelled as well, and nothing of the transaction is left.
        let mut connection = database.connection().await.unwrap();
        let transaction = connection.transaction().await.unwrap();
        transaction.batch_execute("create table public.left_over (n int)").await.unwrap();
        let sleep = transaction.query("select pg_sleep(3601)", &[]);
        assert!(tokio::time::timeout(Duration::from_millis(300), sleep).await.is_err());
        drop(transaction);
        drop(connection);
        within("the next call", database.calls().await.unwrap().clock()).await.unwrap();
        eventually("it was cancelled", || async { running(&db, "pg_sleep(3601)").await == 0 }).await;
        assert!(!db.value::<bool>("select to_regclass('public.left_over') is not null").await);

        // A call of ours: what it has begun it ends, on a connection that nobody else gets.
        let mut barrier = db.database.connection().await.unwrap();
        let barrier = barrier.transaction().await.unwrap();
        barrier.batch_execute("lock table longhaul.run in share row exclusive mode").await.unwrap();
        let client = Client::on(db.database.clone()).await.unwrap();
        let starting = tokio::spawn(async move { client.start("one", &1).await.map(|_| ()) });
        db.until_blocked("start_runs").await;
        starting.abort();
        let _ = starting.await;
        within("the next call", db.calls().await.clock()).await.unwrap();
        barrier.rollback().await.unwrap();
        eventually("the run is there", || async { db.value::<i64>("select count(*) from longhaul.run").await == 1 })
            .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_left_in_a_transaction_is_not_given_to_the_next_one() {
    with_database(|db| async move {
        let database = Database::new(&db.config.clone().pool_size(1)).unwrap();
        for left in ["begin; create table public.left_over (n int)", "begin; do $$ begin raise 'no'; end $$"] {
            let connection = database.connection().await.unwrap();
            let _ = connection.batch_execute(left).await;
            drop(connection);
            within("the next call", database.calls().await.unwrap().clock()).await.unwrap();
            assert!(!db.value::<bool>("select to_regclass('public.left_over') is not null").await);
        }
        // An idle one goes back.
        let connection = database.connection().await.unwrap();
        let before: i32 = connection.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
        drop(connection);
        let connection = database.connection().await.unwrap();
        let after: i32 = connection.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
        assert_eq!(before, after);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_ever_is_no_panic() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        let client = db.client().await;
        let run = client.start("one", &1).await.unwrap();
        let waiting = tokio::spawn({
            let run = run.clone();
            async move { run.wait(Duration::MAX).await }
        });
        run.stop().await.unwrap();
        let ended = within("the run", waiting).await.unwrap().unwrap().expect("it has ended");
        assert_eq!(ended.state.as_str(), "cancelled");
        // Limits that are for ever, where they are taken.
        let later = longhaul::Start::new(&1).unwrap().delay(Duration::MAX).deadline(Duration::MAX);
        let later = client.start_with("one", later).await.unwrap();
        assert_eq!(later.get().await.unwrap().state.as_str(), "pending");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn work_under_a_lock_that_cannot_be_given_back_is_not_lost() {
    with_database(|db| async move {
        let (network, database) = behind_a_network(&db, 2).await;
        let hold = Duration::from_secs(60);
        let outcome = database.run_locked("a", "me", hold, |_| async {
            network.lose_answers(true);
            "the work was done"
        });
        assert_eq!(within("the work", outcome).await.unwrap().unwrap(), "the work was done");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_lives_as_long_as_the_work_under_it() {
    with_database(|db| async move {
        let done = Arc::new(Notify::new());
        let work = tokio::spawn({
            let (database, done) = (db.database.clone(), done.clone());
            async move { database.run_locked("a", "me", Duration::from_millis(400), |_| done.notified()).await }
        });
        let expiry =
            "select coalesce(extract(epoch from max(expires_at) - max(acquired_at)), 0)::float8 from longhaul.lock";
        // Held twice as long as it was taken for: it was renewed, more than once.
        eventually("the lock is renewed", || async { db.value::<f64>(expiry).await > 0.8 }).await;
        assert!(db.database.try_lock("a", "other", Duration::from_secs(1)).await.unwrap().acquired().is_none());
        done.notify_one();
        within("the work", work).await.unwrap().unwrap().unwrap();
        assert!(db.database.try_lock("a", "other", Duration::from_secs(1)).await.unwrap().acquired().is_some());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forcing_a_lock_open_again_takes_it_from_nobody_else() {
    with_database(|db| async move {
        let hold = Duration::from_secs(60);
        let first = db.database.try_lock("a", "first", hold).await.unwrap().acquired().unwrap();
        let calls = db.calls().await;
        let token = calls.lock_token("default", "a").await.unwrap();
        assert_eq!(token, Some(first.token()));
        assert!(calls.force_release_lock("default", "a", Some("me"), token).await.unwrap());
        // The answer was lost, somebody else took the lock, and the call comes again.
        let second = db.database.try_lock("a", "second", hold).await.unwrap().acquired().unwrap();
        assert!(calls.force_release_lock("default", "a", Some("me"), token).await.unwrap(), "it was done before");
        assert!(second.renew(hold).await.unwrap(), "the second one has it still");
        assert!(!calls.force_release_lock("default", "a", Some("me"), Some(7_000_000)).await.unwrap());
        assert_eq!(db.value::<i64>("select count(*) from longhaul.lock_event").await, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_given_up_while_a_table_is_locked_leave_no_sessions_behind() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "nothing")).await;
        let mut other = db.clone();
        // Gives up each call after 300 ms, as a worker with so short a lease does, and asks again.
        other.config.call_timeout = Duration::from_millis(300);
        other.database = Database::new(&other.config).unwrap();
        let worker = other.worker().lease(Duration::from_millis(600)).heartbeat(Duration::from_millis(200));
        let worker = other.spawn(worker.handler("nothing", nothing));
        let client = other.client().await;
        within("a run", client.start("one", &1).await.unwrap().wait(Duration::from_secs(60))).await.unwrap().unwrap();

        let operator = db.database.connection().await.unwrap();
        operator
            .batch_execute("begin; lock table longhaul.worker, longhaul.lease, longhaul.task in access exclusive mode")
            .await
            .unwrap();
        let waiting =
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        let mut most = 0;
        for _ in 0..40 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            most = most.max(db.value::<i64>(waiting).await);
        }
        // At most the pools of the worker, of its heartbeat and of its chores.
        assert!((1..=11).contains(&most), "{most} sessions wait for the lock");
        operator.batch_execute("rollback").await.unwrap();
        within("a run", client.start("one", &1).await.unwrap().wait(Duration::from_secs(60))).await.unwrap().unwrap();
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn migrating_waits_for_locks_as_long_as_it_takes() {
    with_database(|db| async move {
        let mut config = db.config.clone();
        config.call_timeout = Duration::from_millis(300);
        let database = Database::new(&config).unwrap();
        db.execute("create or replace function longhaul.installed_functions() returns text language sql immutable as 'select $$earlier$$::text'").await;
        let operator = db.database.connection().await.unwrap();
        operator.batch_execute("begin; lock table longhaul.worker in access exclusive mode").await.unwrap();
        let migrating = tokio::spawn(async move { longhaul::migrate::migrate(&database).await });
        tokio::time::sleep(Duration::from_millis(900)).await;
        assert!(!migrating.is_finished(), "{:?}", migrating.await);
        operator.batch_execute("rollback").await.unwrap();
        within("the migration", migrating).await.unwrap().unwrap();
    })
    .await;
}
