//! What was measured, printed as it comes and once more side by side.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The figures of a scenario.
#[derive(Clone, Debug)]
pub struct Figures {
    column: String,
}

/// By what was measured, then by whom.
static ALL: Mutex<BTreeMap<String, BTreeMap<String, String>>> = Mutex::new(BTreeMap::new());

impl Figures {
    /// Of one column of the table.
    #[must_use]
    pub fn of(column: &str) -> Self {
        Self {
            column: column.to_owned(),
        }
    }

    /// Keeps and prints one.
    #[expect(clippy::print_stdout, reason = "it is what the lab is for")]
    pub fn add(&self, what: &str, value: impl Display) {
        println!("figure: {}: {what}: {value}", self.column);
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        let row = all.entry(what.to_owned()).or_default();
        row.insert(self.column.clone(), value.to_string());
    }

    /// A distribution: median (longest) of so many.
    #[must_use]
    pub fn spread(durations: &[Duration]) -> String {
        let mut sorted = durations.to_vec();
        sorted.sort();
        let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
        let longest = sorted.last().copied().unwrap_or_default();
        format!(
            "{} ({}) s of {}",
            seconds(median),
            seconds(longest),
            sorted.len()
        )
    }

    /// All so far, as a table in Markdown.
    #[must_use]
    pub fn table() -> String {
        let all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        let mut columns: Vec<_> = all.values().flat_map(BTreeMap::keys).collect();
        columns.sort();
        columns.dedup();
        let mut table = String::from("| measured |");
        for column in &columns {
            table.push_str(&format!(" {column} |"));
        }
        table.push_str(&format!("\n|---|{}\n", "---|".repeat(columns.len())));
        for (what, row) in all.iter() {
            table.push_str(&format!("| {what} |"));
            for column in &columns {
                let value = row.get(*column).map_or("", String::as_str);
                table.push_str(&format!(" {value} |"));
            }
            table.push('\n');
        }
        table
    }
}

/// Seconds with milliseconds.
fn seconds(duration: Duration) -> String {
    format!("{:.3}", duration.as_secs_f64())
}
