//! What can be wrong with a rule.
//!
//! Every error names the byte at which it was noticed, so that whoever wrote
//! the label can find it. Errors are made while a rule is parsed or compiled
//! and never while a request is matched.

use thiserror::Error;

/// A rule that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{problem} (at byte {position} of the rule)")]
pub struct RuleError {
    /// Byte offset in the rule's text, counted from 0.
    pub position: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// The reasons for which a rule is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Problem {
    /// There is no rule text at all.
    #[error("the rule is empty")]
    Empty,
    /// The text is longer than [`super::MAX_LENGTH`].
    #[error("the rule has {length} bytes, more than the {limit} allowed")]
    TooLong {
        /// Its length in bytes.
        length: usize,
        /// The longest accepted.
        limit: usize,
    },
    /// Parentheses and negations are nested deeper than [`super::MAX_DEPTH`].
    #[error("the rule is nested deeper than {0} levels")]
    TooDeep(usize),
    /// More regular expressions than [`super::MAX_REGEXES`].
    #[error("the rule has more than {0} regular expressions")]
    TooManyRegexes(usize),
    /// Something else than the grammar asks for.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// What could stand here.
        expected: &'static str,
        /// What does.
        found: String,
    },
    /// A string without its closing quote.
    #[error("the string has no closing {0}")]
    UnclosedString(char),
    /// A `/*` without `*/`.
    #[error("the comment has no end")]
    UnclosedComment,
    /// A backslash sequence which Go's strings don't know.
    #[error("{0:?} is no escape sequence in a double-quoted string; use backticks")]
    BadEscape(String),
    /// A function that is not a matcher of this syntax.
    #[error("there is no matcher {name:?}{advice}")]
    UnknownMatcher {
        /// The name as written.
        name: String,
        /// What to write instead, with its own punctuation, or nothing.
        advice: String,
    },
    /// Too few or too many arguments.
    #[error("{matcher} takes {expected}, not {count}{advice}")]
    ArgumentCount {
        /// The matcher's name.
        matcher: &'static str,
        /// The accepted counts, in words.
        expected: &'static str,
        /// How many there are.
        count: usize,
        /// What to write instead, with its own punctuation, or nothing.
        advice: String,
    },
    /// An argument that is the empty string.
    #[error("{0} has an empty argument")]
    EmptyArgument(&'static str),
    /// Host names are compared in their ASCII form.
    #[error("{matcher} accepts ASCII only, {value:?} must be written in punycode")]
    NotAscii {
        /// The matcher's name.
        matcher: &'static str,
        /// The argument.
        value: String,
    },
    /// A path that could never match.
    #[error("the path {0:?} does not start with a slash")]
    RelativePath(String),
    /// Neither an IP address nor a network in CIDR notation.
    #[error("{0:?} is neither an IP address nor a network such as 10.0.0.0/8")]
    BadAddress(String),
    /// A regular expression that doesn't compile.
    #[error("the regular expression {pattern:?} is invalid: {reason}")]
    BadRegex {
        /// The expression as written.
        pattern: String,
        /// Why it is refused.
        reason: String,
    },
    /// A `{name:regexp}` template that isn't well formed.
    #[error("the template {template:?} is invalid: {reason}")]
    BadTemplate {
        /// The template as written.
        template: String,
        /// Why it is refused.
        reason: &'static str,
    },
}

impl Problem {
    /// This problem, noticed at a byte of the rule.
    pub(super) const fn at(self, position: usize) -> RuleError {
        RuleError {
            position,
            problem: self,
        }
    }
}
