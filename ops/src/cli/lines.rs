//! `start --lines`: one run for each line of a file.
//!
//! Ids are made of the batch and of what the line says, so that the same file given again under the same batch starts nothing
//! twice, whatever became of the first try: a lost connection, a full disk, a mistake in one line that was mended meanwhile.

use std::{collections::HashMap, path::Path};

use indicatif::{ProgressBar, ProgressStyle};
use longhaul_scheduler::Client;
use longhaul_schema::{
    Error, Payload,
    calls::{NewRun, NotStarted, StartRuns},
    payload::into_calls,
};
use serde_json::json;
use uuid::Uuid;

use super::{
    Context, Failure,
    output::plural,
    start::{read_input, suggest_flow},
    terminal,
};

/// Most runs in one call, which is one transaction.
const RUNS_PER_CALL: usize = 10_000;

/// So many lines are refused one by one before none was accepted.
const MOST_ALONE: usize = 20;

/// A line, and the run that it is to start.
struct Line {
    number: usize,
    run: NewRun,
}

/// What became of the lines so far.
#[derive(Default)]
struct Tally {
    started: usize,
    existing: usize,
    refused: usize,
    /// The last line that was settled.
    settled: usize,
}

/// Starts a run for each line. All lines are checked first: a mistake in the last one starts nothing.
pub(super) async fn start_lines(
    context: &Context,
    flow: &str,
    file: &Path,
    batch: Option<Uuid>,
) -> Result<(), Failure> {
    let batch = batch.unwrap_or_else(Uuid::now_v7);
    if batch.get_version_num() != 7 {
        return Err(Failure::usage(format!("{batch} is no id of a batch; the one of the first try is needed")));
    }
    let text = if file.as_os_str() == "-" {
        read_input(Some("-"))?
    } else {
        std::fs::read_to_string(file).map_err(|e| Failure::usage(format!("{}: {e}", file.display())))?
    };
    let lines = read(&text, file, flow, batch)?;
    let client = context.connection.client().await?;
    let database = client.database();
    let limit = database.retrying(|calls| async move { calls.setting("max_payload_bytes").await }).await?;
    let (lines, large): (Vec<Line>, Vec<Line>) = lines
        .into_iter()
        .partition(|line| line.run.input.check_size(usize::try_from(limit).unwrap_or(usize::MAX)).is_ok());
    let bar = ProgressBar::new(lines.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} runs, {per_sec}") {
        bar.set_style(style);
    }
    if !context.output.json {
        bar.suspend(|| terminal::tell(&format!("batch {batch}: given again with --batch, nothing is started twice")));
    }
    let mut tally = Tally { refused: large.len(), ..Tally::default() };
    for line in large {
        let bytes = line.run.input.as_str().len();
        let number = line.number;
        terminal::tell(&format!("line {number} was refused: it has {bytes} bytes, more than the limit of {limit}"));
    }
    let outcome = start_all(context, &client, flow, lines, &mut tally, &bar).await;
    bar.finish_and_clear();
    let Tally { started, existing, refused, settled } = tally;
    if context.output.json {
        context.output.json(
            &json!({ "started": started, "existing": existing, "refused": refused, "batch": batch, "last_line": settled }),
        );
    } else {
        let before = if existing > 0 { format!(", {existing} were there already") } else { String::new() };
        context.output.line(&format!(
            "{} started{before}, {} refused.",
            plural(started, "run"),
            plural(refused, "line")
        ));
    }
    match outcome {
        Err(failure) => Err(failure.explained(&format!(
            "lines up to {settled} are settled ({started} runs started, {existing} there already, {refused} refused), of those \
             after it nothing is known; the same again with --batch {batch} starts nothing twice"
        ))),
        Ok(()) if refused > 0 => {
            Err(Failure::usage(format!("{} refused; mended, give the file again with --batch {batch}", plural(refused, "line"))))
        }
        Ok(()) => Ok(()),
    }
}

fn read(text: &str, file: &Path, flow: &str, batch: Uuid) -> Result<Vec<Line>, Failure> {
    // How often a line was seen before: lines that say the same are runs of their own.
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let input = Payload::from_text(line)
            .map_err(|e| Failure::usage(format!("{} line {}: {e}", file.display(), index + 1)))?;
        let occurrence = seen.entry(line.trim()).or_default();
        let run = NewRun { id: id_of(batch, flow, line.trim(), *occurrence), ..NewRun::new(input) };
        *occurrence += 1;
        lines.push(Line { number: index + 1, run });
    }
    Ok(lines)
}

/// A UUIDv7 of the batch's time whose other bits say flow and line.
fn id_of(batch: Uuid, flow: &str, line: &str, occurrence: usize) -> Uuid {
    let hash = Uuid::new_v5(&batch, format!("{flow}\n{occurrence}\n{line}").as_bytes());
    let mut bytes = *hash.as_bytes();
    bytes[..6].copy_from_slice(&batch.as_bytes()[..6]);
    bytes[6] = 0x70 | (bytes[6] & 0x0f);
    Uuid::from_bytes(bytes)
}

async fn start_all(
    context: &Context,
    client: &Client,
    flow: &str,
    lines: Vec<Line>,
    tally: &mut Tally,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    for part in into_calls(lines, RUNS_PER_CALL, |line| line.run.input.as_str().len()) {
        let (numbers, runs): (Vec<usize>, Vec<NewRun>) = part.into_iter().map(|line| (line.number, line.run)).unzip();
        let mut not_started = Vec::new();
        let outcome = start_part(client, flow, &runs, &mut not_started).await;
        let undone = outcome.as_ref().err().map_or(runs.len(), |(done, _)| *done);
        let reasons: HashMap<Uuid, Option<String>> = not_started.into_iter().map(|n| (n.id, n.refusal)).collect();
        for (number, run) in numbers.iter().zip(&runs).take(undone) {
            tally.settled = *number;
            match reasons.get(&run.id) {
                Some(Some(reason)) => {
                    tally.refused += 1;
                    bar.suspend(|| terminal::tell(&format!("line {number} was refused: {reason}")));
                }
                there => {
                    let existing = there.is_some();
                    *(if existing { &mut tally.existing } else { &mut tally.started }) += 1;
                    bar.suspend(|| say(context, *number, run.id, existing));
                }
            }
        }
        bar.inc(runs.len() as u64);
        if let Err((_, error)) = outcome {
            return Err(suggest_flow(client, flow, error).await);
        }
    }
    Ok(())
}

fn say(context: &Context, number: usize, id: Uuid, existing: bool) {
    if context.output.json {
        context.output.json(&json!({ "line": number, "id": id, "existing": existing }));
    } else {
        context.output.line(&format!("{number}\t{id}"));
    }
}

/// Starts runs in one call. When the database refuses the call because of a value in it, the runs are started in halves, until
/// the bad one stands alone. An error says how many were settled before it.
async fn start_part(
    client: &Client,
    flow: &str,
    runs: &[NewRun],
    not_started: &mut Vec<NotStarted>,
) -> Result<(), (usize, Error)> {
    // From where to where, exclusive.
    let mut open = vec![(0, runs.len())];
    let (mut accepted, mut alone) = (false, 0);
    while let Some((begin, end)) = open.pop() {
        let part = &runs[begin..end];
        let tenant = client.database().tenant();
        let call = client.database().retrying(|calls| async move {
            calls.start_runs(StartRuns { tenant, flow, version: None, runs: part }).await
        });
        match call.await {
            Ok(answer) => {
                accepted = true;
                not_started.extend(answer);
            }
            Err(Error::Invalid(reason)) if part.len() == 1 => {
                alone += 1;
                not_started.push(NotStarted {
                    id: part[0].id,
                    existing: None,
                    refusal: Some(reason.clone()),
                    conflict: false,
                });
                // It is the call that is wrong then, and not each line.
                if !accepted && alone >= MOST_ALONE {
                    return Err((end, Error::Invalid(reason)));
                }
            }
            Err(Error::Invalid(_)) => {
                let middle = begin + part.len() / 2;
                open.extend([(middle, end), (begin, middle)]);
            }
            Err(error) => return Err((begin, error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_same_id_wherever_it_stands_and_each_of_two_equal_ones_its_own() {
        let batch = Uuid::now_v7();
        let ids = |text: &str| {
            let lines = read(text, Path::new("f"), "flow", batch).unwrap();
            lines.into_iter().map(|line| line.run.id).collect::<Vec<_>>()
        };
        let all = ids("1\n\n2\n1\n");
        assert_eq!(ids("2\n1"), [all[1], all[0]]);
        assert!(all[0] != all[2] && all[0] != all[1]);
        for id in &all {
            assert_eq!((id.get_version_num(), id.get_variant()), (7, uuid::Variant::RFC4122));
            assert_eq!(id.get_timestamp(), batch.get_timestamp());
        }
        assert_ne!(read("1", Path::new("f"), "flow", Uuid::now_v7()).unwrap()[0].run.id, all[0]);
    }

    #[test]
    fn a_mistake_in_the_last_line_is_named_and_starts_nothing() {
        let wrong = read("1\n{oops\n", Path::new("f.jsonl"), "flow", Uuid::now_v7()).err().unwrap().to_string();
        assert!(wrong.starts_with("f.jsonl line 2: "), "{wrong}");
    }
}
