//! One file that documents are read from, whoever writes it and however.
//!
//! A file is read again when it looks different from outside, and for a while after it
//! changed, since times are coarse. It is opened for each look: that is when NFS asks
//! its server. What can't be read is looked at again until it is quiet, so that
//! nobody's half-written file counts.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use sha2::{Digest, Sha256};

use super::super::json::{Document, FormatError};
use super::journal::{self, Text};
use super::lock::lock_out_writers;

/// How long something must stay as it is before it counts as damaged or gone.
const CALM: Duration = Duration::from_millis(500);

/// How long a file may go on changing without ever being readable.
const LONGEST: Duration = Duration::from_secs(5);

/// Between two looks at a file that can't be read.
const AGAIN: Duration = Duration::from_millis(25);

/// File times are no finer than this everywhere.
const COARSE: Duration = Duration::from_millis(2500);

/// How long a reader waits for one who writes in place.
const PATIENCE: Duration = Duration::from_secs(2);

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It says what `document` says.
    Good,
    /// It does not exist, or is empty.
    Nothing,
    /// It can't be read; `document` is what was read before, or else of it.
    Damaged(FormatError),
}

/// A file and what was read of it.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    /// Whether others may be writing it in place, under the lock.
    pub(super) is_locked_to_read: bool,
    /// Whether somebody died writing it in place.
    pub(super) is_unfinished: bool,
    /// The last that could be read.
    pub(super) document: Document,
    pub(super) state: State,
    hash: Option<[u8; 32]>,
    stamp: Option<Stamp>,
}

/// What a file looks like from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// One reading.
struct Reading {
    text: Vec<u8>,
    hash: [u8; 32],
    stamp: Option<Stamp>,
    is_unfinished: bool,
}

impl Source {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            is_locked_to_read: false,
            is_unfinished: false,
            document: Document::default(),
            state: State::Nothing,
            hash: None,
            stamp: None,
        }
    }

    /// Looks at the file. Whether it is different from what was known.
    pub(super) fn look(&mut self) -> io::Result<bool> {
        self.look_as(self.is_locked_to_read)
    }

    /// Reads it whatever it looks like, for one who holds the writers' lock.
    pub(super) fn look_closely(&mut self) -> io::Result<bool> {
        self.stamp = None;
        self.look_as(false)
    }

    fn look_as(&mut self, lock: bool) -> io::Result<bool> {
        let start = Instant::now();
        let mut quiet: Option<([u8; 32], Instant)> = None;
        loop {
            let Some(reading) = self.read(lock)? else {
                return Ok(false);
            };
            self.is_unfinished = reading.is_unfinished;
            if self.hash == Some(reading.hash) {
                self.stamp = reading.stamp;
                return Ok(false);
            }
            let parsed = Document::parse(&reading.text);
            let is_nothing = reading.text.trim_ascii().is_empty();
            let is_doubtful = parsed.is_err() || is_nothing && !self.document.is_empty();
            let now = Instant::now();
            let since = match quiet {
                Some((hash, since)) if hash == reading.hash => since,
                _ => now,
            };
            quiet = Some((reading.hash, since));
            if !is_doubtful || now.duration_since(since) >= CALM {
                self.take(reading, parsed, is_nothing);
                return Ok(true);
            }
            if start.elapsed() >= LONGEST {
                return Err(io::Error::other("it changes all the time"));
            }
            std::thread::sleep(AGAIN);
        }
    }

    /// It was just written, by us.
    pub(super) fn was_written(&mut self, document: Document, text: &[u8]) {
        self.document = document;
        self.state = State::Good;
        self.hash = Some(Sha256::digest(text).into());
        self.stamp = None;
    }

    /// Identifies what was read last.
    pub(super) fn hash(&self) -> Option<[u8; 32]> {
        self.hash
    }

    fn take(
        &mut self,
        reading: Reading,
        parsed: Result<Document, (FormatError, Document)>,
        is_nothing: bool,
    ) {
        self.hash = Some(reading.hash);
        self.stamp = reading.stamp;
        match parsed {
            // What was there once is still good: a file is emptied by accidents.
            Ok(_) if is_nothing => self.state = State::Nothing,
            Ok(document) => {
                self.document = document;
                self.state = State::Good;
            }
            Err((error, salvaged)) => {
                if self.document.is_empty() {
                    self.document = salvaged;
                }
                self.state = State::Damaged(error);
            }
        }
    }

    /// Nothing if it looks as it did.
    fn read(&self, lock: bool) -> io::Result<Option<Reading>> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Some(Reading::new(Text::default(), None)));
            }
            Err(error) => return Err(error),
        };
        let before = self.look_at(&file)?;
        if self.stamp.as_ref() == Some(&before) {
            return Ok(None);
        }
        if lock {
            // Falls with the file. Without it the hash decides.
            lock_out_writers(&file, PATIENCE);
        }
        let text = match journal::read(&mut file) {
            Ok(text) => text,
            // Replaced while it was read, on NFS.
            Err(error) if error.raw_os_error() == Some(nix::libc::ESTALE) => {
                return self.read(lock);
            }
            Err(error) => return Err(error),
        };
        let after = Stamp::of(&file.metadata()?);
        let is_settled = before == after && after.is_old(SystemTime::now());
        Ok(Some(Reading::new(text, is_settled.then_some(after))))
    }

    fn look_at(&self, file: &File) -> io::Result<Stamp> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        if metadata.nlink() == 0 && self.is_locked_to_read {
            return Err(io::Error::other(
                "it was replaced by somebody who mounts its directory, and is out of sight here: \
                 mount the directory here too",
            ));
        }
        Ok(Stamp::of(&metadata))
    }
}

impl Reading {
    fn new(text: Text, stamp: Option<Stamp>) -> Self {
        Self {
            hash: Sha256::digest(&text.bytes).into(),
            text: text.bytes,
            stamp,
            is_unfinished: text.is_unfinished,
        }
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether a change from now on leaves another time behind. A server's clock that
    /// runs ahead makes it read more often, nothing else.
    fn is_old(&self, now: SystemTime) -> bool {
        let seconds = u64::try_from(self.modified.0).unwrap_or_default();
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        now.duration_since(modified).is_ok_and(|age| age > COARSE)
    }
}
