//! The syntax tree of a rule: matchers joined by `&&`, `||` and `!`.
//!
//! `&&` binds tighter than `||`, `!` tightest, parentheses group. Chains of
//! one operator are kept flat, so the tree is no deeper than the parentheses
//! of its text. Knows the names of matchers but not what they mean.

use super::advice;
use super::error::{Problem, RuleError};
use super::token::{Lexer, Token};
use super::{MAX_DEPTH, MAX_LENGTH, Names};

/// A parsed rule, its matchers not yet compiled.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tree {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Call(Call),
}

/// One matcher with its arguments.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// Its name as the reference spells it.
    pub(super) name: &'static str,
    pub(super) position: usize,
    pub(super) arguments: Vec<String>,
}

/// Parses a whole rule.
pub(super) fn parse(text: &str, names: Names) -> Result<Tree, RuleError> {
    if text.trim().is_empty() {
        return Err(Problem::Empty.at(0));
    }
    if text.len() > MAX_LENGTH {
        let (length, limit) = (text.len(), MAX_LENGTH);
        return Err(Problem::TooLong { length, limit }.at(limit));
    }
    let mut parser = Parser::new(text, names)?;
    let tree = parser.any(0)?;
    if parser.token == Token::LineBreak {
        parser.advance()?;
    }
    match parser.token {
        Token::End => Ok(tree),
        _ => Err(parser.unexpected("\"&&\", \"||\" or the end of the rule")),
    }
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    names: Names,
    position: usize,
    token: Token<'a>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, names: Names) -> Result<Self, RuleError> {
        let mut lexer = Lexer::new(text);
        let (position, token) = lexer.next()?;
        Ok(Self {
            lexer,
            names,
            position,
            token,
        })
    }

    /// Moves on; returns the token passed and where it began.
    fn advance(&mut self) -> Result<(usize, Token<'a>), RuleError> {
        let (position, token) = self.lexer.next()?;
        let passed = std::mem::replace(&mut self.token, token);
        Ok((std::mem::replace(&mut self.position, position), passed))
    }

    fn unexpected(&self, expected: &'static str) -> RuleError {
        let found = self.token.describe();
        Problem::Unexpected { expected, found }.at(self.position)
    }

    fn expect(&mut self, token: &Token<'_>, expected: &'static str) -> Result<(), RuleError> {
        if self.token != *token {
            return Err(self.unexpected(expected));
        }
        self.advance().map(drop)
    }

    fn any(&mut self, depth: usize) -> Result<Tree, RuleError> {
        let mut parts = vec![self.all(depth)?];
        while self.token == Token::Or {
            self.advance()?;
            parts.push(self.all(depth)?);
        }
        Ok(joined(parts, Tree::Any))
    }

    fn all(&mut self, depth: usize) -> Result<Tree, RuleError> {
        let mut parts = vec![self.operand(depth)?];
        while self.token == Token::And {
            self.advance()?;
            parts.push(self.operand(depth)?);
        }
        Ok(joined(parts, Tree::All))
    }

    fn operand(&mut self, depth: usize) -> Result<Tree, RuleError> {
        if depth >= MAX_DEPTH {
            return Err(Problem::TooDeep(MAX_DEPTH).at(self.position));
        }
        match self.token {
            Token::Not => {
                self.advance()?;
                Ok(Tree::Not(Box::new(self.operand(depth + 1)?)))
            }
            Token::Open => {
                self.advance()?;
                let inside = self.any(depth + 1)?;
                self.expect(&Token::Close, "\"&&\", \"||\" or \")\"")?;
                Ok(inside)
            }
            Token::Name(name) => self.call(name).map(Tree::Call),
            _ => Err(self.unexpected("a matcher, \"!\" or \"(\"")),
        }
    }

    fn call(&mut self, written: &str) -> Result<Call, RuleError> {
        let (position, _) = self.advance()?;
        let Some(name) = self.names.resolve(written) else {
            let (name, advice) = (written.to_owned(), advice::for_name(written, self.names));
            return Err(Problem::UnknownMatcher { name, advice }.at(position));
        };
        self.expect(&Token::Open, "\"(\" after the name of the matcher")?;
        let mut arguments = Vec::new();
        while self.token != Token::Close {
            let Token::Text(argument) = &mut self.token else {
                return Err(self.unexpected("a string in backticks or double quotes"));
            };
            arguments.push(std::mem::take(argument));
            self.advance()?;
            if self.token != Token::Close {
                self.expect(&Token::Comma, "\",\" or \")\"")?;
            }
        }
        self.advance()?;
        Ok(Call {
            name,
            position,
            arguments,
        })
    }
}

/// A chain of one is no chain.
fn joined(mut parts: Vec<Tree>, join: fn(Vec<Tree>) -> Tree) -> Tree {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            join(parts)
        }
        None => join(parts),
    }
}

impl Tree {
    /// Adds the lower-cased arguments of all `Host` matchers, negated or not.
    pub(super) fn collect_domains(&self, domains: &mut Vec<String>) {
        match self {
            Self::All(parts) | Self::Any(parts) => {
                parts.iter().for_each(|part| part.collect_domains(domains));
            }
            Self::Not(inside) => inside.collect_domains(domains),
            Self::Call(call) if call.name == "Host" => {
                domains.extend(call.arguments.iter().map(|host| host.to_lowercase()));
            }
            Self::Call(_) => {}
        }
    }
}
