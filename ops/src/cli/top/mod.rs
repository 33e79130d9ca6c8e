//! `top`: queues, workers, steps in flight and failures at this moment, full screen.

mod figures;
mod keys;
mod screen;

use std::{io::IsTerminal, pin::Pin, time::Duration};

use clap::Args;
use futures::FutureExt;
use longhaul_scheduler::Client;
use longhaul_schema::Span;
use longhaul_worker::shutdown_signal;
use ratatui::crossterm::event;
use tokio::sync::{mpsc, watch};

use super::{Context, Failure, operate::actor};
use figures::Figures;
use keys::{Does, View};

/// Options of `top`.
#[derive(Debug, Args)]
#[command(after_help = "\
Keys:
  Tab, 1 to 4    queues, workers, steps in flight, failures
  Up, Down       choose a row
  s              sort by the next column
  p              pause or resume the chosen queue; it asks
  q, Ctrl-C      leave")]
pub(super) struct Top {
    /// How often it looks.
    #[arg(long, default_value = "1s", value_name = "TIME")]
    every: Span,
}

/// Fewest milliseconds between two looks.
const SOONEST: Duration = Duration::from_millis(100);

impl Top {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        if context.output.json || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
            return Err(Failure::usage(
                "top needs a terminal, and shows no JSON; scripts ask `longhaul queue list --json` and `longhaul workers --json`",
            ));
        }
        let client = context.connection.client().await?;
        // The first look fails with a message on an ordinary screen.
        let first = Figures::look(&client, None).await?;
        let (sender, figures) = watch::channel(Ok(first));
        // From here on a signal leaves the screen in good order: it is waited for before there is one.
        let mut stop = Box::pin(shutdown_signal());
        if (&mut stop).now_or_never().is_some() {
            return Ok(());
        }
        let looking = tokio::spawn(keep_looking(client.clone(), self.every.as_duration().max(SOONEST), sender));
        // It sets a hook besides that leaves the screen when something panics.
        let mut terminal = ratatui::try_init().map_err(unusable)?;
        let outcome = watch_keys(&client, &mut terminal, figures, stop).await;
        ratatui::restore();
        looking.abort();
        outcome
    }
}

fn unusable(error: std::io::Error) -> Failure {
    Failure::new(1, format!("the terminal cannot be used: {error}"))
}

/// Looks again and again. A look that fails leaves the figures of the one before on the screen, with the reason.
async fn keep_looking(client: Client, every: Duration, sender: watch::Sender<Result<Figures, String>>) {
    let mut last = sender.borrow().clone().ok();
    loop {
        tokio::time::sleep(every).await;
        let looked = Figures::look(&client, last.as_ref()).await;
        if let Ok(figures) = &looked {
            last = Some(figures.clone());
        }
        if sender.send(looked.map_err(|error| error.to_string())).is_err() {
            return;
        }
    }
}

/// Keys are read on a thread of their own: reading blocks.
fn read_keys() -> mpsc::UnboundedReceiver<event::Event> {
    let (sender, keys) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if sender.send(event).is_err() {
                return;
            }
        }
    });
    keys
}

async fn watch_keys(
    client: &Client,
    terminal: &mut ratatui::DefaultTerminal,
    mut figures: watch::Receiver<Result<Figures, String>>,
    mut stop: Pin<Box<impl Future<Output = ()>>>,
) -> Result<(), Failure> {
    let mut keys = read_keys();
    let mut view = View::default();
    let mut shown = figures.borrow().clone().unwrap_or_default();
    loop {
        view.keep_within(&shown);
        terminal.draw(|frame| screen::draw(frame, &shown, &mut view)).map_err(unusable)?;
        tokio::select! {
            () = &mut stop => return Ok(()),
            changed = figures.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                match figures.borrow_and_update().clone() {
                    Ok(new) => {
                        shown = new;
                        view.trouble = None;
                    }
                    Err(reason) => view.trouble = Some(reason),
                }
            }
            key = keys.recv() => match key.map(|key| view.takes(&key, &shown)) {
                None | Some(Does::Leave) => return Ok(()),
                Some(Does::Nothing) => {}
                Some(Does::Pause(queue)) => {
                    let paused = client.pause_queue(&queue, actor(None).as_deref()).await;
                    view.message = Some(said(&queue, "paused", paused));
                }
                Some(Does::Resume(queue)) => {
                    let resumed = client.resume_queue(&queue).await;
                    view.message = Some(said(&queue, "resumed", resumed));
                }
            },
        }
    }
}

fn said(queue: &str, done: &str, outcome: Result<bool, longhaul_schema::Error>) -> String {
    match outcome {
        Ok(true) => format!("queue {queue} {done}"),
        Ok(false) => format!("queue {queue} was {done} already"),
        Err(error) => error.to_string(),
    }
}
