//! The tree that every spelling of the configuration is read into.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Where a setting was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A command line flag, as typed up to its `=`.
    Flag(Arc<str>),
    /// An environment variable, by name.
    Environment(Arc<str>),
    /// A line of a configuration file; lines count from 1.
    File {
        /// The file as it was given to the process.
        path: Arc<Path>,
        /// The line, from 1; 0 means the file as a whole.
        line: u32,
    },
    /// A label of a container or of a Swarm service.
    Label {
        /// What carries the label, for example `service web`.
        owner: Arc<str>,
        /// The label's key as it was written; empty means the labels as a whole.
        key: Arc<str>,
    },
    /// Built into the program.
    Internal,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::File { path, line: 0 } => write!(f, "{}", path.display()),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Label { owner, key } if key.is_empty() => write!(f, "{owner}"),
            Self::Label { owner, key } => write!(f, "{owner}, label {key}"),
            Self::Internal => f.write_str("internal"),
        }
    }
}

/// One setting, or a group of them, and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What was written.
    pub value: Value,
    /// Where it was written; for a group, where it begins.
    pub origin: Origin,
}

/// What a [`Node`] holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing: an empty YAML value.
    Null,
    /// A truth value that the file format itself knows as one.
    Bool(bool),
    /// A whole number that the file format itself knows as one.
    Integer(i64),
    /// A fraction that the file format itself knows as one.
    Float(f64),
    /// Text. Labels, flags and environment variables hold nothing else: the
    /// decoder turns it into what the setting wants.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// Named settings in the order they were written. Names keep their
    /// spelling; they are compared without regard to case.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// A node that holds `value` and was written at `origin`.
    pub fn new(value: Value, origin: Origin) -> Self {
        Self { value, origin }
    }

    /// The child called `name`, whatever its case, if this is a map that has one.
    pub fn get(&self, name: &str) -> Option<&Self> {
        let Value::Map(entries) = &self.value else {
            return None;
        };
        entries
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, node)| node)
    }

    /// The named children in the order they were written; none unless this is
    /// a map. For callers that decode each router or service by itself, so
    /// that one that is broken does not take the others along.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Self)> {
        let entries = match &self.value {
            Value::Map(entries) => entries.as_slice(),
            _ => &[],
        };
        entries.iter().map(|(name, node)| (name.as_str(), node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_children_whatever_their_case() {
        let text = |text: &str| Node::new(Value::Text(text.to_owned()), Origin::Internal);
        let children = vec![
            ("Rule".to_owned(), text("a")),
            ("tls".to_owned(), text("b")),
        ];
        let map = Node::new(Value::Map(children), Origin::Internal);
        assert_eq!(map.get("rULE"), Some(&text("a")));
        assert_eq!(map.get("rules"), None);
        assert_eq!(
            map.entries().map(|(name, _)| name).collect::<Vec<_>>(),
            ["Rule", "tls"]
        );
        assert_eq!(text("a").entries().count(), 0);
    }
}
