//! Bodies, queries and paths. What is wrong with them is a problem, and not a page of text.

use axum::{
    extract::{FromRequest, FromRequestParts},
    http::{Uri, request::Parts},
    response::{IntoResponse, Response},
};
use serde::{Serialize, de::DeserializeOwned};

use super::problem::Problem;

/// A body of JSON; also an answer.
#[derive(FromRequest)]
#[from_request(via(axum::Json), rejection(Problem))]
pub(super) struct Json<T>(pub(super) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
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
