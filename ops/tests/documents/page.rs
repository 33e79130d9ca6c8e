//! A page is followed from its first block to its last.

use std::path::Path;

use longhaul_docs::{
    page::{Block, Page, root},
    placeholder, shown,
};
use longhaul_embedded::{shared_for_tests, temporary_folder};
use longhaul_schema::{Config, Database, migrate};

use tokio::sync::OnceCell;

use crate::{
    shell::{Shell, flow_check},
    sql,
};

/// What a page runs on.
pub struct Place {
    shell: Shell,
    database: Database,
    name: String,
}

/// The languages that are run here. Rust is compiled in `tests/docs`; other languages are other projects' code.
const RUN: [&str; 5] = ["sh", "sql", "yaml", "json", "text"];

/// Runs the blocks of a page and notes what went wrong. Returns how many there were to run.
pub async fn follow(page: &Page, failures: &mut Vec<String>) -> usize {
    let blocks: Vec<&Block> = page.blocks.iter().filter(|block| block.not_run.is_none()).collect();
    let runs = |block: &&&Block| RUN.contains(&block.language.as_str()) && block.language != "text";
    let all = blocks.iter().filter(runs).count();
    if all == 0 && blocks.iter().all(|block| block.before.is_empty() && block.before_sql.is_empty()) {
        return 0;
    }
    let folder = temporary_folder().expect("a folder");
    let mut place = Place::new(folder.path()).await;
    let mut said: Option<String> = None;
    for block in blocks {
        match place.run(block, said.take()).await {
            Ok(output) => said = output,
            Err(reason) => {
                failures.push(format!("{}:{}: {reason}", page.file.display(), block.line));
                break; // what follows stands on this
            }
        }
    }
    place.leave().await;
    all
}

impl Place {
    async fn new(folder: &Path) -> Self {
        let template = TEMPLATE.get_or_init(|| async { installed().await }).await;
        let name = new_database(&format!("template {template}")).await;
        let config = config_for(&name);
        let database = Database::new(&config).expect("a pool");
        std::os::unix::fs::symlink(root().join("examples"), folder.join("examples")).expect("a link");
        Self { shell: Shell::new(folder, &config.connection.to_url()), database, name }
    }

    async fn leave(mut self) {
        self.shell.end().await;
        self.database.close();
        drop_database(&self.name).await;
    }

    /// Does what a block says; returns what it printed.
    async fn run(&mut self, block: &Block, said: Option<String>) -> Result<Option<String>, String> {
        if !block.before.trim().is_empty() {
            let before = self.with_run(&block.before).await;
            self.shell.run(&before, 0).await.map_err(|reason| format!("before it: {reason}"))?;
        }
        sql::run(&self.database, &block.before_sql).await.map_err(|reason| format!("before it: {reason}"))?;
        let code = match block.language.as_str() {
            "sh" => self.with_run(&block.code).await,
            _ => block.code.clone(),
        };
        if let Some(file) = &block.file {
            self.shell.write(file, &code);
        }
        match block.language.as_str() {
            "sh" => match &block.until {
                Some(text) => self.shell.start(&code, text).await.map(Some),
                None => self.shell.run(&code, block.exit).await.map(Some),
            },
            "sql" => sql::run(&self.database, &code).await.map(Some),
            "yaml" => flow_check(&self.shell, &block.with, &code).await.map(|()| None),
            "json" => serde_json::from_str::<serde_json::Value>(&code).map(|_| None).map_err(|e| e.to_string()),
            "text" => said.map_or(Ok(None), |said| shown::compare(&code, &said).map(|()| None)),
            _ => Ok(None),
        }
    }

    /// `RUN` is the newest run.
    async fn with_run(&self, code: &str) -> String {
        if !code.contains("RUN") {
            return code.to_owned();
        }
        let database = match self.shell.own_url() {
            Some(url) => Database::new(&Config::from_url(url).expect("a URL")).expect("a pool"),
            None => self.database.clone(),
        };
        match sql::newest_run(&database).await {
            Some(run) => placeholder::word(code, "RUN", &run),
            None => code.to_owned(),
        }
    }
}

static TEMPLATE: OnceCell<String> = OnceCell::const_new();

/// A database with Longhaul installed, from which those of the pages are copied.
async fn installed() -> String {
    let name = new_database("").await;
    let database = Database::new(&config_for(&name)).expect("a pool");
    migrate::migrate(&database).await.expect("an installation");
    database.close();
    // Nothing may be connected to a database that is copied. The server takes a moment to notice that nobody is.
    let gone = "select count(*) = 0 from pg_stat_activity where datname = $1";
    let admin = Database::new(&shared_for_tests()).expect("a pool");
    let connection = admin.connection().await.expect("the server");
    while !connection.query_one(gone, &[&name]).await.expect("activity").get::<_, bool>(0) {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    name
}

/// Drops the database from which those of the pages were copied.
pub async fn clean_up() {
    if let Some(template) = TEMPLATE.get() {
        drop_database(template).await;
    }
}

async fn new_database(options: &str) -> String {
    let name = format!("page_{}", uuid::Uuid::new_v4().simple());
    administer(&format!("create database {name} {options}")).await;
    name
}

async fn drop_database(name: &str) {
    administer(&format!("drop database {name} with (force)")).await;
}

async fn administer(statement: &str) {
    let admin = Database::new(&shared_for_tests()).expect("a pool");
    admin.connection().await.expect("the server").batch_execute(statement).await.expect(statement);
}

fn config_for(name: &str) -> Config {
    let mut config = shared_for_tests();
    config.connection.postgres.dbname(name);
    config
}
