//! Keeps a copy of what can't be read, before anything else happens to it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use tracing::warn;

use super::{Source, beside};

/// Copies of what was written in one second.
const MOST: usize = 9;

/// What was kept last.
#[derive(Debug, Default)]
pub(super) struct Aside {
    /// Of which content, and where; nothing if it could not be.
    last: Option<([u8; 32], Option<String>)>,
}

impl Aside {
    /// Copies a file once for each content. Returns the copy's name.
    pub(super) fn keep(&mut self, source: &Source, place: &str) -> Option<String> {
        let hash = source.hash()?;
        if let Some((known, copy)) = &self.last
            && *known == hash
        {
            return copy.clone();
        }
        let copy = copy(source);
        match &copy {
            Ok(copy) => {
                warn!(
                    file = place,
                    copy, "The certificates' file is damaged; a copy is kept"
                );
            }
            Err(error) => {
                warn!(file = place, %error, "The certificates' file is damaged, and can't be copied");
            }
        }
        let copy = copy.ok();
        self.last = Some((hash, copy.clone()));
        copy
    }
}

/// Copies a file to one beside it that is named after the time when it was written, so
/// that several proxies make one copy. What was written in the same second is another one.
fn copy(source: &Source) -> io::Result<String> {
    let written = fs::metadata(&source.path)?.mtime();
    let written = jiff::Timestamp::new(written, 0).map_err(io::Error::other)?;
    let text = fs::read(&source.path)?;
    let ending = format!("damaged-{}", written.strftime("%Y%m%dT%H%M%SZ"));
    let others = (2..=MOST).map(|nth| format!("{ending}-{nth}"));
    for ending in std::iter::once(ending.clone()).chain(others) {
        let path = beside(&source.path, &ending);
        if fs::read(&path).is_ok_and(|known| known == text) || make(&path, &text)? {
            return Ok(path.display().to_string());
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Makes a file, unless there is one.
fn make(path: &Path, text: &[u8]) -> io::Result<bool> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    match options.open(path) {
        Ok(mut copy) => {
            copy.write_all(text)?;
            copy.sync_all()?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}
