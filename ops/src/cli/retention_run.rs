//! `retention run`: deleting what the policies say, and writing it to an archive before.

use std::{
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use flate2::{Compression, write::GzEncoder};
use indicatif::{ProgressBar, ProgressStyle};
use longhaul_scheduler::Client;
use longhaul_schema::{
    Span,
    calls::{ArchivedRun, RetentionPage},
};
use serde_json::json;

use super::{Failure, output::Output};

/// Runs that are asked for at once when they are written to an archive: all that is known of each comes along.
const ARCHIVED_AT_ONCE: usize = 100;

/// Options of `retention run`.
#[derive(Debug, Args)]
pub(super) struct Run {
    /// Runs in one batch.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(i32).range(1..=100_000))]
    batch: i32,
    /// Pause between batches.
    #[arg(long, value_name = "TIME", default_value = "20ms")]
    pause: Span,
    /// Write each run to a compressed JSON Lines file in this folder before it is deleted.
    #[arg(long, value_name = "FOLDER")]
    archive: Option<PathBuf>,
}

/// What a run of the policies has done.
#[derive(Debug, Default)]
struct Done {
    deleted: i64,
    /// Policies whose runs wait for an archive.
    waiting: Vec<String>,
    file: Option<PathBuf>,
}

impl Run {
    pub(super) async fn delete(&self, client: &Client, tenant: &str, output: Output) -> Result<(), Failure> {
        let policies = client.database().calls().await?.list_retention_policies(tenant).await?;
        let mut archive = self.archive.as_deref().map(Archive::new);
        let mut done = Done::default();
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{pos} runs deleted, {per_sec}") {
            bar.set_style(style);
        }
        for policy in policies {
            if policy.archive && archive.is_none() {
                done.waiting.push(policy.name);
                continue;
            }
            self.apply(client, tenant, &policy.name, archive.as_mut(), &bar, &mut done).await?;
        }
        bar.finish_and_clear();
        done.file = archive.and_then(|archive| archive.file);
        done.tell(output);
        Ok(())
    }

    async fn apply(
        &self,
        client: &Client,
        tenant: &str,
        policy: &str,
        mut archive: Option<&mut Archive>,
        bar: &ProgressBar,
        done: &mut Done,
    ) -> Result<(), Failure> {
        let mut page = RetentionPage::default();
        loop {
            let calls = client.database().calls().await?;
            page = calls.retention_page(tenant, policy, &page, archive.is_some(), self.batch).await?;
            let gone = match &mut archive {
                None if page.runs.is_empty() => 0,
                None => calls.delete_runs(&page.runs).await?,
                Some(archive) => {
                    let mut written = Vec::new();
                    for part in page.runs.chunks(ARCHIVED_AT_ONCE) {
                        let runs = calls.runs_to_archive(part).await?;
                        archive.write(&runs)?;
                        written.extend(runs);
                    }
                    // On disk before it is gone from the database; and what has changed since it was written stays.
                    archive.sync()?;
                    calls.delete_archived_runs(&written).await?
                }
            };
            done.deleted += gone;
            bar.inc(gone.unsigned_abs());
            if page.next.is_none() {
                return Ok(());
            }
            drop(calls);
            tokio::time::sleep(self.pause.as_duration().max(Duration::from_millis(1))).await;
        }
    }
}

impl Done {
    fn tell(&self, output: Output) {
        if output.json {
            output.json(&json!({ "deleted": self.deleted, "archive": self.file, "waiting": self.waiting }));
            return;
        }
        output.line(&match &self.file {
            Some(file) => format!("{} runs deleted; they stand in {}.", self.deleted, file.display()),
            None => format!("{} runs deleted.", self.deleted),
        });
        if !self.waiting.is_empty() {
            output.line(&format!(
                "left for an archive, by longhaul retention run --archive FOLDER: {}.",
                self.waiting.join(", ")
            ));
        }
    }
}

/// A file of compressed JSON Lines: a gzip member for each batch, so that it is whole at any time. It is made with the first run.
struct Archive {
    folder: PathBuf,
    file: Option<PathBuf>,
    writer: Option<GzEncoder<std::fs::File>>,
}

impl Archive {
    fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), file: None, writer: None }
    }

    fn write(&mut self, runs: &[ArchivedRun]) -> Result<(), Failure> {
        if runs.is_empty() {
            return Ok(());
        }
        self.open()
            .and_then(|writer| runs.iter().try_for_each(|run| writeln!(writer, "{}", run.run.as_str())))
            .map_err(|e| self.failed(&e))
    }

    fn open(&mut self) -> std::io::Result<&mut GzEncoder<std::fs::File>> {
        if self.writer.is_none() {
            let handle = match &self.file {
                Some(file) => std::fs::File::options().append(true).open(file)?,
                None => self.create()?,
            };
            self.writer = Some(GzEncoder::new(handle, Compression::default()));
        }
        self.writer.as_mut().ok_or_else(|| std::io::Error::other("no archive is open"))
    }

    fn create(&mut self) -> std::io::Result<std::fs::File> {
        std::fs::create_dir_all(&self.folder)?;
        let name = format!("runs-{}.jsonl.gz", chrono::Utc::now().format("%Y%m%dT%H%M%S%3fZ"));
        let file = self.folder.join(name);
        let handle = std::fs::File::create_new(&file)?;
        // Its name is on disk, too.
        std::fs::File::open(&self.folder)?.sync_all()?;
        self.file = Some(file);
        Ok(handle)
    }

    /// Ends the batch: what was written is on disk after that.
    fn sync(&mut self) -> Result<(), Failure> {
        match self.writer.take() {
            None => Ok(()),
            Some(writer) => writer.finish().and_then(|handle| handle.sync_all()).map_err(|e| self.failed(&e)),
        }
    }

    fn failed(&self, error: &std::io::Error) -> Failure {
        Failure::new(1, format!("{}: {error}", self.file.as_ref().unwrap_or(&self.folder).display()))
    }
}
