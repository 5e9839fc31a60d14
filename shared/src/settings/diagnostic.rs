//! What an operator is told about a setting.

use std::fmt;

use serde::Serialize;

use super::Origin;

/// Quotations in complaints are cut after this many characters.
const QUOTED: usize = 80;

/// How bad a [`Diagnostic`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The setting has no effect, or not the one that was hoped for; what it
    /// belongs to works.
    Warning,
    /// What the setting belongs to is left out.
    Error,
}

/// What is wrong with a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Problem {
    /// No such key.
    Unknown,
    /// Traefik knows the key; this version of Tidegate does not obey it.
    Unsupported,
    /// The key is right, its value is not.
    Invalid,
}

/// One complaint about one setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub problem: Problem,
    /// Where the setting was written.
    pub origin: Origin,
    /// The dotted path of the setting, for example `http.routers.web.rule`;
    /// empty for a complaint about a file or an owner of labels as a whole.
    pub key: String,
    /// What is wrong, in words; a sentence without its final stop.
    pub message: String,
}

impl Diagnostic {
    /// A value that can't be used: what it belongs to is left out.
    pub fn invalid(origin: Origin, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            problem: Problem::Invalid,
            origin,
            key: key.into(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => write!(f, "{}: {}", self.origin, self.message),
            key => write!(f, "{}: {key}: {}", self.origin, self.message),
        }
    }
}

/// `text` in quotes, cut if it is long: whoever wrote it does not decide how
/// much of the log it fills.
pub(super) fn quote(text: &str) -> String {
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{:?}...", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}
