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
//! The program must be on the worker's allow-list. It is started directly, never through a shell, with its arguments as a list,
//! a small environment, and the step's input as JSON on standard input. Exit code 0 completes the step; its output is
//! `{"exit_code": 0, "stdout": …, "stderr": "…"}`. Any other exit fails the attempt, with the end of standard error in the
//! message. When the attempt ends otherwise (timeout, lost lease, shutdown), the program is killed with all its children.
//!
//! A worker that may not run the program leaves the step to one that may: it is handed back with no attempt consumed.
//! Without a `timeout` of the step, an attempt may take [`LIMIT`].

use std::{collections::BTreeMap, process::Stdio, sync::Arc, time::Duration};

use longhaul_schema::Error;
use longhaul_worker::{Registry, StepContext, StepError};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::Command,
};

use super::{
    Permissions,
    group::Group,
    limited,
    programs::Programs,
    template::Templates,
    variables::{self, Variables},
};
use crate::parent::end_with_parent;

/// Most bytes of standard output; the step's output must fit into the database's limit anyway.
const MAX_STDOUT: u64 = 16 * 1024 * 1024;

/// So much of the end of standard error is kept.
const KEPT_STDERR: usize = 8 * 1024;

/// How long an attempt may take when its step has no `timeout`.
pub const LIMIT: Duration = Duration::from_secs(24 * 3600);

/// How long the rest of a program's output is waited for when the program has ended: what it left in the background may hold
/// the pipe for ever.
const PIPE_GRACE: Duration = Duration::from_millis(500);

/// The waits before a step that this worker may not do is offered again, by it to all.
const NOT_HERE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// A step's settings.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    pub(super) program: String,
    #[serde(default)]
    args: Vec<String>,
    /// Added to the program's environment; the worker must allow the names.
    #[serde(default)]
    pub(super) env: BTreeMap<String, String>,
    /// Working folder; the worker's own when absent.
    folder: Option<String>,
    /// What is made of standard output.
    #[serde(default)]
    stdout: StdoutAs,
    /// Exit codes after which another attempt is of no use.
    #[serde(default)]
    fail_on: Vec<i32>,
}

impl Settings {
    /// All texts that may be templates.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.args.iter().chain(self.env.values()).chain(&self.folder).map(String::as_str)
    }
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

/// What this worker may do.
#[derive(Debug)]
struct Allowed {
    programs: Programs,
    variables: Variables,
}

/// Registers `command` for the programs that are allowed.
pub(super) fn register(registry: &mut Registry, permissions: &Permissions) -> Result<(), Error> {
    let allowed = Arc::new(Allowed {
        programs: Programs::find(&permissions.programs)?,
        variables: Variables::new(&permissions.passed_variables, &permissions.variables)?,
    });
    registry.add("command", move |context: StepContext, input: Value| {
        let allowed = allowed.clone();
        async move { limited(context.timeout(), LIMIT, run(&context, &input, &allowed)).await }
    })
}

async fn run(context: &StepContext, input: &Value, allowed: &Allowed) -> Result<Output, StepError> {
    let settings: Settings = context.parameters()?;
    let Some(program) = allowed.programs.file(&settings.program) else {
        let names = allowed.programs.names();
        return Err(not_here(
            context,
            format!("program {:?} is not on this worker's allow-list ({names})", settings.program),
        ));
    };
    for name in settings.env.keys() {
        if let Some(reason) = variables::refusal(name) {
            return Err(StepError::fail(reason));
        }
        if !allowed.variables.is_settable(name) {
            return Err(not_here(context, format!("this worker does not let flows set {name} (--allow-env {name})")));
        }
    }
    let templates = Templates::new(context, input, settings.texts()).await?;
    let mut command = Command::new(program);
    for argument in &settings.args {
        command.arg(checked(templates.fill(argument)?)?);
    }
    command.env_clear().envs(allowed.variables.passed());
    for (name, value) in &settings.env {
        command.env(name, checked(templates.fill(value)?)?);
    }
    if let Some(folder) = &settings.folder {
        command.current_dir(checked(templates.fill(folder)?)?);
    }
    command.env("LONGHAUL_RUN_ID", context.run_id().to_string()).env("LONGHAUL_KEY", context.idempotency_key());
    command.env("LONGHAUL_FENCING_TOKEN", context.fencing_token().to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A worker that is killed cannot kill its programs; the system does it. The program's own children live on: one that has
    // some should watch its parent, or keep to a timeout.
    end_with_parent(command.as_std_mut(), libc::SIGKILL);
    let group = Group::start(&mut command)
        .map_err(|e| StepError::retry(format!("{} cannot be started: {e}", settings.program)))?;
    finish(group, &settings, input).await
}

/// Leaves the step to a worker that may do it. No attempt is consumed, and nothing counts against the queue: the wait grows
/// with each time that the step was handed back.
fn not_here(context: &StepContext, reason: String) -> StepError {
    let claims = u32::try_from(context.fencing_token()).unwrap_or(u32::MAX);
    let doublings = claims.saturating_sub(context.attempt()).min(10);
    let wait = (NOT_HERE.0 * 2_u32.pow(doublings)).min(NOT_HERE.1);
    StepError::snooze(wait).code("not_allowed_here").detail(format!("{reason}; the step is left to another worker"))
}

/// An argument with a NUL in it would be refused by the system with a message that names neither.
fn checked(text: String) -> Result<String, StepError> {
    if text.contains('\0') {
        return Err(StepError::fail(format!("{text:?} contains a NUL character, which no program can be given")));
    }
    Ok(text)
}

/// Too much was written to standard output.
struct TooMuch;

async fn finish(mut group: Group, settings: &Settings, input: &Value) -> Result<Output, StepError> {
    let (stdin, stdout, stderr) = group.pipes();
    let (mut kept_out, mut kept_err) = (Vec::new(), Vec::new());
    let ended = {
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A program that does not read its input closes the pipe: that is its right.
                let _ = stdin.write_all(input.to_string().as_bytes()).await;
            }
            Ok(())
        };
        let read = async {
            // A pipe that breaks has come to its end.
            let _ = read_all(stdout, &mut kept_out).await;
            if kept_out.len() as u64 > MAX_STDOUT { Err(TooMuch) } else { Ok(()) }
        };
        let keep = async {
            let _ = last_bytes(stderr, &mut kept_err).await;
            Ok(())
        };
        let mut pipes = std::pin::pin!(async { tokio::try_join!(feed, read, keep).map(|_| ()) });
        tokio::select! {
            status = group.wait() => match tokio::time::timeout(PIPE_GRACE, &mut pipes).await {
                Ok(Err(TooMuch)) => Err(TooMuch),
                // Without the rest, if somebody in the background keeps the pipes.
                Ok(Ok(())) | Err(_) => Ok(status?),
            },
            piped = &mut pipes => match piped {
                Ok(()) => Ok(group.wait().await?),
                Err(TooMuch) => Err(TooMuch),
            },
        }
    };
    let Ok(status) = ended else {
        return Err(StepError::fail(format!(
            "{} wrote more than {MAX_STDOUT} bytes to standard output",
            settings.program
        )));
    };
    let stderr = String::from_utf8_lossy(&kept_err).trim_end().replace('\0', "\u{fffd}");
    match status.code() {
        Some(0) => Ok(Output { exit_code: 0, stdout: interpret(settings, &kept_out)?, stderr }),
        code => {
            let ended = code.map_or_else(|| status.to_string(), |code| format!("exit code {code}"));
            let said = if stderr.is_empty() { String::new() } else { format!(": {stderr}") };
            let error = StepError::retry(format!("{} ended with {ended}{said}", settings.program));
            Err(if code.is_some_and(|code| settings.fail_on.contains(&code)) { error.no_retry() } else { error })
        }
    }
}

async fn read_all(stream: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) -> std::io::Result<()> {
    if let Some(stream) = stream {
        stream.take(MAX_STDOUT + 1).read_to_end(kept).await?;
    }
    Ok(())
}

/// Reads to the end, keeping the last bytes only.
async fn last_bytes(stream: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) -> std::io::Result<()> {
    let Some(mut stream) = stream else { return Ok(()) };
    let mut part = [0; 4096];
    loop {
        let read = stream.read(&mut part).await?;
        if read == 0 {
            return Ok(());
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
