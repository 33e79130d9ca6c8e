//! The address at which a worker or a scheduler tells its metrics.

use std::{future::Future, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures::future::BoxFuture;
use longhaul_schema::Error;
use tokio::{net::TcpListener, task::JoinHandle};

use super::{MEDIA_TYPE, Metrics};

/// Answers at `/metrics` until it is dropped.
pub(crate) struct Exporter {
    task: JoinHandle<()>,
}

type Gather = Arc<dyn Fn() -> BoxFuture<'static, Result<Metrics, Error>> + Send + Sync>;

impl Exporter {
    /// Listens, and answers with what is gathered then. What is told is no secret, but nobody's business either: the address is best one
    /// that only the scraper reaches.
    pub(crate) async fn start<F>(
        listen: SocketAddr,
        gather: impl Fn() -> F + Send + Sync + 'static,
    ) -> Result<Self, std::io::Error>
    where
        F: Future<Output = Result<Metrics, Error>> + Send + 'static,
    {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let gather: Gather = Arc::new(move || Box::pin(gather()));
        let router = Router::new()
            .route("/metrics", get(move || answer(gather.clone())))
            .route("/healthz", get(async || "ok\n"));
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "metrics are told no more");
            }
        });
        tracing::info!(%address, "metrics are told at /metrics");
        Ok(Self { task })
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(gather: Gather) -> Response {
    match gather().await {
        Ok(metrics) => ([(header::CONTENT_TYPE, MEDIA_TYPE)], metrics.text()).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}
