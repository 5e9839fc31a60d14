//! A template cut into what is text and what is between `{{` and `}}`.

use super::TemplateError;
use super::parse::syntax;
use crate::provider::constraint::{quoted_text, raw_text};

/// The template in text and actions.
pub(super) enum Piece<'a> {
    Text(&'a str),
    Action(&'a str),
}

/// Cuts at `{{` and `}}`, and takes away what `{{-`, `-}}` and comments say.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece<'_>>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trims = false;
    loop {
        let (plain, action) = match rest.split_once("{{") {
            Some((plain, action)) => (plain, Some(action)),
            None => (rest, None),
        };
        let plain = if trims { plain.trim_start() } else { plain };
        let Some(action) = action else {
            pieces.push(Piece::Text(plain));
            return Ok(pieces);
        };
        let (trims_before, action) = match action.strip_prefix('-') {
            Some(rest) if rest.starts_with(char::is_whitespace) => (true, rest),
            _ => (false, action),
        };
        let plain = if trims_before {
            plain.trim_end()
        } else {
            plain
        };
        pieces.push(Piece::Text(plain));
        let (action, after) = action_end(action)?;
        let inner = action
            .strip_suffix('-')
            .filter(|inner| inner.ends_with(char::is_whitespace));
        trims = inner.is_some();
        let action = inner.unwrap_or(action).trim();
        if !(action.starts_with("/*") && action.ends_with("*/")) {
            pieces.push(Piece::Action(action));
        }
        rest = after;
    }
}

/// The action up to its `}}`, which may also stand in a text or comment.
fn action_end(action: &str) -> Result<(&str, &str), TemplateError> {
    let mut rest = action;
    if let Some(comment) = action.trim_start().strip_prefix("/*") {
        let (_, after) = comment
            .split_once("*/")
            .ok_or_else(|| syntax("a comment without its end"))?;
        rest = after;
    }
    loop {
        let stop = rest
            .find(['}', '"', '`'])
            .ok_or_else(|| syntax("{{ without its }}"))?;
        let (_, tail) = rest.split_at(stop);
        if let Some(after) = tail.strip_prefix("}}") {
            let length = action.len() - tail.len();
            let (action, _) = action.split_at(length);
            return Ok((action, after));
        }
        rest = match tail.as_bytes().first() {
            Some(b'"') => quoted_text(tail).ok_or_else(unclosed)?.1,
            Some(b'`') => raw_text(tail).ok_or_else(unclosed)?.1,
            _ => tail.strip_prefix('}').unwrap_or(tail),
        };
    }
}

pub(super) fn unclosed() -> TemplateError {
    syntax("a text without its end quote")
}
