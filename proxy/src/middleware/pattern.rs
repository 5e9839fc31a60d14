//! Regular expressions among the options, with bounded size.

use regex::bytes::{Regex, RegexBuilder};

use super::BuildError;

/// The most memory that one compiled expression may take, in bytes.
const SIZE_LIMIT: usize = 1024 * 1024;

/// Compiles the expression of an option.
pub(super) fn compile(key: &str, expression: &str) -> Result<Regex, BuildError> {
    RegexBuilder::new(expression)
        .size_limit(SIZE_LIMIT)
        .build()
        .map_err(|error| BuildError::option(key, last_line(&error.to_string())))
}

/// Replaces all matches, with `$1` and the like in the replacement. What is not
/// UTF-8 afterwards (an expression may cut a character in two) is replaced.
pub(super) fn replace(regex: &Regex, text: &str, replacement: &str) -> String {
    let replaced = regex.replace_all(text.as_bytes(), replacement.as_bytes());
    String::from_utf8_lossy(&replaced).into_owned()
}

/// The message proper of an error that may draw the expression above it.
fn last_line(message: &str) -> &str {
    let line = message.lines().last().unwrap_or(message).trim();
    line.strip_prefix("error: ").unwrap_or(line)
}
