//! `why`: what a run waits for, step by step, in words; also shown by `show` and while somebody waits.

use chrono::DateTime;
use clap::Args;
use longhaul_scheduler::Client;
use longhaul_schema::{
    Error,
    calls::{AttemptInfo, StepInfo},
};
use serde_json::json;
use uuid::Uuid;

use super::{
    Context, Failure,
    output::time,
    run_ref::RunRef,
    runs::{reason, value},
    terminal,
};

/// Most steps that are explained at a time.
const MOST: usize = 10;

/// Options of `why`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  longhaul why 019b… pack")]
pub(super) struct Why {
    /// The run: its id, or what is enough of it.
    run: RunRef,
    /// The step; all that have not ended when absent.
    step: Option<String>,
}

impl Why {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.connection.client().await?;
        let id = self.run.resolve(&client).await?;
        let steps = client.steps(id).await?;
        if let Some(name) = &self.step
            && !steps.iter().any(|step| step.name == *name)
        {
            return Err(Failure::new(3, format!("run {} has no step {name}", id)));
        }
        let attempts = client.attempts(id).await?;
        let asked = |step: &&StepInfo| self.step.as_ref().map_or(step.ended_at.is_none(), |name| step.name == *name);
        let run = client.run(id).get().await?;
        if let Some(ended) = run.ended_at.filter(|_| self.step.is_none()) {
            let error = run.error.as_ref().map(|e| format!(": {}", reason(e))).unwrap_or_default();
            let why = format!("The run waits for nothing: it is {} since {}{error}.", run.state, time(ended));
            if context.output.json {
                context.output.json(&json!({ "why": why }));
            } else {
                context.output.line(&why);
            }
        }
        for step in steps.iter().filter(asked).take(MOST) {
            let why = of_step(&client, id, step, &attempts).await?;
            if context.output.json {
                context.output.json(&json!({ "step": step.name, "why": why }));
            } else {
                context.output.line(&why);
            }
        }
        if let Some(more) = others(steps.iter().filter(asked).count()) {
            terminal::tell(&more);
        }
        for question in questions(&client, id).await? {
            if context.output.json {
                context.output.json(&json!({ "why": question }));
            } else {
                context.output.line(&question);
            }
        }
        Ok(())
    }
}

/// Why a run has not ended: its open steps and its questions.
pub(super) async fn reasons(client: &Client, run: Uuid) -> Result<Vec<String>, Error> {
    let steps = client.steps(run).await?;
    let attempts = client.attempts(run).await?;
    let mut reasons = Vec::new();
    for step in steps.iter().filter(|step| step.ended_at.is_none()).take(MOST) {
        reasons.push(of_step(client, run, step, &attempts).await?);
    }
    reasons.extend(others(steps.iter().filter(|step| step.ended_at.is_none()).count()));
    reasons.extend(questions(client, run).await?);
    Ok(reasons)
}

/// What is said of the steps beyond those that are explained.
fn others(steps: usize) -> Option<String> {
    steps.checked_sub(MOST).filter(|more| *more > 0).map(|more| {
        let (noun, have) = if more == 1 { ("step", "has") } else { ("steps", "have") };
        format!("{more} more {noun} {have} not ended; `longhaul why RUN STEP` explains one.")
    })
}

async fn of_step(client: &Client, run: Uuid, step: &StepInfo, attempts: &[AttemptInfo]) -> Result<String, Error> {
    let mut why = in_our_zone(&client.why(run, &step.name).await?);
    // What the last attempt said explains why there is to be another one.
    let last = attempts.iter().filter(|attempt| attempt.step == step.name).max_by_key(|attempt| attempt.attempt);
    if let Some(said) = step.error.as_ref().map(reason) {
        why = format!("{} Its error: {said}", why.trim_end());
    } else if let Some(attempt) = last.filter(|_| step.ended_at.is_none())
        && let Some(error) = &attempt.error
        && attempt.outcome != "released"
    {
        let detail = value(Some(error))["detail"].as_str().map(str::to_owned).unwrap_or_else(|| reason(error));
        // The database may have said it already.
        if !why.contains(&detail) {
            why = format!("{} Attempt {} {}: {detail}", why.trim_end(), attempt.attempt, words(&attempt.outcome));
        }
    }
    Ok(why)
}

fn words(outcome: &str) -> &str {
    match outcome {
        "snoozed" | "deferred" => "was put off",
        "timed_out" => "timed out",
        other => other,
    }
}

async fn questions(client: &Client, run: Uuid) -> Result<Vec<String>, Error> {
    let asked = client.questions(Some(run)).await?;
    Ok(asked
        .iter()
        .map(|q| {
            let question = q.question.as_deref().unwrap_or_default();
            let how = if q.interrupt {
                format!("answer it with: longhaul resume {run} --data JSON")
            } else {
                // Copied into a shell as it stands, it decides nothing.
                let by = if q.may_answer.is_some() { " --by NAME" } else { "" };
                format!("answer it with: longhaul decide {run} {} CHOICE{by}", q.step)
            };
            let choices =
                if q.interrupt { String::new() } else { format!("; CHOICE is one of: {}", q.choices.join(", ")) };
            let who =
                q.may_answer.as_ref().map(|who| format!("; NAME is one of: {}", who.join(", "))).unwrap_or_default();
            format!("Step {} asks: {question} ({how}{choices}{who})", q.step)
        })
        .collect())
}

/// The database writes times in its own zone; here all times are in one, and whole seconds.
pub(super) fn in_our_zone(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        match time_at(rest) {
            Some((length, at)) => {
                out.push_str(&at);
                rest = &rest[length..];
            }
            None => {
                out.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    out
}

/// A time of the database's at the beginning of a text, as in `2026-11-25 14:11:27.123456+00`: its length, and ours.
fn time_at(text: &str) -> Option<(usize, String)> {
    const SHAPE: &[u8] = b"0000-00-00 00:00:00";
    let bytes = text.as_bytes();
    let fits = |(byte, shape): (&u8, &u8)| if *shape == b'0' { byte.is_ascii_digit() } else { byte == shape };
    if bytes.len() <= SHAPE.len() || !bytes.iter().zip(SHAPE).all(fits) {
        return None;
    }
    let tail = &text[SHAPE.len()..];
    let end = tail.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-' | ':'))).unwrap_or(tail.len());
    // A full stop may end the sentence.
    let length = SHAPE.len() + tail[..end].trim_end_matches(['.', ':']).len();
    let parsed = DateTime::parse_from_str(&text[..length], "%Y-%m-%d %H:%M:%S%.f%#z").ok()?;
    Some((length, time(parsed.to_utc())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_database_are_shown_in_our_zone() {
        let moment = "2026-11-25T14:11:27Z".parse().map(time).unwrap();
        for given in ["2026-11-25 14:11:27.123456+00", "2026-11-25 19:41:27+05:30", "2026-11-25 09:11:27.5-05"] {
            assert_eq!(in_our_zone(&format!("é until {given}.")), format!("é until {moment}."), "{given}");
        }
        for plain in ["2026-11-25", "2026-11-25 14:11", "order 2026-11-25 14:11:27x", "2026-11-25 14:11:27"] {
            assert_eq!(in_our_zone(plain), plain);
        }
    }
}
