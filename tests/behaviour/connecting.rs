//! Connecting: several hosts, privileges, the bounds of the pool.

use std::time::Duration;

use longhaul::{Client, Config, Database, Step, Worker};

use crate::{
    harness::{TestDb, nothing, with_database, within},
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
        let worker = Worker::builder(&config).handler("nothing", nothing).build().unwrap();
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
        let worker = restricted.spawn(restricted.worker().handler("nothing", nothing));
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

/// Settings of a database that a program could meet, and that none of ours may depend on.
const HOSTILE: &[&str] = &[
    "default_transaction_isolation = 'serializable'",
    "default_transaction_deferrable = on",
    "standard_conforming_strings = off",
    "backslash_quote = off",
    "quote_all_identifiers = on",
    "statement_timeout = '20ms'",
    "lock_timeout = '5ms'",
    "idle_in_transaction_session_timeout = '20ms'",
    "idle_session_timeout = '50ms'",
    "search_path = ''",
    "timezone = 'Pacific/Apia'",
    "datestyle = 'German, DMY'",
    "intervalstyle = 'sql_standard'",
    "bytea_output = 'escape'",
    "array_nulls = off",
    "transform_null_equals = on",
    "extra_float_digits = -15",
    "xmlbinary = hex",
    "plan_cache_mode = force_custom_plan",
    "enable_partition_pruning = off",
    "row_security = off",
    "client_min_messages = debug5",
    "default_toast_compression = pglz",
    "plpgsql.extra_errors = 'all'",
    "plpgsql.check_asserts = off",
    "check_function_bodies = off",
];

#[tokio::test(flavor = "multi_thread")]
async fn no_setting_of_a_database_changes_what_happens() {
    let db = TestDb::create_empty().await;
    for setting in HOSTILE {
        db.execute(&format!("alter database {} set {setting}", db.name)).await;
    }
    // New connections, which meet them all.
    let mut hostile = db.clone();
    hostile.database = Database::new(&db.config).unwrap();
    longhaul::migrate::migrate(&hostile.database).await.unwrap();
    let isolation: String = hostile.value("show transaction_isolation").await;
    assert_eq!(isolation, "read committed");

    let client = hostile.client().await;
    let flow = longhaul::Flow::new("two", 1)
        .step(Step::new("a", "nothing"))
        .step(Step::new("b", "nothing").after("a").when("$.input.n > 0"))
        .step(Step::wait_signal("c", longhaul::WaitSignal::new("go")).after("b"));
    client.deploy(&flow).await.unwrap();
    let worker = hostile.spawn(hostile.worker().handler("nothing", nothing));
    hostile.spawn_scheduler();
    let runs = client.start_many("two", (1..20).map(|n| serde_json::json!({ "n": n }))).await.unwrap().ids();
    for run in &runs {
        client.run(*run).signal("go", &1).await.unwrap();
    }
    for run in &runs {
        within("a run", client.run(*run).wait(Duration::from_secs(60))).await.unwrap().expect("it ends");
    }
    assert_eq!(hostile.value::<i64>("select count(*) from longhaul.run where state = 'completed'").await, 19);
    worker.stop().await;
    hostile.assert_rooms_are_sound().await;
    hostile.drop_database().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_connection_string_asks_for_stays() {
    with_database(|db| async move {
        let mut config = db.config.clone();
        config.connection.postgres.options("-c statement_timeout=7s -c default_transaction_isolation=serializable");
        let database = Database::new(&config).unwrap();
        let connection = database.connection().await.unwrap();
        let show =
            async |name: &str| -> String { connection.query_one(&format!("show {name}"), &[]).await.unwrap().get(0) };
        assert_eq!(show("statement_timeout").await, "7s");
        // This one is no matter of taste.
        assert_eq!(show("transaction_isolation").await, "read committed");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_waiting_mends_is_told_at_once() {
    with_database(|db| async move {
        let mut config = db.config.clone();
        config.connection.postgres.dbname("no_such_database");
        let error = within("the connection", Client::connect(&config)).await.unwrap_err();
        assert!(matches!(&error, longhaul::Error::Denied(text) if text.contains("no_such_database") && !text.contains("user")), "{error}");

        // A failure of the moment is not one of the connection.
        db.deploy_single("one", Step::new("a", "h")).await;
        db.execute(&format!("alter database {} set default_transaction_read_only = on", db.name)).await;
        let mut config = db.config.clone();
        config.retry_for = Duration::ZERO;
        let client = Client::connect(&config).await.unwrap();
        let error = client.start("one", &1).await.unwrap_err();
        assert!(error.is_transient() && error.to_string().contains("accepts no changes"), "{error}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_has_forgotten_its_statements_is_not_used_again() {
    with_database(|db| async move {
        let mut config = db.config.clone().pool_size(1);
        config.retry_for = Duration::ZERO;
        let database = Database::new(&config).unwrap();
        database.calls().await.unwrap().clock().await.unwrap();
        // As a pooler in transaction mode does, which gives out another server.
        database.connection().await.unwrap().batch_execute("deallocate all").await.unwrap();
        let error = database.calls().await.unwrap().clock().await.unwrap_err();
        assert!(error.is_transient() && error.to_string().contains("transaction mode (PgBouncer)"), "{error}");
        database.calls().await.unwrap().clock().await.unwrap();
    })
    .await;
}

proptest::proptest! {
    #[test]
    fn connection_options_that_are_written_read_back(
        hosts in proptest::collection::vec("(/[a-z/]{1,8}|[a-z.]{1,8}|::1)", 1..3),
        port in 1_u16..,
        user in "[^\0]{1,12}", password in proptest::option::of("[^\0]{1,12}"), name in "[^\0]{1,12}",
        options in proptest::option::of("[^\0]{1,20}"),
        application in "[ -~]{1,10}",
        file in "/[^\0]{0,12}",
        seconds in (1_u64..100, 0_u64..100, 1_u64..100, 1_u64..100),
        retries in 0_u32..9,
        words in (0_usize..3, 0_usize..3, 0_usize..2, 0_usize..3, 0_usize..2, 0_usize..2),
    ) {
        use tokio_postgres::config::{ChannelBinding, LoadBalanceHosts, TargetSessionAttrs};
        use longhaul::connect::{ConnectOptions, SslMode, TlsVersions};
        let mut options_of_all = ConnectOptions::parse_with("host=x", |_| None).unwrap();
        let mut postgres = tokio_postgres::Config::new();
        for host in &hosts {
            postgres.host(host).port(port);
        }
        postgres.user(&user).dbname(&name).application_name(&application);
        if let Some(password) = &password {
            postgres.password(password);
        }
        if let Some(options) = &options {
            postgres.options(options);
        }
        postgres.connect_timeout(Duration::from_secs(seconds.0));
        if seconds.1 > 0 {
            postgres.tcp_user_timeout(Duration::from_secs(seconds.1));
        }
        postgres.keepalives(words.4 == 0).keepalives_idle(Duration::from_secs(seconds.2));
        postgres.keepalives_interval(Duration::from_secs(seconds.3)).keepalives_retries(retries);
        postgres.target_session_attrs([TargetSessionAttrs::Any, TargetSessionAttrs::ReadWrite, TargetSessionAttrs::ReadOnly][words.0]);
        postgres.channel_binding([ChannelBinding::Disable, ChannelBinding::Prefer, ChannelBinding::Require][words.1]);
        postgres.load_balance_hosts([LoadBalanceHosts::Disable, LoadBalanceHosts::Random][words.2]);
        let socket = hosts.iter().any(|host| host.starts_with('/'));
        options_of_all.ssl_mode = if socket { SslMode::Disable } else { SslMode::Prefer };
        postgres.ssl_mode(if socket { tokio_postgres::config::SslMode::Disable } else { tokio_postgres::config::SslMode::Prefer });
        options_of_all.tls_versions = [TlsVersions::Both, TlsVersions::Only12, TlsVersions::Only13][words.3];
        options_of_all.ssl_sni = words.5 == 0;
        options_of_all.ssl_root_cert = Some(file.clone().into());
        options_of_all.postgres = postgres;

        let again = ConnectOptions::parse_with(&options_of_all.to_url(), |_| None).unwrap();
        proptest::prop_assert_eq!(&again.postgres, &options_of_all.postgres);
        proptest::prop_assert_eq!(again.ssl_root_cert, options_of_all.ssl_root_cert);
        proptest::prop_assert_eq!((again.ssl_mode, again.tls_versions, again.ssl_sni), (options_of_all.ssl_mode, options_of_all.tls_versions, options_of_all.ssl_sni));
    }
}
