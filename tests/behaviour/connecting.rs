//! Connecting: several hosts, privileges, the bounds of the pool.

use std::time::Duration;

use longhaul::{Client, Config, Database, Step, Worker};

use crate::{
    harness::{nothing, with_database, within},
    network::Network,
};

#[tokio::test(flavor = "multi_thread")]
async fn the_first_host_that_can_write_is_used() {
    with_database(|db| async move {
        let mut config: Config = db.config.clone();
        let old = db.config.connection.postgres.clone();
        let network = Network::start(&db.config).await.unwrap();
        // Nobody listens on port 1; the network leads to the server.
        let good = network.config(&db.config).connection.postgres;
        let mut postgres = tokio_postgres::Config::new();
        postgres.host("127.0.0.1").port(1).host("127.0.0.1").port(good.get_ports()[0]);
        postgres.user(old.get_user().unwrap_or("postgres")).dbname(&db.name).ssl_mode(old.get_ssl_mode());
        if let Some(password) = old.get_password() {
            postgres.password(password);
        }
        postgres.target_session_attrs(tokio_postgres::config::TargetSessionAttrs::ReadWrite);
        config.connection.postgres = postgres;
        Client::connect(&config).await.unwrap();

        // A server that only reads is not taken.
        db.execute(&format!("alter database {} set default_transaction_read_only = on", db.name)).await;
        config.retry_for = Duration::ZERO;
        assert!(Client::connect(&config).await.unwrap_err().is_transient());
        let mut admin = db.config.clone();
        admin.connection.postgres.options("-c default_transaction_read_only=off");
        let admin = Database::new(&admin).unwrap();
        admin
            .connection()
            .await
            .unwrap()
            .batch_execute(&format!("alter database {} reset all", db.name))
            .await
            .unwrap();
        admin.close();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_privileges_are_told_as_such() {
    with_database(|db| async move {
        let role = format!("nobody_{}", std::process::id());
        db.execute(&format!("create role {role} login password 'x'; grant usage on schema longhaul to {role}")).await;
        db.execute(&format!("revoke execute on all functions in schema longhaul from public; grant select on all tables in schema longhaul to {role}")).await;
        let mut config = db.config.clone();
        config.connection.postgres.options(format!("-c role={role}"));
        let error = Client::connect(&config).await.unwrap_err();
        assert!(matches!(&error, longhaul::Error::Denied(text) if text.contains("permission denied")), "{error}");
        let worker = Worker::builder(&config).handler("nothing", nothing).unwrap().build().unwrap();
        let error = within("the worker gives up", worker.run_until(std::future::pending())).await.unwrap_err();
        assert!(matches!(error, longhaul::Error::Denied(_)), "{error}");
        db.execute(&format!("drop owned by {role}; drop role {role}")).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_privileges_are_enough_for_clients_and_workers() {
    with_database(|db| async move {
        let role = format!("app_{}", std::process::id());
        db.execute(&format!(
            "create role {role} login;
             revoke execute on all functions in schema longhaul from public;
             grant usage on schema longhaul to {role};
             grant execute on all functions in schema longhaul to {role};
             grant select, insert, update, delete on all tables in schema longhaul to {role}"
        ))
        .await;
        let mut restricted = db.clone();
        restricted.config.connection.postgres.options(format!("-c role={role}"));
        restricted.database = Database::new(&restricted.config).unwrap();
        restricted.deploy_single("one", Step::new("a", "nothing")).await;
        let worker = restricted.spawn(restricted.worker().handler("nothing", nothing).unwrap());
        let run = restricted.client().await.start("one", &1).await.unwrap();
        within("the run", run.output::<()>()).await.unwrap();
        worker.stop().await;
        restricted.database.close();
        db.execute(&format!("drop owned by {role}; drop role {role}")).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_a_connection_is_bounded() {
    with_database(|db| async move {
        let mut config = db.config.clone().pool_size(1);
        config.pool_wait = Duration::from_millis(50);
        config.retry_for = Duration::ZERO;
        let database = Database::new(&config).unwrap();
        let held = database.connection().await.unwrap();
        let error = database.calls().await.expect_err("the pool is exhausted");
        assert!(error.is_transient() && error.to_string().contains("became free in time"), "{error}");
        drop(held);
        database.calls().await.unwrap();
    })
    .await;
}
