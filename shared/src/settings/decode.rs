//! From a [`Node`] tree to a typed value.
//!
//! Owns how settings are spelled whatever the source: case does not matter,
//! text becomes what the setting wants, a key that nobody knows is named and
//! never fatal. The types say what exists; nothing here knows any setting.
//! Callers decode each router, service or provider by itself, and decide what
//! a complaint costs. Types may not use serde's `flatten` or `untagged`: those
//! hide the field names this depends on.

mod access;
mod context;
mod error;
mod node;
mod scalar;

use std::collections::HashSet;
use std::fmt;

use serde::de::DeserializeOwned;

use super::{Diagnostic, Node};
use context::{Context, Place};
use node::NodeDeserializer;

/// What the decoder must be told about a family of settings.
#[derive(Clone, Copy)]
pub struct Dialect<'a> {
    /// The structs, by the name serde knows them under, that may be written
    /// with nothing inside: `tls=true`, `--ping`, `compress: {}`. They get
    /// their defaults; `false` makes an optional one absent. The type of a
    /// whole file or command line belongs here too if it may be empty.
    pub allow_empty: &'a [&'a str],
    /// Whether Traefik knows a setting that our types do not have. It is asked
    /// with the dotted path in lower case, list positions as `[0]`, and once
    /// for a whole group if the group itself is missing in our types.
    pub is_known: &'a dyn Fn(&str) -> bool,
}

impl fmt::Debug for Dialect<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialect")
            .field("allow_empty", &self.allow_empty)
            .finish_non_exhaustive()
    }
}

/// What came of a [`Node`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded<T> {
    /// The value, unless a part of it was invalid. Unknown keys alone do not
    /// prevent it.
    pub value: Option<T>,
    /// Everything there is to complain about, in the order it was met; of
    /// invalid values only the first.
    pub problems: Vec<Diagnostic>,
}

/// Reads `node`, which was found at the dotted `path`, as a `T`.
///
/// - Fields and variants match without regard to case; keys of maps keep their spelling.
/// - Text becomes a truth value as Go reads one (`true`, `1`, `t`, and their opposites), a number, or a
///   list split at commas; a number becomes text; a lone value becomes a list of one. A map whose keys
///   are all numbers becomes a list.
/// - A null field is an absent one, as in Traefik.
/// - Of a repeated flag the last counts, unless a list is wanted.
///
/// The cost is linear in the tree, twice that if something is switched off by `false`.
pub fn decode<T: DeserializeOwned>(node: &Node, path: &str, dialect: &Dialect<'_>) -> Decoded<T> {
    // Serde asks for the content of an `Option` only after it was told that
    // there is some. So a struct switched off is first read as its default and
    // noted, and then everything is read again with that knowledge. One round
    // finds them all, unless an error hides some.
    const ROUNDS: usize = 8;
    let mut off = HashSet::new();
    let mut round = 1;
    loop {
        let context = Context::new(dialect, off);
        let value = T::deserialize(NodeDeserializer::new(node, Place::root(path), &context)).ok();
        let (problems, known, found) = context.into_parts();
        if found.is_empty() || round == ROUNDS {
            return Decoded { value, problems };
        }
        off = known;
        off.extend(found);
        round += 1;
    }
}

#[cfg(test)]
mod tests;
