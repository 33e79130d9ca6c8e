//! Pages write `RUN` where a reader puts the id of a run, and in SQL `'…'` and `WORKER`.

/// A word of its own, replaced.
pub fn word(code: &str, word: &str, value: &str) -> String {
    let mut out = String::new();
    let mut rest = code;
    while let Some(at) = rest.find(word) {
        let (before, after) = (&rest[..at], &rest[at + word.len()..]);
        let part_of_a_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$';
        let alone = !before.ends_with(part_of_a_word) && !after.starts_with(part_of_a_word);
        out.push_str(before);
        out.push_str(if alone { value } else { word });
        rest = after;
    }
    out + rest
}

/// The id of a run in SQL: `'RUN'` or `'…'`.
pub fn run_in_sql(code: &str, run: &str) -> String {
    word(code, "RUN", run).replace("'…'", &format!("'{run}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_words_are_replaced() {
        assert_eq!(word("show RUN; $RUN RUNS 'RUN'", "RUN", "7"), "show 7; $RUN RUNS '7'");
        assert_eq!(run_in_sql("why('…', 'RUN', 'a …')", "7"), "why('7', '7', 'a …')");
    }
}
