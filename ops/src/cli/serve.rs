//! `serve`: the HTTP API and the console.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use longhaul_worker::shutdown_signal;

use super::{Context, Failure};
use crate::serve::{ServeOptions, Server};

/// Options of `serve`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  longhaul serve
  longhaul serve --listen 127.0.0.1:8080
  curl http://127.0.0.1:7070/api/v1/overview

The console is at the address that it prints, the description of the API at
/api/openapi.json.")]
pub(super) struct Serve {
    /// Address and port to listen on.
    #[arg(long, default_value = "127.0.0.1:7070", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// A name under which a proxy on this machine calls it; may be given several times.
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// Requests a second of one caller; five times as many at once after a pause.
    #[arg(long, default_value = "200", value_name = "NUMBER")]
    rate: std::num::NonZeroU32,
    /// Open the console in the browser.
    #[arg(long)]
    open: bool,
    /// Take the files of the console from this folder, while working on them.
    #[arg(long, hide = true, value_name = "FOLDER")]
    console: Option<PathBuf>,
}

impl Serve {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let options =
            ServeOptions { hosts: self.hosts, rate: self.rate, console: self.console, ..ServeOptions::on(self.listen) };
        let server = Server::bind(&context.connection.config()?, options).await?;
        if context.output.json {
            context.output.json(&serde_json::json!({ "url": server.url() }));
        } else {
            context.output.line(&format!("Longhaul is served at {}", server.url()));
        }
        if self.open {
            open_in_browser(&server.url());
        }
        Ok(server.run_until(shutdown_signal()).await?)
    }
}

/// Opens a page in the browser of this desktop, by the program that desktops have for it. Where there is none, the address is printed
/// already.
pub(super) fn open_in_browser(url: &str) {
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let null = std::process::Stdio::null;
    let started = tokio::process::Command::new(program).arg(url).stdin(null()).stdout(null()).stderr(null()).spawn();
    if let Err(error) = started {
        tracing::warn!(%error, program, "the browser cannot be opened");
    }
}
