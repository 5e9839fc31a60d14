//! Traefik's settings that this version of Tidegate does not obey, by name.
//!
//! Owns two lists of key names (`known/*.keys`) and what they are for: a key in
//! them is reported as not supported yet, any other key as a mistake. It does
//! not know what Tidegate obeys: only what the decoder found missing in the
//! model is looked up here, so a list may name too much, never too little. The
//! dialects, the loader of the static configuration and the providers ask.
//!
//! A line of a list is `path: keys`, an empty path standing for the top. Keys
//! are parted by spaces; `a{b c}` has `a`, `a.b` and `a.c`; `*` is any name,
//! `**` anything below; lists are written as if they were their items; `$x` is
//! what `$x = ...` says. What follows `[v2]` exists in Traefik v2 only.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use tidegate_shared::settings::{Diagnostic, Node, Problem, Severity, Value, nearest};

/// What the decoder says of a key when no other one is near.
const UNKNOWN: &str = "unknown key";

/// Keys of the static configuration.
pub static STATIC: LazyLock<Keys> = LazyLock::new(|| Keys::read(include_str!("known/static.keys")));

/// Keys of the dynamic configuration.
pub static DYNAMIC: LazyLock<Keys> =
    LazyLock::new(|| Keys::read(include_str!("known/dynamic.keys")));

/// Whether Traefik's static configuration has `path` (in lower case).
pub fn static_key(path: &str) -> bool {
    STATIC.has(path)
}

/// Whether Traefik's dynamic configuration has `path` (in lower case).
pub fn dynamic_key(path: &str) -> bool {
    DYNAMIC.has(path)
}

/// A place in a tree of key names.
#[derive(Debug, Default)]
pub struct Keys {
    /// Whether the list names this very key, not only something below it.
    is_listed: bool,
    /// Whether only Traefik v2 has it.
    is_v2: bool,
    /// Whether anything may stand below.
    is_open: bool,
    named: BTreeMap<&'static str, Self>,
    any: Option<Box<Self>>,
}

impl Keys {
    fn read(list: &'static str) -> Self {
        let mut root = Self::default();
        let mut shared = BTreeMap::new();
        let mut is_v2 = false;
        for line in list.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if line == "[v2]" {
                is_v2 = true;
            } else if let Some((name, keys)) = line.split_once(" = ") {
                shared.insert(name, keys);
            } else if let Some((path, keys)) = line.split_once(':') {
                let place = path
                    .split('.')
                    .filter(|part| !part.is_empty())
                    .fold(&mut root, Self::child_mut);
                place.add(&mut Words(keys), &shared, is_v2);
            }
        }
        root
    }

    fn child_mut(&mut self, name: &'static str) -> &mut Self {
        match name {
            "*" => self.any.get_or_insert_default(),
            _ => self.named.entry(name).or_default(),
        }
    }

    /// Adds keys up to the brace that closes this group.
    fn add(
        &mut self,
        words: &mut Words,
        shared: &BTreeMap<&'static str, &'static str>,
        is_v2: bool,
    ) {
        let mut last = "";
        while let Some(word) = words.next() {
            match word {
                "}" => return,
                "{" => self.child_mut(last).add(words, shared, is_v2),
                "**" => self.is_open = true,
                _ if word.starts_with('$') => {
                    let keys = shared.get(word).copied().unwrap_or_default();
                    self.add(&mut Words(keys), shared, is_v2);
                }
                name => {
                    let child = self.child_mut(name);
                    child.is_listed = true;
                    child.is_v2 = is_v2;
                    last = name;
                }
            }
        }
    }

    /// The place of `name`, in any case, if there is one below this one.
    pub fn child(&self, name: &str) -> Option<&Self> {
        let name = name.to_lowercase();
        match self.named.get(name.as_str()) {
            None if self.is_open => Some(self),
            None => self.any.as_deref(),
            found => found,
        }
    }

    /// The place of a dotted path, in any case; positions in lists don't count.
    pub fn at(&self, path: &str) -> Option<&Self> {
        path.split('.')
            .map(|part| part.split('[').next().unwrap_or_default())
            .filter(|part| !part.is_empty())
            .try_fold(self, |place, part| place.child(part))
    }

    /// Whether the list names `path`.
    pub fn has(&self, path: &str) -> bool {
        self.at(path).is_some_and(|keys| keys.is_listed)
    }

    /// Whether the list names `path` as one of Traefik v2 only.
    pub fn is_v2(&self, path: &str) -> bool {
        self.at(path).is_some_and(|keys| keys.is_v2)
    }

    /// The names directly below.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.named.keys().copied()
    }
}

/// Braces and the words between them.
struct Words(&'static str);

impl Iterator for Words {
    type Item = &'static str;

    fn next(&mut self) -> Option<&'static str> {
        let text = self.0.trim_start();
        let is_brace = |c: char| c == '{' || c == '}';
        let end = match text.find(|c: char| c == ' ' || is_brace(c)) {
            Some(0) => 1,
            Some(end) => end,
            None => text.len(),
        };
        let (word, rest) = text.split_at_checked(end)?;
        self.0 = rest;
        (!word.is_empty()).then_some(word)
    }
}

/// Names each key that was written where `problems`, the decoder's about
/// `node`, only name the group that is not supported. `path` is where `node`
/// stands and `keys` is the same place in a list.
pub fn detail(problems: Vec<Diagnostic>, node: &Node, path: &str, keys: &Keys) -> Vec<Diagnostic> {
    let is_unsupported = |problem: &Diagnostic| problem.problem == Problem::Unsupported;
    let mut found = Vec::new();
    if problems.iter().any(is_unsupported) {
        walk(node, path, keys, false, &mut found);
    }
    let mut detailed = Vec::new();
    for problem in problems {
        let before = detailed.len();
        if is_unsupported(&problem) {
            let inside = |part: &&Diagnostic| is_below(&part.key, &problem.key);
            detailed.extend(found.iter().filter(inside).cloned());
        }
        if detailed.len() == before {
            detailed.push(suggest(problem, path, keys));
        }
    }
    detailed
}

/// Adds the nearest of Traefik's keys where the model has no near one.
fn suggest(mut problem: Diagnostic, path: &str, keys: &Keys) -> Diagnostic {
    let below = problem.key.get(path.len()..).unwrap_or_default();
    let (place, name) = below.rsplit_once('.').unwrap_or(("", below));
    if problem.problem == Problem::Unknown
        && problem.message == UNKNOWN
        && let Some(keys) = keys.at(place)
        && let Some(near) = nearest(name, keys.names())
    {
        problem.message = format!("{UNKNOWN}; did you mean {near:?}?");
    }
    problem
}

/// Whether the settings in `node` hold a key that only Traefik v2 has.
pub fn uses_v2(node: &Node, keys: &Keys) -> bool {
    let below = |name: &str, child: &Node| {
        keys.child(name)
            .is_some_and(|keys| (keys.is_listed && keys.is_v2) || uses_v2(child, keys))
    };
    node.entries().any(|(name, child)| below(name, child))
}

/// Whether `key` is `group` or something in it, whatever the case.
fn is_below(key: &str, group: &str) -> bool {
    key.split_at_checked(group.len())
        .is_some_and(|(head, rest)| {
            head.eq_ignore_ascii_case(group)
                && (rest.is_empty() || rest.starts_with('.') || rest.starts_with('['))
        })
}

/// Collects what is written at and below `node` in listed groups.
fn walk(node: &Node, path: &str, keys: &Keys, is_listed: bool, found: &mut Vec<Diagnostic>) {
    match &node.value {
        Value::Map(entries) if !entries.is_empty() => {
            for (name, child) in entries {
                let path = match path {
                    "" => name.clone(),
                    _ => format!("{path}.{name}"),
                };
                let position = name.bytes().all(|byte| byte.is_ascii_digit());
                match keys.child(name) {
                    Some(below) => {
                        walk(child, &path, below, is_listed || below.is_listed, found);
                    }
                    None if position => walk(child, &path, keys, is_listed, found),
                    None if is_listed => found.push(unknown(child, path, keys)),
                    None => {}
                }
            }
        }
        Value::List(items) if !items.is_empty() && !is_repeated(items) => {
            for (position, item) in items.iter().enumerate() {
                walk(item, &format!("{path}[{position}]"), keys, is_listed, found);
            }
        }
        _ if is_listed => found.push(unsupported(node, path, keys)),
        _ => {}
    }
}

/// Whether a list is nothing but texts: one setting, not several.
fn is_repeated(items: &[Node]) -> bool {
    !items
        .iter()
        .any(|item| matches!(item.value, Value::Map(_) | Value::List(_)))
}

fn unsupported(node: &Node, path: &str, keys: &Keys) -> Diagnostic {
    let message = if keys.is_v2 {
        "a setting that only Traefik v2 has; it has no effect"
    } else {
        "not supported yet"
    };
    Diagnostic {
        severity: Severity::Warning,
        problem: Problem::Unsupported,
        origin: node.origin.clone(),
        key: path.to_owned(),
        message: message.to_owned(),
    }
}

fn unknown(node: &Node, path: String, keys: &Keys) -> Diagnostic {
    let name = path.rsplit('.').next().unwrap_or_default();
    let message = match nearest(name, keys.names()) {
        Some(name) => format!("{UNKNOWN}; did you mean {name:?}?"),
        None => UNKNOWN.to_owned(),
    };
    Diagnostic {
        severity: Severity::Error,
        problem: Problem::Unknown,
        origin: node.origin.clone(),
        key: path,
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_say_what_traefik_has_and_nothing_else() {
        for (path, expected) in [
            (
                "certificatesresolvers.le.acme.httpchallenge.entrypoint",
                true,
            ),
            (
                "certificatesresolvers.le.acme.dnschallenge.propagation.disablechecks",
                true,
            ),
            ("certificatesresolvers.le.acme.emial", false),
            ("certificatesresolvers", true),
            ("providers.kubernetescrd.anything.at.all", true),
            ("providers.kubernetescrds", false),
            ("entrypoints.web.http3", true),
            ("entrypoints.web.http3.advertisedport", true),
            ("entrypoints.web", false),
            ("entrypoints.http3", false),
            ("metrics.otlp.grpc.tls.insecureskipverify", true),
            ("metrics.otlp.http.headers.x-token", true),
            ("metrics.otlp.http.insecure", false),
            ("pilot.token", true),
            ("", false),
            ("}", false),
            ("$tls", false),
        ] {
            assert_eq!(static_key(path), expected, "{path}");
        }
        for (path, expected) in [
            ("http.middlewares.m.ratelimit.redis.tls.ca", true),
            ("http.middlewares.m.ratelimit.redis.tls.cs", false),
            ("http.middlewares.m.plugin.own.any[0].thing", true),
            ("http.services.s.weighted.services[3].weight", true),
            ("tcp.routers.r.tls.domains[0].main", true),
            ("tcp.routers.r.tls.domain[0].main", false),
            ("udp.services.s.loadbalancer.server.port", true),
        ] {
            assert_eq!(dynamic_key(path), expected, "{path}");
        }
        assert!(STATIC.is_v2("tracing.jaeger.collector") && !STATIC.is_v2("tracing.otlp"));
    }

    #[test]
    fn lists_have_no_word_that_is_not_a_key() {
        fn check(keys: &Keys) {
            for (name, below) in &keys.named {
                let is_key = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
                assert!(!name.is_empty() && name.bytes().all(is_key), "{name:?}");
                check(below);
            }
            keys.any.as_deref().into_iter().for_each(check);
        }
        check(&STATIC);
        check(&DYNAMIC);
    }
}
