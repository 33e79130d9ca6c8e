//! What a step has computed and begun so far, and whether the code still fits it.

use std::collections::{HashMap, HashSet};
use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use longhaul_schema::{
    Payload,
    calls::{AnswerKind, AttemptKey, Checkpoint},
};
use tokio::sync::OnceCell;

use crate::{StepError, store::Store};

/// The history of one attempt: loaded when it is first asked for.
#[derive(Debug, Default)]
pub(crate) struct History {
    recorded: OnceCell<HashMap<String, Checkpoint>>,
    /// Places that the code has been at.
    visited: Mutex<HashSet<String>>,
    saved: AtomicUsize,
}

/// A place in the function, with what is recorded there.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) path: String,
    pub(crate) answer: Option<(AnswerKind, Payload)>,
}

impl History {
    /// What is recorded. The first attempt at a step has no history, and needs not ask for it.
    pub(crate) async fn recorded(
        &self,
        store: &Store,
        key: AttemptKey,
    ) -> Result<&HashMap<String, Checkpoint>, StepError> {
        self.recorded
            .get_or_try_init(|| async {
                if key.attempt == 1 {
                    return Ok(HashMap::new());
                }
                let entries = store.history(key.step).await?;
                Ok(entries.into_iter().map(|entry| (entry.path.clone(), entry)).collect())
            })
            .await
    }

    /// What is recorded, if it was asked for.
    fn known(&self) -> Option<&HashMap<String, Checkpoint>> {
        self.recorded.get()
    }

    /// Takes note that the code is at a place, and finds what is recorded there. Fails when that is something else.
    pub(crate) fn visit(&self, path: String, kind: &str, name: &str) -> Result<Place, StepError> {
        self.visited.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone());
        let recorded = self.known().and_then(|known| known.get(&path));
        if let Some(entry) = recorded
            && (entry.kind != kind || entry.name != name)
        {
            return Err(mismatch(&path, &described(&entry.kind, &entry.name), &described(kind, name)));
        }
        let answer = recorded.and_then(|entry| Some((entry.answer?, entry.value.clone())));
        Ok(Place { path, answer })
    }

    /// Fails when the history knows of places that the code, which has come to its end, has not been at.
    pub(crate) fn check_end(&self) -> Result<(), StepError> {
        let Some(known) = self.known() else { return Ok(()) };
        let visited = self.visited.lock().unwrap_or_else(PoisonError::into_inner);
        // Branches that lost a race are not followed again.
        let races: Vec<String> =
            known.values().filter(|entry| entry.kind == "race").map(|entry| format!("{}.", entry.path)).collect();
        let numbered = |path: &str| path.starts_with(|c: char| c.is_ascii_digit());
        let missed = known
            .values()
            .filter(|entry| numbered(&entry.path) && !visited.contains(&entry.path))
            .find(|entry| !races.iter().any(|race| entry.path.starts_with(race.as_str())));
        match missed {
            Some(entry) => Err(mismatch(&entry.path, &described(&entry.kind, &entry.name), "the end of the function")),
            None => Ok(()),
        }
    }

    /// Whether anything is recorded at a place or after it, in the same branch.
    pub(crate) fn goes_on_at(&self, prefix: &str, next: u32) -> bool {
        self.known().is_some_and(|known| {
            known.keys().any(|path| {
                let number = path.strip_prefix(prefix).and_then(|rest| rest.split('.').next());
                number.and_then(|n| n.parse::<u32>().ok()).is_some_and(|n| n >= next)
            })
        })
    }

    /// Takes note of one more entry. Fails when there are too many.
    pub(crate) fn grow(&self, most: usize) -> Result<(), StepError> {
        let entries = self.known().map_or(0, HashMap::len) + self.saved.fetch_add(1, Ordering::Relaxed) + 1;
        if entries > most {
            return Err(StepError::fail(format!(
                "the history has more than {most} entries (setting max_history): let the function continue as new"
            ))
            .code("history_too_long"));
        }
        Ok(())
    }
}

/// An operation, for people.
pub(crate) fn described(kind: &str, name: &str) -> String {
    if name.is_empty() { kind.into() } else { format!("{kind} {name:?}") }
}

fn mismatch(path: &str, recorded: &str, code: &str) -> StepError {
    StepError::fail(format!(
        "the code no longer matches its history: at {path} the history has {recorded}, but the code has {code}"
    ))
    .code("history_mismatch")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn history(entries: &[(&str, &str, &str)]) -> History {
        let entries = entries.iter().map(|(path, kind, name)| {
            let entry = Checkpoint {
                path: (*path).into(),
                kind: (*kind).into(),
                name: (*name).into(),
                answer: Some(AnswerKind::Ok),
                value: Payload::null(),
            };
            ((*path).to_owned(), entry)
        });
        let history = History::default();
        history.recorded.set(entries.collect()).unwrap();
        history
    }

    #[tokio::test]
    async fn a_mismatch_names_both_sides() {
        let history = history(&[("0", "step", "charge")]).await;
        let error = history.visit("0".into(), "sleep", "pause").unwrap_err();
        assert_eq!(error.error_code(), Some("history_mismatch"));
        let text = error.to_string();
        assert!(text.contains("step \"charge\"") && text.contains("sleep \"pause\""), "{text}");
        assert!(history.visit("0".into(), "step", "charge").unwrap().answer.is_some());
        assert!(history.visit("1".into(), "step", "new").unwrap().answer.is_none());
    }

    #[tokio::test]
    async fn code_that_ends_before_its_history_is_found() {
        let all =
            history(&[("0", "step", "a"), ("1", "race", ""), ("1.0.0", "step", "lost"), ("approval", "decision", "")])
                .await;
        all.visit("0".into(), "step", "a").unwrap();
        assert!(all.check_end().unwrap_err().to_string().contains("race"));
        all.visit("1".into(), "race", "").unwrap();
        all.check_end().unwrap();
    }

    #[tokio::test]
    async fn what_follows_a_place_is_told_by_branch() {
        let history = history(&[("2.0.1", "step", "a")]).await;
        assert!(history.goes_on_at("2.0.", 1) && !history.goes_on_at("2.0.", 2));
        assert!(history.goes_on_at("", 2) && !history.goes_on_at("", 3) && !history.goes_on_at("2.1.", 0));
    }
}
