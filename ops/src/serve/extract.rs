//! Bodies, queries and paths. What is wrong with them is a problem, and not a page of text.

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, Request},
    http::{Uri, header, request::Parts},
    response::{IntoResponse, Response},
};
use futures::StreamExt;
use longhaul_schema::Payload;
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use serde_json::{error::Category, value::RawValue};

use super::{problem::Problem, routes::MOST_BYTES};

/// JSON: a body, or an answer.
pub(super) struct Json<T>(pub(super) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let body = body(request).await?;
        read(&body).map(Self)
    }
}

/// A body that may be left out.
pub(super) struct Options<T>(pub(super) T);

impl<T: DeserializeOwned + Default, S: Sync> FromRequest<S> for Options<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let body = body(request).await?;
        if body.is_empty() { Ok(Self(T::default())) } else { read(&body).map(Self) }
    }
}

/// A whole body of a bounded size. One that is somewhat too large is read to its end all the same: a caller that still sends when the
/// connection is closed may not see the answer.
pub(super) async fn whole(body: Body) -> Result<Bytes, Problem> {
    let mut parts = body.into_data_stream();
    let (mut read, mut bytes) = (Vec::new(), 0);
    while let Some(part) = parts.next().await {
        let part = part.map_err(|error| Problem::malformed(format!("the body ends early: {error}")))?;
        bytes += part.len();
        if bytes <= MOST_BYTES {
            read.extend_from_slice(&part);
        } else if bytes > 4 * MOST_BYTES {
            break;
        }
    }
    if bytes > MOST_BYTES { Err(Problem::too_large("the body is too large")) } else { Ok(read.into()) }
}

async fn body(request: Request) -> Result<Bytes, Problem> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).map(str::to_owned);
    let body = whole(request.into_body()).await?;
    if !body.is_empty() && !kind.is_some_and(|kind| kind.trim_start().starts_with("application/json")) {
        return Err(Problem::media("a body needs the content type application/json"));
    }
    Ok(body)
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| match error.classify() {
        Category::Data => Problem::invalid(error.to_string()),
        _ => Problem::malformed(format!("the body is not JSON: {error}")),
    })
}

/// A JSON value in a body, or nothing where it was left out; `null` is a value.
#[derive(Clone, Debug, Default)]
pub(super) struct Given(pub(super) Option<Payload>);

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Payload::from_text(raw.get()).map(|payload| Self(Some(payload))).map_err(serde::de::Error::custom)
    }
}

/// Parts of the path.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Problem))]
pub(super) struct Path<T>(pub(super) T);

/// The query, but for the tenant, which is the caller's. Names that nobody knows are refused: a filter that is misspelt is no filter.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut kept = url::form_urlencoded::Serializer::new(String::from("/?"));
        for (name, value) in pairs(&parts.uri) {
            // An empty value is what a form sends for a field that nobody filled in.
            if name != TENANT && !value.is_empty() {
                kept.append_pair(&name, &value);
            }
        }
        let uri: Uri = kept.finish().parse().map_err(|_| Problem::malformed("the query cannot be read"))?;
        Ok(Self(axum::extract::Query::<T>::try_from_uri(&uri)?.0))
    }
}

/// Name of the parameter that says for which tenant a request is.
pub(super) const TENANT: &str = "tenant";

/// The names and values of a query.
pub(super) fn pairs(uri: &Uri) -> impl Iterator<Item = (String, String)> + '_ {
    let query = uri.query().unwrap_or_default();
    url::form_urlencoded::parse(query.as_bytes()).map(|(name, value)| (name.into_owned(), value.into_owned()))
}
