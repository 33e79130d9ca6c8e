//! What came of it: a table, and a manifest.

use std::{
    error::Error,
    io::{BufWriter, Write},
    path::Path,
};

use comfy_table::{CellAlignment, Table, presets};
use longhaul::{BulkStarted, Client};
use serde_json::Value;

use crate::files::FileInput;

/// One file.
struct Entry {
    path: String,
    state: String,
    bytes: i64,
    compressed: i64,
    sha256: String,
    error: String,
}

/// All files, and what the database says about the way.
pub struct Report {
    entries: Vec<Entry>,
    steps: i64,
    expired: i64,
    retried: i64,
    seconds: f64,
    killed: bool,
}

impl Report {
    pub async fn read(
        client: &Client,
        begun: &BulkStarted,
        listing: &[FileInput],
        seconds: f64,
        killed: bool,
    ) -> Result<Self, Box<dyn Error>> {
        let ids = begun.ids();
        let connection = client.database().connection().await?;
        let rows = connection
            .query(
                "select r.id, r.state::text, d.output, c.output, r.error ->> 'message'
                 from longhaul.runs r
                 left join longhaul.step d on d.run_id = r.id and d.seq = 0
                 left join longhaul.step c on c.run_id = r.id and c.seq = 1
                 where r.id = any ($1)",
                &[&ids],
            )
            .await?;
        let places: std::collections::HashMap<_, _> = begun.started.iter().map(|(place, id)| (*id, *place)).collect();
        let mut entries: Vec<Entry> = rows
            .iter()
            .map(|row| {
                let (digest, compressed): (Option<Value>, Option<Value>) = (row.get(2), row.get(3));
                let number = |value: &Option<Value>| value.as_ref().and_then(|v| v["bytes"].as_i64()).unwrap_or(0);
                Entry {
                    path: listing[places[&row.get(0)]].display(),
                    state: row.get(1),
                    bytes: number(&digest),
                    compressed: number(&compressed),
                    sha256: digest.and_then(|v| Some(v["sha256"].as_str()?.to_owned())).unwrap_or_default(),
                    error: row.get::<_, Option<String>>(4).unwrap_or_default(),
                }
            })
            .collect();
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        let row = connection
            .query_one(
                "select (select count(*) from longhaul.step where run_id = any ($1) and outcome = 'completed'),
                        count(*) filter (where outcome = 'expired'), count(*) filter (where outcome = 'failed')
                 from longhaul.attempt where run_id = any ($1)",
                &[&ids],
            )
            .await?;
        Ok(Self { entries, steps: row.get(0), expired: row.get(1), retried: row.get(2), seconds, killed })
    }

    fn verified(&self) -> usize {
        self.entries.iter().filter(|entry| entry.state == "completed").count()
    }

    pub fn all_verified(&self) -> bool {
        self.verified() == self.entries.len()
    }

    /// Prints the table and writes the manifest.
    pub fn print(&self, data: &Path) -> Result<(), Box<dyn Error>> {
        let manifest = data.join("manifest.tsv");
        self.write_manifest(&manifest)?;
        let sum = |value: fn(&Entry) -> i64| self.entries.iter().map(value).sum::<i64>();
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        for (what, figure) in [
            ("files verified", format!("{} of {}", self.verified(), self.entries.len())),
            ("bytes", sum(|e| e.bytes).to_string()),
            ("compressed bytes", sum(|e| e.compressed).to_string()),
            ("steps done", self.steps.to_string()),
            ("steps done again after the kill", self.expired.to_string()),
            ("attempts that failed", self.retried.to_string()),
            ("seconds", format!("{:.1}", self.seconds)),
            ("steps/s", format!("{:.0}", self.steps as f64 / self.seconds)),
        ] {
            table.add_row([what.to_owned(), figure]);
        }
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        println!("\n{table}");
        if !self.killed {
            println!("(all runs had ended before a worker could be killed; try a larger folder)");
        }
        let failed: Vec<&Entry> = self.entries.iter().filter(|entry| entry.state != "completed").collect();
        for entry in failed.iter().take(10) {
            println!("NOT VERIFIED: {}", entry.error);
        }
        if failed.len() > 10 {
            println!("… and {} more; see the manifest", failed.len() - 10);
        }
        println!("\nmanifest: {}", manifest.display());
        Ok(())
    }

    fn write_manifest(&self, file: &Path) -> std::io::Result<()> {
        let mut out = BufWriter::new(std::fs::File::create(file)?);
        writeln!(out, "state\tbytes\tcompressed\tsha256\tpath\terror")?;
        for e in &self.entries {
            writeln!(out, "{}\t{}\t{}\t{}\t{}\t{}", e.state, e.bytes, e.compressed, e.sha256, e.path, e.error)?;
        }
        out.flush()
    }
}
