//! Pages write `RUN` where a reader puts the id of a run.

/// `RUN` as a word of its own.
pub fn replaced(code: &str, run: &str) -> String {
    let mut out = String::new();
    let mut rest = code;
    while let Some(at) = rest.find("RUN") {
        let (before, after) = (&rest[..at], &rest[at + 3..]);
        let part_of_a_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$';
        let alone = !before.ends_with(part_of_a_word) && !after.starts_with(part_of_a_word);
        out.push_str(before);
        out.push_str(if alone { run } else { "RUN" });
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_word_run_is_replaced() {
        assert_eq!(replaced("show RUN; $RUN RUNS 'RUN'", "7"), "show 7; $RUN RUNS '7'");
    }
}
