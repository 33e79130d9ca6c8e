//! The smallest whole program: a private server, a flow of two steps, a worker, a run.
//!
//! ```text
//! cargo run --example hello
//! ```

use longhaul::{Client, Database, Flow, Step, StepContext, StepError, Worker, migrate};
use longhaul_embedded::{ClusterOptions, temporary_folder};

async fn greet(_: StepContext, name: String) -> Result<String, StepError> {
    Ok(format!("Hello, {name}!"))
}

async fn shout(ctx: StepContext, _: String) -> Result<String, StepError> {
    let greeting: String = ctx.output("greet").await?;
    Ok(greeting.to_uppercase())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // In production: Config::from_env(), and `longhaul migrate` before the workers.
    let folder = temporary_folder()?;
    let mut server = ClusterOptions::new(folder.path()).start().await?;
    let config = server.config()?;
    migrate::migrate(&Database::new(&config)?).await?;

    let client = Client::connect(&config).await?;
    let flow = Flow::new("hello", 1).step(Step::new("greet", "greet")).step(Step::new("shout", "shout").after("greet"));
    client.deploy(&flow).await?;

    let worker = Worker::builder(&config).handler("greet", greet).handler("shout", shout).build()?;
    tokio::spawn(worker.run_until(std::future::pending()));

    let run = client.start("hello", &"world").await?;
    let output: String = run.output().await?;
    println!("{output}");
    assert_eq!(output, "HELLO, WORLD!");
    server.stop().await;
    Ok(())
}
