//! Lines that Tidegate is to keep, and whether it did.

use std::fmt;

/// One line to keep.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// What was to be so, with the figure that was found.
    pub text: String,
    /// Whether it is.
    pub is_met: bool,
}

impl Verdict {
    /// A line and whether it was kept.
    #[must_use]
    pub fn new(is_met: bool, text: String) -> Self {
        Self { text, is_met }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.is_met { "met" } else { "MISSED" };
        write!(formatter, "{word}: {}", self.text)
    }
}
