//! What the database reads itself. It accepts or refuses; any other error is a defect of our functions.

use longhaul::{Database, migrate};
use longhaul_ops::embedded::{Cluster, ClusterOptions, temporary_folder};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, Row, types::ToSql};

/// Whether an input was accepted. An error is a finding.
type Target = (&'static str, fn(&Server, &str) -> Result<bool, String>);

pub const TARGETS: &[Target] = &[
    ("definition", |server, text| {
        Ok(server.ask("select flow_version from longhaul.deploy('default', $1::text::jsonb)", &[&text])?.is_some())
    }),
    ("expression", |server, text| {
        // As condition and as template of a second step.
        let sql = "select flow_version from longhaul.deploy('default', jsonb_build_object(
                     'name', 'expressed', 'version', coalesce((select max(f.version) + 1 from longhaul.flow f where f.name = 'expressed'), 1),
                     'steps', jsonb_build_array('{\"name\": \"a\", \"handler\": \"h\"}'::jsonb,
                       jsonb_build_object('name', 'b', 'handler', 'h', 'after', array['a'], 'when', $1::text, 'input', jsonb_build_object('x', $1::text)))))";
        if server.ask(sql, &[&text])?.is_none() {
            return Ok(false);
        }
        server.must(
            "select longhaul.start_run('expressed', '{\"id\": 7, \"list\": [1, \"two\", null, {\"k\": 3.5}]}')",
            &[],
        )?;
        // What the path finds, or that it finds nothing, or that it cannot be followed: the run goes on or fails.
        for _ in 0..2 {
            server.must(
                "with c as (select array_agg(run_id) r, array_agg(seq) s, array_agg(attempt) a,
                              array_agg('{\"ok\": true, \"n\": 2, \"list\": [{\"k\": \"v\"}]}'::jsonb) o
                            from longhaul.claim($1, array['default'], array[10]))
                 select count(d.run_id) from c left join lateral longhaul.complete($1, c.r, c.s, c.a, c.o) d on c.r is not null",
                &[&server.worker],
            )?;
        }
        Ok(true)
    }),
    ("call", |server, text| {
        // The same text wherever a call takes one.
        let mut accepted = false;
        for sql in [
            "select 1 from longhaul.start_run('default flow', $1::text::jsonb)",
            "select 1 from longhaul.start_run($1::text)",
            "select 1 from longhaul.start_run('plain', p_name => $1::text)",
            "select 1 from longhaul.start_run('plain', p_tenant => $1::text)",
            "select 1 from longhaul.start_run('plain', $1::text::jsonb)",
            "select 1 from longhaul.send_signal('default', $1::text, 'key')",
            "select 1 from longhaul.send_signal('default', 'topic', $1::text, $1::text::jsonb, $1::text)",
            "select 1 from longhaul.acquire_lock('default', $1::text, $1::text, 1)",
            "select 1 from longhaul.pause_queue('default', $1::text)",
            "select 1 from longhaul.register_worker('default', 'w', 'host', 1, '1', array[$1::text], array['h'], 1, 1000)",
            "select 1 from longhaul.register_worker('default', 'w', 'host', 1, '1', array['q'], array[$1::text], 1, 1000)",
        ] {
            accepted |= server.ask(sql, &[&text])?.is_some();
        }
        Ok(accepted)
    }),
];

/// A server of its own, and a connection to it.
pub struct Server {
    runtime: Runtime,
    cluster: Cluster,
    client: Client,
    worker: i64,
    _folder: TempDir,
}

impl Server {
    pub fn start() -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let folder = temporary_folder().expect("a folder");
        let (cluster, client, worker) = runtime.block_on(async {
            let cluster = ClusterOptions::new(folder.path()).start().await.expect("a server");
            let config = cluster.config().expect("its configuration");
            migrate::migrate(&Database::new(&config).expect("a pool")).await.expect("the tables");
            let (client, connection) = config.connection.postgres.connect(NoTls).await.expect("a connection");
            tokio::spawn(connection);
            let plain = r#"select longhaul.deploy('default', '{"name": "plain", "version": 1, "steps": [{"name": "a", "handler": "other"}]}')"#;
            client.execute(plain, &[]).await.expect("a flow");
            let register = "select worker_id from longhaul.register_worker('default', 'fuzz', 'host', 1, '1', array['default'], array['h'], 10, 86400000)";
            let worker = client.query_one(register, &[]).await.expect("a worker").get(0);
            (cluster, client, worker)
        });
        Self { runtime, cluster, client, worker, _folder: folder }
    }

    /// The first row, or nothing when the statement was refused.
    fn ask(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, String> {
        match self.runtime.block_on(self.client.query(sql, parameters)) {
            Ok(rows) => Ok(rows.into_iter().next()),
            Err(error) => {
                // Not JSON, not text, or not ours: the server's own words for that.
                let code = error.code().map(|code| code.code().to_owned()).unwrap_or_default();
                let refused = code.starts_with("LH") || ["22P02", "22P05", "22021", "54001", "22003"].contains(&&*code);
                if refused { Ok(None) } else { Err(format!("{sql}: {error:?}")) }
            }
        }
    }

    /// A statement that nothing gives a reason to refuse.
    fn must(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<(), String> {
        self.runtime.block_on(self.client.query(sql, parameters)).map_err(|error| format!("{sql}: {error:?}"))?;
        Ok(())
    }

    pub fn stop(mut self) {
        self.runtime.block_on(self.cluster.stop());
    }
}
