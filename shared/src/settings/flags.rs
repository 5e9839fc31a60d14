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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Value;

    fn read(line: &str) -> Result<Node, String> {
        tree(line.split_whitespace().map(str::to_owned)).map_err(|error| error.to_string())
    }

    /// What stands at a dotted path.
    fn text(node: &Node, path: &str) -> Option<String> {
        let node = path
            .split('.')
            .try_fold(node, |node, name| node.get(name))?;
        match &node.value {
            Value::Text(text) => Some(text.clone()),
            Value::List(items) => {
                let text = |item: &Node| match &item.value {
                    Value::Text(text) => text.clone(),
                    other => format!("{other:?}"),
                };
                Some(items.iter().map(text).collect::<Vec<_>>().join("|"))
            }
            _ => None,
        }
    }

    #[test]
    fn reads_every_spelling() {
        for (line, path, expected) in [
            ("--a.b=c", "a.b", "c"),
            ("-a.b=c", "a.b", "c"),
            ("--a.b c", "a.b", "c"),
            ("-a.b c --d", "a.b", "c"),
            ("--a.b --d", "a.b", "true"),
            ("--a.b", "a.b", "true"),
            ("--a.b=", "a.b", ""),
            ("--a.b=c=d", "a.b", "c=d"),
            ("--a.b -1", "a.b", "-1"),
            ("--a.b -", "a.b", "-"),
            (
                "--EntryPoints.Web.address=:80",
                "entrypoints.web.ADDRESS",
                ":80",
            ),
            ("--a=1 --A=2 --a=3", "a", "1|2|3"),
            ("--d[1]=y --d[0]=x", "d", "x|y"),
            ("--a --a.b=c", "a.b", "c"),
            ("--a=b --", "a", "b"),
        ] {
            let node = read(line).unwrap();
            assert_eq!(text(&node, path).as_deref(), Some(expected), "{line}");
        }
        let node = read("--Log.level=debug").unwrap();
        let origin = &node
            .get("log")
            .and_then(|log| log.get("level"))
            .unwrap()
            .origin;
        assert_eq!(origin.to_string(), "flag --Log.level");
        assert_eq!(read("").unwrap().value, Value::Map(vec![]));
    }

    #[test]
    fn refuses_the_rest_by_name() {
        for (line, expected) in [
            ("x --a=b", "these arguments belong to no flag: x"),
            ("--a=b y z", "these arguments belong to no flag: y z"),
            ("--a=b -- --c", "these arguments belong to no flag: --c"),
            ("---a", "\"---a\" is not a flag such as --log.level=debug"),
            ("--=a", "\"--=a\" is not a flag such as --log.level=debug"),
            ("-=a", "\"-=a\" is not a flag such as --log.level=debug"),
            ("--a..b", "flag --a..b: a..b: a part of the key is empty"),
            (
                "--a=x --a.b=c",
                "flag --a: a: \"x\" contradicts the settings below a",
            ),
        ] {
            assert_eq!(read(line).unwrap_err(), expected, "{line}");
        }
    }
}
