//! The kernel's settings under `/proc/sys`.
//!
//! Reads them, writes only what differs, remembers what was there and puts it
//! back. Reading and writing them never waits for a device, so it may be done on
//! the runtime's threads. A container often has `/proc/sys` read-only: another
//! place where it can be written is tried first, and a setting that can't be
//! written is told apart from one that the kernel does not have.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

/// Where the kernel shows its settings.
const USUAL: &str = "/proc/sys";

/// Why a setting can't be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SysctlError {
    /// The kernel has no such setting, or its module is not loaded.
    #[error("the kernel has no setting {0}")]
    Missing(String),
    /// It is there, and can't be written.
    #[error(
        "the setting {0} can't be written: /proc/sys is read-only; give the container the \
         host's (-v /proc/sys/net:/host/proc/sys/net) and name it (--proc-sys /host/proc/sys)"
    )]
    ReadOnly(String),
    /// It is there, and this process may not write it.
    #[error("no permission to write the setting {0}: the capability NET_ADMIN is needed")]
    Denied(String),
    /// The kernel does not take the value, or something else.
    #[error("the setting {key} can't be read or written")]
    Refused {
        /// The setting.
        key: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// A setting that was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    before: String,
    written: String,
}

/// The kernel's settings, as this process changes them. A key is its path, such
/// as `net/ipv4/conf/all/arp_ignore`.
#[derive(Debug)]
pub struct Sysctl {
    roots: Vec<PathBuf>,
    changes: BTreeMap<String, Change>,
}

impl Sysctl {
    /// The settings at `first`, if that is given, and at `/proc/sys`.
    pub fn new(first: Option<&Path>) -> Self {
        let usual = Path::new(USUAL);
        let roots = first.into_iter().chain([usual]).map(Path::to_owned);
        Self {
            roots: roots.collect(),
            changes: BTreeMap::new(),
        }
    }

    /// The value, without the end of its line.
    ///
    /// # Errors
    /// When it is missing or can't be read.
    pub fn read(&self, key: &str) -> Result<String, SysctlError> {
        let path = plain(key)?;
        let mut worst = SysctlError::Missing(key.to_owned());
        for root in &self.roots {
            match fs::read_to_string(root.join(path)) {
                Ok(text) => return Ok(text.trim_end().to_owned()),
                Err(error) => worst = worse(worst, failure(key, error)),
            }
        }
        Err(worst)
    }

    /// The value as a number.
    ///
    /// # Errors
    /// As [`Self::read`]; and when it is none.
    pub fn number(&self, key: &str) -> Result<i64, SysctlError> {
        let text = self.read(key)?;
        text.parse().map_err(|_| SysctlError::Refused {
            key: key.to_owned(),
            source: io::Error::new(ErrorKind::InvalidData, "it is no number"),
        })
    }

    /// Sees to it that the setting has this value, and says what it had before
    /// if that was another. Numbers apart by blanks are compared one by one.
    ///
    /// # Errors
    /// When it is missing or can't be written.
    pub fn set(&mut self, key: &str, value: &str) -> Result<Option<String>, SysctlError> {
        let before = self.read(key)?;
        if before.split_whitespace().eq(value.split_whitespace()) {
            return Ok(None);
        }
        self.write(key, value)?;
        let change = self.changes.entry(key.to_owned());
        let change = change.or_insert_with(|| Change {
            before: before.clone(),
            written: String::new(),
        });
        value.clone_into(&mut change.written);
        Ok(Some(before))
    }

    /// Sees to it that a number is not below this one, and says what it was if
    /// it was.
    ///
    /// # Errors
    /// As [`Self::set`].
    pub fn raise(&mut self, key: &str, least: i64) -> Result<Option<i64>, SysctlError> {
        let before = self.number(key)?;
        if before >= least {
            return Ok(None);
        }
        self.set(key, &least.to_string())?;
        Ok(Some(before))
    }

    /// Puts back what was there before, the last changed setting or not, unless
    /// somebody has changed it since. Says what can't be put back.
    pub fn restore(&mut self) -> Vec<SysctlError> {
        let changes = std::mem::take(&mut self.changes);
        let mut troubles = Vec::new();
        for (key, change) in changes {
            let is_ours = self.read(&key).is_ok_and(|now| now == change.written);
            if is_ours && let Err(trouble) = self.write(&key, &change.before) {
                troubles.push(trouble);
            }
        }
        troubles
    }

    fn write(&self, key: &str, value: &str) -> Result<(), SysctlError> {
        let path = plain(key)?;
        let mut worst = SysctlError::Missing(key.to_owned());
        for root in &self.roots {
            match overwrite(&root.join(path), value) {
                Ok(()) => return Ok(()),
                Err(error) => worst = worse(worst, failure(key, error)),
            }
        }
        Err(worst)
    }
}

/// Writes to what exists: a setting is never made.
fn overwrite(path: &Path, value: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(path)?;
    io::Write::write_all(&mut file, value.as_bytes())
}

/// The key as a path that stays below its root: parts of it are the names of
/// interfaces, and those come from outside.
fn plain(key: &str) -> Result<&Path, SysctlError> {
    let path = Path::new(key);
    let mut parts = path.components();
    let is_plain = !key.is_empty() && parts.all(|part| matches!(part, Component::Normal(_)));
    is_plain
        .then_some(path)
        .ok_or_else(|| SysctlError::Missing(key.to_owned()))
}

fn failure(key: &str, source: io::Error) -> SysctlError {
    let key = key.to_owned();
    match source.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => SysctlError::Missing(key),
        ErrorKind::ReadOnlyFilesystem => SysctlError::ReadOnly(key),
        ErrorKind::PermissionDenied => SysctlError::Denied(key),
        _ => SysctlError::Refused { key, source },
    }
}

/// The one that says more: that it is there.
fn worse(known: SysctlError, new: SysctlError) -> SysctlError {
    match new {
        SysctlError::Missing(_) => known,
        new => new,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "net/ipv4/conf/all/arp_ignore";

    /// A directory of this test's own, removed at the end.
    struct Root(PathBuf);

    impl Root {
        fn new(name: &str) -> Self {
            let name = format!("tidegate-sysctl-{}-{name}", std::process::id());
            let root = std::env::temp_dir().join(name);
            let _ = fs::remove_dir_all(&root);
            fs::create_dir_all(root.join("net/ipv4/conf/all")).unwrap();
            Self(root)
        }

        fn put(&self, value: &str) {
            fs::write(self.0.join(KEY), value).unwrap();
        }

        fn value(&self) -> String {
            fs::read_to_string(self.0.join(KEY)).unwrap()
        }

        fn sysctl(&self) -> Sysctl {
            Sysctl {
                roots: vec![self.0.clone()],
                changes: BTreeMap::new(),
            }
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_differs_is_written_and_put_back() {
        let root = Root::new("restore");
        root.put("0\n");
        let mut sysctl = root.sysctl();
        assert_eq!(sysctl.set(KEY, "1").unwrap(), Some("0".to_owned()));
        assert_eq!(sysctl.set(KEY, "1").unwrap(), None);
        root.put("0\n");
        assert_eq!(sysctl.set(KEY, "2").unwrap(), Some("0".to_owned()));
        assert_eq!(root.value(), "2");
        assert!(sysctl.restore().is_empty());
        assert_eq!(root.value(), "0");
    }

    #[test]
    fn what_somebody_else_wrote_since_stays() {
        let root = Root::new("stranger");
        root.put("0\n");
        let mut sysctl = root.sysctl();
        sysctl.set(KEY, "1").unwrap();
        root.put("3\n");
        assert!(sysctl.restore().is_empty());
        assert_eq!(root.value(), "3\n");
    }

    #[test]
    fn equal_numbers_are_equal_however_apart() {
        let root = Root::new("blanks");
        root.put("1\t50\n");
        assert_eq!(root.sysctl().set(KEY, "1 50").unwrap(), None);
        assert_eq!(root.value(), "1\t50\n");
    }

    #[test]
    fn a_number_is_raised_and_never_lowered() {
        let root = Root::new("raise");
        root.put("2\n");
        let mut sysctl = root.sysctl();
        assert_eq!(sysctl.raise(KEY, 1).unwrap(), None);
        assert_eq!(sysctl.raise(KEY, 3).unwrap(), Some(2));
        root.put("no number\n");
        assert!(matches!(
            sysctl.raise(KEY, 3),
            Err(SysctlError::Refused { .. })
        ));
    }

    #[test]
    fn missing_is_told_from_refused() {
        let root = Root::new("missing");
        let mut sysctl = root.sysctl();
        for key in [KEY, "", "/etc/passwd", "net/../../etc/passwd"] {
            let trouble = sysctl.set(key, "1");
            assert!(matches!(trouble, Err(SysctlError::Missing(_))), "{key}");
        }
        fs::create_dir(root.0.join(KEY)).unwrap();
        let trouble = sysctl.set(KEY, "1");
        assert!(matches!(trouble, Err(SysctlError::Refused { .. })));
    }

    #[test]
    fn the_first_place_that_has_it_is_used() {
        let (first, second) = (Root::new("first"), Root::new("second"));
        second.put("0\n");
        let mut sysctl = Sysctl {
            roots: vec![first.0.clone(), second.0.clone()],
            changes: BTreeMap::new(),
        };
        sysctl.set(KEY, "1").unwrap();
        assert_eq!(second.value(), "1");
        first.put("0\n");
        sysctl.set(KEY, "1").unwrap();
        assert_eq!(
            (first.value(), second.value()),
            ("1".to_owned(), "1".to_owned())
        );
    }
}
