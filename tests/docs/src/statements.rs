//! SQL blocks are sent a statement at a time.

/// The statements of a block: split at semicolons outside of quotes and comments.
pub fn statements(code: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut statement = String::new();
    let (mut quoted, mut comment) = (false, false);
    let mut characters = code.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\n' if comment => comment = false,
            _ if comment => continue,
            '-' if !quoted && characters.peek() == Some(&'-') => {
                comment = true;
                continue;
            }
            '\'' => quoted = !quoted,
            ';' if !quoted => {
                all.push(std::mem::take(&mut statement));
                continue;
            }
            _ => {}
        }
        statement.push(c);
    }
    all.push(statement);
    all.retain(|statement| !statement.trim().is_empty());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_end_at_semicolons_outside_of_texts_and_comments() {
        let found = statements("select 'a;b'; -- c; d\nselect 2 -- e\n;\n");
        assert_eq!(found.iter().map(|s| s.trim()).collect::<Vec<_>>(), ["select 'a;b'", "select 2"]);
    }
}
