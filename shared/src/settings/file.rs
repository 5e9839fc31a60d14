//! Configuration files as a tree.
//!
//! Owns the choice between YAML and TOML, and what both have in common: every
//! node knows its line, and no file, however it is built, takes unbounded
//! memory or stack. Reads no file itself. The file provider and the programs'
//! configuration loaders call this.

mod scalar;
mod toml;
mod yaml;

use std::path::Path;
use std::sync::Arc;

use super::tree::DEEPEST;
use super::{Diagnostic, Node, Origin, Value};

/// Reads `text`, the content of the file at `path`; the extension says what
/// it is: `.yml`, `.yaml` or `.toml`, in any case. An empty file is an empty
/// map.
///
/// # Errors
/// The first thing that makes the file unreadable, with its line. A complaint
/// about the file as a whole has line 0 and an empty key.
pub fn parse(path: &Path, text: &str) -> Result<Node, Diagnostic> {
    let source = Source {
        path: Arc::from(path),
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    let node = match extension.to_str() {
        Some("yml" | "yaml") => yaml::parse(&source, text)?,
        Some("toml") => toml::parse(&source, text)?,
        _ => return Err(source.error(0, "only .yml, .yaml and .toml files can be read")),
    };
    match node.value {
        Value::Map(_) => Ok(node),
        Value::Null => Ok(Node::new(Value::Map(Vec::new()), node.origin)),
        _ => Err(Diagnostic::invalid(
            node.origin,
            "",
            "expected named settings at the top",
        )),
    }
}

/// The file that is being read.
struct Source {
    path: Arc<Path>,
}

impl Source {
    fn origin(&self, line: usize) -> Origin {
        Origin::File {
            path: Arc::clone(&self.path),
            line: u32::try_from(line).unwrap_or(u32::MAX),
        }
    }

    fn error(&self, line: usize, message: impl Into<String>) -> Diagnostic {
        Diagnostic::invalid(self.origin(line), "", message)
    }

    fn too_deep(&self, line: usize) -> Diagnostic {
        self.error(line, format!("nested more than {DEEPEST} levels deep"))
    }
}

#[cfg(test)]
mod tests;
