//! `constraints`: an expression that a container's labels must meet.
//!
//! Knows `Label("name", "value")`, `LabelRegex("name", "regex")`, `&&`, `||`, `!`
//! and parentheses. Parsed once at start, so that a mistake stops the start and
//! not each container. A label that is not there counts as empty.

use std::collections::BTreeMap;

use regex::Regex;
use thiserror::Error;

/// Deepest nesting, so that no expression exhausts the stack.
const DEEPEST: usize = 64;

/// A parsed expression.
#[derive(Clone, Debug, Default)]
pub struct Constraint(Option<Expression>);

/// The expression can't be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConstraintError {
    /// Something else belongs where this stands.
    #[error("expected {expected} at {found:?}")]
    Unexpected {
        /// What belongs there.
        expected: &'static str,
        /// What stands there, up to the end.
        found: String,
    },
    /// Only two functions exist.
    #[error("unknown function {0:?}; there are Label and LabelRegex")]
    Function(String),
    /// The regular expression is none.
    #[error("{pattern:?} is not a regular expression: {message}")]
    Regex {
        /// What is written.
        pattern: String,
        /// Why it is none.
        message: String,
    },
    /// Too many parentheses or negations.
    #[error("nested more than {DEEPEST} levels deep")]
    TooDeep,
}

#[derive(Clone, Debug)]
enum Expression {
    Label(String, String),
    LabelRegex(String, Regex),
    Not(Box<Self>),
    All(Vec<Self>),
    Any(Vec<Self>),
}

impl Constraint {
    /// Reads an expression; an empty one is always met.
    ///
    /// # Errors
    /// When the text is no such expression.
    pub fn parse(text: &str) -> Result<Self, ConstraintError> {
        if text.trim().is_empty() {
            return Ok(Self(None));
        }
        let mut parser = Parser { rest: text };
        let expression = parser.any(0)?;
        match parser.skip_space() {
            "" => Ok(Self(Some(expression))),
            _ => Err(parser.unexpected("the end, && or ||")),
        }
    }

    /// Whether `labels` meet the expression.
    pub fn is_met(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0
            .as_ref()
            .is_none_or(|expression| expression.is_met(labels))
    }
}

impl Expression {
    fn is_met(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = |name: &str| labels.get(name).map_or("", String::as_str);
        match self {
            Self::Label(name, expected) => value(name) == expected,
            Self::LabelRegex(name, regex) => regex.is_match(value(name)),
            Self::Not(inner) => !inner.is_met(labels),
            Self::All(inner) => inner.iter().all(|expression| expression.is_met(labels)),
            Self::Any(inner) => inner.iter().any(|expression| expression.is_met(labels)),
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn skip_space(&mut self) -> &'a str {
        self.rest = self.rest.trim_start();
        self.rest
    }

    fn take(&mut self, token: &str) -> bool {
        match self.skip_space().strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: &str, expected: &'static str) -> Result<(), ConstraintError> {
        if self.take(token) {
            return Ok(());
        }
        Err(self.unexpected(expected))
    }

    fn unexpected(&self, expected: &'static str) -> ConstraintError {
        ConstraintError::Unexpected {
            expected,
            found: self.rest.to_owned(),
        }
    }

    fn any(&mut self, depth: usize) -> Result<Expression, ConstraintError> {
        let mut parts = vec![self.all(depth)?];
        while self.take("||") {
            parts.push(self.all(depth)?);
        }
        Ok(one_or(parts, Expression::Any))
    }

    fn all(&mut self, depth: usize) -> Result<Expression, ConstraintError> {
        let mut parts = vec![self.one(depth)?];
        while self.take("&&") {
            parts.push(self.one(depth)?);
        }
        Ok(one_or(parts, Expression::All))
    }

    fn one(&mut self, depth: usize) -> Result<Expression, ConstraintError> {
        if depth >= DEEPEST {
            return Err(ConstraintError::TooDeep);
        }
        if self.take("!") {
            return Ok(Expression::Not(Box::new(self.one(depth + 1)?)));
        }
        if self.take("(") {
            let inner = self.any(depth + 1)?;
            self.expect(")", "a closing parenthesis")?;
            return Ok(inner);
        }
        self.call()
    }

    fn call(&mut self) -> Result<Expression, ConstraintError> {
        let rest = self.skip_space();
        let end = rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        let (function, after) = rest.split_at(end);
        if function.is_empty() {
            return Err(self.unexpected("Label or LabelRegex"));
        }
        if !matches!(function, "Label" | "LabelRegex") {
            return Err(ConstraintError::Function(function.to_owned()));
        }
        self.rest = after;
        self.expect("(", "an opening parenthesis")?;
        let name = self.text()?;
        self.expect(",", "a comma and the second text")?;
        let value = self.text()?;
        self.expect(")", "a closing parenthesis after two texts")?;
        if function == "Label" {
            return Ok(Expression::Label(name, value));
        }
        match Regex::new(&value) {
            Ok(regex) => Ok(Expression::LabelRegex(name, regex)),
            Err(error) => Err(ConstraintError::Regex {
                pattern: value,
                message: error.to_string(),
            }),
        }
    }

    /// A text in backticks (taken as it is) or double quotes (with escapes).
    fn text(&mut self) -> Result<String, ConstraintError> {
        let rest = self.skip_space();
        let read = match rest.as_bytes().first() {
            Some(b'`') => raw_text(rest),
            Some(b'"') => quoted_text(rest),
            _ => None,
        };
        let (text, after) = read.ok_or_else(|| self.unexpected("a text in quotes"))?;
        self.rest = after;
        Ok(text)
    }
}

fn one_or(mut parts: Vec<Expression>, many: fn(Vec<Expression>) -> Expression) -> Expression {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            many(parts)
        }
        None => many(parts),
    }
}

/// The text in the backticks that `rest` begins with, and what follows.
pub(super) fn raw_text(rest: &str) -> Option<(String, &str)> {
    let (text, after) = rest.strip_prefix('`')?.split_once('`')?;
    Some((text.to_owned(), after))
}

/// The text in the double quotes that `rest` begins with, with Go's common
/// escapes resolved, and what follows.
pub(super) fn quoted_text(rest: &str) -> Option<(String, &str)> {
    let body = rest.strip_prefix('"')?;
    let mut text = String::new();
    let mut chars = body.char_indices();
    while let Some((index, c)) = chars.next() {
        match c {
            '"' => return Some((text, body.get(index + 1..)?)),
            '\n' => return None,
            '\\' => match chars.next()?.1 {
                c @ ('"' | '\\' | '\'') => text.push(c),
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'r' => text.push('\r'),
                _ => return None,
            },
            c => text.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> BTreeMap<String, String> {
        [("a", "1"), ("b", "two words"), ("c", "x-42")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn decides_over_labels() {
        for (text, expected) in [
            ("", true),
            ("  ", true),
            (r#"Label("a", "1")"#, true),
            ("Label(`a`,`1`)", true),
            (r#"Label("a", "2")"#, false),
            (r#"Label("missing", "")"#, true),
            (r#"Label("A", "1")"#, false),
            ("LabelRegex(`c`, `^x-[0-9]+$`)", true),
            ("LabelRegex(`b`, `two`)", true),
            ("LabelRegex(`b`, `^words`)", false),
            ("!Label(`a`,`2`)", true),
            ("! !Label(`a`,`2`)", false),
            ("Label(`a`,`1`) && Label(`c`,`y`)", false),
            ("Label(`a`,`2`)||Label(`a`,`1`)", true),
            ("Label(`a`,`1`) || Label(`a`,`1`) && Label(`a`,`2`)", true),
            (
                "(Label(`a`,`1`) || Label(`a`,`1`)) && Label(`a`,`2`)",
                false,
            ),
            ("!(Label(`a`,`1`) && Label(`c`,`y`))", true),
            (r#"Label("b", "two\u0020words")"#, false),
        ] {
            match Constraint::parse(text) {
                Ok(constraint) => assert_eq!(constraint.is_met(&labels()), expected, "{text}"),
                Err(error) => assert!(text.contains("\\u"), "{text}: {error}"),
            }
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let deep = "(".repeat(100);
        for (text, expected) in [
            (
                "tag==api",
                "unknown function \"tag\"; there are Label and LabelRegex",
            ),
            (
                "Label(`a`)",
                "expected a comma and the second text at \")\"",
            ),
            (
                "Label(`a`, `b`",
                "expected a closing parenthesis after two texts at \"\"",
            ),
            ("Label(a, b)", "expected a text in quotes at \"a, b)\""),
            (
                "Label(`a`, `b`) Label(`a`, `b`)",
                "expected the end, && or || at \"Label(`a`, `b`)\"",
            ),
            ("Label(`a`,`b`) &&", "expected Label or LabelRegex at \"\""),
            ("(Label(`a`,`b`)", "expected a closing parenthesis at \"\""),
            (
                "Label(`a`,`b`,`c`)",
                "expected a closing parenthesis after two texts at \",`c`)\"",
            ),
            (&deep, "nested more than 64 levels deep"),
        ] {
            let error = Constraint::parse(text).expect_err(text);
            assert_eq!(error.to_string(), expected, "{text}");
        }
        let error = Constraint::parse("LabelRegex(`a`, `(`)").expect_err("no regex");
        assert!(matches!(error, ConstraintError::Regex { .. }), "{error}");
    }
}
