//! What somebody may have meant who misspelt a name.

/// `; did you mean NAME?`, if one of the known names is close.
pub(crate) fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let closest = known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&name.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.chars().count() / 4)
        .min();
    closest.map(|(_, candidate)| format!("; did you mean {candidate}?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_close_names_are_meant() {
        let known = ["command", "http", "order.pack"];
        assert_eq!(did_you_mean("comand", known), "; did you mean command?");
        assert_eq!(did_you_mean("order.pcak", known), "; did you mean order.pack?");
        assert_eq!(did_you_mean("mail.send", known), "");
    }
}
