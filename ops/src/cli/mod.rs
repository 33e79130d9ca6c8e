//! The commands of the `longhaul` program.

mod checks;
mod connection;
mod dead;
pub(crate) mod doctor;
mod failure;
mod fleet;
mod flow;
mod lines;
mod lock;
mod moment;
mod operate;
mod output;
mod process;
mod questions;
mod queue;
mod retention;
mod retention_run;
mod runs;
mod schedule;
mod serve;
mod signals;
mod start;
mod supervise;
mod terminal;
mod token;
mod up;
mod why;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use connection::ConnectionArguments;
use failure::Failure;
use output::Output;

/// What every command has at hand.
struct Context {
    connection: ConnectionArguments,
    output: Output,
}

const AFTER_HELP: &str = "\
Examples:
  longhaul up                        all of it here, PostgreSQL included
  longhaul migrate                   install in the database of DATABASE_URL
  longhaul flow deploy order.yaml
  longhaul start order '{\"id\": 7}' --wait
  longhaul list --state failed --json
  longhaul retry 019b…

Exit codes:
  0    done
  1    the run failed, or another error
  2    wrong usage or input
  3    not found
  4    refused in the present state
  5    the database cannot be reached
  124  not finished within --timeout";

/// A durable job queue and workflow backend on PostgreSQL.
#[derive(Debug, Parser)]
#[command(name = "longhaul", version, after_help = AFTER_HELP, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    connection: ConnectionArguments,
    /// Print JSON, for scripts: one value a line.
    #[arg(long, global = true)]
    json: bool,
    /// Log level or filter, as in RUST_LOG: error, warn, info, debug, longhaul_worker=trace. [env: LONGHAUL_LOG]
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything here: a private PostgreSQL server, a scheduler and workers.
    Up(up::Up),
    /// Install Longhaul in a database, or upgrade it.
    Migrate(process::Migrate),
    /// Do steps with the built-in handlers `command` and `http`; list and drain workers.
    Worker(process::WorkerCommand),
    /// Keep worker processes alive: replace what ends or hangs.
    Supervise(supervise::Supervise),
    /// Do the chores: expired leases, due timers, schedules, retention, partitions.
    Scheduler(process::SchedulerCommand),
    /// Serve the HTTP API and the console.
    Serve(serve::Serve),
    /// Make, list or revoke tokens of the HTTP API.
    #[command(subcommand)]
    Token(token::Token),
    /// Deploy and read flows.
    #[command(subcommand)]
    Flow(flow::FlowCommand),
    /// Start a run, or one for each line of a file.
    Start(start::StartCommand),
    /// List runs, newest first.
    List(runs::List),
    /// Show a run with its steps.
    Show(runs::Show),
    /// Say what a run waits for.
    Why(why::Why),
    #[command(flatten)]
    Operate(operate::Operate),
    /// Send a signal to a run, or to a topic and key.
    Signal(signals::Signal),
    /// Report that outside work has completed.
    Complete(signals::Complete),
    /// Send a signal to every live run that matches.
    Broadcast(signals::Broadcast),
    /// List open questions: approvals, decisions, interrupts.
    Questions(questions::Questions),
    /// Answer the question that a step asks.
    Decide(questions::Decide),
    /// List, retry or discard steps that used up their attempts.
    #[command(subcommand)]
    Dead(dead::Dead),
    /// List the steps in flight.
    #[command(subcommand)]
    Lease(fleet::Lease),
    /// List, pause, resume or limit queues.
    #[command(subcommand)]
    Queue(queue::Queue),
    /// Start runs by cron expressions.
    #[command(subcommand)]
    Schedule(schedule::ScheduleCommand),
    /// Delete ended runs by policies.
    #[command(subcommand)]
    Retention(retention::Retention),
    /// List locks, or force one open.
    #[command(subcommand)]
    Lock(lock::LockCommand),
    /// Wait until runs have ended.
    Wait(runs::Wait),
    /// Check connection, installation and state.
    Doctor(doctor::Doctor),
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(answer) => return print_help(&answer),
    };
    let talkative = matches!(
        cli.command,
        Command::Up(_) | Command::Worker(_) | Command::Supervise(_) | Command::Scheduler(_) | Command::Serve(_)
    );
    let filter = cli.log.or_else(|| std::env::var("LONGHAUL_LOG").ok().filter(|filter| !filter.is_empty()));
    start_logging(filter.as_deref().unwrap_or(if talkative { "info,tokio_postgres=warn" } else { "warn" }));
    let context = Context { connection: cli.connection, output: Output::new(cli.json) };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::new(1, format!("no runtime can be started: {error}")).report(cli.json),
    };
    let outcome = runtime.block_on(run(cli.command, &context));
    // Whatever blocks a thread still must not keep the process.
    runtime.shutdown_background();
    let done = outcome.is_ok();
    let code = match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(cli.json),
    };
    match terminal::failure() {
        None => code,
        Some(reason) => {
            let told = Failure::new(1, reason).report(cli.json);
            if done { told } else { code }
        }
    }
}

/// What clap has to say: help and version on standard output, wrong usage on standard error.
fn print_help(answer: &clap::Error) -> ExitCode {
    let code = u8::try_from(answer.exit_code()).unwrap_or(2);
    if code != 0 {
        // What it repeats of the arguments may be somebody else's text.
        terminal::tell_lines(&answer.to_string());
        return ExitCode::from(code);
    }
    match answer.print() {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Failure::new(1, format!("standard output cannot be written: {error}")).report(false)
        }
        _ => ExitCode::from(code),
    }
}

async fn run(command: Command, context: &Context) -> Result<(), Failure> {
    match command {
        Command::Up(up) => up.run(context).await,
        Command::Migrate(migrate) => migrate.run(context).await,
        Command::Worker(worker) => worker.run(context).await,
        Command::Supervise(supervise) => supervise.run(context).await,
        Command::Scheduler(scheduler) => scheduler.run(context).await,
        Command::Serve(serve) => serve.run(context).await,
        Command::Token(token) => token.run(context).await,
        Command::Flow(flow) => flow.run(context).await,
        Command::Start(start) => start.run(context).await,
        Command::List(list) => list.run(context).await,
        Command::Show(show) => show.run(context).await,
        Command::Why(why) => why.run(context).await,
        Command::Operate(operate) => operate.run(context).await,
        Command::Signal(signal) => signal.run(context).await,
        Command::Complete(complete) => complete.run(context).await,
        Command::Broadcast(broadcast) => broadcast.run(context).await,
        Command::Questions(questions) => questions.run(context).await,
        Command::Decide(decide) => decide.run(context).await,
        Command::Dead(dead) => dead.run(context).await,
        Command::Lease(lease) => lease.run(context).await,
        Command::Queue(queue) => queue.run(context).await,
        Command::Schedule(schedule) => schedule.run(context).await,
        Command::Retention(retention) => retention.run(context).await,
        Command::Lock(lock) => lock.run(context).await,
        Command::Wait(wait) => wait.run(context).await,
        Command::Doctor(doctor) => doctor.run(context).await,
    }
}

fn start_logging(filter: &str) {
    use std::io::IsTerminal;
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::builder().parse_lossy(filter))
        .with_writer(move || terminal::Log { colours })
        .with_ansi(colours)
        .with_target(false)
        .init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_commands_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
