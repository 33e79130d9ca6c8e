//! The one place of the program that writes to standard output and standard error.
//!
//! Names, questions and errors are texts of other people. Nothing in them reaches a terminal as a command: control characters,
//! line breaks and marks that change the direction of writing are shown as escapes. In JSON they are written as `\u…`, which
//! is the same value. What cannot be written is an error of the program, unless the reader has closed the pipe.

use std::{
    borrow::Cow,
    io::{ErrorKind, Write},
    sync::Mutex,
};

/// Why nothing more is written to a stream.
enum Broken {
    /// The reader has enough; that is no error.
    Closed,
    Failed(String),
}

static OUTPUT: Mutex<Option<Broken>> = Mutex::new(None);
static ERRORS: Mutex<Option<Broken>> = Mutex::new(None);

/// Longest part of what was lost that the error repeats: enough for the id of a run that was started.
const LOST: usize = 200;

/// Writes one line, which was made safe before, to standard output.
pub(super) fn write_output(line: &str) {
    write(&OUTPUT, std::io::stdout(), line, "standard output");
}

/// Tells the user something that is no result. Further lines of it are indented, so that they cannot pass for a message of
/// their own.
pub(crate) fn tell(text: &str) {
    for (number, line) in text.lines().enumerate() {
        let indent = if number == 0 { "" } else { "       " };
        write(&ERRORS, std::io::stderr(), &format!("{indent}{}", safe(line)), "standard error");
    }
}

/// Tells the user a text that has several lines of its own.
pub(super) fn tell_lines(text: &str) {
    for line in text.lines() {
        write(&ERRORS, std::io::stderr(), &safe(line), "standard error");
    }
}

/// Tells the user one JSON value.
pub(super) fn tell_json(value: &serde_json::Value) {
    write(&ERRORS, std::io::stderr(), &safe_json(&value.to_string()), "standard error");
}

fn write(broken: &Mutex<Option<Broken>>, mut stream: impl Write, line: &str, name: &str) {
    let mut broken = broken.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if broken.is_some() {
        return;
    }
    if let Err(error) = writeln!(stream, "{line}").and_then(|()| stream.flush()) {
        *broken = Some(match error.kind() {
            ErrorKind::BrokenPipe => Broken::Closed,
            _ => {
                let lost: String = line.chars().take(LOST).collect();
                Broken::Failed(format!("{name} cannot be written: {error}; what was lost begins with: {lost}"))
            }
        });
    }
}

/// What kept results or messages from being written, if anything did.
pub(super) fn failure() -> Option<String> {
    [&OUTPUT, &ERRORS].into_iter().find_map(|stream| {
        match &*stream.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
            Some(Broken::Failed(reason)) => Some(reason.clone()),
            _ => None,
        }
    })
}

/// Whether a terminal could take a character for a command, or show a text other than it is.
fn is_unsafe(c: char) -> bool {
    // A tab moves on and does nothing else.
    (c.is_control() && c != '\t')
        || matches!(c,
            '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A text as it may be shown.
pub(crate) fn safe(text: &str) -> Cow<'_, str> {
    escaped(text, |c, out| out.extend(c.escape_default()))
}

/// The same JSON, as it may be shown. (Outside of texts JSON has no such characters, but for the line breaks of a pretty one,
/// which is to be given line by line.)
pub(super) fn safe_json(text: &str) -> Cow<'_, str> {
    escaped(text, |c, out| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            out.push_str(&format!("\\u{unit:04x}"));
        }
    })
}

fn escaped(text: &str, escape: impl Fn(char, &mut String)) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unsafe(c) { escape(c, &mut out) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// Where the log goes: standard error, an event a line. The formatter escapes what is in fields; its own colours stay.
pub(super) struct Log {
    pub(super) colours: bool,
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let event = String::from_utf8_lossy(bytes);
        let event = event.strip_suffix('\n').unwrap_or(&event);
        let colours = self.colours;
        let mut line = String::with_capacity(event.len());
        for c in event.chars() {
            if is_unsafe(c) && !(colours && c == '\u{1b}') { line.extend(c.escape_default()) } else { line.push(c) }
        }
        // A log that is full for a while goes on when there is room again, and is no reason for its process to fail.
        let _ = writeln!(std::io::stderr(), "{line}");
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_shown_as_it_is() {
        assert_eq!(safe("a\u{1b}[31mb\u{7}\r\n\u{9b}\u{202e}c"), "a\\u{1b}[31mb\\u{7}\\r\\n\\u{9b}\\u{202e}c");
        for plain in ["Ms Müller", "日本語", "👩‍🚀", "a\"b'\\", ""] {
            assert!(matches!(safe(plain), Cow::Borrowed(_)), "{plain}");
        }
    }

    #[test]
    fn safe_json_is_the_same_value() {
        let value = serde_json::json!({ "a\u{202e}": ["\u{1b}]0;x\u{7}", "\u{9b}", "\u{e0041}", "ü"] });
        let text = value.to_string();
        let shown = safe_json(&text);
        assert!(!shown.contains(is_unsafe));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }
}
