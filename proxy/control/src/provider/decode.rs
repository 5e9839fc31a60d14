//! From a tree of settings to a [`Configuration`], object by object.
//!
//! Owns what files and labels have in common: each router, middleware, service
//! and certificate is decoded by itself and carries its own problems, so that
//! one that is broken does not take the others along. What a problem costs
//! beyond its object is for the provider to decide. Pure.

use serde::de::DeserializeOwned;
use tidegate_shared::settings::{
    Diagnostic, Dialect, Node, Origin, Problem, Severity, Value, decode, nearest,
};

use crate::config::dialect::DYNAMIC_EMPTY;
use crate::config::dynamic::{Configuration, Object, Objects, Service};
use crate::config::known::{self, DYNAMIC};

/// Where the settings were written: some keys exist in one place only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// A file; every key at its top must be known.
    File,
    /// Labels of a container or service. Keys at the top other than `http`,
    /// `tcp`, `udp` and `tls` are the provider's own business and left alone.
    Labels,
}

/// Everything that `root`, a map of `http`, `tls` and so on, configures.
///
/// An object that can't be decoded is in the result as its default, with its
/// errors. Keys that Traefik knows and Tidegate does not support are warnings,
/// one each; what is left of such an object is for `snapshot` to judge.
/// Problems outside of any object are in [`Configuration::problems`].
pub fn configuration(root: &Node, spelling: Spelling) -> Configuration {
    let mut reader = Reader {
        spelling,
        into: Configuration::default(),
    };
    for (name, node) in root.entries() {
        match name.to_lowercase().as_str() {
            "http" => reader.http(node),
            "tls" => reader.tls(node),
            "tcp" | "udp" => reader.unsupported(node, name),
            _ if spelling == Spelling::Labels => {}
            _ => reader.unknown(node, name.to_owned(), &["http", "tcp", "tls", "udp"]),
        }
    }
    reader.into
}

/// Everything that is wrong with and in `configuration`.
pub fn problems(configuration: &Configuration) -> impl Iterator<Item = &Diagnostic> {
    fn of<T>(objects: &Objects<T>) -> impl Iterator<Item = &Diagnostic> {
        objects.values().flat_map(|object| &object.problems)
    }
    let Configuration {
        http,
        tls,
        problems,
    } = configuration;
    let certificates = tls.certificates.iter().flat_map(|object| &object.problems);
    problems
        .iter()
        .chain(of(&http.routers))
        .chain(of(&http.middlewares))
        .chain(of(&http.services))
        .chain(of(&http.servers_transports))
        .chain(certificates)
        .chain(of(&tls.options))
        .chain(of(&tls.stores))
}

struct Reader {
    spelling: Spelling,
    into: Configuration,
}

impl Reader {
    fn http(&mut self, node: &Node) {
        const NAMES: &[&str] = &["routers", "middlewares", "services", "serversTransports"];
        for (name, node) in self.entries(node, "http") {
            let path = format!("http.{name}");
            match name.to_lowercase().as_str() {
                "routers" => self.into.http.routers = self.objects(node, &path),
                "middlewares" => self.into.http.middlewares = self.objects(node, &path),
                "services" => {
                    self.into.http.services = self.objects(node, &path);
                    for (name, service) in &mut self.into.http.services {
                        let path = format!("{path}.{name}");
                        note_wrong_servers(&path, service, self.spelling);
                    }
                }
                "serverstransports" if self.spelling == Spelling::File => {
                    self.into.http.servers_transports = self.objects(node, &path);
                }
                "serverstransports" => self.not_in_labels(node, path),
                _ => self.unknown(node, path, NAMES),
            }
        }
    }

    fn tls(&mut self, node: &Node) {
        for (name, node) in self.entries(node, "tls") {
            let path = format!("tls.{name}");
            match name.to_lowercase().as_str() {
                "stores" => self.into.tls.stores = self.objects(node, &path),
                "options" | "certificates" if self.spelling == Spelling::Labels => {
                    self.not_in_labels(node, path);
                }
                "options" => self.into.tls.options = self.objects(node, &path),
                "certificates" => self.into.tls.certificates = self.list(node, &path),
                _ => self.unknown(node, path, &["certificates", "options", "stores"]),
            }
        }
    }

    /// The named children of a group; a complaint if it is none.
    fn entries<'n>(&mut self, node: &'n Node, path: &str) -> Vec<(&'n str, &'n Node)> {
        if !matches!(node.value, Value::Map(_) | Value::Null) {
            self.invalid(node, path, "expected named settings");
        }
        node.entries().collect()
    }

    fn objects<T: DeserializeOwned + Default>(&mut self, node: &Node, path: &str) -> Objects<T> {
        // An absent object, as in Traefik: `web:` with nothing behind it.
        let is_there = |(_, node): &(&str, &Node)| !matches!(node.value, Value::Null);
        self.entries(node, path)
            .into_iter()
            .filter(is_there)
            .map(|(name, node)| {
                (
                    name.to_owned(),
                    object(node, path, &format!("{path}.{name}")),
                )
            })
            .collect()
    }

    fn list<T: DeserializeOwned + Default>(&mut self, node: &Node, path: &str) -> Vec<Object<T>> {
        let items = match &node.value {
            Value::List(items) => items.as_slice(),
            Value::Null => &[],
            _ => {
                self.invalid(node, path, "expected a list");
                &[]
            }
        };
        let item = |(position, item)| object(item, path, &format!("{path}[{position}]"));
        items.iter().enumerate().map(item).collect()
    }

    /// A section of which nothing is supported.
    fn unsupported(&mut self, node: &Node, name: &str) {
        if matches!(node.value, Value::Null) {
            return;
        }
        let whole = Diagnostic {
            severity: Severity::Warning,
            problem: Problem::Unsupported,
            ..Diagnostic::invalid(node.origin.clone(), name, "not supported yet")
        };
        let detailed = match DYNAMIC.child(name) {
            Some(keys) => known::detail(vec![whole], node, name, keys),
            None => vec![whole],
        };
        self.into.problems.extend(detailed);
    }

    fn unknown(&mut self, node: &Node, path: String, names: &[&str]) {
        let name = path.rsplit('.').next().unwrap_or_default();
        let message = match nearest(name, names.iter().copied()) {
            Some(name) => format!("unknown key; did you mean {name:?}?"),
            None => "unknown key".to_owned(),
        };
        self.into
            .problems
            .push(unknown_key(node.origin.clone(), path, message));
    }

    fn not_in_labels(&mut self, node: &Node, path: String) {
        let message = "can't be written in labels, only in files";
        let problem = unknown_key(node.origin.clone(), path, message.to_owned());
        self.into.problems.push(problem);
    }

    fn invalid(&mut self, node: &Node, path: &str, message: &str) {
        let problem = Diagnostic::invalid(node.origin.clone(), path, message);
        self.into.problems.push(problem);
    }
}

fn unknown_key(origin: Origin, key: String, message: String) -> Diagnostic {
    Diagnostic {
        problem: Problem::Unknown,
        ..Diagnostic::invalid(origin, key, message)
    }
}

/// One object at `path`, which is in the group at `group`. Its name may hold
/// anything, dots too; so keys are looked up by what follows the name.
fn object<T: DeserializeOwned + Default>(node: &Node, group: &str, path: &str) -> Object<T> {
    let place = DYNAMIC.at(group).and_then(|keys| keys.child("*"));
    let head = path.to_lowercase();
    let is_known = |key: &str| {
        key.strip_prefix(head.as_str())
            .and_then(|rest| rest.strip_prefix('.'))
            .zip(place)
            .is_some_and(|(rest, keys)| keys.has(rest))
    };
    let dialect = Dialect {
        allow_empty: DYNAMIC_EMPTY,
        is_known: &is_known,
    };
    let decoded = decode::<T>(node, path, &dialect);
    let problems = match place {
        Some(keys) => known::detail(decoded.problems, node, path, keys),
        None => decoded.problems,
    };
    Object {
        value: decoded.value.unwrap_or_default(),
        origin: node.origin.clone(),
        problems,
    }
}

/// Files list servers, labels describe the one that carries them.
fn note_wrong_servers(path: &str, service: &mut Object<Service>, spelling: Spelling) {
    let Some(balancer) = &mut service.value.load_balancer else {
        return;
    };
    let (key, message) = match spelling {
        Spelling::File if balancer.server.take().is_some() => (
            "server",
            "only labels have it; files have a list of servers",
        ),
        Spelling::Labels if !std::mem::take(&mut balancer.servers).is_empty() => (
            "servers",
            "only files have it; labels have loadbalancer.server.port or .url",
        ),
        Spelling::File | Spelling::Labels => return,
    };
    let path = format!("{path}.loadBalancer.{key}");
    let problem = unknown_key(service.origin.clone(), path, message.to_owned());
    service.problems.push(problem);
}

#[cfg(test)]
mod tests;
