//! `explain`: every gate that something has to pass, open or closed, with what opens it and when.

use clap::{Args, Subcommand};
use comfy_table::Color;
use longhaul_schema::calls::Gate;
use serde_json::json;

use super::{
    Context, Failure,
    output::{Cell, length, time},
    run_ref::RunRef,
    runs::value,
    why::in_our_zone,
};

/// Options of `explain`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
Examples:
  longhaul explain 019b3f2a…c41d           the run, and its first ten steps that have not ended
  longhaul explain 019b3f2a…c41d pack      one step
  longhaul explain queue mail
  longhaul explain schedule nightly --json

Each line is a gate: open, or closed with what opens it. WHEN is estimated from
what ended in the last ten minutes; it is empty where that tells nothing.
The short form is `longhaul why RUN`."
)]
pub(super) struct Explain {
    /// The run: its id, or what is enough of it.
    #[arg(required = true)]
    run: Option<RunRef>,
    /// One step of it; an item of a fan-out has its number, as in pay[3].
    step: Option<String>,
    /// Open gates as well, which hold nothing up.
    #[arg(long, global = true)]
    all: bool,
    #[command(subcommand)]
    other: Option<Other>,
}

/// What else can be explained.
#[derive(Debug, Subcommand)]
enum Other {
    /// Explain a queue: pause, limits, workers, backlog.
    Queue {
        /// Name of the queue.
        name: String,
    },
    /// Explain a schedule: pause, next tick, overlap, failed ticks.
    Schedule {
        /// Name of the schedule.
        name: String,
    },
}

impl Explain {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.connection.client().await?;
        let database = client.database();
        let gates = match (&self.run, &self.other) {
            (_, Some(Other::Queue { name })) => database.calls().await?.explain_queue(database.tenant(), name).await?,
            (_, Some(Other::Schedule { name })) => {
                database.calls().await?.explain_schedule(database.tenant(), name).await?
            }
            (Some(run), None) => {
                let id = run.resolve(&client).await?;
                // Of this tenant, or it is not there.
                client.get(id).await?;
                match &self.step {
                    None => database.calls().await?.explain_run(id).await?,
                    Some(step) => {
                        let steps = client.steps(id).await?;
                        let found = steps
                            .iter()
                            .find(|known| known.name == *step)
                            .ok_or_else(|| Failure::new(3, format!("run {id} has no step {step}")))?;
                        database.calls().await?.explain_step(id, found.seq).await?
                    }
                }
            }
            (None, None) => return Err(Failure::usage("say what to explain: a run, `queue NAME` or `schedule NAME`")),
        };
        if context.output.json {
            gates.iter().for_each(|gate| context.output.json(&gate_json(gate)));
            return Ok(());
        }
        let now = database.calls().await?.present().await?;
        let with_steps = gates.iter().any(|gate| gate.step.is_some());
        let shown: Vec<&Gate> =
            gates.iter().filter(|gate| self.all || gate.state != "open" || gate.gate == "lease").collect();
        if shown.is_empty() {
            context.output.line("Every gate is open (--all shows them).");
            return Ok(());
        }
        let rows = shown.iter().map(|gate| {
            let when = gate.estimate.map(|at| if at > now { format!("in {}", length(now, at)) } else { time(at) });
            let opens = gate.opened_by.as_deref().map(in_our_zone).unwrap_or_default();
            let mut row = vec![
                Cell::whole(&gate.gate),
                state(&gate.state),
                Cell::new(in_our_zone(&gate.finding)),
                Cell::new(opens),
                Cell::whole(when.unwrap_or_default()),
            ];
            if with_steps {
                row.insert(0, Cell::new(gate.step.as_deref().unwrap_or_default()));
            }
            row
        });
        let header = ["STEP", "GATE", "STATE", "HOW IT STANDS", "WHAT OPENS IT", "WHEN"];
        context.output.table(&header[usize::from(!with_steps)..], rows.collect());
        Ok(())
    }
}

fn state(word: &str) -> Cell {
    Cell::whole(word).fg(match word {
        "open" => Color::Green,
        "closed" => Color::Yellow,
        _ => Color::Reset,
    })
}

fn gate_json(gate: &Gate) -> serde_json::Value {
    json!({
        "step": gate.step, "gate": gate.gate, "state": gate.state, "figures": value(gate.figures.as_ref()), "finding": gate.finding,
        "opened_by": gate.opened_by, "estimate": gate.estimate,
    })
}
