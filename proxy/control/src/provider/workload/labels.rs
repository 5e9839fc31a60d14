//! Labels into the dynamic model, object by object.
//!
//! Traefik drops everything a container says for one wrong key. Here each router,
//! middleware and service is decoded by itself: what is wrong with one of them
//! stays with it. Labels under `tidegate.` are laid over those under `traefik.`,
//! so that Tidegate's own keys do not disturb a Traefik beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Deserialize;
use tidegate_shared::settings::{self, Decoded, Diagnostic, Node, Origin, Severity, Value, labels};

use super::{owner_origin, warning};
use crate::config::dialect::DYNAMIC;
use crate::config::dynamic::{Configuration, Object, Objects};
use crate::provider::decode::{self, Spelling};

/// Whose labels of its own a provider obeys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::provider) enum Family {
    /// `traefik.docker.*`.
    Docker,
    /// `traefik.swarm.*`, and `traefik.docker.*` as in Traefik v2, but not both.
    Swarm,
}

/// What labels say to the provider itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::provider) struct Control {
    /// Whether it is served, if said.
    pub(in crate::provider) enable: Option<bool>,
    /// The network to reach it on, if said.
    pub(in crate::provider) network: Option<String>,
    /// Whether the Swarm balances.
    pub(in crate::provider) lbswarm: bool,
    /// Whether it stays while it does not run.
    pub(in crate::provider) allow_non_running: bool,
    /// What is odd about these labels.
    pub(in crate::provider) problems: Vec<Diagnostic>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Wire {
    enable: Option<bool>,
    docker: Option<Specific>,
    swarm: Option<Specific>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Specific {
    network: Option<String>,
    lbswarm: bool,
    allow_non_running: bool,
}

/// All labels of one owner as one tree.
fn tree(owner: &str, all: &BTreeMap<String, String>) -> (Node, Vec<Diagnostic>) {
    let pairs = || all.iter().map(|(key, text)| (key.as_str(), text.as_str()));
    let (theirs, mut refused) = labels::tree(owner, "traefik", pairs());
    let (ours, refused_ours) = labels::tree(owner, "tidegate", pairs());
    refused.extend(refused_ours);
    (labels::merge(theirs, ours), refused)
}

impl Control {
    /// Reads them. `None` means that the owner can't be served, for the reasons in
    /// the second part.
    pub(in crate::provider) fn read(
        owner: &str,
        all: &BTreeMap<String, String>,
        family: Family,
    ) -> Result<Self, Vec<Diagnostic>> {
        let (node, _) = tree(owner, all);
        let names: &[&str] = match family {
            Family::Docker => &["enable", "docker"],
            Family::Swarm => &["enable", "docker", "swarm"],
        };
        let Decoded { value, problems } =
            settings::decode::<Wire>(&only(&node, names), "", &DYNAMIC);
        let Some(wire) = value else {
            return Err(problems);
        };
        if wire.docker.is_some() && wire.swarm.is_some() {
            return Err(vec![Diagnostic::invalid(
                owner_origin(owner),
                "swarm",
                "labels under docker and under swarm exclude each other",
            )]);
        }
        let specific = wire.docker.or(wire.swarm).unwrap_or_default();
        Ok(Self {
            enable: wire.enable,
            network: specific.network,
            lbswarm: specific.lbswarm,
            allow_non_running: specific.allow_non_running,
            // An unknown key among these costs nothing but a word.
            problems: problems.into_iter().map(soften).collect(),
        })
    }
}

fn soften(mut problem: Diagnostic) -> Diagnostic {
    problem.severity = Severity::Warning;
    problem
}

/// The group with only the children of these names; without any, an empty one
/// that can be decoded.
fn only(node: &Node, names: &[&str]) -> Node {
    let children = names.iter().filter_map(|name| {
        let child = node.get(name)?;
        Some(((*name).to_owned(), child.clone()))
    });
    let mut children: Vec<_> = children.collect();
    if children.is_empty() {
        children.push((
            names.first().copied().unwrap_or_default().to_owned(),
            null(node),
        ));
    }
    Node::new(Value::Map(children), node.origin.clone())
}

fn null(node: &Node) -> Node {
    Node::new(Value::Null, node.origin.clone())
}

/// What one owner's labels say, without anything filled in.
#[derive(Debug, Default)]
pub(super) struct Labels {
    pub(super) configuration: Configuration,
    /// Whether there is something for TCP or UDP.
    pub(super) has_tcp_or_udp: bool,
}

/// Reads the dynamic configuration in an owner's labels.
pub(super) fn read(owner: &str, all: &BTreeMap<String, String>) -> Labels {
    let (node, refused) = tree(owner, all);
    let mut labels = Labels {
        configuration: decode::configuration(&node, Spelling::Labels),
        has_tcp_or_udp: node.get("tcp").is_some() || node.get("udp").is_some(),
    };
    labels.keep_default_store();
    for problem in refused {
        labels.place(problem);
    }
    labels.configuration.problems.extend(v1(owner, all));
    labels
}

impl Labels {
    /// Only the default store can come from labels, as in Traefik.
    fn keep_default_store(&mut self) {
        let problems = &mut self.configuration.problems;
        self.configuration.tls.stores.retain(|name, store| {
            let is_default = name == "default";
            if !is_default {
                let message = "labels can define the store \"default\" only";
                let key = format!("tls.stores.{name}");
                problems.push(Diagnostic::invalid(store.origin.clone(), key, message));
            }
            is_default
        });
    }

    /// Puts a refused label where it was meant for.
    fn place(&mut self, problem: Diagnostic) {
        let mut parts = problem.key.split('.');
        let (root, kind, name) = (parts.next(), parts.next(), parts.next());
        let root = root.unwrap_or_default().to_ascii_lowercase();
        // Others are nobody's business: `traefik.` is used for own labels, too.
        if !matches!(root.as_str(), "http" | "tcp" | "udp" | "tls" | "enable") {
            return;
        }
        let http = &mut self.configuration.http;
        let name = name.unwrap_or_default();
        let problems = match kind.unwrap_or_default().to_ascii_lowercase().as_str() {
            "routers" => problems_of(&mut http.routers, name),
            "services" => problems_of(&mut http.services, name),
            "middlewares" => problems_of(&mut http.middlewares, name),
            _ => None,
        };
        match problems {
            Some(problems) if root == "http" => problems.push(problem),
            _ => self.configuration.problems.push(problem),
        }
    }
}

fn problems_of<'a, T>(objects: &'a mut Objects<T>, name: &str) -> Option<&'a mut Vec<Diagnostic>> {
    let named = |(known, _): &(&String, &mut Object<T>)| known.eq_ignore_ascii_case(name);
    let (_, object) = objects.iter_mut().find(named)?;
    Some(&mut object.problems)
}

/// What followed `traefik.` in version 1, with or without a segment's name.
const V1: [&str; 8] = [
    "frontend",
    "backend",
    "port",
    "protocol",
    "weight",
    "domain",
    "tags",
    "portIndex",
];

/// One warning that names all labels of Traefik v1, which mean nothing today.
fn v1(owner: &str, all: &BTreeMap<String, String>) -> Option<Diagnostic> {
    let is_v1 = |key: &&String| {
        let Some(rest) = key.strip_prefix("traefik.") else {
            return false;
        };
        let mut parts = rest.split('.');
        let first = parts.next().unwrap_or_default();
        let is_today = ["http", "tcp", "udp", "tls", "docker", "swarm", "enable"].contains(&first);
        let second = parts.next().unwrap_or_default();
        V1.contains(&first) || (!is_today && V1.contains(&second))
    };
    let keys: BTreeSet<&str> = all.keys().filter(is_v1).map(String::as_str).collect();
    let first = keys.first()?;
    let origin = Origin::Label {
        owner: Arc::from(owner),
        key: Arc::from(*first),
    };
    let listed: Vec<_> = keys.into_iter().take(20).collect();
    let message = format!("labels of Traefik 1 have no effect: {}", listed.join(", "));
    Some(warning(origin, "", message))
}
