//! What one run of the decoder carries along: where it is, and what it found.
//!
//! Used by the deserializers beside it only.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

use super::Dialect;
use super::error::DecodeError;
use crate::settings::{Diagnostic, Node, Problem, Severity, nearest};

/// Where a node stands, as a chain that lives on the stack; written out only
/// when there is something to say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'p> {
    parent: Option<&'p Self>,
    step: Step<'p>,
    /// How many steps lead here from the root.
    pub(super) depth: usize,
}

#[derive(Clone, Copy, Debug)]
enum Step<'p> {
    Name(&'p str),
    Position(usize),
}

impl<'p> Place<'p> {
    pub(super) fn root(path: &'p str) -> Self {
        Self {
            parent: None,
            step: Step::Name(path),
            depth: 0,
        }
    }

    pub(super) fn field<'c>(&'c self, name: &'c str) -> Place<'c> {
        Place {
            parent: Some(self),
            step: Step::Name(name),
            depth: self.depth + 1,
        }
    }

    pub(super) fn item(&self, position: usize) -> Place<'_> {
        Place {
            parent: Some(self),
            step: Step::Position(position),
            depth: self.depth + 1,
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chain = vec![self.step];
        let mut place = self;
        while let Some(parent) = place.parent {
            chain.push(parent.step);
            place = parent;
        }
        let mut first = true;
        for step in chain.into_iter().rev() {
            match step {
                Step::Name("") => continue,
                Step::Name(name) if first => f.write_str(name)?,
                Step::Name(name) => write!(f, ".{name}")?,
                Step::Position(position) => write!(f, "[{position}]")?,
            }
            first = false;
        }
        Ok(())
    }
}

/// What is shared by all parts of one run.
pub(super) struct Context<'d> {
    dialect: &'d Dialect<'d>,
    problems: RefCell<Vec<Diagnostic>>,
    /// Paths of structs known to be switched off.
    off: HashSet<String>,
    /// Those that this run met and did not know about.
    found: RefCell<HashSet<String>>,
}

impl<'d> Context<'d> {
    pub(super) fn new(dialect: &'d Dialect<'d>, off: HashSet<String>) -> Self {
        Self {
            dialect,
            problems: RefCell::default(),
            off,
            found: RefCell::default(),
        }
    }

    /// The problems, the paths that were known to be off, and those found to be.
    pub(super) fn into_parts(self) -> (Vec<Diagnostic>, HashSet<String>, HashSet<String>) {
        (
            self.problems.into_inner(),
            self.off,
            self.found.into_inner(),
        )
    }

    pub(super) fn allows_empty(&self, name: &str) -> bool {
        self.dialect.allow_empty.contains(&name)
    }

    /// Whether an earlier run met a struct switched off here.
    pub(super) fn is_off(&self, place: &Place<'_>) -> bool {
        !self.off.is_empty() && self.off.contains(&place.to_string())
    }

    /// Notes a struct switched off; false if that was known already.
    pub(super) fn note_off(&self, place: &Place<'_>) -> bool {
        let path = place.to_string();
        !self.off.contains(&path) && {
            self.found.borrow_mut().insert(path);
            true
        }
    }

    /// Notes that what `node` holds can't be used.
    pub(super) fn invalid(
        &self,
        node: &Node,
        place: &Place<'_>,
        message: impl Into<String>,
    ) -> DecodeError {
        self.note(Diagnostic::invalid(
            node.origin.clone(),
            place.to_string(),
            message,
        ));
        DecodeError::Noted
    }

    /// Notes a key that is none of `names`.
    pub(super) fn unknown(&self, node: &Node, place: &Place<'_>, key: &str, names: &[&str]) {
        let path = place.field(key).to_string();
        let (severity, problem, message) = if (self.dialect.is_known)(&path.to_lowercase()) {
            (
                Severity::Warning,
                Problem::Unsupported,
                "not supported yet".to_owned(),
            )
        } else {
            let message = match nearest(key, names.iter().copied()) {
                Some(name) => format!("unknown key; did you mean {name:?}?"),
                None => "unknown key".to_owned(),
            };
            (Severity::Error, Problem::Unknown, message)
        };
        self.note(Diagnostic {
            severity,
            problem,
            origin: node.origin.clone(),
            key: path,
            message,
        });
    }

    fn note(&self, problem: Diagnostic) {
        self.problems.borrow_mut().push(problem);
    }
}
