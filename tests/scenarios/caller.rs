//! Callers: connections of their own, which may keep transactions open over many acts, at any isolation level. A statement that waits
//! for a lock is left waiting, as it would be in a program, and its answer is looked at when it comes.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::{
    scenario::Isolation,
    server::{Answer, Server, ask},
};

/// A statement of a caller.
#[derive(Clone, Debug)]
pub struct Call {
    /// What it is, for findings.
    pub name: &'static str,
    pub sql: String,
    /// The run that it is about; none when it is about many.
    pub run: Option<usize>,
}

pub struct Caller {
    pub client: Arc<Client>,
    pid: String,
    pub open: Option<Isolation>,
    pub aborted: bool,
    /// The runs that its transaction has touched; none: any.
    pub touched: Vec<Option<usize>>,
    pending: Option<(Call, JoinHandle<Answer>)>,
}

/// What became of a statement.
pub enum Outcome {
    Answered(Call, Answer),
    Waits,
}

impl Caller {
    pub async fn new(server: &Server) -> Self {
        let client = server.connection().await;
        let pid = ask(&client, "select pg_backend_pid()").await.expect("a pid")[0][0].clone().expect("a pid");
        Self { client, pid, open: None, aborted: false, touched: Vec::new(), pending: None }
    }

    pub fn is_waiting(&self) -> bool {
        self.pending.is_some()
    }

    /// Sends a statement, and waits for its answer unless that waits for a lock.
    pub async fn send(&mut self, server: &Server, call: Call) -> Outcome {
        let (client, sql) = (self.client.clone(), call.sql.clone());
        self.pending = Some((call, tokio::spawn(async move { ask(&client, &sql).await })));
        self.answer(server).await
    }

    /// The answer of what was sent, if it is there or comes without waiting for a lock.
    pub async fn answer(&mut self, server: &Server) -> Outcome {
        let Some((call, mut task)) = self.pending.take() else { return Outcome::Waits };
        let mut blocked = 0;
        loop {
            match tokio::time::timeout(Duration::from_millis(25), &mut task).await {
                Ok(answer) => return Outcome::Answered(call, answer.expect("a statement")),
                Err(_) if self.waits_for_a_lock(server).await => blocked += 1,
                Err(_) => blocked = 0,
            }
            // Longer than the server takes to look for a deadlock.
            if blocked == 4 {
                self.pending = Some((call, task));
                return Outcome::Waits;
            }
        }
    }

    async fn waits_for_a_lock(&self, server: &Server) -> bool {
        let sql = format!("select wait_event_type from pg_stat_activity where pid = {}", self.pid);
        server.admin(&sql).await.first().is_some_and(|row| row[0].as_deref() == Some("Lock"))
    }

    /// Ends whatever it is at.
    pub async fn reset(&mut self, server: &Server) {
        if let Some((_, task)) = self.pending.take() {
            server.admin(&format!("select pg_cancel_backend({})", self.pid)).await;
            let _ = task.await;
        }
        let _ = ask(&self.client, "rollback").await;
        (self.open, self.aborted) = (None, false);
        self.touched.clear();
    }
}
