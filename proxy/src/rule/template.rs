//! `{name}` and `{name:regexp}` templates of the v2 syntax.
//!
//! Text outside braces is literal, a name without an expression stands for
//! one label, one path segment, or (in a query) anything. Hosts and paths
//! match as a whole, prefixes from their start, hosts whatever their case.

use super::error::Problem;
use super::regex::Pattern;

/// What a template is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Host,
    Path,
    Prefix,
    Query,
}

/// A compiled template.
#[derive(Debug)]
pub(super) enum Template {
    /// There are no braces in it.
    Literal(Box<str>),
    Pattern(Pattern),
}

/// A literal text, or the name and expression between braces.
enum Piece<'a> {
    Literal(&'a str),
    Variable(&'a str, Option<&'a str>),
}

impl Template {
    pub(super) fn new(text: &str, kind: Kind) -> Result<Self, Problem> {
        let pieces = pieces(text)?;
        if !pieces.iter().any(|p| matches!(p, Piece::Variable(..))) {
            return Ok(Self::Literal(text.into()));
        }
        let mut expression = match kind {
            Kind::Host => "(?i)^".to_owned(),
            _ => "^".to_owned(),
        };
        for piece in pieces {
            match piece {
                Piece::Literal(literal) => push_quoted(&mut expression, literal),
                Piece::Variable(_, pattern) => {
                    let pattern = pattern.unwrap_or(match kind {
                        Kind::Host => "[^.]+",
                        Kind::Path | Kind::Prefix => "[^/]+",
                        Kind::Query => ".*",
                    });
                    // It must be an expression on its own, not only between
                    // the parentheses put around it.
                    Pattern::new(pattern)?;
                    expression.extend(["(", pattern, ")"]);
                }
            }
        }
        if kind == Kind::Query && text.split_once('=').is_some_and(|(_, v)| v.is_empty()) {
            expression.push_str(".*");
        }
        if kind != Kind::Prefix {
            expression.push('$');
        }
        Pattern::new(&expression).map(Self::Pattern)
    }

    /// Whether a query's parameter fits. `value` is its first one, if any.
    pub(super) fn matches_query(&self, key: &str, value: Option<&[u8]>) -> bool {
        match self {
            Self::Literal(text) => {
                let wanted = text.split_once('=').map_or("", |(_, value)| value);
                value.is_some_and(|value| match wanted {
                    "" => !value.contains(&b'\n'),
                    _ => value == wanted.as_bytes(),
                })
            }
            Self::Pattern(pattern) => {
                let pair = value.map(|value| [key.as_bytes(), b"=", value].concat());
                pattern.matches(&pair.unwrap_or_default())
            }
        }
    }
}

/// Notes the names of a query's variables, which must differ in all the
/// templates of one call.
pub(super) fn claim_names(text: &str, claimed: &mut Vec<String>) -> Result<(), Problem> {
    let mut own = Vec::new();
    for piece in pieces(text)? {
        let Piece::Variable(name, _) = piece else {
            continue;
        };
        if claimed.iter().any(|other| other == name) {
            return Err(bad(
                text,
                "two of the templates have a variable of the same name",
            ));
        }
        own.push(name.to_owned());
    }
    claimed.append(&mut own);
    Ok(())
}

/// Splits at the outermost braces, which must be balanced.
fn pieces(text: &str) -> Result<Vec<Piece<'_>>, Problem> {
    let mut pieces = Vec::new();
    let (mut level, mut start) = (0_usize, 0);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => {
                if level == 0 {
                    pieces.push(Piece::Literal(text.get(start..at).unwrap_or_default()));
                    start = at + 1;
                }
                level += 1;
            }
            b'}' => {
                level = level
                    .checked_sub(1)
                    .ok_or_else(|| bad(text, "a brace is closed that was never opened"))?;
                if level == 0 {
                    pieces.push(variable(text, text.get(start..at).unwrap_or_default())?);
                    start = at + 1;
                }
            }
            _ => {}
        }
    }
    if level != 0 {
        return Err(bad(text, "a brace is not closed"));
    }
    pieces.push(Piece::Literal(text.get(start..).unwrap_or_default()));
    Ok(pieces)
}

fn variable<'a>(text: &str, inside: &'a str) -> Result<Piece<'a>, Problem> {
    let (name, pattern) = match inside.split_once(':') {
        Some((name, pattern)) => (name, Some(pattern)),
        None => (inside, None),
    };
    if name.is_empty() || pattern.is_some_and(str::is_empty) {
        return Err(bad(
            text,
            "a variable lacks its name or its regular expression",
        ));
    }
    Ok(Piece::Variable(name, pattern))
}

fn bad(template: &str, reason: &'static str) -> Problem {
    let template = template.to_owned();
    Problem::BadTemplate { template, reason }
}

/// Adds text to an expression so that it matches itself.
fn push_quoted(expression: &mut String, text: &str) {
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            expression.push('\\');
        }
        expression.push(c);
    }
}
