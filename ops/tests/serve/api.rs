//! A server with an installation of its own, and calls to it.

use std::time::Duration;

use longhaul_ops::{
    handlers::Permissions,
    serve::{ServeOptions, Server},
};
use longhaul_scheduler::Client;
use longhaul_schema::{Flow, Step};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::server::{Installation, step};

pub struct Api {
    pub installation: Installation,
    pub base: String,
    http: reqwest::Client,
}

/// An answer: status, JSON (or null), and the content type.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
    pub kind: String,
    pub replayed: bool,
}

impl Answer {
    /// The body of an answer that is as it should be.
    #[track_caller]
    pub fn good(self) -> Value {
        assert!((200..300).contains(&self.status), "{self:?}");
        self.body
    }

    /// The last part of the type of a problem.
    #[track_caller]
    pub fn problem(&self, status: u16) -> &str {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.kind, "application/problem+json", "{self:?}");
        assert_eq!(self.body["status"], status);
        assert!(self.body["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{self:?}");
        self.body["type"].as_str().unwrap().strip_prefix("urn:longhaul:problem:").unwrap()
    }
}

impl Api {
    pub async fn new() -> Self {
        Self::on(Installation::new().await).await
    }

    pub async fn on(installation: Installation) -> Self {
        let options = ServeOptions::on("127.0.0.1:0".parse().unwrap());
        let server = Server::bind(&installation.config, options).await.unwrap();
        let base = format!("http://{}", server.address());
        tokio::spawn(server.run_until(std::future::pending()));
        Self { installation, base, http: http() }
    }

    pub async fn client(&self) -> Client {
        self.installation.client().await
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/api/v1/{path}") };
        self.http.request(method, format!("{}{path}", self.base))
    }

    pub async fn get(&self, path: &str) -> Answer {
        answer(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        answer(self.request(Method::POST, path).json(&body)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        answer(self.request(Method::PUT, path).json(&body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        answer(self.request(Method::DELETE, path).header("X-Requested-By", "test")).await
    }

    /// A flow of one step that nobody does.
    pub async fn deploy_idle(&self, flow: &str) {
        self.client().await.deploy(&Flow::new(flow, 1).step(Step::new("a", "nobody"))).await.unwrap();
    }

    pub async fn start_idle(&self, flow: &str) -> Uuid {
        self.client().await.start(flow, &json!({ "n": 1 })).await.unwrap().id()
    }

    /// A run whose only step has used up its attempts.
    pub async fn failed_run(&self) -> Uuid {
        self.installation.work(&Permissions { programs: vec!["false".into()], ..Permissions::default() });
        self.installation.run_step(step("command", 1, json!({ "program": "false" })), json!({})).await.id
    }
}

pub fn http() -> reqwest::Client {
    // Only one of the tests of this process sets it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().timeout(Duration::from_secs(60)).build().unwrap()
}

pub async fn answer(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (kind, replayed) = (header("content-type").unwrap_or_default(), header("idempotent-replayed").is_some());
    let body = response.bytes().await.unwrap();
    Answer { status, body: serde_json::from_slice(&body).unwrap_or_default(), kind, replayed }
}
