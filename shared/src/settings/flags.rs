//! Command line flags as a tree.
//!
//! Owns the spelling of flags, nothing of what they mean. Takes what Traefik
//! takes: one dash or two, `--key=text`, `--key text`, and `--key` alone for
//! "yes". The programs' configuration loaders call this once, at the start.

use std::iter::Peekable;
use std::sync::Arc;

use thiserror::Error;

use super::tree::{Repeat, Tree};
use super::{Diagnostic, Node, Origin};

/// The command line can't be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FlagError {
    /// The argument looks like a flag and is none.
    #[error("{0:?} is not a flag such as --log.level=debug")]
    Syntax(String),
    /// These arguments are neither flags nor values of flags.
    #[error("these arguments belong to no flag: {}", .0.join(" "))]
    Leftover(Vec<String>),
    /// A flag contradicts another one, or its key can't be read.
    #[error("{0}")]
    Key(Box<Diagnostic>),
}

/// The flags in `args` (without the program's name) as a map.
///
/// A flag without `=` takes the argument after it as its text, unless that is
/// a flag too; then, or at the end of the line, its text is `true`. Traefik
/// decides that by the setting's type, which nobody knows here: it reads
/// `--ping x` as a switch and a leftover, this as a switch with the text `x`,
/// which the decoder refuses. A flag given more than once becomes a list of
/// all its texts; the decoder takes the last one where no list is wanted.
///
/// # Errors
/// The first argument that can't be read, or all that belong to no flag
/// (everything after `--` is such).
pub fn tree(args: impl IntoIterator<Item = String>) -> Result<Node, FlagError> {
    let mut args = args.into_iter().peekable();
    let mut tree = Tree::new(Origin::Internal, Repeat::Keep);
    let mut leftover = Vec::new();
    while let Some(argument) = args.next() {
        if argument == "--" {
            leftover.extend(args.by_ref());
        } else if !argument.starts_with('-') || argument == "-" {
            leftover.push(argument);
        } else {
            insert(&mut tree, &argument, &mut args)?;
        }
    }
    if !leftover.is_empty() {
        return Err(FlagError::Leftover(leftover));
    }
    let (node, contradictions) = tree.finish();
    match contradictions.into_iter().next() {
        Some(contradiction) => Err(FlagError::Key(Box::new(contradiction))),
        None => Ok(node),
    }
}

fn insert(
    tree: &mut Tree,
    argument: &str,
    rest: &mut Peekable<impl Iterator<Item = String>>,
) -> Result<(), FlagError> {
    let (flag, text) = match argument.split_once('=') {
        Some((flag, text)) => (flag, Some(text.to_owned())),
        None => (argument, None),
    };
    let key = flag
        .strip_prefix("--")
        .or_else(|| flag.strip_prefix('-'))
        .unwrap_or(flag);
    if key.is_empty() || key.starts_with('-') {
        return Err(FlagError::Syntax(argument.to_owned()));
    }
    let text = text
        .or_else(|| rest.next_if(|next| !is_flag(next)))
        .unwrap_or_else(|| "true".to_owned());
    let origin = Origin::Flag(Arc::from(flag));
    tree.insert(key, text, &origin)
        .map_err(|error| Diagnostic::invalid(origin, key, error.to_string()))
        .map_err(|problem| FlagError::Key(Box::new(problem)))
}

/// A dash and something that is not a number: `-1` is a value.
fn is_flag(argument: &str) -> bool {
    argument
        .strip_prefix('-')
        .is_some_and(|rest| !rest.is_empty() && !rest.starts_with(|c: char| c.is_ascii_digit()))
}
