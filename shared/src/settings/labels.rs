//! Container and service labels as a tree.
//!
//! Owns the spelling of labels, nothing of what they mean: which keys exist is
//! the decoder's business. Labels come from whoever may start a container, so
//! every key is refused or bounded here. The Docker provider calls this once
//! per service, for each prefix.

use std::collections::HashMap;
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
    let mut places: HashMap<String, usize> = joined
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Severity;

    fn show(node: &Node) -> String {
        match &node.value {
            Value::Map(entries) => {
                let entry = |(name, node): &(String, Node)| format!("{name}:{}", show(node));
                format!(
                    "{{{}}}",
                    entries.iter().map(entry).collect::<Vec<_>>().join(" ")
                )
            }
            Value::List(items) => {
                format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(" "))
            }
            Value::Text(text) => text.clone(),
            other => format!("{other:?}"),
        }
    }

    fn read(labels: &[(&str, &str)]) -> (String, Vec<String>) {
        let (node, problems) = tree("service web", "traefik", labels.iter().copied());
        let said = |problem: &Diagnostic| format!("{}: {}", problem.key, problem.message);
        (show(&node), problems.iter().map(said).collect())
    }

    #[test]
    fn gathers_dotted_keys() {
        for (labels, expected) in [
            (&[][..], "{}"),
            (
                &[("other.a", "1"), ("traefik", "1"), ("traefikx.a", "1")],
                "{}",
            ),
            (
                &[("traefik.enable", "true"), ("Traefik.b", "x y ")],
                "{b:x y  enable:true}",
            ),
            (
                &[("traefik.r.web.rule", "a"), ("traefik.R.Web.tls", "")],
                "{R:{Web:{tls: rule:a}}}",
            ),
            (
                &[("traefik.a.B", "1"), ("traefik.A.c", "2")],
                "{A:{c:2 B:1}}",
            ),
            (
                &[
                    ("traefik.d[10].m", "c"),
                    ("traefik.d[2].m", "b"),
                    ("traefik.d[0].m", "a"),
                ],
                "{d:[{m:a} {m:b} {m:c}]}",
            ),
            (
                &[("traefik.tls", "true"), ("traefik.tls.x", "1")],
                "{tls:{x:1}}",
            ),
            (
                &[("traefik.tls.x", "1"), ("traefik.tls", "TRUE")],
                "{tls:{x:1}}",
            ),
        ] {
            assert_eq!(read(labels), (expected.to_owned(), vec![]), "{labels:?}");
        }
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        let deep = format!("traefik.{}", vec!["a"; 200].join("."));
        for (key, message) in [
            ("traefik.", "a part of the key is empty"),
            ("traefik.a..b", "a part of the key is empty"),
            ("traefik.a[b]", "a list position is a number in brackets"),
            ("traefik.a[+1]", "a list position is a number in brackets"),
            ("traefik.a[0", "a list position is a number in brackets"),
            ("traefik.a]", "a list position is a number in brackets"),
            ("traefik.[0]", "a list position is a number in brackets"),
            ("traefik.a[0][1]", "a list position is a number in brackets"),
            ("traefik.a[10000]", "list positions go up to 9999"),
            (
                "traefik.a[99999999999999999999999]",
                "list positions go up to 9999",
            ),
            (&deep, "the key has more than 100 parts"),
        ] {
            let (node, problems) = tree("s", "traefik", [(key, "1"), ("traefik.ok", "1")]);
            assert_eq!(show(&node), "{ok:1}", "{key}");
            let [problem] = problems.as_slice() else {
                panic!("{key}: {problems:?}")
            };
            assert!(problem.message.starts_with(message), "{key}: {problem}");
            let origin = Origin::Label {
                owner: Arc::from("s"),
                key: Arc::from(key),
            };
            assert_eq!(problem.origin, origin);
        }
        assert!(read(&[("tré", "1"), ("traefi\u{e9}k.a", "1")]).1.is_empty());
    }

    #[test]
    fn names_contradictions() {
        let cases = [
            (
                "a",
                "2",
                "{a:{b:1}}",
                "a: \"2\" contradicts the settings below a",
            ),
            (
                "a",
                "false",
                "{a:{b:1}}",
                "a: \"false\" contradicts the settings below a",
            ),
            (
                "a[0]",
                "2",
                "{a:{b:1}}",
                "a: a list position here contradicts the names beside it",
            ),
        ];
        for (key, text, expected, complaint) in cases {
            let key = format!("traefik.{key}");
            let (shown, problems) = read(&[("traefik.a.b", "1"), (&key, text)]);
            assert_eq!(
                (shown.as_str(), problems),
                (expected, vec![complaint.to_owned()])
            );
        }
        let (node, problems) = tree("s", "t", [("t.a", "1"), ("T.A", "2")]);
        assert_eq!(
            (show(&node).as_str(), problems[0].severity),
            ("{A:1}", Severity::Warning)
        );
        assert_eq!(tree("s", "t", [("t.a", "1"), ("T.A", "1")]).1, []);
    }

    #[test]
    fn the_order_of_labels_does_not_matter() {
        let labels = [
            ("t.a.B", "1"),
            ("t.A", "true"),
            ("t.a.b", "2"),
            ("t.c[1]", "x"),
            ("t.c[0]", "y"),
        ];
        let backwards = labels.iter().rev().copied();
        assert_eq!(tree("s", "t", labels), tree("s", "t", backwards));
    }

    #[test]
    fn lays_one_tree_over_another() {
        for (base, over, expected) in [
            (
                &[("t.a.b", "1"), ("t.a.c", "2")][..],
                &[("t.A.B", "3")][..],
                "{a:{b:3 c:2}}",
            ),
            (&[("t.a", "1")], &[("t.d", "2")], "{a:1 d:2}"),
            (&[("t.a", "true")], &[("t.a.b", "2")], "{a:{b:2}}"),
            (&[("t.a.b", "1")], &[("t.a", "true")], "{a:{b:1}}"),
            (&[("t.a.b", "1")], &[("t.a", "false")], "{a:false}"),
            (
                &[("t.a[0]", "1"), ("t.a[1]", "2")],
                &[("t.a[0]", "3")],
                "{a:[3]}",
            ),
            (&[], &[("t.a", "1")], "{a:1}"),
        ] {
            let (base, _) = tree("s", "t", base.iter().copied());
            let (over, _) = tree("s", "t", over.iter().copied());
            assert_eq!(show(&merge(base, over)), expected);
        }
    }
}
