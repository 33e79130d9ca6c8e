//! A run as people name it: its id, the beginning of its id, or beginning and end as in `019b3f2a…c41d`, which is how narrow tables
//! write it.

use longhaul_scheduler::Client;
use uuid::Uuid;

use super::Failure;

/// Fewest digits of a beginning: fewer are the starts of days.
const FEWEST: usize = 6;

/// Most candidates that are named when several runs are meant.
const MOST: usize = 10;

/// A run, named in full or in part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RunRef {
    Whole(Uuid),
    /// Hexadecimal digits without hyphens.
    Part {
        prefix: String,
        tail: String,
    },
}

impl std::str::FromStr for RunRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Whole(id));
        }
        let wrong = || {
            format!(
                "an id is a UUID, as `longhaul start` and `longhaul list` print it; its first {FEWEST} characters or more are enough \
                 when no other run has them"
            )
        };
        let (prefix, tail) = text.split_once('…').or_else(|| text.split_once("..")).unwrap_or((text, ""));
        let prefix = beginning(prefix).filter(|digits| digits.len() >= FEWEST).ok_or_else(wrong)?;
        let tail = digits(tail).filter(|tail| tail.len() + prefix.len() <= 32).ok_or_else(wrong)?;
        Ok(Self::Part { prefix, tail })
    }
}

/// Digits of the beginning of an id, with hyphens where ids have them, or with none.
fn beginning(text: &str) -> Option<String> {
    const HYPHENS: [usize; 4] = [8, 13, 18, 23];
    let in_place = text.char_indices().all(|(at, c)| (c == '-') == HYPHENS.contains(&at));
    if text.contains('-') && !in_place {
        None
    } else {
        digits(&text.replace('-', "")).filter(|digits| digits.len() <= 32)
    }
}

fn digits(text: &str) -> Option<String> {
    text.chars().all(|c| c.is_ascii_hexdigit()).then(|| text.to_ascii_lowercase())
}

impl RunRef {
    /// The id. Asks the database unless it is whole.
    pub(super) async fn resolve(&self, client: &Client) -> Result<Uuid, Failure> {
        let (prefix, tail) = match self {
            Self::Whole(id) => return Ok(*id),
            Self::Part { prefix, tail } => (prefix, tail),
        };
        let database = client.database();
        let calls = database.calls().await?;
        let found = calls.runs_like(database.tenant(), prefix, tail, MOST as i32 + 1).await?;
        match found.as_slice() {
            [id] => Ok(*id),
            [] => Err(Failure::new(3, format!("there is no run whose id is {self}"))),
            several => {
                let more = if several.len() > MOST { "\nand others" } else { "" };
                let ids: Vec<String> = several.iter().take(MOST).map(Uuid::to_string).collect();
                Err(Failure::usage(format!("{self} may be one of several runs:\n{}{more}", ids.join("\n"))))
            }
        }
    }

    /// The ids of some runs, or the first thing that is wrong.
    pub(super) async fn resolve_all(runs: &[Self], client: &Client) -> Result<Vec<Uuid>, Failure> {
        let mut ids = Vec::with_capacity(runs.len());
        for run in runs {
            ids.push(run.resolve(client).await?);
        }
        Ok(ids)
    }

    /// The id of a run that need not be named.
    pub(super) async fn resolve_optional(run: Option<&Self>, client: &Client) -> Result<Option<Uuid>, Failure> {
        match run {
            Some(run) => Ok(Some(run.resolve(client).await?)),
            None => Ok(None),
        }
    }
}

impl std::fmt::Display for RunRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(id) => id.fmt(f),
            Self::Part { prefix, tail } => write!(f, "{prefix}…{tail}"),
        }
    }
}

/// An id as narrow tables write it: `019b3f2a…c41d`.
pub(super) fn short(id: Uuid) -> String {
    let text = id.simple().to_string();
    format!("{}…{}", &text[..8], &text[28..])
}

/// A text for a narrow table, whose ids are as short; `None` when there are none in it.
pub(super) fn with_short_ids(text: &str) -> Option<String> {
    const LENGTH: usize = uuid::fmt::Hyphenated::LENGTH;
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut found) = (text, false);
    while let Some(c) = rest.chars().next() {
        match rest.get(..LENGTH).and_then(|part| Uuid::try_parse(part).ok()) {
            Some(id) => {
                out.push_str(&short(id));
                rest = &rest[LENGTH..];
                found = true;
            }
            None => {
                out.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    found.then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_in_texts_are_shortened() {
        let id = Uuid::now_v7();
        assert_eq!(
            with_short_ids(&format!("ä longhaul resume {id}, {id}")),
            Some(format!("ä longhaul resume {0}, {0}", short(id)))
        );
        for plain in ["", "no id", "019b3f2a-0000-7000-8000", "ä019b3f2a-0000-7000-8000-00000000aaa"] {
            assert_eq!(with_short_ids(plain), None, "{plain}");
        }
    }

    #[test]
    fn a_run_is_named_by_its_beginning_or_by_beginning_and_end() {
        let id = Uuid::now_v7();
        let (whole, simple) = (id.to_string(), id.simple().to_string());
        assert_eq!(whole.parse(), Ok(RunRef::Whole(id)));
        let part = |prefix: &str, tail: &str| Ok(RunRef::Part { prefix: prefix.into(), tail: tail.into() });
        assert_eq!(whole[..8].parse(), part(&simple[..8], ""));
        assert_eq!(whole[..9].parse(), part(&simple[..8], ""));
        assert_eq!(whole[..20].to_uppercase().parse(), part(&simple[..17], ""));
        assert_eq!(simple[..17].parse(), part(&simple[..17], ""));
        assert_eq!(short(id).parse(), part(&simple[..8], &simple[28..]));
        assert_eq!(short(id).replace('…', "..").parse(), part(&simple[..8], &simple[28..]));
        for wrong in [
            "",
            "123",
            "order",
            "RUN",
            "queue",
            &whole[1..],
            "0190000-0",
            "019b3f2a…xyz",
            "…c41d",
            &format!("{simple}0"),
        ] {
            assert!(wrong.parse::<RunRef>().unwrap_err().contains("longhaul list"), "{wrong}");
        }
    }
}
