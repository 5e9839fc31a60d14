//! The settings as they were written, from everywhere, in one tree.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tidegate_shared::settings::{
    Diagnostic, Node, Origin, Problem, Severity, Value, environment, file, flags, nearest,
};

use super::{LoadError, STATIC, merge};

/// Larger configuration files are refused; in bytes.
pub const LARGEST_FILE: u64 = 16 << 20;

/// What the model has at its top, in lower case.
pub(super) const ROOTS: &[&str] = &[
    "global",
    "entrypoints",
    "providers",
    "api",
    "metrics",
    "ping",
    "log",
    "accesslog",
    "serverstransport",
    "core",
    "certificatesresolvers",
    "cluster",
    "workers",
];

/// The flag or variable that names the file.
const CONFIG_FILE: &str = "configfile";

/// Everything that was written.
pub(super) struct Sources {
    pub(super) root: Node,
    pub(super) problems: Vec<Diagnostic>,
    pub(super) file: Option<PathBuf>,
}

/// Where a configuration file is looked for if none is named, as Traefik does
/// and in its order: `/etc`, `$XDG_CONFIG_HOME`, `$HOME/.config`, here.
pub fn directories(env: impl Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    let home = env("HOME").map(|home| Path::new(&home).join(".config"));
    ["/etc/tidegate", "/etc/traefik"]
        .map(PathBuf::from)
        .into_iter()
        .chain(env("XDG_CONFIG_HOME").map(PathBuf::from))
        .chain(home)
        .chain([PathBuf::from(".")])
        .collect()
}

/// Reads flags, variables and the file.
pub(super) fn read(
    args: impl IntoIterator<Item = String>,
    env: impl IntoIterator<Item = (String, String)>,
    directories: &[PathBuf],
) -> Result<Sources, LoadError> {
    let env: Vec<_> = env.into_iter().collect();
    let mut problems = Vec::new();
    let traefik = variables("TRAEFIK_", &env, Severity::Warning, &mut problems);
    let tidegate = variables("TIDEGATE_", &env, Severity::Error, &mut problems);
    let mut above = merge(merge(traefik, tidegate), flags::tree(args)?);
    let file = match take(&mut above, CONFIG_FILE) {
        Some(named) => Some(named_file(&named)?),
        None => find(directories),
    };
    let base = match &file {
        Some(path) => parse(path)?,
        None => Node::new(Value::Map(Vec::new()), Origin::Internal),
    };
    Ok(Sources {
        root: merge(base, above),
        problems,
        file,
    })
}

/// The variables that are settings. Others share the prefix without being
/// meant: Docker and Kubernetes make up some for a service of that name. Only
/// what looks like a mistyped setting is spoken of.
fn variables(
    prefix: &str,
    env: &[(String, String)],
    severity: Severity,
    problems: &mut Vec<Diagnostic>,
) -> Node {
    let (mut node, refused) = environment::tree(prefix, env.iter().cloned());
    let is_ours =
        |root: &str| root == CONFIG_FILE || ROOTS.contains(&root) || STATIC.child(root).is_some();
    let mine = |key: &str| is_ours(key.split('.').next().unwrap_or_default());
    problems.extend(refused.into_iter().filter(|problem| mine(&problem.key)));
    if let Value::Map(entries) = &mut node.value {
        entries.retain(|(name, child)| {
            let near = nearest(name, ROOTS.iter().copied().chain(STATIC.names()));
            if let Some(near) = near.filter(|_| !is_ours(name)) {
                let message = format!("unknown key; did you mean {near:?}?");
                problems.push(Diagnostic {
                    severity,
                    problem: Problem::Unknown,
                    ..Diagnostic::invalid(child.origin.clone(), name.clone(), message)
                });
            }
            is_ours(name)
        });
    }
    node
}

/// Takes the setting called `name` out of a tree's top.
fn take(root: &mut Node, name: &str) -> Option<Node> {
    let Value::Map(entries) = &mut root.value else {
        return None;
    };
    let place = entries
        .iter()
        .position(|(key, _)| key.eq_ignore_ascii_case(name))?;
    Some(entries.remove(place).1)
}

/// The file that a flag names; of several flags the last counts.
fn named_file(node: &Node) -> Result<PathBuf, LoadError> {
    let last = match &node.value {
        Value::List(items) => items.last().unwrap_or(node),
        _ => node,
    };
    match &last.value {
        Value::Text(path) if !path.is_empty() => Ok(PathBuf::from(path)),
        _ => {
            let problem =
                Diagnostic::invalid(node.origin.clone(), "configFile", "expected a file's name");
            Err(LoadError::Settings(vec![problem]))
        }
    }
}

fn find(directories: &[PathBuf]) -> Option<PathBuf> {
    let names = |directory: &PathBuf| {
        ["tidegate", "traefik"].into_iter().flat_map({
            let directory = directory.clone();
            move |name| {
                ["toml", "yaml", "yml"]
                    .map(|extension| directory.join(format!("{name}.{extension}")))
            }
        })
    };
    directories
        .iter()
        .flat_map(names)
        .find(|path| path.is_file())
}

fn parse(path: &Path) -> Result<Node, LoadError> {
    let text = read_bounded(path).map_err(|source| LoadError::File {
        path: path.to_owned(),
        source,
    })?;
    file::parse(path, &text).map_err(|problem| LoadError::Settings(vec![problem]))
}

/// The text of a file that is not larger than [`LARGEST_FILE`].
fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let read = file.take(LARGEST_FILE + 1).read_to_string(&mut text)?;
    if u64::try_from(read).is_ok_and(|read| read > LARGEST_FILE) {
        let message = format!("larger than {} MiB", LARGEST_FILE >> 20);
        return Err(io::Error::other(message));
    }
    Ok(text)
}
