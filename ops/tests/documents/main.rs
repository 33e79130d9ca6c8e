//! Does what the documents say: runs their shell and SQL blocks, checks their flow files, compares what they show.
//!
//! ```text
//! cargo test -p longhaul-ops --test documents                  # every page that builds no program
//! cargo test -p longhaul-ops --test documents -- docs/runs     # the pages whose names contain this
//! ops/tutorials                                                # README and tutorials, which build programs
//! ```
//!
//! Each page has a database and a folder of its own. Its blocks are run in order, as a reader would run them.

mod page;
mod shell;
mod sql;

use std::process::ExitCode;

use longhaul_docs::page::{Page, pages};

/// Pages that were not written for this test yet.
const NOT_YET: [&str; 2] = ["docs/api.md", "docs/runbooks.md"];

fn asked_for(page: &Page, filters: &[String]) -> bool {
    let file = page.file.to_string_lossy();
    if filters.is_empty() {
        let builds_programs = file.starts_with("docs/tutorials") || file == "README.md";
        return !builds_programs && !NOT_YET.contains(&&*file);
    }
    filters.iter().any(|filter| file.contains(filter.as_str()))
}

/// On a thread of its own: the server of the tests is stopped when the process ends, and needs the main one then.
fn main() -> ExitCode {
    std::thread::spawn(follow_all).join().unwrap_or(ExitCode::FAILURE)
}

fn follow_all() -> ExitCode {
    let filters: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let mut failures = Vec::new();
    let pages: Vec<Page> = pages().into_iter().filter(|page| asked_for(page, &filters)).collect();
    for page in &pages {
        let before = failures.len();
        let checked = runtime.block_on(page::follow(page, &mut failures));
        let word = if failures.len() == before { "ok" } else { "FAILED" };
        if checked > 0 {
            println!("{:40} {checked:3} blocks {word}", page.file.display());
        }
    }
    runtime.block_on(page::clean_up());
    for failure in &failures {
        eprintln!("\n{failure}");
    }
    if pages.is_empty() {
        eprintln!("no page is named like {filters:?}");
        return ExitCode::FAILURE;
    }
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
