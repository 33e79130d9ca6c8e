//! Shell blocks, in the folder of their page. As in one terminal, a block begins where the one before ended: its folder and its
//! exported variables.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, Command},
};

/// Longer than any block takes, building a program included.
const PATIENCE: Duration = Duration::from_secs(900);

/// The commands of one page.
pub struct Shell {
    folder: PathBuf,
    url: String,
    own_url: Option<String>,
    background: Vec<Child>,
}

impl Shell {
    pub fn new(folder: &Path, url: &str) -> Self {
        Self { folder: folder.to_owned(), url: url.to_owned(), own_url: None, background: Vec::new() }
    }

    /// The server that the page has started itself.
    pub fn own_url(&self) -> Option<&str> {
        self.own_url.as_deref()
    }

    pub fn write(&self, file: &str, content: &str) {
        let file = self.present_folder().join(file);
        std::fs::create_dir_all(file.parent().expect("below the folder")).expect("a folder");
        std::fs::write(file, content).expect("a file");
    }

    /// Where the last block ended.
    fn present_folder(&self) -> PathBuf {
        let state = std::fs::read_to_string(self.folder.join(".terminal")).unwrap_or_default();
        state.lines().rev().find_map(|line| line.strip_prefix("cd ")).map_or_else(|| self.folder.clone(), PathBuf::from)
    }

    fn command(&self, script: &str, remembers: bool) -> Command {
        // `declare -x` of everything, and the folder.
        let remember = match remembers {
            true => format!(
                "trap '{{ export -p; printf \"cd %q\\n\" \"$PWD\"; }} >{}/.terminal' EXIT",
                self.folder.display()
            ),
            false => String::new(),
        };
        let program = Path::new(env!("CARGO_BIN_EXE_longhaul"));
        let programs = program.parent().expect("a folder");
        let target = programs.parent().expect("the target folder");
        let root = longhaul_docs::page::root();
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
        let state = self.folder.join(".terminal");
        let own = self.own_url.as_ref().map(|url| format!("export DATABASE_URL={url:?}")).unwrap_or_default();
        let script = format!(
            "[ ! -e '{state}' ] || . '{state}'\n{own}\n{remember}\nset -euo pipefail\nexec 2>&1\n{script}",
            state = state.display(),
        );
        let mut command = Command::new("bash");
        command
            .args(["-c", &script])
            .current_dir(&self.folder)
            .env("PATH", path)
            .env("DATABASE_URL", self.own_url.as_ref().unwrap_or(&self.url))
            .env("LONGHAUL", &root)
            // Programs of the tutorials share what is built already.
            .env("CARGO_TARGET_DIR", target)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        command
    }

    /// Runs a block to its end.
    pub async fn run(&self, script: &str, exit: i32) -> Result<String, String> {
        let output = tokio::time::timeout(PATIENCE, self.command(script, true).output()).await;
        let output = output.map_err(|_| format!("does not end:\n{script}"))?.expect("bash");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.code() == Some(exit) {
            return Ok(said);
        }
        Err(format!("ended with {}, not with {exit}:\n{script}\n{said}", output.status))
    }

    /// Starts a block that goes on until the page ends, and waits until it has said that it is ready.
    pub async fn start(&mut self, script: &str, until: &str) -> Result<String, String> {
        let mut child = self.command(script, false).spawn().expect("bash");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let mut said = String::new();
        let reading = async {
            while let Ok(Some(line)) = lines.next_line().await {
                said.push_str(&line);
                said.push('\n');
                if line.contains(until) {
                    return true;
                }
            }
            false
        };
        let ready = tokio::time::timeout(PATIENCE, reading).await.unwrap_or(false);
        // What it says later is read, so that it never waits for a reader.
        let mut rest = lines.into_inner();
        tokio::spawn(async move { rest.read_to_end(&mut Vec::new()).await });
        self.background.push(child);
        if let Some((_, rest)) = said.split_once("DATABASE_URL=\"") {
            self.own_url = rest.split_once('"').map(|(url, _)| url.to_owned());
        }
        if ready { Ok(said) } else { Err(format!("did not say {until:?}:\n{script}\n{said}")) }
    }

    /// Ends what goes on in the background, as Ctrl-C does.
    pub async fn end(&mut self) {
        while let Some(mut child) = self.background.pop() {
            let group = child.id().and_then(|id| i32::try_from(id).ok());
            if let Some(group) = group {
                // SAFETY: kill has no memory preconditions; the group is that of our own child.
                unsafe { libc::kill(-group, libc::SIGINT) };
            }
            let _ = tokio::time::timeout(Duration::from_secs(60), child.wait()).await;
        }
    }
}

/// Checks a flow. Steps alone are put into a flow, behind those of `with`.
pub async fn flow_check(shell: &Shell, with: &str, code: &str) -> Result<(), String> {
    let whole = code.lines().any(|line| line.starts_with("name:"));
    let file = if whole {
        code.to_owned()
    } else {
        format!("name: page\nversion: 1\nsteps:\n{}\n{code}", with.trim_matches('\n'))
    };
    shell.write("checked.yaml", &file);
    shell.run("longhaul flow check checked.yaml", 0).await.map(drop).map_err(|reason| format!("{reason}\n{file}"))
}
