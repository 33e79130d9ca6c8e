//! The files of the console. They are part of the program and need no other host.

use std::path::{Component, Path, PathBuf};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use include_dir::{Dir, include_dir};
use sha2::{Digest, Sha256};

use super::{app::App, problem::Problem};

static BUILT_IN: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/src/serve/console");

/// No scripts but our own, none in pages, nothing from elsewhere, and no frames.
pub(super) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
     connect-src 'self'; manifest-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

/// Where the files come from.
pub(super) struct Assets {
    folder: Option<PathBuf>,
}

impl Assets {
    pub(super) fn new(folder: Option<PathBuf>) -> Self {
        Self { folder }
    }

    async fn read(&self, path: &str) -> Option<Vec<u8>> {
        match &self.folder {
            None => BUILT_IN.get_file(path).map(|file| file.contents().to_vec()),
            Some(folder) => {
                let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
                if plain { tokio::fs::read(folder.join(path)).await.ok() } else { None }
            }
        }
    }
}

/// A file; `index.html` for the paths of the console's pages.
pub(super) async fn serve(State(app): State<App>, request: Request) -> Response {
    let path = request.uri().path().trim_start_matches('/').to_owned();
    if path.starts_with("api/") {
        return Problem::not_found(format!("there is nothing at /{path}")).into_response();
    }
    let name = if path.is_empty() { "index.html" } else { &path };
    let headers = request.headers();
    if let Some(contents) = app.assets.read(name).await {
        return answer(name, contents, headers);
    }
    let wants_page = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"));
    match app.assets.read("index.html").await {
        // Names of flows have dots: what a browser goes to is a page, whatever it looks like.
        Some(page) if wants_page => answer("index.html", page, headers),
        _ => Problem::not_found(format!("there is nothing at /{path}")).into_response(),
    }
}

fn answer(name: &str, contents: Vec<u8>, asked: &HeaderMap) -> Response {
    let digest = Sha256::digest(&contents);
    let tag = format!("\"{}\"", digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect::<String>());
    let known = asked.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut response = if known { StatusCode::NOT_MODIFIED.into_response() } else { contents.into_response() };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type(name)));
    // Asked for again each time: a new release shows at once.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" | "webmanifest" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
