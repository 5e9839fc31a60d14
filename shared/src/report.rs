//! Errors as an operator reads them: with everything that caused them.

use std::error::Error;
use std::fmt;

/// Writes an error and its causes in one line, the outermost first.
///
/// ```
/// use tidegate_shared::report::Chain;
///
/// let error = "x".parse::<u8>().unwrap_err();
/// assert_eq!(Chain(&error).to_string(), "invalid digit found in string");
/// ```
#[derive(Debug)]
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("can't read the port")]
    struct Outer(#[source] std::num::ParseIntError);

    #[test]
    fn causes_follow_the_error() {
        let error = Outer("x".parse::<u8>().unwrap_err());
        let text = Chain(&error).to_string();
        assert_eq!(text, "can't read the port: invalid digit found in string");
    }
}
