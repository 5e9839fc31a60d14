//! Claims: a small file for each lock that is held, made in one step or not at all.
//!
//! A claim names the kernel that its holder runs on. Who holds the lock's byte on the
//! same kernel knows that the holder is dead and takes the claim over. A claim of
//! another machine may be alive on a mount that keeps locks to itself: it counts as
//! long as it changes, and its holder changes it every third of its patience.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often a claim is tried for while others come and go.
const TRIES: usize = 4;

/// What is older than this belongs to nobody.
const LEFT: Duration = Duration::from_secs(24 * 60 * 60);

/// Claims of others that are remembered at most.
const MOST_SEEN: usize = 4096;

/// The claims beside one lock file.
#[derive(Debug)]
pub(super) struct Claims {
    /// What their names begin with.
    base: PathBuf,
    /// This kernel since its start.
    kernel: String,
    /// Others' claims: what they said and since when they say it.
    seen: Mutex<HashMap<String, (Vec<u8>, Instant)>>,
}

/// A claim that is held. Its drop takes it away.
#[derive(Debug)]
pub(super) struct Claim {
    path: PathBuf,
    kernel: String,
    token: u128,
    beats: u64,
    /// What the file says.
    text: Vec<u8>,
}

impl Claims {
    pub(super) fn beside(file: &Path) -> Self {
        let kernel = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self::of_kernel(file, kernel.trim())
    }

    pub(super) fn of_kernel(file: &Path, kernel: &str) -> Self {
        Self {
            base: file.to_owned(),
            kernel: kernel.to_owned(),
            seen: Mutex::default(),
        }
    }

    /// Takes away what killed processes left behind. A claim that lives is younger.
    pub(super) fn sweep(&self) {
        let (Some(directory), Some(name)) = (self.base.parent(), self.base.file_name()) else {
            return;
        };
        let Ok(entries) = fs::read_dir(directory) else {
            return;
        };
        let start = [name.as_encoded_bytes(), b"."].concat();
        for entry in entries.flatten() {
            let is_claim = entry.file_name().as_encoded_bytes().starts_with(&start);
            let modified = entry.metadata().and_then(|file| file.modified());
            let age = modified.map(|modified| modified.elapsed().unwrap_or_default());
            if is_claim && age.is_ok_and(|age| age > LEFT) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Makes the claim, or takes it over from a holder that is dead. `has_byte`: nobody
    /// on this kernel holds the lock, because the caller does.
    pub(super) fn take(
        &self,
        label: &str,
        has_byte: bool,
        patience: Duration,
        now: Instant,
    ) -> io::Result<Option<Claim>> {
        let path = self.path(label);
        for _ in 0..TRIES {
            let claim = Claim::new(path.clone(), self.kernel.clone());
            if claim.create()? {
                self.forget(label);
                return Ok(Some(claim));
            }
            let Some(text) = read(&path)? else { continue };
            let is_dead = has_byte && self.is_of_the_dead(&text)
                || self.is_unchanged_for(label, &text, patience, now);
            if !is_dead || !remove(&path, &text)? {
                return Ok(None);
            }
        }
        Ok(None)
    }

    fn is_of_the_dead(&self, text: &[u8]) -> bool {
        !self.kernel.is_empty() && kernel_of(text) == self.kernel.as_bytes()
    }

    fn is_unchanged_for(&self, label: &str, text: &[u8], patience: Duration, now: Instant) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() > MOST_SEEN {
            seen.clear();
        }
        let known = seen.entry(label.to_owned());
        let (known, since) = known.or_insert_with(|| (text.to_vec(), now));
        if known != text {
            (*known, *since) = (text.to_vec(), now);
        }
        now.saturating_duration_since(*since) >= patience
    }

    fn forget(&self, label: &str) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.remove(label);
    }

    fn path(&self, label: &str) -> PathBuf {
        beside(&self.base, label)
    }
}

impl Claim {
    fn new(path: PathBuf, kernel: String) -> Self {
        let mut claim = Self {
            path,
            kernel,
            token: fastrand::u128(..),
            beats: 0,
            text: Vec::new(),
        };
        claim.text = claim.written();
        claim
    }

    /// Creates the file with its text in one step; whether it was not there before.
    fn create(&self) -> io::Result<bool> {
        let draft = beside(&self.path, &format!("{:032x}", self.token));
        write_new(&draft, &self.text)?;
        let linked = fs::hard_link(&draft, &self.path);
        // An answer of NFS may be lost, and the second try then finds the first one.
        let is_linked = fs::metadata(&draft).is_ok_and(|draft| draft.nlink() == 2);
        fs::remove_file(&draft)?;
        match linked {
            _ if is_linked => Ok(true),
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            // No hard links here: two steps, the first of which decides.
            Err(_) => match write_new(&self.path, &self.text) {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
                Err(error) => Err(error),
            },
        }
    }

    /// Shows life. Whether the claim is still ours.
    pub(super) fn beat(&mut self) -> io::Result<bool> {
        if read(&self.path)?.as_ref() != Some(&self.text) {
            return Ok(false);
        }
        self.beats += 1;
        let text = self.written();
        // As long as before, so that nobody finds a part of it.
        let mut file = OpenOptions::new().write(true).open(&self.path)?;
        file.write_all(&text)?;
        self.text = text;
        Ok(true)
    }

    fn written(&self) -> Vec<u8> {
        format!("{}\n{:032x}\n{:020}\n", self.kernel, self.token, self.beats).into_bytes()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Ok(Some(text)) = read(&self.path)
            && text == self.text
        {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Takes a claim of this text away; whether it was there. Moved aside first, so that of
/// several who try one succeeds.
fn remove(path: &Path, text: &[u8]) -> io::Result<bool> {
    if read(path)?.as_deref() != Some(text) {
        return Ok(false);
    }
    let aside = beside(path, &format!("{:032x}", fastrand::u128(..)));
    match fs::rename(path, &aside) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    }
    let is_it = read(&aside)?.as_deref() == Some(text);
    if !is_it {
        // Another took it over in between: theirs goes back, if nobody came third.
        let _ = fs::hard_link(&aside, path);
    }
    fs::remove_file(&aside)?;
    Ok(is_it)
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn write_new(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options.open(path)?.write_all(text)
}

fn kernel_of(text: &[u8]) -> &[u8] {
    text.split(|&byte| byte == b'\n').next().unwrap_or_default()
}

/// A file beside another, named after it.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}
