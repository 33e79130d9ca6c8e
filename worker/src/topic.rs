//! Topics and keys of signals.

use crate::StepError;

/// Fails for a topic or a key that no sender can name.
pub(crate) fn check_topic(topic: &str, key: Option<&str>) -> Result<(), StepError> {
    let (length, key_length) = (topic.chars().count(), key.map_or(0, |key| key.chars().count()));
    if !(1..=200).contains(&length) || key_length > 500 || topic.contains('\0') || key.is_some_and(|k| k.contains('\0'))
    {
        return Err(StepError::fail(format!(
            "nobody could send that signal: a topic has 1 to 200 characters, not {length}, and a key at most 500, not {key_length}; \
             neither holds \\u0000"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_nobody_could_send_is_not_waited_for() {
        for (topic, key) in [("", None), (&*"t".repeat(201), None), ("t\0", None), ("t", Some(&*"k".repeat(501)))] {
            assert!(check_topic(topic, key).is_err(), "{topic:?}");
        }
        check_topic(&"t".repeat(200), Some(&"k".repeat(500))).unwrap();
    }
}
