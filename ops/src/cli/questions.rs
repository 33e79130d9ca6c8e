//! `questions`, `decide`: what waits for people.

use clap::Args;
use longhaul_schema::calls::Answer;
use serde_json::json;

use super::{
    Context, Failure,
    operate::{actor, payload},
    output::Cell,
    run_ref::RunRef,
    runs::value,
};

/// Options of `questions`.
#[derive(Debug, Args)]
pub(super) struct Questions {
    /// Of this run only.
    run: Option<RunRef>,
}

impl Questions {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.connection.client().await?;
        let run = RunRef::resolve_optional(self.run.as_ref(), &client).await?;
        let questions = client.questions(run).await?;
        if context.output.json {
            for q in questions {
                context.output.json(&json!({
                    "run": q.run_id, "step": q.step, "flow": q.flow, "interrupt": q.interrupt, "question": q.question,
                    "choices": q.choices, "may_answer": q.may_answer, "value": value(q.value.as_ref()), "since": q.since,
                    "expires_at": q.expires_at, "at_expiry": q.at_expiry,
                }));
            }
            return Ok(());
        }
        let rows = questions.iter().map(|q| {
            vec![
                Cell::id(q.run_id),
                Cell::new(&q.step),
                Cell::new(q.question.as_deref().unwrap_or_default()),
                Cell::new(if q.interrupt { "resume --data".into() } else { q.choices.join(", ") }),
                Cell::new(q.may_answer.as_ref().map(|who| who.join(", ")).unwrap_or_default()),
                Cell::time(q.since),
                Cell::time(q.expires_at),
            ]
        });
        context.output.table(&["RUN", "STEP", "QUESTION", "ANSWERS", "BY", "SINCE", "EXPIRES"], rows.collect());
        Ok(())
    }
}

/// Options of `decide`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  longhaul decide 019b… pay approve
  longhaul decide 019b… pay reject --by 'Ms Miller' --data '{\"why\": \"too much\"}'

The same decision twice counts once. Another one after that is refused (exit code 4).")]
pub(super) struct Decide {
    /// Id of the run.
    run: RunRef,
    /// The step that asks.
    step: String,
    /// One of its choices.
    choice: String,
    /// Data for the step: JSON, or @FILE, or - for standard input.
    #[arg(long, value_name = "JSON")]
    data: Option<String>,
    /// Who decides; the user of this machine by default.
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

impl Decide {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let data = self.data.as_deref().map(payload).transpose()?;
        let answer = Answer { step: self.step, choice: self.choice, data };
        let client = context.connection.client().await?;
        let named = self.by.is_some();
        let run = self.run.resolve(&client).await?;
        let decided = client.run(run).decide(answer, actor(self.by).as_deref()).await.map_err(|error| {
            // Who decides was guessed.
            let guessed = !named && error.to_string().contains("may not decide this");
            let failure = Failure::from(error);
            if guessed { failure.explained("say who decides with --by NAME") } else { failure }
        })?;
        if context.output.json {
            context.output.json(&json!({ "decided": decided }));
        } else {
            context.output.line(if decided { "decided." } else { "was decided so before." });
        }
        Ok(())
    }
}
