//! Where lines go: the standard output or a file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::AccessLogError;

/// The end of the line.
#[derive(Debug)]
pub(super) enum Sink {
    Stdout,
    File {
        path: PathBuf,
        file: File,
    },
    #[cfg(test)]
    Gated(std::sync::mpsc::Receiver<()>),
}

impl Sink {
    /// Opens a file for appending, with the folders it lies in; no name means
    /// the standard output.
    pub(super) fn open(path: &str) -> Result<Self, AccessLogError> {
        if path.is_empty() {
            return Ok(Self::Stdout);
        }
        let path = PathBuf::from(path);
        match append(&path) {
            Ok(file) => Ok(Self::File { path, file }),
            Err(source) => Err(AccessLogError::Open { path, source }),
        }
    }

    /// Opens the file again under its name. Keeps the old one where that fails.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        if let Self::File { path, file } = self {
            *file = append(path)?;
        }
        Ok(())
    }

    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(lines)?;
                stdout.flush()
            }
            Self::File { file, .. } => file.write_all(lines),
            #[cfg(test)]
            Self::Gated(gate) => gate.recv().map_err(io::Error::other),
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}
