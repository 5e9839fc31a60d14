//! A directory that goes away with its owner.

use std::path::{Path, PathBuf};
use std::{env, fs, io, process};

/// A private temporary directory, removed on drop.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes an empty directory under the system's temporary directory.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn new() -> io::Result<Self> {
        let name = format!("tidegate-test-{}-{:016x}", process::id(), fastrand::u64(..));
        let path = env::temp_dir().join(name);
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes `name` in one step, as a careful editor does: a watcher never
    /// sees half a file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.0.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let draft = self.0.join(format!(".draft-{:016x}", fastrand::u64(..)));
        fs::write(&draft, text)?;
        fs::rename(draft, &path)?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_away_with_its_owner() {
        let scratch = Scratch::new().unwrap();
        let path = scratch.write("deep/file.yml", "a: 1").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "a: 1");
        drop(scratch);
        assert!(!path.exists());
    }
}
