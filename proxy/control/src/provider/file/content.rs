//! What one file says, and what it said last that made sense.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tidegate_shared::settings::{Diagnostic, Origin, Problem, Severity, file};

use crate::config::dynamic::Configuration;
use crate::config::loader::LARGEST_FILE;
use crate::provider::decode::{Spelling, configuration, problems};

/// What a file held when it was read last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Seen {
    /// It was never read.
    #[default]
    Nothing,
    /// It is not there.
    Gone,
    /// The system refuses to read it, in its words.
    Unreadable(String),
    /// The content, by digest.
    Text([u8; 32]),
}

/// One file.
#[derive(Debug, Default)]
pub(super) struct Content {
    seen: Seen,
    good: Option<Configuration>,
    errors: Vec<Diagnostic>,
}

impl Content {
    /// The last content that could be used.
    pub(super) fn good(&self) -> Option<&Configuration> {
        self.good.as_ref()
    }

    /// What is wrong with the present content.
    pub(super) fn errors(&self) -> &[Diagnostic] {
        &self.errors
    }

    /// Whether the file is not there.
    pub(super) fn is_gone(&self) -> bool {
        self.seen == Seen::Gone
    }

    /// Reads the file again; true if it is not as it was. Where the file
    /// `must_exist`, its absence is an error like any other.
    pub(super) fn read(&mut self, path: &Path, must_exist: bool) -> bool {
        let text = read_bounded(path);
        let seen = match &text {
            Ok(text) => Seen::Text(Sha256::digest(text).into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => Seen::Gone,
            Err(error) => Seen::Unreadable(error.to_string()),
        };
        if seen == self.seen {
            return false;
        }
        self.seen = seen;
        self.errors = match text {
            Ok(text) => self.take(path, &text),
            Err(_) if self.is_gone() => Vec::new(),
            Err(error) => vec![whole(path, 0, format!("can't be read: {error}"))],
        };
        true
    }

    /// Makes `text` the good content, or tells why not.
    fn take(&mut self, path: &Path, text: &[u8]) -> Vec<Diagnostic> {
        match understand(path, text) {
            Ok(configuration) => {
                self.good = Some(configuration);
                Vec::new()
            }
            Err(errors) => errors,
        }
    }
}

/// What a file says, or everything that speaks against it.
fn understand(path: &Path, text: &[u8]) -> Result<Configuration, Vec<Diagnostic>> {
    let text = std::str::from_utf8(text)
        .map_err(|error| vec![whole(path, line_of(text, error.valid_up_to()), "not UTF-8")])?;
    if let Some(place) = text.find("{{") {
        let line = line_of(text.as_bytes(), place);
        let message = "templates are not supported yet in files";
        return Err(vec![Diagnostic {
            problem: Problem::Unsupported,
            ..whole(path, line, message)
        }]);
    }
    let root = file::parse(path, text).map_err(|problem| vec![problem])?;
    let configuration = configuration(&root, Spelling::File);
    let errors: Vec<_> = problems(&configuration)
        .filter(|problem| {
            problem.severity == Severity::Error && problem.problem != Problem::Unsupported
        })
        .cloned()
        .collect();
    if errors.is_empty() {
        Ok(configuration)
    } else {
        Err(errors)
    }
}

/// A complaint about a line; about the file if the line is 0.
fn whole(path: &Path, line: u32, message: impl Into<String>) -> Diagnostic {
    let origin = Origin::File {
        path: Arc::from(path),
        line,
    };
    Diagnostic::invalid(origin, "", message)
}

/// The line, from 1, that holds the byte at `offset`.
fn line_of(text: &[u8], offset: usize) -> u32 {
    let before = text.iter().take(offset).filter(|byte| **byte == b'\n');
    u32::try_from(before.count() + 1).unwrap_or(u32::MAX)
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    // Checked before opening: a named pipe would block.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut text = Vec::new();
    File::open(path)?
        .take(LARGEST_FILE + 1)
        .read_to_end(&mut text)?;
    if u64::try_from(text.len()).is_ok_and(|length| length > LARGEST_FILE) {
        let message = format!("larger than {} MiB", LARGEST_FILE >> 20);
        return Err(io::Error::other(message));
    }
    Ok(text)
}
