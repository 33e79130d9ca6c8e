//! Opening connections, with settings that do not depend on those of the database or role.

use std::{future::Future, pin::Pin};

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
/// - A transaction of ours that stands still for a minute may be ended: its process is frozen. A shorter limit would end healthy ones.
const SETTINGS: &str = "
select set_config(s.name, w.value, false)
from (values
  ('default_transaction_isolation', 'read committed'),
  ('standard_conforming_strings', 'on'),
  ('quote_all_identifiers', 'off'),
  ('statement_timeout', '0'),
  ('lock_timeout', '0'),
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
}

type Opening<'a> = Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + 'a>>;

impl Connect for Opener {
    fn connect(&self, config: &Config) -> Opening<'_> {
        let config = config.clone();
        match self.tls.0.clone() {
            Some(tls) => Box::pin(open(config, tls)),
            None => Box::pin(open(config, NoTls)),
        }
    }
}

async fn open<T>(config: Config, tls: T) -> Result<(Client, JoinHandle<()>), Error>
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
    settle(&client).await?;
    Ok((client, task))
}

/// Gives a new connection our settings.
pub(super) async fn settle(client: &Client) -> Result<(), Error> {
    client.batch_execute(SETTINGS).await
}
