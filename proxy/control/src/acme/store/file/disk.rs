//! The file and what lies beside it: how it is made, read and written. All of it blocks.
//!
//! A file is replaced as a whole where its directory allows that. Where it can't be (it
//! is mounted by itself, or its directory can't be written), it is written in
//! place by way of a journal, and carries the locks and the challenges itself,
//! because what would lie beside it is seen by nobody else.

mod aside;
mod replace;
mod way;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tracing::{info, warn};

use super::super::json::{Document, FormatError};
use super::super::{Change, Contents, StoreError, StoredCertificate};
use super::claim::beside;
use super::journal;
use super::lock::Locks;
use super::source::{Source, State};
use crate::tls::provider;
use way::Way;

/// How long a change waits for others who write.
const WAIT: Duration = Duration::from_secs(20);

/// How long somebody's claim to write counts who can't be asked.
const WRITERS_PATIENCE: Duration = Duration::from_secs(8);

/// The file as it is known here.
#[derive(Debug)]
pub(super) struct Disk {
    place: String,
    main: Source,
    /// Challenges and failures, where others see what lies beside the file.
    side: Source,
    way: Option<Way>,
    contents: Option<Arc<Contents>>,
    /// What could be read of the file but means nothing.
    problems: Vec<String>,
    /// Whether others on the machine may read the keys, and it can't be helped.
    is_open_to_others: bool,
    aside: aside::Aside,
    /// Why it could not be read when it was looked at last.
    not_read: Option<String>,
    /// Why the last change could not be made.
    not_changed: Option<String>,
    read_at: Option<Instant>,
    /// Whether it turned out just now that it can't be replaced.
    was_surprised: bool,
}

impl Disk {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            place: path.display().to_string(),
            main: Source::new(path.to_owned()),
            side: Source::new(beside(path, "challenges")),
            way: None,
            contents: None,
            problems: Vec::new(),
            is_open_to_others: false,
            aside: aside::Aside::default(),
            not_read: None,
            not_changed: None,
            read_at: None,
            was_surprised: false,
        }
    }

    /// What was read last.
    pub(super) fn contents(&self) -> Option<Arc<Contents>> {
        self.contents.clone()
    }

    /// When it was last read or seen to be unchanged.
    pub(super) fn read_at(&self) -> Option<Instant> {
        self.read_at
    }

    /// What is wrong with it now.
    pub(super) fn trouble(&self) -> Option<String> {
        self.not_read.clone().or_else(|| self.not_changed.clone())
    }

    /// Looks whether others changed something.
    pub(super) fn look(&mut self) -> Result<(), StoreError> {
        let at = Instant::now();
        let outcome = self.look_now();
        if outcome.is_ok() && self.not_read.is_some() {
            self.not_changed = None;
        }
        self.not_read = outcome.as_ref().err().map(ToString::to_string);
        if outcome.is_ok() {
            self.read_at = Some(at);
        }
        outcome
    }

    /// Makes changes on top of what is there now.
    pub(super) fn apply(
        &mut self,
        resolver: &str,
        changes: Vec<Change>,
        now: SystemTime,
    ) -> Result<(), StoreError> {
        let mut outcome = self.apply_now(resolver, changes.clone(), now);
        if outcome.is_err() && std::mem::take(&mut self.was_surprised) {
            outcome = self.apply_now(resolver, changes, now);
        }
        match &outcome {
            Ok(()) => (self.not_read, self.not_changed) = (None, None),
            // The next look says it as well, and sees when it is over.
            Err(StoreError::Damaged { .. }) => {}
            Err(_) if self.not_read.is_some() => {}
            Err(error) => self.not_changed = Some(error.to_string()),
        }
        outcome
    }

    fn look_now(&mut self) -> Result<(), StoreError> {
        let first = self.contents.is_none();
        if first {
            self.make()?;
        }
        let way = self.way();
        let mut is_new = self.main.look().map_err(|error| self.unusable(&error))?;
        if let Ok(way) = &way {
            self.mend(way);
        }
        // Whatever is wrong with the challenges, the certificates are served.
        is_new |= self.side.look().unwrap_or_default();
        if is_new || first {
            self.read();
        }
        match &self.main.state {
            State::Damaged(_) => return Err(self.damaged()),
            State::Nothing if self.is_gone() => return Err(self.gone()),
            State::Nothing | State::Good => {}
        }
        self.close_to_others();
        match way {
            // Nothing to complain about until somebody wants to write.
            Ok(_) | Err(StoreError::ReadOnly { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn apply_now(
        &mut self,
        resolver: &str,
        changes: Vec<Change>,
        now: SystemTime,
    ) -> Result<(), StoreError> {
        self.make()?;
        let way = self.way()?;
        self.close_to_others();
        self.refuse_if_open()?;
        let is_brief = |change: &Change| match change {
            Change::SetAccount(_) | Change::PutCertificate(_) | Change::RemoveCertificate(_) => {
                false
            }
            Change::PutChallenge(_)
            | Change::RemoveChallenge(_)
            | Change::PutFailure(_)
            | Change::RemoveFailure(_) => true,
        };
        let (brief, lasting) = changes
            .into_iter()
            .partition::<Vec<_>, _>(|change| !way.is_in_place && is_brief(change));
        let held = way.locks.lock_writers(WRITERS_PATIENCE, WAIT);
        let mut held = held.map_err(|error| self.unusable(&error))?;
        let mut is_ours = || held.beat(way.locks.file()).unwrap_or_default();
        let outcome = self
            .change_main(&way, &mut is_ours, resolver, lasting, now)
            .and_then(|()| self.change_side(resolver, brief, now));
        drop(held);
        self.read();
        outcome
    }

    /// Where locks are taken. Refused while nothing could be written: whoever asks for
    /// a lock is about to get something that has to be kept.
    pub(super) fn locks(&mut self) -> Result<Arc<Locks>, StoreError> {
        let looked = self.look();
        let locks = self.way()?.locks;
        if !self.is_gone() {
            looked?;
        }
        self.refuse_if_open()?;
        Ok(locks)
    }

    fn refuse_if_open(&self) -> Result<(), StoreError> {
        if self.is_open_to_others {
            return Err(self.unusable(
                &"others may read it, and its mode can't be changed: no key is written there \
                  before it is 600",
            ));
        }
        Ok(())
    }

    /// Whether there was something in it that is not there any more.
    fn is_gone(&self) -> bool {
        self.main.state == State::Nothing && !self.main.document.is_empty()
    }

    /// Others, Traefik above all, don't know what to do with a file that is half
    /// overwritten. If it can't be mended now, the next look tries again.
    fn mend(&self, way: &Way) {
        if !(self.main.is_unfinished && way.is_in_place) {
            return;
        }
        let Ok(_held) = way.locks.lock_writers(WRITERS_PATIENCE, Duration::ZERO) else {
            return;
        };
        let file = File::options().read(true).write(true).open(&self.main.path);
        match file.and_then(|mut file| journal::mend(&mut file)) {
            Ok(()) => {
                info!(file = %self.place, "The certificates' file was put in order: somebody died writing it");
            }
            Err(error) => {
                warn!(file = %self.place, %error, "The certificates' file can't be put in order");
            }
        }
    }

    fn change_main(
        &mut self,
        way: &Way,
        is_ours: &mut dyn FnMut() -> bool,
        resolver: &str,
        changes: Vec<Change>,
        now: SystemTime,
    ) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let looked = self.main.look_closely();
        looked.map_err(|error| self.unusable(&error))?;
        if matches!(self.main.state, State::Damaged(_)) {
            return Err(self.damaged());
        }
        if self.is_gone() {
            warn!(file = %self.place, "The certificates' file was emptied and is restored as it was known");
        }
        let taken = unusable_places(&self.main, resolver, &changes);
        let document = changed(&self.main, resolver, changes, now);
        let kept = document.meaning().problems;
        let mut unread = self.main.document.meaning().problems.into_iter();
        if taken || unread.any(|problem| !kept.contains(&problem)) {
            self.keep_aside();
        }
        if self.main.state == State::Good && document == self.main.document {
            return Ok(());
        }
        let text = document.to_text();
        if !is_ours() {
            return Err(self.unusable(&"it took so long that somebody else writes it now"));
        }
        let written = write(&self.main.path, &text, way.is_in_place);
        if let Err(error) = written {
            return Err(self.not_written(&error));
        }
        self.main.was_written(document, &text);
        Ok(())
    }

    /// Challenges, in a file of their own: they come and go, and Traefik, which may read
    /// the other one, need not see them.
    fn change_side(
        &mut self,
        resolver: &str,
        changes: Vec<Change>,
        now: SystemTime,
    ) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        // One that is damaged is not worth mending.
        let _ = self.side.look_closely();
        let document = changed(&self.side, resolver, changes, now);
        let text = document.to_text();
        let written = replace::replace(&self.side.path, &text, &self.main.path, false);
        written.map_err(|error| self.unusable(&error))?;
        self.side.was_written(document, &text);
        Ok(())
    }

    /// Makes sure that there is a file, as Traefik does.
    fn make(&mut self) -> Result<(), StoreError> {
        if self.contents.is_some() {
            return Ok(());
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        match options.open(&self.main.path) {
            Ok(_) => info!(file = %self.place, "A file for certificates was made"),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            // A link that leads nowhere yet ends here too.
            Err(_) if self.main.path.exists() => {}
            Err(error) => return Err(self.unusable(&error)),
        }
        if self.main.path.is_dir() {
            return Err(self.unusable(&"it is a directory and no file"));
        }
        // Whoever replaces a link would part it from its file.
        if let Ok(path) = self.main.path.canonicalize() {
            self.side.path = beside(&path, "challenges");
            self.main.path = path;
        }
        Ok(())
    }

    /// Works out what the documents mean.
    fn read(&mut self) {
        let mut meaning = self.main.document.meaning();
        for (name, resolver) in self.side.document.meaning().contents.resolvers {
            let part = meaning.contents.resolvers.entry(name).or_default();
            part.challenges.extend(resolver.challenges);
            part.failures.extend(resolver.failures);
        }
        if meaning.problems != self.problems {
            for problem in &meaning.problems {
                warn!(file = %self.place, problem, "A part of the certificates' file can't be used");
            }
            self.problems = meaning.problems;
        }
        if self.contents.as_deref() != Some(&meaning.contents) {
            self.contents = Some(Arc::new(meaning.contents));
        }
    }

    /// Keys are nobody else's business. Traefik refuses such a file; the mode is what is
    /// wrong with it, so it is mended.
    fn close_to_others(&mut self) {
        let mode = |path: &Path| fs::metadata(path).map(|file| file.permissions().mode() & 0o777);
        let Ok(before) = mode(&self.main.path) else {
            return;
        };
        if before & 0o077 == 0 {
            self.is_open_to_others = false;
            return;
        }
        let _ = fs::set_permissions(&self.main.path, fs::Permissions::from_mode(0o600));
        let is_open = mode(&self.main.path).is_ok_and(|after| after & 0o077 != 0);
        let mode = format!("{before:o}");
        if !is_open {
            warn!(file = %self.place, mode, "Others could read the certificates' file; its mode is 600 now");
        } else if !self.is_open_to_others {
            warn!(file = %self.place, mode, "Others can read the certificates' file, and its mode can't be changed");
        }
        self.is_open_to_others = is_open;
    }

    fn damaged(&mut self) -> StoreError {
        let error = match self.main.state.clone() {
            State::Damaged(error) => error,
            State::Good | State::Nothing => return self.unusable(&"it was damaged"),
        };
        let kept = match error {
            FormatError::Version1 => None,
            FormatError::Broken { .. } => self.keep_aside(),
        };
        let kept = kept.map_or_else(String::new, |kept| format!(" (a copy is {kept})"));
        StoreError::Damaged {
            place: self.place.clone(),
            message: format!("{error}; nothing is ordered or written until it is mended{kept}"),
        }
    }

    fn gone(&self) -> StoreError {
        self.unusable(
            &"it was emptied or removed; what was in it is still served and is restored with the \
              next change (to begin anew, write {} into it)",
        )
    }

    fn keep_aside(&mut self) -> Option<String> {
        self.aside.keep(&self.main, &self.place)
    }

    fn unusable(&self, message: &dyn std::fmt::Display) -> StoreError {
        StoreError::Unusable {
            place: self.place.clone(),
            message: message.to_string(),
        }
    }

    fn not_written(&mut self, error: &io::Error) -> StoreError {
        match error.kind() {
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                StoreError::ReadOnly {
                    place: self.place.clone(),
                }
            }
            io::ErrorKind::ResourceBusy => {
                // A mount that did not look like one.
                self.was_surprised = true;
                self.say_in_place("it is mounted by itself");
                self.go(true);
                self.unusable(error)
            }
            _ => self.unusable(error),
        }
    }
}

/// Whether a change takes the place of a certificate that can't be served.
fn unusable_places(source: &Source, resolver: &str, changes: &[Change]) -> bool {
    let contents = source.document.meaning().contents;
    let known = contents.resolvers.get(resolver);
    let known = known.map_or(&[][..], |known| &known.certificates);
    let is_taken = |one: &&StoredCertificate| {
        changes
            .iter()
            .any(|change| matches!(change, Change::PutCertificate(new) if new.domain == one.domain))
    };
    let mut taken = known.iter().filter(is_taken);
    taken.any(|one| one.load(&provider()).is_err())
}

fn changed(source: &Source, resolver: &str, changes: Vec<Change>, now: SystemTime) -> Document {
    let mut document = source.document.clone();
    for change in changes {
        document.apply(resolver, change, now);
    }
    document
}

fn write(path: &Path, text: &[u8], is_in_place: bool) -> io::Result<()> {
    if !is_in_place {
        return replace::replace(path, text, path, true);
    }
    let mut file = File::options().read(true).write(true).open(path)?;
    journal::write(&mut file, text, &mut |_| ())
}
