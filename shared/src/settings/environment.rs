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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Severity, Value};

    fn read(vars: &[(&str, &str)]) -> (Node, Vec<Diagnostic>) {
        tree(
            "TRAEFIK_",
            vars.iter()
                .map(|(name, text)| ((*name).to_owned(), (*text).to_owned())),
        )
    }

    #[test]
    fn underscores_separate() {
        let (node, problems) = read(&[
            ("TRAEFIK_ENTRYPOINTS_WEB_ADDRESS", ":80"),
            ("traefik_entrypoints_web_http_tls", "true"),
            ("TRAEFIK_ENTRYPOINTS_WEB_HTTP_TLS_DOMAINS_0_MAIN", "a"),
            ("TRAEFIK_", "x"),
            ("TRAEFIKS_A", "x"),
            ("PATH", "x"),
            ("TRÄFIK_A", "x"),
        ]);
        assert_eq!(problems, []);
        assert_eq!(node.entries().count(), 1);
        let find = |path: &str| path.split('.').try_fold(&node, |node, name| node.get(name));
        let address = find("entryPoints.web.address").unwrap();
        assert_eq!(address.value, Value::Text(":80".to_owned()));
        let name = "environment variable TRAEFIK_ENTRYPOINTS_WEB_ADDRESS";
        assert_eq!(address.origin.to_string(), name);
        assert!(find("entryPoints.web.http.tls.domains.0.main").is_some());
    }

    #[test]
    fn names_what_can_not_be_read() {
        for (vars, expected, severity) in [
            (
                &[("TRAEFIK_A__B", "1")][..],
                "a..b: a part of the key is empty",
                Severity::Error,
            ),
            (
                &[("TRAEFIK_LOG", "x"), ("TRAEFIK_LOG_LEVEL", "y")],
                "log: \"x\" contradicts the settings below log",
                Severity::Error,
            ),
            (
                &[("TRAEFIK_A", "1"), ("traefik_a", "2")],
                "a: written more than once; this one counts",
                Severity::Warning,
            ),
        ] {
            let (_, problems) = read(vars);
            let [problem] = problems.as_slice() else {
                panic!("{vars:?}: {problems:?}")
            };
            assert_eq!(format!("{}: {}", problem.key, problem.message), expected);
            assert_eq!(problem.severity, severity);
        }
    }
}
