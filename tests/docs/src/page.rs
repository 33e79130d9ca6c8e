//! A page of Markdown: its code blocks with what the comments before them say, its links, its headings.
//!
//! | comment before a block | meaning |
//! | --- | --- |
//! | `<!-- not run: REASON -->` | the block is not checked |
//! | `<!-- with: CODE -->` | Rust or YAML that stands before the block when it is checked |
//! | `<!-- before: COMMANDS -->` | shell commands that are run first |
//! | `<!-- before sql: STATEMENTS -->` | SQL that is run first |
//! | `<!-- exit: CODE -->` | the exit code of the shell block, when it is not 0 |
//! | `<!-- file: PATH -->` | the block is written to this file of the page's folder |
//! | `<!-- until: TEXT -->` | the shell block does not end by itself: it runs until the page ends; the test goes on when it has said TEXT |

use std::path::{Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// One page.
#[derive(Debug)]
pub struct Page {
    /// Its file, from the root of the repository.
    pub file: PathBuf,
    /// Its code blocks, in order.
    pub blocks: Vec<Block>,
    /// Its links: line and target.
    pub links: Vec<(usize, String)>,
    /// The anchors of its headings.
    pub anchors: Vec<String>,
}

/// One code block.
#[derive(Debug, Default)]
pub struct Block {
    /// The line on which it begins.
    pub line: usize,
    /// The language that it names.
    pub language: String,
    /// What stands in it.
    pub code: String,
    /// Why it is not checked.
    pub not_run: Option<String>,
    /// Code that belongs before it.
    pub with: String,
    /// Shell commands that are run before it.
    pub before: String,
    /// SQL that is run before it.
    pub before_sql: String,
    /// The exit code that it must have.
    pub exit: i32,
    /// The file to which it is written.
    pub file: Option<String>,
    /// What it says once it is ready, when it does not end by itself.
    pub until: Option<String>,
}

/// The root of the repository.
pub fn root() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    folder.ancestors().find(|f| f.join("docs/SUMMARY.md").exists()).expect("the root of the repository").to_owned()
}

/// Every page: those at the root, and all below `docs/`.
pub fn pages() -> Vec<Page> {
    let root = root();
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&root).expect("the root").map(|entry| entry.expect("an entry").path()) {
        if entry.extension().is_some_and(|e| e == "md") {
            files.push(entry);
        }
    }
    let mut folders = vec![root.join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|e| e == "md") {
                files.push(entry);
            }
        }
    }
    files.sort();
    files.iter().map(|file| read(&root, file)).collect()
}

fn read(root: &Path, file: &Path) -> Page {
    let text = std::fs::read_to_string(file).expect("a page");
    let mut page = parse(&text);
    page.file = file.strip_prefix(root).expect("below the root").to_owned();
    page
}

/// Reads a page.
pub fn parse(text: &str) -> Page {
    let mut page = Page { file: PathBuf::new(), blocks: Vec::new(), links: Vec::new(), anchors: Vec::new() };
    let line_of = |offset: usize| text[..offset].matches('\n').count() + 1;
    let mut next = Block::default();
    let mut comment = String::new();
    let mut inside: Option<Block> = None;
    let mut heading: Option<String> = None;
    for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
        match event {
            Event::Html(html) | Event::InlineHtml(html) => {
                comment.push_str(&html);
                if comment.trim_end().ends_with("-->") || !comment.trim_start().starts_with("<!--") {
                    note(&mut next, &comment);
                    comment.clear();
                }
            }
            Event::Start(Tag::CodeBlock(kind)) => {
                let info = match &kind {
                    CodeBlockKind::Fenced(info) => info.to_string(),
                    CodeBlockKind::Indented => String::new(),
                };
                let language = info.split([',', ' ']).next().unwrap_or_default().to_owned();
                inside = Some(Block { line: line_of(range.start), language, ..std::mem::take(&mut next) });
            }
            Event::End(TagEnd::CodeBlock) => page.blocks.extend(inside.take()),
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                page.links.push((line_of(range.start), dest_url.to_string()));
            }
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::End(TagEnd::Heading(_)) => page.anchors.extend(heading.take().map(|text| anchor(&text))),
            Event::Text(words) => match (&mut inside, &mut heading) {
                (Some(block), _) => block.code.push_str(&words),
                (None, Some(heading)) => heading.push_str(&words),
                _ => {}
            },
            Event::Code(words) => heading.iter_mut().for_each(|heading| heading.push_str(&words)),
            _ => {}
        }
    }
    page
}

/// What a comment says about the next block.
fn note(next: &mut Block, comment: &str) {
    let text = comment.trim().trim_start_matches("<!--").trim_end_matches("-->");
    let Some((word, rest)) = text.trim_start().split_once(':') else { return };
    match word {
        "not run" => next.not_run = Some(rest.trim().to_owned()),
        "with" => next.with = rest.to_owned(),
        "before" => next.before = rest.to_owned(),
        "before sql" => next.before_sql = rest.to_owned(),
        "exit" => next.exit = rest.trim().parse().expect("an exit code"),
        "file" => next.file = Some(rest.trim().to_owned()),
        "until" => next.until = Some(rest.trim().to_owned()),
        _ => {}
    }
}

/// The anchor of a heading, as forges and the book make it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_with_what_its_comments_say() {
        let page = parse(
            "# One `two`, three\n\n<!-- not run: takes minutes -->\n```sh\nmake\n```\n\n<!-- with:\nstruct A;\n-->\n\
             <!-- exit: 4 -->\n```rust,no_run\nlet a = A;\n```\n\n[there](x.md#y) `[not](z.md)`\n\n```sql\nselect 1;\n```\n",
        );
        assert_eq!(page.anchors, ["one-two-three"]);
        assert_eq!(page.links, [(16, "x.md#y".to_owned())]);
        let [make, rust, sql] = &page.blocks[..] else { panic!("three blocks: {:?}", page.blocks) };
        assert_eq!((make.line, make.language.as_str(), make.code.as_str()), (4, "sh", "make\n"));
        assert_eq!(make.not_run.as_deref(), Some("takes minutes"));
        assert_eq!((rust.language.as_str(), rust.with.trim(), rust.exit), ("rust", "struct A;", 4));
        assert!(rust.not_run.is_none() && sql.with.is_empty() && sql.exit == 0, "a comment is for one block");
    }
}
