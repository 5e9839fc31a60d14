//! Which files there are, and how they look from outside.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tidegate_shared::settings::{Diagnostic, Origin};

use crate::config::startup::FileProvider;

/// Deeper directories are not entered.
const DEEPEST: usize = 32;
/// More files than this are not read.
const MOST_FILES: usize = 10_000;
/// File times are no finer than this everywhere.
const FRESH: Duration = Duration::from_millis(40);

/// One look at the configured file or directory.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// The files to read, in the order in which they count.
    pub(super) files: BTreeSet<PathBuf>,
    directories: Vec<PathBuf>,
    /// The first directory that can't be read, and why.
    pub(super) problem: Option<Diagnostic>,
}

/// Identity, size and time of every file, and which directories there are; two
/// looks that give the same found the same content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fingerprint {
    files: Vec<(PathBuf, Option<Facts>)>,
    directories: Vec<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Facts {
    device: u64,
    inode: u64,
    size: u64,
    modified: Option<SystemTime>,
}

impl Fingerprint {
    /// This one, or an empty one if a file was written a moment ago: the next
    /// write may come so soon that it leaves the same time behind.
    pub(super) fn unless_fresh(self) -> Self {
        let is_fresh = |facts: &Facts| {
            let age = facts.modified.map(|modified| modified.elapsed());
            age.is_some_and(|age| age.unwrap_or_default() < FRESH)
        };
        if self
            .files
            .iter()
            .any(|(_, facts)| facts.as_ref().is_some_and(is_fresh))
        {
            return Self::default();
        }
        self
    }
}

impl Scan {
    /// Looks at what `config` names.
    pub(super) fn new(config: &FileProvider) -> Self {
        let mut scan = Self::default();
        if config.directory.is_empty() {
            scan.files.insert(PathBuf::from(&config.filename));
            return scan;
        }
        scan.enter(Path::new(&config.directory), 0);
        scan
    }

    /// Takes what is in a directory; what can't be read is noted.
    fn enter(&mut self, directory: &Path, depth: usize) {
        if let Err(error) = self.take(directory, depth) {
            let origin = Origin::File {
                path: Arc::from(directory),
                line: 0,
            };
            let problem = Diagnostic::invalid(origin, "", format!("can't be read: {error}"));
            self.problem.get_or_insert(problem);
        }
    }

    /// Symbolic links to directories are not followed, as in Traefik. Names
    /// that begin with two dots are how Kubernetes keeps old and new side by
    /// side; the links beside them lead to the right ones.
    fn take(&mut self, directory: &Path, depth: usize) -> io::Result<()> {
        if depth > DEEPEST {
            return Err(io::Error::other("directories are nested too deep"));
        }
        self.directories.push(directory.to_owned());
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(b"..") {
                continue;
            }
            if entry.file_type()?.is_dir() {
                self.enter(&entry.path(), depth + 1);
            } else if is_supported(&entry.path()) {
                self.files.insert(entry.path());
            }
            if self.files.len() > MOST_FILES || self.directories.len() > MOST_FILES {
                let message = format!("more than {MOST_FILES} files or directories");
                return Err(io::Error::other(message));
            }
        }
        Ok(())
    }

    /// How the files look now.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        let look = |path: &PathBuf| {
            let facts = fs::metadata(path).ok().map(|metadata| Facts {
                device: metadata.dev(),
                inode: metadata.ino(),
                size: metadata.size(),
                modified: metadata.modified().ok(),
            });
            (path.clone(), facts)
        };
        Fingerprint {
            files: self.files.iter().map(look).collect(),
            directories: self.directories.clone(),
        }
    }

    /// The places where a change can show: the directories, those of the files
    /// that links lead to, and the files themselves.
    pub(super) fn watched(&self) -> BTreeSet<PathBuf> {
        let mut watched: BTreeSet<_> = self.directories.iter().cloned().collect();
        for path in &self.files {
            watched.insert(parent(path));
            if let Ok(target) = fs::canonicalize(path) {
                watched.insert(parent(&target));
                watched.insert(target);
            }
        }
        watched
    }
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn is_supported(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default();
    ["yml", "yaml", "toml"]
        .iter()
        .any(|known| extension.eq_ignore_ascii_case(known))
}
