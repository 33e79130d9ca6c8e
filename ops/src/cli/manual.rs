//! `completions` and `man`: what shells and readers want to know of the commands.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use super::{Cli, Context, Failure, terminal};

/// Options of `completions`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  longhaul completions bash > /etc/bash_completion.d/longhaul
  longhaul completions zsh  > \"${fpath[1]}/_longhaul\"
  longhaul completions fish > ~/.config/fish/completions/longhaul.fish")]
pub(super) struct Completions {
    /// The shell.
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        let mut script = Vec::new();
        generate(self.shell, &mut Cli::command(), "longhaul", &mut script);
        context.output.text(&String::from_utf8_lossy(&script));
        Ok(())
    }
}

/// Options of `man`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  longhaul man --out /usr/local/share/man/man1 && man longhaul-start")]
pub(super) struct Man {
    /// Folder for the pages, one for each command; it is made when it is not there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Man {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::new(1, format!("{}: {error}", self.out.display()));
        std::fs::create_dir_all(&self.out).map_err(failed)?;
        clap_mangen::generate_to(Cli::command(), &self.out).map_err(failed)?;
        if !context.output.json {
            terminal::tell(&format!("manual pages are in {}", self.out.display()));
        }
        Ok(())
    }
}
