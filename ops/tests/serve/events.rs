//! Live changes.

use std::time::Duration;

use longhaul_schema::Database;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::api::Api;

struct Stream {
    response: Response,
    text: String,
}

impl Stream {
    async fn open(api: &Api, query: &str) -> Self {
        let response = api.request(Method::GET, &format!("events?{query}")).send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    /// The next event that fits.
    async fn until(&mut self, what: &str, fits: impl Fn(&str, &Value) -> bool) -> Value {
        let found = async {
            loop {
                while let Some((event, rest)) = self.text.split_once("\n\n") {
                    let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
                    let (name, data) = (field("event: ").to_owned(), serde_json::from_str(field("data: ")));
                    self.text = rest.to_owned();
                    if let Ok(data) = data
                        && fits(&name, &data)
                    {
                        return data;
                    }
                }
                let chunk = self.response.chunk().await.unwrap().expect("the stream goes on");
                self.text.push_str(std::str::from_utf8(&chunk).unwrap());
            }
        };
        tokio::time::timeout(Duration::from_secs(30), found).await.unwrap_or_else(|_| panic!("{what}"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_told_to_whoever_listens() {
    let api = Api::new().await;
    api.deploy_idle("order").await;
    let run = api.start_idle("order").await;
    let mut stream = Stream::open(&api, &format!("topics=newest,queues,questions&run={run}&runs={run}")).await;
    stream.until("the run", |name, data| name == "run" && data["run"]["state"] == "running").await;
    api.post(&format!("runs/{run}/pause"), json!({})).await.good();
    let told = stream.until("its pause", |name, data| name == "run" && data["run"]["state"] == "paused").await;
    assert_eq!(told["steps"][0]["state"], "paused");
    let later = api.start_idle("order").await;
    stream.until("a new run", |name, data| name == "newest" && data["id"] == json!(later)).await;
    api.post("queues/default/pause", json!({})).await.good();
    stream.until("a paused queue", |name, data| name == "queues" && data[0]["paused_at"].is_string()).await;
    api.post(&format!("runs/{run}/stop"), json!({})).await.good();
    stream.until("the state of a list", |name, data| name == "runs" && data[0]["state"] == "cancelled").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_listens_and_nothing_is_asked() {
    let api = Api::new().await;
    api.deploy_idle("order").await;
    let mut stream = Stream::open(&api, "topics=overview,queues,workers,schedules,locks,questions,dead-letters").await;
    stream.until("the overview", |name, _| name == "overview").await;
    drop(stream);
    // Its topics end within a second; then the connections of the server have nothing to do.
    let database = Database::new(&api.installation.config).unwrap();
    let connection = database.connection().await.unwrap();
    let application =
        "select coalesce(extract(epoch from clock_timestamp() - max(query_start)), 1000)::float8 from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid() and query like '%' || $1 || '.queue_lines%'";
    let schema = database.schema().as_str();
    let mut quiet = 0.0;
    for _ in 0..100 {
        quiet = connection.query_one(application, &[&schema]).await.unwrap().get::<_, f64>(0);
        if quiet > 4.0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(quiet > 4.0, "it was last asked {quiet} s ago");
}
