//! Locks over processes and machines.
//!
//! Each lock is one byte of a lock file, held as an open file description lock
//! (fcntl): the kernel gives it back when its holder dies, NFS and CIFS carry it to
//! their server, and bytes far behind the end need not exist. On mounts that keep
//! locks to themselves (`nolock`), or where nobody can tell, a claim (`claim.rs`) beside
//! the lock file says the same, in a way that needs no more than directories.

use std::fs::{File, OpenOptions};
use std::hash::Hasher;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::claim::{Claim, Claims};

/// Names' bytes begin here: behind everything that a file like this will ever hold,
/// because CIFS keeps others from reading what is locked.
const FIRST: libc::off_t = 1 << 30;

/// The byte of those who write; names have the ones behind it.
const WRITERS: libc::off_t = FIRST - 1;

/// The longest pause before a busy lock is tried again.
const AGAIN: Duration = Duration::from_millis(10);

/// Where locks are taken.
#[derive(Debug)]
pub(super) struct Locks {
    file: PathBuf,
    /// Nothing where what lies beside the file is not seen by others.
    claims: Option<Claims>,
}

/// A lock that is held. Its drop lets it go.
#[derive(Debug)]
pub(super) struct Held {
    claim: Option<Claim>,
    file: File,
    byte: libc::off_t,
}

/// What is locked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Subject<'a> {
    /// The file, while it is written.
    Writers,
    /// A name.
    Name(&'a str),
}

impl Locks {
    /// Locks on bytes of `file`; with claims beside it, if others see what lies there.
    pub(super) fn new(file: PathBuf, has_claims: bool) -> Self {
        let claims = has_claims.then(|| Claims::beside(&file));
        if let Some(claims) = &claims {
            claims.sweep();
        }
        Self { file, claims }
    }

    /// The file that carries the locks.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// Takes a lock if nobody holds it. Those of a machine that died, or that can't be
    /// asked, count for `patience` from when they were first seen here.
    pub(super) fn try_lock(
        &self,
        subject: Subject<'_>,
        patience: Duration,
        now: Instant,
    ) -> io::Result<Option<Held>> {
        let file = open_lock_file(&self.file)?;
        let byte = subject.byte();
        let is_ours = match lock_byte(&file, byte, libc::F_WRLCK) {
            Ok(()) => true,
            Err(Errno::EAGAIN | Errno::EACCES) => return Ok(None),
            Err(error) if is_unsupported(error) && self.claims.is_some() => false,
            Err(error) => return Err(explained(error)),
        };
        if !is_same_file(&file, &self.file) {
            // Somebody removed the lock file meanwhile; the next try makes a new one.
            return Ok(None);
        }
        let mut held = Held {
            claim: None,
            file,
            byte,
        };
        if let Some(claims) = &self.claims {
            held.claim = claims.take(&subject.label(), is_ours, patience, now)?;
            if held.claim.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(held))
    }

    /// Takes the writers' lock, waiting for at most `longest`.
    pub(super) fn lock_writers(&self, patience: Duration, longest: Duration) -> io::Result<Held> {
        let start = Instant::now();
        loop {
            if let Some(held) = self.try_lock(Subject::Writers, patience, Instant::now())? {
                return Ok(held);
            }
            if start.elapsed() >= longest {
                let message = format!("somebody else has been writing it for {longest:?}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            // At random: those who wait would come in step with one who writes all the time.
            std::thread::sleep(AGAIN.mul_f64(fastrand::f64()));
        }
    }
}

impl Held {
    /// Shows that its holder lives. Whether the lock is still there.
    pub(super) fn beat(&mut self, path: &Path) -> io::Result<bool> {
        if !is_same_file(&self.file, path) {
            return Ok(false);
        }
        self.claim.as_mut().map_or(Ok(true), Claim::beat)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // First out: whoever gets the byte finds no claim.
        self.claim = None;
        // Closing the file would do, but for a process that is just being forked: it holds
        // the same open file, and with it the lock, until it becomes another program.
        let _ = lock_byte(&self.file, self.byte, libc::F_UNLCK);
    }
}

impl Subject<'_> {
    fn byte(self) -> libc::off_t {
        match self {
            Self::Writers => WRITERS,
            Self::Name(name) => {
                let place = i32::try_from(hash(name) & 0x3fff_ffff);
                FIRST + libc::off_t::from(place.unwrap_or_default())
            }
        }
    }

    fn label(self) -> String {
        match self {
            Self::Writers => "write".to_owned(),
            Self::Name(name) => format!("{:08x}", hash(name)),
        }
    }
}

/// Two names with one hash share a lock, which costs a wait.
fn hash(name: &str) -> u32 {
    let mut hasher = fnv::FnvHasher::default();
    hasher.write(name.as_bytes());
    let hash = hasher.finish();
    u32::try_from((hash >> 32) ^ (hash & 0xffff_ffff)).unwrap_or_default()
}

/// A shared lock on the writers' byte, if one comes in time: nobody writes in place
/// while it is held.
pub(super) fn lock_out_writers(file: &File, longest: Duration) -> bool {
    let start = Instant::now();
    loop {
        match lock_byte(file, WRITERS, libc::F_RDLCK) {
            Ok(()) => return true,
            Err(Errno::EAGAIN | Errno::EACCES) if start.elapsed() < longest => {
                std::thread::sleep(AGAIN);
            }
            Err(_) => return false,
        }
    }
}

fn open_lock_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    options.open(path)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "kinds of locks and SEEK_SET are small constants"
)]
fn lock_byte(file: &File, byte: libc::off_t, kind: libc::c_int) -> Result<(), Errno> {
    let lock = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: byte,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_SETLK(&lock)).map(drop)
}

fn is_unsupported(error: Errno) -> bool {
    matches!(
        error,
        Errno::ENOLCK | Errno::ENOSYS | Errno::EINVAL | Errno::EOPNOTSUPP
    )
}

fn explained(error: Errno) -> io::Error {
    if is_unsupported(error) {
        return io::Error::other(format!(
            "its mount has no locks ({error}): mount the directory that it lies in, not the file"
        ));
    }
    error.into()
}

/// Whether the path still leads to the open file.
fn is_same_file(file: &File, path: &Path) -> bool {
    let (Ok(open), Ok(there)) = (file.metadata(), path.metadata()) else {
        return false;
    };
    (open.dev(), open.ino()) == (there.dev(), there.ino())
}

#[cfg(test)]
mod tests;
