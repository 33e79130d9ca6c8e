//! JSON on its way into the database: inputs, outputs and errors.
//!
//! Payloads are passed through as text and parsed only by whoever uses them. What PostgreSQL or a handler could not take
//! is refused here, item by item, so that one bad payload never spoils a batch.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::{Error, Result};

/// Deepest nesting of arrays and objects: what serde_json reads back.
pub const MAX_DEPTH: usize = 120;

/// Longest number, in characters, and largest exponent: beyond, PostgreSQL's `numeric` or a handler's `f64` gives up.
pub const MAX_NUMBER: usize = 300;

/// Most bytes of payloads in one call of the database. A message of the protocol cannot exceed 1 GiB, and both sides hold it
/// in memory.
pub const MAX_CALL_BYTES: usize = 16 * 1024 * 1024;

/// Splits items into calls of at most `most` items and [`MAX_CALL_BYTES`] of payloads, in their order.
pub fn into_calls<T>(items: Vec<T>, most: usize, bytes: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut calls: Vec<Vec<T>> = Vec::new();
    let mut filled = 0;
    for item in items {
        let size = bytes(&item);
        match calls.last_mut() {
            Some(call) if call.len() < most && filled + size <= MAX_CALL_BYTES => {
                filled += size;
                call.push(item);
            }
            _ => {
                filled = size;
                calls.push(vec![item]);
            }
        }
    }
    calls
}

/// JSON text that has passed the checks of [`Payload::from_text`].
#[derive(Clone, Debug)]
pub struct Payload(Box<RawValue>);

impl Payload {
    /// Serialises a value. Fails where serde_json does (maps with keys that are no strings, for example) and by the rules of
    /// [`Payload::from_text`].
    pub fn new(value: &impl Serialize) -> Result<Self> {
        let text = serde_json::to_string(value)
            .map_err(|e| Error::Invalid(format!("the value cannot be written as JSON: {e}")))?;
        check_limits(&text)?;
        let raw = RawValue::from_string(text)
            .map_err(|e| Error::Corrupt(format!("serde_json wrote what it cannot read: {e}")))?;
        Ok(Self(raw))
    }

    /// Takes JSON text: well-formed, nested at most [`MAX_DEPTH`] deep, without `\u0000` and surrogates that are not in pairs
    /// (PostgreSQL has no such characters), and without numbers of more than [`MAX_NUMBER`] characters or with an exponent beyond
    /// ±[`MAX_NUMBER`].
    pub fn from_text(text: &str) -> Result<Self> {
        check_limits(text)?;
        let raw = RawValue::from_string(text.to_owned()).map_err(|e| Error::Invalid(format!("not JSON: {e}")))?;
        Ok(Self(raw))
    }

    /// JSON `null`.
    pub fn null() -> Self {
        Self(RawValue::from_string("null".into()).expect("null is JSON"))
    }

    /// Refuses a payload of more than `max` bytes.
    pub fn check_size(&self, max: usize) -> Result<()> {
        let size = self.as_str().len();
        if size > max {
            return Err(Error::Invalid(format!(
                "the payload has {size} bytes, more than the limit of {max} (setting max_payload_bytes)"
            )));
        }
        Ok(())
    }

    /// Parses the payload.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(self.as_str()).map_err(|e| Error::Invalid(e.to_string()))
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    pub(crate) fn raw(&self) -> &RawValue {
        &self.0
    }

    /// For what the database itself has returned: it is known to be sound.
    pub(crate) fn trusted(raw: Box<RawValue>) -> Self {
        Self(raw)
    }
}

impl Serialize for Payload {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// One pass over the text: depth, `\u0000`, half characters, numbers. Well-formedness is left to serde_json.
fn check_limits(text: &str) -> Result<()> {
    let bytes = text.as_bytes();
    let mut depth = 0usize;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at = end_of_string(bytes, at)?;
                continue;
            }
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(Error::Invalid(format!(
                        "the JSON is nested more than {MAX_DEPTH} deep (at byte {at})"
                    )));
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'-' | b'0'..=b'9' => {
                at = end_of_number(bytes, at)?;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

fn end_of_string(bytes: &[u8], start: usize) -> Result<usize> {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return Ok(at + 1),
            b'\\' => at = end_of_escape(bytes, at)?,
            _ => at += 1,
        }
    }
    Ok(at)
}

/// A backslash and what belongs to it. A character beyond the first 65,536 is written as two surrogates, the high one first; one
/// without the other is no character, and PostgreSQL cannot store it. serde_json lets it pass.
fn end_of_escape(bytes: &[u8], at: usize) -> Result<usize> {
    let half = |why: &str| {
        Error::Invalid(format!("the JSON has half a character (at byte {at}: {why}), which PostgreSQL cannot store"))
    };
    match code_unit(bytes, at) {
        None => Ok(at + 2),
        Some(0) => Err(Error::Invalid(format!(
            "the JSON has the character \\u0000 (at byte {at}), which PostgreSQL cannot store"
        ))),
        Some(0xD800..=0xDBFF) => match code_unit(bytes, at + 6) {
            Some(0xDC00..=0xDFFF) => Ok(at + 12),
            _ => Err(half("a high surrogate without its low one")),
        },
        Some(0xDC00..=0xDFFF) => Err(half("a low surrogate without its high one")),
        Some(_) => Ok(at + 6),
    }
}

/// The number in an escape `\uXXXX` that begins here, if one does.
fn code_unit(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    digits.iter().try_fold(0, |number, digit| Some(number * 16 + char::from(*digit).to_digit(16)?))
}

fn end_of_number(bytes: &[u8], start: usize) -> Result<usize> {
    let length =
        bytes[start..].iter().take_while(|b| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')).count();
    let number = &bytes[start..start + length];
    let exponent = number.iter().position(|b| matches!(b, b'e' | b'E')).map(|e| &number[e + 1..]);
    let exponent_fits = exponent.is_none_or(|e| {
        std::str::from_utf8(e).is_ok_and(|e| e.parse::<i64>().is_ok_and(|e| e.unsigned_abs() <= MAX_NUMBER as u64))
    });
    if length > MAX_NUMBER || !exponent_fits {
        return Err(Error::Invalid(format!(
            "the JSON has a number that is too large (at byte {start}): at most {MAX_NUMBER} characters and exponents up to {MAX_NUMBER}"
        )));
    }
    Ok(start + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_json_passes_unchanged() {
        for text in [
            r#"{"a":[1,-2.5e10,"x\\u0000 is text here"],"b":null}"#,
            "3",
            r#""\\""#,
            "[]",
            r#""ä\n""#,
            r#""\ud83d\ude00 \uD83D\uDE00 \\ud800 \u00e9""#,
        ] {
            assert_eq!(Payload::from_text(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn what_cannot_be_stored_is_refused_with_the_place() {
        let deep = format!("{}{}", "[".repeat(MAX_DEPTH + 1), "]".repeat(MAX_DEPTH + 1));
        for (text, reason) in [
            (r#"{"a":"x\u0000"}"#, "\\u0000"),
            (r#""\ud800""#, "half a character (at byte 1"),
            (r#"{"\udC00":1}"#, "half a character (at byte 2"),
            (r#"["a", "\ud800\ud800\udc00"]"#, "half a character (at byte 7"),
            (r#""\ud83dx\ude00""#, "half a character"),
            (r#""\ud83d\n""#, "half a character"),
            (r#""\ud83d"#, "half a character"),
            ("1e999999", "too large"),
            (&"9".repeat(MAX_NUMBER + 1), "too large"),
            (deep.as_str(), "deep"),
            ("{\"a\":", "not JSON"),
            ("", "not JSON"),
            ("nul", "not JSON"),
            ("1 2", "not JSON"),
        ] {
            let error = Payload::from_text(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text:.20}: {error}");
        }
    }

    #[test]
    fn the_deepest_allowed_value_can_be_read_back() {
        let text = format!("{}{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
        Payload::from_text(&text).unwrap().read::<serde_json::Value>().unwrap();
    }

    #[test]
    fn calls_are_bounded_in_items_and_bytes() {
        let sizes = |items: Vec<usize>| -> Vec<usize> { into_calls(items, 3, |i| *i).iter().map(Vec::len).collect() };
        assert_eq!(sizes(vec![1; 7]), [3, 3, 1]);
        assert_eq!(sizes(vec![MAX_CALL_BYTES, 1, 1]), [1, 2]);
        assert_eq!(sizes(vec![MAX_CALL_BYTES + 1, MAX_CALL_BYTES]), [1, 1]);
        assert_eq!(sizes(vec![]), [0; 0]);
    }

    #[test]
    fn the_limit_counts_bytes() {
        let payload = Payload::new(&"ää").unwrap();
        payload.check_size(6).unwrap();
        assert!(payload.check_size(5).unwrap_err().to_string().contains("6 bytes"));
    }
}
