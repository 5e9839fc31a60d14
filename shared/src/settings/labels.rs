//! Container and service labels as a tree.
//!
//! Owns the spelling of labels, nothing of what they mean: which keys exist is
//! the decoder's business. Labels come from whoever may start a container, so
//! every key is refused or bounded here. The Docker provider calls this once
//! per service, for each prefix.

use std::sync::Arc;

use super::tree::{Repeat, Tree};
use super::{Diagnostic, Node, Origin, Value};

/// The labels under `prefix.`, for example `traefik.`, as a map; the prefix
/// matches without regard to case and is no part of the tree.
///
/// `owner` is what carries the labels, for example `service web`. The order of
/// `labels` does not matter. A group with the text `true` of its own is just
/// the group (`tls=true` beside `tls.certresolver=le`). A key that can't be
/// read, or that contradicts another, is left out with a complaint.
pub fn tree<'a>(
    owner: &str,
    prefix: &str,
    labels: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> (Node, Vec<Diagnostic>) {
    let owner: Arc<str> = Arc::from(owner);
    let origin = |key: &str| Origin::Label {
        owner: Arc::clone(&owner),
        key: Arc::from(key),
    };
    let mut ours: Vec<_> = labels
        .into_iter()
        .filter_map(|(key, text)| Some((below(prefix, key)?, key, text)))
        .collect();
    ours.sort_unstable();
    let mut tree = Tree::new(origin(""), Repeat::Replace);
    let mut refused = Vec::new();
    for (path, key, text) in ours {
        let origin = origin(key);
        if let Err(error) = tree.insert(path, text.to_owned(), &origin) {
            refused.push(Diagnostic::invalid(origin, path, error.to_string()));
        }
    }
    let (node, contradictions) = tree.finish();
    refused.extend(contradictions);
    (node, refused)
}

/// What follows `prefix.` in `key`.
fn below<'k>(prefix: &str, key: &'k str) -> Option<&'k str> {
    let (head, rest) = key.split_at_checked(prefix.len())?;
    if !head.eq_ignore_ascii_case(prefix) {
        return None;
    }
    rest.strip_prefix('.')
}

/// `over` laid on `base`: maps are joined, names matching without regard to
/// case; anything else in `over` takes the place of what `base` has there. A
/// group is never replaced by a bare `true`, which only says that it exists.
///
/// Both trees must come from this module's parent, which bounds their depth.
#[must_use]
pub fn merge(base: Node, over: Node) -> Node {
    match (base.value, over.value) {
        (Value::Map(entries), Value::Map(above)) => {
            Node::new(Value::Map(join(entries, above)), base.origin)
        }
        (value @ (Value::Map(_) | Value::List(_)), Value::Text(text))
            if text.eq_ignore_ascii_case("true") =>
        {
            Node::new(value, base.origin)
        }
        (value, Value::Null) => Node::new(value, base.origin),
        (_, value) => Node::new(value, over.origin),
    }
}

fn join(base: Vec<(String, Node)>, over: Vec<(String, Node)>) -> Vec<(String, Node)> {
    let mut joined: Vec<(String, Option<Node>)> = base
        .into_iter()
        .map(|(name, node)| (name, Some(node)))
        .collect();
    let mut places: std::collections::HashMap<String, usize> = joined
        .iter()
        .enumerate()
        .map(|(place, (name, _))| (name.to_lowercase(), place))
        .collect();
    for (name, node) in over {
        let next = joined.len();
        let place = *places.entry(name.to_lowercase()).or_insert(next);
        match joined.get_mut(place) {
            Some((_, below)) => {
                *below = Some(match below.take() {
                    Some(below) => merge(below, node),
                    None => node,
                });
            }
            None => joined.push((name, Some(node))),
        }
    }
    joined
        .into_iter()
        .filter_map(|(name, node)| Some((name, node?)))
        .collect()
}
