//! A connection of its own for `LISTEN`.

use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_postgres::{AsyncMessage, NoTls, tls::MakeTlsConnect};

use super::{opening::settle, options::ConnectOptions, tls};
use crate::{Error, Result};

/// Notifications that wait to be read; further ones are dropped, which loses nothing: each says only "look".
const BUFFER: usize = 64;

/// Receives the notifications of one channel. The connection closes when this is dropped.
#[derive(Debug)]
pub struct Listener {
    notifications: mpsc::Receiver<String>,
    _connection: AbortOnDrop,
    /// Kept because the connection ends with its client.
    _client: tokio_postgres::Client,
}

impl Listener {
    pub(super) async fn open(options: &ConnectOptions, channel: &str) -> Result<Self> {
        let (client, messages) = match tls::connector(options)? {
            Some(connector) => connect(options, connector).await?,
            None => connect(options, NoTls).await?,
        };
        let (sender, notifications) = mpsc::channel(BUFFER);
        let connection = AbortOnDrop(tokio::spawn(forward(messages, sender)));
        settle(&client, 0).await?;
        client.batch_execute(&format!("listen \"{}\"", channel.replace('"', "\"\""))).await?;
        Ok(Self { notifications, _connection: connection, _client: client })
    }

    /// The payload of the next notification; `None` once the connection is lost.
    pub async fn next(&mut self) -> Option<String> {
        self.notifications.recv().await
    }
}

/// The task of a connection, which ends with whoever holds this: also when the opening is given up half-way.
#[derive(Debug)]
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

type Messages = BoxStream<'static, Result<AsyncMessage, tokio_postgres::Error>>;

async fn connect<T>(options: &ConnectOptions, connector: T) -> Result<(tokio_postgres::Client, Messages)>
where
    T: MakeTlsConnect<tokio_postgres::Socket> + 'static,
    T::Stream: Send + 'static,
{
    let (client, mut connection) = options.postgres.connect(connector).await.map_err(Error::from)?;
    let messages = futures::stream::poll_fn(move |context| connection.poll_message(context)).boxed();
    Ok((client, messages))
}

async fn forward(mut messages: Messages, sender: mpsc::Sender<String>) {
    loop {
        match messages.try_next().await {
            Ok(Some(AsyncMessage::Notification(notification))) => {
                // A full buffer means that the reader has been told to look many times already.
                let _ = sender.try_send(notification.payload().to_owned());
            }
            Ok(Some(_)) => {}
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(%error, "the connection for notifications was lost");
                return;
            }
        }
    }
}
