//! The handler `http`: makes an HTTP call.
//!
//! ```yaml
//! - name: notify
//!   handler: http
//!   timeout: 30s
//!   with:
//!     method: POST
//!     url: "https://example.com/orders/{{ input.id }}"
//!     headers: { idempotency-key: "{{ run.key }}" }
//!     body: { total: "{{ input.total }}" }
//! ```
//!
//! The body is JSON; without `body`, methods that have one send the run's input. An answer of class 2xx completes the step;
//! its output is `{"status": 200, "body": …}`. 408, 425, 429 and 5xx fail the attempt, which is retried (after the time that
//! `Retry-After` gives); other classes fail the step. Private, loopback and link-local addresses are refused unless the worker
//! allows them, after resolving names and after redirects too.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use longhaul_schema::Error;
use longhaul_worker::{Registry, StepContext, StepError};
use reqwest::{
    Client, Method, Response, StatusCode, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::RETRY_AFTER,
    redirect,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::template::{Templates, texts_of};

/// Most bytes of an answer's body; the step's output must fit into the database's limit anyway.
const MAX_BODY: usize = 16 * 1024 * 1024;

/// Longest wait that `Retry-After` can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);

const MAX_REDIRECTS: usize = 5;

/// A step's settings.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    #[serde(default = "get")]
    method: String,
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<Value>,
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

/// Registers `http`.
pub(super) fn register(registry: &mut Registry, private_addresses: bool) -> Result<(), Error> {
    // The process has one default; a second installation only says that it is there.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder()
        .user_agent(concat!("longhaul/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(10))
        .dns_resolver(Arc::new(PublicResolver { private_addresses }))
        .redirect(redirect::Policy::custom(move |attempt| {
            if attempt.previous().len() > MAX_REDIRECTS {
                return attempt.error(format!("more than {MAX_REDIRECTS} redirects"));
            }
            match check_address(attempt.url(), private_addresses) {
                Ok(()) => attempt.follow(),
                Err(reason) => attempt.error(reason),
            }
        }))
        .build()
        .map_err(|e| Error::Invalid(format!("no HTTP client can be made: {e}")))?;
    registry.add("http", move |context: StepContext, input: Value| {
        let client = client.clone();
        async move { call(&context, &input, &client, private_addresses).await }
    })
}

async fn call(
    context: &StepContext,
    input: &Value,
    client: &Client,
    private_addresses: bool,
) -> Result<Output, StepError> {
    let settings: Settings = context.parameters()?;
    let body_texts = settings.body.as_ref().map(texts_of).unwrap_or_default();
    let texts = settings.headers.values().map(String::as_str).chain([settings.url.as_str()]).chain(body_texts);
    let templates = Templates::new(context, input, texts).await?;

    let url = templates.fill(&settings.url)?;
    let url = Url::parse(&url).map_err(|e| StepError::fail(format!("{url:?} is not a URL: {e}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(StepError::fail(format!("{url}: only http and https are supported")));
    }
    check_address(&url, private_addresses).map_err(StepError::fail)?;
    let method = Method::from_bytes(settings.method.to_ascii_uppercase().as_bytes())
        .map_err(|_| StepError::fail(format!("{:?} is not an HTTP method", settings.method)))?;
    let has_body = !matches!(method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE);
    let mut request = client.request(method, url);
    for (name, value) in &settings.headers {
        request = request.header(name, templates.fill(value)?);
    }
    match &settings.body {
        Some(body) => request = request.json(&templates.fill_value(body)?),
        None if has_body => request = request.json(input),
        None => {}
    }
    let response = request.send().await.map_err(|e| {
        let error = StepError::from(e);
        // What the request itself says wrongly will not change.
        if error.to_string().contains("builder error") { error.no_retry() } else { error }
    })?;
    judge(response).await
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
    // JSON when it is JSON, whatever the content type says; text otherwise.
    Ok(serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).replace('\0', "\u{fffd}"))))
}

/// Refuses hosts that are written as private addresses; names are checked when they are resolved.
fn check_address(url: &Url, private_addresses: bool) -> Result<(), String> {
    let address = match url.host() {
        Some(url::Host::Ipv4(address)) => IpAddr::V4(address),
        Some(url::Host::Ipv6(address)) => IpAddr::V6(address),
        _ => return Ok(()),
    };
    if private_addresses || is_public(address) { Ok(()) } else { Err(private(&address.to_string())) }
}

fn private(host: &str) -> String {
    format!(
        "{host} is not a public address; a worker calls those only when it is started with --allow-private-addresses"
    )
}

/// Resolves names to public addresses only. Checking here, and not before, leaves no gap in which a name could change.
struct PublicResolver {
    private_addresses: bool,
}

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let private_addresses = self.private_addresses;
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            let allowed: Vec<SocketAddr> =
                found.into_iter().filter(|a| private_addresses || is_public(a.ip())).collect();
            if allowed.is_empty() {
                return Err(private(&host).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Whether an address is reachable in the public Internet (IANA special-purpose registries).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => {
            if let Some(mapped) = address.to_ipv4() {
                return is_public_v4(mapped);
            }
            let first = address.segments()[0];
            !(address.is_unspecified()
                || address.is_loopback()
                || address.is_multicast()
                || first & 0xfe00 == 0xfc00
                || first & 0xffc0 == 0xfe80
                || first & 0xffc0 == 0xfec0
                // 64:ff9b::/96 leads to IPv4 addresses through a translator, 2001:db8::/32 is documentation.
                || first == 0x64
                || (first == 0x2001 && address.segments()[1] == 0xdb8))
        }
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, ..] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 198 && (b == 18 || b == 19))
        || (a == 192 && b == 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_public() {
        for text in [
            "10.0.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "192.168.1.1",
            "172.16.0.1",
            "100.64.0.1",
            "0.0.0.0",
            "::1",
            "fe80::1",
            "fd00::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "::7f00:1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        for text in ["93.184.216.34", "1.1.1.1", "2606:4700::1111"] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_bounded() {
        assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("99999999"), Some(MAX_RETRY_AFTER));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(retry_after("soon"), None);
    }
}
