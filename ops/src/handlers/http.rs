//! The handler `http`: makes an HTTP call.
//!
//! ```yaml
//! - name: notify
//!   handler: http
//!   timeout: 30s
//!   with:
//!     method: POST
//!     url: "https://example.com/orders/{{ input.id | urlencode }}"
//!     headers: { idempotency-key: "{{ run.key }}" }
//!     body: { total: "{{ input.total }}" }   # the value itself: a number stays one
//! ```
//!
//! The body is JSON; without `body`, methods that have one send the step's input. An answer of class 2xx completes the step;
//! its output is `{"status": 200, "body": …}`. 408, 425, 429 and 5xx fail the attempt, which is retried (after the time that
//! `Retry-After` gives); other classes fail the step. Private, loopback and link-local addresses are refused unless the worker
//! allows them, after resolving names and after redirects too. No proxy is used, whatever the environment says: it would
//! resolve the names itself. Without a `timeout` of the step, an attempt may take [`LIMIT`].

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::StreamExt;
use longhaul_schema::{Error, Payload};
use longhaul_worker::{Registry, StepContext, StepError};
use reqwest::{
    Client, Method, Response, StatusCode, Url,
    header::{LOCATION, RETRY_AFTER},
    redirect,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    addresses::{self, PublicResolver},
    limited,
    template::{Templates, texts_of},
};

/// Most bytes of an answer's body; the step's output must fit into the database's limit anyway.
const MAX_BODY: usize = 16 * 1024 * 1024;

/// Longest wait that `Retry-After` can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);

const MAX_REDIRECTS: usize = 5;

/// How long an attempt may take when its step has no `timeout`: a server that answers one byte a minute must not keep a slot.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A step's settings.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    #[serde(default = "get")]
    pub(super) method: String,
    pub(super) url: String,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Option<Value>,
}

impl Settings {
    /// All texts that may be templates.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        let body = self.body.as_ref().map(texts_of).unwrap_or_default();
        self.headers.values().map(String::as_str).chain([self.url.as_str()]).chain(body)
    }
}

fn get() -> String {
    "GET".into()
}

/// A step's output.
#[derive(Debug, Serialize)]
struct Output {
    status: u16,
    body: Value,
}

/// What one call sends.
struct Call {
    method: Method,
    url: Url,
    headers: Vec<(String, String)>,
    body: Option<Value>,
}

/// Registers `http`.
pub(super) fn register(registry: &mut Registry, private_addresses: bool) -> Result<(), Error> {
    // The process has one default; a second installation only says that it is there.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder()
        .user_agent(concat!("longhaul/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(10))
        .dns_resolver(Arc::new(PublicResolver { private_addresses }))
        // A proxy would resolve the names, and no address would be checked.
        .no_proxy()
        // Followed by `send`, which knows what may go to another host.
        .redirect(redirect::Policy::none())
        .build()
        .map_err(|e| Error::Invalid(format!("no HTTP client can be made: {e}")))?;
    registry.add("http", move |context: StepContext, input: Value| {
        let client = client.clone();
        async move {
            let work = async {
                let call = prepare(&context, &input).await?;
                judge(send(&client, call, private_addresses).await?).await
            };
            limited(context.timeout(), LIMIT, work).await
        }
    })
}

async fn prepare(context: &StepContext, input: &Value) -> Result<Call, StepError> {
    let settings: Settings = context.parameters()?;
    let templates = Templates::new(context, input, settings.texts()).await?;
    let url = templates.fill(&settings.url)?;
    let url = Url::parse(&url).map_err(|e| StepError::fail(format!("{url:?} is not a URL: {e}")))?;
    let method = Method::from_bytes(settings.method.to_ascii_uppercase().as_bytes())
        .map_err(|_| StepError::fail(format!("{:?} is not an HTTP method", settings.method)))?;
    let headers = settings.headers.iter().map(|(name, value)| Ok((name.clone(), templates.fill(value)?)));
    let has_body = !matches!(method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE);
    let body = match &settings.body {
        Some(body) => Some(templates.fill_value(body)?),
        None => has_body.then(|| input.clone()),
    };
    Ok(Call { headers: headers.collect::<Result<_, StepError>>()?, method, url, body })
}

/// Makes the call, and those that redirects ask for. The headers of the step stay with the place that it names: any of them
/// may be a secret.
async fn send(client: &Client, mut call: Call, private_addresses: bool) -> Result<Response, StepError> {
    for _ in 0..=MAX_REDIRECTS {
        if !matches!(call.url.scheme(), "http" | "https") {
            return Err(StepError::fail(format!("{}: only http and https are supported", call.url)));
        }
        addresses::check(&call.url, private_addresses).map_err(StepError::fail)?;
        let mut request = client.request(call.method.clone(), call.url.clone());
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|e| {
            let error = StepError::from(e);
            // What the request itself says wrongly will not change.
            if error.to_string().contains("builder error") { error.no_retry() } else { error }
        })?;
        let Some(next) = redirected(&call, &response)? else { return Ok(response) };
        if next.origin() != call.url.origin() {
            call.headers.clear();
        }
        if response.status() == StatusCode::SEE_OTHER && call.method != Method::HEAD {
            (call.method, call.body) = (Method::GET, None);
        }
        call.url = next;
    }
    Err(StepError::fail(format!("more than {MAX_REDIRECTS} redirects")))
}

/// Where an answer sends the call to. 301 and 302 would make another method a GET without a body, whose success would say
/// nothing of the call that was asked for.
fn redirected(call: &Call, response: &Response) -> Result<Option<Url>, StepError> {
    let status = response.status();
    let Some(place) = response.headers().get(LOCATION).filter(|_| status.is_redirection()) else { return Ok(None) };
    let follows = match status {
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => matches!(call.method, Method::GET | Method::HEAD),
        StatusCode::SEE_OTHER | StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => true,
        _ => return Ok(None),
    };
    let place = place.to_str().map_err(|_| StepError::fail(format!("the server answered {status} without a place")))?;
    if !follows {
        return Err(StepError::fail(format!(
            "the server answered {status} and names {place}; a {} is not sent on there, so name the right place",
            call.method
        )));
    }
    let next = call.url.join(place).map_err(|e| StepError::fail(format!("{place:?} is not a URL: {e}")))?;
    Ok(Some(next))
}

async fn judge(response: Response) -> Result<Output, StepError> {
    let status = response.status();
    let wait = response.headers().get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?));
    let body = read_body(response).await?;
    if status.is_success() {
        return Ok(Output { status: status.as_u16(), body });
    }
    let text = match &body {
        Value::String(text) => text.chars().take(1000).collect(),
        other => other.to_string().chars().take(1000).collect::<String>(),
    };
    let message = format!("the server answered {status}: {text}");
    let passes = status.is_server_error()
        || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS);
    Err(match (passes, wait) {
        (true, Some(wait)) => StepError::retry_after(wait, message),
        (true, None) => StepError::retry(message),
        (false, _) => StepError::fail(message),
    })
}

/// Seconds, or a date (RFC 9110, section 10.2.3).
fn retry_after(value: &str) -> Option<Duration> {
    let wait = match value.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = chrono::DateTime::parse_from_rfc2822(value.trim()).ok()?;
            (date.to_utc() - chrono::Utc::now()).to_std().unwrap_or_default()
        }
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

async fn read_body(response: Response) -> Result<Value, StepError> {
    let mut bytes = Vec::new();
    let mut parts = response.bytes_stream();
    while let Some(part) = parts.next().await {
        bytes.extend_from_slice(&part?);
        if bytes.len() > MAX_BODY {
            return Err(StepError::fail(format!("the answer has more than {MAX_BODY} bytes")));
        }
    }
    // JSON when it is JSON, whatever the content type says; text otherwise. The call was made, so what the database cannot
    // store must not fail the step now.
    let text = || Value::String(String::from_utf8_lossy(&bytes).replace('\0', "\u{fffd}"));
    Ok(match serde_json::from_slice(&bytes).map(storable) {
        Ok(value) if Payload::new(&value).is_ok() => value,
        _ => text(),
    })
}

/// Without the one character that PostgreSQL has not.
fn storable(value: Value) -> Value {
    let text = |text: String| if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text };
    match value {
        Value::String(value) => Value::String(text(value)),
        Value::Array(items) => items.into_iter().map(storable).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (text(name), storable(value))).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_and_bounded() {
        assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("99999999"), Some(MAX_RETRY_AFTER));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(retry_after("soon"), None);
    }
}
