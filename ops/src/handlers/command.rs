//! The handler `command`: runs a program.
//!
//! ```yaml
//! - name: digest
//!   handler: command
//!   timeout: 5m
//!   with:
//!     program: sha256sum
//!     args: ["--", "{{ input.path }}"]
//! ```
//!
//! The program must be on the worker's allow-list. It is started directly, never through a shell, with its arguments as a list
//! and the run's input as JSON on standard input. Exit code 0 completes the step; its output is
//! `{"exit_code": 0, "stdout": …, "stderr": "…"}`. Any other exit fails the attempt, with the end of standard error in the
//! message. When the attempt ends otherwise (timeout, lost lease, shutdown), the program is killed with all its children.

use std::{collections::BTreeMap, process::Stdio};

use longhaul_schema::Error;
use longhaul_worker::{Registry, StepContext, StepError};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
};

use super::template::Templates;
use crate::parent::end_with_parent;

/// Most bytes of standard output; the step's output must fit into the database's limit anyway.
const MAX_STDOUT: u64 = 16 * 1024 * 1024;

/// So much of the end of standard error is kept.
const KEPT_STDERR: usize = 8 * 1024;

/// A step's settings.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    program: String,
    #[serde(default)]
    args: Vec<String>,
    /// Added to the worker's own environment.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Working folder; the worker's own when absent.
    folder: Option<String>,
    /// What is made of standard output.
    #[serde(default)]
    stdout: StdoutAs,
    /// Exit codes after which another attempt is of no use.
    #[serde(default)]
    fail_on: Vec<i32>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StdoutAs {
    /// Text, without the line break at its end.
    #[default]
    Text,
    /// JSON; anything else fails the step.
    Json,
    /// A list of lines.
    Lines,
    /// A list of what stands between NUL characters: how programs write names that may hold line breaks (`-z`, `-print0`).
    Nul,
}

/// A step's output.
#[derive(Debug, Serialize)]
struct Output {
    exit_code: i32,
    stdout: Value,
    #[serde(skip_serializing_if = "String::is_empty")]
    stderr: String,
}

/// Registers `command` for these programs.
pub(super) fn register(registry: &mut Registry, allowed: Vec<String>) -> Result<(), Error> {
    registry.add("command", move |context: StepContext, input: Value| {
        let allowed = allowed.clone();
        async move { run(&context, &input, &allowed).await }
    })
}

async fn run(context: &StepContext, input: &Value, allowed: &[String]) -> Result<Output, StepError> {
    let settings: Settings = context.parameters()?;
    if !allowed.contains(&settings.program) {
        return Err(StepError::fail(format!(
            "program {:?} is not on this worker's allow-list ({})",
            settings.program,
            allowed.join(", ")
        )));
    }
    let texts = settings.args.iter().chain(settings.env.values()).chain(&settings.folder).map(String::as_str);
    let templates = Templates::new(context, input, texts).await?;
    let mut command = Command::new(&settings.program);
    for argument in &settings.args {
        command.arg(checked(templates.fill(argument)?)?);
    }
    for (name, value) in &settings.env {
        command.env(name, checked(templates.fill(value)?)?);
    }
    if let Some(folder) = &settings.folder {
        command.current_dir(checked(templates.fill(folder)?)?);
    }
    command.env("LONGHAUL_RUN_ID", context.run_id().to_string()).env("LONGHAUL_KEY", context.idempotency_key());
    command.env("LONGHAUL_FENCING_TOKEN", context.fencing_token().to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own, so that its children can be killed with it.
    command.process_group(0).kill_on_drop(true);
    // A worker that is killed cannot kill its programs; the system does it. The program's own children live on: one that has
    // some should watch its parent, or keep to a timeout.
    end_with_parent(command.as_std_mut(), libc::SIGKILL);
    let child =
        command.spawn().map_err(|e| StepError::retry(format!("{} cannot be started: {e}", settings.program)))?;
    finish(Group(child), &settings, input).await
}

/// An argument with a NUL in it would be refused by the system with a message that names neither.
fn checked(text: String) -> Result<String, StepError> {
    if text.contains('\0') {
        return Err(StepError::fail(format!("{text:?} contains a NUL character, which no program can be given")));
    }
    Ok(text)
}

/// The program and its children; they are killed when this is dropped before they have ended.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // `id` is there as long as the program has not been waited for: the group's number is then still its own.
        if let Some(group) = self.0.id().and_then(|id| i32::try_from(id).ok()) {
            // SAFETY: kill has no memory preconditions.
            unsafe { libc::kill(-group, libc::SIGKILL) };
        }
    }
}

async fn finish(mut group: Group, settings: &Settings, input: &Value) -> Result<Output, StepError> {
    let (stdin, stdout, stderr) = (group.0.stdin.take(), group.0.stdout.take(), group.0.stderr.take());
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A program that does not read its input closes the pipe: that is its right.
            let _ = stdin.write_all(input.to_string().as_bytes()).await;
        }
    };
    let read = async {
        let mut bytes = Vec::new();
        if let Some(stdout) = stdout {
            stdout.take(MAX_STDOUT + 1).read_to_end(&mut bytes).await?;
        }
        Ok::<_, std::io::Error>(bytes)
    };
    let ((), stdout, stderr) = tokio::join!(feed, read, last_bytes(stderr));
    let stdout = stdout?;
    if stdout.len() as u64 > MAX_STDOUT {
        return Err(StepError::fail(format!(
            "{} wrote more than {MAX_STDOUT} bytes to standard output",
            settings.program
        )));
    }
    let stderr = String::from_utf8_lossy(&stderr?).trim_end().replace('\0', "\u{fffd}");
    let status = group.0.wait().await?;
    match status.code() {
        Some(0) => Ok(Output { exit_code: 0, stdout: interpret(settings, &stdout)?, stderr }),
        code => {
            let ended = code.map_or_else(|| status.to_string(), |code| format!("exit code {code}"));
            let error = StepError::retry(format!("{} ended with {ended}: {stderr}", settings.program));
            Err(if code.is_some_and(|code| settings.fail_on.contains(&code)) { error.no_retry() } else { error })
        }
    }
}

/// Reads to the end, keeping the last bytes only.
async fn last_bytes(stream: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    let Some(mut stream) = stream else { return Ok(kept) };
    let mut part = [0; 4096];
    loop {
        let read = stream.read(&mut part).await?;
        if read == 0 {
            return Ok(kept);
        }
        kept.extend_from_slice(&part[..read]);
        if kept.len() > KEPT_STDERR {
            kept.drain(..kept.len() - KEPT_STDERR);
        }
    }
}

fn interpret(settings: &Settings, stdout: &[u8]) -> Result<Value, StepError> {
    let text = std::str::from_utf8(stdout).map_err(|e| {
        StepError::fail(format!("{} wrote something to standard output that is not UTF-8: {e}", settings.program))
    })?;
    Ok(match settings.stdout {
        StdoutAs::Text => Value::String(text.strip_suffix('\n').unwrap_or(text).to_owned()),
        StdoutAs::Lines => text.lines().map(|line| Value::String(line.to_owned())).collect(),
        StdoutAs::Nul => text.split_terminator('\0').map(|part| Value::String(part.to_owned())).collect(),
        StdoutAs::Json => serde_json::from_str(text)
            .map_err(|e| StepError::fail(format!("{} did not write JSON to standard output: {e}", settings.program)))?,
    })
}
