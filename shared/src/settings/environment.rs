//! Environment variables as a tree.
//!
//! Owns the spelling of variables, nothing of what they mean. The programs'
//! configuration loaders call this once, at the start, with the process's
//! environment.

use std::sync::Arc;

use super::tree::{Repeat, Tree};
use super::{Diagnostic, Node, Origin};

/// The variables whose names begin with `prefix`, for example `TRAEFIK_`, as a
/// map: `TRAEFIK_ENTRYPOINTS_WEB_ADDRESS` is `entrypoints.web.address`.
///
/// Every underscore separates, so a name with one in it can't be written this
/// way (as in Traefik). A part that is a number stays a name, for it may be
/// one; the decoder reads `DOMAINS_0_MAIN` as a list where a list is wanted.
/// The order of `vars` does not matter. A variable that can't be read, or that
/// contradicts another, is left out with a complaint.
///
/// The environment may hold variables that only look like settings (Docker
/// links and Kubernetes make `TRAEFIK_PORT_80_TCP`): which groups count is for
/// the caller to say.
pub fn tree(
    prefix: &str,
    vars: impl IntoIterator<Item = (String, String)>,
) -> (Node, Vec<Diagnostic>) {
    let mut ours: Vec<_> = vars
        .into_iter()
        .filter_map(|(name, text)| Some((key(prefix, &name)?, name, text)))
        .collect();
    ours.sort_unstable();
    let whole = Origin::Environment(Arc::from(format!("{prefix}*")));
    let mut tree = Tree::new(whole, Repeat::Replace);
    let mut refused = Vec::new();
    for (key, name, text) in ours {
        let origin = Origin::Environment(Arc::from(name));
        if let Err(error) = tree.insert(&key, text, &origin) {
            refused.push(Diagnostic::invalid(origin, key, error.to_string()));
        }
    }
    let (node, contradictions) = tree.finish();
    refused.extend(contradictions);
    (node, refused)
}

/// The dotted key that the variable `name` stands for, if it has the prefix.
fn key(prefix: &str, name: &str) -> Option<String> {
    let (head, rest) = name.split_at_checked(prefix.len())?;
    (head.eq_ignore_ascii_case(prefix) && !rest.is_empty())
        .then(|| rest.to_lowercase().replace('_', "."))
}
