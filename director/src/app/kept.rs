//! What a director that starts itself again keeps in mind: the nodes that the
//! operator drains, and the services that were registered.
//!
//! A file beside the socket carries it, and a variable of the environment names
//! that file: only the process that was started in this way reads it, and it is
//! gone then.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;
use tracing::warn;

use crate::registry::Registry;
use crate::view::ControlState;

/// Names the file.
pub(super) const VARIABLE: &str = "TIDEGATE_KEPT";

/// A larger file is not ours; in bytes.
const LARGEST: u64 = 64 << 20;

/// What is kept over a start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// The nodes that the operator drains.
    pub drained: BTreeSet<IpAddr>,
    /// What is registered, in the state file's form.
    pub registered: Option<Value>,
}

impl Kept {
    /// What was left in the file that the environment names; nothing without one.
    pub fn take() -> Self {
        let Some(path) = std::env::var_os(VARIABLE).map(PathBuf::from) else {
            return Self::default();
        };
        Self::take_from(&path).unwrap_or_else(|error| {
            let file = path.display();
            warn!(%file, %error, "What was drained and registered before is not known any more");
            Self::default()
        })
    }

    fn take_from(path: &Path) -> io::Result<Self> {
        let mut text = String::new();
        let file = fs::File::open(path)?;
        file.take(LARGEST).read_to_string(&mut text)?;
        fs::remove_file(path)?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Leaves it for the next start, and says where.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn leave(&self, socket: &Path) -> io::Result<PathBuf> {
        let mut path = socket.as_os_str().to_owned();
        path.push(".kept");
        let path = PathBuf::from(path);
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        Ok(path)
    }
}

/// Where those who start the director again find what it has to keep.
#[derive(Clone, Debug, Default)]
pub struct Keeping {
    before: Kept,
    parts: Arc<OnceLock<(Registry, watch::Receiver<Arc<ControlState>>)>>,
}

impl Keeping {
    /// As long as no part runs, what was kept before is kept.
    pub fn new(before: Kept) -> Self {
        Self {
            before,
            parts: Arc::default(),
        }
    }

    pub(super) fn before(&self) -> &Kept {
        &self.before
    }

    /// From now on these parts know better.
    pub(super) fn follow(&self, registry: Registry, control: watch::Receiver<Arc<ControlState>>) {
        // A director runs once in a process.
        let _ = self.parts.set((registry, control));
    }

    /// What is to be kept now.
    pub fn now(&self) -> Kept {
        let Some((registry, control)) = self.parts.get() else {
            return self.before.clone();
        };
        Kept {
            drained: control.borrow().drained.clone(),
            registered: Some(registry.form()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_taken_once() {
        let socket = std::env::temp_dir().join(format!("tidegate-kept-{}", std::process::id()));
        let kept = Kept {
            drained: ["192.0.2.11".parse().unwrap(), "fd00::1".parse().unwrap()].into(),
            registered: Some(serde_json::json!({"version": 1, "services": {}})),
        };
        // What an attempt before has left is no obstacle.
        Kept::default().leave(&socket).unwrap();
        let path = kept.leave(&socket).unwrap();
        assert_eq!(Kept::take_from(&path).unwrap(), kept);
        assert!(Kept::take_from(&path).is_err());
    }
}
