//! Errors as `application/problem+json` (RFC 9457). The types are stable: programs go by them, people read the detail.

use axum::{
    extract::rejection::{PathRejection, QueryRejection},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use longhaul_schema::Error;
use serde::Serialize;
use utoipa::ToSchema;

/// What went wrong.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Problem {
    /// What kind of problem it is, as in `urn:longhaul:problem:not-found`.
    #[serde(rename = "type")]
    kind: String,
    /// The kind in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// A sentence for the person who must act.
    detail: String,
}

/// Kinds of problems: the last part of the type, the status, and the title.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident: $kind:literal, $status:ident, $title:literal;)*) => {
        impl Problem {
            $(
                $(#[$doc])*
                pub(super) fn $name(detail: impl Into<String>) -> Self {
                    Self {
                        kind: concat!("urn:longhaul:problem:", $kind).into(),
                        title: $title,
                        status: StatusCode::$status.as_u16(),
                        detail: detail.into(),
                    }
                }
            )*
        }
    };
}

kinds! {
    /// The request cannot be read.
    malformed: "malformed", BAD_REQUEST, "The request cannot be read";
    /// Nobody knows who asks.
    unauthorized: "unauthorized", UNAUTHORIZED, "Who are you?";
    /// He may not do that.
    forbidden: "forbidden", FORBIDDEN, "Not allowed";
    /// It came from another site's page, or may have.
    foreign: "foreign", FORBIDDEN, "The request may come from another site";
    /// There is nothing of the kind.
    not_found: "not-found", NOT_FOUND, "Not found";
    /// The path does not know the method.
    method: "method", METHOD_NOT_ALLOWED, "The path does not know this method";
    /// The present state does not allow it.
    refused: "refused", CONFLICT, "Refused in the present state";
    /// It contradicts what is stored.
    conflict: "conflict", CONFLICT, "Contradicts what is stored";
    /// The run is not as was expected.
    not_as_expected: "not-as-expected", PRECONDITION_FAILED, "Not as expected";
    /// The body is too large.
    too_large: "too-large", PAYLOAD_TOO_LARGE, "The body is too large";
    /// The body is not JSON.
    media: "media", UNSUPPORTED_MEDIA_TYPE, "The body must be JSON";
    /// The values are wrong.
    invalid: "invalid", UNPROCESSABLE_ENTITY, "Invalid";
    /// An idempotency key of another request.
    key_reused: "key-reused", UNPROCESSABLE_ENTITY, "The idempotency key was used before";
    /// Too many at once.
    too_many: "too-many", TOO_MANY_REQUESTS, "Too many requests";
    /// Nobody knows.
    internal: "internal", INTERNAL_SERVER_ERROR, "Something is wrong here";
    /// It passes, or somebody must see to the database.
    unavailable: "unavailable", SERVICE_UNAVAILABLE, "The database cannot do it now";
    /// It took too long.
    timeout: "timeout", GATEWAY_TIMEOUT, "It took too long";
}

impl Problem {
    pub(super) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    pub(super) fn detail(&self) -> &str {
        &self.detail
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let detail = error.to_string();
        match error {
            Error::Invalid(_) => Self::invalid(detail),
            Error::NotFound(_) => Self::not_found(detail),
            Error::Refused(_) | Error::WorkerLost(_) => Self::refused(detail),
            Error::Conflict(_) => Self::conflict(detail),
            Error::Denied(_) | Error::NotInstalled(_) | Error::TooNew { .. } | Error::Unavailable(_) => {
                Self::unavailable(detail)
            }
            _ => {
                tracing::error!(%error, "a request failed");
                Self::internal(detail)
            }
        }
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::malformed(rejection.body_text())
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::malformed(rejection.body_text())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
