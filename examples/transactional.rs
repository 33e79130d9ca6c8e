//! Starting a run in the same transaction as a change of one's own: both happen, or neither.
//!
//! ```text
//! cargo run --example transactional
//! ```

use longhaul::{Client, Database, Flow, Start, Step, migrate};
use longhaul_embedded::{ClusterOptions, temporary_folder};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = temporary_folder()?;
    let mut server = ClusterOptions::new(folder.path()).start().await?;
    let config = server.config()?;
    migrate::migrate(&Database::new(&config)?).await?;
    let client = Client::connect(&config).await?;
    client.deploy(&Flow::new("ship", 1).step(Step::new("pack", "warehouse.pack"))).await?;

    let mut connection = client.database().connection().await?;
    connection.batch_execute("create table orders (id int primary key)").await?;
    for (id, pays) in [(1, true), (2, false)] {
        let transaction = connection.transaction().await?;
        transaction.execute("insert into orders values ($1)", &[&id]).await?;
        client.start_in(&transaction, "ship", Start::new(&id)?.name(format!("order {id}"))).await?;
        // Whatever goes wrong before the commit takes order and run away together.
        if pays { transaction.commit().await? } else { transaction.rollback().await? }
    }

    let orders: i64 = connection.query_one("select count(*) from orders", &[]).await?.get(0);
    let runs = client.list(&Default::default()).await?;
    println!("{orders} order, {} run: {}", runs.len(), runs[0].name.as_deref().unwrap_or_default());
    assert_eq!((orders, runs.len()), (1, 1));
    server.stop().await;
    Ok(())
}
