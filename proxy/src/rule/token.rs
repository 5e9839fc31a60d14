//! Splits a rule's text into tokens.
//!
//! Traefik hands rules to Go's expression parser, so Go's lexical rules hold:
//! back-quoted and double-quoted strings, comments, and a line break after a
//! complete operand ends the expression. Called by `tree` only.

use super::error::{Problem, RuleError};
use super::literal;

/// One token of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Name(&'a str),
    Text(String),
    Open,
    Close,
    Comma,
    And,
    Or,
    Not,
    /// A line break in a place where Go would put a semicolon.
    LineBreak,
    End,
}

impl Token<'_> {
    /// How an error message calls it.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Name(name) => format!("{name:?}"),
            Self::Text(_) => "a string".to_owned(),
            Self::Open => "\"(\"".to_owned(),
            Self::Close => "\")\"".to_owned(),
            Self::Comma => "\",\"".to_owned(),
            Self::And => "\"&&\"".to_owned(),
            Self::Or => "\"||\"".to_owned(),
            Self::Not => "\"!\"".to_owned(),
            Self::LineBreak => {
                "a line break (to go on in the next line, end this one with an operator)".to_owned()
            }
            Self::End => "the end of the rule".to_owned(),
        }
    }

    /// Whether an operand may end here, so that a line break counts.
    const fn ends_operand(&self) -> bool {
        matches!(self, Self::Name(_) | Self::Text(_) | Self::Close)
    }
}

/// Reads tokens from the front of a rule.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    after_operand: bool,
}

impl<'a> Lexer<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            after_operand: false,
        }
    }

    /// The next token and the byte at which it starts.
    pub(super) fn next(&mut self) -> Result<(usize, Token<'a>), RuleError> {
        let line_break = self.skip_blanks()?;
        let position = self.at;
        let token = if line_break && self.after_operand {
            Token::LineBreak
        } else {
            self.read()?
        };
        self.after_operand = token.ends_operand();
        Ok((position, token))
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Passes white space and comments; tells whether a line ended in them.
    fn skip_blanks(&mut self) -> Result<bool, RuleError> {
        let mut line_break = false;
        loop {
            let rest = self.rest();
            let blank = rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
            let skipped = if blank > 0 {
                blank
            } else if rest.starts_with("//") {
                rest.find('\n').unwrap_or(rest.len())
            } else if rest.starts_with("/*") {
                let end = rest.find("*/").filter(|end| *end >= 2);
                end.ok_or_else(|| Problem::UnclosedComment.at(self.at))? + 2
            } else {
                return Ok(line_break);
            };
            line_break |= rest.bytes().take(skipped).any(|byte| byte == b'\n');
            self.at += skipped;
        }
    }

    fn read(&mut self) -> Result<Token<'a>, RuleError> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return Ok(Token::End);
        };
        let (length, token) = match first {
            '(' => (1, Token::Open),
            ')' => (1, Token::Close),
            ',' => (1, Token::Comma),
            '!' => (1, Token::Not),
            '&' if rest.starts_with("&&") => (2, Token::And),
            '|' if rest.starts_with("||") => (2, Token::Or),
            '`' | '"' => literal::read(rest).map_err(|problem| problem.at(self.at))?,
            _ if is_name(first) => {
                let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
                (end, Token::Name(rest.get(..end).unwrap_or_default()))
            }
            _ => {
                let found = format!("{first:?}");
                let expected = "a matcher, an operator or a quoted string";
                return Err(Problem::Unexpected { expected, found }.at(self.at));
            }
        };
        self.at += length;
        Ok(token)
    }
}

fn is_name(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}
