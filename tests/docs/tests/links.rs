//! Links lead somewhere, and the book has every page.

use std::{
    collections::{BTreeSet, HashMap},
    path::{Component, Path, PathBuf},
};

use longhaul_docs::page::{Page, pages, root};

/// The file that a link of a page means, from the root of the repository.
fn target(page: &Path, link: &str) -> PathBuf {
    let mut path = page.parent().expect("a page stands in a folder").to_owned();
    for part in Path::new(link).components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            part => path.push(part),
        }
    }
    path
}

fn broken(page: &Page, link: &str, anchors: &HashMap<PathBuf, &[String]>) -> Option<String> {
    // Chapters that are planned have no target.
    if link.is_empty() || link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
    let file = if file.is_empty() { page.file.clone() } else { target(&page.file, file) };
    if !root().join(&file).exists() {
        return Some(format!("{} does not exist", file.display()));
    }
    if page.file.starts_with("docs") && !file.starts_with("docs") {
        return Some(format!("{} is no part of the book: name it without a link", file.display()));
    }
    let anchor = anchor?;
    let there = anchors.get(&file).is_some_and(|anchors| anchors.iter().any(|a| a == anchor));
    (!there).then(|| format!("{} has no heading {anchor}", file.display()))
}

#[test]
fn every_link_of_the_documents_leads_somewhere() {
    let pages = pages();
    let anchors: HashMap<_, _> = pages.iter().map(|page| (page.file.clone(), &page.anchors[..])).collect();
    let mut wrong = Vec::new();
    for page in &pages {
        for (line, link) in &page.links {
            if let Some(reason) = broken(page, link, &anchors) {
                wrong.push(format!("{}:{line}: {reason}", page.file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "broken links:\n{}", wrong.join("\n"));
}

#[test]
fn the_table_of_contents_names_every_page_once() {
    let pages = pages();
    let summary = pages.iter().find(|page| page.file == Path::new("docs/SUMMARY.md")).expect("SUMMARY.md");
    let named: Vec<PathBuf> = {
        let links = summary.links.iter().filter(|(_, link)| !link.is_empty());
        links.map(|(_, link)| target(&summary.file, link)).collect()
    };
    let once: BTreeSet<&PathBuf> = named.iter().collect();
    assert_eq!(once.len(), named.len(), "a page is named twice in docs/SUMMARY.md");
    let missing: Vec<String> = pages
        .iter()
        .filter(|page| page.file.starts_with("docs") && page.file != summary.file && !once.contains(&page.file))
        .map(|page| page.file.display().to_string())
        .collect();
    assert!(missing.is_empty(), "docs/SUMMARY.md leaves out {}", missing.join(", "));
}

#[test]
fn a_block_that_is_not_checked_gives_a_reason() {
    for page in pages() {
        for block in &page.blocks {
            assert!(
                block.not_run.as_deref() != Some(""),
                "{}:{}: why is this block not run?",
                page.file.display(),
                block.line
            );
        }
    }
}
