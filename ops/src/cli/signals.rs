//! `signal`, `complete`, `broadcast`: sending signals.

use clap::Args;
use longhaul_schema::{Payload, Span, calls::NewSignal};
use serde_json::json;

use super::{
    Context, Failure,
    operate::{actor, payload},
    output::plural,
    run_ref::RunRef,
};

/// What every signal has.
#[derive(Debug, Args)]
struct SignalArguments {
    /// What it says: JSON, or @FILE, or - for standard input; null by default.
    #[arg(value_name = "PAYLOAD")]
    payload: Option<String>,
    /// Twice with one key is once.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// How long it is kept when nobody waits for it; 30 days by default.
    #[arg(long, value_name = "TIME")]
    keep: Option<Span>,
    /// Who sends it; the user of this machine by default.
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

impl SignalArguments {
    fn signal(self, topic: &str) -> Result<NewSignal, Failure> {
        let payload = self.payload.as_deref().map_or_else(|| Ok(Payload::null()), payload)?;
        Ok(NewSignal {
            idempotency_key: self.idempotency_key,
            keep: self.keep.map(Span::as_duration),
            by: actor(self.by),
            ..NewSignal::new(topic, payload)
        })
    }
}

/// Options of `signal`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  longhaul signal 019b… approved '{\"by\": \"Ms Miller\"}'     to a run
  longhaul signal key:order-7 paid '{\"cents\": 1999}'        to topic and key: one waiter gets it")]
pub(super) struct Signal {
    /// Id of the run, or key:KEY.
    to: String,
    /// The topic.
    topic: String,
    #[command(flatten)]
    signal: SignalArguments,
    /// A finished run keeps it instead of refusing it.
    #[arg(long)]
    keep_if_finished: bool,
}

impl Signal {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let signal = NewSignal { keep_if_finished: self.keep_if_finished, ..self.signal.signal(&self.topic)? };
        let client = context.connection.client().await?;
        let id = match self.to.strip_prefix("key:") {
            Some(key) => client.send_signal(key, signal).await?,
            None => {
                let run: RunRef = self.to.parse().map_err(|why| {
                    Failure::usage(format!("{:?} is neither key:KEY nor the id of a run: {why}", self.to))
                })?;
                client.run(run.resolve(&client).await?).send(signal).await?
            }
        };
        report(context, id);
        Ok(())
    }
}

/// Options of `complete`.
#[derive(Debug, Args)]
#[command(after_help = "\
Answers every wait for this topic and key, now and later. The first report counts.

Example:
  longhaul complete provider.done parcel-9 '{\"tracking\": \"X1\"}'")]
pub(super) struct Complete {
    /// The topic.
    topic: String,
    /// The key.
    key: String,
    /// The output, or the error with --failed: JSON, or @FILE, or - for standard input; null by default.
    payload: Option<String>,
    /// The work has failed.
    #[arg(long)]
    failed: bool,
}

impl Complete {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let payload = self.payload.as_deref().map_or_else(|| Ok(Payload::null()), payload)?;
        let outcome = if self.failed { Err(&payload) } else { Ok(&payload) };
        let client = context.connection.client().await?;
        let id = client.complete_external(&self.topic, &self.key, outcome).await?;
        // The first report counts, and the id is its.
        if client.database().calls().await?.signal_says(id, &payload, self.failed).await? == Some(false) {
            return Err(Failure::new(
                4,
                format!("signal {id} has reported otherwise before: this report changes nothing"),
            ));
        }
        report(context, id);
        Ok(())
    }
}

/// Options of `broadcast`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  longhaul broadcast prices-changed --flow quote --metadata '{\"region\": \"north\"}'"
)]
pub(super) struct Broadcast {
    /// The topic.
    topic: String,
    #[command(flatten)]
    signal: SignalArguments,
    /// To live runs of this flow only.
    #[arg(long)]
    flow: Option<String>,
    /// To live runs whose metadata contains this only.
    #[arg(long, value_name = "JSON")]
    metadata: Option<String>,
}

impl Broadcast {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let metadata = self.metadata.as_deref().map(payload).transpose()?;
        let signal = self.signal.signal(&self.topic)?;
        let client = context.connection.client().await?;
        let runs = client.broadcast(signal, self.flow.as_deref(), metadata.as_ref()).await?;
        if context.output.json {
            context.output.json(&json!({ "runs": runs }));
        } else {
            context.output.line(&format!("sent to {}.", plural(usize::try_from(runs).unwrap_or_default(), "live run")));
        }
        Ok(())
    }
}

fn report(context: &Context, id: i64) {
    if context.output.json {
        context.output.json(&json!({ "signal": id }));
    } else {
        context.output.line(&format!("signal {id} sent."));
    }
}
