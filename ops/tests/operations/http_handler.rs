//! The handler `http`, against a small server in the test.

use std::sync::{Arc, Mutex};

use longhaul_ops::handlers::Permissions;
use longhaul_schema::calls::RunState;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
};

use crate::server::{Installation, message, step};

/// What the server was sent: the first line, the headers and the body.
type Requests = Arc<Mutex<Vec<(String, String, String)>>>;

/// Answers `/STATUS` with that status; `/busy` with 429 the first time, and 200 then; `/away` with a redirect.
async fn serve() -> (u16, Requests) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let requests = Requests::default();
    let seen = requests.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let seen = seen.clone();
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let (mut first, mut headers, mut length) = (String::new(), String::new(), 0);
                stream.read_line(&mut first).await.unwrap();
                loop {
                    let mut line = String::new();
                    stream.read_line(&mut line).await.unwrap();
                    if line.trim().is_empty() {
                        break;
                    }
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    headers.push_str(&line);
                }
                let mut body = vec![0; length];
                stream.read_exact(&mut body).await.unwrap();
                let target = first.split(' ').nth(1).unwrap_or("/");
                let path = target.trim_start_matches('/').split('?').next().unwrap_or_default().to_owned();
                let repeated = seen.lock().unwrap().iter().any(|(line, ..)| *line == first);
                seen.lock().unwrap().push((first, headers, String::from_utf8(body).unwrap()));
                let (status, extra) = match path.as_str() {
                    "busy" if !repeated => ("429".into(), "retry-after: 0\r\n".to_owned()),
                    "busy" => ("200".into(), String::new()),
                    "away" => ("302".into(), "location: http://10.0.0.1/\r\n".into()),
                    other => (other.to_owned(), String::new()),
                };
                let body = r#"{"hello": "world"}"#;
                let answer = format!(
                    "HTTP/1.1 {status} X\r\n{extra}content-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            });
        }
    });
    (port, requests)
}

#[tokio::test(flavor = "multi_thread")]
async fn status_classes_decide_what_follows() {
    let installation = Installation::new().await;
    installation.work(&Permissions { programs: Vec::new(), private_addresses: true });
    let (port, requests) = serve().await;
    let get = |path: &str| step("http", 2, json!({ "url": format!("http://127.0.0.1:{port}/{path}") }));
    for (path, state, attempts) in [
        ("200", RunState::Completed, 0),
        ("204", RunState::Completed, 0),
        ("busy", RunState::Completed, 1),
        ("500", RunState::Failed, 2),
        ("408", RunState::Failed, 2),
        ("404", RunState::Failed, 1),
        ("301", RunState::Failed, 1),
    ] {
        let run = installation.run_step(get(path), json!({})).await;
        assert_eq!(run.state, state, "{path}: {:?}", run.error);
        assert_eq!(installation.client().await.attempts(run.id).await.unwrap().len(), attempts, "{path}");
        if state == RunState::Failed {
            assert!(message(&run).contains(path), "{}", message(&run));
        }
    }
    assert!(requests.lock().unwrap().iter().all(|(line, ..)| line.starts_with("GET ")));
}

#[tokio::test(flavor = "multi_thread")]
async fn method_headers_and_body_are_filled_in() {
    let installation = Installation::new().await;
    installation.work(&Permissions { programs: Vec::new(), private_addresses: true });
    let (port, requests) = serve().await;
    let settings = json!({
        "method": "post",
        "url": format!("http://127.0.0.1:{port}/200?id={{{{ input.id }}}}"),
        "headers": { "idempotency-key": "{{ run.key }}" },
        "body": { "name": "{{ input.name }}", "fixed": [1, true, null] },
    });
    let input = json!({ "id": 7, "name": "Ann \"Quote\" O'Neill" });
    let run = installation.run_step(step("http", 1, settings), input.clone()).await;
    assert_eq!(run.state, RunState::Completed, "{:?}", run.error);
    let client = installation.client().await;
    let output = client.database().calls().await.unwrap().run_output(run.id).await.unwrap().unwrap();
    assert_eq!(output.read::<Value>().unwrap(), json!({ "status": 200, "body": { "hello": "world" } }));
    let (line, headers, body) = requests.lock().unwrap()[0].clone();
    assert!(line.starts_with("POST /200?id=7 "), "{line}");
    assert!(headers.contains(&format!("{}/0", run.id)), "{headers}");
    assert_eq!(
        serde_json::from_str::<Value>(&body).unwrap(),
        json!({ "name": input["name"], "fixed": [1, true, null] })
    );

    // Without a body of its own, the input is sent.
    let settings = json!({ "method": "PUT", "url": format!("http://127.0.0.1:{port}/200") });
    installation.run_step(step("http", 1, settings), input.clone()).await;
    assert_eq!(serde_json::from_str::<Value>(&requests.lock().unwrap()[1].2).unwrap(), input);
}

#[tokio::test(flavor = "multi_thread")]
async fn private_addresses_are_refused_unless_allowed() {
    let strict = Installation::new().await;
    strict.work(&Permissions::default());
    let (port, requests) = serve().await;
    for url in [
        format!("http://127.0.0.1:{port}/200"),
        format!("http://localhost:{port}/200"),
        format!("http://[::1]:{port}/200"),
        format!("http://0x7f000001:{port}/200"),
        format!("http://[::ffff:127.0.0.1]:{port}/200"),
        "http://169.254.169.254/latest/meta-data".into(),
    ] {
        let run = strict.run_step(step("http", 1, json!({ "url": url })), json!({})).await;
        assert_eq!(run.state, RunState::Failed, "{url}");
        let error = run.error.unwrap();
        assert!(error.as_str().contains("not a public address"), "{url}: {}", error.as_str());
    }
    assert!(requests.lock().unwrap().is_empty(), "nothing was sent");
    for (url, reason) in [("ftp://example.com/", "only http and https"), ("nonsense", "is not a URL")] {
        let run = strict.run_step(step("http", 1, json!({ "url": url })), json!({})).await;
        assert!(message(&run).contains(reason), "{}", message(&run));
    }
}
