//! Requests with an `Idempotency-Key` are carried out once: whoever asks again is given the first answer, also while the first request is
//! still under way.

use std::time::{Duration, Instant};

use axum::{
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use longhaul_schema::{Error, calls::ClaimedRequest};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{caller::Caller, extract::whole, problem::Problem, routes::MOST_BYTES};

/// Longest key, in characters.
const LONGEST_KEY: usize = 200;

/// Answers of more bytes are not kept: who asks again is told what became of the request, and no more.
const MOST_KEPT: usize = 64 * 1024;

/// How long the second of two requests waits for the answer to the first.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) async fn keyed(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let key = parts.headers.get("idempotency-key").and_then(|key| key.to_str().ok()).map(str::to_owned);
    match key {
        Some(key) if parts.method != Method::GET => {
            carry_out(key, parts, body, next).await.unwrap_or_else(IntoResponse::into_response)
        }
        _ => next.run(Request::from_parts(parts, body)).await,
    }
}

async fn carry_out(key: String, mut parts: Parts, body: Body, next: Next) -> Result<Response, Problem> {
    if key.is_empty() || key.chars().count() > LONGEST_KEY {
        return Err(Problem::invalid(format!("an idempotency key has 1 to {LONGEST_KEY} characters")));
    }
    let caller = parts.extensions.get::<Caller>().cloned();
    let caller = caller.ok_or_else(|| Problem::internal("nobody was asked who he is"))?;
    let body = whole(body).await?;
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let digest = Sha256::new()
        .chain_update(parts.method.as_str())
        .chain_update([0])
        .chain_update(target)
        .chain_update([0])
        .chain_update(&body)
        .finalize();
    let claimed = claim(&caller, &key, &digest).await?;
    if let Some((status, answer)) = claimed.answer {
        return Ok(again(status, answer));
    }
    parts.extensions.insert(caller.asking_under(claimed.request));
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    keep(&caller, &key, claimed.request, response).await
}

/// Claims the request, or waits for the answer of whoever has.
async fn claim(caller: &Caller, key: &str, digest: &[u8]) -> Result<ClaimedRequest, Problem> {
    let database = caller.client.database();
    let (tenant, began, new) = (database.tenant(), Instant::now(), Uuid::now_v7());
    loop {
        let claimed =
            database.retrying(|calls| async move { calls.claim_request(tenant, key, digest, new).await }).await?;
        if !claimed.same {
            return Err(Problem::key_reused(format!("the idempotency key {key:?} was used for another request")));
        }
        if claimed.mine || claimed.answer.is_some() {
            return Ok(claimed);
        }
        if began.elapsed() > PATIENCE {
            return Err(Problem::conflict(format!("the request with the idempotency key {key:?} is still under way")));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Keeps an answer that stands; what may pass is tried again by whoever asks again.
async fn keep(caller: &Caller, key: &str, request: Uuid, response: Response) -> Result<Response, Problem> {
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, MOST_BYTES * 4).await.map_err(|_| Problem::internal("the answer is too large"))?;
    let database = caller.client.database();
    let passes = parts.status.is_server_error() || parts.status == StatusCode::TOO_MANY_REQUESTS;
    let kept = async {
        let calls = database.calls().await?;
        if passes {
            return calls.give_up_request(database.tenant(), key, request).await;
        }
        let answer = String::from_utf8_lossy(&body);
        let answer = if answer.len() > MOST_KEPT { "{}".into() } else { answer };
        calls.answer_request(database.tenant(), key, request, parts.status.as_u16().into(), &answer).await
    };
    if let Err(error) = kept.await as Result<(), Error> {
        tracing::warn!(%error, "the answer to a request could not be kept; asked again, it is carried out under the same id");
    }
    Ok(Response::from_parts(parts, Body::from(body)))
}

/// The answer that was given before.
fn again(status: i32, answer: String) -> Response {
    let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
    let status = status.unwrap_or(StatusCode::OK);
    let kind = if status.is_success() { "application/json" } else { "application/problem+json" };
    let mut response = (status, answer).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
    response
}
