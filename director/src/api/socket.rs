//! The unix socket: one director each, for nobody but its user.
//!
//! A lock beside the socket tells a running director from one that died: the
//! kernel releases it with the process. The socket is made under another name,
//! closed to others, and moved to its place, so that it is never there with the
//! wrong mode and never missing while an old one is replaced.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use super::ApiError;

/// A socket of our own; gone when dropped.
#[derive(Debug)]
pub(super) struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode: what lies there later may be another's.
    identity: (u64, u64),
    _lock: File,
}

impl Socket {
    /// Makes it, and the directory it lies in.
    pub(super) fn bind(path: &Path) -> Result<Self, ApiError> {
        let failed = |source| ApiError::Socket {
            path: path.to_owned(),
            source,
        };
        if let Some(directory) = path.parent().filter(|it| !it.as_os_str().is_empty()) {
            let mut builder = DirBuilder::new();
            let made = builder.recursive(true).mode(0o755).create(directory);
            made.map_err(failed)?;
        }
        let lock = lock(path, failed)?;
        clear(path, failed)?;
        let fresh = beside(path, ".new");
        remove(&fresh).map_err(failed)?;
        let listener = UnixListener::bind(&fresh).map_err(failed)?;
        fs::set_permissions(&fresh, Permissions::from_mode(0o600)).map_err(failed)?;
        fs::rename(&fresh, path).map_err(failed)?;
        let metadata = fs::symlink_metadata(path).map_err(failed)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            identity: (metadata.dev(), metadata.ino()),
            _lock: lock,
        })
    }

    /// Where connections come from.
    pub(super) fn listener(&self) -> &UnixListener {
        &self.listener
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let present = fs::symlink_metadata(&self.path);
        let is_ours = present.is_ok_and(|it| (it.dev(), it.ino()) == self.identity);
        if is_ours && let Err(reason) = fs::remove_file(&self.path) {
            let path = self.path.display();
            tracing::debug!(%path, error = %reason, "The API's socket can't be removed");
        }
    }
}

/// Nobody else has it, and nobody gets it while we run.
fn lock(path: &Path, failed: impl Fn(io::Error) -> ApiError) -> Result<File, ApiError> {
    let mut options = OpenOptions::new();
    let options = options.create(true).truncate(false).write(true).mode(0o600);
    let file = options.open(beside(path, ".lock")).map_err(&failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ApiError::SocketInUse(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// What lies there may be replaced: nothing, or a socket that nobody serves.
fn clear(path: &Path, failed: impl Fn(io::Error) -> ApiError) -> Result<(), ApiError> {
    match fs::symlink_metadata(path) {
        Err(reason) if reason.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(reason) => return Err(failed(reason)),
        Ok(present) if !present.file_type().is_socket() => {
            return Err(ApiError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(ApiError::SocketInUse(path.to_owned())),
        Err(_) => Ok(()),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(reason) if reason.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}
