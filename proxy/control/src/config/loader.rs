//! The static configuration out of flags, environment variables and one file.
//!
//! Traefik takes exactly one of the three; here they are laid over each other:
//! a flag wins over a variable, a variable over the file, the file over the
//! default. Whoever uses one source only notices no difference. Reads the file,
//! checks the result, and names every mistake at once with its origin. It
//! starts nothing and prints nothing; `main` does.

mod check;
mod legacy;
mod source;

use std::path::PathBuf;

use thiserror::Error;
use tidegate_shared::settings::flags::FlagError;
use tidegate_shared::settings::labels::merge;
use tidegate_shared::settings::{Decoded, Diagnostic, Node, Severity, Value, decode};

use super::dialect;
use super::known::{self, STATIC};
use super::startup::{EntryPoint, StaticConfig};

pub use source::{LARGEST_FILE, directories};

/// The entry point of the API and, by default, of ping and metrics.
const INTERNAL_ENTRY_POINT: &str = "traefik";

/// What was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The configuration: checked, with what it implies filled in.
    pub config: StaticConfig,
    /// What was written and has no effect, to be logged once.
    pub warnings: Vec<Diagnostic>,
    /// The file that was read, if there was one.
    pub file: Option<PathBuf>,
}

/// Why there is no configuration. The text has a line for each mistake.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The command line can't be read.
    #[error(transparent)]
    Flags(#[from] FlagError),
    /// The configuration file can't be read.
    #[error("the configuration file {} can't be read: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Settings that don't exist or can't be used, in the order they were met.
    #[error("{}", lines(.0))]
    Settings(Vec<Diagnostic>),
}

fn lines(problems: &[Diagnostic]) -> String {
    let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// Reads and checks the static configuration.
///
/// `args` are the flags without the program's name, `env` the environment
/// (`TRAEFIK_...` and, winning over it, `TIDEGATE_...`). The file is what
/// `configFile` says, or else the first that exists of `tidegate` and `traefik`
/// with `.toml`, `.yaml` or `.yml` in one of `directories`, in their order.
///
/// # Errors
/// All mistakes that can be told apart, not only the first.
pub fn load(
    args: impl IntoIterator<Item = String>,
    env: impl IntoIterator<Item = (String, String)>,
    directories: &[PathBuf],
) -> Result<Loaded, LoadError> {
    let sources = source::read(args, env, directories)?;
    let root = sources.root;
    let mut problems = legacy::v1(&root);
    if !problems.is_empty() {
        return Err(LoadError::Settings(problems));
    }
    problems = sources.problems;
    let config = match typed(&root, &mut problems) {
        Some(mut config) => {
            legacy::adopt_v2(&mut config, &root, &mut problems);
            imply_entry_points(&mut config);
            check::check(&mut config, &root, &mut problems);
            Some(config)
        }
        None => None,
    };
    let (errors, warnings): (Vec<_>, _) = problems
        .into_iter()
        .partition(|problem| problem.severity == Severity::Error);
    match config {
        Some(config) if errors.is_empty() => Ok(Loaded {
            config,
            warnings,
            file: sources.file,
        }),
        _ => Err(LoadError::Settings(errors)),
    }
}

/// The model, and all that the decoder finds.
fn typed(root: &Node, problems: &mut Vec<Diagnostic>) -> Option<StaticConfig> {
    let Decoded {
        value,
        problems: found,
    } = decode(root, "", &dialect::STATIC);
    if value.is_some() {
        problems.extend(known::detail(found, root, "", &STATIC));
        return value;
    }
    // The decoder stops at the first invalid value. To name all mistakes, each
    // part is decoded again by itself.
    let before = problems.len();
    for part in parts(root) {
        let found = decode::<StaticConfig>(&part, "", &dialect::STATIC).problems;
        problems.extend(known::detail(found, &part, "", &STATIC));
    }
    let is_error = |problem: &Diagnostic| problem.severity == Severity::Error;
    if !problems.iter().skip(before).any(is_error) {
        // What is wrong shows only in the whole: a name that is written twice.
        problems.extend(found.into_iter().filter(is_error));
    }
    None
}

/// The tree cut into trees of one setting or small group each.
fn parts(root: &Node) -> Vec<Node> {
    let wrap = |name: &str, node: Node| {
        let origin = node.origin.clone();
        Node::new(Value::Map(vec![(name.to_owned(), node)]), origin)
    };
    let mut parts = Vec::new();
    for (name, node) in root.entries() {
        let children: Vec<_> = node.entries().collect();
        if children.is_empty() {
            parts.push(wrap(name, node.clone()));
        }
        for (below, child) in children {
            parts.push(wrap(name, wrap(below, child.clone())));
        }
    }
    parts
}

/// Adds the entry points that Traefik adds: `http` on port 80 where there is
/// none, `traefik` on port 8080 where something built in needs it.
fn imply_entry_points(config: &mut StaticConfig) {
    let at = |address: &str| EntryPoint {
        address: address.to_owned(),
        ..EntryPoint::default()
    };
    let internal = INTERNAL_ENTRY_POINT.to_owned();
    if config.entry_points.keys().all(|name| *name == internal) {
        config.entry_points.insert("http".to_owned(), at(":80"));
    }
    let ping = config
        .ping
        .as_ref()
        .is_some_and(|ping| !ping.manual_routing && ping.entry_point == internal);
    let prometheus = config
        .metrics
        .as_ref()
        .and_then(|metrics| metrics.prometheus.as_ref())
        .is_some_and(|metrics| !metrics.manual_routing && metrics.entry_point == internal);
    let api = config.api.as_ref().is_some_and(|api| api.insecure);
    if api || ping || prometheus {
        config
            .entry_points
            .entry(internal)
            .or_insert_with(|| at(":8080"));
    }
}

#[cfg(test)]
mod tests;
