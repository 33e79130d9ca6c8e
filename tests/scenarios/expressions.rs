//! The expressions and the data that scenarios use, and what they come to, decided apart from the database.

use serde_json::{Value, json};

pub const NUMBER: &str = "$.input.n > 3";
pub const TIME: &str = "$.input.at.datetime() < \"2024-01-01T00:00:00+00:00\".datetime()";
pub const FLAG: &str = "$.input.flag == true";
pub const ITEM_TIME: &str = "$.item.at.datetime() < \"2024-01-01T00:00:00+00:00\".datetime()";

/// What an expression comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    Holds,
    HoldsNot,
    /// Neither: the step fails.
    Neither,
    /// The data cannot be used.
    Unusable,
    /// Not for the oracle to say.
    Unsure,
}

/// What a condition comes to.
pub fn truth(expression: &str, input: &Value) -> Truth {
    match expression {
        NUMBER => match &input["n"] {
            Value::Null => Truth::HoldsNot,
            Value::Number(n) => holds(n.as_f64().unwrap_or_default() > 3.0),
            Value::Array(_) => Truth::Unsure,
            _ => Truth::Neither,
        },
        FLAG => match &input["flag"] {
            Value::Null => Truth::HoldsNot,
            Value::Bool(flag) => holds(*flag),
            Value::Array(_) => Truth::Unsure,
            _ => Truth::Neither,
        },
        TIME => time(input.get("at")),
        _ => Truth::Unsure,
    }
}

/// A comparison with a time that has a zone.
pub fn time(at: Option<&Value>) -> Truth {
    match at {
        None => Truth::HoldsNot,
        Some(Value::String(text)) => match text.as_str() {
            ZONED => Truth::Holds,
            LATE => Truth::HoldsNot,
            UNZONED => Truth::Unusable,
            "soon" => Truth::Neither,
            _ => Truth::Unsure,
        },
        Some(_) => Truth::Unsure,
    }
}

fn holds(does: bool) -> Truth {
    if does { Truth::Holds } else { Truth::HoldsNot }
}

pub const ZONED: &str = "2023-01-01T00:00:00+00:00";
pub const LATE: &str = "2025-06-01T00:00:00+02:00";
pub const UNZONED: &str = "2023-01-01T00:00:00";

/// Times, most of them good.
pub fn times(odd: bool) -> Vec<Value> {
    let mut times = vec![json!(ZONED), json!(LATE)];
    if odd {
        times.extend([json!(UNZONED), json!(UNZONED), json!("soon"), json!(null), json!(5), json!([ZONED, UNZONED])]);
    }
    times
}

/// Values for any place.
pub fn values(odd: bool) -> Vec<Value> {
    let mut values = vec![json!(1), json!(5), json!("a")];
    if odd {
        values.extend([
            json!(null),
            json!(-1),
            json!(1e300),
            json!(9007199254740993_i64),
            json!(true),
            json!({"a": {"b": []}}),
            json!([]),
            json!("x".repeat(3000)),
            json!(noise()),
            json!("$.input"),
            json!("\\u0000"),
            json!(""),
        ]);
    }
    values
}

/// A text that does not compress: too long for the key of an index.
fn noise() -> String {
    let mut state = 88172645463325252_u64;
    (0..4000)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from(b'!' + 2 + (state % 80) as u8)
        })
        .filter(|c| !"'\\\"".contains(*c))
        .collect()
}
