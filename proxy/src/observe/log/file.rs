//! A log file that can be opened again while it is written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use arc_swap::ArcSwap;
use tracing_subscriber::fmt::MakeWriter;

/// A file for appending. Each line is one write, so no lock is needed.
#[derive(Debug)]
pub(super) struct SharedFile {
    path: PathBuf,
    file: ArcSwap<File>,
}

impl SharedFile {
    /// Opens the file, with the folders it lies in.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let file = ArcSwap::from_pointee(append(&path)?);
        Ok(Self { path, file })
    }

    /// Opens the file again under its name.
    pub(super) fn reopen(&self) -> io::Result<()> {
        self.file.store(append(&self.path)?.into());
        Ok(())
    }
}

impl Write for &SharedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&**self.file.load()).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for SharedFile {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

fn append(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}
