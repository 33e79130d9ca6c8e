//! The progress bar.

use std::{cell::Cell, error::Error, io::IsTerminal};

use indicatif::{ProgressBar, ProgressStyle};
use longhaul::{Client, connect::Connection};
use uuid::Uuid;

/// Follows the runs of this quickstart.
pub struct Progress {
    client: Client,
    first: Uuid,
    total: u64,
    ended: Cell<u64>,
    bar: ProgressBar,
}

impl Progress {
    pub fn new(client: &Client, ids: Vec<Uuid>) -> Result<Self, Box<dyn Error>> {
        let total = ids.len() as u64;
        let style = ProgressStyle::with_template("{bar:40.cyan/blue} {pos}/{len} files, {msg}, {elapsed_precise}")?;
        let bar = ProgressBar::new(total).with_style(style);
        bar.set_message("0 steps running");
        let first = ids.into_iter().min().unwrap_or_default();
        Ok(Self { client: client.clone(), first, total, ended: Cell::new(0), bar })
    }

    /// Looks at the database; true when all runs have ended.
    pub async fn update(&self) -> Result<bool, Box<dyn Error>> {
        let connection: Connection = self.client.database().connection().await?;
        let row = connection
            .query_one(
                "select count(*) filter (where ended_at is not null), (select count(*) from longhaul.lease)
                 from longhaul.run where id >= $1",
                &[&self.first],
            )
            .await?;
        let (ended, running): (i64, i64) = (row.get(0), row.get(1));
        self.ended.set(ended.unsigned_abs());
        self.bar.set_position(ended.unsigned_abs());
        self.bar.set_message(format!("{running} steps running"));
        Ok(self.ended.get() >= self.total)
    }

    /// How many steps a worker process owns.
    pub async fn steps_held_by(&self, pid: u32) -> Result<i64, Box<dyn Error>> {
        let connection = self.client.database().connection().await?;
        let sql = "select count(*) from longhaul.lease l join longhaul.worker w on w.id = l.worker_id where w.pid = $1 and w.state = 'active'";
        Ok(connection.query_one(sql, &[&i32::try_from(pid)?]).await?.get(0))
    }

    /// Which part of the runs has ended.
    pub fn share(&self) -> f64 {
        self.ended.get() as f64 / self.total as f64
    }

    /// A line above the bar.
    pub fn say(&self, text: &str) {
        if std::io::stderr().is_terminal() {
            self.bar.println(text);
        } else {
            println!("{text}");
        }
    }

    pub fn finish(&self) {
        self.bar.finish();
    }
}
