//! The server of a rig: a private one, with one installation that is emptied between scenarios.

use std::{path::Path, sync::Arc};

use longhaul::{Config, Database, migrate};
use longhaul_ops::embedded::{Cluster, ClusterOptions, temporary_folder};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::{invariants, scheduling};

/// A failed statement: its SQLSTATE and its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: String,
    pub message: String,
}

/// Rows of texts.
pub type Rows = Vec<Vec<Option<String>>>;
pub type Answer = Result<Rows, Refusal>;

/// A server of its own.
pub struct Server {
    cluster: Cluster,
    config: Config,
    admin: Arc<Client>,
    emptying: String,
    _folder: TempDir,
}

impl Server {
    /// Starts it. With statements of a file after the installation, if there is one.
    pub async fn start(patch: Option<&Path>) -> Self {
        let folder = temporary_folder().expect("a folder");
        let options = ClusterOptions::new(folder.path())
            .set("fsync", "off")
            .set("synchronous_commit", "off")
            .set("max_connections", "60")
            // Many small questions: compiling them takes longer than answering them.
            .set("jit", "off")
            // Deadlocks are findings: soon, please.
            .set("deadlock_timeout", "40ms");
        let cluster = options.start().await.expect("a server");
        let config = cluster.config().expect("its configuration");
        migrate::migrate(&Database::new(&config).expect("a pool")).await.expect("the tables");
        let admin = connect(&config).await;
        let mut server = Self { cluster, config, admin, emptying: String::new(), _folder: folder };
        server.admin("set session_replication_role = replica").await;
        if let Some(patch) = patch {
            server.admin(&std::fs::read_to_string(patch).expect("a file of statements")).await;
        }
        server.slow_machine().await;
        server.admin(scheduling::PROCEDURE).await;
        server.emptying = server.emptying().await;
        let sets_aside = !server.admin("select where to_regclass('longhaul.set_aside') is not null").await.is_empty();
        for (name, sql) in invariants::QUESTIONS {
            // What is set aside was not foreseen: somebody has to look at it.
            let more = if sets_aside && *name == "quiet" { invariants::SET_ASIDE } else { "" };
            server.admin(&format!("prepare {name} as {more} {sql}")).await;
        }
        server
    }

    /// As on a machine where every look takes long: floors are raised whenever they may be.
    async fn slow_machine(&self) {
        let found = self.admin("select pg_get_functiondef(p.oid) from pg_proc p where p.pronamespace = 'longhaul'::regnamespace and p.proname = 'is_long'").await;
        let definition = found[0][0].clone().expect("a definition");
        let head = definition.split("LANGUAGE").next().expect("a head").to_owned();
        self.admin(&format!("{head} language sql as 'select true'")).await;
    }

    /// A new connection, as callers and workers have it: what waits for a lock gives up soon.
    pub async fn connection(&self) -> Arc<Client> {
        connect(&self.config).await
    }

    /// A statement of the rig itself.
    pub async fn admin(&self, sql: &str) -> Rows {
        ask(&self.admin, sql).await.unwrap_or_else(|refusal| panic!("{sql}: {refusal:?}"))
    }

    /// Empties all tables that an installation begins with empty. Deleting is faster than truncating where tables are small.
    pub async fn empty(&self) {
        self.admin(&self.emptying).await;
    }

    /// The statements that bring an installation back to its beginning.
    async fn emptying(&self) -> String {
        let tables = self
            .admin(
                "select quote_ident(c.relname) from pg_class c where c.relnamespace = 'longhaul'::regnamespace
                 and c.relkind in ('r', 'p') and not c.relispartition",
            )
            .await;
        let mut sql = String::new();
        for table in tables.iter().filter_map(|row| row[0].as_deref()) {
            if self.admin(&format!("select from longhaul.{table} limit 1")).await.is_empty() {
                sql.push_str(&format!("delete from longhaul.{table};"));
            }
        }
        for row in self.admin("select quote_literal(name), value from longhaul.setting").await {
            let (name, value) = (row[0].as_deref().unwrap_or_default(), row[1].as_deref().unwrap_or_default());
            sql.push_str(&format!(
                "update longhaul.setting set value = {value} where name = {name} and value <> {value};"
            ));
        }
        sql.push_str("update longhaul.chore set next_at = clock_timestamp() + case when interval_ms > 60000 then interval_ms else 0 end * interval '1 ms', failures = 0, last_error = null, done = 0;");
        sql
    }

    pub async fn stop(mut self) {
        self.cluster.stop().await;
    }
}

async fn connect(config: &Config) -> Arc<Client> {
    let (client, connection) = config.connection.postgres.connect(NoTls).await.expect("a connection");
    tokio::spawn(connection);
    // What nests deeply on a small list nests too deeply on a large one.
    let set = "set max_stack_depth = '600kB'; set client_min_messages = 'error'; set timezone = 'UTC'";
    client.batch_execute(set).await.expect("settings");
    Arc::new(client)
}

/// Asks for rows of texts.
pub async fn ask(client: &Client, sql: &str) -> Answer {
    match client.simple_query(sql).await {
        Ok(messages) => Ok(messages
            .iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect()),
                _ => None,
            })
            .collect()),
        Err(error) => Err(match error.as_db_error() {
            Some(db) => Refusal { code: db.code().code().to_owned(), message: db.message().to_owned() },
            None => Refusal { code: "connection".into(), message: error.to_string() },
        }),
    }
}
