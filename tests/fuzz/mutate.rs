//! Input that nobody would write: a corpus, mutated and spliced.

use rand::{Rng, rngs::StdRng, seq::IndexedRandom};

/// What parsers stumble over.
const TOKENS: &[&str] = &[
    "\0",
    "\u{feff}",
    "\u{202e}",
    "é",
    "💥",
    "'",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "{",
    "}",
    "[",
    "]",
    "*",
    "/",
    "-",
    ",",
    "#",
    "L",
    "W",
    "?",
    "%",
    "$",
    "$.",
    "@",
    "..",
    "&a",
    "*a",
    "<<: *a",
    "!!python/object",
    "- ",
    ": ",
    "\n",
    "\r\n",
    "\t",
    "0",
    "-1",
    "1e309",
    "NaN",
    "2147483648",
    "9223372036854775808",
    "null",
    "true",
    "after",
    "steps",
    "retry",
    "for_each",
    "when",
    "==",
    "&&",
    "like_regex",
];

/// One of the corpus, changed in up to five places.
pub fn mutated(corpus: &[Vec<u8>], random: &mut StdRng) -> Vec<u8> {
    let mut input = corpus.choose(random).cloned().unwrap_or_default();
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(0..=input.len());
        match random.random_range(0..7) {
            0 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
            1 if at < input.len() => {
                input.remove(at);
            }
            2 => {
                let token = TOKENS.choose(random).expect("there are tokens");
                input.splice(at..at, token.bytes());
            }
            3 => {
                // A part of another one.
                let other = corpus.choose(random).cloned().unwrap_or_default();
                let from = random.random_range(0..=other.len());
                let to = random.random_range(from..=other.len());
                input.splice(at..at, other[from..to].iter().copied());
            }
            4 => input.truncate(at),
            5 => {
                // The same again and again: depth, and length.
                let part = input[at.saturating_sub(random.random_range(1..8))..at].to_vec();
                let times = if random.random_ratio(1, 20) { 5000 } else { random.random_range(1..20) };
                input.splice(at..at, part.repeat(times));
            }
            _ => input.insert(at, random.random()),
        }
        input.truncate(200_000);
    }
    input
}
