//! What the programs share: how they are called, and what they print.

use std::error::Error;

/// Jobs and settings of a call: `PROGRAM JOBS SETTINGS`, the settings a JSON object of numbers.
#[derive(Debug)]
pub struct Call {
    pub jobs: u64,
    settings: serde_json::Map<String, serde_json::Value>,
}

impl Call {
    pub fn read() -> Result<Self, Box<dyn Error>> {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let [jobs, settings] = arguments.as_slice() else { return Err("usage: PROGRAM JOBS SETTINGS".into()) };
        Ok(Self { jobs: jobs.parse()?, settings: serde_json::from_str(settings)? })
    }

    /// The setting of this name; one that nobody gave is an error.
    pub fn setting<T: TryFrom<u64>>(&self, name: &str) -> Result<T, Box<dyn Error>> {
        let value = self.settings.get(name).and_then(serde_json::Value::as_u64);
        value.and_then(|v| T::try_from(v).ok()).ok_or_else(|| format!("setting {name} is missing or too large").into())
    }
}

/// Prints the line of JSON.
pub fn print(enqueued_per_s: f64, drained_per_s: f64) {
    println!("{}", serde_json::json!({ "enqueued_per_s": enqueued_per_s, "drained_per_s": drained_per_s }));
}
