//! libpq's password file: lines of `host:port:database:user:password`, `*` matches all, a backslash escapes `:` and `\`.

use std::path::Path;

use tokio_postgres::config::Host;

/// The password of the first line that matches. As libpq does, a file that others can read is passed over.
pub(super) fn find(file: &Path, postgres: &tokio_postgres::Config) -> Option<String> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        if std::fs::metadata(file).ok()?.permissions().mode() & 0o077 != 0 {
            tracing::warn!(file = %file.display(), "the password file can be read by others and is not used; chmod 600");
            return None;
        }
    }
    let text = std::fs::read_to_string(file).ok()?;
    let host = match postgres.get_hosts().first()? {
        Host::Tcp(name) => name.clone(),
        #[cfg(unix)]
        Host::Unix(_) => "localhost".into(),
    };
    let port = postgres.get_ports().first().copied().unwrap_or(5432).to_string();
    let user = postgres.get_user()?;
    find_line(&text, [&host, &port, postgres.get_dbname().unwrap_or(user), user])
}

fn find_line(text: &str, wanted: [&str; 4]) -> Option<String> {
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = split(line);
        let (password, keys) = fields.split_last()?;
        (keys.len() == 4 && keys.iter().zip(wanted).all(|(key, want)| key == "*" || key == want))
            .then(|| password.clone())
    })
}

fn split(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => fields.last_mut().expect("never empty").extend(characters.next()),
            // The password is the fifth field, and may hold colons.
            ':' if fields.len() < 5 => fields.push(String::new()),
            c => fields.last_mut().expect("never empty").push(c),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_matching_line_counts() {
        let text = "# comment\nother:*:*:*:no\ndb:5432:*:anna:a\\:b:c\n*:*:*:*:all\n";
        assert_eq!(find_line(text, ["db", "5432", "x", "anna"]).as_deref(), Some("a:b:c"));
        assert_eq!(find_line(text, ["db", "5432", "x", "bert"]).as_deref(), Some("all"));
        assert_eq!(find_line("db:1:x:y", ["db", "1", "x", "y"]), None);
    }
}
