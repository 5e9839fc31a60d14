//! What a member knows, on disk, sealed: one that starts alone has it.
//!
//! The file is a copy of what others said; losing it loses nothing but the time until
//! they are heard again. One that can't be opened is named and put aside: perhaps the
//! secret is the wrong one, not the file. Written beside and renamed, readable by its
//! owner only, at most every few seconds and only after a change. Each member has a file
//! of its own; two that are given the same one never see half of it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use ring::digest::{SHA256, digest};
use thiserror::Error;
use tokio::time::Instant;

use super::fields::{Reader, Writer};
use super::ledger::Kept;
use super::wire::Malformed;
use crate::acme::store::{SealError, Sealer};
use crate::cluster::seal::LARGEST;

/// What the file is, for the seal.
const CONTEXT: &str = "mesh state";

/// The form's version.
const VERSION: u8 = 1;

/// What the file holds.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Contents {
    /// The name of the member that wrote it.
    pub(super) name: String,
    /// The highest version of its words.
    pub(super) floor: u64,
    /// What it knew of others.
    pub(super) others: Vec<Kept>,
}

/// The file can't be used.
#[derive(Debug, Error)]
pub(super) enum StateError {
    /// Reading or writing.
    #[error("the file can't be read or written")]
    Io(#[from] io::Error),
    /// Sealed with another secret, changed, or never ours.
    #[error("the seal can't be made or opened")]
    Seal(#[from] SealError),
    /// Not in the form that is known.
    #[error("its contents are not understood")]
    Contents(#[from] Malformed),
}

/// The file, and what seals it.
#[derive(Clone, Debug)]
pub(super) struct StateFile {
    path: PathBuf,
    seal: Arc<dyn Sealer>,
}

impl StateFile {
    pub(super) fn new(path: PathBuf, seal: Arc<dyn Sealer>) -> Self {
        Self { path, seal }
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What it holds; nothing if it is not there. Blocks.
    pub(super) fn read(&self) -> Result<Option<Contents>, StateError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut sealed = Vec::new();
        let limit = LARGEST as u64 * 2;
        io::Read::read_to_end(&mut io::Read::take(file, limit), &mut sealed)?;
        let plain = self.seal.open(CONTEXT, &sealed)?.plain;
        let now = Now::read();
        Ok(Some(Contents::parse(plain.into(), now)?))
    }

    /// Renames what can't be opened, after the time when it was written; its new path.
    pub(super) fn put_aside(&self) -> Result<PathBuf, StateError> {
        let written = jiff::Timestamp::try_from(std::fs::metadata(&self.path)?.modified()?)
            .map_err(io::Error::other)?;
        let ending = format!("damaged-{}", written.strftime("%Y%m%dT%H%M%SZ"));
        let aside = self.beside(&ending);
        std::fs::rename(&self.path, &aside)?;
        Ok(aside)
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut beside = self.path.clone().into_os_string();
        beside.push(".");
        beside.push(ending);
        beside.into()
    }

    /// Replaces it. Blocks.
    pub(super) fn write(&self, contents: &Contents) -> Result<(), StateError> {
        let plain = contents.encode(Now::read());
        let sealed = self.seal.seal(CONTEXT, &plain)?;
        let beside = self.beside(&format!("{}.new", tag(&contents.name)));
        match std::fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let mut options = OpenOptions::new();
        let options = options.write(true).create_new(true).mode(0o600);
        let mut file = options.open(&beside)?;
        file.write_all(&sealed)?;
        file.sync_all()?;
        std::fs::rename(&beside, &self.path)?;
        if let Some(directory) = self.path.parent().filter(|path| *path != Path::new("")) {
            File::open(directory)?.sync_all()?;
        }
        Ok(())
    }
}

/// What tells a member's new file from another one's, whatever its name is made of.
fn tag(name: &str) -> String {
    let digest = digest(&SHA256, name.as_bytes());
    let start = digest.as_ref().iter().take(8);
    start.map(|byte| format!("{byte:02x}")).collect()
}

/// The time by both clocks: the file has to outlive the one that can be trusted.
#[derive(Clone, Copy, Debug)]
struct Now {
    wall: Duration,
    steady: Instant,
}

impl Now {
    fn read() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            wall: wall.unwrap_or_default(),
            steady: Instant::now(),
        }
    }

    fn to_wall(self, at: Instant) -> u64 {
        let age = self.steady.saturating_duration_since(at);
        let millis = self.wall.saturating_sub(age).as_millis();
        u64::try_from(millis).unwrap_or(u64::MAX)
    }

    /// A clock that went backwards makes nothing younger than its age when written,
    /// which the caller adds.
    fn to_steady(self, at: u64) -> Instant {
        let age = self.wall.saturating_sub(Duration::from_millis(at));
        self.steady.checked_sub(age).unwrap_or(self.steady)
    }
}

impl Contents {
    fn encode(&self, now: Now) -> Bytes {
        let mut out = Writer::new();
        out.byte(VERSION).name(&self.name).number(self.floor);
        out.number(now.to_wall(now.steady)).count(self.others.len());
        for kept in &self.others {
            out.name(&kept.name)
                .number(kept.life)
                .byte(u8::from(kept.has_left));
            out.number(now.to_wall(kept.at)).count(kept.words.len());
            for (topic, version, at, body) in &kept.words {
                out.name(topic).number(*version);
                out.number(now.to_wall(*at)).bytes(body);
            }
        }
        out.finish(0)
    }

    fn parse(plain: Bytes, now: Now) -> Result<Self, Malformed> {
        let mut input = Reader(plain);
        let _length = (input.byte()?, input.byte()?, input.byte()?, input.byte()?);
        match input.byte()? {
            VERSION => {}
            other => return Err(Malformed::Version(other)),
        }
        let name = input.name()?.to_string();
        let floor = input.version()?;
        let written = Duration::from_millis(input.number()?);
        // Ages count from the later of both clocks' ideas of now.
        let now = Now {
            wall: now.wall.max(written),
            ..now
        };
        let others = input.list(|input| {
            Ok(Kept {
                name: input.name()?,
                life: input.version()?,
                has_left: input.byte()? != 0,
                at: now.to_steady(input.number()?),
                words: input.list(|input| {
                    let (topic, version) = (input.name()?, input.version()?);
                    let at = now.to_steady(input.number()?);
                    Ok((topic, version, at, Bytes::copy_from_slice(&input.bytes()?)))
                })?,
            })
        })?;
        Ok(Self {
            name,
            floor,
            others,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::cluster::seal::Seal;
    use crate::cluster::secret::{Secret, Secrets};

    fn contents(now: Instant) -> Contents {
        let words = vec![(
            "t".into(),
            7,
            now - Duration::from_secs(9),
            Bytes::from_static(b"x"),
        )];
        Contents {
            name: "me".to_owned(),
            floor: 5,
            others: vec![Kept {
                name: "a".into(),
                life: 3,
                has_left: true,
                at: now - Duration::from_secs(5),
                words,
            }],
        }
    }

    fn file(name: &str, secret: u8) -> StateFile {
        let path =
            std::env::temp_dir().join(format!("tidegate-mesh-{}-{name}", std::process::id()));
        let seal = Seal::new(&Secrets {
            current: Secret::parse(&[secret; 32]).unwrap(),
            previous: None,
        });
        StateFile::new(path, Arc::new(seal))
    }

    #[tokio::test]
    async fn what_was_written_is_read_and_only_with_the_secret() {
        let file = file("state", 1);
        assert_eq!(file.read().unwrap(), None);
        let written = contents(Instant::now());
        for _ in 0..2 {
            file.write(&written).unwrap();
        }
        let mode = std::fs::metadata(file.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let read = file.read().unwrap().unwrap();
        assert_eq!((read.name.as_str(), read.floor), ("me", 5));
        let age = read.others[0].words[0].2.elapsed();
        assert!(
            age >= Duration::from_secs(9) && age < Duration::from_secs(60),
            "{age:?}"
        );
        let other = self::file("state", 2);
        assert!(matches!(other.read(), Err(StateError::Seal(_))));
        std::fs::write(file.path(), b"noise").unwrap();
        assert!(file.read().is_err());
        let aside = file.put_aside().unwrap();
        assert_eq!(std::fs::read(&aside).unwrap(), b"noise");
        assert_eq!(file.read().unwrap(), None);
        std::fs::remove_file(aside).unwrap();
    }

    #[test]
    fn two_members_do_not_write_into_each_others_new_file() {
        let file = file("shared", 1);
        let writers: Vec<_> = ["a", "b", "a/../c"]
            .into_iter()
            .map(|name| {
                let file = file.clone();
                std::thread::spawn(move || {
                    let contents = Contents {
                        name: name.to_owned(),
                        ..Contents::default()
                    };
                    for _ in 0..50 {
                        file.write(&contents).unwrap();
                        file.read().unwrap().unwrap();
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        std::fs::remove_file(file.path()).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_went_backwards_makes_nothing_young() {
        let steady = Instant::now();
        let at = |wall| Now {
            wall: Duration::from_secs(wall),
            steady,
        };
        let bytes = contents(steady).encode(at(1000));
        for (wall, age) in [(1000, 9), (1100, 109), (10, 9)] {
            let read = Contents::parse(bytes.clone(), at(wall)).unwrap();
            let said = steady - read.others[0].words[0].2;
            assert_eq!(said, Duration::from_secs(age), "{wall}");
        }
        for end in 0..bytes.len() {
            assert!(Contents::parse(bytes.slice(..end), at(0)).is_err(), "{end}");
        }
    }
}
