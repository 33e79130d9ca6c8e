//! How far a long run has come.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use longhaul::Client;

const STEPS: &str = "select count(*) from longhaul.step";

/// Shows a bar on a terminal, and a line each minute elsewhere, until it is aborted.
pub async fn show(client: Client, seconds: u64) {
    let style = ProgressStyle::with_template("{elapsed_precise} {bar:40} {msg}").expect("a template");
    let bar = ProgressBar::new(seconds).with_style(style);
    let (begun, mut told) = (Instant::now(), 0);
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        bar.set_position(begun.elapsed().as_secs());
        let minutes = begun.elapsed().as_secs() / 60;
        if minutes == told {
            continue;
        }
        told = minutes;
        // The server is down at times.
        let Ok(connection) = client.database().connection().await else { continue };
        let Ok(row) = connection.query_one(STEPS, &[]).await else { continue };
        let steps = format!("{} steps have ended", row.get::<_, i64>(0));
        if bar.is_hidden() {
            println!("{minutes} of {} min: {steps}", seconds.div_ceil(60));
        }
        bar.set_message(steps);
    }
}
