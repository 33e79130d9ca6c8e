//! What a page shows as output, beside what was said.

/// Each line that is shown must have been said, in this order. `…` stands for anything; spaces count once.
pub fn compare(shown: &str, said: &str) -> Result<(), String> {
    let mut lines = said.lines().map(plain);
    for expected in shown.lines().map(plain).filter(|line| !is_frame(line)) {
        if !lines.any(|line| matches(&expected, &line)) {
            return Err(format!("the page shows\n  {expected}\nwhich was not said, or not in this order:\n{said}"));
        }
    }
    Ok(())
}

fn plain(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What psql draws around a table, and empty lines.
fn is_frame(line: &str) -> bool {
    line.chars().all(|c| matches!(c, '-' | '+' | ' ')) || (line.starts_with('(') && line.ends_with("row)"))
}

fn matches(expected: &str, line: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, between)) = parts.split_last() else { return rest.is_empty() };
    for part in between {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ellipsis_stands_for_anything() {
        assert!(compare("a … c\n\nlast", "a b c\nother\nlast\n").is_ok());
        assert!(compare("last\na", "a\nlast").is_err(), "the order counts");
        assert!(compare("a…", "ba").is_err() && compare("a", "ab").is_err());
    }
}
