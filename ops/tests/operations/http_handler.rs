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
                    "here" => ("302".into(), "location: /200\r\n".into()),
                    "see" => ("303".into(), "location: /200\r\n".into()),
                    "nul" => ("200".into(), String::new()),
                    other if other.starts_with("to-") => {
                        ("307".into(), format!("location: http://127.0.0.1:{}/200\r\n", &other[3..]))
                    }
                    other => (other.to_owned(), String::new()),
                };
                let body = if path == "nul" { r#"{"a": ["x\u0000y"]}"# } else { r#"{"hello": "world"}"# };
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
    installation.work(&Permissions { private_addresses: true, ..Permissions::default() });
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
    installation.work(&Permissions { private_addresses: true, ..Permissions::default() });
    let (port, requests) = serve().await;
    let settings = json!({
        "method": "post",
        "url": format!("http://127.0.0.1:{port}/200?id={{{{ input.id }}}}"),
        "headers": { "idempotency-key": "{{ run.key }}" },
        "body": { "name": "{{ input.name }}", "id": "{{ input.id }}", "text": "no. {{ input.id }}", "fixed": [1, true, null] },
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
        json!({ "name": input["name"], "id": 7, "text": "no. 7", "fixed": [1, true, null] }),
        "one expression keeps its type"
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

#[tokio::test(flavor = "multi_thread")]
async fn redirects_take_no_header_to_another_place_and_make_no_other_call() {
    let installation = Installation::new().await;
    installation.work(&Permissions { private_addresses: true, ..Permissions::default() });
    let ((first, at_first), (second, at_second)) = (serve().await, serve().await);
    let call = |method: &str, path: &str| {
        let url = format!("http://127.0.0.1:{first}/{path}");
        step(
            "http",
            1,
            json!({ "method": method, "url": url, "headers": { "x-api-key": "secret" }, "body": { "n": 1 } }),
        )
    };
    let run = installation.run_step(call("POST", &format!("to-{second}")), json!({})).await;
    assert_eq!(run.state, RunState::Completed, "{:?}", run.error);
    let (line, headers, body) = at_second.lock().unwrap()[0].clone();
    assert!(line.starts_with("POST /200 ") && body.contains("\"n\""), "{line} {body}");
    assert!(!headers.to_lowercase().contains("secret") && !headers.to_lowercase().contains("referer"), "{headers}");

    // At the same place they stay.
    installation.run_step(call("GET", "here"), json!({})).await;
    installation.run_step(call("POST", "see"), json!({})).await;
    let seen = at_first.lock().unwrap().clone();
    let asked: Vec<_> = seen.iter().filter(|(line, ..)| line.contains(" /200 ")).collect();
    assert_eq!(asked.len(), 2, "{seen:?}");
    assert!(asked.iter().all(|(line, headers, _)| line.starts_with("GET ") && headers.contains("secret")), "{asked:?}");

    // A POST that is answered by 302 was not done, whatever a GET would answer.
    let run = installation.run_step(call("POST", "here"), json!({})).await;
    assert!(message(&run).contains("a POST is not sent on"), "{}", message(&run));
    let run = installation.run_step(call("GET", "away"), json!({})).await;
    assert_eq!(run.state, RunState::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_the_database_cannot_store_as_it_is_completes_the_step() {
    let installation = Installation::new().await;
    installation.work(&Permissions { private_addresses: true, ..Permissions::default() });
    let (port, _) = serve().await;
    let run = installation
        .run_step(
            step("http", 1, json!({ "method": "POST", "url": format!("http://127.0.0.1:{port}/nul") })),
            json!({}),
        )
        .await;
    assert_eq!(run.state, RunState::Completed, "{:?}", run.error);
    let client = installation.client().await;
    let output = client.database().calls().await.unwrap().run_output(run.id).await.unwrap().unwrap();
    assert_eq!(output.read::<Value>().unwrap()["body"], json!({ "a": ["x\u{fffd}y"] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_proxy_of_the_environment_is_asked() {
    let installation = Installation::new().await;
    let (port, requests) = serve().await;
    let client = installation.client().await;
    let proxy = format!("http://127.0.0.1:{port}");
    let mut command = installation.command(&["worker", "--log", "error"]);
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"] {
        command.env(name, &proxy);
    }
    let mut worker = command.kill_on_drop(true).spawn().unwrap();
    let call = step("http", 1, json!({ "url": "http://localhost:1/x" }));
    client.deploy(&longhaul_schema::Flow::new("proxied", 1).step(call)).await.unwrap();
    let run = client.start("proxied", &json!({})).await.unwrap();
    let run = run.wait(std::time::Duration::from_secs(60)).await.unwrap().expect("it ends");
    assert_eq!(run.state, RunState::Failed);
    assert!(run.error.unwrap().as_str().contains("not a public address"));
    assert!(requests.lock().unwrap().is_empty(), "the proxy was not asked");
    worker.kill().await.unwrap();
}
