//! Opening connections, with settings that do not depend on those of the database or role.

use std::{future::Future, pin::Pin, time::Duration};

use deadpool_postgres::Connect;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, Error, NoTls, Socket, tls::MakeTlsConnect};

use super::tls::Tls;

/// What a database or role may have set and we cannot live with. They are set by a statement, not when the connection is asked for:
/// poolers refuse options that they do not know.
///
/// - The functions count on READ COMMITTED: under another level a signal could be accepted and never delivered.
/// - Texts in our functions are written for standard strings, and names are compared as the server spells them.
/// - How long a call may take is decided by its caller (`call_timeout`, and much more for chores and migrations), who also finds out
///   what became of it; how long the database may be idle is none of its business. A limit that the connection string itself sets
///   (`options=-c …`) is the operator's will for this very program, and stays.
/// - A statement waits for a lock a little less long than its caller waits for the answer. Otherwise it would go on waiting in a session
///   that nobody reads any more, and the next try beside it: while somebody keeps a table locked (`VACUUM FULL`, `ALTER TABLE`, a transaction
///   that was left open), each worker would take a few connections a minute, until the server has none left.
/// - A transaction of ours that stands still for a minute may be ended: its process is frozen. A shorter limit would end healthy ones.
const SETTINGS: &str = "
select set_config(s.name, w.value, false)
from (values
  ('default_transaction_isolation', 'read committed'),
  ('standard_conforming_strings', 'on'),
  ('quote_all_identifiers', 'off'),
  ('statement_timeout', '0'),
  ('lock_timeout', '{lock_timeout}'),
  ('transaction_timeout', '0'),
  ('idle_session_timeout', '0'),
  ('idle_in_transaction_session_timeout', '60000')) w (name, value)
join pg_catalog.pg_settings s on s.name = w.name
where s.setting <> w.value
  and case
    when s.name = 'idle_in_transaction_session_timeout' then s.source <> 'client' and s.setting::bigint between 1 and 59999
    when s.name like '%timeout' then s.source <> 'client'
    else true
  end";

/// Opens connections for the pool.
pub(super) struct Opener {
    pub(super) tls: Tls,
    /// How long callers wait for answers.
    pub(super) call_timeout: Duration,
}

/// How long a statement may wait for a lock, in milliseconds, when its answer is waited for so long. 0: for ever.
pub(super) fn lock_timeout(call_timeout: Duration) -> i32 {
    i32::try_from((call_timeout.as_millis() * 9 / 10).max(1)).unwrap_or(0)
}

type Opening<'a> = Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + 'a>>;

impl Connect for Opener {
    fn connect(&self, config: &Config) -> Opening<'_> {
        let config = config.clone();
        let lock_timeout = lock_timeout(self.call_timeout);
        match self.tls.0.clone() {
            Some(tls) => Box::pin(open(config, tls, lock_timeout)),
            None => Box::pin(open(config, NoTls, lock_timeout)),
        }
    }
}

async fn open<T>(config: Config, tls: T, lock_timeout: i32) -> Result<(Client, JoinHandle<()>), Error>
where
    T: MakeTlsConnect<Socket> + Send + 'static,
    T::TlsConnect: Send,
    <T::TlsConnect as tokio_postgres::tls::TlsConnect<Socket>>::Future: Send,
    T::Stream: Send + 'static,
{
    let (client, connection) = config.connect(tls).await?;
    let task = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection was lost");
        }
    });
    settle(&client, lock_timeout).await?;
    Ok((client, task))
}

/// Gives a new connection our settings; its statements wait for a lock for so many milliseconds (0: for ever).
pub(super) async fn settle(client: &Client, lock_timeout: i32) -> Result<(), Error> {
    client.batch_execute(&SETTINGS.replace("{lock_timeout}", &lock_timeout.to_string())).await
}

/// Takes our own limit on waiting for locks away again, for work that may take as long as it likes.
pub(super) async fn wait_for_locks(client: &Client, call_timeout: Duration) -> Result<(), Error> {
    let sql = format!(
        "select set_config('lock_timeout', '0', false) from pg_catalog.pg_settings where name = 'lock_timeout' and setting = '{}'",
        lock_timeout(call_timeout)
    );
    client.batch_execute(&sql).await
}
