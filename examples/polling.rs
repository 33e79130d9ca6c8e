//! A polling job: a video is handed to a slow service, and a durable function asks for it again and again, sleeping in between.
//! It holds no slot while it sleeps, and is restarted in the middle: what it has done it does not do again.
//!
//! ```text
//! cargo run --example polling
//! ```

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use longhaul::{Flow, Step, StepContext, StepError, branch};
use support::{Outcome, Server};

/// A service that takes its time.
#[derive(Clone, Default)]
struct Transcoder {
    submitted: Arc<AtomicU32>,
    asked: Arc<AtomicU32>,
}

impl Transcoder {
    fn submit(&self, video: &str) -> String {
        self.submitted.fetch_add(1, Ordering::SeqCst);
        format!("job of {video}")
    }

    /// The result, once it has been asked for often enough.
    fn result(&self, job: &str) -> Option<String> {
        (self.asked.fetch_add(1, Ordering::SeqCst) >= 6).then(|| format!("result of {job}"))
    }
}

async fn transcode(ctx: StepContext, video: String) -> Result<String, StepError> {
    let service = ctx.state::<Transcoder>()?;
    // Submitted once, whatever happens to this process.
    let job: String = ctx.checkpoint("submit", || async { Ok(service.submit(&video)) }).await?;
    let polling = branch({
        let service = service.clone();
        move |ctx| async move {
            for wait in (0..10).map(|n| Duration::from_millis(50 << n)) {
                let found: Option<String> = ctx.checkpoint("ask", || async { Ok(service.result(&job)) }).await?;
                if let Some(result) = found {
                    return Ok(result);
                }
                ctx.sleep("before asking again", wait).await?;
            }
            Err(StepError::fail("the service did not finish"))
        }
    });
    // Or somebody gives up on it.
    let cancelled = branch(|ctx: StepContext| async move {
        let by: String = ctx.signal("cancel").await?;
        Err(StepError::fail(format!("cancelled by {by}")))
    });
    ctx.race([polling, cancelled]).await
}

#[tokio::main]
async fn main() -> Outcome {
    let server = Server::start().await?;
    let client = &server.client;
    client.deploy(&Flow::new("transcode", 1).step(Step::new("transcode", "video.transcode"))).await?;
    let service = Transcoder::default();
    let worker = || server.worker().state(service.clone()).handler("video.transcode", transcode);

    let run = client.start("transcode", &"holiday.mov").await?;
    // The first worker is stopped while the function sleeps; another one goes on with it.
    worker().build()?.run_until(tokio::time::sleep(Duration::from_millis(400))).await?;
    println!(
        "asked {} times so far; {}",
        service.asked.load(Ordering::SeqCst),
        client.why(run.id(), "transcode").await?
    );
    Server::work(worker())?;
    let result: String = run.output().await?;
    println!("{result}, after asking {} times", service.asked.load(Ordering::SeqCst));
    assert_eq!(result, "result of job of holiday.mov");
    assert_eq!(service.submitted.load(Ordering::SeqCst), 1);
    for entry in run.timeline().await? {
        println!(
            "{} {:24} {}",
            entry.at.format("%H:%M:%S%.3f"),
            entry.kind,
            entry.detail.map(|d| d.as_str().to_owned()).unwrap_or_default()
        );
    }

    service.asked.store(0, Ordering::SeqCst);
    let run = client.start("transcode", &"endless.mov").await?;
    run.signal("cancel", &"Ms Miller").await?;
    while run.wait(Duration::from_secs(10)).await?.is_none() {}
    let error = run.get().await?.error.map(|e| e.as_str().to_owned()).unwrap_or_default();
    println!("{error}");
    assert!(error.contains("cancelled by Ms Miller"));
    server.stop().await;
    Ok(())
}
