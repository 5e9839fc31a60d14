//! The cluster's secret, and the keys that follow from it.
//!
//! Owns the reading of the secret's files and the derivation (HKDF-SHA256, RFC 5869)
//! of one key for each purpose, so that what one part does with its key says nothing
//! about another's. Shows no secret in `Debug` and overwrites its own copies when
//! they are dropped; copies that `ring` makes inside of its keys are its own.

use std::fmt;
use std::fs::File;
use std::hint::black_box;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use rustls_pki_types::PrivatePkcs8KeyDer;
use thiserror::Error;

use crate::config::startup::Cluster;

/// The shortest secret: as many bytes as the keys have that are made of it.
pub const SHORTEST: usize = 32;

/// The longest file that can be a secret.
const LONGEST: usize = 64 << 10;

/// Separates our keys from those that others may derive of the same bytes.
const SALT: &[u8] = b"tidegate cluster secret v1";

/// An Ed25519 private key's PKCS#8 form up to the key itself (RFC 8410 §7).
const ED25519_PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// What a key is for. Each has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Sealing values that lie where others can read them.
    Seal,
    /// The authority that the mesh's certificates are signed by.
    MeshAuthority,
    /// The name of the secret: public, says nothing about it.
    Identity,
}

/// The secret can't be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The file can't be read.
    #[error("{setting}: can't read {}", path.display())]
    Unreadable {
        /// Which setting names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Too short to be a secret, or too long to be meant.
    #[error(
        "{setting}: {} holds {length} bytes, a secret has {SHORTEST} at least and {LONGEST} at \
         most; make one with `openssl rand -base64 32 | docker secret create tidegate-cluster -`",
        path.display()
    )]
    Length {
        /// Which setting names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// How many bytes it has.
        length: usize,
    },
    /// The secret before, without one that is after it.
    #[error("cluster.previousSecretFile is of no use without cluster.secretFile")]
    PreviousOnly,
}

/// A key derived from a secret.
pub struct Key([u8; 32]);

/// One secret that the proxies of a cluster share.
pub struct Secret(Box<[u8]>);

/// The secret of today, and the one before while it is being replaced.
#[derive(Debug)]
pub struct Secrets {
    /// What is sealed and shown is made with this one.
    pub current: Secret,
    /// Still accepted.
    pub previous: Option<Secret>,
}

impl Secrets {
    /// Reads the files that the settings name; nothing if they name none.
    ///
    /// # Errors
    /// When a file can't be read or holds no secret.
    pub fn read(settings: &Cluster) -> Result<Option<Self>, SecretError> {
        let current = one("cluster.secretFile", &settings.secret_file)?;
        let previous = one("cluster.previousSecretFile", &settings.previous_secret_file)?;
        match (current, previous) {
            (Some(current), previous) => Ok(Some(Self { current, previous })),
            (None, Some(_)) => Err(SecretError::PreviousOnly),
            (None, None) => Ok(None),
        }
    }

    /// All that are accepted, the current one first.
    pub fn accepted(&self) -> impl Iterator<Item = &Secret> {
        std::iter::once(&self.current).chain(&self.previous)
    }
}

impl Secret {
    /// Reads the file that `setting` names. One newline at its end is not part of the secret.
    ///
    /// # Errors
    /// When it can't be read, is shorter than [`SHORTEST`], or too long to be meant.
    pub fn read(setting: &'static str, path: &Path) -> Result<Self, SecretError> {
        let mut bytes = Vec::new();
        let read =
            File::open(path).and_then(|file| file.take(LONGEST as u64 + 1).read_to_end(&mut bytes));
        let secret = Self::parse(&bytes);
        let length = bytes.len();
        wipe(&mut bytes);
        read.map_err(|source| SecretError::Unreadable {
            setting,
            path: path.to_owned(),
            source,
        })?;
        secret.ok_or_else(|| SecretError::Length {
            setting,
            path: path.to_owned(),
            length,
        })
    }

    /// The secret in these bytes, if they are of a fit length.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let is_fit = (SHORTEST..=LONGEST).contains(&bytes.len());
        is_fit.then(|| Self(bytes.into()))
    }

    /// The key for this purpose: the same on every proxy that has the secret.
    pub fn key(&self, purpose: Purpose) -> Key {
        let info: &[u8] = match purpose {
            Purpose::Seal => b"seal",
            Purpose::MeshAuthority => b"mesh authority",
            Purpose::Identity => b"identity",
        };
        let mut key = Key([0; 32]);
        Salt::new(HKDF_SHA256, SALT)
            .extract(&self.0)
            .expand(&[info], Length32)
            .and_then(|material| material.fill(&mut key.0))
            .expect("HKDF-SHA256 gives up to 8160 bytes");
        key
    }

    /// Eight bytes that tell this secret from others and can be shown to anybody.
    pub fn identity(&self) -> [u8; 8] {
        let key = self.key(Purpose::Identity);
        let mut identity = [0; 8];
        for (to, from) in identity.iter_mut().zip(key.bytes()) {
            *to = *from;
        }
        identity
    }

    /// The mesh's authority: an Ed25519 key, the same on every proxy.
    pub fn authority_key(&self) -> PrivatePkcs8KeyDer<'static> {
        let seed = self.key(Purpose::MeshAuthority);
        [&ED25519_PKCS8[..], seed.bytes()].concat().into()
    }
}

impl Key {
    /// The key itself.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// How much of HKDF's output is wanted.
struct Length32;

impl KeyType for Length32 {
    fn len(&self) -> usize {
        32
    }
}

fn one(setting: &'static str, path: &str) -> Result<Option<Secret>, SecretError> {
    if path.is_empty() {
        return Ok(None);
    }
    Secret::read(setting, Path::new(path)).map(Some)
}

/// Overwrites bytes in a way that the compiler has to take for needed.
fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    black_box(bytes);
}

impl Drop for Key {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    use super::*;

    fn secret(byte: u8) -> Secret {
        Secret::parse(&[byte; SHORTEST]).unwrap()
    }

    #[test]
    fn reads_what_has_the_length_of_a_secret() {
        let long = vec![b'x'; LONGEST];
        let too_long = vec![b'x'; LONGEST + 1];
        for (bytes, kept) in [
            (&b""[..], None),
            (&[b'x'; 31], None),
            (b"0123456789012345678901234567890\n", None),
            (b"01234567890123456789012345678901", Some(32)),
            (b"01234567890123456789012345678901\n", Some(32)),
            (b"01234567890123456789012345678901\r\n", Some(32)),
            (b"01234567890123456789012345678901\n\n", Some(33)),
            (&long, Some(LONGEST)),
            (&too_long, None),
        ] {
            let secret = Secret::parse(bytes);
            assert_eq!(secret.map(|secret| secret.0.len()), kept, "{}", bytes.len());
        }
    }

    #[test]
    fn keys_follow_from_secret_and_purpose() {
        let purposes = [Purpose::Seal, Purpose::MeshAuthority, Purpose::Identity];
        let mut keys = Vec::new();
        for byte in [1, 2] {
            for purpose in purposes {
                let key = *secret(byte).key(purpose).bytes();
                assert_eq!(key, *secret(byte).key(purpose).bytes());
                assert!(!keys.contains(&key), "{byte} {purpose:?}");
                keys.push(key);
            }
        }
        assert_ne!(secret(1).identity(), secret(2).identity());
    }

    #[test]
    fn the_authority_is_a_key_that_ring_takes() {
        let public = |secret: &Secret| {
            let key = secret.authority_key();
            let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.secret_pkcs8_der()).unwrap();
            key.public_key().as_ref().to_vec()
        };
        assert_eq!(public(&secret(1)), public(&secret(1)));
        assert_ne!(public(&secret(1)), public(&secret(2)));
    }

    #[test]
    fn shows_nothing() {
        let secrets = Secrets {
            current: Secret::parse(b"an open secret is no secret at all").unwrap(),
            previous: Some(secret(7)),
        };
        let shown = format!("{secrets:?} {:?}", secrets.current.key(Purpose::Seal));
        assert_eq!(
            shown,
            "Secrets { current: Secret(..), previous: Some(Secret(..)) } Key(..)"
        );
    }

    #[test]
    fn says_how_to_make_one() {
        let settings = |current: &str, previous: &str| Cluster {
            secret_file: current.to_owned(),
            previous_secret_file: previous.to_owned(),
            ..Cluster::default()
        };
        assert!(Secrets::read(&settings("", "")).unwrap().is_none());
        for (settings, part) in [
            (settings("/nowhere/at/all", ""), "/nowhere/at/all"),
            (settings("/dev/null", ""), "openssl rand -base64 32"),
            (settings("/dev/zero", ""), "65537 bytes"),
            (
                settings("", "/proc/self/status"),
                "without cluster.secretFile",
            ),
        ] {
            let error = Secrets::read(&settings).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
