//! Finds out how the file can be written, and who else sees what lies beside it.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use tracing::warn;

use super::{Disk, Locks, StoreError, beside, replace};

/// `STATX_ATTR_MOUNT_ROOT`.
const MOUNT_ROOT: u64 = 0x2000;

/// How the file is written.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub(super) locks: Arc<Locks>,
    pub(super) is_in_place: bool,
}

impl Disk {
    /// How the file is written, found out once.
    pub(super) fn way(&mut self) -> Result<Way, StoreError> {
        if let Some(way) = &self.way {
            return Ok(way.clone());
        }
        let path = &self.main.path;
        let lock_file = beside(path, "lock");
        let reason = if is_mounted(path) {
            Some("it is mounted by itself".to_owned())
        } else {
            match make_lock_file(&lock_file, path) {
                Ok(()) => None,
                // Others have one: there is no other lock that they would see.
                Err(error) if lock_file.exists() => return Err(self.not_written(&error)),
                Err(error) => Some(format!("nothing can be made beside it: {error}")),
            }
        };
        if let Some(reason) = &reason {
            if let Err(error) = OpenOptions::new().write(true).open(path) {
                return Err(self.not_written(&error));
            }
            self.say_in_place(reason);
        }
        Ok(self.go(reason.is_some()))
    }

    pub(super) fn go(&mut self, is_in_place: bool) -> Way {
        let path = &self.main.path;
        let lock_file = if is_in_place {
            path.clone()
        } else {
            beside(path, "lock")
        };
        let way = Way {
            locks: Arc::new(Locks::new(lock_file, !is_in_place)),
            is_in_place,
        };
        self.main.is_locked_to_read = is_in_place;
        self.way = Some(way.clone());
        way
    }

    pub(super) fn say_in_place(&self, reason: &str) {
        warn!(
            file = %self.place, reason,
            "The certificates' file can't be replaced and is written in place: better mount its directory"
        );
    }
}

/// Makes the lock file, for everybody who may use the file itself.
fn make_lock_file(lock_file: &PathBuf, path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let made = options.read(true).write(true).create(true).mode(0o600);
    let made = made.open(lock_file)?;
    // Fails where it does not matter: if one who is not root shares it with nobody else.
    let _ = replace::give_away(&made, path);
    Ok(())
}

/// Whether a file is a mount of its own, so that nothing can be put in its place.
fn is_mounted(path: &Path) -> bool {
    let found = statx(CWD, path, AtFlags::empty(), StatxFlags::BASIC_STATS);
    found.is_ok_and(|found| found.stx_attributes & MOUNT_ROOT != 0)
}
