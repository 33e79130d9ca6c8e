//! Puts every Rust block of the documents into a module of its own, so that the compiler reads it.
//!
//! A block of items stands in its module as it is. A block of statements becomes the body of an async function, which has at
//! hand what an example speaks of: a client, a run, a context.

#[path = "src/page.rs"]
#[allow(dead_code)]
mod page;

use std::{env, fmt::Write as _, fs, path::Path};

fn main() {
    let root = page::root();
    for watched in ["docs", "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "tests/docs/src/page.rs"] {
        println!("cargo::rerun-if-changed={}", root.join(watched).display());
    }
    let mut code = String::new();
    for page in page::pages() {
        for block in page.blocks.iter().filter(|block| block.language == "rust" && block.not_run.is_none()) {
            let place = format!("{}, line {}", page.file.display(), block.line);
            let name: String = page
                .file
                .display()
                .to_string()
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
                .collect();
            let items = syn::parse_file(&block.code).is_ok();
            let body = if items { block.code.clone() } else { in_function(&block.code) };
            writeln!(
                code,
                "/// {place}\n#[allow(unused, missing_docs, dead_code, unreachable_code, clippy::all, clippy::todo)]\n\
                 mod {}_{} {{\n// {place}\nuse super::around::*;\n{}\n{body}\n}}\n",
                name.to_lowercase(),
                block.line,
                block.with
            )
            .expect("a text grows");
        }
    }
    let folder = env::var("OUT_DIR").expect("OUT_DIR");
    fs::write(Path::new(&folder).join("blocks.rs"), code).expect("the blocks are written");
}

fn in_function(code: &str) -> String {
    format!(
        "async fn example(client: Client, run: RunHandle, ctx: StepContext, config: Config, database: Database) \
         -> Result<(), StepError> {{\n{code}\nOk(())\n}}"
    )
}
