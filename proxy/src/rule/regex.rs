//! Regular expressions as Go's RE2 reads them, run by the `regex` crate.
//!
//! Both are the same family without backtracking, but their syntax differs at
//! the edges, so `rewrite` translates before anything is compiled. The memory
//! of each expression is bounded; matching is unanchored. Called by the
//! builders of matchers and middlewares, and by matchers at request time.

mod rewrite;

use ::regex::{Regex, RegexBuilder};

use super::error::Problem;

/// The most memory one compiled expression may take, in bytes.
const SIZE_LIMIT: usize = 1024 * 1024;
/// The most memory the lazily built automaton of one may take, in bytes.
const CACHE_LIMIT: usize = 512 * 1024;
/// How deep groups may be nested.
const NEST_LIMIT: u32 = 200;

/// What a group of this name in Go is called in a compiled expression.
pub(crate) fn group_name(name: &str) -> String {
    format!("{}{name}", rewrite::NAME_PREFIX)
}

/// Compiles an expression written for Go.
///
/// # Errors
///
/// What is wrong with it, in a few words.
pub(crate) fn compile(expression: &str) -> Result<Regex, String> {
    RegexBuilder::new(&rewrite::rewrite(expression)?)
        .size_limit(SIZE_LIMIT)
        .dfa_size_limit(CACHE_LIMIT)
        .nest_limit(NEST_LIMIT)
        .build()
        .map_err(|error| last_line(&error.to_string()))
}

/// A compiled expression.
#[derive(Clone, Debug)]
pub(super) struct Pattern(Regex);

impl Pattern {
    pub(super) fn new(expression: &str) -> Result<Self, Problem> {
        let bad = |reason| Problem::BadRegex {
            pattern: expression.to_owned(),
            reason,
        };
        compile(expression).map(Self).map_err(bad)
    }

    /// Whether the expression occurs in the text. Bytes that are not UTF-8
    /// count as replacement characters, as in Go.
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        self.0.is_match(&String::from_utf8_lossy(text))
    }
}

/// The message proper of an error that may draw the expression above it.
fn last_line(message: &str) -> String {
    let line = message.lines().last().unwrap_or(message).trim();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_what_go_matches() {
        for (expression, yes, no) in [
            ("b", "abc", "ac"),
            ("^a$", "a", "a\n"),
            ("(?m)^a$", "b\na\nc", "b"),
            ("a.c", "abc", "a\nc"),
            ("(?s)a.c", "a\nc", "ac"),
            ("(?i)k", "\u{212a}", "x"),
            ("{a}", "{a}", "a"),
            ("a{,2}", "a{,2}", "aa"),
            ("a{2}b", "aab", "ab"),
            ("a{2", "a{2", "aa"),
            ("^\\d$", "7", "\u{0661}"),
            ("^\\w$", "_", "é"),
            ("^\\W$", "é", "w"),
            ("^\\s$", "\t", "\u{a0}"),
            ("é\\ba", "éa", "éé"),
            ("^[[a]$", "[", "b"),
            ("^[a&&b]$", "&", "c"),
            ("^[]a]$", "]", "b"),
            ("^[[:digit:][:^alpha:]]$", "7", "a"),
            ("^[[:]$", ":", "a"),
            ("^[a-]$", "-", "b"),
            ("^[^\\D5]$", "4", "5"),
            ("^[\\x41-\\x{43}]$", "B", "D"),
            ("^\\pL\\p{Greek}\\PN\\p{^L}$", "aα--", "aα1-"),
            ("\\Qa.b\\E$", "a.b", "axb"),
            ("a\\.b\\_\\-", "a.b_-", "axb_-"),
            ("^(?P<x>a)(?<y>b)$", "ab", "a"),
            ("^(?U)a+$", "aa", "b"),
            ("^\\101\\0$", "A\0", "a"),
            ("a b#", "a b#", "ab#"),
            ("(?i-i)(?iis-U:A)a", "aa", "aA"),
        ] {
            let pattern = Pattern::new(expression).unwrap_or_else(|e| panic!("{e}"));
            assert!(pattern.matches(yes.as_bytes()), "{expression} on {yes:?}");
            assert!(!pattern.matches(no.as_bytes()), "{expression} on {no:?}");
        }
        let any = Pattern::new("^.$").unwrap();
        assert!(any.matches(b"\xff"));
    }

    #[test]
    fn refuses_what_go_refuses() {
        for expression in [
            "(a",
            "a)",
            "*a",
            "a**",
            "a+*",
            "a{2}{3}",
            "a|*",
            "[a",
            "[b-a]",
            "[[:nope:]]",
            "\\1",
            "\\Z",
            "\\C",
            "\\q",
            "\\",
            "(?x)a",
            "(?u)a",
            "(?=a)",
            "(?!a)",
            "(?<=a)",
            "(?P<a-b>c)",
            "(?P<a>b)(?P<a>c)",
            "\\p{Nope}",
            "a{1001}",
            "a{3,2}",
            "\\x{110000}",
            "(?i-)a",
        ] {
            assert!(Pattern::new(expression).is_err(), "{expression}");
        }
    }
}
