//! A document pipeline: thousands of files are read in parallel, their words are counted, the results are put together, a
//! person approves, and the report is published. An unreadable file leaves a gap and fails nobody else.
//!
//! ```text
//! cargo run --example documents                 # over 2,000 files that it makes
//! cargo run --example documents -- /usr/share/doc
//! ```

mod support;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use longhaul::{Approval, Flow, Retry, Step, StepContext, StepError};
use serde::{Deserialize, Serialize};
use support::{Outcome, Server};

#[derive(Serialize, Deserialize)]
struct Folder {
    path: PathBuf,
    report: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Counted {
    words: usize,
    longest: String,
}

/// All files of a folder, by their paths.
async fn list(_: StepContext, folder: Folder) -> Result<Vec<PathBuf>, StepError> {
    let mut files = Vec::new();
    let mut folders = vec![folder.path];
    while let Some(folder) = folders.pop() {
        let mut entries = tokio::fs::read_dir(&folder).await?;
        while let Some(entry) = entries.next_entry().await? {
            let kind = entry.file_type().await?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() && entry.path().to_str().is_some() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Done for each file, in any worker.
async fn count(_: StepContext, file: PathBuf) -> Result<Counted, StepError> {
    let bytes = tokio::fs::read(&file).await.map_err(|e| StepError::fail(format!("{}: {e}", file.display())))?;
    let text = String::from_utf8_lossy(&bytes);
    let longest = text
        .split_whitespace()
        .map(|word| word.trim_matches(|c: char| !c.is_alphabetic()))
        .max_by_key(|word| word.len());
    Ok(Counted {
        words: text.split_whitespace().count(),
        longest: longest.unwrap_or_default().chars().take(40).collect(),
    })
}

/// Puts the results together, page by page: they need not fit into memory all at once.
async fn summary(ctx: StepContext, _: Folder) -> Result<BTreeMap<String, usize>, StepError> {
    let (mut files, mut words, mut failed) = (0, 0, 0);
    loop {
        let page: Vec<Option<Counted>> = ctx.item_outputs("count", files, 500).await?;
        if page.is_empty() {
            break;
        }
        files += page.len() as u32;
        failed += page.iter().filter(|item| item.is_none()).count();
        words += page.iter().flatten().map(|item| item.words).sum::<usize>();
    }
    Ok(BTreeMap::from([("files".into(), files as usize), ("words".into(), words), ("unreadable".into(), failed)]))
}

async fn publish(ctx: StepContext, folder: Folder) -> Result<String, StepError> {
    let summary: BTreeMap<String, usize> = ctx.output("summary").await?;
    let approved = ctx.decision().await?.map(|d| d.by).unwrap_or_default();
    let text = format!(
        "{} words in {} files, {} unreadable; approved by {approved}\n",
        summary["words"], summary["files"], summary["unreadable"]
    );
    // Written beside and renamed: also after a crash there is the whole report or none.
    let beside = folder.report.with_extension("part");
    tokio::fs::write(&beside, &text).await?;
    tokio::fs::rename(&beside, &folder.report).await?;
    Ok(text)
}

fn make_files(folder: &Path) -> std::io::Result<()> {
    for number in 0..2000 {
        let file = folder.join(format!("{}", number % 40));
        std::fs::create_dir_all(&file)?;
        std::fs::write(file.join(format!("{number}.txt")), "once upon a time ".repeat(number % 50 + 1))?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome {
    let server = Server::start().await?;
    let client = &server.client;
    let work = tempfile::tempdir()?;
    let path = match std::env::args_os().nth(1) {
        Some(folder) => PathBuf::from(folder),
        None => {
            let folder = work.path().join("files");
            std::fs::create_dir(&folder)?;
            make_files(&folder)?;
            folder
        }
    };
    let own = std::env::args_os().nth(1).is_none();

    let flow = Flow::new("documents", 1)
        .phase(
            "read",
            [
                Step::new("list", "documents.list"),
                Step::new("count", "documents.count")
                    .after("list")
                    .for_each("$.steps.list")
                    .window(200)
                    .retry(Retry::exponential(3))
                    .or_continue(),
            ],
        )
        .phase(
            "publish",
            [
                Step::new("summary", "documents.summary"),
                Step::new("publish", "documents.publish").after("summary").approval(
                    Approval::ask("Publish the report?")
                        .by(["editor"])
                        .expires(Duration::from_secs(3 * 86_400), "reject"),
                ),
            ],
        );
    client.deploy(&flow).await?;
    let worker = server
        .worker()
        .handler("documents.list", list)
        .handler("documents.count", count)
        .handler("documents.summary", summary)
        .handler("documents.publish", publish);
    Server::work(worker)?;

    let report = work.path().join("report.txt");
    let run = client.start("documents", &Folder { path, report: report.clone() }).await?;
    let question = loop {
        if let Some(question) = client.questions(Some(run.id())).await?.pop() {
            break question;
        }
        let info = run.get().await?;
        if info.state.is_final() {
            return Err(format!("the run is {}: {:?}", info.state, info.error).into());
        }
        println!("{} steps open", info.open_steps);
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    println!("{} (may answer: {:?})", question.question.unwrap_or_default(), question.may_answer.unwrap_or_default());
    assert!(!report.exists(), "nothing is published before somebody approves");
    run.approve("publish", "editor").await?;
    let text: String = run.output().await?;
    print!("{text}");
    assert_eq!(std::fs::read_to_string(&report)?, text);
    if own {
        assert!(text.starts_with("204000 words in 2000 files, 0 unreadable; approved by editor"), "{text}");
    }
    server.stop().await;
    Ok(())
}
